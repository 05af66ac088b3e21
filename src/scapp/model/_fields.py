"""Additional fields for the scvi-tools registry: genes as nodes, networks, gene features and effects.

The registered state is saved with the model, so a model can be loaded without its training data.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse
from scvi.data.fields import BaseAnnDataField, MuDataWrapper

from scapp._genes import check_gene_names, measured_mask, shorten
from scapp._keys import Key
from scapp._labels import near_matches
from scapp.model._effects import read_effects, read_kinds

if TYPE_CHECKING:
    from collections.abc import Callable

    from mudata import MuData
    from scvi.data import AnnDataManager


class _Field(BaseAnnDataField):
    """Base class of these fields, each of which reads one slot of the AnnData and writes nothing."""

    _attr_name = ""

    def __init__(self, registry_key: str, attr_key: str | None):
        super().__init__()
        self._registry_key, self._attr_key = registry_key, attr_key

    @property
    def registry_key(self) -> str:
        return self._registry_key

    @property
    def attr_name(self) -> str:
        return self._attr_name

    @property
    def attr_key(self) -> str | None:
        return self._attr_key

    @property
    def is_empty(self) -> bool:
        return False

    def get_data_registry(self) -> dict:
        """Return an empty registry, because networks and features are per gene and not per observation."""
        return {}

    def validate_field(self, adata: AnnData) -> None:
        """Do nothing, because `_read` validates."""

    def register_field(self, adata: AnnData) -> dict:
        super().register_field(adata)
        return self._read(adata)

    @abstractmethod
    def _read(self, adata: AnnData) -> dict:
        """Return the state that is saved with the model."""

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        """Keep the state from training, because another AnnData needs no network or features."""
        return dict(state_registry)

    def get_summary_stats(self, state_registry: dict) -> dict:
        return {}

    def view_state_registry(self, state_registry: dict) -> None:
        return None


class GenesField(_Field):
    """The genes, their order, and which of them were measured."""

    _attr_name = "var"

    def _read(self, adata: AnnData) -> dict:
        check_gene_names(adata)
        return {"var_names": np.asarray(adata.var_names, dtype=str), "measured": measured_mask(adata)}

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        check_same_genes(state_registry["var_names"], adata_target)
        return dict(state_registry)

    def get_summary_stats(self, state_registry: dict) -> dict:
        return {"n_vars": len(state_registry["var_names"]), "n_measured_genes": int(state_registry["measured"].sum())}


class NetworkField(_Field):
    """A gene network in ``varp``, whose edges are stored in the registry."""

    _attr_name = "varp"

    def _read(self, adata: AnnData) -> dict:
        key = self.attr_key
        if key not in adata.varp:
            found = shorten(map(repr, adata.varp.keys())) or "none"
            raise ValueError(
                f"adata.varp has no network {key!r}; it holds {found}. "
                f"Add one with `scapp.pp.add_network(adata, edges, key_added={key!r})`, or name it with network_key=…."
            )
        matrix = sparse.coo_matrix(adata.varp[key])
        if matrix.shape != (adata.n_vars, adata.n_vars):
            raise ValueError(f"adata.varp[{key!r}] has the shape {matrix.shape}, expected {(adata.n_vars,) * 2}.")
        n_bad = int((~np.isfinite(matrix.data)).sum())
        if n_bad:
            raise ValueError(
                f"{n_bad} weights of adata.varp[{key!r}] are NaN or infinite. "
                "Correct the edges, and add the network again with `scapp.pp.add_network`."
            )
        keep = (matrix.data != 0) & (matrix.row != matrix.col)
        if not keep.any():
            raise ValueError(
                f"The network adata.varp[{key!r}] has no edges between different genes, so it says nothing. "
                "Check that its gene names match adata.var_names, and add it again with `scapp.pp.add_network`."
            )
        return {
            "edge_index": np.vstack([matrix.row[keep], matrix.col[keep]]).astype(np.int64),
            "edge_weight": matrix.data[keep].astype(np.float32),
        }

    def get_summary_stats(self, state_registry: dict) -> dict:
        """Count edges as :func:`scapp.pp.add_network` does: each pair once if the network is undirected."""
        source, target = np.asarray(state_registry["edge_index"])
        there = sparse.csr_matrix((np.ones(len(source)), (source, target)))
        there.resize((max(there.shape),) * 2)
        n_edges = there.nnz if (there != there.T).nnz else there.nnz // 2
        return {f"n_{self.registry_key}_edges": n_edges}


class GeneFeaturesField(_Field):
    """Gene features in ``varm``; a row of NaN marks a gene without features."""

    _attr_name = "varm"

    def _read(self, adata: AnnData) -> dict:
        key = self.attr_key
        if key not in adata.varm:
            found = shorten(map(repr, adata.varm.keys())) or "none"
            raise ValueError(
                f"adata.varm has no gene features {key!r}; it holds {found}. "
                f"Add them with `scapp.pp.add_gene_features(adata, features, key_added={key!r})`."
            )
        values = adata.varm[key]
        values = values.toarray() if sparse.issparse(values) else np.asarray(values)
        values = values.astype(np.float32).reshape(adata.n_vars, -1)
        missing = np.isnan(values).all(axis=1)
        bad = ~np.isfinite(values[~missing]).all(axis=1)
        if bad.any():
            genes = shorten(adata.var_names[~missing][bad])
            raise ValueError(
                f"{int(bad.sum())} rows of adata.varm[{key!r}] are partly NaN or infinite ({genes}). "
                "Fill them, or mark a gene without features by a row that is NaN throughout."
            )
        if missing.all():
            raise ValueError(f"No gene has features in adata.varm[{key!r}]: every row is NaN.")
        return {"values": values}


class EffectsField(_Field):
    """The effects of the training perturbations, computed once from cells or used directly."""

    _attr_name = "obs"

    def __init__(self, registry_key: str, attr_key: str, *, kind: str | None = None, **options: Any):
        super().__init__(registry_key, attr_key)
        self.perturbation_key = attr_key
        self.kind = kind
        self.options = options
        # The registered effects; None if the registry of a trained model was transferred, whose weights hold the
        # effects.
        self.effects: AnnData | None = None

    def _read(self, adata: AnnData) -> dict:
        self.effects = effects = read_effects(adata, perturbation_key=self.perturbation_key, **self.options)
        state = {
            "perturbations": np.asarray(effects.obs_names, dtype=str),
            "from_cells": self.options["control"] is not None,
        }
        if Key.var.CONTROL_MEAN in effects.var:
            state["control_mean"] = effects.var[Key.var.CONTROL_MEAN].to_numpy(dtype=np.float32)
        if self.kind is not None:
            how = {name: self.options[name] for name in ("control", "sep")}
            state["kinds"] = read_kinds(adata, effects, perturbation_key=self.perturbation_key, kind=self.kind, **how)
        return state

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        if self.attr_key not in adata_target.obs:
            columns = shorten(map(repr, adata_target.obs.columns), 12) or "none"
            raise ValueError(
                f"adata.obs has no column {self.attr_key!r}, which holds the perturbations; it has {columns}."
            )
        return dict(state_registry)

    def get_summary_stats(self, state_registry: dict) -> dict:
        return {"n_perturbations": len(state_registry["perturbations"])}

    def __deepcopy__(self, memo: dict) -> EffectsField:
        """Copy without the training effects, which copies for other AnnData objects do not need."""
        return type(self)(self._registry_key, self.perturbation_key, kind=self.kind, **self.options)


def check_same_genes(expected: np.ndarray, adata: AnnData) -> None:
    """Raise unless `adata` has the training genes in the same order."""
    found = np.asarray(adata.var_names, dtype=str)
    if np.array_equal(expected, found):
        return
    mend = "Bring them into the order of the training with `adata = adata[:, model.genes].copy()`."
    if set(expected) == set(found):
        raise ValueError(f"The genes of this AnnData are in a different order from training. {mend}")
    absent = [gene for gene in expected if gene not in set(found)]
    extra = [gene for gene in found if gene not in set(expected)]
    like = near_matches(absent[0], extra) if absent else []
    hint = f" Is {like[0]!r} {absent[0]!r}?" if like else ""
    raise ValueError(
        f"This AnnData has {len(found)} genes, the model was trained with {len(expected)}: {len(absent)} of them are missing "
        f"here ({shorten(absent) or 'none'}), {len(extra)} are additional ({shorten(extra) or 'none'}).{hint} "
        f"Add missing ones with `scapp.pp.add_unmeasured_genes`. {mend}"
    )


NETWORK, FEATURES, GENES, EFFECTS = "network", "gene_features", "genes", "effects"
ADDED = "added"  # mask of the genes that were added after training


def numbered(key: str, make: Callable[[str, str], _Field], attr_keys: list[str]) -> list[_Field]:
    """Return one field for each slot, under registry keys such as ``"network_0"``."""
    return [make(f"{key}_{k}", attr_key) for k, attr_key in enumerate(attr_keys)]


# ---------------------------------------------------------------------- the same for MuData, each reading one modality


class _LabelledEffectsField(EffectsField):
    """Effects of one modality, with columns of obs from elsewhere in the MuData.

    Parameters
    ----------
    columns_of
        The modality of each required column; None for ``mdata.obs``.
    """

    def __init__(self, registry_key: str, attr_key: str, *, columns_of: Mapping[str, str | None], **options: Any):
        super().__init__(registry_key, attr_key, **options)
        self.columns_of = dict(columns_of)
        self.obs: pd.DataFrame | None = None

    def find_columns(self, mdata: MuData, expression: str) -> None:
        """Look up the columns in the order of the expression's cells, before a field is registered or transferred."""
        cells = mdata.mod[expression].obs_names
        self.obs = pd.DataFrame(
            {key: column_of_mudata(mdata, key, modality).reindex(cells) for key, modality in self.columns_of.items()},
            index=cells,
        )

    def _read(self, adata: AnnData) -> dict:
        assert self.obs is not None
        # Only references: the matrices are not copied.
        labelled = AnnData(X=adata.X, obs=self.obs, var=adata.var, layers=dict(adata.layers))
        return super()._read(labelled)

    def transfer_field(self, state_registry: dict, adata_target: AnnData, **kwargs: Any) -> dict:
        return dict(state_registry)  # the column has been found by now

    def __deepcopy__(self, memo: dict) -> _LabelledEffectsField:
        options = {"columns_of": self.columns_of, "kind": self.kind, **self.options}
        return type(self)(self._registry_key, self.perturbation_key, **options)


def column_of_mudata(mdata: MuData, key: str, modality: str | None) -> pd.Series:
    """Return a column of ``obs`` of a modality, or of ``mdata.obs``.

    Raises
    ------
    ValueError
        If it is missing; the message names the modalities that have it.
    """
    obs = mdata.obs if modality is None else mdata.mod[modality].obs
    if key in obs:
        return obs[key]
    where = "mdata.obs" if modality is None else f"mdata[{modality!r}].obs"
    elsewhere = [name for name, adata in mdata.mod.items() if key in adata.obs]
    mend = f"it has {shorten(map(repr, obs.columns), 12) or 'none'}."
    if elsewhere:
        mend = f"{shorten(map(repr, elsewhere))} has one: name it in modalities={{…: {elsewhere[0]!r}}}."
    raise ValueError(f"{where} has no column {key!r}; {mend}")


MuDataGenesField = MuDataWrapper(GenesField)
MuDataNetworkField = MuDataWrapper(NetworkField)
MuDataGeneFeaturesField = MuDataWrapper(GeneFeaturesField)
MuDataEffectsField = MuDataWrapper(
    _LabelledEffectsField, lambda wrapper, mdata: wrapper.adata_field.find_columns(mdata, wrapper.mod_key)
)


def effects_of(manager: AnnDataManager, *, read: bool = False) -> AnnData | None:
    """Return the training effects that were read at set-up.

    The manager of a loaded model has not read any. They are then None, or with `read` those of its data.

    Raises
    ------
    RuntimeError
        If the data have different perturbations from those registered.
    """
    for field in manager.fields:
        plain = getattr(field, "adata_field", field)
        if not isinstance(plain, EffectsField):
            continue
        if plain.effects is not None or not read:
            return plain.effects
        again = copy.deepcopy(field)
        found = again.register_field(manager.adata)["perturbations"]
        registered = manager.registry["field_registries"][plain.registry_key]["state_registry"]["perturbations"]
        if not np.array_equal(found, registered):
            raise RuntimeError(
                f"This AnnData was last registered by a model that was loaded with it, for {len(registered)} other perturbations; "
                f"it holds {len(found)}. Set it up again with `APP.setup_anndata(effects)`, and make a new model."
            )
        effects: AnnData | None = getattr(again, "adata_field", again).effects
        return effects
    return None
