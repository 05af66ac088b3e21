"""Embeddings of any origin: names and a matrix, in a file of a usual format."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._genes import shorten
from scapp._tables import existing_file, to_numbers
from scapp._tables import read_table as read_columns
from scapp.resources._embedding_frame import Duplicates, PathLike, to_frame
from scapp.resources._safe import is_pickle, read_arrays, read_json, refuse_pickle

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

TEXT = (".csv", ".tsv", ".txt", ".tab")
FORMATS = "npz, csv, tsv, txt (also gzipped), parquet, h5ad and json"
PICKLED_MAPPING = """\
import pickle, numpy as np
found = pickle.load(open({name!r}, 'rb'))
np.savez({new!r}, genes=np.array(list(found), str), embedding=np.array(list(found.values()), 'float32'))"""
_DECIMAL = re.compile(r"^-?\d*\.\d+(e[+-]?\d+)?$", re.IGNORECASE)


@checked
def read_embedding_table(
    path: PathLike,
    *,
    key: str | None = None,
    ensembl_ids: pd.DataFrame | PathLike | None = None,
    duplicates: Duplicates = "error",
) -> pd.DataFrame:
    """Read a table of gene embeddings: names and a matrix.

    Parameters
    ----------
    path
        One of

        - npz: one array of names (text) and one matrix with as many rows, whatever they are called;
        - csv, tsv, txt (also gzipped): a header, the gene in the first column, numbers in the others;
        - parquet: the gene as index or in the first column, numbers in the others;
        - h5ad: genes as observations and dimensions as variables; or with `key` the genes of the file and
          ``varm[key]``;
        - json: an object of gene to vector.
    key
        For h5ad files, the key of ``varm``.
    ensembl_ids
        Table (or its path) with columns ``ensembl_id`` and ``symbol``; see :func:`read_geneformer`.
    duplicates
        What to do with a gene of several rows: ``"error"``, ``"first"`` (the first row of each) or ``"mean"``.

    Returns
    -------
    float32 table of shape (n_genes, n_dimensions), indexed by gene as named in the file; ``attrs`` names source and
    format and counts what was left out.

    Raises
    ------
    ValueError
        If the file is missing, incomplete, of another format or a pickle; if names are missing or occur twice, a value
        is no finite number, or vectors differ in length.
    """
    file = existing_file(path)
    suffix = _suffix(file)
    if key is not None and suffix != ".h5ad":
        raise ValueError(f"key={key!r} names an array of varm, but {str(file)!r} is no h5ad file. Leave it out.")
    if suffix in (".npz", ".npy"):
        names, values = _from_arrays(file)
    elif is_pickle(file):
        raise refuse_pickle(file, PICKLED_MAPPING.format(name=file.name, new=file.stem + ".npz"))
    elif suffix == ".h5ad":
        names, values = _from_h5ad(file, key)
    elif suffix == ".json":
        names, values = _from_json(file)
    elif suffix == ".parquet" or suffix in TEXT:
        names, values = _from_columns(file)
    else:
        raise ValueError(
            f"{str(file)!r} is of no known format. Tables of embeddings are read from {FORMATS}; published models by "
            "read_geneformer, read_scgpt, read_scfoundation, read_scbert and read_genept."
        )
    return to_frame(
        names, values, source=file, format=suffix.lstrip("."), ensembl_ids=ensembl_ids, duplicates=duplicates
    )


def _suffix(file: Path) -> str:
    return (Path(file.stem) if file.suffix.lower() == ".gz" else file).suffix.lower()


def _from_arrays(file: Path) -> tuple[list[str], ArrayLike]:
    arrays = read_arrays(
        file,
        "import numpy as np\n"
        f"found = np.load({file.name!r}, allow_pickle=True)  # look what is in it: found.files, or found.shape\n"
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
    return arrays[names[0]].astype(str).tolist(), arrays[matrices[0]]


def _from_h5ad(file: Path, key: str | None) -> tuple[list[str], ArrayLike]:
    import anndata as ad
    from scipy import sparse

    try:
        adata = ad.read_h5ad(file)
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as h5ad ({error}). Is it complete?") from error
    if key is None:
        if adata.X is None:
            raise ValueError(
                f"{str(file)!r} has no X. Name an array of varm with key=…: {shorten(adata.varm) or 'none'}."
            )
        values = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
        return adata.obs_names.astype(str).tolist(), values
    if key not in adata.varm:
        raise ValueError(f"{str(file)!r} has no varm[{key!r}]; its keys are {shorten(adata.varm, 10) or 'none'}.")
    values = adata.varm[key]
    return adata.var_names.astype(str).tolist(), values.toarray() if sparse.issparse(values) else np.asarray(values)


def _from_json(file: Path) -> tuple[list[str], ArrayLike]:
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
    return list(found), _numbers(pd.DataFrame(list(found.values()), index=list(found)), file)


def _from_columns(file: Path) -> tuple[list[str], ArrayLike]:
    try:
        table = read_columns(file)
    except (OSError, UnicodeDecodeError, EOFError, pd.errors.ParserError) as error:
        raise ValueError(f"{str(file)!r} cannot be read as a table ({error}). Is it complete?") from error
    except ValueError as error:  # of pyarrow; those of read_columns name the file already
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
    return table.index.astype(str).tolist(), _numbers(table, file)


def _numbers(table: pd.DataFrame, file: Path) -> ArrayLike:
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
