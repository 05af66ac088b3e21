"""How the module is trained: one full step an epoch, the best weights kept, the closed forms finished at the end."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch.callbacks import Callback
from scvi.module.base import BaseModuleClass, LossOutput
from scvi.train import TrainingPlan

from scapp.model._devices import copy_from_first, keep_buffers_apart
from scapp.module._share import Share

# Few scalars decide how much each feature, network and head counts. They may move fast; the weights of encoder and
# attention, which begin at a good closed form and could learn the training perturbations by heart, move slowly.
SCALARS = ("log_feature_scale", "gates", "prior_weight", "log_scale", "log_constant", "log_penalty")


class PerturbationTrainingPlan(TrainingPlan):
    """Full-batch training on leave-one-out errors.

    Parameters
    ----------
    module
        An :class:`~scapp.module.APPModule`.
    lr
        Learning rate of encoder and attention.
    lr_scalars
        Learning rate of the scales, gates and penalties; `lr` if None.
    lr_decoder
        Learning rate of a decoder that has no closed form.
    weight_decay
        Decay of the weights, by Adam.
    **kwargs
        As in :class:`scvi.train.TrainingPlan`.
    """

    def __init__(
        self,
        module: BaseModuleClass,
        *,
        lr: float = 3e-4,
        lr_scalars: float | None = 5e-2,
        lr_decoder: float = 1e-3,
        weight_decay: float = 0.0,
        eps: float = 1e-8,
        **kwargs: Any,
    ):
        kwargs.setdefault("n_epochs_kl_warmup", None)
        kwargs.setdefault("lr_scheduler_metric", "validation_loss")
        super().__init__(module, lr=lr, weight_decay=weight_decay, eps=eps, **kwargs)
        self.lr_scalars = lr if lr_scalars is None else lr_scalars
        self.lr_decoder = lr_decoder
        self._rng_state = torch.get_rng_state()

    def setup(self, stage: str) -> None:
        self.module.share = Share(self.trainer.global_rank, self.trainer.world_size)
        if self.module.share.n_processes > 1:
            keep_buffers_apart(self)

    def on_fit_start(self) -> None:
        torch.set_rng_state(self._rng_state)  # starting processes draws numbers; members start as without
        self.module.prepare(self.trainer.datamodule.train_idx.tolist())
        if self.module.share.n_processes > 1:
            copy_from_first(self.module)

    def on_train_end(self) -> None:
        self.module.finish()

    def configure_optimizers(self) -> Any:
        scalars: list[torch.nn.Parameter] = []
        weights: list[torch.nn.Parameter] = []
        decoders: list[torch.nn.Parameter] = []
        for name, parameter in self.module.named_parameters():
            if parameter.requires_grad:
                scalar, decoder = name.rsplit(".", 1)[-1] in SCALARS, ".decoder.network." in name
                (scalars if scalar else decoders if decoder else weights).append(parameter)
        groups = [
            {"params": weights, "lr": self.lr},
            {"params": scalars, "lr": self.lr_scalars},
            {"params": decoders, "lr": self.lr_decoder},
        ]
        groups = [group for group in groups if group["params"]]
        return torch.optim.Adam(groups, lr=self.lr, weight_decay=self.weight_decay, eps=self.eps)

    @torch.no_grad()  # what is averaged over processes must not be made in inference mode
    def compute_and_log_metrics(self, loss_output: LossOutput, metrics: dict, mode: str) -> None:
        for name, value in loss_output.extra_metrics.items():
            self.log(
                f"{name}_{mode}",
                value,
                on_step=False,
                on_epoch=True,
                batch_size=loss_output.n_obs_minibatch,
                sync_dist=self.use_sync_dist,
            )


class KeepBest(Callback):
    """Go back at the end to the weights with the lowest validation loss, those of the start among them."""

    def __init__(self, monitor: str = "validation_loss"):
        self.monitor = monitor
        self.best = float("inf")
        self.weights: dict[str, torch.Tensor] = {}

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        value = trainer.callback_metrics.get(self.monitor)
        if trainer.sanity_checking or value is None or not value < self.best:
            return
        self.best = float(value)
        self.weights = {name: p.detach().clone() for name, p in pl_module.module.named_parameters()}

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        with torch.no_grad():
            for name, parameter in pl_module.module.named_parameters():
                if name in self.weights:
                    parameter.copy_(self.weights[name])
