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


@njit(cache=True, nogil=True)
def sums_of_cells(data, indices, indptr, groups, n_genes, batches, reference):  # type: ignore[no-untyped-def]
    """The sums that `add_cells` adds, by themselves: of the groups and genes that occur, and no others.

    Returns the groups; where those of each begin, and the last ends; the genes; the sums of x, of its square and, with
    references, of the product (otherwise none).
    """
    with_reference = len(reference) > 0
    n = len(data)
    genes, values, squares = np.empty(n, np.int32), np.zeros(n), np.zeros(n)
    products = np.zeros(n if with_reference else 0)
    present, begins = np.empty(len(groups), np.int64), np.empty(len(groups) + 1, np.int64)
    place = np.full(n_genes, -1, np.int64)  # of each gene among the sums of the group at hand
    n_groups, n_sums, last = 0, 0, -1
    for cell in np.argsort(groups, kind="mergesort"):
        group = groups[cell]
        if group < 0:
            continue
        if group != last:
            for j in range(begins[n_groups - 1] if n_groups else 0, n_sums):
                place[genes[j]] = -1
            present[n_groups], begins[n_groups], last = group, n_sums, group
            n_groups += 1
        for k in range(indptr[cell], indptr[cell + 1]):
            x, gene = float(data[k]), indices[k]
            j = place[gene]
            if j < 0:
                j = place[gene] = n_sums
                genes[j] = gene
                n_sums += 1
            values[j] += x
            squares[j] += x * x
            if with_reference:
                products[j] += x * reference[batches[cell], gene]
    begins[n_groups] = n_sums
    kept = n_sums if with_reference else 0
    return (
        present[:n_groups].copy(), begins[: n_groups + 1].copy(), genes[:n_sums].copy(),
        values[:n_sums].copy(), squares[:n_sums].copy(), products[:kept].copy(),
    )  # fmt: skip


@njit(cache=True, nogil=True)
def add_sums(present, begins, genes, first_gene, sums, total):  # type: ignore[no-untyped-def]
    """Add what `sums_of_cells` returns to the rows of all groups."""
    for i in range(len(present)):
        for j in range(begins[i], begins[i + 1]):
            total[present[i], first_gene + genes[j]] += sums[j]
