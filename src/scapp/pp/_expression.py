"""Reading the expression of cells block by block, on one scale: the natural log of counts per 10,000 plus one.

A matrix is never held twice. Dense, CSR and backed matrices are read by blocks of cells, CSC by blocks of genes, so
that each is read in the order in which it is stored. A first pass looks at every value and recognises what the matrix
holds; only then are blocks handed out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
from anndata.abc import CSCDataset, CSRDataset
from scipy import sparse

from scapp._genes import measured_mask, shorten
from scapp.pp._labels import column_of_obs

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

TARGET_SUM = 10_000
LARGEST_LOG_CP10K = float(np.log1p(TARGET_SUM))
# No log of a count of molecules in a cell comes near this, whatever the base and the library size it is scaled to.
LARGEST_LOG = 20.0
VALUES_IN_BLOCK = {"dense": 2**21, "sparse": 2**23}


class Scale(StrEnum):
    """What an expression matrix holds."""

    COUNTS = "raw counts"
    LOG_NORMALISED = "log-normalised"


@dataclass(frozen=True)
class Block:
    """A part of the matrix: some cells and some of the measured genes, float64, dense or CSR."""

    rows: slice
    columns: slice
    values: Any


@dataclass
class _Findings:
    """What the first pass over a matrix saw."""

    totals: NDArray[np.float64]
    bad_in_gene: NDArray[np.int64]
    n_negative: int = 0
    n_fractions: int = 0
    largest: float = 0.0


class Expression:
    """The measured expression of all cells, checked, and handed out in blocks on the scale log1p(CP10k).

    Parameters
    ----------
    adata
        Cells by genes, in memory or backed, a view or not. It is only read.
    layer
        Layer to read; `X` if None.
    total_counts_key
        Column of ``adata.obs`` with the total counts of each cell, for raw counts of a part of the genes. If None, the
        total is taken over the measured genes of the matrix.
    chunk_size
        How many cells are read at a time (for CSC: genes that amount to as many values). If None, a block takes some
        tens of megabytes.

    Raises
    ------
    ValueError
        If the matrix is absent, or holds NaN, infinite or negative values, or values that were normalised and not
        logged, or counts of cells that are empty; if the total counts do not fit.
    TypeError
        If the matrix is of a kind that cannot be read by blocks.
    """

    def __init__(
        self,
        adata: AnnData,
        *,
        layer: str | None = None,
        total_counts_key: str | None = None,
        chunk_size: int | None = None,
    ) -> None:
        self.measured = measured_mask(adata)
        self.genes = adata.var_names[self.measured]
        self._matrix, self.name = get_matrix(adata, layer)
        self._slices = _slices(self._matrix, chunk_size)
        if not len(self.genes):
            raise ValueError("No gene of adata was measured, by adata.var['measured']: there is nothing to read.")

        findings = self._inspect()
        self.largest = findings.largest
        self.scale = self._recognise(findings)
        self._totals: NDArray[np.float64] | None = None
        if self.scale is Scale.COUNTS:
            self._totals = self._check_totals(adata, findings.totals, total_counts_key)
        elif total_counts_key is not None:
            raise ValueError(
                f"total_counts_key={total_counts_key!r} is used to normalise raw counts, but {self.name} holds "
                "log-normalised values already. Leave it out, or name the layer of the raw counts with layer=…."
            )

    @property
    def other_scale(self) -> str | None:
        """A sentence for the user if the logged values cannot be those of counts per 10,000; otherwise None."""
        if self.scale is Scale.COUNTS or self.largest <= LARGEST_LOG_CP10K + 1e-3:
            return None
        return (
            f"The largest value of {self.name} is {self.largest:.2f}, but log1p of counts per 10,000 is at most "
            f"{LARGEST_LOG_CP10K:.2f}: these are logs on another scale. They are taken as they are; effects on the usual "
            "scale need `sc.pp.normalize_total(adata, target_sum=1e4)` and `sc.pp.log1p(adata)` from the counts."
        )

    def blocks(self, cells: NDArray[np.bool_] | None = None, *, normalise: bool = True) -> Iterator[Block]:
        """All blocks of the measured genes, on the scale log1p(CP10k).

        Parameters
        ----------
        cells
            If given, blocks without any of these cells are left out.
        normalise
            If False, raw counts are handed out as they are.
        """
        for block in self._raw_blocks(cells):
            if self._totals is None or not normalise:
                yield block
            else:
                yield Block(block.rows, block.columns, _log_normalise(block.values, self._totals[block.rows]))

    def _raw_blocks(self, cells: NDArray[np.bool_] | None = None) -> Iterator[Block]:
        position = np.concatenate([[0], np.cumsum(self.measured)])
        for rows, columns in self._slices:
            if cells is not None and not cells[rows].any():
                continue
            values = self._matrix[rows, columns]
            measured = self.measured[columns]
            if not measured.all():
                values = values[:, measured]
            genes = slice(int(position[columns.start]), int(position[columns.stop]))
            yield Block(rows, genes, _to_float64(values))

    def _inspect(self) -> _Findings:
        n_obs = self._matrix.shape[0]
        findings = _Findings(np.zeros(n_obs), np.zeros(len(self.genes), dtype=np.int64))
        for block in self._raw_blocks():
            stored = block.values.data if sparse.issparse(block.values) else block.values
            finite = np.isfinite(stored)
            if not finite.all():
                columns = block.values.indices[~finite] if sparse.issparse(block.values) else np.nonzero(~finite)[1]
                findings.bad_in_gene[block.columns] += np.bincount(columns, minlength=block.values.shape[1])
                continue
            findings.n_negative += int((stored < 0).sum())
            findings.n_fractions += int((stored != np.rint(stored)).sum())
            findings.largest = max(findings.largest, float(stored.max(initial=0.0)))
            findings.totals[block.rows] += np.asarray(block.values.sum(axis=1)).ravel()
        return findings

    def _recognise(self, findings: _Findings) -> Scale:
        if findings.bad_in_gene.any():
            bad = self.genes[findings.bad_in_gene > 0]
            raise ValueError(
                f"{self.name} holds {findings.bad_in_gene.sum()} NaN or infinite values, in {len(bad)} gene(s): "
                f"{shorten(bad)}. Replace them, or leave these genes out. (Genes that were not measured are marked by "
                "False in adata.var['measured'], as `scapp.pp.add_unmeasured_genes` does.)"
            )
        if findings.n_negative:
            raise ValueError(
                f"{self.name} holds {findings.n_negative} negative values, so it is neither raw counts nor "
                "log-normalised expression; it looks like log-fold-changes, or like data that were scaled. "
                "If these are log-fold-changes, one observation a perturbation, they need no pseudobulk: pass "
                "control=None, also to `scapp.model.APP.setup_anndata`. If they were scaled (`sc.pp.scale`), name the "
                "layer of the counts or of the log-normalised values with layer=…."
            )
        if not findings.n_fractions:
            return Scale.COUNTS
        if findings.largest > LARGEST_LOG:
            raise ValueError(
                f"{self.name} holds fractions and values as large as {findings.largest:.4g}: it was normalised, it "
                "seems, but not logged. Take the log with `sc.pp.log1p(adata)`, after "
                "`sc.pp.normalize_total(adata, target_sum=1e4)`; or, if these are counts that were estimated or "
                "corrected, round them to whole numbers."
            )
        return Scale.LOG_NORMALISED

    def _check_totals(
        self, adata: AnnData, sums: NDArray[np.float64], total_counts_key: str | None
    ) -> NDArray[np.float64]:
        if total_counts_key is None:
            empty = int((sums == 0).sum())
            if empty:
                raise ValueError(
                    f"{empty} of the {adata.n_obs} cells have no counts in the {len(self.genes)} measured genes of "
                    f"{self.name}, so they cannot be normalised. Leave them out with "
                    "`sc.pp.filter_cells(adata, min_counts=1)`, or name the column of adata.obs with the total counts "
                    "of each cell over all genes with total_counts_key=…."
                )
            return sums
        column = column_of_obs(adata, total_counts_key, "total_counts_key")
        if not pd.api.types.is_numeric_dtype(column.dtype):
            raise ValueError(f"adata.obs[{total_counts_key!r}] must hold total counts, found dtype {column.dtype}.")
        totals = column.to_numpy(dtype=np.float64)
        wrong = ~np.isfinite(totals) | (totals <= 0) | (totals < sums)
        if wrong.any():
            raise ValueError(
                f"adata.obs[{total_counts_key!r}] cannot be the total counts: in {wrong.sum()} of the {adata.n_obs} "
                f"cells it is zero, infinite or less than the sum of the counts in {self.name}, as in the cell "
                f"{adata.obs_names[wrong][0]!r} ({totals[wrong][0]:.4g}, sum {sums[wrong][0]:.4g}). Name the right "
                "column, or leave total_counts_key out."
            )
        return totals


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


def get_matrix(adata: AnnData, layer: str | None) -> tuple[Any, str]:
    """`X` or a layer, as it is stored, and its name for messages; see :class:`Expression` for what is raised."""
    name = "adata.X" if layer is None else f"adata.layers[{layer!r}]"
    if layer is not None and layer not in adata.layers:
        layers = shorten(repr(key) for key in adata.layers if isinstance(key, str)) or "none"
        raise ValueError(f"adata has no layer {layer!r}. Its layers: {layers}; layer=None reads adata.X.")
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise ValueError("adata.X is empty (None). Name the layer that holds the expression with layer=….")
    if not (isinstance(matrix, np.ndarray | h5py.Dataset | CSRDataset | CSCDataset) or sparse.issparse(matrix)):
        raise TypeError(
            f"{name} is a {type(matrix).__module__}.{type(matrix).__name__}, which cannot be read here. "
            "Bring the data into memory first: `adata = adata.to_memory()`."
        )
    if sparse.issparse(matrix) and matrix.format not in ("csr", "csc"):
        matrix = matrix.tocsr()
    return matrix, name


def _slices(matrix: Any, chunk_size: int | None) -> list[tuple[slice, slice]]:
    """How a matrix is cut: by cells, or by genes if it is stored gene by gene."""
    n_obs, n_vars = matrix.shape
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, found {chunk_size}.")
    kind = "dense" if isinstance(matrix, np.ndarray | h5py.Dataset) else "sparse"
    values = VALUES_IN_BLOCK[kind] if chunk_size is None else chunk_size * n_vars
    if getattr(matrix, "format", "csr") == "csc":
        return [(slice(0, n_obs), part) for part in _parts(n_vars, values // max(n_obs, 1))]
    return [(part, slice(0, n_vars)) for part in _parts(n_obs, values // max(n_vars, 1))]


def _parts(length: int, size: int) -> list[slice]:
    size = max(size, 1)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
