"""Training with Lightning: L-BFGS over the scalars, or the paper's gradient descent."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback
from scvi.module.base import BaseModuleClass
from scvi.train import TrainingPlan, TrainRunner
from torch.utils.data import DataLoader

from scapp._checked import checked
from scapp._settings import hushed, settings
from scapp.module import APPModule, PaperModule

# Losses that change by less than this between epochs have converged.
TOLERANCE = 1e-5


class AllPerturbations(LightningDataModule):
    """Pass all training perturbations to the model in one batch, because the closed form solves them together."""

    def __init__(self, n_perturbations: int):
        super().__init__()
        self.rows = torch.arange(n_perturbations)
        self.n_train, self.n_val = n_perturbations, 0

    def train_dataloader(self) -> DataLoader:
        """Return one batch of all perturbations."""
        return DataLoader([{"rows": self.rows}], batch_size=None)


class WholePlan(TrainingPlan):
    """Base class of both plans, with one batch of all perturbations and no weight to warm up."""

    def __init__(self, module: BaseModuleClass, **kwargs: Any):
        super().__init__(module, **{"n_epochs_kl_warmup": None, **kwargs})

    def log_loss(self, name: str, value: Any, batch: dict[str, torch.Tensor], *, prog_bar: bool = False) -> None:
        """Log the loss of an epoch."""
        self.log(name, value, on_step=False, on_epoch=True, batch_size=len(batch["rows"]), prog_bar=prog_bar)

    def on_train_epoch_end(self) -> None:
        """Do nothing: there is no weight to warm up."""


class ScalarPlan(WholePlan):
    """L-BFGS over the scalars of :class:`scapp.module.APPModule`, on exact leave-one-out residuals.

    Half-way through, the perturbations are reweighted by the lengths of their residuals.
    """

    def __init__(self, module: BaseModuleClass, **kwargs: Any):
        super().__init__(module, **kwargs)
        self.automatic_optimization = False
        self._last = float("inf")
        self._reweighed = False

    def on_fit_start(self) -> None:
        """Precompute everything that stays constant while the scalars are learned."""
        self.module.prepare()

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> None:
        """Run the optimiser steps of one epoch."""
        found = self.module.step()
        loss = sum(found.values()) / len(found)
        self.log_loss("train_loss", loss, batch, prog_bar=True)
        for name, value in found.items():
            self.log_loss(f"leave_one_out_{name}", value, batch)
        converged = self._last - loss < TOLERANCE
        half = self.current_epoch + 1 >= self.trainer.max_epochs // 2
        self._last = loss
        if not self._reweighed and (converged or half):
            self.module.reweigh()
            self._reweighed, self._last = True, float("inf")
        elif converged:
            self.trainer.should_stop = True
            self._complete_progress_bar()

    def _complete_progress_bar(self) -> None:
        """Set the end of the progress bar to the last epoch, because a bar that ends early turns red in a notebook."""
        bar = getattr(self.trainer.progress_bar_callback, "main_progress_bar", None)
        if getattr(bar, "disable", True):
            return
        done, start = bar.n, bar.start_t
        bar.reset(total=self.current_epoch + 1)
        bar.start_t = start
        bar.set_description("Converged")
        bar.update(done)

    def configure_optimizers(self) -> None:
        """Return None, because the module has its own optimisers."""

    def on_train_end(self) -> None:
        """Reweight once more, and solve."""
        self.module.reweigh()
        self.module.finish()


class PaperPlan(WholePlan):
    """Adam on all weights of :class:`scapp.module.PaperModule`, end to end."""

    def __init__(self, module: BaseModuleClass, *, lr: float = 1e-3, weight_decay: float = 0.0, **kwargs: Any):
        super().__init__(module, lr=lr, weight_decay=weight_decay, **kwargs)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Return the loss."""
        loss = self.module.loss(batch, {}, {}).loss
        self.log_loss("train_loss", loss, batch, prog_bar=True)
        return loss

    def configure_optimizers(self) -> Any:
        """Return Adam over all weights."""
        weights = [p for p in self.module.parameters() if p.requires_grad]
        return torch.optim.Adam(weights, lr=self.lr, weight_decay=self.weight_decay, eps=1e-8)

    def on_train_end(self) -> None:
        """Learn the errors."""
        self.module.finish()


class WatchInterrupts(Callback):
    """Remember whether training was interrupted, because Lightning swallows the interrupt."""

    def __init__(self) -> None:
        self.interrupted = False

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Note a KeyboardInterrupt."""
        self.interrupted |= isinstance(exception, KeyboardInterrupt)


MAX_EPOCHS, MAX_EPOCHS_PAPER = 12, 100
# Lightning's warnings about a data loader with a single batch of indices; true, but of no use here.
IGNORED_WARNINGS = (
    ".*number of training batches.*",
    ".*infer the `batch_size`.*",
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    ".*no `val_dataloader`.*",
    ".*configure_optimizers.*returned.*None.*",
)
# Loggers that print lines about devices, and advertisements.
LIGHTNING = ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero")
NO_MEANING = {
    "batch_size": "all perturbations are solved for together, so there are no mini-batches",
    "train_size": "every perturbation is left out in turn, so none has to be held out",
    "validation_size": "every perturbation is left out in turn, so none has to be held out",
    "early_stopping": "training stops by itself when the scalars have converged",
    "precision": "the closed form needs double precision",
    "devices": "training takes seconds on one device",
}


class TrainingMixin:
    """Train :class:`scapp.model.APP`."""

    module: APPModule | PaperModule
    history_: Any
    is_trained_: bool
    _set_effects: Callable[..., None]

    @checked(own=("max_epochs",))
    def train(
        self,
        max_epochs: int | None = None,
        *,
        accelerator: str = "cpu",
        plan_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train the model; a second call continues from the current state.

        The scalars of the model are learned on leave-one-out errors over the training perturbations, which the closed
        form gives exactly. ``model.history`` holds these errors, relative to the lengths of the effects. If training
        fails or is interrupted, the model is unchanged.

        Parameters
        ----------
        max_epochs
            Maximum number of epochs of ten steps over the scalars, by default 12; for the paper's form, of passes, by
            default 100. Training stops earlier if the loss converges. With 0, only the closed form is solved.
        accelerator
            ``"cpu"`` or ``"auto"``, because the closed form is solved in double precision on the CPU. The paper's form
            accepts the same values as scvi-tools.
        plan_kwargs
            For the paper's form: `lr` (1e-3), `weight_decay`.
        **trainer_kwargs
            For :class:`scvi.train.Trainer`.

        Raises
        ------
        RuntimeError
            If the AnnData was registered again by a model that was loaded with it and has different perturbations.
        ValueError
            If `max_epochs` is negative, or an accelerator is requested for the default form.
        TypeError
            For options that do not apply to this model.
        """
        paper = isinstance(self.module, PaperModule)
        for name, reason in NO_MEANING.items():
            if name in trainer_kwargs:
                raise TypeError(f"train() takes no {name}: {reason}. Leave it out.")
        if not paper and accelerator not in ("cpu", "auto"):
            raise ValueError(
                f"accelerator={accelerator!r}: the default form is solved on the processor, in seconds. "
                "Leave accelerator out, or make the model with preset='paper'."
            )
        if max_epochs is None:
            max_epochs = MAX_EPOCHS_PAPER if paper else MAX_EPOCHS
        if isinstance(max_epochs, bool) or not isinstance(max_epochs, int) or max_epochs < 0:
            raise ValueError(f"max_epochs must be a whole number of at least 0, found {max_epochs!r}.")
        self._set_effects(read=not self.module.targets.any())
        history, was_trained = copy.copy(self.history_), self.is_trained_
        # The tables of an untrained model are empty and may be large; every training creates them again.
        learned = {name for name, _ in self.module.named_parameters()}
        before = {
            name: value.clone()
            for name, value in self.module.state_dict().items()
            if was_trained or name in learned or value.dim() < 2
        }
        watch = WatchInterrupts()
        try:
            if max_epochs == 0:
                if not paper:
                    self.module.prepare()
                self.module.finish()
            else:
                self._run(max_epochs, accelerator, plan_kwargs or {}, watch, trainer_kwargs)
        except BaseException as error:
            self.module.load_state_dict(before, strict=False)
            self.history_, self.is_trained_ = history, was_trained
            if watch.interrupted and not isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt from error
            raise
        finally:
            self.module.eval()
        self.is_trained_ = True

    def _run(self, max_epochs: int, accelerator: str, plan_kwargs: dict, watch: WatchInterrupts, options: dict) -> None:
        paper = isinstance(self.module, PaperModule)
        plan_class = PaperPlan if paper else ScalarPlan
        plan = plan_class(self.module, **plan_kwargs)
        callbacks = [*(options.pop("callbacks", None) or []), watch]
        options.setdefault("enable_progress_bar", not settings.is_silent)
        with hushed(*LIGHTNING), warnings.catch_warnings():
            for message in IGNORED_WARNINGS:
                warnings.filterwarnings("ignore", message=message)
            runner = TrainRunner(
                self,
                training_plan=plan,
                data_splitter=AllPerturbations(len(self.module.perturbations)),
                max_epochs=max_epochs,
                accelerator=accelerator if paper else "cpu",
                devices=1,
                early_stopping=False,
                callbacks=callbacks,
                **{"check_val_every_n_epoch": None, "log_every_n_steps": 1, **options},
            )
            if not self.history_:
                self.is_trained_ = False  # scvi-tools would append to a history that has not begun
            runner()
        if watch.interrupted:
            raise KeyboardInterrupt
