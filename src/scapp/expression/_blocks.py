"""Blocks of an expression matrix: conversion to the common scale, inspection, and sums over groups of cells.

These objects are sent to the workers of a cluster, and contain only the data of a block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.expression._expression import Expression

TARGET_SUM = 10_000


@dataclass(frozen=True)
class Block:
    """A part of the matrix: some cells and some of the measured genes, float64, dense or CSR."""

    rows: slice
    columns: slice
    values: Any


@dataclass(frozen=True)
class BlockTask:
    """Operations on the values of a block after reading.

    `source` names the matrix in messages. The block covers `rows` of all cells and `columns` of the measured genes.
    `order` has the position of each gene in this matrix (None if the order is the same), and `measured` selects genes
    (None for all). Cells are normalised by `totals`: True means those of the block itself, False none; `factor`
    converts logs of another base to natural logs. `per_cell` are arrays with one value for each cell of the block.
    """

    source: str
    rows: slice
    columns: slice
    order: NDArray[np.intp] | None
    measured: NDArray[np.bool_] | None
    totals: NDArray[np.float64] | bool
    factor: float
    per_cell: tuple[NDArray[Any], ...]

    def block(self, values: Any) -> Block:
        """Return the block in its stored form."""
        if self.order is not None:
            values = values[:, self.order]
        if self.measured is not None:
            values = values[:, self.measured]
        if not sparse.issparse(values):
            return Block(self.rows, self.columns, np.asarray(values, dtype=np.float64))
        values = sparse.csr_matrix(values, dtype=np.float64)
        if not values.has_canonical_format:  # the log of a sum is not the sum of the logs
            values = values.copy()
            values.sum_duplicates()
        return Block(self.rows, self.columns, values)

    def normalised(self, block: Block, own_totals: NDArray[np.float64] | None = None) -> Block:
        """Return the block on the scale log1p(CP10k), or the block itself if it needs no conversion."""
        totals = own_totals if self.totals is True else self.totals
        if totals is None or isinstance(totals, bool):
            return block if self.factor == 1 else Block(block.rows, block.columns, block.values * self.factor)
        counts = block.values
        # Same numbers as sc.pp.normalize_total and sc.pp.log1p, in float64; scanpy does not accept external totals.
        with np.errstate(all="ignore"):  # values that cannot be normalised raise an error at the end of the pass
            scale = TARGET_SUM / totals
            if not sparse.issparse(counts):
                return Block(block.rows, block.columns, np.log1p(counts * scale[:, None]))
            data = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr)))
        values = sparse.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
        return Block(block.rows, block.columns, values)


@dataclass
class MatrixSummary:
    """Summary of the values of a matrix seen so far.

    `sampled` holds the rows of some cells, in order; `values` holds all their nonzero values.
    """

    totals: NDArray[np.float64]
    bad_in_gene: NDArray[np.int64]
    n_negative: int = 0
    n_fractions: int = 0
    largest: float = 0.0
    sources_of_counts: set[str] = field(default_factory=set)
    sources_of_fractions: set[str] = field(default_factory=set)
    sampled: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    values: dict[int, list[NDArray[np.float64]]] = field(default_factory=dict)

    @classmethod
    def none(cls, n_obs: int, n_genes: int, sampled: NDArray[np.intp]) -> MatrixSummary:
        return cls(np.zeros(n_obs), np.zeros(n_genes, dtype=np.int64), sampled=sampled)

    def add(self, block: Block, source: str) -> NDArray[np.float64]:
        """Inspect a block in its stored form; return the totals of its cells."""
        from scapp.expression._numba import look_at_cells

        x = block.values
        if sparse.issparse(x):
            seen = look_at_cells(x.data, x.indptr)
        else:
            lengths = np.arange(len(x) + 1) * x.shape[1]
            seen = look_at_cells(np.ascontiguousarray(x).reshape(-1), lengths)
        totals, largest, n_negative, n_fractions, n_bad = seen
        if n_bad:
            columns = x.indices[~np.isfinite(x.data)] if sparse.issparse(x) else np.nonzero(~np.isfinite(x))[1]
            self.bad_in_gene[block.columns] += np.bincount(columns, minlength=x.shape[1])
        self.totals[block.rows] += totals
        self.n_negative += n_negative
        self.n_fractions += n_fractions
        self.largest = max(self.largest, largest)
        if largest > 0:
            (self.sources_of_fractions if n_fractions else self.sources_of_counts).add(source)
        if n_fractions:
            begin, end = np.searchsorted(self.sampled, [block.rows.start, block.rows.stop])
            for row in self.sampled[begin:end]:
                cell = x[row - block.rows.start]
                cell = cell.data if sparse.issparse(cell) else cell[cell != 0]
                self.values.setdefault(int(row), []).append(np.array(cell, dtype=np.float64))
        return totals

    def join(self, other: MatrixSummary) -> None:
        self.totals += other.totals
        self.bad_in_gene += other.bad_in_gene
        self.n_negative += other.n_negative
        self.n_fractions += other.n_fractions
        self.largest = max(self.largest, other.largest)
        self.sources_of_counts |= other.sources_of_counts
        self.sources_of_fractions |= other.sources_of_fractions
        for row, parts in other.values.items():
            self.values.setdefault(row, []).extend(parts)


@dataclass
class Accumulator:
    """State carried from block to block: a summary of the stored values, and sums over them."""

    findings: MatrixSummary | None
    sums: Any

    @classmethod
    def begin(cls, findings: Callable[[], MatrixSummary] | None, sums: Callable[[], GroupSums] | None) -> Accumulator:
        """Return an empty accumulator."""
        return cls(findings and findings(), sums and sums())

    @property
    def nbytes(self) -> int:
        """Size in memory of the large parts."""
        findings = 0 if self.findings is None else self.findings.totals.nbytes + self.findings.bad_in_gene.nbytes
        return findings + (0 if self.sums is None else self.sums.nbytes)

    def add(self, job: BlockTask, values: Any) -> None:
        block = job.block(values)
        own_totals = None if self.findings is None else self.findings.add(block, job.source)
        if self.sums is not None:
            self.sums.add(job.normalised(block, own_totals), *job.per_cell)

    def join(self, other: Accumulator) -> None:
        if self.findings is not None and other.findings is not None:
            self.findings.join(other.findings)
        if self.sums is not None:
            self.sums.join(other.sums)


class GroupSums:
    """Sums over the cells of each group: of the expression x, of its square, and of x times a reference of the batch.

    `n_cells` has the number of cells of each group, and `reference` one profile for each batch, shape (n_batches,
    n_genes). `values`, `squares` and `products` are the sums, float64, shape (n_groups, n_genes); `products` is None
    without a reference.
    """

    def __init__(self, n_cells: NDArray[np.intp], n_genes: int, reference: NDArray[np.float64] | None = None) -> None:
        self.n_cells, self._reference = n_cells, reference
        self._sums = [np.zeros((len(n_cells), n_genes)) for _ in range(2 if reference is None else 3)]

    @property
    def values(self) -> NDArray[np.float64]:
        return self._sums[0]

    @property
    def squares(self) -> NDArray[np.float64]:
        return self._sums[1]

    @property
    def products(self) -> NDArray[np.float64] | None:
        return self._sums[2] if len(self._sums) > 2 else None

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self._sums)

    def add(self, block: Block, *per_cell: NDArray[np.intp]) -> None:
        """Add the cells of a block, by their groups (-1 leaves a cell out) and, with a reference, their batches."""
        x, (groups, *batches) = block.values, per_cell
        if sparse.issparse(x):
            from scapp.expression._numba import add_cells

            nothing = np.zeros((0, 0))
            add_cells(
                *(x.data, x.indices, x.indptr, groups, block.columns.start, self.values, self.squares),
                *(batches or (groups,)),
                *(nothing if part is None else part for part in (self._reference, self.products)),
            )
        elif (groups >= 0).any():
            # Membership of cells in the groups that occur, so that one product sums over the cells of each group.
            cells = np.flatnonzero(groups >= 0)
            present, group = np.unique(groups[cells], return_inverse=True)
            shape = (len(present), len(groups))
            indicator = sparse.csr_matrix((np.ones(len(cells)), (group, cells)), shape=shape)
            parts = [x, x**2]
            if self._reference is not None:
                parts.append(x * self._reference[:, block.columns][batches[0]])
            for total, part in zip(self._sums, parts, strict=True):
                total[present, block.columns] += indicator @ part

    def join(self, other: GroupSums) -> None:
        """Add sums over other cells."""
        for total, part in zip(self._sums, other._sums, strict=True):
            total += part

    def means(self) -> NDArray[np.float64]:
        """Return the mean of each group; NaN for a group without cells."""
        with np.errstate(invalid="ignore"):
            return self.values / self.n_cells[:, None]

    def errors(self) -> NDArray[np.float64]:
        """Return the squared standard error of each mean: the sample variance over the number of cells; NaN below two cells."""
        n = self.n_cells[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            # In place, because these are the largest arrays there are.
            errors = self.values**2
            errors /= -n
            errors += self.squares
            np.maximum(errors, 0.0, out=errors)  # rounding errors of constant values
            errors /= n * (n - 1)
        return errors


def sum_groups(
    expression: Expression,
    groups: NDArray[np.intp],
    n_groups: int,
    *,
    reference: NDArray[np.float64] | None = None,
    batches: NDArray[np.intp] | None = None,
) -> GroupSums:
    """Sum over the cells of each group, 0 to `n_groups` - 1; -1 leaves a cell out. `batches` goes with `reference`; see `GroupSums`."""
    n_cells = np.bincount(groups[groups >= 0], minlength=n_groups)
    start = partial(GroupSums, n_cells, len(expression.genes), reference)
    return expression.add_up(start, groups, *([] if batches is None else [batches]), cells=groups >= 0)
