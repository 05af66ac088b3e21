"""Public knowledge of genes by name, with its origin and license, for ``scapp.pp``.

Networks, annotations, and the gene embeddings of published models, which are read without running code from their files.
"""

from scapp.resources._annotations import from_gaf, from_gmt, gene_ontology, reactome
from scapp.resources._embedding_models import (
    read_embedding,
    read_geneformer,
    read_genept,
    read_scbert,
    read_scfoundation,
    read_scgpt,
)
from scapp.resources._embedding_tables import read_embedding_table
from scapp.resources._gene_vectors import is_depmap  # for scapp.pp.add_gene_features
from scapp.resources._networks import from_table, hgnc
from scapp.resources._omnipath import collectri, dorothea, omnipath
from scapp.resources._string import check_score, string  # the first for scapp.pp.add_evidence

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
    "read_embedding",
    "read_embedding_table",
    "read_geneformer",
    "read_genept",
    "read_scbert",
    "read_scfoundation",
    "read_scgpt",
    "string",
]
