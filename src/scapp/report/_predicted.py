"""Sections of a report on predictions: the strongest, pairs that interact, and what to measure next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from scapp import tl
from scapp._genes import measured_mask
from scapp._keys import Key
from scapp.report._page import Section
from scapp.report._screen import Screen, needs, trained

if TYPE_CHECKING:
    from scapp.model import APP

T = TypeVar("T")
N_SHOWN = 12
# Numbers of perturbations to predict in search of the strongest, and of pairs to score for interactions.
MAX_CANDIDATES, MAX_PAIRS, N_INTERACTION_GENES = 2000, 150, 300
CERTAIN = 0.9


def predictions(screen: Screen, section: Section) -> None:
    model = trained(screen)
    measured, combined = set(screen.parsed), screen.has_combinations
    rng = np.random.default_rng(screen.seed)
    pairs = [screen.sep.join(pair) for pair in _some(screen.unmeasured_pairs(), rng)] if combined else []
    genes = _some([gene for gene in model.informed_genes if (gene,) not in measured], rng)
    for title, names in (("Genes that nobody perturbed", genes), ("Pairs that nobody measured", pairs)):
        if not names:
            continue
        section.heading(title)
        section.table(
            _strongest(model, names),
            f"The strongest of {len(names):,} predictions. Expected changes: the sum over genes of the probability of a change larger "
            f"than {float(model.module.threshold):.2f}. Each gene is shown with its predicted log-fold-change and that probability.",
        )
    if not combined:
        section.text("Pairs are not predicted, because the screen measured no combination to learn from.", soft=True)


def _some(candidates: list[T], rng: np.random.Generator) -> list[T]:
    """Draw the candidates to predict, in their order."""
    return [candidates[i] for i in np.sort(rng.permutation(len(candidates))[:MAX_CANDIDATES])]


def _strongest(model: APP, names: list[str]) -> pd.DataFrame:
    predicted = [model.predict(names[i : i + 256])[:, model.measured_genes] for i in range(0, len(names), 256)]
    lfc = np.concatenate([each.layers[Key.layers.PREDICTED_LFC] for each in predicted])
    chance = np.concatenate([each.layers[Key.layers.P_CHANGE] for each in predicted])
    genes = np.array(model.measured_genes)
    expected = chance.sum(axis=1)
    rows = []
    for i in np.argsort(-expected, kind="stable")[:N_SHOWN]:
        certain = np.argsort(-chance[i] - 1e-6 * np.abs(lfc[i]), kind="stable")[:5]
        listed = ", ".join(f"{genes[g]} {lfc[i, g]:+.2f} ({chance[i, g]:.2f})" for g in certain)
        rows.append((names[i], float(expected[i]), int((chance[i] >= CERTAIN).sum()), listed))
    return pd.DataFrame(rows, columns=["perturbation", "expected changes", f"p ≥ {CERTAIN}", "most certain"])


def interactions(screen: Screen, section: Section) -> None:
    if screen.effects is None:
        section.missing("Interactions need effects, and there are none.")
        return
    parsed = screen.parsed
    known = set(parsed)
    pairs = [genes for genes in parsed if len(genes) == 2 and all((gene,) in known for gene in genes)]
    if not pairs:
        section.missing("No pair was measured together with both of its genes alone, so interactions cannot be judged.")
    else:
        effects = screen.effects
        lfc = np.nan_to_num(np.asarray(effects.layers[Key.layers.LFC], dtype=float))
        row = {genes: i for i, genes in enumerate(parsed)}
        deviation = {p: lfc[row[p]] - lfc[row[p[:1]]] - lfc[row[p[1:]]] for p in pairs}
        strongest = sorted(pairs, key=lambda p: -float(np.linalg.norm(deviation[p])))[:MAX_PAIRS]
        spread = np.where(measured_mask(effects), lfc.std(axis=0), -1.0)
        chosen = np.sort(np.argsort(-spread, kind="stable")[:N_INTERACTION_GENES])
        chosen = chosen[spread[chosen] >= 0]
        labels: dict[str, Any] = {"perturbation_key": screen.key, "control": None, "sep": screen.sep}
        found = tl.genetic_interactions(effects, strongest, genes=chosen, key_added=None, **labels)
        pair = zip(found["first"], found["second"], strict=True)
        found["deviation"] = [float(np.linalg.norm(deviation[genes])) for genes in pair]
        counts = found["interaction"].value_counts()
        section.text("Of measured pairs: " + ", ".join(f"{n} {name}" for name, n in counts.items()) + ".")
        columns = ["perturbation", "interaction", "deviation", "magnitude", "similarity_of_singles"]
        table = found.sort_values("deviation", ascending=False)[columns].head(N_SHOWN)
        section.heading("Measured")
        section.table(
            table.rename(columns={"similarity_of_singles": "similarity of singles"}),
            "Measured pairs that deviate most from the sum of their singles; classes after Norman et al. (2019), as quantiles over these "
            f"{len(found)} pairs and the {len(chosen)} genes that vary most.",
        )
    if not needs(screen) and screen.has_combinations:
        _predicted_interactions(screen, section)


def _predicted_interactions(screen: Screen, section: Section) -> None:
    model, singles, pairs = trained(screen), screen.singles, screen.unmeasured_pairs()
    if not pairs:
        return
    pairs = _some(pairs, np.random.default_rng(screen.seed))
    names = [screen.sep.join(pair) for pair in pairs]
    alone = model.predict(singles)[:, model.measured_genes].layers[Key.layers.PREDICTED_LFC]
    row = {gene: i for i, gene in enumerate(singles)}
    deviation, error = [], []
    for i in range(0, len(names), 256):
        found = model.predict(names[i : i + 256])[:, model.measured_genes]
        added = np.stack([alone[row[a]] + alone[row[b]] for a, b in pairs[i : i + 256]])
        deviation.append(np.linalg.norm(found.layers[Key.layers.PREDICTED_LFC] - added, axis=1))
        error.append(np.linalg.norm(found.layers[Key.layers.PREDICTED_LFC_STD], axis=1))
    table = pd.DataFrame(
        {"perturbation": names, "deviation": np.concatenate(deviation), "its error": np.concatenate(error)}
    )
    section.heading("Predicted")
    section.table(
        table.sort_values("deviation", ascending=False).head(N_SHOWN),
        f"Of {len(names):,} pairs that were not measured, those predicted to deviate most from the sum of their singles, and the length of the "
        "predicted standard deviations.",
    )


def suggestions(screen: Screen, section: Section) -> None:
    model = trained(screen)
    known, n = set(screen.parsed), len(screen.singles)
    for title, order, most in (
        ("Single genes", 1, len(model.informed_genes)),
        ("Pairs of genes that were measured alone", 2, n * (n - 1) // 2),
    ):
        if order == 2 and (not screen.has_combinations or n < 3):
            continue
        section.heading(title)
        try:
            n_suggested = max(1, min(N_SHOWN, most - sum(len(genes) == order for genes in known)))
            found = tl.suggest_perturbations(model, n_suggested, order=order, seed=screen.seed)
        except ValueError as error:
            section.missing(str(error))
            continue
        table = found[["perturbation", "predicted_std", "remaining"]]
        section.table(
            table.rename(columns={"predicted_std": "uncertainty", "remaining": "uncertainty left of all"}),
            "In order of choice, each as if those before it had been measured. The last column is the share of the variance of all "
            "candidates that would remain.",
        )
