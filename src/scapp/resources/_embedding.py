"""One call for all formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from scapp._checked import checked
from scapp._genes import shorten
from scapp._tables import existing_file
from scapp.resources._embedding_models import read_geneformer, read_genept, read_scbert, read_scfoundation, read_scgpt
from scapp.resources._embedding_tables import FORMATS, read_embedding_table

if TYPE_CHECKING:
    import pandas as pd

    from scapp.resources._embedding_frame import Duplicates, PathLike
    from scapp.resources._embedding_models import GeneList, Vocabulary

Format = Literal["geneformer", "scgpt", "scfoundation", "scbert", "genept", "table"]

# For each format: its reader, what it needs besides the path, and what it takes.
_READERS: dict[str, tuple[Any, tuple[str, ...], tuple[str, ...]]] = {
    "geneformer": (read_geneformer, ("token_dictionary",), ("ensembl_ids",)),
    "scgpt": (read_scgpt, (), ("layer_norm",)),
    "scfoundation": (read_scfoundation, ("gene_list",), ()),
    "scbert": (read_scbert, ("gene_list",), ()),
    "genept": (read_genept, (), ("duplicates",)),
    "table": (read_embedding_table, (), ("key", "ensembl_ids", "duplicates")),
}


@checked
def read_embedding(
    path: PathLike,
    format: Format | None = None,
    *,
    token_dictionary: Vocabulary | None = None,
    gene_list: GeneList | None = None,
    ensembl_ids: pd.DataFrame | PathLike | None = None,
    layer_norm: bool | None = None,
    key: str | None = None,
    duplicates: Duplicates | None = None,
) -> pd.DataFrame:
    """Read gene embeddings of any known format.

    Parameters
    ----------
    path
        File or folder.
    format
        ``"geneformer"``, ``"scgpt"``, ``"scfoundation"``, ``"scbert"``, ``"genept"`` or ``"table"``. If None, it is
        told by the files: a folder with ``vocab.json`` is scGPT, one with ``model.safetensors`` or
        ``pytorch_model.bin``, and such a file itself, Geneformer, a ckpt file scFoundation, an npy file scBERT's
        gene2vec, and all other files are tables.
    token_dictionary
        Of Geneformer: the JSON file (or mapping) of Ensembl id to row.
    gene_list
        Of scFoundation and scBERT: the genes in the order of the rows.
    ensembl_ids
        Of Geneformer and tables: the table of Ensembl ids and symbols.
    layer_norm
        Of scGPT: whether to apply the layer norm of its encoder (by default yes).
    key
        Of h5ad tables: the key of ``varm``.
    duplicates
        Of GenePT and tables: what to do with a gene of several rows, ``"error"`` (the default), ``"first"`` or
        ``"mean"``.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by gene; ``attrs`` names source and format.

    Raises
    ------
    ValueError
        If the format is not known, an argument that it needs is missing or one is given that it does not take; and
        whatever the reader of the format raises.

    Examples
    --------
    >>> table = scapp.resources.read_embedding("scGPT_human")
    >>> scapp.pp.add_gene_features(effects, table, key_added="scgpt")
    """
    if format is None:
        format = _recognise(Path(path).expanduser())
    elif format not in get_args(Format):
        raise ValueError(f"format must be one of {', '.join(map(repr, get_args(Format)))}, found {format!r}.")
    given = {
        "token_dictionary": token_dictionary,
        "gene_list": gene_list,
        "ensembl_ids": ensembl_ids,
        "layer_norm": layer_norm,
        "key": key,
        "duplicates": duplicates,
    }
    options = {name: value for name, value in given.items() if value is not None}
    reader, needed, taken = _READERS[format]
    missing = [name for name in needed if name not in options]
    if missing:
        raise ValueError(
            f"{str(path)!r} is read as {format}, which needs {' and '.join(f'{name}=…' for name in missing)}. "
            f"If it is something else, name it with format=…: {', '.join(map(repr, get_args(Format)))}."
        )
    other = [name for name in options if name not in (*needed, *taken)]
    if other:
        raise ValueError(
            f"{str(path)!r} is read as {format}, which takes no {' and no '.join(other)}. Leave it out, or name another "
            "format with format=…."
        )
    return reader(path, **options)


def _recognise(path: Path) -> Format:
    if path.is_dir():
        there = {child.name for child in path.iterdir()}
        if "vocab.json" in there:
            return "scgpt"
        if there & {"model.safetensors", "pytorch_model.bin"}:
            return "geneformer"
        raise ValueError(
            f"The folder {str(path)!r} is of no known model: expected vocab.json and best_model.pt (scGPT), or "
            f"model.safetensors or pytorch_model.bin (Geneformer), found {shorten(sorted(there), 8) or 'nothing'}. Name "
            "the model with format=…, or pass a file."
        )
    suffix = existing_file(path).suffix.lower()
    by_suffix: dict[str, Format] = {".ckpt": "scfoundation", ".npy": "scbert"}
    if path.name == "best_model.pt":
        return "scgpt"
    if suffix in (".safetensors", ".bin"):
        return "geneformer"
    if suffix in (".pt", ".pth"):
        raise ValueError(
            f"{str(path)!r} could be the checkpoint of any model. Name it with format=…: "
            f"{', '.join(map(repr, get_args(Format)))}. (A table is read from {FORMATS}.)"
        )
    return by_suffix.get(suffix, "table")
