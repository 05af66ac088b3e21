"""One form for the cells of public files: genes by symbol, labels as scapp reads them, and the same columns of obs.

The files are those of scPerturb, pertpy and GEARS; labels may be what Adamson et al. called their guides.
"""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scapp._anndata_files import read_anndata
from scapp._controls import doubtful, is_control, looks_like_control, missing_kind, recognised
from scapp._genes import shorten, show_counts
from scapp._keys import Key
from scapp._labels import format_label, parse_labels
from scapp._tables import text_of, to_numbers

logger = logging.getLogger(__name__)

CONTROL = "control"
# In the order in which they are looked for: scPerturb, pertpy, GEARS and PerturBench, others.
COLUMNS = ("perturbation", "perturbation_name", "condition", "target_gene", "gene_target", "gene")
# Joins that no gene symbol holds. "_" and "-" occur in names of genes, guides and controls.
JOINS = re.compile(r"\s*[+|;,&]\s*")
# Names of the plasmids behind the guides of Adamson et al. 2016, such as "_pDS263" and "_pMJ144-1".
PLASMID = re.compile(r"_p[A-Z]{2,3}\d+(-\d+)?$")
# Their control constructs: "62(mod)", "63(mod)", "Gal4-4(mod)" and "3x_neg_ctrl".
CONTROL_CONSTRUCT = re.compile(r"^(\d+\(mod\)|gal4.*\(mod\)|.*neg_ctrl.*)$", re.IGNORECASE)
# In the order in which they are looked for: 10x lanes in scPerturb's files, replicates elsewhere.
BATCHES = ("batch", "gemgroup", "gem_group", "replicate", "bio_rep", "lane")
SYMBOLS = ("gene_name", "gene_symbol", "gene_symbols", "feature_name")
SOURCE = "_source"


@contextmanager
def no_news_of_mudata() -> Iterator[None]:
    """Silence the warning of mudata 0.3 about its next version, on which nothing here depends."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"From 0\.4 \.update\(\) will not pull", category=FutureWarning)
        yield


def load_h5ad(path: Path | str, *, backed: Literal["r"] | None = None) -> AnnData:
    """Read an h5ad file; FileNotFoundError if there is none, ValueError if it is damaged or of another kind."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"There is no file {str(path)!r}.")
    return read_anndata(path, backed=backed)


def labelled_cells(path: Path | str, *, perturbation_key: str | None = None, control: str | None = None) -> AnnData:
    """Return the cells of an h5ad file, in the form made by :func:`tidy`."""
    return tidy(load_h5ad(path), perturbation_key=perturbation_key, control=control)


def tidy(adata: AnnData, *, perturbation_key: str | None = None, control: str | None = None) -> AnnData:
    """Return the cells of a public file, in memory or backed, whose perturbation is known, in scapp's form; the object is changed.

    The cells have ``obs["perturbation"]`` (``"control"``, ``"KLF1"``, ``"CEBPA+KLF1"``), ``obs["control"]`` (boolean),
    ``obs["n_perturbed_genes"]`` and, where a column of its usual names is there, ``obs["batch"]`` (text). Columns of
    these names that hold something else are kept as ``"…_source"``. A view, where cells of a backed file are left out.
    """
    genes = use_gene_symbols(adata)
    labels = read_labels(adata, perturbation_key=perturbation_key, control=control)
    known = labels.notna().to_numpy()
    if not known.all():
        logger.info("Left out %d of %d cells, whose perturbation is not known.", (~known).sum(), len(known))
    n_genes = {label: len(parse_labels([label])[0]) for label in labels[known].unique()}
    columns: dict[str, pd.Series | NDArray] = {
        Key.obs.PERTURBATION: labels,
        Key.obs.CONTROL: (labels == CONTROL).to_numpy(),
        Key.obs.N_PERTURBED_GENES: labels.map(n_genes).fillna(0).to_numpy(dtype=np.int64),
    }
    batch = next((name for name in BATCHES if name in adata.obs), None)
    if batch is not None:
        columns[Key.obs.BATCH] = adata.obs[batch].astype(str).to_numpy()
    adata.obs = with_columns(adata.obs, columns)
    if known.all() and genes.all():
        return adata
    chosen = adata[known, slice(None) if genes.all() else genes]
    return chosen if adata.isbacked else chosen.copy()


def with_columns(obs: pd.DataFrame, columns: dict[str, pd.Series | NDArray]) -> pd.DataFrame:
    """Return these columns first, then those of `obs`; one of the same name that differs is kept with ``"_source"`` behind it."""
    new = pd.DataFrame(columns, index=obs.index)
    old = obs.copy()
    for name in new.columns.intersection(old.columns):
        if (old[name].astype(str).to_numpy() == new[name].astype(str).to_numpy()).all():
            old = old.drop(columns=name)
        else:
            old = old.rename(columns={name: f"{name}{SOURCE}"})
    return pd.concat([new, old], axis=1)


def use_gene_symbols(adata: AnnData) -> NDArray[np.bool_]:
    """Name genes by symbol if the names are Ensembl ids and a column of var has symbols, as in the files of GEARS.

    Returns which genes to keep: of those with the same symbol the first.
    """
    for name in SYMBOLS:
        if name in adata.var and adata.var_names.str.match(r"ENS[A-Z]*G\d").mean() > 0.5:
            adata.var_names = pd.Index(adata.var[name].astype(str).tolist())
            break
    repeated = adata.var_names.duplicated()
    if repeated.any():
        names = adata.var_names[repeated].unique()
        logger.info(
            "Left out %d gene(s) whose symbol another gene has before them: %s.", repeated.sum(), shorten(names)
        )
    return ~repeated


def read_labels(adata: AnnData, *, perturbation_key: str | None = None, control: str | None = None) -> pd.Series:
    """Return for each cell ``"control"``, a canonical label such as ``"CEBPA+KLF1"``, or None without a known perturbation.

    The column is found by its usual names if `perturbation_key` is None; `control` is a label of control cells besides the usual
    ones. Genes that are joined by ``"_"`` are told apart where each part is a gene of the matrix or a
    perturbation by itself, or where ``obs["nperts"]`` counts as many.
    """
    there = shorten(map(repr, adata.obs.columns), 12) or "none"
    if perturbation_key is not None and perturbation_key not in adata.obs:
        raise ValueError(f"adata.obs has no column {perturbation_key!r} of perturbations; it has {there}.")
    key = perturbation_key or next((name for name in COLUMNS if name in adata.obs), None)
    if key is None:
        raise ValueError(
            f"adata.obs has none of the columns {', '.join(COLUMNS)} that usually hold the perturbations; it has "
            f"{there}. Name it with perturbation_key=…."
        )
    raw = text_of(adata.obs[key])
    n_cells = raw.value_counts(sort=False)
    distinct = {
        label: None if missing_kind(label) else PLASMID.sub("", label).removesuffix("_only") for label in n_cells.index
    }
    known = {*adata.var_names, *(name for name in distinct.values() if name and "_" not in name)}
    counted = _counted(raw, adata.obs)
    control = control or CONTROL
    # A symbol that is also a common control name is a gene if there are other controls.
    genes = {name for name in distinct.values() if name and name != control and name in known and doubtful(name)}
    genes &= set(adata.var_names)
    if not any(name and name not in genes and is_control(name, control) for name in distinct.values()):
        genes = set()

    def means_control(name: str) -> bool:
        return name not in genes and is_control(name, control)

    controls: dict[str, int] = {}
    read: dict[str, str | None] = {}
    whole = []
    for label, name in distinct.items():
        if name is None:
            read[label] = None
            continue
        perturbed: set[str] = set()
        if not (CONTROL_CONSTRUCT.match(name) or means_control(name)):
            parts = _parts(name, known, counted.get(label))
            if len(parts) == 1 and "_" in parts[0] and parts[0] not in known:
                whole.append(parts[0])
            perturbed = {part for part in parts if not means_control(part)}
        if not perturbed:
            controls[name] = controls.get(name, 0) + int(n_cells[label])
        read[label] = format_label(perturbed) if perturbed else CONTROL
    if whole:
        logger.warning(
            "%d label(s) hold '_' and were taken as the name of one gene each, since their parts are not all known: %s.",
            len(whole),
            shorten(whole),
        )
    if set(controls) - {CONTROL}:
        logger.info("Read as controls: %s.", show_counts(controls, 12))
    taken = {name: int(n_cells[label]) for label, name in read.items() if name}
    if not controls:
        logger.warning(
            "No cell was read as a control. The labels are %s. Name the control with control=….", show_counts(taken)
        )
    alike = {name: n for name, n in taken.items() if name != CONTROL and looks_like_control(name)}
    if alike:
        logger.warning("Read as perturbed, although the labels look like those of controls: %s.", show_counts(alike))
    return raw.map(read)


def _counted(raw: pd.Series, obs: pd.DataFrame) -> dict[str, int]:
    """Return the number of genes that each label perturbs, if the file gives it."""
    if "nperts" not in obs:
        return {}
    numbers = to_numbers(obs["nperts"]).groupby(raw.to_numpy()).agg(["min", "max"])
    agree = numbers[(numbers["min"] == numbers["max"]) & numbers["min"].notna()]
    return {str(label): int(n) for label, n in agree["min"].items()}


def _parts(name: str, known: set[str], n: int | None) -> list[str]:
    joined = JOINS.split(name)
    if len(joined) > 1 or "_" not in name or name in known or recognised(name):
        return joined
    parts = name.split("_")
    named = all(part in known or recognised(part) for part in parts)
    return parts if named or (n is not None and n > 1 and len(parts) == n) else joined
