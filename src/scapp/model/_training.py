"""Training, on one device or several."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from scvi.train import LoudEarlyStopping, TrainRunner

from scapp._warn import warn_user
from scapp.data import PerturbationSplitter
from scapp.model._devices import check_processes, names_several
from scapp.model._plan import KeepBest, PerturbationTrainingPlan
from scapp.module import APPModule
from scapp.module._scale import N_TOGETHER

MAX_EPOCHS = 20
MAX_EPOCHS_PAPER = 100
# What Lightning says of a data loader with one batch of indices; true, and of no use to a user. And what scvi-tools says of
# stopping early on several devices, which it leaves to us.
CHATTER = (
    ".*number of training batches.*",
    ".*infer the `batch_size`.*",
    ".*LeafSpec.*",
    ".*does not have many workers.*",
    "early_stopping was automatically disabled.*",
)


class TrainingMixin:
    """How :class:`scapp.model.APP` is trained."""

    _training_plan_cls = PerturbationTrainingPlan
    _data_splitter_cls = PerturbationSplitter
    _train_runner_cls = TrainRunner

    module: APPModule
    history_: Any
    is_trained_: bool

    def train(
        self,
        max_epochs: int | None = None,
        *,
        validation_size: float = 0.1,
        early_stopping: bool = True,
        early_stopping_patience: int = 10,
        accelerator: str = "auto",
        devices: int | list[int] | str = "auto",
        plan_kwargs: dict[str, Any] | None = None,
        **trainer_kwargs: Any,
    ) -> None:
        """Train. Called again, it goes on from where it was.

        Whole perturbations are held out for validation; the weights with the lowest validation loss are kept, and anchor
        and decoders are then fitted to all perturbations, those held out among them.

        Parameters
        ----------
        max_epochs
            Passes over all perturbations; 20, or 100 for the paper's form and for a decoder that has no closed form. With 0 only what has a closed form is fitted.
        validation_size
            Share of the singles and of the combinations held out; 0 trains for `max_epochs` without validation.
        early_stopping
            Whether to stop when the validation loss has not improved for `early_stopping_patience` epochs.
        early_stopping_patience
            See `early_stopping`.
        accelerator
            As in scvi-tools: ``"cpu"``, ``"gpu"``, ``"auto"``.
        devices
            As in scvi-tools; ``"auto"`` is one. With several, each trains its share of the ensemble's members, and the
            numbers are those of one device. Lightning starts a process for each: in a script it runs the whole script again,
            so write files only where ``model.trainer.is_global_zero``.
        plan_kwargs
            For the training plan: `lr` (3e-4, or 1e-3 for the paper's form), `lr_scalars` (5e-2), `weight_decay`, ….
        **trainer_kwargs
            For :class:`scvi.train.Trainer`; `strategy` among them, any of Lightning's ``"ddp"`` for several devices.

        Raises
        ------
        RuntimeError
            If the model was loaded without data it has nothing to be trained on.
        ValueError
            If there are more devices than members of the ensemble, no seed that all processes share, or a strategy that
            splits the model in another way.
        """
        architecture = self.module.main[0].architecture
        paper = not architecture.closed_form
        if max_epochs is None:
            max_epochs = MAX_EPOCHS_PAPER if paper or architecture.decoder == "mlp" else MAX_EPOCHS
        if not self.module.targets.any():
            raise RuntimeError("This model holds no training effects; load it with its state, or make a new one.")
        self.module.train()  # Lightning leaves the module in evaluation mode after a first training
        if max_epochs == 0:
            self.module.finish()
            self.module.eval()
            self.is_trained_ = True
            return
        splitter = self._data_splitter_cls(
            [len(p) for p in self.module.perturbations],
            validation_size=validation_size,
            n_together=N_TOGETHER,
        )
        validated = splitter.n_val > 0
        if validation_size > 0 and not validated:
            warn_user(
                f"{len(self.module.perturbations)} perturbations are too few to hold out {validation_size:.0%} of them; "
                "training runs for all epochs without validation.",
            )
        defaults = {"lr": 1e-3, "lr_scalars": None} if paper else {}
        plan = self._training_plan_cls(self.module, **{**defaults, **(plan_kwargs or {})})
        # What searches of hyper-parameters, and users, may set otherwise.
        options = {"check_val_every_n_epoch": 1, **trainer_kwargs}
        callbacks = [*(options.pop("callbacks", None) or [])]
        stopping = _stopping(options, patience=early_stopping_patience)
        if validated:
            callbacks += [KeepBest(), *([LoudEarlyStopping(**stopping)] if early_stopping else [])]
        else:
            options["check_val_every_n_epoch"] = None
        with ExitStack() as stack:
            stack.enter_context(_without_chatter())
            if names_several(devices) and "log_save_dir" not in options:
                # The history comes back from a process that ends by a file.
                options["log_save_dir"] = stack.enter_context(tempfile.TemporaryDirectory())
            runner = self._train_runner_cls(
                self,
                training_plan=plan,
                data_splitter=splitter,
                max_epochs=max_epochs,
                accelerator=accelerator,
                devices=devices,
                use_distributed_sampler=False,  # each process sees all perturbations
                callbacks=callbacks,
                **options,
            )
            check_processes(runner.trainer, n_members=self.module.n_members)
            if not self.history_:
                self.is_trained_ = False  # scvi-tools would append to a history that a fit without epochs has not begun
            runner()


def _stopping(options: dict[str, Any], *, patience: int) -> dict[str, Any]:
    """How :class:`scvi.train.Trainer` is told to stop early, taken out of its options: it does not on several devices."""
    defaults = {"monitor": "validation_loss", "min_delta": 0.0, "mode": "min", "warmup_epochs": 0}
    found = {name: options.pop(f"early_stopping_{name}", default) for name, default in defaults.items()}
    return {**found, "patience": patience}


@contextmanager
def _without_chatter() -> Iterator[None]:
    with warnings.catch_warnings():
        for message in CHATTER:
            warnings.filterwarnings("ignore", message=message)
        yield
