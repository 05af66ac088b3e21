"""Random walk with restart on the device of the model; :func:`scapp.network.diffusion` is its counterpart for scipy."""

from __future__ import annotations

import torch
from torch import Tensor

from scapp.module._encoder import Graph
from scapp.module._scale import N_TOGETHER

RESTART = 0.5
N_STEPS = 15  # leaves out (1 - RESTART)^15 of the walk, 3e-5


def diffuse(starts: Tensor, graph: Graph) -> Tensor:
    """Where walkers are found that follow the edges from `starts` and jump back with probability one half.

    Parameters
    ----------
    starts
        Distributions over the nodes, of shape (n, n_nodes).
    graph
        The network; signs are ignored, and a walker stays where no edge leaves.

    Returns
    -------
    Distributions of the same shape, whose rows sum to one.
    """
    if len(starts) > N_TOGETHER:
        return torch.cat([diffuse(part, graph) for part in starts.split(N_TOGETHER)])
    source, target = graph.edge_index
    n_nodes = starts.shape[1]
    weight = graph.edge_weight.abs()
    out = torch.zeros(n_nodes, dtype=weight.dtype, device=weight.device).index_add(0, source, weight)
    transition = torch.sparse_coo_tensor(
        torch.stack([target, source]), weight / out[source], (n_nodes, n_nodes), check_invariants=False
    ).coalesce()
    stays = (out == 0).to(weight)[:, None]
    start = starts.T.contiguous()
    walk = start
    for _ in range(N_STEPS):
        walk = RESTART * start + (1 - RESTART) * (transition @ walk + stays * walk)
    return (walk / walk.sum(0)).T.contiguous()
