"""Training by parts: what is remembered between the steps, and cell states of many rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from scapp.module._attention import Reach
from scapp.module._decoder import KernelDecoder
from scapp.module._encoder import Graph
from scapp.module._predictor import Predictor
from scapp.module._scale import N_TOGETHER, goes_by_parts, sketch

Seen = tuple[Tensor, list[Reach]]


class Parts:
    """What training by parts remembers: sketches of the targets, and the weight of each row in each decoder.

    Parameters
    ----------
    n_rows
        Training perturbations; with few of them nothing is sketched or remembered, as every step sees all.
    solved
        Whether the decoder is solved in closed form, for whatever targets there are; one that is trained needs those
        themselves.
    """

    def __init__(self, n_rows: int, *, solved: bool):
        self.active, self.solved = goes_by_parts(n_rows), solved
        self._sketches: dict[str, Tensor] = {}
        self._weights: dict[int, Tensor] = {}

    def targets(self, part: str, get: Callable[[], Tensor]) -> Tensor:
        """Targets of which training sees the lengths of residuals."""
        if not (self.active and self.solved):
            return get()
        if part not in self._sketches:
            self._sketches[part] = sketch(get())
        return self._sketches[part]

    def recall(self, member: Predictor, rows: Sequence[int], n_rows: int) -> None:
        """Give the decoder the weights that these rows had when they were last seen."""
        if self.active and isinstance(member.decoder, KernelDecoder):
            known = self._weights.setdefault(id(member), member.decoder.support.new_ones(n_rows))[rows]
            member.decoder.weight = known / known.mean()

    def keep(self, member: Predictor, rows: Sequence[int]) -> None:
        """Remember the weights that the decoder has given to these rows."""
        if self.active and isinstance(member.decoder, KernelDecoder):
            self._weights[id(member)][rows] = member.decoder.weight


def rows_seen(seen: Seen, rows: Sequence[int] | slice) -> Seen:
    """What the attention sees of some perturbations."""
    membership, reaches = seen
    return membership[rows], [Reach(r.index[rows], r.log_prior[rows]) for r in reaches]


def all_states(member: Predictor, features: Tensor, graphs: Sequence[Graph], seen: Seen) -> Tensor:
    """Cell states of all that is seen, some rows at a time: their attention over all genes is large."""
    parts = [slice(i, i + N_TOGETHER) for i in range(0, len(seen[0]), N_TOGETHER)]
    return torch.cat([member.states(features, graphs, *rows_seen(seen, rows))[0] for rows in parts])
