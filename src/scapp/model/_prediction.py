"""What a trained model tells: predictions, attention, embeddings."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
import pandas as pd
from anndata import AnnData
from rich.progress import track
from scvi import settings

from scapp._genes import check_no_view, shorten
from scapp._keys import Key
from scapp._perturbations import check_known, parse_labels
from scapp.data._fields import check_same_genes
from scapp.model._results import Results, new_anndata, over_all_genes, rank_genes
from scapp.model._store import check_place, new_store, rows_in_chunk
from scapp.module._prediction import Wanted

if TYPE_CHECKING:
    from scipy import sparse

    from scapp.model._inputs import Registered
    from scapp.module import APPModule


class PredictionMixin:
    """The methods of :class:`scapp.model.APP` that need a trained model and change nothing in it."""

    module: APPModule
    registry: dict
    adata: AnnData | None
    is_trained_: bool
    n_parameters: dict[str, int]
    _registered: Registered

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
        predicted = new_anndata(results.obs, r.genes, r.measured, r.control_mean, results)
        predicted.uns[Key.uns.SCAPP] = {Key.uns.PREDICTION: self._provenance()}
        return predicted

    def predict_to_zarr(
        self,
        path: str | os.PathLike[str],
        perturbations: Iterable[str],
        *,
        std: bool = True,
        attention: bool = False,
        dtype: Literal["float32", "float16"] = "float32",
        overwrite: bool = False,
        show_progress: bool = True,
    ) -> None:
        """Predict any number of perturbations into a zarr file, batch by batch.

        The file is the AnnData that :meth:`predict` returns, without `X`. It is written under a hidden name beside `path` and
        moved there when it is whole. Memory does not grow with the number of perturbations but for their names; the
        effects and random walks of the genes that occur are computed once.

        Parameters
        ----------
        path
            Folder to write, usually ``….zarr``; the folder that holds it must exist.
        perturbations
            Labels, as in :meth:`predict`; a generator will do.
        std
            Whether to write ``layers["predicted_lfc_std"]``.
        attention
            Whether to write ``layers["attention"]``. It costs half as much time again.
        dtype
            Type of the layers; ``"float16"`` halves the file and keeps three digits.
        overwrite
            Whether to replace a zarr file that is there.
        show_progress
            Whether to show a progress bar.

        Raises
        ------
        RuntimeError
            If the model has not been trained.
        FileExistsError
            If there is something at `path`, and `overwrite` is false or it is no zarr file.
        FileNotFoundError
            If the folder that is to hold `path` does not exist.
        OSError
            If the disk is full. Nothing half-written is left, and a file that was to be replaced is as it was.
        ValueError, TypeError
            For labels that :meth:`predict` refuses, before anything is written.

        Examples
        --------
        All pairs of some genes, and the first hundred of them read again:

        >>> pairs = map("+".join, itertools.combinations(genes, 2))
        >>> model.predict_to_zarr("pairs.zarr", pairs)
        >>> zarr.open("pairs.zarr")["layers/predicted_lfc"][:100]
        """
        self._check_trained()
        if dtype not in ("float32", "float16"):
            raise ValueError(f"dtype must be 'float32' or 'float16', found {dtype!r}.")
        place = check_place(path, overwrite=overwrite)
        names, parsed = self._read_labels(perturbations)
        r, obs = self._registered, self._describe(names, parsed)
        skeleton = new_anndata(obs, r.genes, r.measured, r.control_mean)
        skeleton.uns[Key.uns.SCAPP] = {Key.uns.PREDICTION: self._provenance()}
        wanted = {Key.layers.PREDICTED_LFC: True, Key.layers.PREDICTED_LFC_STD: std, Key.layers.ATTENTION: attention}
        size = rows_in_chunk(skeleton.n_vars)
        batches = [parsed[i : i + size] for i in range(0, len(parsed), size)]
        found = self.module.predict_batches(
            batches, nodes={gene for p in parsed for gene in p}, wanted=Wanted(std=std, attention=attention)
        )
        layers = [name for name, asked in wanted.items() if asked]
        with new_store(place, skeleton, layers, dtype, overwrite=overwrite) as arrays:
            steps = track(found, description="Predicting", total=len(batches), disable=not show_progress)
            for k, prediction in enumerate(steps):
                rows = slice(k * size, k * size + len(batches[k]))
                values = dict(zip(wanted, prediction, strict=True))
                for name, array in arrays.items():
                    value = values[name].cpu().numpy()
                    array[rows] = value if name == Key.layers.ATTENTION else over_all_genes(value, r.measured)

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

    def _checked_adata(self, adata: AnnData | None) -> AnnData:
        target = self.adata if adata is None else adata
        if target is None:
            raise ValueError("This model was loaded without data: pass names of perturbations, or adata=….")
        check_no_view(target, "APP.predict")
        check_same_genes(np.array(self.genes), target)
        return target

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

    def _results(self, names: Sequence[str]) -> Results:
        perturbations = self._parse(names)
        obs = self._describe(names, perturbations)
        measured = self._registered.measured
        lfc, std, attention = (
            tensor.cpu().numpy() for tensor in self.module.predict(perturbations) if tensor is not None
        )
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
            warnings.warn(
                f"{len(unknown)} perturbed gene(s) have no edges, no features and no measurement of their own: "
                f"{shorten(unknown)}. They are predicted like an average gene; see obs['{Key.obs.UNINFORMED}'].",
                UserWarning,
                stacklevel=settings.warnings_stacklevel,
            )
        return obs

    def _informed(self) -> np.ndarray:
        """Which genes have edges, features or a measurement of their own, of shape (n_vars,)."""
        known = self._registered.has_edges() | self._registered.has_features()
        known[list(self.module.single_column)] = True
        return known

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
