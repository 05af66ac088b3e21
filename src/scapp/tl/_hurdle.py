"""Compute how cells must change for the mean expression of a gene to change: how many show it, and how much of it.

Expression of a gene over cells is taken as a hurdle: a cell shows it or not, and if it does, the value is positive
:cite:p:`Finak2015`. All is on the scale log1p(counts per 10,000).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse, stats

MANY_COUNTS = 100


@dataclass(frozen=True)
class Change:
    """Change of each gene: the share of cells that show it, and a shift of the positive values, clipped at zero."""

    detected: np.ndarray
    shift: np.ndarray


@dataclass(frozen=True)
class ControlCells:
    """Expression of control cells: `values`, of shape (n_cells, n_genes)."""

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
        # What appears has the value of a control cell that shows the gene or, where there is none, of one count.
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
