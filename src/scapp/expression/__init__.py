"""Reading of expression from any storage in blocks on one scale: the natural log of counts per 10,000 plus one.

``_matrices`` reads blocks; ``_blocks`` converts each to the scale, inspects it and sums it over groups of cells
(``_numba`` in compiled loops, ``_dask`` in the workers that hold the blocks); ``_scale`` recognises the scale of the
values; ``Expression`` combines these.
"""

from scapp.expression._blocks import TARGET_SUM, sum_groups
from scapp.expression._expression import Expression, Scale
from scapp.expression._matrices import Source, get_matrix, in_memory

__all__ = ["TARGET_SUM", "Expression", "Scale", "Source", "get_matrix", "in_memory", "sum_groups"]
