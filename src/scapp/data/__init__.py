"""How scapp's data enter scvi-tools: fields for genes, networks, features and effects."""

from scapp.data._fields import EffectsField, GeneFeaturesField, GenesField, NetworkField

__all__ = ["EffectsField", "GeneFeaturesField", "GenesField", "NetworkField"]
