"""The fields' twins for MuData: the same, each reading one modality."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pandas as pd
from anndata import AnnData
from scvi.data.fields import BaseAnnDataField, MuDataWrapper

from scapp._genes import shorten
from scapp.data._fields import EffectsField, GeneFeaturesField, GenesField, NetworkField

if TYPE_CHECKING:
    from mudata import MuData


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
    """A column of obs of a modality, or of ``mdata.obs``.

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


def effects_of(fields: Iterable[BaseAnnDataField]) -> AnnData | None:
    """The training effects that one of the fields has read; None where a saved registry was transferred."""
    plain = (getattr(field, "adata_field", field) for field in fields)
    return next(field.effects for field in plain if isinstance(field, EffectsField))
