"""Cells as they would look under perturbations that nobody has measured."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse, stats

from scapp._checked import checked
from scapp._genes import check_gene_names, measured_mask, shorten
from scapp._keys import Key
from scapp._labels import column_of_obs, parse_labels, read_perturbations
from scapp.expression import TARGET_SUM, Expression, Scale
from scapp.tl._rows import dense

logger = logging.getLogger(__name__)

MANY_COUNTS = 100


@checked(own=("predictions", "n_cells"))
def sample_cells(
    adata: AnnData,
    predictions: AnnData,
    *,
    n_cells: int | Mapping[str, int] | pd.Series = 100,
    perturbation_key: str = "perturbation",
    control: str = "control",
    sep: str = "+",
    layer: str | None = None,
    total_counts_key: str | None = None,
    include_control: bool = True,
    counts: bool = False,
    seed: int = 0,
) -> AnnData:
    r"""Sample cells of predicted perturbations by shifting control cells by the predicted effect.

    Each cell starts as a control cell, drawn with replacement, and so has realistic noise, library size and batch. The
    effect moves the mean :math:`m` of each gene over all control cells to :math:`m' = \max(m + \Delta y, 0)`, by
    changing both the number of cells that express the gene and how strongly they do :cite:p:`Finak2015`:

    1. The rate of the gene changes by :math:`f = \lambda(m') / \lambda(m)`, where :math:`\lambda(m)` is the mean count
       in a cell of typical size if counts are Poisson and the mean expression is :math:`m`.
    2. The share of cells without the gene changes from :math:`\pi` to :math:`\pi^f`, as for Poisson counts in each
       cell: cells drawn at random lose the gene, or gain it with the value of another control cell. A gene that no
       control cell expresses appears with the value of one count, in the share :math:`1 - e^{-\lambda(m')}` of the
       cells.
    3. The positive values are shifted, and clipped at zero, so that the mean over all cells is :math:`m'`.

    The mean over many sampled cells is therefore the predicted mean, and zeros are about as frequent as in a real screen.
    The cells contain nothing beyond the prediction: all cells of a perturbation respond alike, and genes covary as in
    control cells.

    Parameters
    ----------
    adata
        Cells of a screen, including control cells, as raw counts or log1p(counts per 10,000). It is not changed.
    predictions
        Predictions with one observation per perturbation and ``layers["predicted_lfc"]``, from
        :meth:`scapp.model.APP.predict` or a baseline.
    n_cells
        Number of cells per perturbation: one number, or one for each label, as from ``value_counts()``.
    perturbation_key, control, sep
        Column of ``adata.obs`` with the labels, label of the control cells, and separator between the genes of a
        combination.
    layer
        Layer of `adata` with the expression; `X` if None.
    total_counts_key
        Column of ``adata.obs`` with the total counts of each cell, if the matrix holds raw counts for only some of the
        genes.
    include_control
        Whether to include the unchanged control cells in the result.
    counts
        Whether to add ``layers["counts"]``: integers that correspond to `X` at the total counts of the control cell,
        rounded up or down at random so that the mean is preserved. Needs raw counts.
    seed
        The same seed gives the same cells.

    Returns
    -------
    AnnData of the sampled cells, perturbation by perturbation, over the genes that were predicted:

    - `X`: log1p(counts per 10,000), csr float32
    - ``layers["counts"]``: whole numbers, if `counts`
    - ``obs``: the columns of ``adata.obs`` with the values of the control cell, the label of the perturbation in
      `perturbation_key`. A column that is constant over control cells but not over other cells describes the
      perturbation, so it gets the value of the cells with that label, or is missing if there are none.
    - ``obs["source_cell"]``: name of the control cell
    - ``var``: that of `adata`

    Raises
    ------
    ValueError
        If there are no control cells; if predictions have no log-fold-changes, contain a perturbation twice, or have
        genes that `adata` lacks; if gene names occur twice; if a number of cells is missing, below one or not whole; or
        if counts are requested but `adata` has none.
    TypeError
        If `predictions` is not an AnnData.

    Examples
    --------
    >>> predicted = model.predict(["KLF1+MAP2K6", "GATA1"])
    >>> sampled = scapp.tl.sample_cells(cells, predicted, n_cells=200)
    >>> sc.pp.pca(sampled)
    >>> sc.pp.neighbors(sampled)
    >>> sc.tl.umap(sampled)
    """
    perturbations = read_perturbations(
        adata, perturbation_key=perturbation_key, control=control, sep=sep, effects_allowed=False
    )
    check_gene_names(adata)
    if not isinstance(predictions, AnnData):
        raise TypeError(
            f"Expected predictions as an AnnData, found {type(predictions).__name__}. Pass what `model.predict(names)` returns."
        )
    labels = _labels(predictions, perturbation_key)
    parsed = parse_labels(labels, control=control, sep=sep, genes=adata.var_names)
    numbers = _numbers(n_cells, labels)
    genes, lfc = _effects(predictions, adata)
    controls = adata[[not p for p in perturbations]].to_memory()
    values, raw, totals = _read(controls, layer, total_counts_key)
    if counts and raw is None:
        raise ValueError(
            "counts=True needs raw counts, and the expression is log-normalised; name their layer with layer=…."
        )
    columns = controls.var_names[measured_mask(controls)].get_indexer(genes)
    cells = ControlCells(values[:, columns])

    rng = np.random.default_rng(seed)
    source = [rng.integers(controls.n_obs, size=n) for n in numbers]
    blocks = [cells.sample(rows, cells.change(row), rng) for rows, row in zip(source, lfc, strict=True)]
    rows = np.concatenate(source)
    X = sparse.vstack([sparse.csr_matrix(block.astype(np.float32)) for block in blocks], format="csr")
    obs = _obs(adata, perturbations, labels, parsed, rows, numbers, perturbation_key)
    obs.index = pd.Index([f"{label}-{i}" for label, n in zip(labels, numbers, strict=True) for i in range(n)])
    obs[Key.obs.SOURCE_CELL] = controls.obs_names[rows].to_numpy()
    found = AnnData(X=X, obs=obs, var=adata.var.loc[genes].copy())
    if counts and raw is not None:
        found.layers[Key.layers.COUNTS] = _as_counts(X, totals[rows], rng)
    if not include_control:
        return found
    as_they_are = AnnData(X=cells.values.astype(np.float32), obs=controls.obs.copy(), var=found.var.copy())
    as_they_are.obs[Key.obs.SOURCE_CELL] = controls.obs_names.to_numpy()
    if counts and raw is not None:
        as_they_are.layers[Key.layers.COUNTS] = raw[:, columns].astype(np.float32)
    return ad.concat([as_they_are, found], merge="same")


def _labels(predictions: AnnData, key: str) -> list[str]:
    labels = predictions.obs[key].astype(str) if key in predictions.obs else pd.Series(predictions.obs_names)
    if not len(labels):
        raise ValueError("There are no predictions: predictions has no observations.")
    twice = labels[labels.duplicated()].unique()
    if len(twice):
        raise ValueError(
            f"{len(twice)} perturbation(s) have more than one prediction ({shorten(twice)}). Pass one observation a "
            "perturbation, as `model.predict(names)` returns it."
        )
    return labels.tolist()


def _numbers(n_cells: int | Mapping[str, int] | pd.Series, labels: list[str]) -> list[int]:
    if isinstance(n_cells, pd.Series):
        n_cells = n_cells.to_dict()
    if isinstance(n_cells, Mapping):
        absent = [label for label in labels if label not in n_cells]
        if absent:
            raise ValueError(f"n_cells says nothing of {len(absent)} predicted perturbation(s): {shorten(absent)}.")
    numbers = [n_cells[label] if isinstance(n_cells, Mapping) else n_cells for label in labels]
    wrong = [number for number in numbers if number < 1 or number != int(number)]
    if wrong:
        raise ValueError(f"n_cells must be a whole number, at least 1; found {wrong[0]}.")
    return list(map(int, numbers))


def _effects(predictions: AnnData, adata: AnnData) -> tuple[pd.Index, np.ndarray]:
    """Return the genes that were predicted, and the log-fold-changes of each perturbation."""
    if Key.layers.PREDICTED_LFC not in predictions.layers:
        raise ValueError(
            f"predictions.layers has no {Key.layers.PREDICTED_LFC!r}. Pass what `model.predict(names)` returns, or name your "
            f"log-fold-changes so."
        )
    measured = measured_mask(predictions)
    genes = predictions.var_names[measured]
    here = adata.var_names[measured_mask(adata)]
    absent = genes.difference(here, sort=False)
    if len(absent):
        raise ValueError(
            f"{len(absent)} of {len(genes)} predicted genes were not measured in these cells: {shorten(absent)}. Pass cells with "
            "all of them, or the predictions of those there are: `predictions[:, predictions.var_names.isin(adata.var_names)]`."
        )
    lfc = dense(predictions.layers[Key.layers.PREDICTED_LFC])[:, measured]
    bad = ~np.isfinite(lfc).all(axis=1)
    if bad.any():
        names = predictions.obs_names[bad]
        raise ValueError(
            f"The predicted log-fold-changes of {int(bad.sum())} perturbation(s) are not finite: {shorten(names)}."
        )
    left_out = len(here) - len(genes)
    if left_out:
        logger.info("%d genes of these cells were not predicted and are left out.", left_out)
    return genes, lfc


def _read(
    controls: AnnData, layer: str | None, total_counts_key: str | None
) -> tuple[sparse.csr_matrix, sparse.csr_matrix | None, np.ndarray]:
    """Return log-normalised expression of the measured genes, and raw counts with the totals of cells, if available."""
    expression = Expression(controls, layer=layer, total_counts_key=total_counts_key)
    shape = (controls.n_obs, len(expression.genes))
    values = _assemble(expression.blocks(), shape)
    if expression.scale is not Scale.COUNTS:
        return values, None, np.empty(0)
    raw = _assemble(expression.blocks(normalise=False), shape)
    if total_counts_key is None:
        return values, raw, np.asarray(raw.sum(axis=1)).ravel()
    totals = column_of_obs(controls, total_counts_key, "total_counts_key").to_numpy(dtype=np.float64)
    return values, raw, totals


def _assemble(blocks: Any, shape: tuple[int, int]) -> sparse.csr_matrix:
    parts = [(block.rows, block.columns, sparse.csr_matrix(block.values)) for block in blocks]
    if all(columns.stop - columns.start == shape[1] for _, columns, _ in parts):
        return sparse.vstack([values for _, _, values in parts], format="csr")
    return sparse.hstack([values for _, _, values in parts], format="csr")  # a matrix that is stored gene by gene


def _as_counts(X: sparse.csr_matrix, totals: np.ndarray, rng: np.random.Generator) -> sparse.csr_matrix:
    expected = np.expm1(X.data.astype(np.float64)) * np.repeat(totals / TARGET_SUM, np.diff(X.indptr))
    whole = np.floor(expected + rng.random(len(expected))).astype(np.float32)
    counts = sparse.csr_matrix((whole, X.indices.copy(), X.indptr.copy()), shape=X.shape)
    counts.eliminate_zeros()
    return counts


def _obs(
    adata: AnnData,
    perturbations: list,
    labels: list[str],
    parsed: list,
    source: np.ndarray,
    numbers: list[int],
    key: str,
) -> pd.DataFrame:
    """Return the columns of the cells, with the values of the control cell or, where they describe it, of the perturbation."""
    is_control = np.array([not genes for genes in perturbations])
    controls, rest = adata.obs[is_control], adata.obs[~is_control]
    obs = controls.iloc[source].reset_index(drop=True)
    group = pd.Series([p for p in perturbations if p], index=rest.index, dtype=object)
    for name in obs.columns.drop(key):
        constant = controls[name].nunique(dropna=False) == 1
        if constant and len(rest) and not rest[name].isin([controls[name].iloc[0]]).all():
            obs[name] = _of_perturbations(rest[name], group, parsed).repeat(numbers).reset_index(drop=True)
    names = np.repeat(np.array(labels, dtype=object), numbers)
    obs[key] = pd.Categorical(names) if isinstance(adata.obs[key].dtype, pd.CategoricalDtype) else names
    return obs


def _of_perturbations(column: pd.Series, group: pd.Series, parsed: list) -> pd.Series:
    """Return the value of each perturbation, missing where its cells do not agree or there are none."""
    found: dict[tuple, Any] = {}
    for genes, values in column.groupby(group, observed=True):
        if values.nunique(dropna=False) == 1:
            found[genes] = values.iloc[0]
    values = pd.Series([found.get(genes) for genes in parsed], dtype=object)
    if not values.isna().any() or isinstance(column.dtype, pd.CategoricalDtype):
        return values.astype(column.dtype)
    if pd.api.types.is_bool_dtype(column.dtype):
        return values.astype("boolean")
    return values.astype(np.float64) if pd.api.types.is_numeric_dtype(column.dtype) else values


@dataclass(frozen=True)
class Change:
    """Change of each gene: the share of cells that show it, and a shift of the positive values, clipped at zero."""

    detected: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class ControlCells:
    """Expression of control cells: `values`, of shape (n_cells, n_genes), log1p(counts per 10,000).

    How many cells show a gene and how much of it is taken as a hurdle: a cell shows it or not, and if it does, the value is
    positive :cite:p:`Finak2015`.
    """

    values: sparse.csr_matrix

    @cached_property
    def by_gene(self) -> sparse.csc_matrix:
        """The same, with the positive values of each gene in ascending order (the cells they belong to are lost)."""
        found = self.values.tocsc(copy=True)
        found.eliminate_zeros()
        for start, stop in zip(found.indptr[:-1], found.indptr[1:], strict=True):
            found.data[start:stop].sort()
        return found

    @cached_property
    def mean(self) -> np.ndarray:
        """Mean of each gene, of shape (n_genes,)."""
        return np.asarray(self.values.mean(axis=0)).ravel()

    @cached_property
    def detected(self) -> np.ndarray:
        """Share of cells with a positive value, of shape (n_genes,)."""
        return np.diff(self.by_gene.indptr) / self.values.shape[0]

    @cached_property
    def one_count(self) -> float:
        """Value of one count in a typical cell: the median over cells of the smallest positive value."""
        rows = self.values
        smallest = [rows.data[a:b].min() for a, b in zip(rows.indptr[:-1], rows.indptr[1:], strict=True) if b > a]
        return float(np.median(smallest))

    @cached_property
    def rates(self) -> tuple[np.ndarray, np.ndarray]:
        """Expected counts of a gene in a typical cell, and the mean expression that they lead to, both rising."""
        rate = np.concatenate([[0], np.geomspace(1e-5, 1e6, 400)])
        one = np.expm1(self.one_count)
        few = rate < MANY_COUNTS
        counts = np.arange(10 * MANY_COUNTS)
        of_few = stats.poisson.pmf(counts, rate[few, None]) @ np.log1p(counts * one)
        many = rate[~few]  # where the logarithm is as good as straight over the counts that occur
        of_many = np.log1p(many * one) - many * one**2 / (2 * (1 + many * one) ** 2)
        return rate, np.concatenate([of_few, of_many])

    def rate(self, mean: np.ndarray) -> np.ndarray:
        """Return expected counts in a typical cell of genes with this mean expression."""
        rate, expected = self.rates
        return np.interp(mean, expected, rate)

    def change(self, lfc: np.ndarray) -> Change:
        r"""Bring the mean of each gene to :math:`m' = \max(m + \Delta y, 0)`; see :func:`scapp.tl.sample_cells`."""
        mean, before = self.mean, self.detected
        target = np.maximum(mean + lfc, 0)
        shown = before > 0
        rate = self.rate(target)
        factor = np.divide(rate, self.rate(mean), out=np.ones_like(rate), where=shown)
        after = np.where(shown, 1 - (1 - before) ** factor, 1 - np.exp(-rate))
        level = np.divide(target, after, out=np.zeros_like(target), where=after > 0)
        positive = np.divide(mean, before, out=np.full_like(mean, self.one_count), where=shown)
        shift = level - positive
        data, start = self.by_gene.data, self.by_gene.indptr
        for gene in np.flatnonzero(shown & (after > 0)):
            values = data[start[gene] : start[gene + 1]]
            if values[0] + shift[gene] < 0:
                shift[gene] = clipped_shift(values, level[gene])
        return Change(after, shift)

    def sample(self, rows: np.ndarray, change: Change, rng: np.random.Generator) -> np.ndarray:
        """Make cells of the control cells `rows`: dense, of shape (n_rows, n_genes)."""
        found = self.values[rows].toarray()
        present = found > 0
        before, after = self.detected, change.detected
        lost = np.divide(before - after, before, out=np.zeros_like(before), where=after < before)
        gained = np.divide(after - before, 1 - before, out=np.zeros_like(before), where=after > before)
        draw = rng.random(found.shape)
        stays, appears = present & (draw >= lost), ~present & (draw < gained)
        # A gene that appears gets the value of a control cell that expresses it or, if there is none, of one count.
        genes = np.nonzero(appears)[1]
        start = self.by_gene.indptr
        n_positive = np.diff(start)[genes]
        index = start[genes] + (rng.random(len(genes)) * n_positive).astype(np.int64)
        values = np.full(len(genes), self.one_count)
        values[n_positive > 0] = self.by_gene.data[index[n_positive > 0]]
        found[appears] = values
        return np.where(stays | appears, np.maximum(found + change.shift, 0), 0)


def clipped_shift(values: np.ndarray, mean: float) -> float:
    """Return the shift s for which the mean of max(values + s, 0) is `mean`; `values` in ascending order, `mean` > 0."""
    n = len(values)
    tail = np.cumsum(values[::-1])[::-1]  # sum of the values from each on
    shifts = (mean * n - tail) / np.arange(n, 0, -1)  # if those before it are clipped
    return float(shifts[np.flatnonzero(values + shifts >= 0)[0]])
