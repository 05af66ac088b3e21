"""Log-fold-changes and their standard errors, from sums over groups of cells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from scapp.expression import sum_groups

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.expression import Expression


@dataclass
class Effects:
    """Effects of shape (n_perturbations, n_measured), control statistics of shape (n_measured,).

    `n_cells` counts the controls first, then the cells of each perturbation.
    """

    n_cells: NDArray[np.intp]
    mean: NDArray[np.float64]
    lfc: NDArray[np.float64]
    lfc_se: NDArray[np.float64]
    control_mean: NDArray[np.float64]
    control_var: NDArray[np.float64]


def calculate_effects(
    expression: Expression, groups: NDArray[np.intp], n_groups: int, batches: NDArray[np.intp] | None
) -> Effects:
    """Calculate mean, log-fold-change and standard error of each perturbation; :func:`scapp.pp.pseudobulk` has the formulas.

    Parameters
    ----------
    expression
        The cells.
    groups
        Of each cell: 0 for a control, from 1 the perturbation, -1 if it is left out. Shape (n_obs,).
    n_groups
        One more than there are perturbations.
    batches
        Batch of each cell, from 0, in which controls are matched; each batch with perturbed cells has two controls or
        more. None if all cells are compared with all controls.
    """
    if batches is None:
        sums = sum_groups(expression, groups, n_groups)
        means, errors = sums.means(), sums.errors()
        lfc = means[1:] - means[0]
        squared_se = errors[1:] + errors[0]
    else:
        n_batches = int(batches.max()) + 1
        controls = sum_groups(expression, np.where(groups == 0, batches, -1), n_batches)
        # Batches without controls hold no perturbed cell; zero keeps their NaN out of the products.
        reference, reference_errors = np.nan_to_num(controls.means()), np.nan_to_num(controls.errors())
        sums = sum_groups(expression, groups, n_groups, reference=reference, batches=batches)
        means, errors = sums.means(), sums.errors()

        cells = np.zeros((n_groups, n_batches))
        np.add.at(cells, (groups[groups >= 0], batches[groups >= 0]), 1.0)
        n = sums.n_cells[1:, None]
        share = cells[1:] / n
        lfc = means[1:] - share @ reference
        # The sum over the cells of (x - c)^2 = x^2 - 2 x c + c^2, less its mean: no cell has to be read again.
        assert sums.products is not None
        squared_se = sums.squares[1:] - 2 * sums.products[1:]
        squared_se += cells[1:] @ reference**2
        squared_se -= n * lfc**2
        np.maximum(squared_se, 0.0, out=squared_se)
        squared_se /= n * (n - 1)
        squared_se += share**2 @ reference_errors
    return Effects(
        n_cells=sums.n_cells,
        mean=means[1:],
        lfc=lfc,
        lfc_se=np.sqrt(squared_se, out=squared_se),
        control_mean=means[0],
        control_var=errors[0] * sums.n_cells[0],
    )
