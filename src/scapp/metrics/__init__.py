"""How far predictions are from observations: one function a metric, arrays in, numbers out."""

from scapp.metrics._correlation import pearson_delta
from scapp.metrics._distance import l2, rmse
from scapp.metrics._genes import top_expressed_genes

__all__ = ["l2", "pearson_delta", "rmse", "top_expressed_genes"]
