"""How scapp's data enter scvi-tools: fields for genes, networks, features and effects, and the splitter."""

from scapp.data._fields import EffectsField, GeneFeaturesField, GenesField, NetworkField
from scapp.data._splitter import PerturbationSplitter

__all__ = ["EffectsField", "GeneFeaturesField", "GenesField", "NetworkField", "PerturbationSplitter"]
