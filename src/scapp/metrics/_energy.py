"""Distances between two populations of cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from sklearn.metrics import pairwise_distances_chunked

from scapp._checked import checked
from scapp.metrics._align import by_label
from scapp.metrics._arrays import check_finite, choose_genes, read_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

CellMetric = Literal["euclidean", "sqeuclidean"]


@checked
@by_label
def energy_distance(
    cells: ArrayLike,
    others: ArrayLike,
    *,
    genes: ArrayLike | None = None,
    metric: CellMetric = "euclidean",
    unbiased: bool = True,
) -> float:
    r"""Compute the energy distance (E-distance) of two populations of cells.

    .. math:: 2\, \mathbb{E}\, d(x, y) - \mathbb{E}\, d(x, x') - \mathbb{E}\, d(y, y')

    with cells x, x' of the one and y, y' of the other. It is zero in expectation where both are drawn from the same
    distribution and positive where not: other means, other spreads and other shapes all count, which no comparison of means
    sees. Predicted cells (:func:`scapp.tl.sample_cells`) are compared with measured ones, or perturbed cells with controls
    :cite:p:`Peidli2024`.

    The distance grows with the number of genes and their noise. As is usual, reduce both to some principal components of
    all cells first; distances in different spaces cannot be compared.

    Parameters
    ----------
    cells, others
        Cells of shape (n_cells, n_genes) and (n_others, n_genes); genes or components. Memory does not grow with
        n_cells times n_others.
    genes
        Mask or indices of the columns to compare; all if None.
    metric
        The distance d: ``"euclidean"``, or ``"sqeuclidean"``, its square, as of scPerturb. With the square only the means
        are compared: the result is twice the squared distance between them.
    unbiased
        Whether a cell is left out of the comparison with its own population. If not, each mean holds distances of zero and
        populations of few cells seem farther: the number that cell-eval gives.

    Returns
    -------
    A number, in the unit of the cells (its square for ``"sqeuclidean"``); slightly negative values occur by chance where
    `unbiased`.

    Raises
    ------
    ValueError
        If the columns differ, a population has fewer than two cells, a value is NaN or infinite, or `metric` is unknown.
    TypeError
        If an array does not hold numbers.

    See Also
    --------
    scapp.tl.sample_cells, perturbation_discrimination

    Examples
    --------
    >>> float(scapp.metrics.energy_distance([[0.0], [1.0]], [[5.0], [6.0]]))
    8.0
    """
    read = {name: read_array(values, name) for name, values in (("cells", cells), ("others", others))}
    for name, array in read.items():
        if array.ndim != 2 or len(array) < 2:
            raise ValueError(
                f"{name} has shape {array.shape}; expected two cells or more, of shape (n_cells, n_genes)."
            )
    first, second = read["cells"], read["others"]
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"cells have {first.shape[1]} columns and others {second.shape[1]}. Expected the same genes or components in both."
        )
    first, second = (choose_genes(array, genes) for array in (first, second))
    for name, array in (("cells", first), ("others", second)):
        check_finite(array, name)
    between = _sum(first, second, metric) / (len(first) * len(second))
    within = [_sum(each, each, metric) / (len(each) * (len(each) - unbiased)) for each in (first, second)]
    return 2 * between - within[0] - within[1]


def _sum(x: NDArray[np.float64], y: NDArray[np.float64], metric: CellMetric) -> float:
    """Return the sum of all distances, without holding them."""
    parts = pairwise_distances_chunked(x, y, reduce_func=lambda block, _: block.sum(axis=1), metric=metric)
    return float(sum(part.sum() for part in parts))
