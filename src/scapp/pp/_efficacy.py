"""Did the perturbations do to their own targets what they were meant to do?"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from scapp._checked import checked
from scapp._effects import DIRECTION, perturbation_type
from scapp._genes import check_layer, measured_mask, shorten, writable
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, format_label, is_effects, read_perturbations
from scapp.pp._report import Report

WORKED, UNCLEAR, OPPOSITE, NOT_MEASURED = STATUS = ("worked", "unclear", "opposite", "not measured")


@dataclass(frozen=True, repr=False)
class EfficacyReport(Report, what="efficacy"):
    """Report of the effects of perturbations on their own targets.

    Parameters
    ----------
    n_perturbations
        Number of all perturbations, the sum of the next four.
    n_worked, n_unclear, n_opposite, n_not_measured
        Numbers of perturbations by ``obs["efficacy_status"]``.
    failed
        Labels of those that are unclear or opposite.
    targets
        One row for each perturbation and target gene: ``perturbation``, ``gene``, ``kind``, ``lfc`` (its own
        log-fold-change) and ``se``, ``share`` (of its control expression that was lost or gained, lfc over the control
        mean, both in log1p of counts per 10,000) and ``share_se``, ``status``.
    """

    _group = Key.uns.EFFICACY

    n_perturbations: int
    n_worked: int
    n_unclear: int
    n_opposite: int
    n_not_measured: int
    failed: tuple[str, ...]
    targets: pd.DataFrame = field(compare=False)

    def _lines(self) -> Iterable[str]:
        judged = self.n_perturbations - self.n_not_measured
        medians = self.targets.dropna(subset=["lfc"]).groupby("kind", observed=True)["lfc"].median()
        typical = "; ".join(f"median of {kind}: {value:+.2f}" for kind, value in medians.items())
        yield (
            f"Efficacy: of {judged:,} perturbations with a measured target {self.n_worked:,} worked, {self.n_unclear:,} are "
            f"unclear, {self.n_opposite:,} went the opposite way; {self.n_not_measured:,} have no measured target"
        )
        yield f"  log-fold-change of the targets themselves, {typical}" if typical else ""
        yield f"  did not show that they work: {shorten(self.failed, 10)}" if self.failed else ""


@checked
def check_efficacy(
    effects: AnnData,
    *,
    kind: str = "interference",
    perturbation_key: str = Key.obs.PERTURBATION,
    sep: str = SEPARATOR,
    layer: str | None = Key.layers.LFC,
    n_errors: float = 2.0,
    min_change: float = 0.0,
    copy: bool = False,
) -> AnnData | None:
    """Check whether each perturbation changed its own target in the intended direction.

    Interference and knockout should lower the target, and activation should raise it. A perturbation worked if the
    target's log-fold-change has this direction and is at least `n_errors` standard errors and at least `min_change`. It
    is opposite if the same holds for the other direction, and otherwise unclear, because the effect is too small or
    there are too few cells. A combination is judged by its weakest measured target.

    A knockout destroys the protein; its transcript often falls, through nonsense-mediated decay, but need not. So for
    knockouts, unclear does not mean failed.

    Parameters
    ----------
    effects
        Effects with one observation per perturbation, from :func:`scapp.pp.pseudobulk`; changed in place unless `copy`.
    kind
        ``"interference"``, ``"activation"`` or ``"knockout"``, or other usual names of these (``"CRISPRi"``,
        ``"knockdown"``, …); for a mixed screen a column of ``effects.obs`` with the kind of each perturbation. In a
        combination, each gene has the kind of its own single perturbation or, if that is not in the screen, the kind of
        the combination.
    perturbation_key
        Column of ``effects.obs`` with the labels.
    sep
        Separator between the genes of a combination.
    layer
        Layer of log-fold-changes; `X` if None. Their standard errors are read from ``layers["lfc_se"]``.
    n_errors
        Minimum size of an effect in standard errors.
    min_change
        Minimum size of an effect, as a natural log-fold-change. Required if there are no standard errors: without it, a target
        whose error is NaN is unclear.
    copy
        Return a changed copy and leave `effects` unchanged.

    Returns
    -------
    None, or the copy. Adds to ``effects.obs``:

    - ``obs["efficacy"]`` and ``obs["efficacy_se"]``: log-fold-change of the (weakest) target itself and its standard
      error; NaN where no target was measured.
    - ``obs["efficacy_status"]``: ``"worked"``, ``"unclear"``, ``"opposite"`` or ``"not measured"``.

    The report is logged and stored in ``uns["scapp"]["efficacy"]``; ``scapp.pp.report(effects, "efficacy")`` returns it.

    Raises
    ------
    ValueError
        If `effects` are not effects, a kind is unknown, or there are neither standard errors nor a `min_change`.

    Examples
    --------
    >>> scapp.pp.check_efficacy(effects, kind="CRISPRi")
    >>> effects = effects[effects.obs["efficacy_status"] != "opposite"].copy()
    """
    effects = writable(effects, "scapp.pp.check_efficacy", copy=copy)
    perturbations = read_perturbations(effects, perturbation_key=perturbation_key, control=None, sep=sep)
    if not is_effects(perturbations):
        raise ValueError(
            "Expected effects, one observation per perturbation and no controls; these look like cells, or effects of "
            "several contexts. Calculate effects with `scapp.pp.pseudobulk`, or take one context with "
            "`scapp.pp.select_context`."
        )
    if Key.layers.LFC_SE not in effects.layers and not min_change > 0:
        raise ValueError(
            "There are no standard errors in effects.layers['lfc_se'], so say how large a change must be with "
            "min_change=…, for example 0.2."
        )
    kinds = _kinds_of_targets(effects, perturbations, kind)
    table = _targets(effects, perturbations, kinds, layer)
    intended = table["lfc"] * table["kind"].map(DIRECTION).astype(float)
    needed = np.fmax(n_errors * table["se"].to_numpy(), min_change if min_change > 0 else np.nan)
    needed[np.isnan(needed)] = np.inf  # nothing says how large a change must be
    conditions = [table["lfc"].isna(), (intended > 0) & (intended >= needed), (intended < 0) & (-intended >= needed)]
    judged = np.select(conditions, [NOT_MEASURED, WORKED, OPPOSITE], UNCLEAR)
    table["status"] = pd.Categorical(judged, categories=STATUS)

    # The weakest target of each perturbation: those that were not measured last.
    order = table.assign(intended=intended).sort_values(["row", "intended"], na_position="last")
    weakest = table.loc[order.groupby("row").head(1).index]
    table["kind"] = table["kind"].astype("category")
    labels = [format_label(genes) for genes in perturbations]
    table.insert(0, "perturbation", np.array(labels, dtype=object)[table.pop("row")])
    n = weakest["status"].value_counts()
    status = weakest["status"].astype(str).to_numpy()
    report = EfficacyReport(
        n_perturbations=len(labels),
        n_worked=int(n[WORKED]),
        n_unclear=int(n[UNCLEAR]),
        n_opposite=int(n[OPPOSITE]),
        n_not_measured=int(n[NOT_MEASURED]),
        failed=tuple(label for label, s in zip(labels, status, strict=True) if s in (UNCLEAR, OPPOSITE)),
        targets=table,
    )
    effects.obs[Key.obs.EFFICACY] = weakest["lfc"].to_numpy()
    effects.obs[Key.obs.EFFICACY_SE] = weakest["se"].to_numpy()
    effects.obs[Key.obs.EFFICACY_STATUS] = pd.Categorical(status, categories=STATUS)
    report.store(effects, {"kind": kind, "layer": layer, "n_errors": n_errors, "min_change": min_change})
    return effects if copy else None


def _kinds_of_targets(effects: AnnData, perturbations: list[Perturbation], kind: str) -> list[tuple[str, ...]]:
    """Return the kind of each target of each perturbation."""
    if kind not in effects.obs:
        known = perturbation_type(kind)
        if known is None:
            raise ValueError(
                f"kind={kind!r} is neither 'knockout', 'interference' nor 'activation', nor a column of effects.obs, "
                f"which has {shorten(map(repr, effects.obs.columns), 12) or 'none'}."
            )
        return [(known,) * len(genes) for genes in perturbations]
    column = [perturbation_type(name) for name in effects.obs[kind]]
    of_single = {genes[0]: k for genes, k in zip(perturbations, column, strict=True) if len(genes) == 1}
    found, unknown = [], []
    for i, genes in enumerate(perturbations):
        kinds = [of_single.get(gene) or column[i] for gene in genes]
        if None in kinds:
            unknown.append(f"{format_label(genes)} ({effects.obs[kind].iloc[i]})")
        found.append(tuple(k or "" for k in kinds))
    if unknown:
        raise ValueError(
            f"effects.obs[{kind!r}] does not tell the kind of {len(unknown)} perturbation(s): {shorten(unknown)}. Expected "
            "'knockout', 'interference' or 'activation', or for a combination of several kinds the single perturbations "
            "of its genes."
        )
    return found


def _targets(
    effects: AnnData, perturbations: list[Perturbation], kinds: list[tuple[str, ...]], layer: str | None
) -> pd.DataFrame:
    check_layer(effects, layer, "Name the log-fold-changes with layer=….", "effects")
    pairs = [(i, gene, k) for i, genes in enumerate(perturbations) for gene, k in zip(genes, kinds[i], strict=True)]
    table = pd.DataFrame(pairs, columns=["row", "gene", "kind"])
    column = effects.var_names.get_indexer(table["gene"])
    measured = column >= 0
    measured[measured] = measured_mask(effects)[column[measured]]
    rows, columns = table["row"].to_numpy()[measured], column[measured]

    def read(values: Any) -> NDArray[np.float64]:
        found = np.full(len(table), np.nan)
        picked = values[rows, columns]
        found[measured] = np.asarray(picked.todense() if sparse.issparse(picked) else picked).ravel()
        return found

    table["lfc"] = read(effects.X if layer is None else effects.layers[layer])
    table["se"] = read(effects.layers[Key.layers.LFC_SE]) if Key.layers.LFC_SE in effects.layers else np.nan
    table["share"] = table["share_se"] = np.nan
    if Key.var.CONTROL_MEAN in effects.var:
        mean = np.full(len(table), np.nan)
        mean[measured] = effects.var[Key.var.CONTROL_MEAN].to_numpy()[columns]
        mean[mean <= 0] = np.nan  # a gene that controls do not express has no share to lose or gain
        table["share"], table["share_se"] = table["lfc"] / mean, table["se"] / mean
    return table
