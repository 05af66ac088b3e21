"""One block of an expression matrix: bringing it to the common scale, and what is seen in it.

These functions are sent to the workers of a cluster, and know nothing but the block.
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

TARGET_SUM = 10_000


@dataclass(frozen=True)
class Block:
    """A part of the matrix: some cells and some of the measured genes, float64, dense or CSR."""

    rows: slice
    columns: slice
    values: Any


@dataclass
class Findings:
    """What was seen of a matrix, or of a block of it."""

    totals: NDArray[np.float64]
    bad_in_gene: NDArray[np.int64]
    n_negative: int = 0
    n_fractions: int = 0
    largest: float = 0.0
    sources_of_counts: set[str] = field(default_factory=set)
    sources_of_fractions: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, block: Block) -> Findings:
        from scapp.pp._kernels import look_at_cells

        x = block.values
        if sparse.issparse(x):
            *seen, n_bad = look_at_cells(x.data, x.indptr)
        else:
            lengths = np.arange(len(x) + 1) * x.shape[1]
            *seen, n_bad = look_at_cells(np.ascontiguousarray(x).reshape(-1), lengths)
        if n_bad:
            columns = x.indices[~np.isfinite(x.data)] if sparse.issparse(x) else np.nonzero(~np.isfinite(x))[1]
            return cls(np.zeros(len(seen[0])), np.bincount(columns, minlength=x.shape[1]))
        totals, largest, n_negative, n_fractions = seen
        return cls(totals, np.zeros(x.shape[1], dtype=np.int64), n_negative, n_fractions, largest)

    def join(self, block: Block, found: Findings, source: str) -> None:
        self.bad_in_gene[block.columns] += found.bad_in_gene
        self.totals[block.rows] += found.totals
        self.n_negative += found.n_negative
        self.n_fractions += found.n_fractions
        if found.largest > 0:
            (self.sources_of_fractions if found.n_fractions else self.sources_of_counts).add(source)
        self.largest = max(self.largest, found.largest)


def work_on(
    values: Any,
    place: Block,
    order: NDArray[np.intp] | None,
    measured: NDArray[np.bool_] | None,
    totals: NDArray[np.float64] | bool,
    function: Callable[..., Any],
    *per_cell: NDArray[Any],
) -> Any:
    """Bring a block into shape and do something with it; `totals` True means those of the block itself, False none."""
    if order is not None:
        values = values[:, order]
    if measured is not None:
        values = values[:, measured]
    block = Block(place.rows, place.columns, _to_float64(values))
    if isinstance(function, partial) and function.func is look_and_do:
        return function(block, totals, *per_cell)
    return function(_normalised(block, totals), *per_cell)


def look_and_do(
    function: Callable[..., Any], block: Block, totals: NDArray[np.float64] | bool, *per_cell: NDArray[Any]
) -> tuple[Findings, Any]:
    found = Findings.of(block)
    if totals is True:
        totals = found.totals
    with np.errstate(all="ignore"):  # what cannot be normalised is an error at the end of the pass
        return found, function(_normalised(block, totals), *per_cell)


def _normalised(block: Block, totals: NDArray[np.float64] | bool) -> Block:
    if isinstance(totals, bool):
        return block
    return Block(block.rows, block.columns, _log_normalise(block.values, totals))


def itself(block: Block) -> Block:
    return block


def _to_float64(values: Any) -> Any:
    if not sparse.issparse(values):
        return np.asarray(values, dtype=np.float64)
    values = sparse.csr_matrix(values, dtype=np.float64)
    if not values.has_canonical_format:  # the log of a sum is not the sum of the logs
        values = values.copy()
        values.sum_duplicates()
    return values


def _log_normalise(counts: Any, totals: NDArray[np.float64]) -> Any:
    # The numbers of sc.pp.normalize_total and sc.pp.log1p, in float64; scanpy takes no totals from outside.
    scale = TARGET_SUM / totals
    if not sparse.issparse(counts):
        return np.log1p(counts * scale[:, None])
    data = np.log1p(counts.data * np.repeat(scale, np.diff(counts.indptr)))
    return sparse.csr_matrix((data, counts.indices, counts.indptr), shape=counts.shape)
