"""The AdaptivePerturbPredictor as an scvi-tools model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import rich.pretty  # noqa: F401  scvi-tools 1.4 forgets it where it shows its registry
import torch
from anndata import AnnData
from scvi.model.base import BaseModelClass

from scapp._keys import Key
from scapp.data._mudata import effects_of
from scapp.model._inputs import Registered
from scapp.model._presets import architecture_of
from scapp.model._saving import SavingMixin
from scapp.model._setup import SetupMixin
from scapp.model._streaming import StreamingMixin
from scapp.model._training import TrainingMixin
from scapp.module import APPModule

if TYPE_CHECKING:
    from mudata import MuData


class APP(SetupMixin, TrainingMixin, StreamingMixin, SavingMixin, BaseModelClass):
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
