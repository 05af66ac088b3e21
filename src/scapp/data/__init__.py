"""How scapp's data enter scvi-tools: fields for genes, networks, features and effects."""

from scapp.data._effects import DEPTH, read_effects
from scapp.data._fields import (
    EFFECTS,
    FEATURES,
    GENES,
    NETWORK,
    EffectsField,
    GeneFeaturesField,
    GenesField,
    NetworkField,
    check_same_genes,
    numbered,
)
from scapp.data._mudata import (
    MuDataEffectsField,
    MuDataGeneFeaturesField,
    MuDataGenesField,
    MuDataNetworkField,
    column_of_mudata,
    effects_of,
)

__all__ = [
    "DEPTH",
    "EFFECTS",
    "FEATURES",
    "GENES",
    "NETWORK",
    "EffectsField",
    "GeneFeaturesField",
    "GenesField",
    "MuDataEffectsField",
    "MuDataGeneFeaturesField",
    "MuDataGenesField",
    "MuDataNetworkField",
    "NetworkField",
    "check_same_genes",
    "column_of_mudata",
    "effects_of",
    "numbered",
    "read_effects",
]
