"""Tests of the attention to measured perturbations: was it learned, do predictions rest on it, does it find those truly alike?"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch

from scapp.tl import _checks
from scapp.tl._candidates import networks_of
from scapp.tl._checks import check_row, pairing_null, sign_null

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.model import APP
    from scapp.module import APPModule, MeasuredAttention

BATCH = 256
# The scalars of each half are learned in this many rounds of as many steps of L-BFGS, as in training.
N_ROUNDS, N_STEPS = 12, 5


def measured_checks(
    model: APP, nodes: Sequence[tuple[int, ...]], n_top: int, n_permutations: int, rng: np.random.Generator
) -> list[dict]:
    """Test the attention of some perturbations, each hidden from itself; see :func:`scapp.tl.attention_checks`."""
    from scapp.module import APPModule

    module = model.module
    if not isinstance(module, APPModule) or not module.uses_attention:
        raise ValueError(
            "This model does not attend to measured perturbations. Make it without preset='paper' and attention=False."
        )
    n_training = len(module.perturbations)
    if not 1 <= n_top < n_training - 1:
        raise ValueError(f"n_top must be from 1 to {n_training - 2}, found {n_top}.")
    halves = learn_halves(module)
    row = {genes: i for i, genes in enumerate(module.perturbations)}
    own = np.zeros((len(nodes), n_training), dtype=bool)
    for hidden, genes in zip(own, nodes, strict=True):
        hidden[row[genes] if genes in row else []] = True
    learned, prior, *of_halves = masked_attention(
        module, [module.attention, module.attention.twin(), *halves], nodes, own
    )
    seen, before = (np.column_stack([x, 1 - x.sum(axis=1)])[None] for x in (learned, prior))
    sink_is_own = np.column_stack([own, np.zeros(len(own), dtype=bool)])
    bins = np.zeros(n_training, dtype=np.intp)
    rows = _checks.learning(_checks.AttentionRuns(seen, before, sink_is_own, bins))
    agreeing = _checks.AttentionRuns(np.stack(of_halves), np.stack([prior, prior]), own, bins)
    rows += _checks.stability(agreeing, "halves", n_top, n_permutations, rng)
    rows += _dependence(module, halves, n_permutations, rng)
    # Each perturbation by the half that did not learn from it; either half if neither did.
    fold = {int(i): int(k) for i, k in zip(halves[0].asked, halves[0].fold, strict=True)}
    apart = np.stack([of_halves[fold.get(row.get(genes, -1), 0)][i] for i, genes in enumerate(nodes)])
    measured = [i for i, genes in enumerate(nodes) if genes in row]
    if measured:
        at = [row[nodes[i]] for i in measured]
        asked = [nodes[i] for i in measured]
        scores = {"attention": apart[measured], "prior": prior[measured], **_walks(model, asked)}
        if module.uses_closed_form:
            scores["kernel"] = module.prior_kernel(asked, module.perturbations).numpy()
        # What all perturbations have in common says nothing about which are alike: it is the sink that attends to it.
        attention = module.attention
        effects = module.targets.double() / attention.unit[:, None] - attention.centre
        rows += _truth(effects.numpy(), at, scores, n_top, n_permutations, rng)
    return rows


def learn_halves(module: APPModule) -> list[MeasuredAttention]:
    """Learn the scalars of the attention twice, each time from the half of the perturbations that the other does not see."""
    from scapp.module import MAX_LEARNED_FROM, Descent, even_choice, order_of

    labels = module.inputs.labels
    prepared = module.attention.twin()
    similarities = module.closed_form.similarities
    prepared.prepare(even_choice(labels, MAX_LEARNED_FROM), order_of(labels), similarities, module.targets)
    halves = [prepared.twin() for _ in range(int(prepared.fold.max()) + 1)]
    for k, half in enumerate(halves):
        queries = prepared.queries.of((prepared.fold != k).nonzero()[:, 0])
        descent = Descent(half, partial(half.loss, queries), N_STEPS)
        for _ in range(N_ROUNDS):
            descent.step()
    return halves


@torch.no_grad()
def masked_attention(
    module: APPModule, attentions: Sequence[MeasuredAttention], nodes: Sequence[tuple[int, ...]], own: NDArray[np.bool_]
) -> list[NDArray[np.float64]]:
    """Return each attention of perturbations to those of the training, mean over genes and programs: (n, n_training).

    As in training, no perturbation sees its own measurement (`own`).
    """
    found = [np.zeros(own.shape) for _ in attentions]
    queries = [(i, gene) for i, genes in enumerate(nodes) for gene in genes]
    for start in range(0, len(queries), BATCH):
        owner, genes = zip(*queries[start : start + BATCH], strict=True)
        similar = np.asarray(module.similarities(genes), dtype=np.float64)
        features = module.attention.features(genes, similar)
        share = np.array([1 / len(nodes[i]) for i in owner])[:, None]
        for total, attention in zip(found, attentions, strict=True):
            each = attention.attention(features, torch.as_tensor(own[list(owner)]))
            np.add.at(total, list(owner), share * attention.mean_attention(each).numpy())
    return found


def _dependence(
    module: APPModule, halves: list[MeasuredAttention], n_permutations: int, rng: np.random.Generator
) -> list[dict]:
    """Test whether predictions of left-out training perturbations change, and are better, with the attention."""
    observed, without, together = left_out(module, halves)
    n, scale = len(observed), np.linalg.norm(together, axis=1).mean()
    change = np.linalg.norm(together - without, axis=1).mean() / max(scale, 1e-30)
    before, after = (np.linalg.norm(observed - x, axis=1) for x in (without, together))
    saved = (before - after) / max(before.mean(), 1e-30)
    rows = [
        check_row("dependence", name, "", value, np.zeros(1), n, "no attention", given=True) | {"p_value": np.nan}
        for name, value in (
            ("share of the attention", float(module.share)),
            ("relative change without it", float(change)),
        )
    ]
    value, null = float(saved.mean()), sign_null(saved, n_permutations, rng)
    return [
        *rows,
        check_row("dependence", "left-out error that it saves, relative", "", value, null, n, "random signs"),
    ]


@torch.no_grad()
def left_out(module: APPModule, halves: list[MeasuredAttention]) -> tuple[NDArray[np.float64], ...]:
    """Return effects of training perturbations, and their left-out predictions without the attention and with it.

    The attention of each is that of the half that did not learn from it. A model without the closed form predicts the
    centre where its attention is taken out.
    """
    first, lfc = halves[0], module.targets.double()
    asked = torch.as_tensor(first.asked)
    attended = torch.stack([half.left_out() for half in halves])[first.fold, torch.arange(len(asked))]
    if module.uses_closed_form:
        residual, _ = module.left_out(asked)
        without = lfc[asked] - residual
    else:
        share = torch.stack([torch.sigmoid(half.centre_share) for half in halves])[first.fold]
        without = share * first.queries.centre * first.queries.unit[:, None]
    together = torch.lerp(without, attended, module.share)
    return lfc[asked].numpy(), without.numpy(), together.numpy()


def _walks(model: APP, nodes: Sequence[tuple[int, ...]]) -> dict[str, NDArray[np.float64]]:
    """Return the mean similarity of the genes of perturbations to those of the training, by each network."""
    module = model.module
    keys = list(networks_of(model))
    similar = {gene: module.similarities([gene])[: len(keys), 0] for genes in nodes for gene in genes}
    of = np.stack([np.mean([similar[gene] for gene in genes], axis=0) for genes in nodes], axis=1)
    return {
        f"walk, {key}": np.asarray((module.attention.means @ values.T).T) for key, values in zip(keys, of, strict=True)
    }


def _truth(
    effects: NDArray[np.float64],
    at: list[int],
    scores: dict[str, NDArray[np.float64]],
    n_top: int,
    n_permutations: int,
    rng: np.random.Generator,
) -> list[dict]:
    """Test whether the attention points to those whose effects, beyond the centre, are most alike, more than the evidence does."""
    unit = effects / np.maximum(np.linalg.norm(effects, axis=1, keepdims=True), 1e-30)
    alike = unit[at] @ unit.T
    own = np.zeros(alike.shape, dtype=bool)
    own[np.arange(len(at)), at] = True
    positive = np.zeros_like(own)
    np.put_along_axis(positive, _checks.top_genes(alike + 2, n_top, own), True, axis=1)
    areas = {
        name: _checks._areas(_checks._ranks(np.where(own, np.nan, values)), positive) for name, values in scores.items()
    }
    statistic = f"AUROC of the {n_top} truly most alike"
    value, null = pairing_null(areas["attention"], n_permutations, rng)
    rows = [check_row("truth", statistic, "", value, null, len(at), "those alike to other perturbations")]
    for name in list(scores)[1:]:
        difference = areas["attention"].diagonal() - areas[name].diagonal()
        null = sign_null(difference, n_permutations, rng)
        minus = f"{statistic}, attention minus"
        rows.append(check_row("truth", minus, name, float(difference.mean()), null, len(at), "random signs"))
    return rows
