"""The gene embeddings of published models, from the files that their authors offer."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._genes import shorten
from scapp._tables import PathLike, existing_file, find_column, is_path, read_table, to_numbers
from scapp.resources._embedding_tables import FORMATS, PICKLED_MAPPING, Duplicates, read_embedding_table, to_frame
from scapp.resources._gene_vectors import is_pie_folder
from scapp.resources._safe import is_pickle, read_arrays, read_json, read_tensor, read_tensors, refuse_pickle

Vocabulary: TypeAlias = Mapping[str, int] | PathLike
GeneList: TypeAlias = Iterable[str] | PathLike

Format = Literal["geneformer", "scgpt", "scfoundation", "scbert", "genept", "table"]
GENEFORMER = ("bert.embeddings.word_embeddings.weight", "embeddings.word_embeddings.weight")
SCGPT = "encoder.embedding.weight"
SCGPT_NORM = ("encoder.enc_norm.weight", "encoder.enc_norm.bias")
SCGPT_SPECIAL = ("<pad>", "<cls>", "<eoc>")
SCFOUNDATION = "model.pos_emb.weight"
# Of scFoundation's rows, those after the genes: log10TotalCount1, log10TotalCount2, and the padding.
SCFOUNDATION_EXTRA = 3
LAYER_NORM_EPS = 1e-5  # of torch.nn.LayerNorm


@checked
def read_geneformer(
    path: PathLike, token_dictionary: Vocabulary, *, ensembl_ids: pd.DataFrame | PathLike | None = None
) -> pd.DataFrame:
    """Read Geneformer's input embedding of genes.

    It is the tensor ``bert.embeddings.word_embeddings.weight`` :cite:p:`Theodoris2023`.

    Parameters
    ----------
    path
        The folder of a model with ``model.safetensors`` (preferred) or ``pytorch_model.bin``; or the file itself.
    token_dictionary
        Mapping from Ensembl ids to rows, or a JSON file of it. It is distributed as a pickle, which is refused with a
        message that shows how to convert it. It must match the model: the first version has 25,426 tokens, the second
        20,275.
    ensembl_ids
        Table (or its path) with columns ``ensembl_id`` and ``symbol``, to name the genes by symbol. Versions of ids are
        stripped. Ids that are not in the table, have several symbols, or share their symbol with another id are left
        out and counted in ``attrs["ensembl_ids"]``. Without it, the genes are named by Ensembl id.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by gene. ``attrs`` names source and format, and counts the
    special tokens that were left out.

    Raises
    ------
    ValueError
        If files or the tensor are missing or incomplete, the number of tokens differs from the number of rows, or a
        pickle would have to be read.
    ImportError
        If the package safetensors is needed and not installed.
    """
    checkpoint = _in_folder(path, ("model.safetensors", "pytorch_model.bin"), "Geneformer")
    tokens = _read_vocabulary(token_dictionary, "token dictionary")
    values = read_tensor(checkpoint, GENEFORMER, snippet=_resave(checkpoint, GENEFORMER[0]))
    names = _rows(tokens, len(values), checkpoint, what="token dictionary")
    return to_frame(names, values, source=checkpoint, format="geneformer", ensembl_ids=ensembl_ids)


@checked
def read_scgpt(path: PathLike, *, layer_norm: bool = True) -> pd.DataFrame:
    """Read the gene embedding of scGPT.

    It is the tensor ``encoder.embedding.weight`` followed by the layer norm ``encoder.enc_norm``. This is the output of
    the model's gene encoder, which its tutorials use as gene embedding :cite:p:`Cui2024`.

    Parameters
    ----------
    path
        The folder of a model, with ``best_model.pt`` and ``vocab.json`` (symbol to row).
    layer_norm
        Whether to apply the layer norm. If False, the tensor itself is returned.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by symbol; see :func:`read_geneformer`.

    Raises
    ------
    ValueError
        If files or tensors are missing or incomplete, the vocabulary does not match, or a pickle would have to be read.
    """
    checkpoint = _in_folder(path, ("best_model.pt",), "scGPT")
    vocabulary = _read_vocabulary(checkpoint.parent / "vocab.json", "vocabulary")
    wanted: dict[str, tuple[str, ...]] = {"embedding": (SCGPT,)}
    if layer_norm:
        wanted |= {"weight": (SCGPT_NORM[0],), "bias": (SCGPT_NORM[1],)}
    tensors = read_tensors(checkpoint, wanted, snippet=_resave(checkpoint, SCGPT, *SCGPT_NORM))
    values = tensors["embedding"]
    # The model appends the special tokens that its vocabulary lacks, so that the tensor may have a few rows more.
    appended = sum(token not in vocabulary for token in SCGPT_SPECIAL)
    if len(vocabulary) < len(values) <= len(vocabulary) + appended:
        values = values[: len(vocabulary)]
    names = _rows(vocabulary, len(values), checkpoint, what="vocabulary")
    if layer_norm:
        double = values.astype(np.float64)
        centred = double - double.mean(axis=1, keepdims=True)
        scale = np.sqrt((centred**2).mean(axis=1, keepdims=True) + LAYER_NORM_EPS)
        values = (centred / scale * tensors["weight"] + tensors["bias"]).astype(np.float32)
    return to_frame(names, values, source=checkpoint, format="scgpt", layer_norm=layer_norm)


@checked
def read_scfoundation(checkpoint: PathLike, gene_list: GeneList) -> pd.DataFrame:
    """Read the gene embedding of scFoundation.

    It is ``["gene"]["state_dict"]["model.pos_emb.weight"]`` of the checkpoint without its last three rows, which
    represent the two total counts and padding :cite:p:`Hao2024`.

    Parameters
    ----------
    checkpoint
        ``models.ckpt``; or a safetensors file that holds the tensor.
    gene_list
        The 19,264 genes in the order of the model: a file (a table with a column ``gene_name``, or one name per line),
        or the names.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by symbol; see :func:`read_geneformer`.

    Raises
    ------
    ValueError
        If a file is missing or incomplete, the tensor is not there, there are not exactly three rows more than genes,
        or a pickle would have to be read.
    """
    file = existing_file(checkpoint)
    names = _read_gene_list(gene_list)
    snippet = _resave(file, SCFOUNDATION, at="['gene']['state_dict']")
    values = read_tensor(file, (SCFOUNDATION,), inside=("gene", "state_dict"), snippet=snippet)
    if len(values) != len(names) + SCFOUNDATION_EXTRA:
        raise ValueError(
            f"{str(file)!r} has {len(values)} rows, that is {len(values) - SCFOUNDATION_EXTRA} genes and "
            f"{SCFOUNDATION_EXTRA} rows for total counts and padding, but the gene list has {len(names)} names. Pass the "
            "list that belongs to this checkpoint, complete and in its order, without names for the extra rows."
        )
    return to_frame(names, values[: len(names)], source=file, format="scfoundation", n_extra_rows=SCFOUNDATION_EXTRA)


@checked
def read_scbert(gene2vec: PathLike, gene_list: GeneList) -> pd.DataFrame:
    """Read the gene2vec embedding that scBERT uses for its genes.

    It comes as ``gene2vec_16906.npy``, of shape (16,906, 200), without names :cite:p:`Yang2022`.

    Parameters
    ----------
    gene2vec
        The npy file.
    gene_list
        The genes in the order of the rows, which is that of scBERT's panglao reference: its h5ad file, a table with a
        column ``gene_name``, a file with one name per line, or the names.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by symbol; see :func:`read_geneformer`.

    Raises
    ------
    ValueError
        If a file is missing or incomplete, there are not as many rows as genes, or the array holds pickled objects.
    """
    file = existing_file(gene2vec)
    names = _read_gene_list(gene_list)
    values = read_arrays(
        file,
        f"import numpy as np\nnp.save({'new_' + file.name!r}, np.load({file.name!r}, allow_pickle=True).astype('float32'))",
    )
    if not isinstance(values, np.ndarray):
        raise ValueError(
            f"{str(file)!r} should hold one array, found several: {shorten(values)}. Use read_embedding_table."
        )
    if values.ndim == 2 and len(values) != len(names):
        raise ValueError(
            f"{str(file)!r} has {len(values)} rows, but the gene list has {len(names)} names. Pass the genes of the "
            "reference that belongs to it, complete and in its order."
        )
    return to_frame(names, values, source=file, format="scbert")


@checked
def read_genept(path: PathLike, *, duplicates: Duplicates = "error") -> pd.DataFrame:
    """Read GenePT, embeddings of texts about each gene.

    They are distributed as a pickle that maps symbols to vectors, which is refused with a message that shows how to
    convert it :cite:p:`Chen2024`.

    Parameters
    ----------
    path
        The converted file: JSON of symbol to vector, or anything that :func:`read_embedding_table` reads.
    duplicates
        What to do with a gene that has several rows: ``"error"``, ``"first"`` or ``"mean"``.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by symbol; see :func:`read_geneformer`.

    Raises
    ------
    ValueError
        If the file is missing, incomplete or a pickle, or does not hold one finite vector per gene, all of the same
        length.
    """
    file = existing_file(path)
    if is_pickle(file):
        raise refuse_pickle(file, PICKLED_MAPPING.format(name=file.name, new=file.stem + ".npz"))
    frame = read_embedding_table(file, duplicates=duplicates)
    frame.attrs["format"] = "genept"
    return frame


def _in_folder(path: PathLike, names: tuple[str, ...], model: str) -> Path:
    """Return the file of a model, where its folder or the file itself may be given."""
    path = Path(path).expanduser()
    if not path.is_dir():
        return existing_file(path)
    found = next((path / name for name in names if (path / name).is_file()), None)
    if found is None:
        there = shorten(sorted(child.name for child in path.iterdir()), 8) or "nothing"
        raise ValueError(
            f"The folder {str(path)!r} of {model} should hold {' or '.join(names)}, found {there}. Pass the file itself if "
            "it has another name."
        )
    return found


def _read_vocabulary(vocabulary: Vocabulary, what: str) -> dict[str, int]:
    if is_path(vocabulary):
        file = existing_file(vocabulary)
        if is_pickle(file):
            raise refuse_pickle(
                file,
                "import json, pickle\n"
                f"found = pickle.load(open({file.name!r}, 'rb'))\n"
                f"json.dump({{str(k): int(v) for k, v in found.items()}}, open({file.stem + '.json'!r}, 'w'))",
            )
        vocabulary = read_json(file, what)
    if not isinstance(vocabulary, Mapping):
        raise ValueError(f"The {what} should map names to rows, found a {type(vocabulary).__name__}.")
    wrong = [name for name, row in vocabulary.items() if isinstance(row, bool) or not isinstance(row, int | np.integer)]
    if wrong:
        raise ValueError(
            f"The {what} should map names to whole numbers, the rows, but {len(wrong)} of {len(vocabulary)} are none: "
            f"{shorten(f'{name!r}: {vocabulary[name]!r}' for name in wrong)}."
        )
    return {str(name): int(row) for name, row in vocabulary.items()}


def _rows(vocabulary: dict[str, int], n_rows: int, checkpoint: Path, *, what: str) -> list[str]:
    """Return the names of a vocabulary in the order of their rows, each of which must have exactly one name."""
    names = sorted(vocabulary, key=vocabulary.__getitem__)
    if [vocabulary[name] for name in names] == list(range(n_rows)):
        return names
    if len(names) != n_rows:
        raise ValueError(
            f"{str(checkpoint)!r} has {n_rows} rows, but the {what} has {len(names)} names. Each would get the vector of "
            f"another gene: pass the {what} that belongs to this checkpoint."
        )
    known = set(vocabulary.values())
    missing = [row for row in range(n_rows) if row not in known]
    raise ValueError(
        f"The {what} should name each of the rows 0 to {n_rows - 1} of {str(checkpoint)!r} once, but it lacks "
        f"{shorten(missing)}. Pass the {what} that belongs to this checkpoint."
    )


def _read_gene_list(gene_list: GeneList) -> list[str]:
    if not isinstance(gene_list, str | os.PathLike):
        return [str(name) for name in gene_list]
    file = existing_file(gene_list)
    if is_pickle(file):
        raise refuse_pickle(
            file,
            "import pickle\n"
            f"open({file.stem + '.txt'!r}, 'w').write('\\n'.join(pickle.load(open({file.name!r}, 'rb'))))",
        )
    if file.suffix == ".h5ad":
        import anndata as ad

        try:
            return ad.read_h5ad(file, backed="r").var_names.astype(str).tolist()
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(f"{str(file)!r} cannot be read as h5ad ({error}). Is it complete?") from error
    if file.suffix == ".json":
        names = read_json(file, "gene list")
        if not isinstance(names, list):
            raise ValueError(f"{str(file)!r} should hold a list of gene names, found a {type(names).__name__}.")
        return [str(name) for name in names]
    if file.suffix == ".txt":
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    table = read_table(file)
    column = find_column(table, ["gene_name", "gene", "symbol", "gene_symbol", "genes"])
    if column is None:
        raise ValueError(
            f"{str(file)!r} has no column 'gene_name'; its columns are {', '.join(map(repr, table.columns))}. Rename the "
            "column, or pass the names."
        )
    number = find_column(table, ["index"])
    if number is not None:
        # The rows are numbered: the order is theirs, whatever that of the lines is.
        rows = to_numbers(table[number])
        if sorted(rows) != list(range(len(table))):
            raise ValueError(f"The column {number!r} of {str(file)!r} should number the genes from 0, each once.")
        table = table.assign(**{number: rows}).sort_values(number)
    return [str(name) for name in table[column]]


def _resave(checkpoint: Path, *names: str, at: str = "") -> str:
    """Return lines that keep the wanted tensors of a torch checkpoint, and nothing else."""
    return (
        "import torch; from safetensors.torch import save_file\n"
        f"found = torch.load({checkpoint.name!r}, map_location='cpu', weights_only=False){at}\n"
        f"save_file({{name: found[name].contiguous() for name in {list(names)}}}, {checkpoint.stem + '.safetensors'!r})"
    )


# For each format: its reader, and its required and optional arguments besides the path.
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
    """Read gene embeddings in any known format.

    Parameters
    ----------
    path
        File or folder.
    format
        ``"geneformer"``, ``"scgpt"``, ``"scfoundation"``, ``"scbert"``, ``"genept"`` or ``"table"``. If None, the
        format is inferred from the files: a folder with ``vocab.json`` is scGPT, one with ``model.safetensors`` or
        ``pytorch_model.bin``, and such a file itself, Geneformer, a ckpt file scFoundation, an npy file scBERT's
        gene2vec, and all other files, and folders of PIE, are tables (:func:`read_embedding_table`).
    token_dictionary
        For Geneformer: the JSON file (or mapping) of Ensembl id to row.
    gene_list
        For scFoundation and scBERT: the genes in the order of the rows.
    ensembl_ids
        For Geneformer and tables: the table of Ensembl ids and symbols.
    layer_norm
        For scGPT: whether to apply the layer norm of its encoder (by default yes).
    key
        For h5ad tables: the key of ``varm``.
    duplicates
        For GenePT and tables: what to do with a gene that has several rows, ``"error"`` (the default), ``"first"`` or
        ``"mean"``.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by gene; ``attrs`` names source and format.

    Raises
    ------
    ValueError
        If the format is unknown, or an argument is missing or does not apply to it; and whatever the reader of the
        format raises.

    Examples
    --------
    >>> table = scapp.resources.read_embedding("scGPT_human")
    >>> scapp.pp.add_gene_features(effects, table, key_added="scgpt")
    """
    if format is None:
        format = _recognise(Path(path).expanduser())
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
    if is_pie_folder(path):
        return "table"
    if path.is_dir():
        there = {child.name for child in path.iterdir()}
        if "vocab.json" in there:
            return "scgpt"
        if there & {"model.safetensors", "pytorch_model.bin"}:
            return "geneformer"
        raise ValueError(
            f"The folder {str(path)!r} is of no known model: expected vocab.json and best_model.pt (scGPT), or "
            f"model.safetensors or pytorch_model.bin (Geneformer), or meta.json and embeddings.npy (PIE), found {shorten(sorted(there), 8) or 'nothing'}. Name "
            "the model with format=…, or pass a file."
        )
    suffix = existing_file(path).suffix.lower()
    if path.name == "best_model.pt":
        return "scgpt"
    if suffix in (".pt", ".pth"):
        raise ValueError(
            f"{str(path)!r} could be the checkpoint of any model. Name it with format=…: "
            f"{', '.join(map(repr, get_args(Format)))}. (A table is read from {FORMATS}.)"
        )
    by_suffix: dict[str, Format] = {".ckpt": "scfoundation", ".npy": "scbert"}
    by_suffix |= {".safetensors": "geneformer", ".bin": "geneformer"}
    return by_suffix.get(suffix, "table")
