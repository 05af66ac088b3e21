"""Gene embeddings of published models, read from the files that their authors offer, without running code from them."""

from __future__ import annotations

from scapp.embeddings._models import read_geneformer, read_genept, read_scbert, read_scfoundation, read_scgpt
from scapp.embeddings._read import read
from scapp.embeddings._tables import read_table

__all__ = [
    "read",
    "read_geneformer",
    "read_genept",
    "read_scbert",
    "read_scfoundation",
    "read_scgpt",
    "read_table",
]
