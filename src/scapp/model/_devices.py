"""Several devices: a process for each, which trains its share of the ensemble's members."""

from __future__ import annotations

from typing import TYPE_CHECKING

import scvi
import torch
from lightning.pytorch.strategies import DDPStrategy

if TYPE_CHECKING:
    from lightning.pytorch import Trainer
    from torch import nn


def names_several(devices: int | list[int] | str) -> bool:
    """Whether `devices`, as Lightning takes them, may be several; ``"auto"`` is one in scvi-tools."""
    if isinstance(devices, str):  # "2" counts devices, "0,1" and "1," name them
        return devices not in ("auto", "0", "1") and len([k for k in devices.split(",") if k.strip()]) > 0
    return devices != 1 if isinstance(devices, int) else len(devices) > 1


def check_processes(trainer: Trainer, *, n_members: int) -> None:
    """Raise if the processes of `trainer` cannot share the training of the ensemble.

    Raises
    ------
    ValueError
        With the mend.
    """
    if trainer.world_size == 1:
        return
    if not isinstance(trainer.strategy, DDPStrategy):
        raise ValueError(
            f"strategy: {type(trainer.strategy).__name__} does not give each of {trainer.world_size} devices the whole model. "
            'Pass strategy="ddp", or none.'
        )
    if trainer.world_size > n_members:
        raise ValueError(
            f"{trainer.world_size} devices for {n_members} networks: each device trains some of the networks of the ensemble. "
            f"Pass devices={n_members} at most, or make the model with a larger n_models."
        )
    if scvi.settings.seed is None:
        raise ValueError(
            "On several devices each process has to draw the same numbers. Set scvi.settings.seed = 0, or another number, before "
            "the model is made."
        )


def keep_buffers_apart(module: nn.Module) -> None:
    """Let each process keep the buffers of its own members, which torch would overwrite by those of the first process."""
    names = [name for name, _ in module.named_buffers()]
    torch.nn.parallel.DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(module, names)


@torch.no_grad()
def copy_from_first(module: nn.Module) -> None:
    """Give all processes the weights and buffers of the first."""
    for tensor in [*module.parameters(), *module.buffers()]:
        torch.distributed.broadcast(tensor, src=0)
