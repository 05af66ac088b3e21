"""How the module is trained, in Lightning's terms: whole steps over the scalars, or the paper's gradient descent."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback
from scvi.module.base import BaseModuleClass
from scvi.train import TrainingPlan
from torch.utils.data import DataLoader

# Losses that change by less than this between epochs have converged.
TOLERANCE = 1e-5


class AllPerturbations(LightningDataModule):
    """Hand the training perturbations to the model all at once, as its closed form is solved for them together."""

    def __init__(self, n_perturbations: int):
        super().__init__()
        self.rows = torch.arange(n_perturbations)
        self.n_train, self.n_val = n_perturbations, 0

    def train_dataloader(self) -> DataLoader:
        """Return one batch of all perturbations."""
        return DataLoader([{"rows": self.rows}], batch_size=None)


class ScalarPlan(TrainingPlan):
    """Steps of L-BFGS over the scalars of :class:`scapp.module.APPModule`, on exact leave-one-out residuals.

    Half-way, the perturbations are weighed anew by the lengths of their residuals.
    """

    def __init__(self, module: BaseModuleClass, **kwargs: Any):
        kwargs.setdefault("n_epochs_kl_warmup", None)
        super().__init__(module, **kwargs)
        self.automatic_optimization = False
        self._last = float("inf")
        self._reweighed = False

    def on_fit_start(self) -> None:
        """Compute what does not change while the scalars are learned."""
        self.module.prepare()

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Take the steps of one epoch."""
        found = self.module.step()
        loss = sum(found.values()) / len(found)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["rows"]), prog_bar=True)
        for name, value in found.items():
            self.log(f"leave_one_out_{name}", value, on_step=False, on_epoch=True, batch_size=len(batch["rows"]))
        converged = self._last - loss < TOLERANCE
        half = self.current_epoch + 1 >= self.trainer.max_epochs // 2
        self._last = loss
        if not self._reweighed and (converged or half):
            self.module.reweigh()
            self._reweighed, self._last = True, float("inf")
        elif converged:
            self.trainer.should_stop = True

    def on_train_epoch_end(self) -> None:
        """Do nothing: there is no weight to warm up."""

    def configure_optimizers(self) -> None:
        """Return none: the module brings its own."""

    def on_train_end(self) -> None:
        """Weigh once more, and solve."""
        self.module.reweigh()
        self.module.finish()


class PaperPlan(TrainingPlan):
    """Adam on all weights of :class:`scapp.module.PaperModule`, end to end."""

    def __init__(self, module: BaseModuleClass, *, lr: float = 1e-3, weight_decay: float = 0.0, **kwargs: Any):
        kwargs.setdefault("n_epochs_kl_warmup", None)
        super().__init__(module, lr=lr, weight_decay=weight_decay, **kwargs)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss."""
        loss = self.module.loss(batch, {}, {}).loss
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(batch["rows"]), prog_bar=True)
        return loss

    def on_train_epoch_end(self) -> None:
        """Do nothing: there is no weight to warm up."""

    def configure_optimizers(self) -> Any:
        """Return Adam over all weights."""
        weights = [p for p in self.module.parameters() if p.requires_grad]
        return torch.optim.Adam(weights, lr=self.lr, weight_decay=self.weight_decay, eps=1e-8)

    def on_train_end(self) -> None:
        """Learn the errors."""
        self.module.finish()


class WatchInterrupts(Callback):
    """Remember whether training was interrupted: Lightning ends the process in its own way."""

    def __init__(self) -> None:
        self.interrupted = False

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Note a KeyboardInterrupt."""
        self.interrupted |= isinstance(exception, KeyboardInterrupt)
