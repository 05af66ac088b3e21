"""Where the algorithms change over: below these sizes all is exact and done at once, above them it is done in parts.

A kernel of n perturbations costs n^2 of memory and n^3 of time, and training needs it in every step of every model. Above
`N_TOGETHER` training perturbations a step sees a part of them, an epoch all parts; the decoder is solved once, at the end,
for all rows together.
"""

from __future__ import annotations

import torch
from torch import Tensor

# Perturbations whose decoder is solved together in training, and whose cell states are computed at a time.
N_TOGETHER = 2048
# Random directions on which the lengths of residuals are measured where there are more genes than that and training goes
# by parts: a length is kept within 3 % (one standard deviation), whatever the residual.
N_DIRECTIONS = 512


def goes_by_parts(n_rows: int) -> bool:
    """Whether so many training perturbations are too many for one step."""
    return n_rows > N_TOGETHER


def sketch(values: Tensor, n_directions: int = N_DIRECTIONS) -> Tensor:
    r"""Random projection that keeps the lengths of rows, and of their linear combinations :cite:p:`Johnson1984`.

    Parameters
    ----------
    values
        Of shape (n_rows, n_columns).
    n_directions
        Columns of the result; with fewer columns the values themselves are returned.
    """
    n_columns = values.shape[1]
    if n_columns <= n_directions:
        return values
    generator = torch.Generator().manual_seed(n_columns)  # the same directions at each call, on every device
    directions = torch.randn(n_columns, n_directions, generator=generator) / n_directions**0.5
    return values @ directions.to(values)


def parts_of(n_rows: int, seed: int = 0) -> list[Tensor]:
    """Random parts of about equal size, none above `N_TOGETHER`."""
    n_parts = -(-n_rows // N_TOGETHER)
    order = torch.randperm(n_rows, generator=torch.Generator().manual_seed(seed))
    return list(order.tensor_split(n_parts))
