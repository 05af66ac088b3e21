"""Screens in files, one or several, read where they lie: the annotation into memory, the expression block by block."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TypeAlias

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData, read_h5ad

from scapp._anndata_files import named, path_of_anndata
from scapp._genes import check_gene_names, shorten
from scapp._keys import Key
from scapp._labels import near_matches
from scapp._tables import PathLike, is_path
from scapp.expression import Source, get_matrix, in_memory

logger = logging.getLogger(__name__)

Screen: TypeAlias = AnnData | PathLike
ANNOTATION = ("obs", "var", "varm", "varp")
NOTED = (Key.uns.SCAPP, "log1p")  # of uns: what scapp noted, and what scanpy did of the log


@contextmanager
def open_screen(
    screen: Screen | Sequence[Screen], *, layer: str | None, chunk_size: int | None
) -> Iterator[tuple[AnnData, list[Source]]]:
    """Open what was given for the time of a calculation: the annotation of all cells in one AnnData, and where the expression is.

    Raises
    ------
    ValueError
        If a file is absent, truncated or no AnnData; if files have different genes; if cells share a name, within a screen or
        between them; if there is none.
    TypeError
        If something is neither an AnnData nor a path.
    """
    several = isinstance(screen, Sequence) and not is_path(screen)
    given = list(screen) if several else [screen]  # type: ignore[arg-type]
    if not given:
        raise ValueError("There is no screen in the list. Pass an AnnData, the path of one, or a list of them.")
    with ExitStack() as opened:
        names = [repr(str(s)) if is_path(s) else f"number {k}" for k, s in enumerate(given, start=1)]
        parts = [_open(s, layer, opened) for s in given]
        for part in parts:
            check_gene_names(part)
            repeated = part.obs_names.duplicated()
            if repeated.any():  # they would count twice, if they are copies
                raise ValueError(
                    f"{int(repeated.sum())} of the {part.n_obs} cells have the name of a cell before them: "
                    f"{shorten(part.obs_names[repeated].unique())}. If they are copies, leave them out with "
                    "`adata = adata[~adata.obs_names.duplicated()].copy()`; if they are different cells, give them names of their "
                    "own with `adata.obs_names_make_unique()`."
                )
        where = [f" of {name}" if several or is_path(given[0]) else "" for name in names]
        matrices = [get_matrix(p, layer, chunk_size, w) for p, w in zip(parts, where, strict=True)]
        orders = [None, *(_order(parts[0], p, n, names[0]) for p, n in zip(parts[1:], names[1:], strict=True))]
        begins = np.concatenate([[0], np.cumsum([part.n_obs for part in parts])])
        sources = [
            Source(matrix, name, int(begin), order, chunk_size)
            for (matrix, name), begin, order in zip(matrices, begins, orders, strict=False)
        ]
        for source in sources:
            if source.order is not None and source.by_genes:
                raise ValueError(
                    f"{source.name} is stored gene by gene, with the genes in another order than in the first. "
                    "Write it again with the genes in that order, or stored by cells (CSR)."
                )
        yield parts[0] if len(parts) == 1 else _joined(parts, names), sources


def _open(screen: Any, layer: str | None, opened: ExitStack) -> AnnData:
    if isinstance(screen, AnnData):
        return _with_annotation_in_memory(screen)
    if not is_path(screen):
        mend = ""
        if isinstance(screen, pd.DataFrame):
            mend = " Make one of counts, cells by genes, and their labels: `anndata.AnnData(counts, obs=labels)`."
        elif isinstance(getattr(screen, "mod", None), Mapping):
            mend = f" Pass the modality with the expression, such as mdata[{next(iter(screen.mod), 'rna')!r}]."
        raise TypeError(f"Expected an AnnData, or the path of one, found {type(screen).__name__}.{mend}")
    path = path_of_anndata(screen)
    with named(path):
        if path.is_dir():
            import zarr

            store: Any = zarr.open_group(str(path), mode="r")
        else:
            store = opened.enter_context(h5py.File(path, "r"))
        if isinstance(store.get("obs"), h5py.Dataset):
            # Before version 0.7, anndata wrote tables as one array, which it alone reads.
            logger.info("%s was written by anndata below 0.7: it is read into memory.", path.name)
            return read_h5ad(path)
        return _read(store, layer)


def _read(store: Any, layer: str | None) -> AnnData:
    from anndata.io import read_elem, sparse_dataset

    slots = {slot: read_elem(store[slot]) for slot in ANNOTATION if slot in store or slot in ("obs", "var")}
    where = store if layer is None else store["layers"] if "layers" in store else {}
    name = "X" if layer is None else layer
    matrix = None
    if name in where:
        matrix = where[name]
        if str(matrix.attrs.get("encoding-type", "")).endswith("_matrix"):
            matrix = sparse_dataset(matrix)
    uns = store["uns"] if "uns" in store else {}
    slots["uns"] = {key: read_elem(uns[key]) for key in NOTED if key in uns}
    if matrix is None:
        return AnnData(**slots)
    return AnnData(X=matrix, **slots) if layer is None else AnnData(layers={layer: matrix}, **slots)


def _with_annotation_in_memory(adata: AnnData) -> AnnData:
    """Return the AnnData itself or, where it was read lazily, another one over the same matrices with `obs` and `var` in memory."""
    if isinstance(adata.obs, pd.DataFrame) and isinstance(adata.var, pd.DataFrame):
        return adata
    frames = {slot: getattr(adata, slot) for slot in ("obs", "var")}
    return AnnData(
        X=adata.X,
        layers={key: adata.layers[key] for key in adata.layers if isinstance(key, str)},
        uns={key: _in_memory(adata.uns[key]) for key in NOTED if key in adata.uns},
        varm={key: in_memory(adata.varm[key]) for key in adata.varm},
        varp={key: in_memory(adata.varp[key]) for key in adata.varp},
        **{slot: in_memory(frame) for slot, frame in frames.items()},
    )


def _in_memory(value: Any) -> Any:
    return {key: _in_memory(part) for key, part in value.items()} if isinstance(value, dict) else in_memory(value)


def _order(first: AnnData, other: AnnData, name: str, first_name: str) -> np.ndarray | None:
    """Return the position of each gene of the first in the other; None if the order is the same."""
    expected, found = first.var_names, other.var_names
    if expected.equals(found):
        return None
    absent, extra = expected.difference(found), found.difference(expected)
    if len(absent) or len(extra):
        like = near_matches(absent[0], list(extra)) if len(absent) else []
        hint = f" Is {like[0]!r} {absent[0]!r}?" if like else ""
        raise ValueError(
            f"The screens must have the same genes. Of the {len(expected)} of {first_name}, {len(absent)} are missing in "
            f"{name} ({shorten(absent) or 'none'}), which has {len(extra)} others ({shorten(extra) or 'none'}).{hint} "
            "Bring both to their common genes, for example with `adata[:, common].copy()`."
        )
    logger.info("The genes of %s stand in another order than those of %s; they are aligned by name.", name, first_name)
    return found.get_indexer(expected)


def _joined(parts: list[AnnData], names: list[str]) -> AnnData:
    """Return all cells, with the annotation of the genes that the first has."""
    for k, part in enumerate(parts):
        for other, name in zip(parts[:k], names[:k], strict=True):
            shared = part.obs_names.intersection(other.obs_names)
            if len(shared):
                raise ValueError(
                    f"{len(shared)} cells are in {name} and in {names[k]} as well, by their names ({shorten(shared)}). Leave "
                    "out the copies or, if these are different cells, give them names of their own: "
                    "`adata.obs_names = 'run2_' + adata.obs_names`."
                )
    first = parts[0]
    measured = [part.var.get(Key.var.MEASURED) for part in parts]
    for name, column in zip(names[1:], measured[1:], strict=True):
        same = (column is None) == (measured[0] is None) and (
            column is None or column.reindex(first.var_names).equals(measured[0])
        )
        if not same:
            raise ValueError(
                f"var[{Key.var.MEASURED!r}] says of other genes that they were measured in {name} than in {names[0]}. "
                "Bring the screens to the genes that were measured in all."
            )
    return AnnData(
        obs=pd.concat([part.obs for part in parts]),
        var=first.var,
        varm={key: first.varm[key] for key in first.varm},
        varp={key: first.varp[key] for key in first.varp},
        uns=dict(first.uns),
    )
