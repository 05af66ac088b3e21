"""The AdaptivePerturbPredictor as an scvi-tools model."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rich.pretty  # noqa: F401  scvi-tools 1.4 forgets it where it shows its registry
import torch
from anndata import AnnData
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner

from scapp._keys import Key
from scapp._warn import warn_user
from scapp.data import PerturbationSplitter
from scapp.data._mudata import effects_of
from scapp.model._devices import check_one_device
from scapp.model._inputs import Registered
from scapp.model._plan import KeepBest, PerturbationTrainingPlan
from scapp.model._presets import architecture_of
from scapp.model._setup import SetupMixin
from scapp.model._streaming import StreamingMixin
from scapp.module import APPModule
from scapp.module._scale import N_TOGETHER

if TYPE_CHECKING:
    from mudata import MuData

MAX_EPOCHS = 20
MAX_EPOCHS_PAPER = 100
# What Lightning says of a data loader with one batch of indices; true, and of no use to a user.
CHATTER = (
    ".*number of training batches.*",
    ".*infer the `batch_size`.*",
    ".*LeafSpec.*",
    ".*does not have many workers.*",
)


class APP(SetupMixin, StreamingMixin, BaseModelClass):
    r"""AdaptivePerturbPredictor :cite:p:`Zhao2025`: effects of gene perturbations that nobody has measured.

    A graph network embeds the genes over one network or several (equations 1 and 2 of the paper), an attention that is
    specific to the perturbation weighs all genes (3 to 5), their weighted sum is the cell state (6), and a linear decoder
    reads the log-fold-changes from it (7). By default the decoder reads similarities of cell states and is solved in closed
    form, encoder and attention are trained on its leave-one-out error, and combinations are predicted as the shrunk sum of their genes' own effects,
    measured where there are measurements, plus an interaction term.

    Parameters
    ----------
    adata
        AnnData that was set up with :meth:`setup_anndata`, or MuData with :meth:`setup_mudata`.
    registry
        For loading a model without its data; not to be given by hand.
    preset
        ``"paper"``: equations 1 to 7 as written, one head without prior, ReLU, two layers, trained end to end on
        all perturbations, without anchor. The options below then keep their meaning where they apply.
    n_models
        Networks trained together from different starts, and averaged; 3, or 1 for the paper's form.
    n_hidden
        Width of a gene's embedding; 32, or 64 for the paper's form.
    n_layers
        Graph layers :math:`L`; 1, or 2 for the paper's form.
    n_attention
        Width of the tanh layer of an attention head; 8, or 32 for the paper's form.
    n_heads
        Attention heads without a prior, besides one for the perturbed genes and one for each network; 0, or 1 for the
        paper's form, which has no priors.
    aggregation
        AGGREGATE of equation 1, each neighbour weighted by its edge.
    activation
        :math:`\sigma` of equation 2; leaky ReLU, or ReLU for the paper's form.
    encoder
        ``"gnn"``, or as ablations ``"identity"`` (a free embedding a gene) and ``"random"`` (a fixed one).
    pooling
        ``"attention"``, or as an ablation ``"mean"``: the mean embedding of the perturbed genes.
    decoder
        ``"kernel"``: linear in Gaussian similarities of the cell state to those of the training perturbations, in closed
        form. ``"linear"``: equation 7, in closed form, or by gradient in the paper's form. ``"mlp"``, as an ablation: one
        hidden layer, trained by gradient.
    anchor
        Whether combinations are predicted from the effects of their genes; not in the paper's form.
    leave_one_out
        Whether encoder and attention are trained on leave-one-out errors of the closed form; False, as an ablation, trains
        them on the errors of the fit.

    Examples
    --------
    >>> scapp.pp.add_network(adata, "string.tsv")
    >>> scapp.model.APP.setup_anndata(adata, perturbation_key="perturbation", control="control")
    >>> model = scapp.model.APP(adata)
    >>> model.train()
    >>> predicted = model.predict(["KLF1+CEBPA", "GATA1"])
    >>> predicted.layers["predicted_lfc"]

    Notes
    -----
    Set ``scvi.settings.seed`` before the model is made for numbers that come out the same each time.
    """

    _module_cls = APPModule
    _training_plan_cls = PerturbationTrainingPlan
    _data_splitter_cls = PerturbationSplitter
    _train_runner_cls = TrainRunner

    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict | None = None,
        *,
        preset: Literal["default", "paper"] = "default",
        n_models: int | None = None,
        n_hidden: int | None = None,
        n_layers: int | None = None,
        n_attention: int | None = None,
        n_heads: int | None = None,
        aggregation: Literal["mean", "sum", "max"] | None = None,
        activation: Literal["leaky_relu", "relu"] | None = None,
        encoder: Literal["gnn", "identity", "random"] | None = None,
        pooling: Literal["attention", "mean"] | None = None,
        decoder: Literal["kernel", "linear", "mlp"] | None = None,
        anchor: bool | None = None,
        leave_one_out: bool | None = None,
    ):
        super().__init__(adata, registry)
        n_models, anchor, architecture = architecture_of(
            preset,
            n_models=n_models,
            anchor=anchor,
            n_hidden=n_hidden,
            n_layers=n_layers,
            n_attention=n_attention,
            n_free_heads=n_heads,
            aggregation=aggregation,
            activation=activation,
            encoder=encoder,
            pooling=pooling,
            decoder=decoder,
            leave_one_out=leave_one_out,
        )
        self._registered = registered = Registered.read(self.registry)
        features, block_sizes = registered.features()
        self.module = self._module_cls(
            perturbations=registered.perturbations,
            n_genes=int(registered.measured.sum()),
            graphs=registered.graphs(),
            features=features,
            block_sizes=block_sizes,
            n_models=n_models,
            anchor=anchor,
            architecture=architecture,
        )
        if adata is not None:
            self._fill_targets()
        trained = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
        solved = sum(member.decoder.n_solved for member in [*self.module.main, *self.module.interaction])
        singles = sum(len(p) == 1 for p in registered.perturbations)
        self._model_summary_string = (
            f"APP (preset: {preset}) over {len(registered.genes)} genes ({int(registered.measured.sum())} measured) and "
            f"{len(registered.networks)} network(s), {sum(len(w) for _, w in registered.networks)} edges\n"
            f"Perturbations: {singles} single, {len(registered.perturbations) - singles} combined\n"
            f"n_models: {n_models}, n_hidden: {architecture.n_hidden}, n_layers: {architecture.n_layers}, "
            f"encoder: {architecture.encoder}, pooling: {architecture.pooling}, decoder: {architecture.decoder}, "
            f"anchor: {anchor}\n"
            f"Parameters, each of the {n_models} models: {trained // n_models:,} trained by gradient, "
            f"{solved // n_models:,} solved in closed form"
        )
        self.n_parameters = {"trained": trained // n_models, "solved": solved // n_models, "models": n_models}
        self.init_params_ = self._get_init_params(locals())

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
        accelerator, devices
            As in scvi-tools: ``"cpu"``, ``"gpu"``, ``"auto"``; one device, as the closed form needs all perturbations together.
        plan_kwargs
            For the training plan: `lr` (3e-4, or 1e-3 for the paper's form), `lr_scalars` (5e-2), `weight_decay`, ….
        **trainer_kwargs
            For :class:`scvi.train.Trainer`.

        Raises
        ------
        RuntimeError
            If the model was loaded without data it has nothing to be trained on.
        ValueError
            If several devices are asked.
        """
        check_one_device(devices)
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
        callbacks = [*(trainer_kwargs.pop("callbacks", None) or []), *([KeepBest()] if validated else [])]
        if not validated:
            trainer_kwargs["check_val_every_n_epoch"] = None
        # What searches of hyper-parameters, and users, may set otherwise.
        options = {"check_val_every_n_epoch": 1, "early_stopping_monitor": "validation_loss", **trainer_kwargs}
        runner = self._train_runner_cls(
            self,
            training_plan=plan,
            data_splitter=splitter,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            early_stopping=early_stopping and validated,
            early_stopping_patience=early_stopping_patience,
            callbacks=callbacks,
            **options,
        )
        if not self.history_:
            self.is_trained_ = False  # scvi-tools would append to a history that a fit without epochs has not begun
        with warnings.catch_warnings():
            for message in CHATTER:
                warnings.filterwarnings("ignore", message=message)
            runner()

    def _fill_targets(self) -> None:
        """Give the module the training effects, unless the weights of a saved model will bring them."""
        effects = effects_of(self.adata_manager.fields)
        if effects is None:
            return
        r = self._registered
        lfc = np.asarray(effects.layers[Key.layers.LFC], dtype=np.float32)[:, r.measured]
        self.module.targets.copy_(torch.as_tensor(lfc))
        if Key.layers.LFC_SE in effects.layers and self.module.single_rows:
            error = np.asarray(effects.layers[Key.layers.LFC_SE], dtype=np.float32)[:, r.measured]
            self.module.singles_error.copy_(torch.as_tensor(np.nan_to_num(error[self.module.single_rows])))
