"""Adding genes to a trained model by their edges or features, without refitting."""

from __future__ import annotations

import copy
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from scapp._checked import checked
from scapp._controls import is_control
from scapp._edges import read_edges, table_of
from scapp._feature_tables import load_features, read_feature_table
from scapp._gene_names import GeneMatcher
from scapp._genes import shorten
from scapp._labels import list_labels
from scapp._tables import is_path
from scapp._warn import warn_user
from scapp.graph import edges_to_csr
from scapp.model._fields import ADDED, EFFECTS, FEATURES, GENES, NETWORK
from scapp.module import APPModule, PaperModule

if TYPE_CHECKING:
    from typing import Self

    from scapp._edges import Edges
    from scapp._gene_names import Aliases
    from scapp.model._inputs import ModelInputs

logger = logging.getLogger(__name__)

# Column that names the network to which an edge belongs, if there are several.
COLUMN = "network"
# Features of known genes may differ by this share of their length, because they are stored in single precision.
TOLERANCE = 1e-3


class NewGenesMixin:
    """Let :class:`scapp.model.APP` predict genes that were not nodes at set-up."""

    if TYPE_CHECKING:
        module: APPModule | PaperModule
        registry: dict
        registry_: dict
        init_params_: dict[str, Any]
        history_: Any
        is_trained_: bool
        _registered: ModelInputs

        def check_trained(self) -> None:
            """Raise unless trained."""

    @checked(own=("genes", "edges", "features", "aliases"))
    def add_genes(
        self,
        genes: Iterable[str],
        *,
        edges: Edges | Mapping[str, Edges] | None = None,
        features: Any = None,
        aliases: Aliases | None = None,
    ) -> Self:
        """Return a model that also knows these genes, by their edges or features, without retraining.

        The new genes can be predicted alone and in combinations, and used in :func:`scapp.tl.screen` and all other
        functions that take a model. The similarities of a new gene to the training genes are computed in the network
        that includes all new genes, as at set-up. The similarities among the training genes, and everything that was
        learned, do not change, so predictions for known genes stay exactly the same. This is the only difference from a
        model that was set up and trained with the genes in its network; on real networks the two predictions are close
        (:doc:`/howto/predict_unmeasured_genes`).

        Parameters
        ----------
        genes
            Names of the genes, none of which is a node of the model.
        edges
            Edges from the new genes to genes of the model or to each other, in any form that :func:`scapp.pp.add_network` accepts.
            You may pass a whole network, because edges between other genes are ignored. For a model with several
            networks, pass one table for each key, or a table with a column ``network`` that names the key of each edge.
            Weights may be on any scale: they are rescaled so that edges that the model already has agree with it or, if
            there are none, so that their median is that of the model's network.
        features
            Gene features of the new genes, in the same columns as at set-up: a table indexed by gene, or for several
            sets of features one table for each key. If features were reduced to components, such as annotations,
            compute them again with the new genes among ``adata.var_names`` (see Examples).
        aliases
            Gene aliases, as in :func:`scapp.pp.add_network`, to find the genes of the model under other names in `edges`.

        Returns
        -------
        A new, trained model over the genes of this model followed by the new ones; this model is not changed. The new
        model has no training data (``model.adata`` is None), and is saved and loaded like any other. Its predictions
        have the new genes in `var`, as not measured.

        Raises
        ------
        ValueError
            If a gene is already a node, has no usable name, or has neither an edge to a gene of the model nor features;
            or if edges or features cannot be read, or disagree with the model in their network, their number of columns
            or the values for known genes.
        RuntimeError
            If the model has not been trained.
        TypeError
            If the model has the paper's form, whose embeddings exist only for the genes in training.

        See Also
        --------
        scapp.pp.add_unmeasured_genes : Adds genes as nodes before the model is set up.

        Examples
        --------
        >>> edges = [("GATA9", "GATA1"), ("GATA9", "KLF1")]
        >>> more = model.add_genes(["GATA9"], edges=edges)
        >>> predicted = more.predict(["GATA9", "GATA9+KLF1"])

        With features from :func:`scapp.pp.add_gene_features`, computed again:

        >>> import pandas as pd
        >>> wider = scapp.pp.add_unmeasured_genes(effects, ["GATA9"])
        >>> scapp.pp.add_gene_features(wider, "gene2go.tsv", key_added="go")
        >>> features = pd.DataFrame(wider.varm["go"], index=wider.var_names).dropna()
        >>> more = model.add_genes(["GATA9"], edges=edges, features={"go": features})
        """
        self.check_trained()
        if isinstance(self.module, PaperModule):
            raise TypeError(
                "The paper's form (preset='paper') embeds the genes that it was trained with, and cannot learn of others later. Add "
                "them before the set-up with scapp.pp.add_unmeasured_genes, or use the default form."
            )
        known = list(self._registered.genes)
        new = self._new_names(genes)
        names = [*known, *new]
        args = self.registry["setup_args"]
        keys = {NETWORK: args["network_key"], FEATURES: args["gene_features_key"]}
        tables = _by_key(edges, keys[NETWORK], "network")
        vectors = _by_key(features, keys[FEATURES], "gene_features")

        networks, blocks = [], []
        informed = np.zeros(len(names), dtype=bool)
        for key, network in zip(keys[NETWORK], self._registered.networks, strict=True):
            network = sparse.csr_matrix(network, copy=True)
            network.resize((len(names),) * 2)
            if key in tables:
                added = _edges_of(tables[key], names, len(known), network, key, aliases)
                touched = sparse.coo_matrix(added)
                informed[touched.row] = informed[touched.col] = True
                network = sparse.csr_matrix(network + added)
            networks.append(network)
        for key, block in zip(keys[FEATURES], self._registered.features, strict=True):
            rows = np.full((len(new), block.shape[1]), np.nan, dtype=np.float32)
            if key in vectors:
                rows = _rows_of(vectors[key], new, known, block, key)
                informed[len(known) :] |= ~np.isnan(rows).any(axis=1)
            blocks.append(np.vstack([block, rows]).astype(np.float32))
        without = [gene for gene, told in zip(new, informed[len(known) :], strict=True) if not told]
        if without:
            raise ValueError(
                f"{len(without)} of the {len(new)} new genes have no edge to a gene of the model and no features: {shorten(without)}.\n"
                "Expected for each new gene an edge to another gene of the model, by the names in model.genes, or its features.\n"
                "Give them with edges=… or features=…, pass aliases=scapp.resources.hgnc(), or leave these genes out."
            )
        return self._wider(names, networks, blocks)

    def _new_names(self, genes: Iterable[str]) -> list[str]:
        """Return the unique names of new genes; raise if they are already nodes or are not names of genes."""
        new = list_labels(genes)
        args = self.registry["setup_args"]
        there = set(self._registered.genes)
        nodes = [gene for gene in new if gene in there]
        if nodes:
            raise ValueError(
                f"{len(nodes)} of the {len(new)} genes are nodes of the model already: {shorten(nodes)}.\nExpected new genes only.\n"
                "Predict those directly, `model.predict([…])`, and leave them out here."
            )
        bad = [
            gene
            for gene in new
            if not gene.strip() or args["sep"] in gene or is_control(gene, args["control"] or "control")
        ]
        if bad or not new:
            raise ValueError(
                f"Expected names of single genes, found {shorten(map(repr, bad)) or 'none'}. A name may not be empty, a control, or hold "
                f"the separator {args['sep']!r}: name the genes of a combination one by one."
            )
        return new

    def _wider(self, names: list[str], networks: Sequence[sparse.csr_matrix], blocks: Sequence[NDArray]) -> Self:
        """Return a trained model with the same weights over more genes."""
        registry = copy.deepcopy(self.registry_)
        fields = registry["field_registries"]
        state = fields[GENES]["state_registry"]
        n_new = len(names) - len(self._registered.genes)
        state["var_names"] = np.asarray(names, dtype=str)
        state["measured"] = np.append(self._registered.measured, np.zeros(n_new, dtype=bool))
        state[ADDED] = np.append(self._registered.added, np.ones(n_new, dtype=bool))
        effects = fields[EFFECTS]["state_registry"]
        if self._registered.control_mean is not None:
            effects["control_mean"] = np.append(self._registered.control_mean, np.full(n_new, np.nan, dtype=np.float32))
        fields[GENES]["summary_stats"] = {**fields[GENES].get("summary_stats", {}), "n_vars": len(names)}
        for k, network in enumerate(networks):
            edges = sparse.coo_matrix(network)
            fields[f"{NETWORK}_{k}"]["state_registry"] = {
                **fields[f"{NETWORK}_{k}"]["state_registry"],
                "edge_index": np.vstack([edges.row, edges.col]).astype(np.int64),
                "edge_weight": edges.data.astype(np.float32),
            }
        for k, block in enumerate(blocks):
            fields[f"{FEATURES}_{k}"]["state_registry"] = {
                **fields[f"{FEATURES}_{k}"]["state_registry"],
                "values": block,
            }
        options = self.init_params_
        extra = {name: value for group in options["kwargs"].values() for name, value in group.items()}
        given = {name: value for name, value in options["non_kwargs"].items() if name not in ("adata", "registry")}
        model: Any = type(self)(registry=registry, **given, **extra)  # type: ignore[call-arg]
        model.module.load_state_dict(self.module.state_dict())
        model.module.eval()
        model.is_trained_, model.history_ = True, copy.copy(self.history_)
        return model


def _by_key(given: Any, keys: list[str], what: str) -> dict[str, Any]:
    """Return the input for each network or block of features, by key."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        unknown = [key for key in given if key not in keys]
        if not unknown:
            return {key: _table(value, what) for key, value in given.items()}
        raise ValueError(
            f"The model has no {what} {shorten(map(repr, unknown))}; it was set up with {shorten(map(repr, keys)) or 'none'}. Give a "
            "dictionary of one table for each of these keys, or of some of them."
        )
    table = _table(given, what)
    if not keys:
        raise ValueError(f"The model was set up without {what}, so it cannot read any of new genes. Leave them out.")
    if what == "network" and isinstance(table, pd.DataFrame) and COLUMN in table and len(keys) > 1:
        named = {str(key): part.drop(columns=COLUMN) for key, part in table.groupby(COLUMN, observed=True)}
        if table[COLUMN].isna().any():
            raise ValueError(
                f"{int(table[COLUMN].isna().sum())} edges have no value in the column {COLUMN!r}. Fill it."
            )
        return _by_key(named, keys, what)
    if len(keys) > 1:
        column = f", or a table with the key of each edge in a column {COLUMN!r}" if what == "network" else ""
        raise ValueError(
            f"The model has {len(keys)} of {what}: {shorten(map(repr, keys))}. Say which one is meant: give a dictionary, "
            f"{{{keys[0]!r}: table}}{column}."
        )
    return {keys[0]: table}


def _table(given: Any, what: str) -> Any:
    """Return pairs of a network as a table, and anything else as it is."""
    return table_of(given) if what == "network" and isinstance(given, list | tuple | set) else given


def _edges_of(
    given: Any, names: list[str], n_known: int, network: sparse.csr_matrix, key: str, aliases: Aliases | None
) -> sparse.csr_matrix:
    """Return the edges of new genes on the scale of the model's network, as a matrix in the shape of `network`."""
    if sparse.issparse(given) or isinstance(given, np.ndarray):
        raise TypeError("Edges of new genes need names: give a table or a list of pairs, not a matrix.")
    table = read_edges(given, var_names=names)
    edges = table.edges
    listed = pd.unique(pd.concat([edges["source"], edges["target"]]))
    match = GeneMatcher(names, aliases).match(listed)
    found = pd.DataFrame({"name": np.asarray(match.names, dtype=object)[match.name], "gene": match.gene})
    new_names = {*names[n_known:], *found.loc[found["gene"] >= n_known, "name"]}
    ours = edges["source"].isin(new_names) | edges["target"].isin(new_names)
    ends = edges.loc[ours, ["source", "target"]]
    outside = sorted({*pd.unique(ends.to_numpy().ravel())} - {*found["name"]})
    if outside:
        n_outside = int(ends.isin(outside).any(axis=1).sum())
        warn_user(
            f"{n_outside} of the {int(ours.sum())} edges of new genes lead to {len(outside)} gene(s) that the model does not know, and "
            f"were left out of {key!r}: {shorten(outside)}."
        )
    joined = edges.merge(found.rename(columns={"name": "source", "gene": "row"}), on="source").merge(
        found.rename(columns={"name": "target", "gene": "column"}), on="target"
    )
    joined = joined[(joined["row"] != joined["column"]) & (joined["weight"] != 0)]
    new = (joined["row"] >= n_known) | (joined["column"] >= n_known)
    if not new.any():
        return sparse.csr_matrix(network.shape, dtype=np.float32)
    there = joined[~new]
    size = abs(network)
    size = sparse.csr_matrix(size.maximum(size.T))
    model_weight = np.asarray(size[there["row"], there["column"]]).ravel() if len(there) else np.zeros(0)
    shared = model_weight > 0
    weight = joined.loc[new, "weight"].to_numpy()
    if shared.any():
        scale = float(np.median(model_weight[shared] / np.abs(there["weight"].to_numpy()[shared])))
    else:
        scale = float(np.median(np.abs(network.data)) / np.median(np.abs(weight)))
        logger.info(
            "None of the other edges of %r is listed, so the weights of the new ones were scaled by %.3g, to the median of its weights.",
            key,
            scale,
        )
    directed = bool((network != network.T).nnz)
    return edges_to_csr(
        joined.loc[new, "row"], joined.loc[new, "column"], weight * scale, n_nodes=len(names), directed=directed
    )


def _rows_of(given: Any, new: list[str], known: list[str], block: NDArray, key: str) -> NDArray[np.float32]:
    """Return the features of new genes, shape (n_new, n_features); NaN for genes without features."""
    genes, values = read_feature_table(load_features(given) if is_path(given) else given)
    if values.shape[1] != block.shape[1]:
        raise ValueError(
            f"The features have {values.shape[1]} columns, and those of {key!r} that the model was set up with {block.shape[1]}.\nIf they "
            "were reduced to components, make them again in the same way with the new genes among adata.var_names, and pass "
            f"`pd.DataFrame(adata.varm[{key!r}], index=adata.var_names).dropna()`."
        )
    row = {gene: i for i, gene in enumerate(genes)}
    shared = [(row[gene], i) for i, gene in enumerate(known) if gene in row and not np.isnan(block[i]).any()]
    if shared:
        theirs, ours = (np.array(side) for side in zip(*shared, strict=True))
        apart = np.linalg.norm(values[theirs] - block[ours], axis=1)
        differ = apart > TOLERANCE * np.linalg.norm(block[ours], axis=1).clip(1e-12)
        if differ.any():
            raise ValueError(
                f"The features of {int(differ.sum())} of {len(shared)} genes that the model knows are others than those of {key!r}: "
                f"{shorten([known[i] for i in ours[differ]])}.\nThe new genes would stand in another space. Make the features in the "
                "same way, from the same source, as those that the model was set up with."
            )
    found = np.full((len(new), block.shape[1]), np.nan, dtype=np.float32)
    for i, gene in enumerate(new):
        if gene in row:
            found[i] = values[row[gene]]
    return found
