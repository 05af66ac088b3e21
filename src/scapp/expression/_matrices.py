"""Matrices of cells by genes from any storage, and their division into blocks for reading.

Matrices in memory, backed by HDF5 or zarr, and Dask arrays are read in the order in which they are stored: in blocks of
cells or, if stored gene by gene, of genes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import h5py
import numpy as np
from anndata import AnnData
from anndata.abc import CSCDataset, CSRDataset
from numpy.typing import NDArray
from scipy import sparse

from scapp._genes import check_layer

# Stored values per block: tens of megabytes, or hundreds for matrices in memory. Sparse blocks have an index, and are
# summed faster if large, because they contain more cells of each perturbation. Matrices in memory need no copy of their
# index.
VALUES_IN_BLOCK = {"dense": 2**21, "sparse on disk": 2**22, "sparse": 2**24}
# Blocks of a Dask array to fetch at a time, for each thread or worker: enough to keep all busy, but few enough to
# limit memory.
BLOCKS_PER_THREAD = 4


@dataclass(frozen=True)
class Piece:
    """A block before reading: rows among those of all matrices, and columns of this matrix."""

    rows: slice
    columns: slice
    read: Any


@dataclass(frozen=True)
class Source:
    """A matrix, its name for messages, its first row, and the order of its genes relative to the first matrix."""

    matrix: Any
    name: str
    begin: int = 0
    order: NDArray[np.intp] | None = None
    chunk_size: int | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape

    @property
    def by_genes(self) -> bool:
        """Tell whether the matrix is divided by genes."""
        if is_dask(self.matrix):
            return len(self.matrix.chunks[0]) == 1 and len(self.matrix.chunks[1]) > 1
        return getattr(self.matrix, "format", "csr") == "csc"

    def pieces(self) -> Iterator[Piece]:
        """Return all blocks, in order."""
        n_obs, n_vars = self.shape
        if is_dask(self.matrix):
            ends = [np.concatenate([[0], np.cumsum(sizes)]).tolist() for sizes in self.matrix.chunks]
            blocks = self.matrix.to_delayed()
            for i, j in np.ndindex(blocks.shape):
                yield Piece(self._rows(*ends[0][i : i + 2]), slice(*ends[1][j : j + 2]), blocks[i, j])
        elif self.by_genes:
            for columns in _parts(n_vars, self._block_length(n_vars, n_obs)):
                yield Piece(self._rows(0, n_obs), columns, (slice(0, n_obs), columns))
        else:
            for rows in _parts(n_obs, self._block_length(n_obs, n_vars)):
                yield Piece(self._rows(rows.start, rows.stop), slice(0, n_vars), (rows, slice(0, n_vars)))

    def read(self, piece: Piece) -> Any:
        """Return the values of a block; ValueError if this part of the file cannot be read."""
        if is_dask(self.matrix):
            return piece.read.compute()
        if sparse.issparse(self.matrix) and not self.by_genes:
            rows = piece.read[0]
            ends = self.matrix.indptr[rows.start : rows.stop + 1]
            values = slice(ends[0], ends[-1])  # a view, without a copy
            parts = (self.matrix.data[values], self.matrix.indices[values], ends - ends[0])
            return sparse.csr_matrix(parts, shape=(len(ends) - 1, self.matrix.shape[1]))
        try:
            return self.matrix[piece.read]
        except OSError as error:
            raise ValueError(
                f"{self.name} cannot be read from cell {piece.rows.start - self.begin} on: the file is truncated or "
                f"damaged ({error}). Fetch or write it again."
            ) from error

    def read_all(self, pieces: Iterable[Piece]) -> Iterator[Any]:
        """Return the values of several blocks, in order; blocks of a Dask array are fetched in small numbers."""
        if not is_dask(self.matrix):
            yield from map(self.read, pieces)
            return
        import dask

        from scapp.expression._dask import threads_of_processes

        waiting = iter(pieces)
        while window := list(islice(waiting, BLOCKS_PER_THREAD * sum(threads_of_processes()))):
            yield from dask.compute(*(piece.read for piece in window))

    def _block_length(self, length: int, width: int) -> int:
        """Return the number of cells or genes per block; `width` is the length of each."""
        if self.chunk_size is not None:
            n_obs, n_vars = self.shape
            return self.chunk_size * n_vars // max(n_obs, 1) if self.by_genes else self.chunk_size
        if isinstance(self.matrix, CSRDataset | CSCDataset):
            kind, stored = "sparse on disk", self.matrix.group["data"].shape[0]
        elif sparse.issparse(self.matrix):
            kind, stored = "sparse", self.matrix.nnz
        else:
            kind, stored = "dense", length * width
        return int(VALUES_IN_BLOCK[kind] * length / max(stored, 1))

    def _rows(self, start: int, stop: int) -> slice:
        return slice(self.begin + start, self.begin + stop)


def _is_reversed(view: AnnData) -> bool:
    """Return whether a view takes cells or genes in descending order: h5py cannot, and anndata 0.13 loses one of them."""
    indices = (getattr(view, name, None) for name in ("_oidx", "_vidx"))
    return any(isinstance(index, slice) and (index.step or 1) < 0 for index in indices)


def get_matrix(adata: AnnData, layer: str | None, chunk_size: int | None = None, where: str = "") -> tuple[Any, str]:
    """Return `X` or a layer in its stored form, and its name for messages.

    ValueError if there is none, TypeError if it is of a kind that cannot be read by blocks.
    """
    name = ("adata.X" if layer is None else f"adata.layers[{layer!r}]") + where
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"chunk_size must be at least 1, found {chunk_size}.")
    check_layer(adata, layer, "Name one with layer=…; layer=None reads adata.X.", f"adata{where}")
    if layer is None and adata.is_view and adata.isbacked and _is_reversed(adata):
        raise ValueError(
            f"{name} is a view of a file in an order that cannot be read from it, such as `adata[::-1]`. Take the cells and genes in "
            "their order in the file, or bring all into memory first: `adata.to_memory()[::-1]`."
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise ValueError(f"adata.X is empty (None){where}. Name the layer that holds the expression with layer=….")
    if is_dask(matrix):
        return _in_order(matrix, chunk_size, name), name
    known = isinstance(matrix, np.ndarray | h5py.Dataset | CSRDataset | CSCDataset) or _is_a(matrix, "zarr", "Array")
    if not (known or sparse.issparse(matrix)):
        raise TypeError(
            f"{name} is a {type(matrix).__module__}.{type(matrix).__name__}, which cannot be read here. "
            "Bring the data into memory first: `adata = adata.to_memory()`."
        )
    if sparse.issparse(matrix) and matrix.format not in ("csr", "csc"):
        matrix = matrix.tocsr()
    return matrix, name


def in_memory(matrix: Any) -> Any:
    """Return an array, reading it if it is on disk, lazy, or an annotation of these."""
    for method in ("to_memory", "compute"):
        if hasattr(matrix, method):
            return getattr(matrix, method)()
    on_disk = isinstance(matrix, h5py.Dataset) or _is_a(matrix, "zarr", "Array")
    return matrix[()] if on_disk else matrix


def is_dask(matrix: Any) -> bool:
    """Return whether this is a Dask array; Dask is not imported to find out."""
    return _is_a(matrix, "dask.array", "Array")


def _is_a(value: Any, module: str, name: str) -> bool:
    return module in sys.modules and isinstance(value, getattr(sys.modules[module], name))


def _in_order(matrix: Any, chunk_size: int | None, name: str) -> Any:
    """Return a Dask array whose chunks hold whole cells, or whole genes where it is stored gene by gene.

    Chunks are joined, not cut: a part of one costs as much memory as all of it.
    """
    if np.isnan(matrix.shape).any():
        raise ValueError(f"The shape of {name} is not known, {matrix.shape}. Call `X.compute_chunk_sizes()` first.")
    if len(matrix.chunks[0]) == 1:
        return matrix
    first, *others = matrix.chunks[0]
    joined = [first]
    for size in others:
        if joined[-1] + size <= (chunk_size or 1):
            joined[-1] += size
        else:
            joined.append(size)
    return matrix.rechunk({0: tuple(joined), 1: -1})


def _parts(length: int, size: int) -> list[slice]:
    size = max(size, 1)
    return [slice(start, min(start + size, length)) for start in range(0, length, size)]
