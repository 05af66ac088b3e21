"""Networks and annotations of genes by name, with their origin and licence, for ``scapp.pp``."""

from scapp.networks._annotations import from_gaf, from_gmt, gene_ontology, reactome
from scapp.networks._omnipath import collectri, dorothea, omnipath
from scapp.networks._string import string
from scapp.networks._tables import from_table, hgnc

__all__ = [
    "collectri",
    "dorothea",
    "from_gaf",
    "from_gmt",
    "from_table",
    "gene_ontology",
    "hgnc",
    "omnipath",
    "reactome",
    "string",
]
