"""Pure graph functions on scipy sparse matrices: build, prune, normalise, diffuse.

A network of n genes is a csr matrix of shape (n, n): row = source (regulator), column = target, value = signed weight.
An undirected network is a symmetric matrix. Nothing here depends on AnnData, and no function changes its argument.
"""

from scapp.graph._adjacency import (
    Duplicates,
    csr_to_edge_index,
    edges_to_csr,
    is_symmetric,
    nearest_neighbors,
    normalize,
    paths_to_networkx,
    scale_weights,
    symmetrize,
    top_k,
)
from scapp.graph._diffusion import (
    check_restart,
    diffusion,
    diffusion_embedding,
    hellinger_embedding,
    tf_idf,
    truncated_svd,
)

__all__ = [
    "Duplicates",
    "check_restart",
    "csr_to_edge_index",
    "diffusion",
    "diffusion_embedding",
    "edges_to_csr",
    "hellinger_embedding",
    "is_symmetric",
    "nearest_neighbors",
    "normalize",
    "paths_to_networkx",
    "scale_weights",
    "symmetrize",
    "tf_idf",
    "top_k",
    "truncated_svd",
]
