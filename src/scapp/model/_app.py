"""The AdaptivePerturbPredictor as an scvi-tools model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import rich
import rich.pretty  # scvi-tools 1.4 uses it to show its registry but does not import it
import rich.table
from anndata import AnnData
from scvi.model.base import BaseModelClass

from scapp._checked import checked
from scapp._keys import Key
from scapp._training_effects import DEPTH
from scapp.model._fields import effects_of
from scapp.model._inputs import ModelInputs
from scapp.model._new_genes import NewGenesMixin
from scapp.model._saving import SavingMixin
from scapp.model._setup import SetupMixin
from scapp.model._streaming import StreamingMixin
from scapp.model._training import TrainingMixin
from scapp.module import APPModule, PaperModule, PaperOptions

if TYPE_CHECKING:
    from mudata import MuData

# Options of earlier versions, and why they are gone.
REMOVED = {
    "n_models": "one closed form is solved exactly, so there is no ensemble",
    "n_heads": "the attention has one head for each program of the screen",
    "anchor": "combinations and singles share one kernel; closed_form=False leaves it out",
    "leave_one_out": "the scalars are always learned on leave-one-out errors",
}
# Methods of scvi-tools' base class that make no sense for perturbations.
OF_CELLS = frozenset({"get_normalized_expression", "differential_abundance", "get_normalized_function_name"})
PAPER_DEFAULTS = {name: f.default for name, f in PaperOptions.__dataclass_fields__.items()}


class APP(SetupMixin, TrainingMixin, NewGenesMixin, StreamingMixin, SavingMixin, BaseModelClass):
    r"""Predict effects of unmeasured gene perturbations with the AdaptivePerturbPredictor :cite:p:`Zhao2025`.

    The model combines two parts. The first is a closed form over single and combined perturbations. Its kernel depends on
    the gene networks, the annotations, shared genes and the measured effects, and it accounts for measurement noise. The
    second is an attention over measured perturbations: the evidence about a gene decides which measured effects its
    prediction is built from. Training learns about a hundred scalars and the share of the second part by minimising
    leave-one-out errors; no random number decides a prediction. The :doc:`user guide </user_guide>` has the equations.

    Parameters
    ----------
    adata
        AnnData that was set up with :meth:`setup_anndata`, or MuData with :meth:`setup_mudata`.
    registry
        Used internally to load a model without its data; do not pass it yourself.
    preset
        ``"paper"``: equations 1 to 7 of the paper as written, trained end to end. Only this preset uses the options from
        `n_hidden` to `decoder`.
    closed_form
        Whether to use the closed form. False, as an ablation, uses only the attention.
    attention
        Whether to use the attention. False, as an ablation, uses only the closed form.
    known_noise
        Whether to read standard errors, or numbers of cells or counts, of the effects. False, as an ablation, assumes
        the same noise for all.
    n_hidden
        Dimension of the gene embeddings.
    n_layers
        Number of graph layers :math:`L`.
    n_attention
        Dimension of the tanh layer of the attention.
    aggregation
        AGGREGATE of equation 1. Each neighbour is weighted by its edge.
    activation
        :math:`\sigma` of equation 2.
    encoder
        ``"gnn"``, or as ablations ``"identity"`` (a free embedding per gene) and ``"random"`` (a fixed one).
    pooling
        ``"attention"``, or as an ablation ``"mean"``: the mean embedding of the perturbed genes.
    decoder
        ``"linear"``: equation 7. ``"mlp"``, as an ablation: one hidden layer.

    Raises
    ------
    ValueError
        If both parts are switched off, an option of the paper's form is given without ``preset="paper"``, or an option
        has an unknown value.
    TypeError
        If an option no longer exists; the message says why.

    Examples
    --------
    >>> scapp.pp.add_network(effects, "string.tsv")
    >>> scapp.model.APP.setup_anndata(effects)
    >>> model = scapp.model.APP(effects)
    >>> model.train()
    >>> predicted = model.predict(["KLF1+CEBPA", "GATA1"])
    >>> predicted.layers["predicted_lfc"]
    """

    _module_cls = APPModule

    @checked(own=("closed_form", "attention", "known_noise"))
    def __init__(
        self,
        adata: AnnData | MuData | None = None,
        registry: dict | None = None,
        *,
        preset: Literal["default", "paper"] = "default",
        closed_form: bool = True,
        attention: bool = True,
        known_noise: bool = True,
        n_hidden: int = 64,
        n_layers: int = 2,
        n_attention: int = 32,
        aggregation: Literal["mean", "sum", "max"] = "mean",
        activation: Literal["relu", "leaky_relu"] = "relu",
        encoder: Literal["gnn", "identity", "random"] = "gnn",
        pooling: Literal["attention", "mean"] = "attention",
        decoder: Literal["linear", "mlp"] = "linear",
        **removed: Any,
    ):
        for name in removed:
            if name in REMOVED:
                raise TypeError(f"APP no longer has the option {name!r}: {REMOVED[name]}. Leave it out.")
            raise TypeError(f"APP has no option {name!r}; see help(scapp.model.APP).")
        options = {name: value for name, value in locals().items() if name in PAPER_DEFAULTS}
        _check_options(preset, closed_form, attention, known_noise, options)
        super().__init__(adata, registry)
        self._registered = registered = ModelInputs.read(self.registry)
        self._known_noise = known_noise
        self.module: APPModule | PaperModule
        if preset == "paper":
            self.module = PaperModule(registered, PaperOptions(**options))
        else:
            self.module = APPModule(registered, closed_form=closed_form, attention=attention)
        if adata is not None:
            self._set_effects()
        n_parameters = sum(p.numel() for p in self.module.parameters() if p.requires_grad)
        singles = sum(len(p) == 1 for p in registered.perturbations)
        halves = " and ".join(["closed form"] * closed_form + ["attention"] * attention)
        self._model_summary_string = (
            f"APP ({'equations of the paper' if preset == 'paper' else halves}) over {len(registered.genes)} genes "
            f"({registered.n_measured} measured), {len(registered.networks)} network(s) and "
            f"{len(registered.features)} annotation(s)\n"
            f"Perturbations: {singles} single, {len(registered.perturbations) - singles} combined\n"
            f"Learned: {n_parameters:,} scalars"
        )
        self.n_parameters = n_parameters
        self.init_params_ = self._get_init_params(locals())

    def __dir__(self) -> list[str]:
        """List only methods that make sense here; scvi-tools' base class adds some that are for models of cells."""
        return [name for name in super().__dir__() if name not in OF_CELLS]

    def view_anndata_setup(self, adata: AnnData | MuData | None = None, hide_state_registries: bool = False) -> None:
        """Print the registered inputs, with their location and size. Works without the data.

        Parameters
        ----------
        adata
            Ignored; kept for compatibility with scvi-tools. The registry of the model is always shown.
        hide_state_registries
            Whether to show only the arguments of the set-up.
        """
        self.view_setup_method_args()
        if hide_state_registries:
            return
        args, registered = self.registry["setup_args"], self._registered
        # In a MuData, the labels may be in a different modality from the expression, or in the MuData's own obs.
        modalities = args.get("modalities") or {}
        expression, labels = (
            f"adata.mod[{modalities[name]!r}]" if modalities.get(name) else "adata"
            for name in ("layer", "perturbation_key")
        )
        slot = "X" if args["layer"] is None else f"layers[{args['layer']!r}]"
        table = rich.table.Table("what", "where", "size", title="Registered")
        table.add_row(
            "genes", f"{expression}.var_names", f"{len(registered.genes):,}, {registered.n_measured:,} measured"
        )
        table.add_row("effects" if args["control"] is None else "cells", f"{expression}.{slot}", "")
        table.add_row(
            "perturbations", f"{labels}.obs[{args['perturbation_key']!r}]", f"{len(registered.perturbations):,}"
        )
        for k, key in enumerate(args["network_key"]):
            n_edges = self.summary_stats[f"n_network_{k}_edges"]
            table.add_row("network", f"{expression}.varp[{key!r}]", f"{n_edges:,} edges")
        for key, block in zip(args["gene_features_key"], registered.features, strict=True):
            table.add_row("gene features", f"{expression}.varm[{key!r}]", f"{block.shape[1]:,} for each gene")
        rich.print(table)

    def _set_effects(self, *, read: bool = False) -> None:
        """Give the module the training effects, unless they were loaded with the weights of a saved model.

        With `read`, they are read again from the data with which a saved model was loaded.
        """
        effects = None if self.adata is None else effects_of(self.adata_manager, read=read)
        if effects is None:
            return
        measured = self._registered.measured
        lfc = np.asarray(effects.layers[Key.layers.LFC], dtype=np.float32)[:, measured]
        variance = depth = None
        if self._known_noise and Key.layers.LFC_SE in effects.layers:
            variance = np.square(np.asarray(effects.layers[Key.layers.LFC_SE], dtype=np.float64)[:, measured])
        elif self._known_noise:
            column = next((c for c in DEPTH if c in effects.obs), None)
            depth = None if column is None else effects.obs[column].to_numpy(dtype=np.float64)
        self.module.set_effects(lfc, variance=variance, depth=depth)


def _check_options(preset: str, closed_form: bool, attention: bool, known_noise: bool, options: dict[str, Any]) -> None:
    if preset not in ("default", "paper"):
        raise ValueError(f"Unknown preset {preset!r}; choose 'default' or 'paper'.")
    for name, value in {"closed_form": closed_form, "attention": attention, "known_noise": known_noise}.items():
        if not isinstance(value, (bool, np.bool_)):
            raise ValueError(f"{name} must be True or False, found {value!r}.")
    if not (closed_form or attention):
        raise ValueError("closed_form and attention cannot both be False. Keep one of them.")
    PaperOptions(**options)
    given = [name for name, value in options.items() if value != PAPER_DEFAULTS[name]]
    if preset == "default" and given:
        raise ValueError(
            f"{given[0]}={options[given[0]]!r} applies only to the paper's form. Pass preset='paper' with it."
        )
