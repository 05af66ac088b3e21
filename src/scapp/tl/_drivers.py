"""Rank perturbations by how well they explain an observed shift of expression, or would reverse it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.progress import track

from scapp._checked import checked
from scapp._effects import DIRECTION, perturbation_type
from scapp._gene_names import likely_reason
from scapp._genes import measured_mask, shorten
from scapp._keys import Key
from scapp._settings import settings
from scapp._training_effects import LARGEST_LFC
from scapp._warn import warn_user
from scapp.tl._candidates import Candidates, Genes, check_model
from scapp.tl._rows import dense
from scapp.tl._screen import error_draws, gene_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.model import APP

Direction = Literal["both", "same", "opposite"]
# A shift without standard errors has errors of its own: so much of its mean square, the same for all genes. Ranks on held-out
# perturbations hardly differ from 0.1 to 1.
NOISE = 0.3
# Fewer genes in common say nothing about the others.
MIN_SHARED = 10
# Candidates whose predicted errors stand for those of all.
N_TYPICAL = 256
BATCH = 4096


@checked(own=("model", "shift", "perturbations"))
def rank_drivers(
    model: APP,
    shift: pd.Series | AnnData,
    *,
    perturbations: Iterable[str] | str = "all",
    genes: Iterable[str] | None = None,
    order: int = 1,
    direction: Direction = "both",
    reverse: bool = False,
    kind: str | None = None,
    n_best: int = 100,
    n_permutations: int = 1000,
    batch_size: int = 512,
    seed: int = 0,
    progress_bar: bool = True,
) -> pd.DataFrame:
    r"""Rank perturbations by how well their predicted effects explain an observed shift, or would reverse it.

    A shift is a difference in expression whose cause is unknown: patients against healthy donors, or treated against
    untreated cells. For the shift :math:`s`, the predicted effect :math:`m_P` of a perturbation and the covariance
    :math:`\Sigma` of the errors in both, the score is

    .. math:: \frac{s^\top \Sigma^{-1} m_P}{\sqrt{s^\top \Sigma^{-1} s}\, \sqrt{m_P^\top \Sigma^{-1} m_P}}, \qquad
        \Sigma = \Sigma_\text{model} + \operatorname{diag}(\tau^2)

    Genes that the model predicts poorly, and groups of genes with correlated errors, count for less than in a
    correlation: :math:`\Sigma_\text{model}` is the covariance of the errors of left-out training perturbations, scaled
    to the errors of the candidates, and :math:`\tau^2` are the squared standard errors of the shift or, if unknown, 0.3
    times its mean square. The score does not depend on the strength of the perturbation or the unit of the shift; its
    sign gives the direction.

    Permuting the shift over genes, after removing the errors that genes share, gives the probability of such agreement
    by chance. A small p-value shows that the shift is related to the effect, not that the gene is its cause: genes of
    one pathway have similar effects and all rank high. What was learned in one screen may not hold in other cells.

    Parameters
    ----------
    model
        A trained model.
    shift
        Log-fold-changes indexed by gene; or effects with a single observation, whose standard errors are used. To make
        them from the cells of two groups, call :func:`scapp.pp.pseudobulk` with the column of groups as
        ``perturbation_key`` and the reference group as ``control``. Genes that were not measured in training are
        ignored.
    perturbations
        Labels of candidates, or ``"all"`` combinations of `order` of the `genes`.
    genes
        With ``"all"``: the genes to use. By default, for `order` 1 all genes with edges, features or a measurement, and
        for combinations the genes that were perturbed alone.
    order
        With ``"all"``: number of genes per candidate.
    direction
        ``"same"``: perturbed as in the screen (lower expression, if genes were knocked down). ``"opposite"``: the
        reverse, whose effect is assumed to be minus the predicted one; a screen of one kind cannot test this.
        ``"both"``: whichever agrees better.
    reverse
        Whether to look for perturbations that would reverse the shift instead of explaining it.
    kind
        As in :meth:`scapp.model.APP.predict`: kind of perturbation of genes that were not perturbed alone, if the
        screen has several kinds.
    n_best
        Number of candidates to return.
    n_permutations
        Number of permutations of the shift.
    batch_size
        Number of candidates to predict together; memory does not grow with the total number.
    seed
        Random seed for the permutations and the draws of `score_std`.
    progress_bar
        Whether to show a progress bar.

    Returns
    -------
    Table of the best candidates, the best first:

    - ``perturbation``, and ``direction``, ``"same"`` or ``"opposite"``; if it is known how the screen changes its
      targets, also ``activity``, ``"lower"`` or ``"higher"``
    - ``score``, the agreement, at most 1; ``score_std``, its standard deviation over draws of the predicted effect from its
      uncertainty
    - ``dose``, the size of the shift (or its reverse) relative to the predicted effect in that direction
    - ``p_value``, the share of permuted shifts with which this candidate agrees at least as well; ``p_adjusted``, the
      same for the best of all candidates
    - ``n_perturbed_genes``, ``in_training``, ``n_singles_measured``, ``uninformed`` as in :meth:`scapp.model.APP.predict`

    Raises
    ------
    RuntimeError
        If the model has not been trained.
    ValueError
        If the shift shares fewer than ten genes with those measured in training, does not look like log-fold-changes
        (no negative values, or values beyond 50), has missing values or only zeros, or has several observations; if a
        label, a gene or an option is unknown.
    TypeError
        If `model` is not a :class:`scapp.model.APP`, or `shift` has the wrong type.

    See Also
    --------
    scapp.tl.screen : candidates for any desired effect, by simple measures of agreement.
    scapp.metrics.rank

    Examples
    --------
    >>> drivers = scapp.tl.rank_drivers(model, disease["lfc"], n_permutations=100)
    >>> therapy = scapp.tl.rank_drivers(model, disease["lfc"], reverse=True, direction="same", n_permutations=100)
    """
    check_model(model)
    for name, value in (("n_best", n_best), ("batch_size", batch_size), ("n_permutations", n_permutations)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, found {value}.")
    observed = read_shift(shift, model.measured_genes)
    candidates = Candidates.read(model, perturbations, genes=genes, order=order, informed=True)
    space = Space.of(candidates, observed, kind, int(batch_size))
    rng = np.random.default_rng(seed)
    target = space.whiten(-observed.lfc if reverse else observed.lfc)
    target /= np.linalg.norm(target)
    permuted = np.stack([rng.permutation(target) for _ in range(int(n_permutations))])

    scores, lengths, at_least, largest = [], [], [], np.full(len(permuted), -np.inf)
    n_batches = -(-len(candidates) // int(batch_size))
    batches, is_quiet = candidates.batches(int(batch_size)), not progress_bar or settings.is_silent
    for batch in track(batches, description="Scoring", total=n_batches, disable=is_quiet):
        (arrays,) = _predictions(model, batch, kind, int(batch_size), std=False)
        effects = space.whiten(arrays[Key.layers.PREDICTED_LFC][:, space.columns])
        length = np.linalg.norm(effects, axis=1)
        effects = effects / np.maximum(length, np.finfo(np.float64).tiny)[:, None]
        score, chance = effects @ target, directed(permuted @ effects.T, direction)
        scores.append(score)
        lengths.append(length)
        at_least.append((chance >= directed(score, direction) - 1e-12).sum(axis=0))
        largest = np.maximum(largest, chance.max(axis=1))
    score, length = np.concatenate(scores), np.concatenate(lengths)
    ranked = directed(score, direction)
    best = np.argsort(-ranked, kind="stable")[: int(n_best)]
    found = dict(_at(candidates, best))
    nodes = [found[i] for i in best.tolist()]
    labels = candidates.names(best.tolist(), nodes)
    # The description of the candidates, and a warning of those that nothing is known of, come with their predictions.
    described = model.predict(labels, kind=kind)
    table = described.obs.reset_index(drop=True)
    table = table.drop(columns=[Key.obs.ATTENTION_TO_MEAN], errors="ignore")
    key = model.registry["setup_args"]["perturbation_key"]
    is_opposite = score[best] < 0 if direction == "both" else np.full(len(best), direction == "opposite")
    sign = np.where(is_opposite, -1, 1)
    columns: dict[str, Any] = {
        "perturbation": np.array(table.pop(key).astype(str), dtype=object),
        "direction": np.where(is_opposite, "opposite", "same").astype(object),
    }
    # Whether the screen lowers the activity of the genes, if known.
    named = kind if kind is not None else model.registry["setup_args"].get("kind")
    if (known := perturbation_type(named)) is not None:
        lowers = DIRECTION[known] < 0
        columns["activity"] = np.where(is_opposite != lowers, "lower", "higher").astype(object)
    size = np.linalg.norm(space.whiten(observed.lfc))
    columns |= {
        "score": ranked[best],
        "score_std": _score_std(model, space, described, nodes, target, sign, seed),
        "dose": ranked[best] * size / np.maximum(length[best], np.finfo(np.float64).tiny),
        "p_value": (1 + np.concatenate(at_least)[best]) / (1 + len(permuted)),
        "p_adjusted": [(1 + (largest >= value - 1e-12).sum()) / (1 + len(permuted)) for value in ranked[best]],
    }
    return pd.concat([pd.DataFrame(columns), table], axis=1)


def directed(score: NDArray[np.float64], direction: Direction) -> NDArray[np.float64]:
    """Return agreement in a direction, or in that which agrees more."""
    return np.abs(score) if direction == "both" else -score if direction == "opposite" else score


@dataclass(frozen=True)
class Shift:
    """Hold the shift over the genes that were measured in training as well."""

    columns: NDArray[np.intp]  # positions of these genes among the measured ones
    lfc: NDArray[np.float64]
    se: NDArray[np.float64] | None  # standard errors, None where unknown


def read_shift(shift: pd.Series | AnnData, genes: list[str]) -> Shift:
    """Read a shift, and refuse one of other genes or on another scale than the `genes` measured in training."""
    errors = None
    if isinstance(shift, AnnData):
        shift, errors = _of_effects(shift)
    elif isinstance(shift, pd.DataFrame):
        raise TypeError(
            f"Expected a Series of log-fold-changes, found a DataFrame with the columns {shorten(shift.columns)}. Pass one "
            "column indexed by gene, or read a table of differential expression with `scapp.pp.read_effects(table)`."
        )
    elif not isinstance(shift, pd.Series):
        raise TypeError(
            f"Expected a Series of log-fold-changes indexed by gene, or effects with one observation, found "
            f"{type(shift).__name__}. Pass pd.Series(values, index=genes)."
        )
    values = gene_values(shift, "shift")
    names = [str(gene) for gene in shift.index]
    place = pd.Index(genes).get_indexer(pd.Index(names, dtype=object))
    known = place >= 0
    if known.sum() < min(MIN_SHARED, len(genes)):
        if known.all():
            raise ValueError(
                f"{len(names)} of the {len(names)} genes of the shift ({shorten(names) or 'none'}) were measured in training, and at "
                f"least {min(MIN_SHARED, len(genes))} are needed. Pass the log-fold-changes of all genes, and not of the significant "
                "ones only."
            )
        raise ValueError(
            f"{int(known.sum())} of the {len(names):,} genes of the shift ({shorten(names)}) are among the {len(genes):,} that were "
            f"measured in training ({shorten(genes)}).\n{likely_reason(genes, names, 'shift', [])}"
        )
    _check_scale(values)
    if known.sum() < 0.5 * len(genes):
        warn_user(
            f"The shift has {int(known.sum()):,} of the {len(genes):,} genes that were measured in training; only these are "
            "compared."
        )
    if not values[known].any():
        raise ValueError(
            f"The shift is 0 for all of the {int(known.sum()):,} genes that were measured in training, so there is nothing to explain."
        )
    return Shift(place[known], values[known], None if errors is None else errors[known])


def _check_scale(values: NDArray[np.float64]) -> None:
    if np.abs(values).max(initial=0) > LARGEST_LFC:
        raise ValueError(
            f"The shift reaches {np.abs(values).max():.3g}; log-fold-changes stay far below {LARGEST_LFC:.0f}. Compute it from the "
            "cells with `scapp.pp.pseudobulk(cells, perturbation_key=group, control=healthy)`, or divide z-scores by their spread."
        )
    changed = values[values != 0]
    if len(changed) >= MIN_SHARED and (values >= 0).all():
        raise ValueError(
            f"No value of the shift is negative, from {values.min():.3g} to {values.max():.3g}: it looks like expression, fold-changes "
            "or p-values.\nPass log-fold-changes: `np.log(fold_change)`, or the column of them, such as 'log2FoldChange'."
        )


def _of_effects(effects: AnnData) -> tuple[pd.Series, NDArray[np.float64] | None]:
    """Return the log-fold-changes and standard errors of effects with one observation."""
    if Key.layers.LFC not in effects.layers:
        raise ValueError(
            f"The shift has no layer {Key.layers.LFC!r}. Of cells of two groups it is made by `scapp.pp.pseudobulk(cells, "
            "perturbation_key=…, control=…)`, with the column of the groups and the one that is compared with."
        )
    if effects.n_obs != 1:
        raise ValueError(
            f"The shift has {effects.n_obs} observations ({shorten(effects.obs_names)}), expected one. Choose it with "
            f"`effects[{str(effects.obs_names[0])!r}]`."
            if effects.n_obs
            else "The shift has no observation, expected one."
        )
    lfc = dense(effects.layers[Key.layers.LFC])[0]
    there = measured_mask(effects) & ~np.isnan(lfc)  # genes that were not measured are NaN
    series = pd.Series(lfc[there], index=effects.var_names[there])
    if Key.layers.LFC_SE not in effects.layers:
        return series, None
    errors = dense(effects.layers[Key.layers.LFC_SE])[0][there]
    if (bad := (errors < 0) | np.isinf(errors)).any():
        raise ValueError(
            f"{int(bad.sum())} standard errors of the shift are negative or infinite, of {shorten(series.index[bad])}. Calculate them "
            "again with `scapp.pp.pseudobulk`, or remove them with `del effects.layers['lfc_se']`."
        )
    if (bad := np.isnan(errors)).any():
        warn_user(
            f"{int(bad.sum())} genes of the shift have no standard error ({shorten(series.index[bad])}), so that those of the others "
            "are not used either. Leave these genes out to use them."
        )
        return series, None
    return series, errors if errors.any() else None


@dataclass(frozen=True)
class Space:
    r"""Hold the coordinates in which errors are independent: those of :math:`\Sigma^{-1/2}`."""

    columns: NDArray[np.intp]  # positions of the genes of the shift among the measured ones
    scale: NDArray[np.float64]  # one over the standard deviation of what is independent in each gene, (n_genes,)
    axes: NDArray[np.float64]  # orthonormal directions in which errors go together, (n_axes, n_genes)
    shrink: NDArray[np.float64]  # by how much each of these is reduced

    @classmethod
    def of(cls, candidates: Candidates, shift: Shift, kind: str | None, batch_size: int) -> Space:
        """Return the space of the errors of typical candidates and of a shift."""
        chosen = [genes for _, genes in _at(candidates, np.linspace(0, len(candidates) - 1, N_TYPICAL).astype(int))]
        columns = shift.columns
        lfc, std = [], []
        for arrays in _predictions(candidates.model, chosen, kind, batch_size):
            lfc.append(arrays[Key.layers.PREDICTED_LFC][:, columns])
            std.append(arrays[Key.layers.PREDICTED_LFC_STD][:, columns])
        size, variance = np.concatenate(lfc), np.square(np.concatenate(std, dtype=np.float64))
        # The strength of the perturbation is free, so the scale of the shift is irrelevant and set to that of the effects.
        length = np.sqrt(np.mean(np.square(size, dtype=np.float64)))
        unit = length / np.sqrt(np.mean(np.square(shift.lfc))) if length > 0 else 1.0
        noise = NOISE * np.mean(np.square(shift.lfc * unit)) if shift.se is None else np.square(shift.se * unit)
        combined = np.array([len(genes) > 1 for genes in chosen])
        alone, shared = np.zeros(len(columns)), []
        for is_combined in np.unique(combined):
            rows = combined == is_combined
            factors = candidates.model.module.error_factors(combined=bool(is_combined)).cpu().numpy()[:, columns]
            spread = variance[rows].sum(axis=0) / len(chosen)
            alone += spread * np.maximum(1 - np.square(factors).sum(axis=0), 0)
            shared.append(factors * np.sqrt(spread))
        independent = alone + noise
        # Genes without variation and error would get infinite weight.
        independent = np.maximum(independent, 1e-6 * max(independent.mean(), np.finfo(np.float64).tiny))
        scale = 1 / np.sqrt(independent)
        _, size_of, axes = np.linalg.svd(np.concatenate(shared) * scale, full_matrices=False)
        return cls(columns, scale, axes, 1 - 1 / np.sqrt(1 + np.square(size_of)))

    def whiten(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Return values over the genes of the shift in these coordinates, of the same shape."""
        scaled = np.asarray(values, dtype=np.float64) * self.scale
        return scaled - ((scaled @ self.axes.T) * self.shrink) @ self.axes


def _predictions(
    model: APP, perturbations: list[Genes], kind: str | None, batch_size: int, *, std: bool = True
) -> Iterator[dict[str, np.ndarray]]:
    from scapp.module import Wanted

    wanted = Wanted(std=std, attention=False)
    return (arrays for _, arrays in model.predictions(perturbations, wanted, kind=kind, batch_size=batch_size))


def _at(candidates: Candidates, positions: NDArray[np.integer]) -> Iterator[tuple[int, Genes]]:
    """Yield the candidates at some positions, in their order, without holding the others."""
    wanted = set(positions.tolist())
    everything = (genes for batch in candidates.batches(BATCH) for genes in batch)
    for i, genes in enumerate(everything):
        if i in wanted:
            yield i, genes


def _score_std(
    model: APP,
    space: Space,
    predicted: AnnData,
    perturbations: list[Genes],
    target: NDArray[np.float64],
    sign: NDArray[np.intp],
    seed: int,
) -> NDArray[np.float64]:
    """Return the standard deviation of the score of each, over draws from the uncertainty of its effect."""
    errors = {combined: draws[:, space.columns] for combined, draws in error_draws(model, seed).items()}
    measured = predicted.var[Key.var.MEASURED].to_numpy(dtype=bool)
    lfc, std = (
        np.asarray(predicted.layers[name], dtype=np.float64)[:, measured][:, space.columns]
        for name in (Key.layers.PREDICTED_LFC, Key.layers.PREDICTED_LFC_STD)
    )
    found = np.empty(len(perturbations))
    for i, genes in enumerate(perturbations):
        drawn = space.whiten(lfc[i] + std[i] * errors[len(genes) > 1])
        length = np.maximum(np.linalg.norm(drawn, axis=1), np.finfo(np.float64).tiny)
        found[i] = (sign[i] * (drawn @ target) / length).std(ddof=1)
    return found
