"""Sums over groups of cells, in one pass over the blocks of a matrix."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.expression._blocks import Block
    from scapp.expression._expression import Expression


class GroupSums:
    """Sums over the cells of each group, of the expression x, of x squared, and of x times a reference.

    Parameters
    ----------
    n_cells
        Cells of each group, shape (n_groups,).
    n_genes
        How many genes there are.
    reference
        Reference profiles r, one for each batch, of shape (n_batches, n_genes), for the sums of x times r; optional.

    Attributes
    ----------
    values, squares, products
        The sums, float64 of shape (n_groups, n_genes); `products` is None without a reference.
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
            present, indicator = _indicator(groups)
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
            np.maximum(errors, 0.0, out=errors)  # rounding of what does not vary
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
    """Sum over the cells of each group.

    Parameters
    ----------
    expression
        The cells.
    groups
        Group of each cell, from 0; -1 leaves the cell out. Shape (n_obs,).
    n_groups
        How many groups there are.
    reference
        Reference profiles, as in `GroupSums`; optional.
    batches
        Batch of each cell, shape (n_obs,); goes with `reference`.
    """
    n_cells = np.bincount(groups[groups >= 0], minlength=n_groups)
    start = partial(GroupSums, n_cells, len(expression.genes), reference)
    return expression.add_up(start, groups, *([] if batches is None else [batches]), cells=groups >= 0)


def _indicator(groups: NDArray[np.intp]) -> tuple[NDArray[np.intp], sparse.csr_matrix]:
    """Return the groups that occur, and which cells belong to each, so that one product sums over the cells of each group."""
    cells = np.flatnonzero(groups >= 0)
    present, group = np.unique(groups[cells], return_inverse=True)
    ones = np.ones(len(cells))
    return present, sparse.csr_matrix((ones, (group, cells)), shape=(len(present), len(groups)))
