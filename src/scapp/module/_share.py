"""Which members of the ensemble a process trains, where several share the work."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from scapp.module._predictor import Predictor


class Share(NamedTuple):
    """The members that this process trains: every `n_processes`-th, beginning with that of its rank.

    Members have no weight in common, so a process needs no other's numbers; what torch's distributed training then
    averages over the processes is made such that the average is what one process would have.
    """

    rank: int = 0
    n_processes: int = 1

    def of(self, members: Sequence[Predictor], first: int) -> list[Predictor]:
        """Of these members, whose numbers begin at `first`, those of this process."""
        return [member for k, member in enumerate(members, first) if k % self.n_processes == self.rank]

    def mean(self, losses: Sequence[Tensor], n_members: int, like: Tensor) -> Tensor:
        """Of the losses of this process's members: what gives the mean over all `n_members`, averaged over processes."""
        if not losses:
            return like.new_zeros(())
        return torch.stack(list(losses)).sum() / (n_members / self.n_processes)

    def touching(self, loss: Tensor, parameters: Iterable[nn.Parameter]) -> Tensor:
        """The same loss, with a gradient of zero for the members of other processes, which torch waits for."""
        if self.n_processes == 1:
            return loss
        # Each times zero before it is summed: gradients of a sum share their memory, into which torch then writes.
        return loss + torch.stack([(0 * p).sum() for p in parameters if p.requires_grad]).sum()
