"""Compiled loops, for where sparse products would make and throw away more than they add. Imported when first used."""

from __future__ import annotations

from numba import njit


@njit(cache=True, nogil=True)
def add_cells(data, indices, indptr, groups, first_gene, values, squares, batches, reference, products):  # type: ignore[no-untyped-def]
    """Add the values of each cell (CSR), and their squares, to the row of its group; with references also their products.

    Without references, `reference` has no rows. The row of a group stays in the cache while a cell is added.
    """
    with_reference = len(reference) > 0
    for cell in range(len(groups)):
        group = groups[cell]
        if group < 0:
            continue
        for k in range(indptr[cell], indptr[cell + 1]):
            x, gene = data[k], first_gene + indices[k]
            values[group, gene] += x
            squares[group, gene] += x * x
            if with_reference:
                products[group, gene] += x * reference[batches[cell], gene]
