"""Compiled loops, for where sparse products would make and throw away more than they add. Imported when first used."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def look_at_cells(data, indptr):  # type: ignore[no-untyped-def]
    """Look once at the values of some cells (CSR).

    Returns the total of each cell, the largest value (0 at least), and how many are negative, fractions, and not finite.
    """
    n_cells = len(indptr) - 1
    totals = np.zeros(n_cells)
    largest, n_negative, n_fractions, n_bad = 0.0, 0, 0, 0
    for cell in range(n_cells):
        total = 0.0
        for k in range(indptr[cell], indptr[cell + 1]):
            x = float(data[k])
            total += x
            largest = max(largest, x)
            n_negative += x < 0
            n_fractions += x != np.rint(x)
            n_bad += not np.isfinite(x)
        totals[cell] = total
    return totals, largest, n_negative, n_fractions, n_bad


@njit(cache=True, nogil=True)
def add_cells(data, indices, indptr, groups, first_gene, values, squares, batches, reference, products):  # type: ignore[no-untyped-def]
    """Add the values of each cell (CSR), and their squares, to the row of its group; with references also their products.

    Without references, `reference` has no rows. Cells of a group are added one after the other, so that its row stays near.
    """
    with_reference = len(reference) > 0
    for cell in np.argsort(groups, kind="mergesort"):
        group = groups[cell]
        if group < 0:
            continue
        for k in range(indptr[cell], indptr[cell + 1]):
            x, gene = float(data[k]), first_gene + indices[k]
            values[group, gene] += x
            squares[group, gene] += x * x
            if with_reference:
                products[group, gene] += x * reference[batches[cell], gene]
