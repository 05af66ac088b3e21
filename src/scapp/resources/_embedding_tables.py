"""Tables of embeddings of any origin, names and a matrix, and the checked table that every reader returns."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._checked import checked
from scapp._genes import shorten
from scapp._tables import PathLike, existing_file, find_column, is_path, read_table, to_numbers
from scapp.resources._gene_vectors import (
    GeneVectors,
    from_depmap,
    from_pie_folder,
    from_string_h5,
    is_depmap,
    is_pie_folder,
)
from scapp.resources._safe import is_pickle, read_arrays, read_json, refuse_pickle

Duplicates = Literal["error", "first", "mean"]
TEXT = (".csv", ".tsv", ".txt", ".tab")
FORMATS = "npz, csv, tsv, txt (also gzipped), parquet, h5ad, h5 and json"
HDF5 = (".h5", ".hdf5")
PICKLED_MAPPING = """\
import pickle, numpy as np
found = pickle.load(open({name!r}, 'rb'))
np.savez({new!r}, genes=np.array(list(found), str), embedding=np.array(list(found.values()), 'float32'))"""
# The tokens of a vocabulary that stand for no gene: <pad>, <mask>, <cls>, <eoc>, …
SPECIAL = re.compile(r"^<.*>$")
VERSION = re.compile(r"\.\d+(_PAR_Y)?$")
_DECIMAL = re.compile(r"^-?\d*\.\d+(e[+-]?\d+)?$", re.IGNORECASE)

logger = logging.getLogger(__name__)


@checked
def read_embedding_table(
    path: PathLike,
    *,
    key: str | None = None,
    ensembl_ids: pd.DataFrame | PathLike | None = None,
    duplicates: Duplicates = "error",
) -> pd.DataFrame:
    """Read a table of gene embeddings (names and a matrix) in any common file format.

    Parameters
    ----------
    path
        One of

        - npz: one array of names (text) and one matrix with the same number of rows, under any keys;
        - csv, tsv, txt (also gzipped): a header, the gene in the first column, numbers in the others;
        - parquet: the gene as index or in the first column, numbers in the others;
        - h5ad: genes as observations and dimensions as variables; or with `key` the genes of the file and
          ``varm[key]``;
        - json: an object of gene to vector;
        - a folder of PIE with ``meta.json`` and ``embeddings.npy``, whose provenance is kept in ``attrs``; several
          tokens for one gene are averaged;
        - h5: STRING's embeddings of proteins (``9606.protein.network.embeddings.v12.0.h5`` and the like), indexed by STRING's
          protein ids. Pass ``aliases="9606.protein.info.v12.0.txt.gz"`` to :func:`scapp.pp.add_gene_features` with
          them;
        - DepMap's ``CRISPRGeneEffect.csv``, recognised by its columns ``"A1BG (1)"``: for each gene its effect on the
          growth of each cell line, minus its mean, so that the cosine of two genes is their co-dependency (the
          correlation over lines). Missing values are replaced by the gene's mean; genes that are missing in most lines
          or constant are left out.
    key
        For h5ad files, the key of ``varm``; for STRING's file of all species, the id of the species, such as
        ``"9606"``.
    ensembl_ids
        Table (or its path) with columns ``ensembl_id`` and ``symbol``; see :func:`read_geneformer`.
    duplicates
        What to do with a gene that has several rows: ``"error"``, ``"first"`` (the first row of each) or ``"mean"``.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by gene as named in the file; ``attrs`` names source and
    format and counts what was left out.

    Raises
    ------
    ValueError
        If the file is missing, incomplete, in another format or a pickle; if names are missing or occur twice, a value
        is not a finite number, or vectors differ in length.
    """
    file = Path(path).expanduser()
    is_folder = is_pie_folder(file)
    suffix = ""
    if not is_folder:
        existing_file(file)
        suffix = (Path(file.stem) if file.suffix.lower() == ".gz" else file).suffix.lower()
    if key is not None and suffix not in (".h5ad", *HDF5):
        raise ValueError(f"key={key!r} names an array of varm, but {str(file)!r} is no h5ad file. Leave it out.")
    format = suffix.lstrip(".")
    if is_folder:
        format, found = "pie", from_pie_folder(file)
    elif suffix in HDF5:
        format, found = "string", from_string_h5(file, key)
    elif suffix == ".csv" and not is_pickle(file) and is_depmap(file):
        format, found = "depmap", from_depmap(file)
    elif suffix in (".npz", ".npy"):
        found = _from_arrays(file)
    elif is_pickle(file):
        raise refuse_pickle(file, PICKLED_MAPPING.format(name=file.name, new=file.stem + ".npz"))
    elif suffix == ".h5ad":
        found = _from_h5ad(file, key)
    elif suffix == ".json":
        found = _from_json(file)
    elif suffix == ".parquet" or suffix in TEXT:
        found = _from_columns(file)
    else:
        raise ValueError(
            f"{str(file)!r} is of no known format. Tables of embeddings are read from {FORMATS}; published models by "
            "read_geneformer, read_scgpt, read_scfoundation, read_scbert and read_genept."
        )
    options: dict[str, Any] = {"source": file, "ensembl_ids": ensembl_ids, "duplicates": duplicates}
    return to_frame(found.names, found.values, format=format, **options, **found.attrs)


def _from_arrays(file: Path) -> GeneVectors:
    arrays = read_arrays(
        file,
        "import numpy as np\n"
        f"found = np.load({file.name!r}, allow_pickle=True)  # look inside: found.files, or found.shape\n"
        f"np.savez({'new_' + file.stem + '.npz'!r}, genes=np.array(NAMES, str), embedding=np.array(MATRIX, 'float32'))",
    )
    if isinstance(arrays, np.ndarray):
        raise ValueError(
            f"{str(file)!r} holds an array without gene names. Save both: `numpy.savez(path, genes=np.array(names, "
            "dtype=str), embedding=matrix)`; scBERT's gene2vec is read by read_scbert, with its gene list."
        )
    names = [name for name, array in arrays.items() if array.ndim == 1 and array.dtype.kind in "US"]
    matrices = [name for name, array in arrays.items() if array.ndim == 2 and array.dtype.kind in "fiu"]
    if len(names) != 1 or len(matrices) != 1 or len(arrays[names[0]]) != len(arrays[matrices[0]]):
        found = ", ".join(f"{name} {array.dtype}{array.shape}" for name, array in arrays.items()) or "none"
        raise ValueError(
            f"{str(file)!r} must hold one array of gene names (text) and one matrix with as many rows, found {found}."
        )
    return GeneVectors(arrays[names[0]].astype(str).tolist(), arrays[matrices[0]])


def _from_h5ad(file: Path, key: str | None) -> GeneVectors:
    import anndata as ad
    from scipy import sparse

    try:
        adata = ad.read_h5ad(file)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as h5ad ({error}). Is it complete?") from error
    if key is None and adata.X is None:
        raise ValueError(f"{str(file)!r} has no X. Name an array of varm with key=…: {shorten(adata.varm) or 'none'}.")
    if key is not None and key not in adata.varm:
        raise ValueError(f"{str(file)!r} has no varm[{key!r}]; its keys are {shorten(adata.varm, 10) or 'none'}.")
    names, values = (adata.obs_names, adata.X) if key is None else (adata.var_names, adata.varm[key])
    return GeneVectors(names.astype(str).tolist(), values.toarray() if sparse.issparse(values) else np.asarray(values))


def _from_json(file: Path) -> GeneVectors:
    found = read_json(file, "embedding")
    if not isinstance(found, Mapping):
        raise ValueError(f"{str(file)!r} should map genes to vectors, found a {type(found).__name__}.")
    lengths = {name: len(vector) if isinstance(vector, list) else -1 for name, vector in found.items()}
    usual = max(set(lengths.values()), key=list(lengths.values()).count, default=0)
    odd = [name for name, length in lengths.items() if length != usual or length < 1]
    if odd:
        raise ValueError(
            f"{str(file)!r} should map each gene to a vector, all of one length. {len(odd)} of {len(found)} differ from "
            f"the usual {usual}: {shorten(f'{name!r} ({lengths[name]})' for name in odd)}."
        )
    return GeneVectors(list(found), _numbers(pd.DataFrame(list(found.values()), index=list(found)), file))


def _from_columns(file: Path) -> GeneVectors:
    try:
        table = read_table(file)
    except (OSError, UnicodeDecodeError, EOFError, pd.errors.ParserError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as a table ({error}). Is it complete?") from error
    except ValueError as error:  # of pyarrow; those of read_table name the file already
        raise ValueError(f"{str(file)!r} cannot be read as a table: {error}") from error
    if sum(bool(_DECIMAL.match(str(column))) for column in table.columns[1:]) > 1:
        raise ValueError(
            f"The first line of {str(file)!r} holds numbers ({shorten(table.columns, 4)}): it has no header, and the first "
            "gene would be lost. Add a header line."
        )
    index_is_gene = file.suffix == ".parquet" and not pd.api.types.is_numeric_dtype(table.index.dtype)
    if not index_is_gene:
        if not table.shape[1]:
            raise ValueError(f"{str(file)!r} has no columns.")
        table = table.set_index(table.columns[0])
        if pd.api.types.is_numeric_dtype(table.index.dtype):
            raise ValueError(
                f"The first column of {str(file)!r}, {table.index.name!r}, should name the genes, found numbers: "
                f"{shorten(table.index, 3)}."
            )
    return GeneVectors(table.index.astype(str).tolist(), _numbers(table, file))


def _numbers(table: pd.DataFrame, file: Path) -> NDArray[np.float64]:
    """Return the values as numbers, or an error that shows which are none."""
    values: Any = table.apply(to_numbers) if table.shape[1] else table
    bad = values.isna().to_numpy()
    if bad.any():
        row, column = np.argwhere(bad)[0]
        genes = table.index[bad.any(axis=1)]
        raise ValueError(
            f"{int(bad.sum())} values of {str(file)!r} are missing or no numbers, the first being "
            f"{table.iloc[row, column]!r} in the column {table.columns[column]!r}. Genes: {shorten(genes)}. Leave out "
            "these genes, or the columns that are not part of the embedding."
        )
    return values.to_numpy(dtype=np.float64)


def to_frame(
    names: Sequence[str],
    values: Any,
    *,
    source: Path,
    format: str,
    ensembl_ids: pd.DataFrame | PathLike | None = None,
    duplicates: Duplicates = "error",
    **attrs: Any,
) -> pd.DataFrame:
    """Check names, one per row as in the file, and vectors of shape (n_names, n_dimensions), and join them.

    Special tokens, such as ``"<pad>"``, are left out and counted. `source` and `format`, the file and what kind it is, stand in the
    messages and in ``attrs``, as do the further `attrs`. ValueError if the shapes disagree, a name is empty or occurs twice, or a
    value is not finite.
    """
    values = np.asarray(values)
    names = [str(name).strip() for name in names]
    if values.ndim != 2 or values.dtype.kind not in "fiu" or not values.shape[1]:
        raise ValueError(
            f"{str(source)!r} should hold a matrix of numbers, genes by dimensions, found an array of type {values.dtype} "
            f"and shape {values.shape}."
        )
    if len(names) != len(values):
        raise ValueError(f"{str(source)!r} has {len(values)} vectors, but there are {len(names)} gene names.")
    gene = np.array([not SPECIAL.match(name) for name in names], dtype=bool)
    attrs = {"source": str(source), "format": format, **attrs, "n_special_tokens": int((~gene).sum())}
    kept = [name for name, is_gene in zip(names, gene, strict=True) if is_gene]
    values = values[gene].astype(np.float32)
    if not kept:
        raise ValueError(f"{str(source)!r} holds no gene.")
    if empty := kept.count(""):
        raise ValueError(f"{empty} of the {len(kept)} gene names of {str(source)!r} are empty.")
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        raise ValueError(
            f"The vectors of {int(bad.sum())} gene(s) of {str(source)!r} hold NaN, infinite values or values too large for "
            f"float32: {shorten(np.array(kept, dtype=object)[bad])}. Leave these genes out of the file."
        )
    index = pd.Index(kept, dtype=object)
    first = ~index.duplicated()
    twice = index[~first].unique()
    if len(twice) and duplicates == "error":
        raise ValueError(
            f"{len(twice)} gene name(s) occur more than once in {str(source)!r}: {shorten(twice)}. Pass "
            "duplicates='first' to take the first vector of each, or duplicates='mean' for the mean."
        )
    if len(twice) and duplicates == "mean":
        # Sums in double precision, one gene after the other, in the order of the first occurrences.
        code, _ = pd.factorize(index)
        sums = np.zeros((int(first.sum()), values.shape[1]))
        np.add.at(sums, code, values)
        values = (sums / np.bincount(code)[:, None]).astype(np.float32)
    else:
        values = values[first]
    frame = pd.DataFrame(values, index=index[first], columns=pd.RangeIndex(values.shape[1]))
    frame.attrs = {**attrs, "n_repeated_names": len(twice)}
    if ensembl_ids is not None:
        frame = _to_symbols(frame, ensembl_ids, source)
    frame.index.name = "gene"
    return frame


def _to_symbols(frame: pd.DataFrame, table: pd.DataFrame | PathLike, source: Path) -> pd.DataFrame:
    """Translate Ensembl ids into symbols; an id without exactly one symbol is left out and counted.

    Versions (``ENSG00000102145.15``) are stripped on both sides. Left out are ids that the table lacks, ids for which
    it has several symbols, and ids that share their symbol with another id of the file.
    """
    symbols = _read_ensembl(table)
    stripped = [VERSION.sub("", name) for name in frame.index]
    found = [symbols.get(name, set()) for name in stripped]
    unknown = [name for name, some in zip(frame.index, found, strict=True) if not some]
    several = sum(len(some) > 1 for some in found)
    single = pd.Series([next(iter(some)) if len(some) == 1 else None for some in found], dtype=object)
    shared = single.notna() & single.duplicated(keep=False)
    kept = (single.notna() & ~shared).to_numpy()
    if not kept.any():
        raise ValueError(
            f"None of the {len(frame)} names of {str(source)!r} is an Ensembl id that the table translates. Names: "
            f"{shorten(frame.index, 3)}. Ids of the table: {shorten(symbols, 3)}. If the names are symbols already, "
            "leave ensembl_ids out."
        )
    translated = frame[kept]
    translated.index = pd.Index(single[kept], dtype=object)
    counts = {
        "n_ids": len(frame),
        "n_translated": int(kept.sum()),
        "n_unknown": len(unknown),
        "n_several_symbols": several,
        "n_shared_symbol": int(shared.sum()),
    }
    translated.attrs = {**frame.attrs, "ensembl_ids": counts}
    if not kept.all():
        logger.info(
            "%d of %d Ensembl ids have a symbol of their own. Left out: %d that the table lacks, %d of several symbols, "
            "%d that share their symbol with another id.",
            counts["n_translated"], counts["n_ids"], counts["n_unknown"], several, counts["n_shared_symbol"],
        )  # fmt: skip
    return translated


def _read_ensembl(table: pd.DataFrame | PathLike) -> dict[str, set[str]]:
    if is_path(table):
        table = read_table(existing_file(table))
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"ensembl_ids must be a DataFrame or a path, found {type(table).__name__}.")
    ids = find_column(table, ["ensembl_id", "ensembl", "ensembl_gene_id", "gene_id"])
    names = find_column(table, ["symbol", "gene_symbol", "gene_name", "hgnc_symbol"])
    if ids is None or names is None:
        raise ValueError(
            "The table of Ensembl ids needs the columns 'ensembl_id' and 'symbol', found "
            f"{', '.join(map(repr, table.columns))}. Rename them."
        )
    symbols: dict[str, set[str]] = {}
    pairs: Iterable[tuple[str, str]] = table[[ids, names]].dropna().astype(str).itertuples(index=False, name=None)
    for name, symbol in pairs:
        if name.strip() and symbol.strip():
            symbols.setdefault(VERSION.sub("", name.strip()), set()).add(symbol.strip())
    return symbols
