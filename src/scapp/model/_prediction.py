"""Outputs of a trained model: predictions, attention and embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
from anndata import AnnData
from mudata import MuData

from scapp._checked import checked
from scapp._genes import check_no_view, over_all_genes, shorten
from scapp._keys import Key
from scapp._labels import check_known, column_of_obs, list_labels, parse_labels
from scapp._ranking import write_ranking
from scapp._warn import warn_user
from scapp.model._fields import check_same_genes, column_of_mudata
from scapp.model._results import Results, new_anndata, profile_of
from scapp.model._target_effect import TargetEffect
from scapp.module import APPModule, Wanted

if TYPE_CHECKING:
    from scipy import sparse

    from scapp.model._inputs import ModelInputs
    from scapp.module import PaperModule

BATCH = 256
LARGE = 1e9  # bytes of layers above which predict warns


class PredictionMixin:
    """Methods of :class:`scapp.model.APP` that read a trained model without changing it."""

    module: APPModule | PaperModule
    registry: dict
    adata: AnnData | MuData | None
    is_trained_: bool
    init_params_: dict[str, Any]
    n_parameters: int
    _registered: ModelInputs

    @overload
    def predict(
        self,
        perturbations: Iterable[str],
        *,
        adata: None = None,
        control_mean: AnnData | pd.Series | np.ndarray | None = None,
        kind: str | None = None,
        change_threshold: float | None = None,
    ) -> AnnData: ...

    @overload
    def predict(
        self,
        perturbations: None = None,
        *,
        adata: AnnData | MuData | None = None,
        kind: str | None = None,
        change_threshold: float | None = None,
        per_cell: bool = False,
    ) -> AnnData | None: ...

    @checked(own=("perturbations", "change_threshold"))
    def predict(
        self,
        perturbations: Iterable[str] | None = None,
        *,
        adata: AnnData | MuData | None = None,
        control_mean: AnnData | pd.Series | np.ndarray | None = None,
        kind: str | None = None,
        change_threshold: float | None = None,
        per_cell: bool = False,
    ) -> AnnData | None:
        """Predict the effects of perturbations, measured or not.

        Parameters
        ----------
        perturbations
            Labels such as ``"KLF1"`` or ``"KLF1+CEBPA"``, with genes in any order. If None, predict the perturbations
            of `adata`: if it holds effects, write the predictions into it; if it holds cells, return them.
        adata
            If `perturbations` is None: an AnnData with the training genes; by default, the one that was set up. If it
            is a MuData, its expression modality is read.
        control_mean
            If `perturbations` is given: mean expression of the control cells of another cell line or condition, to predict
            there. Pass effects of that context (with ``var["control_mean"]``), a Series indexed by gene, or an array in the
            order of the genes. The log-fold-changes are not adapted; `X` is their sum with this profile.
        kind
            For a screen that was set up with a column of several kinds: the kind of perturbation to assume for genes
            that were not perturbed alone. It affects only the predicted change of the perturbed genes themselves; if
            None, this is predicted like that of any other gene.
        change_threshold
            Absolute log-fold-change that counts as a change in ``layers["p_change"]``. By default, twice the typical
            noise of a measured log-fold-change, estimated from the screen
            (``uns["scapp"]["prediction"]["change_threshold"]``).
        per_cell
            If `adata` holds cells: write into each cell the prediction for its perturbation. All cells of a perturbation get
            the same rows, in four dense layers; if these take more than a gigabyte, a warning says how much.

        Returns
        -------
        If `perturbations` is given, a new AnnData with one observation per label, in the given order and spelling:

        - `X`: predicted mean expression, at least zero, if the mean of the control cells is known (from training, or
          `control_mean`)
        - ``layers["predicted_lfc"]``: predicted log-fold-changes (natural logarithm), NaN for genes that were not
          measured
        - ``layers["predicted_lfc_std"]``: their standard deviation, calibrated on leave-one-out residuals of the
          training perturbations
        - ``layers["p_change"]``: probability that the measured log-fold-change exceeds `change_threshold`, up or down
        - ``layers["attention"]``: weights of the network genes (including the perturbed genes) that make the perturbation
          similar to those that it attends to; each row sums to one
        - ``obsm["attention_to_perturbations"]``: attention to each measured perturbation; ``uns["scapp"]["prediction"]["attended_perturbations"]``
          has their labels. The remainder of each row, up to one, goes to the mean of the screen
          (``obs["attention_to_mean"]``). Absent in the paper's form, which attends only to genes.
        - ``obs["in_training"]``, ``obs["n_singles_measured"]``: whether the perturbation was in the training data, and how
          many of its genes were perturbed alone there
        - ``obs["uninformed"]``: whether one of its genes has no edges, no features and no measurement of its own

        If `perturbations` is None and `adata` holds cells, the same for all their perturbations. For effects, or for cells
        with `per_cell=True`, returns None: `adata` gains these layers, and
        ``uns["attention_genes"]`` ranks genes by attention in the format of scanpy's ``rank_genes_groups`` (``sc.pl.rank_genes_groups(adata, key="attention_genes")``;
        beyond about 500 perturbations, the format described in :func:`scapp.tl.rank_attention_genes`). Control observations
        get a log-fold-change of zero and no attention (NaN).

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        ValueError
            If a label cannot be read, is a control, is given twice, or names a gene that is not a node; if
            `control_mean` does not match the genes; or if the training screen has too few measured targets of that
            `kind`.
        TypeError
            If `perturbations` is a single string instead of a list.
        """
        self.check_trained()
        if perturbations is None:
            if control_mean is not None:
                raise ValueError(
                    "control_mean=… works only with labels of perturbations, because predictions written into adata have no X."
                )
            target, labels = self._checked_adata(adata)
            names, is_control = self._perturbations_of(labels)
            if per_cell or len(names) == (~is_control).sum():
                self._predict_into(target, labels.astype(str), names, is_control, kind, change_threshold)
                return None
            return self.predict(names, kind=kind, change_threshold=change_threshold)
        if per_cell:
            raise ValueError(
                "per_cell=True writes into the cells of adata: do not pass labels of perturbations with it."
            )
        if adata is not None:
            raise ValueError("Pass either labels of perturbations or an AnnData, not both.")
        r = self._registered
        profile = r.control_mean if control_mean is None else profile_of(control_mean, r.genes, r.measured)
        threshold = self._threshold(change_threshold)
        results = self._results(_names(perturbations), kind, threshold)
        predicted = new_anndata(results.obs, r.genes, r.measured, profile, results)
        predicted.uns[Key.uns.SCAPP] = {Key.uns.PREDICTION: self._provenance(threshold)}
        return predicted

    def get_var_names(self, legacy_mudata_format: bool = False) -> np.ndarray | dict[str, np.ndarray]:
        """Return the genes in the form that scvi-tools saves; for a MuData, those of each modality.

        Parameters
        ----------
        legacy_mudata_format
            As in scvi-tools.
        """
        if self.adata is not None:
            return super().get_var_names(legacy_mudata_format=legacy_mudata_format)  # type: ignore[misc]
        # scvi-tools' version looks for a field that only its own models have.
        genes = np.array(self.genes)
        modalities = self.registry["setup_args"].get("modalities")
        return genes if modalities is None or legacy_mudata_format else {modalities["layer"]: genes}

    @checked(own=("perturbations",))
    def get_attention(
        self, perturbations: Iterable[str], *, of: Literal["genes", "perturbations"] = "genes"
    ) -> pd.DataFrame:
        """Return the attention of perturbations.

        Parameters
        ----------
        perturbations
            Labels, as in :meth:`predict`.
        of
            ``"genes"``: attention to the genes of the networks, shape (n_labels, n_vars); rows sum to one.
            ``"perturbations"``: attention to the measured perturbations, shape (n_labels, n_training); the remainder of
            each row goes to the mean.

        Raises
        ------
        ValueError
            If the model has no such attention.
        """
        self.check_trained()
        if of not in ("genes", "perturbations"):
            raise ValueError(f"of must be 'genes' or 'perturbations', found {of!r}.")
        names = _names(perturbations)
        found = self.module.predict(self._parse(names), Wanted(std=False))
        values = found.to_genes if of == "genes" else found.to_perturbations
        if values is None:
            raise ValueError(
                f"This model has no attention to {of}, because it was made with {self.init_params_['kwargs']}."
            )
        columns = self.genes if of == "genes" else self._registered.labels
        return pd.DataFrame(values.cpu().numpy(), index=names, columns=columns)

    def get_gene_embeddings(self) -> pd.DataFrame:
        """Return the embeddings :math:`h_i` of all genes.

        In the default form, the effect of perturbing each gene on the programs of the screen, as given by its attention; in
        the paper's form, the output of the graph encoder.

        Returns
        -------
        Table of shape (n_vars, n_programs) or (n_vars, n_hidden).
        """
        self.check_trained()
        values = self.module.gene_embeddings()
        return pd.DataFrame(values.cpu().numpy(), index=self.genes)

    @checked(own=("perturbations",))
    def get_perturbation_embeddings(self, perturbations: Iterable[str]) -> pd.DataFrame:
        """Return the cell states :math:`s` of perturbations: attention-weighted means of the embeddings.

        Parameters
        ----------
        perturbations
            Labels, as in :meth:`predict`.
        """
        self.check_trained()
        names = _names(perturbations)
        return pd.DataFrame(self.module.states(self._parse(names)).cpu().numpy(), index=names)

    @property
    def genes(self) -> list[str]:
        """All genes, in the order of the training data."""
        return list(self._registered.genes)

    @property
    def measured_genes(self) -> list[str]:
        """The genes that were measured in training, for which log-fold-changes are predicted."""
        return [gene for gene, measured in zip(self.genes, self._registered.measured, strict=True) if measured]

    @property
    def informed_genes(self) -> list[str]:
        """The genes with edges, features or a measurement of their own."""
        return [gene for gene, informed in zip(self.genes, self._informed(), strict=True) if informed]

    @property
    def network(self) -> sparse.csr_matrix | dict[str, sparse.csr_matrix]:
        """The network of the model, with sources as rows and targets as columns; a dict by key if there are several."""
        keys = self.registry["setup_args"]["network_key"]
        keys = [keys] if isinstance(keys, str) else list(keys)
        found = dict(zip(keys, self._registered.networks, strict=True))
        return found[keys[0]] if len(keys) == 1 else found

    def check_trained(self) -> None:
        """Raise a RuntimeError if the model has not been trained."""
        if not self.is_trained_:
            raise RuntimeError("This APP has not been trained: call model.train() first.")

    def _checked_adata(self, adata: AnnData | MuData | None) -> tuple[AnnData, pd.Series]:
        """Return the AnnData to write into, and the label of each of its observations."""
        target = self.adata if adata is None else adata
        if target is None:
            raise ValueError(
                "This model was loaded without data or made by add_genes: pass labels of perturbations, or adata=…."
            )
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
                    f"{int(labels.isna().sum())} of the {target.n_obs} cells of the expression have no value in {key!r}, the column "
                    "of perturbations. Remove these cells first."
                )
        check_same_genes(np.array(self.genes), target)
        return target, labels

    def read_perturbations(self, perturbations: Iterable[str]) -> tuple[list[str], list[tuple[int, ...]]]:
        """Read labels of perturbations, as :meth:`predict` does.

        Returns
        -------
        The labels, and for each label the positions of its genes in :attr:`genes`.

        Raises
        ------
        ValueError
            If a label is a control, cannot be read, is given twice, or names a gene that the model does not know.
        TypeError
            If a single string is given instead of a list.
        """
        names = _names(perturbations)
        return names, self._parse(names)

    def _parse(self, names: Sequence[str]) -> list[tuple[int, ...]]:
        args = self.registry["setup_args"]
        parsed = parse_labels(names, control=args["control"], sep=args["sep"], genes=self.genes)
        controls = [name for name, genes in zip(names, parsed, strict=True) if not genes]
        if controls:
            raise ValueError(f"Expected perturbations, found the control ({shorten(controls)}), which has no effect.")
        check_known(parsed, self.genes)
        node = {gene: i for i, gene in enumerate(self.genes)}
        return [tuple(node[gene] for gene in genes) for genes in parsed]

    def predictions(
        self,
        parsed: Sequence[tuple[int, ...]],
        wanted: Wanted,
        *,
        kind: str | None = None,
        batch_size: int = BATCH,
    ) -> Iterator[tuple[slice, dict[str, np.ndarray]]]:
        """Predict batch by batch; all predictions of the model go through this method.

        Parameters
        ----------
        parsed
            Nodes of each perturbation.
        wanted
            Outputs besides the log-fold-changes.
        kind
            As in :meth:`predict`.
        batch_size
            Number of perturbations in a batch.

        Yields
        ------
        The slice of perturbations, and their arrays by layer name: log-fold-changes, standard deviations and
        probabilities over the measured genes, attention to all genes, and attention to perturbations.
        """
        own = self.target_effect(kind)
        batches = [parsed[i : i + batch_size] for i in range(0, len(parsed), batch_size)]
        start = 0
        for batch, found in zip(batches, self.module.predict_batches(batches, wanted), strict=True):
            arrays = {
                name: None if value is None else np.ascontiguousarray(value.cpu().numpy())
                for name, value in zip(PREDICTED, found, strict=True)
            }
            if own is not None:
                lfc, std, change = (arrays[name] for name in PREDICTED[:3])
                own.write(kind, batch, lfc, std, change, wanted.change)
            yield slice(start, start + len(batch)), {name: value for name, value in arrays.items() if value is not None}
            start += len(batch)

    def _results(self, names: Sequence[str], kind: str | None = None, threshold: float | None = None) -> Results:
        perturbations = self._parse(names)
        obs = self._grouped(self.describe_perturbations(names, perturbations))
        measured = self._registered.measured
        parts = [arrays for _, arrays in self.predictions(perturbations, Wanted(change=threshold), kind=kind)]
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        if TO_MEAN in joined:
            obs[Key.obs.ATTENTION_TO_MEAN] = joined.pop(TO_MEAN)
        to_perturbations = joined.pop(Key.obsm.ATTENTION_TO_PERTURBATIONS, None)
        layers = {
            name: value.astype(np.float32) if name == Key.layers.ATTENTION else over_all_genes(value, measured)
            for name, value in joined.items()
        }
        return Results(layers, to_perturbations, obs)

    def describe_perturbations(self, names: Sequence[str], perturbations: Sequence[tuple[int, ...]]) -> pd.DataFrame:
        """Describe the evidence for perturbations before predicting them; warn of genes without any.

        Parameters
        ----------
        names, perturbations
            As :meth:`read_perturbations` returns them.

        Returns
        -------
        Table with one row per perturbation, as in `obs` of a prediction.
        """
        r, module = self._registered, self.module
        informed, measured, trained = self._informed().tolist(), module.single_row, set(module.perturbations)
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

    def _grouped(self, obs: pd.DataFrame) -> pd.DataFrame:
        """Make the labels categorical, in their given order, because scanpy's plots group by categories."""
        key = self.registry["setup_args"]["perturbation_key"]
        return obs.assign(**{key: pd.Categorical(obs[key], categories=obs[key].tolist())})

    def target_effect(self, kind: str | None = None) -> TargetEffect | None:
        """Return the predictor of each perturbed gene's own change, or None if no kind was named at set-up."""
        if kind is None and self._registered.kinds is None:
            return None
        return TargetEffect.fit(self._registered, self.module.targets.cpu().numpy())

    def _threshold(self, given: float | None) -> float:
        """Return the threshold for a change: the given one, or the one that the noise of the screen supports."""
        if given is None:
            return float(self.module.threshold)
        if isinstance(given, bool) or not isinstance(given, (int, float, np.number)) or not 0 < given < np.inf:
            raise ValueError(f"change_threshold must be a number above 0, found {given!r}.")
        return float(given)

    def _informed(self) -> np.ndarray:
        """Return a mask of the genes that have edges, features or a measurement of their own, shape (n_vars,)."""
        known = self._registered.known()
        known[list(self.module.single_row)] = True
        return known

    def _perturbations_of(self, labels: pd.Series) -> tuple[list[str], np.ndarray]:
        """Return the distinct perturbations of the observations, and a mask of the controls among these observations."""
        args = self.registry["setup_args"]
        labels = labels.astype(str)
        parsed = parse_labels(labels, control=args["control"], sep=args["sep"], genes=self.genes)
        is_control = np.array([not genes for genes in parsed])
        names = list(dict.fromkeys(labels[~is_control]))
        if not names:
            key = args["perturbation_key"]
            raise ValueError(f"All observations are controls by adata.obs[{key!r}]; there is nothing to predict.")
        return names, is_control

    def _predict_into(
        self,
        adata: AnnData,
        labels: pd.Series,
        names: list[str],
        is_control: np.ndarray,
        kind: str | None,
        change_threshold: float | None,
    ) -> None:
        key = self.registry["setup_args"]["perturbation_key"]
        n_bytes = 4 * 4 * adata.n_obs * adata.n_vars
        if adata.n_obs > len(names) and n_bytes > LARGE:
            warn_user(
                f"Predictions for each of {adata.n_obs:,} cells take {n_bytes / 1e9:.1f} GB in four layers of {adata.n_vars:,} genes, for "
                f"{len(names):,} distinct rows.\nWithout per_cell=True, `model.predict()` returns one row per perturbation."
            )
        threshold = self._threshold(change_threshold)
        results = self._results(names, kind, threshold)
        row = {name: i for i, name in enumerate(names)}
        rows = np.array([row.get(label, 0) for label in labels])
        for name, values in results.layers.items():
            spread = values[rows]
            spread[is_control] = np.nan if name == Key.layers.ATTENTION else 0
            adata.layers[name] = spread
        if results.to_perturbations is not None:
            spread = results.to_perturbations[rows]
            spread[is_control] = np.nan
            adata.obsm[Key.obsm.ATTENTION_TO_PERTURBATIONS] = spread
            to_mean = results.obs[Key.obs.ATTENTION_TO_MEAN].to_numpy()[rows]
            adata.obs[Key.obs.ATTENTION_TO_MEAN] = np.where(is_control, np.nan, to_mean)
        if Key.layers.ATTENTION in results.layers:
            write_ranking(
                adata,
                Key.uns.ATTENTION_GENES,
                results.layers[Key.layers.ATTENTION],
                results.layers[Key.layers.PREDICTED_LFC],
                names,
                self.genes,
                groupby=key,
                layer=Key.layers.PREDICTED_LFC,
            )
        adata.uns[Key.uns.SCAPP] = {**adata.uns.get(Key.uns.SCAPP, {}), Key.uns.PREDICTION: self._provenance(threshold)}

    def _provenance(self, threshold: float) -> dict[str, Any]:
        import scapp

        found: dict[str, Any] = {"model": "APP", "version": scapp.__version__, "change_threshold": threshold}
        if isinstance(self.module, APPModule):
            found["attended_perturbations"] = np.array(self._registered.labels, dtype=object)
        return found


# Layer names of the arrays of a prediction, in their order there.
TO_MEAN = "to_mean"
PREDICTED = (
    Key.layers.PREDICTED_LFC,
    Key.layers.PREDICTED_LFC_STD,
    Key.layers.P_CHANGE,
    Key.layers.ATTENTION,
    Key.obsm.ATTENTION_TO_PERTURBATIONS,
    TO_MEAN,
)


def _names(perturbations: Iterable[str]) -> list[str]:
    if isinstance(perturbations, AnnData | MuData):
        raise TypeError(
            f"Expected labels of perturbations, found {type(perturbations).__name__}. Pass data by keyword, as in "
            "`model.predict(adata=effects)`, or pass labels: `model.predict(['KLF1+CEBPA'])`."
        )
    return list_labels(perturbations)
