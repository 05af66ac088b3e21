"""The AdaptivePerturbPredictor as an scvi-tools model."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
import rich.pretty  # noqa: F401  scvi-tools 1.4 forgets it where it shows its registry
import torch
from anndata import AnnData
from scvi import settings
from scvi.data import AnnDataManager
from scvi.model.base import BaseModelClass
from scvi.train import TrainRunner

from scapp._genes import check_no_view, shorten
from scapp._keys import Key
from scapp._perturbations import check_known, parse_labels
from scapp.data import EffectsField, GeneFeaturesField, GenesField, NetworkField, PerturbationSplitter
from scapp.data._fields import EFFECTS, FEATURES, GENES, NETWORK, numbered
from scapp.model._inputs import Registered
from scapp.model._plan import KeepBest, PerturbationTrainingPlan
from scapp.model._presets import architecture_of
from scapp.model._results import Results, new_anndata, over_all_genes, rank_genes
from scapp.module import APPModule

if TYPE_CHECKING:
    from scipy import sparse

logger = logging.getLogger(__name__)

MAX_EPOCHS = 40
MAX_EPOCHS_PAPER = 100
# What Lightning says of a data loader with one batch of indices; true, and of no use to a user.
CHATTER = (
    ".*number of training batches.*",
    ".*infer the `batch_size`.*",
    ".*LeafSpec.*",
    ".*does not have many workers.*",
)


class APP(BaseModelClass):
    r"""AdaptivePerturbPredictor :cite:p:`Zhao2025`: effects of gene perturbations that nobody has measured.

    A graph network embeds the genes over one network or several (equations 1 and 2 of the paper), an attention that is
    specific to the perturbation weighs all genes (3 to 5), their weighted sum is the cell state (6), and a linear decoder
    reads the log-fold-changes from it (7). By default the decoder is solved in closed form, encoder and attention are
    trained on its leave-one-out error, and combinations are predicted as the shrunk sum of their genes' own effects,
    measured where there are measurements, plus an interaction term.

    Parameters
    ----------
    adata
        AnnData that was set up with :meth:`setup_anndata`.
    registry
        For loading a model without its data; not to be given by hand.
    preset
        ``"paper"``: equations 1 to 7 as written, one head without prior, ReLU, two layers, trained end to end on
        all perturbations, without anchor. The options below then keep their meaning where they apply.
    n_models
        Networks trained together from different starts, and averaged; 3, or 1 for the paper's form.
    n_hidden
        Width of a gene's embedding; 64.
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
        ``"linear"`` (closed form; by gradient in the paper's form), or as an ablation ``"mlp"``, trained by gradient.
    anchor
        Whether combinations are predicted from the effects of their genes; not in the paper's form.

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
        adata: AnnData | None = None,
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
        decoder: Literal["linear", "mlp"] | None = None,
        anchor: bool | None = None,
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

    @classmethod
    def setup_anndata(
        cls,
        adata: AnnData,
        *,
        perturbation_key: str = Key.obs.PERTURBATION,
        control: str | None = "control",
        layer: str | None = None,
        network_key: str | Sequence[str] = Key.varp.NETWORK,
        gene_features_key: str | Sequence[str] | None = None,
        combination_sep: str = "+",
        batch_key: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Say where the model finds what it needs. Effects of cells are computed here, once.

        Adds ``adata.uns["_scvi_uuid"]`` and ``adata.uns["_scvi_manager_uuid"]``, and nothing else.

        Parameters
        ----------
        adata
            Cells with controls among them, or effects (one observation a perturbation).
        perturbation_key
            Column of `obs` with labels such as ``"KLF1"``, ``"KLF1+CEBPA"``.
        control
            Label of the control cells; None if the observations are effects.
        layer
            Layer with counts or log-normalised expression of cells, or the log-fold-changes of effects; `X` if None.
        network_key
            Key of the network in `varp`, or several.
        gene_features_key
            Key of gene features in `varm`, or several; a row of NaN marks a gene without.
        combination_sep
            What joins the genes of a combination.
        batch_key
            Column of `obs`; each cell is then compared with the controls of its own batch.
        **kwargs
            For scvi-tools.

        Raises
        ------
        ValueError
            For input that the model cannot use, naming what was found, what was expected and the call that mends it.
        """
        setup_method_args = cls._get_setup_method_args(**locals())
        check_no_view(adata, "scapp.model.APP.setup_anndata")
        networks = [network_key] if isinstance(network_key, str) else list(network_key)
        features = [gene_features_key] if isinstance(gene_features_key, str) else list(gene_features_key or [])
        if not networks:
            raise ValueError("APP needs at least one network: name it with network_key=….")
        if control is None and batch_key is not None:
            raise ValueError("batch_key matches cells with the controls of their batch; effects have no controls.")
        fields = [
            GenesField(GENES, None),
            *numbered(NETWORK, NetworkField, networks),
            *numbered(FEATURES, GeneFeaturesField, features),
            EffectsField(
                EFFECTS, perturbation_key, control=control, layer=layer, sep=combination_sep, batch_key=batch_key
            ),
        ]
        manager = AnnDataManager(fields=fields, setup_method_args=setup_method_args)
        with _undo_on_error(adata):
            manager.register_fields(adata, **kwargs)
        cls.register_manager(manager)

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
            Passes over all perturbations; 40, or 100 for the paper's form. With 0 only what has a closed form is fitted.
        validation_size
            Share of the singles and of the combinations held out; 0 trains for `max_epochs` without validation.
        early_stopping
            Whether to stop when the validation loss has not improved for `early_stopping_patience` epochs.
        early_stopping_patience
            See `early_stopping`.
        accelerator, devices
            As in scvi-tools: ``"cpu"``, ``"gpu"``, ``"auto"``.
        plan_kwargs
            For the training plan: `lr` (3e-4, or 1e-3 for the paper's form), `lr_scalars` (2e-2), `weight_decay`, ….
        **trainer_kwargs
            For :class:`scvi.train.Trainer`.

        Raises
        ------
        RuntimeError
            If the model was loaded without data it has nothing to be trained on.
        """
        paper = not self.module.main[0].architecture.closed_form
        if max_epochs is None:
            max_epochs = MAX_EPOCHS_PAPER if paper else MAX_EPOCHS
        if not self.module.targets.any():
            raise RuntimeError("This model holds no training effects; load it with its state, or make a new one.")
        self.module.train()  # Lightning leaves the module in evaluation mode after a first training
        if max_epochs == 0:
            self.module.finish()
            self.module.eval()
            self.is_trained_ = True
            return
        splitter = self._data_splitter_cls([len(p) for p in self.module.perturbations], validation_size=validation_size)
        validated = splitter.n_val > 0
        if validation_size > 0 and not validated:
            warnings.warn(
                f"{len(self.module.perturbations)} perturbations are too few to hold out {validation_size:.0%} of them; "
                "training runs for all epochs without validation.",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )
        defaults = {"lr": 1e-3, "lr_scalars": None} if paper else {}
        plan = self._training_plan_cls(self.module, **{**defaults, **(plan_kwargs or {})})
        callbacks = [*trainer_kwargs.pop("callbacks", []), *([KeepBest()] if validated else [])]
        runner = self._train_runner_cls(
            self,
            training_plan=plan,
            data_splitter=splitter,
            max_epochs=max_epochs,
            accelerator=accelerator,
            devices=devices,
            early_stopping=early_stopping and validated,
            early_stopping_monitor="validation_loss",
            early_stopping_patience=early_stopping_patience,
            check_val_every_n_epoch=1 if validated else None,
            callbacks=callbacks,
            **trainer_kwargs,
        )
        if not self.history_:
            self.is_trained_ = False  # scvi-tools would append to a history that a fit without epochs has not begun
        with warnings.catch_warnings():
            for message in CHATTER:
                warnings.filterwarnings("ignore", message=message)
            runner()

    @overload
    def predict(self, perturbations: Iterable[str], *, adata: None = None) -> AnnData: ...

    @overload
    def predict(self, perturbations: None = None, *, adata: AnnData | None = None) -> None: ...

    def predict(self, perturbations: Iterable[str] | None = None, *, adata: AnnData | None = None) -> AnnData | None:
        """Predict the effects of perturbations, measured or not.

        Parameters
        ----------
        perturbations
            Labels such as ``"KLF1"`` or ``"KLF1+CEBPA"``, the genes in any order. If None, the perturbations of `adata`
            are predicted and written into it.
        adata
            With `perturbations` None: an AnnData with the genes of the training; the one that was set up if None.

        Returns
        -------
        With names, a new AnnData with one observation a name, in the order and the spelling asked:

        - `X`: predicted mean expression, where the mean of the control cells is known
        - ``layers["predicted_lfc"]``: predicted log-fold-changes (natural logarithm), NaN for genes not measured
        - ``layers["predicted_lfc_std"]``: their standard deviation, from the spread over the models and the decoder's own
          uncertainty
        - ``layers["attention"]``: attention to each gene, each row summing to one
        - ``obs["in_training"]``, ``obs["n_singles_measured"]``: whether the perturbation was trained on, and how many of its
          genes were measured alone
        - ``obs["uninformed"]``: whether one of its genes has neither edges nor features nor a measurement of its own

        Without names, None: `adata` gains these layers, and ``uns["attention_genes"]`` in the form of scanpy's
        ``rank_genes_groups`` (genes ranked by attention; ``sc.pl.rank_genes_groups(adata, key="attention_genes")``).
        Control observations get a log-fold-change of zero and no attention (NaN).

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If a label cannot be read, is a control, is asked twice, or names a gene that is not a node.
        TypeError
            If `perturbations` is one text and not a list of them.
        """
        self._check_trained()
        if perturbations is None:
            self._predict_into(self._checked_adata(adata))
            return None
        if adata is not None:
            raise ValueError("Pass either names of perturbations or an AnnData with them, not both.")
        results = self._results(_names(perturbations))
        r = self._registered
        predicted = new_anndata(results, r.genes, r.measured, r.control_mean)
        predicted.uns[Key.uns.SCAPP] = {Key.uns.PREDICTION: self._provenance()}
        return predicted

    def get_attention(self, perturbations: Iterable[str]) -> pd.DataFrame:
        """Attention to each gene.

        Parameters
        ----------
        perturbations
            Labels, as in :meth:`predict`.

        Returns
        -------
        Table of shape (n_labels, n_vars), averaged over heads and models; each row sums to one.
        """
        self._check_trained()
        names = _names(perturbations)
        return pd.DataFrame(self._results(names).attention, index=names, columns=self.genes)

    def get_gene_embeddings(self) -> pd.DataFrame:
        """Embeddings :math:`h_i` of all genes, those of the models side by side: (n_vars, n_models * n_hidden)."""
        self._check_trained()
        return pd.DataFrame(self.module.gene_embeddings().cpu().numpy(), index=self.genes)

    def get_perturbation_embeddings(self, perturbations: Iterable[str]) -> pd.DataFrame:
        """Cell states :math:`s` of perturbations, those of heads and models side by side.

        Parameters
        ----------
        perturbations
            Labels, as in :meth:`predict`.
        """
        self._check_trained()
        names = _names(perturbations)
        states = self.module.perturbation_embeddings(self._parse(names))
        return pd.DataFrame(states.cpu().numpy(), index=names)

    @property
    def genes(self) -> list[str]:
        """The genes, in the order of the training."""
        return list(self._registered.genes)

    @property
    def network(self) -> sparse.csr_matrix | dict[str, sparse.csr_matrix]:
        """The network that the model uses, row = source, column = target; one for each key if there are several."""
        keys = self.registry["setup_args"]["network_key"]
        keys = [keys] if isinstance(keys, str) else list(keys)
        found = {key: self._registered.adjacency(k) for k, key in enumerate(keys)}
        return found[keys[0]] if len(keys) == 1 else found

    # ------------------------------------------------------------------ inside

    def _fill_targets(self) -> None:
        """Give the module the training effects, unless the weights of a saved model will bring them."""
        effects = next(field.effects for field in self.adata_manager.fields if isinstance(field, EffectsField))
        if effects is None:
            return
        r = self._registered
        lfc = np.asarray(effects.layers[Key.layers.LFC], dtype=np.float32)[:, r.measured]
        self.module.targets.copy_(torch.as_tensor(lfc))
        if Key.layers.LFC_SE in effects.layers and self.module.single_rows:
            error = np.asarray(effects.layers[Key.layers.LFC_SE], dtype=np.float32)[:, r.measured]
            self.module.singles_error.copy_(torch.as_tensor(np.nan_to_num(error[self.module.single_rows])))

    def _check_trained(self) -> None:
        if not self.is_trained_:
            raise RuntimeError("This APP has not been trained: call model.train() first.")

    def _checked_adata(self, adata: AnnData | None) -> AnnData:
        target = self.adata if adata is None else adata
        if target is None:
            raise ValueError("This model was loaded without data: pass names of perturbations, or adata=….")
        check_no_view(target, "APP.predict")
        GenesField(GENES, None).transfer_field({"var_names": np.array(self.genes)}, target)
        return target

    def _parse(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        args = self.registry["setup_args"]
        parsed = parse_labels(names, control=args["control"], sep=args["combination_sep"])
        controls = [name for name, genes in zip(names, parsed, strict=True) if not genes]
        if controls:
            raise ValueError(f"Expected perturbations, found the control ({shorten(controls)}), which has no effect.")
        check_known(parsed, self.genes)
        node = {gene: i for i, gene in enumerate(self.genes)}
        return [tuple(node[gene] for gene in genes) for genes in parsed]

    def _results(self, names: Sequence[str]) -> Results:
        perturbations = self._parse(names)
        r, module = self._registered, self.module
        informed = r.has_edges() | r.has_features()
        informed[list(module.single_column)] = True
        trained = set(module.perturbations)
        obs = pd.DataFrame(
            {
                self.registry["setup_args"]["perturbation_key"]: np.array(names, dtype=object),
                Key.obs.N_PERTURBED_GENES: [len(p) for p in perturbations],
                Key.obs.IN_TRAINING: [p in trained for p in perturbations],
                Key.obs.SINGLES_MEASURED: [sum(g in module.single_column for g in p) for p in perturbations],
                Key.obs.UNINFORMED: [not informed[list(p)].all() for p in perturbations],
            },
            index=pd.Index(names, dtype=object),
        )
        unknown = sorted({r.genes[g] for p in perturbations for g in p if not informed[g]})
        if unknown:
            warnings.warn(
                f"{len(unknown)} perturbed gene(s) have no edges, no features and no measurement of their own: "
                f"{shorten(unknown)}. They are predicted like an average gene; see obs['{Key.obs.UNINFORMED}'].",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )
        lfc, std, attention = (tensor.cpu().numpy() for tensor in module.predict(perturbations))
        return Results(over_all_genes(lfc, r.measured), over_all_genes(std, r.measured), attention, obs)

    def _predict_into(self, adata: AnnData) -> None:
        args = self.registry["setup_args"]
        key = args["perturbation_key"]
        if key not in adata.obs:
            raise ValueError(f"adata.obs has no column {key!r}, which holds the perturbations.")
        labels = adata.obs[key].astype(str)
        parsed = parse_labels(labels, control=args["control"], sep=args["combination_sep"])
        is_control = np.array([not genes for genes in parsed])
        names = list(dict.fromkeys(labels[~is_control]))
        if not names:
            raise ValueError(f"All observations are controls by adata.obs[{key!r}]; there is nothing to predict.")
        results = self._results(names)
        row = {name: i for i, name in enumerate(names)}
        rows = np.array([row.get(label, 0) for label in labels])
        ranked = rank_genes(
            results.attention,
            results.lfc,
            names,
            self.genes,
            groupby=key,
            reference=args["control"] or "control",
        )
        for name, values in results.layers(rows).items():
            values[is_control] = np.nan if name == Key.layers.ATTENTION else 0
            adata.layers[name] = values
        adata.uns[Key.uns.ATTENTION_GENES] = ranked
        adata.uns[Key.uns.SCAPP] = {**adata.uns.get(Key.uns.SCAPP, {}), Key.uns.PREDICTION: self._provenance()}

    def _provenance(self) -> dict[str, Any]:
        import scapp

        return {"model": "APP", "version": scapp.__version__, "n_models": self.n_parameters["models"]}


def _names(perturbations: Iterable[str]) -> list[str]:
    if isinstance(perturbations, str):
        raise TypeError(f"Expected a list of labels, found the text {perturbations!r}. Pass [{perturbations!r}].")
    names = list(perturbations)
    if not names:
        raise ValueError("No perturbation is asked: the list of labels is empty.")
    if len(set(names)) < len(names):
        twice = pd.Index(names)[pd.Index(names).duplicated()].unique()
        raise ValueError(f"These labels are asked more than once: {shorten(twice)}. Ask each once.")
    return names


class _undo_on_error:
    """Take back what scvi-tools wrote into `uns` if registration fails, so that the AnnData is as it was."""

    def __init__(self, adata: AnnData):
        self.adata, self.before = adata, dict(adata.uns)

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, *args: object) -> None:
        if kind is not None:
            for key in set(self.adata.uns) - set(self.before):
                del self.adata.uns[key]
            for key, value in self.before.items():
                self.adata.uns[key] = value
