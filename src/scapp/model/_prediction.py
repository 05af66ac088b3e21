"""What a trained model tells: predictions, attention, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._genes import check_no_view, shorten
from scapp._keys import Key
from scapp._perturbations import check_known, parse_labels
from scapp._ranking import rank_genes
from scapp._warn import warn_user
from scapp.data._fields import check_same_genes
from scapp.data._mudata import column_of_mudata
from scapp.model._own_effects import OwnEffects
from scapp.model._results import Results, new_anndata, over_all_genes, profile_of
from scapp.pp._labels import column_of_obs

if TYPE_CHECKING:
    from mudata import MuData
    from scipy import sparse

    from scapp.model._inputs import Registered
    from scapp.module import APPModule


WriteOwn = Callable[[Sequence[tuple[int, ...]], np.ndarray, np.ndarray | None], None]


class PredictionMixin:
    """The methods of :class:`scapp.model.APP` that need a trained model and change nothing in it."""

    module: APPModule
    registry: dict
    adata: AnnData | MuData | None
    is_trained_: bool
    n_parameters: dict[str, int]
    _registered: Registered

    @overload
    def predict(
        self,
        perturbations: Iterable[str],
        *,
        adata: None = None,
        control_mean: AnnData | pd.Series | np.ndarray | None = None,
        kind: str | None = None,
    ) -> AnnData: ...

    @overload
    def predict(
        self, perturbations: None = None, *, adata: AnnData | MuData | None = None, kind: str | None = None
    ) -> None: ...

    def predict(
        self,
        perturbations: Iterable[str] | None = None,
        *,
        adata: AnnData | MuData | None = None,
        control_mean: AnnData | pd.Series | np.ndarray | None = None,
        kind: str | None = None,
    ) -> AnnData | None:
        """Predict the effects of perturbations, measured or not.

        Parameters
        ----------
        perturbations
            Labels such as ``"KLF1"`` or ``"KLF1+CEBPA"``, the genes in any order. If None, the perturbations of `adata`
            are predicted and written into it.
        adata
            With `perturbations` None: an AnnData with the genes of the training; the one that was set up if None. Of a
            MuData, the expression modality is written into.
        control_mean
            With names: mean expression of the control cells of another line or condition, to predict there: effects of that
            context (with ``var["control_mean"]``), a Series indexed by gene, or an array in the order of the genes. The
            log-fold-changes are carried over as they are, and added to this profile in `X`.
        kind
            Of a screen that was set up with a `kind` column of several: how the genes that it did not perturb alone are
            perturbed, for the change of these genes themselves. If None, these are predicted as any other gene.

        Returns
        -------
        With names, a new AnnData with one observation a name, in the order and the spelling asked:

        - `X`: predicted mean expression, where the mean of the control cells is known (that of the training, or
          `control_mean`), at least zero
        - ``layers["predicted_lfc"]``: predicted log-fold-changes (natural logarithm), NaN for genes not measured
        - ``layers["predicted_lfc_std"]``: their standard deviation, calibrated on the residuals of leaving out training
          perturbations
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
            If a label cannot be read, is a control, is asked twice, or names a gene that is not a node, `control_mean`
            does not fit the genes, or the training screen has too few measured targets of that `kind`.
        TypeError
            If `perturbations` is one text and not a list of them.
        """
        self._check_trained()
        if perturbations is None:
            if control_mean is not None:
                raise ValueError(
                    "control_mean=… goes with names of perturbations: what is written into adata has no X."
                )
            self._predict_into(*self._checked_adata(adata), kind)
            return None
        if adata is not None:
            raise ValueError("Pass either names of perturbations or an AnnData with them, not both.")
        r = self._registered
        profile = r.control_mean if control_mean is None else profile_of(control_mean, r.genes, r.measured)
        results = self._results(_names(perturbations), kind)
        predicted = new_anndata(results.obs, r.genes, r.measured, profile, results)
        predicted.uns[Key.uns.SCAPP] = {Key.uns.PREDICTION: self._provenance()}
        return predicted

    def get_var_names(self, legacy_mudata_format: bool = False) -> np.ndarray | dict[str, np.ndarray]:
        """The genes, as scvi-tools saves them; of a MuData, those of each modality.

        Parameters
        ----------
        legacy_mudata_format
            As in scvi-tools.
        """
        if self.adata is not None:
            return super().get_var_names(legacy_mudata_format=legacy_mudata_format)  # type: ignore[misc]
        # scvi-tools looks for them in a field that its own models have.
        genes = np.array(self.genes)
        modalities = self.registry["setup_args"].get("modalities")
        return genes if modalities is None or legacy_mudata_format else {modalities["layer"]: genes}

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

    def _check_trained(self) -> None:
        if not self.is_trained_:
            raise RuntimeError("This APP has not been trained: call model.train() first.")

    def _checked_adata(self, adata: AnnData | MuData | None) -> tuple[AnnData, pd.Series]:
        """What is written into, and the label of each of its observations."""
        target = self.adata if adata is None else adata
        if target is None:
            raise ValueError("This model was loaded without data: pass names of perturbations, or adata=….")
        check_no_view(target, "APP.predict")
        key = self.registry["setup_args"]["perturbation_key"]
        if isinstance(target, AnnData):
            labels = column_of_obs(target, key, "perturbation_key")
        else:
            modalities = self.registry["setup_args"].get("modalities")
            if modalities is None:
                raise ValueError("This model was set up with an AnnData; pass the modality: adata=mdata['rna'].")
            if modalities["layer"] not in target.mod:
                raise ValueError(f"This MuData has no modality {modalities['layer']!r}, which holds the expression.")
            labels = column_of_mudata(target, key, modalities.get("perturbation_key"))
            target = target.mod[modalities["layer"]]
            labels = labels.reindex(target.obs_names)
            if labels.isna().any():
                raise ValueError(
                    f"{int(labels.isna().sum())} of the {target.n_obs} cells of the expression have no value in {key!r}, which holds "
                    "the perturbations. Leave them out."
                )
        check_same_genes(np.array(self.genes), target)
        return target, labels

    def _read_labels(self, perturbations: Iterable[str]) -> tuple[list[str], list[tuple[int, ...]]]:
        """Labels, and the nodes that each names."""
        names = _names(perturbations)
        return names, self._parse(names)

    def _parse(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        args = self.registry["setup_args"]
        parsed = parse_labels(names, control=args["control"], sep=args["combination_sep"])
        controls = [name for name, genes in zip(names, parsed, strict=True) if not genes]
        if controls:
            raise ValueError(f"Expected perturbations, found the control ({shorten(controls)}), which has no effect.")
        check_known(parsed, self.genes)
        node = {gene: i for i, gene in enumerate(self.genes)}
        return [tuple(node[gene] for gene in genes) for genes in parsed]

    def _results(self, names: Sequence[str], kind: str | None = None) -> Results:
        perturbations = self._parse(names)
        obs = self._describe(names, perturbations)
        measured = self._registered.measured
        lfc, std, attention = (
            tensor.cpu().numpy() for tensor in self.module.predict(perturbations) if tensor is not None
        )
        self._write_own_effects(kind)(perturbations, lfc, std)
        return Results(over_all_genes(lfc, measured), over_all_genes(std, measured), attention, obs)

    def _describe(self, names: Sequence[str], perturbations: Sequence[tuple[int, ...]]) -> pd.DataFrame:
        """What is known of perturbations before they are predicted, one row each; warns of genes nothing is known of."""
        r, module = self._registered, self.module
        informed, measured, trained = self._informed().tolist(), module.single_column, set(module.perturbations)
        obs = pd.DataFrame(
            {
                self.registry["setup_args"]["perturbation_key"]: np.array(names, dtype=object),
                Key.obs.N_PERTURBED_GENES: [len(p) for p in perturbations],
                Key.obs.IN_TRAINING: [p in trained for p in perturbations],
                Key.obs.SINGLES_MEASURED: [sum(g in measured for g in p) for p in perturbations],
                Key.obs.UNINFORMED: [not all(informed[g] for g in p) for p in perturbations],
            },
            index=pd.Index(names, dtype=object),
        )
        unknown = sorted({r.genes[g] for p in perturbations for g in p if not informed[g]})
        if unknown:
            warn_user(
                f"{len(unknown)} perturbed gene(s) have no edges, no features and no measurement of their own: "
                f"{shorten(unknown)}. They are predicted like an average gene; see obs['{Key.obs.UNINFORMED}'].",
            )
        return obs

    def _write_own_effects(self, kind: str | None) -> WriteOwn:
        """What puts the changes of perturbed genes themselves into predictions; nothing if no kind was named."""
        if kind is None and self._registered.kinds is None:
            return lambda perturbations, lfc, std: None
        return partial(OwnEffects.fit(self._registered, self.module.targets.cpu().numpy()).write, kind)

    def _informed(self) -> np.ndarray:
        """Which genes have edges, features or a measurement of their own, of shape (n_vars,)."""
        known = self._registered.has_edges() | self._registered.has_features()
        known[list(self.module.single_column)] = True
        return known

    def _predict_into(self, adata: AnnData, labels: pd.Series, kind: str | None) -> None:
        args = self.registry["setup_args"]
        key = args["perturbation_key"]
        labels = labels.astype(str)
        parsed = parse_labels(labels, control=args["control"], sep=args["combination_sep"])
        is_control = np.array([not genes for genes in parsed])
        names = list(dict.fromkeys(labels[~is_control]))
        if not names:
            raise ValueError(f"All observations are controls by adata.obs[{key!r}]; there is nothing to predict.")
        results = self._results(names, kind)
        row = {name: i for i, name in enumerate(names)}
        rows = np.array([row.get(label, 0) for label in labels])
        ranked = rank_genes(
            results.attention,
            results.lfc,
            names,
            self.genes,
            groupby=key,
            reference=args["control"] or "control",
            layer=Key.layers.PREDICTED_LFC,
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
    lists = [name for name in names if isinstance(name, list | tuple | set)]
    if lists:
        raise TypeError(
            f"A perturbation is named by a text, such as 'KLF1' or 'KLF1+CEBPA', found the {type(lists[0]).__name__} {lists[0]!r}. "
            "Join the genes of each: ['+'.join(genes) for genes in …]."
        )
    if not names:
        raise ValueError("No perturbation is asked: the list of labels is empty.")
    if len(set(names)) < len(names):
        twice = pd.Index(names)[pd.Index(names).duplicated()].unique()
        raise ValueError(f"These labels are asked more than once: {shorten(twice)}. Ask each once.")
    return names
