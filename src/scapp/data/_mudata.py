"""The fields' twins for MuData: the same, each reading one modality."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scvi.data.fields import MuDataWrapper

from scapp._genes import shorten
from scapp.data._fields import EffectsField, GeneFeaturesField, GenesField, NetworkField

if TYPE_CHECKING:
    from mudata import MuData
    from scvi.data import AnnDataManager


class _LabelledEffectsField(EffectsField):
    """Effects of one modality, with columns of obs that stand elsewhere in the MuData.

    Parameters
    ----------
    columns_of
        The modality of each column that is needed; None for ``mdata.obs``.
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
    """Return a column of obs of a modality, or of ``mdata.obs``.

    Raises
    ------
    ValueError
        If it is not there, naming the modalities that hold it.
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

    A manager that a saved model was loaded with has read none. They are then None, or with `read` those of its data.

    Raises
    ------
    RuntimeError
        If the data hold other perturbations than those that were registered.
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
