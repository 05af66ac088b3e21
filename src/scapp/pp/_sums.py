"""Sums over groups of cells, in one pass over the blocks of a matrix."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.pp._blocks import Block
    from scapp.pp._expression import Expression


class GroupSums:
    """Sums over the cells of each group, of the expression x, of x squared, and of x times a reference.

    Parameters
    ----------
    expression
        The cells.
    groups
        Group of each cell, from 0; -1 leaves the cell out. Shape (n_obs,).
    n_groups
        How many groups there are.
    reference
        Reference profiles r, one for each batch, of shape (n_batches, n_genes), for the sums of x times r; optional.
    batches
        Batch of each cell, shape (n_obs,); goes with `reference`.

    Attributes
    ----------
    n_cells
        Cells of each group, shape (n_groups,).
    values, squares, products
        The sums, float64 of shape (n_groups, n_genes); `products` is None without a reference.
    """

    def __init__(
        self,
        expression: Expression,
        groups: NDArray[np.intp],
        n_groups: int,
        *,
        reference: NDArray[np.float64] | None = None,
        batches: NDArray[np.intp] | None = None,
    ) -> None:
        shape = (n_groups, len(expression.genes))
        self.n_cells = np.bincount(groups[groups >= 0], minlength=n_groups)
        self.values = np.zeros(shape)
        self.squares = np.zeros(shape)
        self.products = None if reference is None else np.zeros(shape)

        work: Callable[..., Any] = partial(_sums_of_block, reference=reference)
        if expression.in_process:
            work = partial(self._add_block, reference=reference)
        per_cell = [groups] if batches is None else [groups, batches]
        if not expression.inspected:
            for place, sums in expression.map_on_a_guess(work, *per_cell):
                self._add(place, sums)
            if expression.guess_held:
                return
            self.values[:], self.squares[:] = 0, 0
        for place, sums in expression.map(work, *per_cell, cells=groups >= 0):
            self._add(place, sums)

    def _add_block(
        self, block: Block, groups: NDArray[np.intp], *batches: NDArray[np.intp], reference: NDArray[np.float64] | None
    ) -> tuple[Any, ...] | None:
        """Add a block of this process at once where that saves its sums from being made first."""
        if not sparse.issparse(block.values):
            return _sums_of_block(block, groups, *batches, reference=reference)
        from scapp.pp._kernels import add_cells

        x, nothing = block.values, np.zeros((0, 0))
        add_cells(
            *(x.data, x.indices, x.indptr, groups, block.columns.start, self.values, self.squares),
            *(batches or (groups,)),
            *(nothing if part is None else part for part in (reference, self.products)),
        )
        return None

    def _add(self, place: Block, sums: tuple[Any, ...] | None) -> None:
        if sums is None:
            return
        present, where, *parts = sums
        totals = [self.values, self.squares] if self.products is None else [self.values, self.squares, self.products]
        for total, part in zip(totals, parts, strict=True):
            if where is None:
                total[present, place.columns] += part
            else:
                from scapp.pp._kernels import add_sums

                begins, genes = where
                add_sums(present, begins, genes, place.columns.start, part, total)

    def means(self) -> NDArray[np.float64]:
        """Mean of each group; NaN for a group without cells."""
        with np.errstate(invalid="ignore"):
            return self.values / self.n_cells[:, None]

    def errors(self) -> NDArray[np.float64]:
        """Squared standard error of each mean: the sample variance over the number of cells; NaN below two cells."""
        n = self.n_cells[:, None]
        with np.errstate(invalid="ignore", divide="ignore"):
            # In place, because these are the largest arrays there are.
            errors = self.values**2
            errors /= -n
            errors += self.squares
            np.maximum(errors, 0.0, out=errors)  # rounding of what does not vary
            errors /= n * (n - 1)
        return errors


def _sums_of_block(
    block: Block, groups: NDArray[np.intp], *batches: NDArray[np.intp], reference: NDArray[np.float64] | None
) -> tuple[Any, ...] | None:
    """The groups of a block and their sums of x, of x squared and, with a reference, of x times it; None without cells.

    Of a sparse block, most sums are zero: the others come one by one, with where they stand (begins and genes; otherwise None).
    """
    if not (groups >= 0).any():
        return None
    x, nothing = block.values, np.zeros((0, 0))
    if sparse.issparse(x):
        from scapp.pp._kernels import sums_of_cells

        of_batch = nothing if reference is None else np.ascontiguousarray(reference[:, block.columns])
        found = sums_of_cells(
            x.data, x.indices, x.indptr, groups, x.shape[1], batches[0] if batches else groups, of_batch
        )
        present, begins, genes, *parts = found
        return present, (begins, genes), *parts[: 2 if reference is None else 3]
    present, indicator = _indicator(groups)
    dense = [x, x**2] if reference is None else [x, x**2, x * reference[:, block.columns][batches[0]]]
    return present, None, *(indicator @ part for part in dense)


def _indicator(groups: NDArray[np.intp]) -> tuple[NDArray[np.intp], sparse.csr_matrix]:
    """The groups that occur, and which cells belong to each, so that one product sums over the cells of each group."""
    cells = np.flatnonzero(groups >= 0)
    present, group = np.unique(groups[cells], return_inverse=True)
    ones = np.ones(len(cells))
    return present, sparse.csr_matrix((ones, (group, cells)), shape=(len(present), len(groups)))
