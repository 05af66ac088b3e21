"""From guides to the labels of perturbations."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._checked import checked
from scapp._genes import check_key_added, check_no_view, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, format_label
from scapp._tables import is_path
from scapp._warn import warn_user
from scapp.pp._guide_calls import (
    Calls,
    Method,
    calls_from_counts,
    calls_from_obs,
    calls_from_table,
    check_cells,
    read_calls,
    targets_of_calls,
)
from scapp.pp._guide_targets import Genes, read_targets
from scapp.pp._report import Report, listed

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from scapp.pp._guide_calls import CallTable
    from scapp.pp._guide_targets import Targets

GUIDE_SEPARATOR = "|"
PERTURBED, CONTROL, NONE, MANY, RARE = STATUS = ("perturbed", "control", "none", "many", "rare")


@dataclass(frozen=True, repr=False)
class GuidesReport(Report, what="guides"):
    """Report of how many cells got each label, and why the rest got none.

    Parameters
    ----------
    key
        Column of the labels in ``adata.obs``.
    method
        ``"mixture"``, ``"threshold"``, ``"maximum"``, or ``"calls"`` where calls were given.
    n_cells
        Number of all cells, the sum of the next five.
    n_perturbed, n_control
        Cells labelled with genes, and control cells.
    n_none, n_many, n_rare
        Cells set aside because they have no guide, too many guides (or none that is dominant), or a perturbation with
        too few cells.
    n_combined
        Perturbed cells with more than one gene.
    n_not_counted
        Cells of the expression that are missing from the guide counts; they count as cells without a guide.
    perturbations
        Number of different perturbations.
    not_fitted
        Guides whose counts do not show two components, so that only `min_counts` decided.
    unused
        Guides that no cell has.
    guides
        One row per guide: its name, ``target`` (empty for a control), ``n_cells`` with this guide, and ``threshold``,
        the smallest count at which it is assigned (NaN for calls).
    """

    _group = Key.uns.GUIDES
    _default_key = Key.obs.PERTURBATION

    key: str
    method: str
    n_cells: int
    n_perturbed: int
    n_control: int
    n_none: int
    n_many: int
    n_rare: int
    n_combined: int
    n_not_counted: int
    perturbations: int
    not_fitted: tuple[str, ...]
    unused: tuple[str, ...]
    guides: pd.DataFrame = field(compare=False)

    def _lines(self) -> Iterable[str]:
        def part(n: int) -> str:
            return f"{n:,} ({n / max(self.n_cells, 1):.1%})"

        yield f"Guides into obs[{self.key!r}] ({self.method}): {self.n_cells:,} cells, {self.perturbations:,} perturbations"
        yield (
            f"  perturbed: {part(self.n_perturbed)}, {self.n_combined:,} of them in several genes; "
            f"control: {part(self.n_control)}"
        )
        rare = f", of rare perturbations {part(self.n_rare)}" if self.n_rare else ""
        yield f"  set aside: without a guide {part(self.n_none)}, with too many {part(self.n_many)}{rare}"
        controls = self.guides.loc[self.guides["target"] == "", "n_cells"]
        yield from listed(("control guides, with their cells", [f"{guide} ({n:,})" for guide, n in controls.items()]))
        if self.n_not_counted:
            yield f"  cells that the guide counts do not hold: {self.n_not_counted:,}"
        yield from listed(
            ("guides without two components, assigned by min_counts alone", self.not_fitted),
            ("guides in no cell", self.unused),
        )


@checked(own=("adata",))
def guides_to_perturbations(
    adata: AnnData | MuData,
    *,
    targets: Targets,
    guides: AnnData | CallTable | None = None,
    calls_key: str | None = None,
    method: Method = "mixture",
    min_counts: int = 5,
    min_share: float = 0.0,
    max_genes: int | None = 1,
    max_guides: int | None = None,
    min_cells: int = 1,
    controls: str | Iterable[str] = (),
    genes: str | Iterable[str] = (),
    control: str = "control",
    sep: str = SEPARATOR,
    layer: str | None = None,
    calls_sep: str = GUIDE_SEPARATOR,
    counts_key: str | None = None,
    total_counts_key: str | None = None,
    expression_modality: str = "rna",
    guide_modality: str = "gdo",
    key_added: str = Key.obs.PERTURBATION,
    seed: int = 0,
    copy: bool = False,
) -> AnnData | MuData | None:
    r"""Label cells with their perturbation, based on their guides.

    Guides are assigned to cells by their counts, or by the calls of another program. Guides for the same gene make one
    perturbation, guides for several genes a combination, and control guides next to other guides are ignored. Cells
    with no guide or too many are set aside: they get no label, and are counted.

    The choice of the counts at which a guide counts as present rather than ambient changes the results; see
    :cite:t:`Braunger2024` for a comparison. The methods are:

    - ``"mixture"``: for each guide, two Gaussians are fitted to log2 of its counts above zero, and the guide is
      assigned where the upper one is more likely, as in the Gaussian mixtures of :cite:t:`Braunger2024` and similar to
      the Poisson-Gaussian mixture of :cite:t:`Replogle2020`. Guides whose counts show no two components, by the
      Bayesian information criterion and their distance :cite:p:`Ashman1994`, are assigned by `min_counts` alone, and
      reported.
    - ``"threshold"``: every guide with `min_counts` or more.
    - ``"maximum"``: only the strongest guide of a cell; if two are equal, the cell has too many.

    Parameters
    ----------
    adata
        Expression, cells by genes, to which the labels are added in place unless `copy`; or a MuData with the
        expression and the guide counts.
    targets
        The gene that each guide targets: a column of the guides' `var` or of a table of calls, a mapping (or Series) from guide to gene, or a
        regular expression that matches the whole name of a guide and whose first group is the gene: ``r"(.+)_\d+"``
        finds KLF1 in ``"KLF1_2"``. Or a library of guides, a table or its path, with columns of guides, target genes and,
        if there is one, types (``"non-targeting"``), under their usual names. The targets of a guide for several genes
        are joined by `sep`.
    guides
        Counts, cells by guides, for the same cells by name, in any order. Cells that are missing have no guide. Not
        needed for a MuData. Or calls in a long table, or its path, one row per cell and guide (``cell_barcode``,
        ``guide_identity``, ``UMI_count``) or a cell with its guides joined by `calls_sep` (Cell Ranger's
        ``protospacer_calls_per_cell.csv``), or a mapping (or Series) from guide to cells or from cell to guides: then `method` and
        `min_share` do not apply. A table of cells by guides, or of guides by cells, holds counts.
    calls_key
        Instead of counts: a column of ``adata.obs`` with the guides of each cell, ``"KLF1_1"`` or
        ``"KLF1_1|CEBPA_2"``. Missing values, ``"negative"`` and ``"unassigned"`` mean none, ``"multiple"`` means too many.
    method
        Method for calling guides from counts; see above.
    min_counts
        Smallest count of an assigned guide, with every method.
    min_share
        Smallest share of a cell's guide counts that its assigned guides must have together; cells below it have too
        many guides. 0.8 removes most doublets from a screen with one guide per cell. With `calls_key`, it needs both
        columns of counts.
    max_genes
        Cells with more target genes than this have too many guides: 1 for a screen of single genes, 2 for pairs, None
        for no limit.
    max_guides
        The same for guides, whatever they target; None for no limit.
    min_cells
        Perturbations with fewer cells are set aside. In a screen of pairs, this removes pairs that were not in the
        design but come from two cells in one droplet.
    controls
        Regular expressions that match the whole name of a control guide (non-targeting, safe-targeting) or of its
        target, besides the usual names, numbered or not, such as ``"non-targeting_00012"``, ``"sgNegCtrl2"``,
        ``"safe_harbor"`` and ``"NTC"``. If given, names that are also genes, such as ``CTRL``, are controls only if
        they match.
    genes
        Targets that are genes although their names are common for controls.
    control
        Label for control cells.
    sep
        Separator between the genes of a combination.
    layer
        Layer of the guide counts; `X` if None.
    calls_sep
        Separator between the guides in ``adata.obs[calls_key]``.
    counts_key, total_counts_key
        With `calls_key`: columns of ``adata.obs`` with the counts of the called guides (added up, or joined as the calls
        are), and of all guides, to which `min_counts` and `min_share` then apply. Cells without a call need no counts.
    expression_modality, guide_modality
        Names of the modalities of a MuData.
    key_added
        Column of `obs` for the labels.
    seed
        Random seed of the mixtures.
    copy
        Return a changed copy and leave `adata` unchanged.

    Returns
    -------
    None, or the copy. Adds to `obs` (of the expression modality; ``mdata.pull_obs()`` shows them at the top):

    - ``obs[key_added]``: the labels, categorical; NaN for cells that are set aside. Leave these out with
      ``adata[adata.obs["perturbation"].notna()].copy()``.
    - ``obs["guide_status"]``: ``"perturbed"``, ``"control"``, ``"none"``, ``"many"`` or ``"rare"``.
    - ``obs["guides"]``: the assigned guides, joined by ``"|"`` (left as it is where it is `calls_key`);
      ``obs["n_guides"]``: how many.

    A report of the number of cells with each label, and of why the rest have none, is logged and stored with the
    parameters in ``uns["scapp"]["guides"][key_added]``; ``scapp.pp.report(adata, "guides")`` returns it.

    Raises
    ------
    ValueError
        If neither or both of counts and calls are given; if a modality, column or layer is missing; if a guide has no
        target and is not a control, could be either a gene or a control, or shares its name with another; if values are
        not counts; if no cell is in both matrices; if every cell is set aside; or if labels would overwrite the calls.
        Nothing is written then.
    TypeError
        If `adata` or `guides` has a type that is not listed above.

    Examples
    --------
    >>> mdata, truth = scapp.datasets.simulated_perturb_seq(return_mudata=True)
    >>> scapp.pp.guides_to_perturbations(mdata, targets="target_gene", max_genes=2)
    >>> cells = mdata["rna"][mdata["rna"].obs["perturbation"].notna()].copy()
    """
    if copy:
        adata = adata.copy()
    expression, guides = _modalities(adata, guides, calls_key, expression_modality, guide_modality)
    check_key_added(key_added)
    if not sep:
        raise ValueError("sep must not be empty: it joins the genes of a combination; the usual one is '+'.")
    if key_added in (Key.obs.GUIDES, Key.obs.N_GUIDES, Key.obs.GUIDE_STATUS):
        raise ValueError(f"key_added={key_added!r} is the name of another column that is written. Choose another.")
    if not 0 <= min_share <= 1:
        raise ValueError(f"min_share must be from 0 to 1, found {min_share}.")
    numbers = {"min_counts": min_counts, "max_genes": max_genes, "max_guides": max_guides, "min_cells": min_cells}
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, found {number}.")
    n_not_counted = 0
    if guides is not None and not isinstance(guides, AnnData):
        guides = read_calls(guides, expression.obs_names)
        if isinstance(targets, str) and isinstance(guides, pd.DataFrame) and targets in guides:
            targets = targets_of_calls(guides, targets)
    if guides is not None and not isinstance(guides, AnnData):
        calls, n_not_counted = calls_from_table(expression, guides, calls_sep, min_counts)
    elif calls_key is not None:
        if key_added == calls_key:
            raise ValueError(
                f"The labels would be written over the calls in adata.obs[{calls_key!r}]. Name another column with key_added=…."
            )
        if not calls_sep:
            raise ValueError("calls_sep must not be empty: it joins the guides of a cell; the usual one is '|'.")
        if min_share and (counts_key is None or total_counts_key is None):
            raise ValueError(
                f"min_share={min_share} needs the counts of the called guides and of all guides: name their columns of adata.obs "
                "with counts_key=… and total_counts_key=…, or leave min_share out."
            )
        calls = calls_from_obs(expression, calls_key, calls_sep, counts_key, total_counts_key, min_counts)
    else:
        assert guides is not None
        cells = check_cells(expression, guides)
        n_not_counted = int((cells < 0).sum())
        calls = calls_from_counts(guides, cells, layer, method, min_counts, seed)
    var = guides.var if isinstance(guides, AnnData) else None
    targeted = read_targets(calls.guides, targets, var, controls, control, sep, genes, expression.var_names)
    obs = _label(calls, targeted, min_share, max_genes, max_guides, control, sep)
    if min_cells > 1:
        perturbed = obs[Key.obs.GUIDE_STATUS] == PERTURBED
        n_cells = obs.loc[perturbed, Key.obs.PERTURBATION].value_counts()
        rare = perturbed & (obs[Key.obs.PERTURBATION].map(n_cells).astype(float) < min_cells)
        obs.loc[rare, Key.obs.GUIDE_STATUS] = RARE
        obs[Key.obs.PERTURBATION] = obs[Key.obs.PERTURBATION].mask(rare).cat.remove_unused_categories()
    from_counts = isinstance(guides, AnnData)
    report = _report(calls, targeted, obs, key_added, method if from_counts else "calls", n_not_counted, sep)
    if not report.n_perturbed + report.n_control:
        raise ValueError(
            f"No cell gets a label: {report.n_none} of {report.n_cells} have no guide, {report.n_many} too many and "
            f"{report.n_rare} a rare perturbation. Lower min_counts={min_counts}, min_share={min_share} or "
            f"min_cells={min_cells}, or raise max_genes={max_genes} or max_guides={max_guides}."
        )
    if not report.n_control:
        warn_user(
            f"No cell is a control: none of the {len(calls.guides)} guides ({shorten(calls.guides)}) is one by its name or target. "
            "Effects need controls; match their guides with controls=…, for example controls=['NTC.*', 'safe.*']."
        )
    obs = obs.rename(columns={Key.obs.PERTURBATION: key_added})
    for column in obs.columns.drop([calls_key] if calls_key in obs else []):  # calls are the user's own
        expression.obs[column] = obs[column].to_numpy() if column == Key.obs.N_GUIDES else obs[column].array
    used = method if from_counts else None
    params: dict[str, Any] = {"method": used, "calls_key": calls_key, "min_counts": min_counts}
    params |= {"min_share": min_share, "max_genes": max_genes, "max_guides": max_guides, "control": control, "sep": sep}
    report.store(expression, params)
    return adata if copy else None


def _modalities(
    data: AnnData | MuData,
    guides: AnnData | CallTable | None,
    calls_key: str | None,
    expression_modality: str,
    guide_modality: str,
) -> tuple[AnnData, AnnData | CallTable | None]:
    """Return the expression and the guide counts or calls, or None where calls stand in obs."""
    if not isinstance(data, AnnData):
        from mudata import MuData

        if not isinstance(data, MuData):
            raise TypeError(f"Expected an AnnData or a MuData, found {type(data).__name__}.")
        wanted = [expression_modality, *([guide_modality] if guides is None and calls_key is None else [])]
        absent = [name for name in wanted if name not in data.mod]
        if absent:
            raise ValueError(
                f"This MuData has no modality {absent[0]!r}; it has {shorten(map(repr, data.mod))}. Name the modalities "
                "with expression_modality=… and guide_modality=…."
            )
        check_no_view(data, "scapp.pp.guides_to_perturbations")
        if guides is None and calls_key is None:
            guides = data.mod[guide_modality]
        data = data.mod[expression_modality]
    if guides is not None and not (isinstance(guides, AnnData | pd.DataFrame | pd.Series | Mapping) or is_path(guides)):
        raise TypeError(
            "guides must be an AnnData of counts, cells by guides, or calls: a long table, its path, or a mapping from guide to "
            f"cells, found {type(guides).__name__}."
        )
    if (guides is None) == (calls_key is None):
        raise ValueError(
            "Pass either counts of guides (guides=…, an AnnData of cells by guides, a long table of calls, or a MuData with both) or the calls "
            "that were made from them (calls_key=…, a column of adata.obs)."
        )
    check_no_view(data, "scapp.pp.guides_to_perturbations")
    return data, guides


def _label(
    calls: Calls,
    genes: list[Genes],
    min_share: float,
    max_genes: int | None,
    max_guides: int | None,
    control: str,
    sep: str,
) -> pd.DataFrame:
    """Return label, status and guides of each cell. Cells with the same guides are looked at once."""
    held = calls.assigned
    if not held.has_sorted_indices:
        held = held.sorted_indices()  # a copy: these may be the user's counts
    rows = np.split(held.indices, held.indptr[1:-1])
    known: dict[tuple[int, ...], tuple[str, Genes]] = {}
    labels, status, names = [], [], []
    dominated = calls.share < min_share
    for row, tied, weak in zip(rows, calls.tied, dominated, strict=True):
        key = tuple(row.tolist())
        if key not in known:
            found = tuple(sorted({gene for guide in key for gene in genes[guide]}))
            known[key] = GUIDE_SEPARATOR.join(calls.guides[guide] for guide in key), found
        name, found = known[key]
        names.append(name)
        too_many = len(found) > (max_genes or np.inf) or len(key) > (max_guides or np.inf)  # both at least 1
        if tied or (key and (weak or too_many)):
            status.append(MANY)
        elif not key:
            status.append(NONE)
        else:
            status.append(PERTURBED if found else CONTROL)
        labelled = status[-1] in (PERTURBED, CONTROL)
        labels.append((format_label(found, sep=sep) or control) if labelled else None)
    return pd.DataFrame(
        {
            Key.obs.PERTURBATION: pd.Categorical(labels),
            Key.obs.GUIDE_STATUS: pd.Categorical(status, categories=STATUS),
            Key.obs.GUIDES: pd.Categorical(names),
            Key.obs.N_GUIDES: np.diff(held.indptr).astype(np.int64),
        }
    )


def _report(
    calls: Calls, genes: list[Genes], obs: pd.DataFrame, key: str, method: str, n_not_counted: int, sep: str
) -> GuidesReport:
    n = obs[Key.obs.GUIDE_STATUS].value_counts()
    perturbed = obs.loc[obs[Key.obs.GUIDE_STATUS] == PERTURBED, Key.obs.PERTURBATION]
    n_cells: NDArray[np.int64] = np.asarray(calls.assigned.sum(axis=0)).ravel().astype(np.int64)
    targets = [format_label(found, sep=sep) for found in genes]
    columns = {"target": targets, "n_cells": n_cells, "threshold": calls.thresholds}
    table = pd.DataFrame(columns, index=pd.Index(calls.guides, name="guide"))
    return GuidesReport(
        key=key,
        method=method,
        n_cells=len(obs),
        n_perturbed=int(n[PERTURBED]),
        n_control=int(n[CONTROL]),
        n_none=int(n[NONE]),
        n_many=int(n[MANY]),
        n_rare=int(n[RARE]),
        n_combined=int(perturbed.astype(str).str.contains(sep, regex=False).sum()),
        n_not_counted=n_not_counted,
        perturbations=perturbed.nunique(),
        not_fitted=calls.not_fitted,
        unused=tuple(table.index[n_cells == 0]),
        guides=table,
    )
