"""The expression of cells, wherever it lives, read by blocks on one scale: the natural log of counts per 10,000 plus one.

``_matrices`` reads blocks; ``_blocks`` brings each to the scale, looks at it and adds it up over groups of cells (``_numba`` in compiled
loops, ``_dask`` where the blocks live); ``_scale`` tells what the values are; ``Expression`` ties these together.
"""

from scapp.expression._blocks import TARGET_SUM, sum_groups
from scapp.expression._expression import Expression, Scale
from scapp.expression._matrices import Source, get_matrix, in_memory

__all__ = ["TARGET_SUM", "Expression", "Scale", "Source", "get_matrix", "in_memory", "sum_groups"]
