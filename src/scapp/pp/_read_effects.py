"""Reading of effects that were computed elsewhere, in their common formats, into an AnnData."""

from __future__ import annotations

import logging
import math
import os
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._anndata_files import read_anndata
from scapp._checked import checked
from scapp._controls import is_missing_value
from scapp._effect_columns import CONTEXTS, ERRORS, LN, LOG2, LOG10, LOGS, PERTURBATIONS
from scapp._genes import check_gene_names, check_layer, scapp_uns, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR
from scapp._tables import PathLike, is_path, plain, read_table
from scapp._training_effects import LARGEST_LFC
from scapp._warn import warn_user
from scapp.expression import in_memory
from scapp.pp._effect_tables import (
    CLEARLY,
    FoundEffects,
    Options,
    canonical,
    check_errors,
    compared,
    from_long,
    from_mapping,
    from_table,
    shares_of_genes,
    told_base,
    without_control,
)
from scapp.pp._harmonize import warn_of_names

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Given: TypeAlias = AnnData | pd.DataFrame | PathLike | Mapping[str, pd.DataFrame | PathLike]

logger = logging.getLogger(__name__)

TABLE_SUFFIXES = (".csv", ".tsv", ".txt", ".tab", ".parquet", ".xlsx")
FACTORS = {"e": 1.0, "2": float(np.log(2)), "10": float(np.log(10))}
BASES = {"e": ("e", "ln", "natural"), "2": ("2", "2.0", "log2"), "10": ("10", "10.0", "log10")}
# So many effects are not all of one sign.
MANY_VALUES = 50


@checked
def read_effects(
    effects: Given,
    *,
    perturbation: str | None = None,
    gene: str | None = None,
    lfc: str | None = None,
    lfc_se: str | pd.DataFrame | PathLike | None = None,
    statistic: str | None = None,
    p_value: str | None = None,
    context_key: str | None = None,
    base: Literal["e", 2, 10] | float | str | None = None,
    rows: Literal["perturbations", "genes"] | None = None,
    fill_value: float | None = None,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = None,
    sep: str = SEPARATOR,
    layer: str | None = None,
) -> AnnData:
    r"""Read effects that were computed elsewhere: tables of differential expression, or of perturbations by genes.

    Effects are converted to natural logarithms. The base is inferred from the column names if possible
    (``log2FoldChange``, ``avg_log2FC``, the columns of DESeq2, edgeR, limma, scanpy, glmGamPoi and pertpy); otherwise,
    pass it as `base`.

    Standard errors :math:`\mathrm{se}` are those of the table. If there are none, they follow from the effect
    :math:`\beta` and its statistic, :math:`\mathrm{se} = |\beta| / |z|`, which may be z, t, or the root of F or
    :math:`\chi^2` of one degree of freedom, or from its two-sided p-value by :math:`|z| = \Phi^{-1}(1 - p / 2)` (by
    Student's t where the table has its degrees of freedom). Adjusted p-values are not used. If neither gives a standard
    error, as for an effect of zero, the median of the gene over the other perturbations is used, with a warning.

    Parameters
    ----------
    effects
        One of:

        - a long table with one effect per row and columns for the perturbation, the gene and the effect;
        - a wide table, one row per perturbation and one column per gene (or the other way round, see `rows`);
        - a folder with one long table per perturbation, whose file name is the label, or a mapping from perturbations
          to tables;
        - an AnnData of effects, perturbations by genes, or one with the results of
          :func:`scanpy.tl.rank_genes_groups`.

        Tables are DataFrames or paths of csv, tsv, parquet or xlsx files; AnnData may be the path of a ``.h5ad`` file or a
        ``.zarr`` folder. Nothing is changed.
    perturbation, gene, lfc, lfc_se, statistic, p_value
        Columns, if they do not have common names. `lfc_se` may also be a wide table, or its path, to go with a wide
        table of effects, or a layer of an AnnData.
    context_key
        Column with the cell line or condition of each effect. Common names are recognised if effects would occur twice
        without it.
    base
        Base of the logarithm: ``"e"``, 2 or 10.
    rows
        Meaning of the rows of a wide table. If None, they are perturbations unless the names suggest otherwise.
    fill_value
        Value for effects that are missing from the table, such as 0 if only changes were kept. None leaves them NaN,
        with a warning.
    perturbation_key
        Column of ``obs`` for the labels.
    control
        Label of the controls, or a list of labels; their rows are left out. Rows with common control names are left out
        as well.
    sep
        Separator between the genes of a combination. Labels of the result are joined by ``"+"``.
    layer
        Layer of an AnnData with the effects. If None, common names are tried, and then `X`.

    Returns
    -------
    AnnData of perturbations by genes: ``layers["lfc"]`` (and `X`), natural log; ``layers["lfc_se"]`` if known;
    ``obs[perturbation_key]`` and ``obs["n_perturbed_genes"]``. With several contexts, one observation for each perturbation
    and context, as from :func:`scapp.pp.pseudobulk`. ``uns["scapp"]["effects"]`` records how the table was read.

    Raises
    ------
    ValueError
        If columns or the base of the logarithm cannot be inferred; if effects occur twice, are not numbers or are
        infinite; if standard errors are negative; or if nothing is left.
    TypeError
        If `effects` has an unsupported type.

    See Also
    --------
    scapp.pp.pseudobulk : Effects from cells.
    scapp.pp.select_context : The effects in one context.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {"perturbation": ["KLF1", "GATA1"], "gene": "HBB", "log2FoldChange": [-1.1, -0.7], "lfcSE": 0.2}
    ... )
    >>> effects = scapp.pp.read_effects(table)
    >>> effects.to_df("lfc").round(2)
            HBB
    KLF1  -0.76
    GATA1 -0.49
    """
    columns = {"perturbation": perturbation, "gene": gene, "lfc": lfc, "statistic": statistic, "p_value": p_value}
    name = Path(effects).name if is_path(effects) else ""
    options = Options(columns, lfc_se, context_key, _base(base), rows, control, sep, layer, name)
    effects = _open(effects)
    if isinstance(effects, AnnData):
        found = _from_anndata(effects, options)
    elif isinstance(effects, Mapping):
        found = from_mapping(effects, options)
    elif isinstance(effects, pd.DataFrame):
        found = from_table(effects, options)
    else:
        raise TypeError(
            "effects must be a DataFrame, an AnnData, the path of a table, an AnnData or a folder of tables, or a mapping from "
            f"perturbations to tables, found {type(effects).__name__}."
        )
    return _assemble(found, options, perturbation_key, fill_value)


def _base(base: object) -> str:
    if base is None:
        return ""
    number = float(base) if isinstance(base, int | float | np.number) and not isinstance(base, bool) else None
    if number is not None and np.isclose(number, math.e):
        return "e"
    name = str(number if number is not None else base).lower()
    found = next((found for found, names in BASES.items() if name in names), None)
    if found is None:
        raise ValueError(f"base must be 'e', 2 or 10, the base of the logarithm of the effects, found {base!r}.")
    return found


def _open(effects: Any) -> Any:
    """Return the content of a path, or the input itself."""
    if not is_path(effects):
        return effects
    path = Path(effects).expanduser()
    if path.suffix == ".h5ad" or (
        path.is_dir() and any((path / name).exists() for name in (".zgroup", "zarr.json", ".zattrs"))
    ):
        return read_anndata(path)
    if path.is_dir():
        # By their names without .gz and the like, which decide what is a table and what it is called.
        files = {
            file: name.rpartition(".")[0]
            for file in sorted(path.iterdir())
            if file.is_file() and not file.name.startswith((".", "~"))
            if (name := re.sub(r"(?i)\.(?:gz|bz2|xz|zip)$", "", file.name)).lower().endswith(TABLE_SUFFIXES)
        }
        if not files:
            raise ValueError(f"The folder {str(path)!r} holds no tables ({', '.join(TABLE_SUFFIXES)}).")
        return dict(zip(_labels_of(list(files.values())), files, strict=True))
    return read_table(path)


def _labels_of(stems: list[str]) -> list[str]:
    """Return the names of files without what all share at their begin or end, such as ``"DE_"`` and ``"_vs_control"``."""
    stems = [without_control(stem, None) for stem in stems]
    if len(stems) < 2:
        return stems
    parts = [re.split(r"([_.\- ]+)", stem) for stem in stems]  # words, and what joins them
    for _ in ("begin", "end"):
        n_shared = min(len(os.path.commonprefix(parts)), min(map(len, parts)) - 1) // 2 * 2
        parts = [part[n_shared:][::-1] for part in parts]
    short = ["".join(part) for part in parts]
    return stems if any(map(str.isdecimal, short)) else short  # KLF1_1 and KLF1_2


def _from_anndata(adata: AnnData, options: Options) -> FoundEffects:
    check_gene_names(adata)
    record = scapp_uns(adata)
    layers = {plain(key): key for key in adata.layers if isinstance(key, str)}
    layer = options.layer
    check_layer(adata, layer, "Name one with layer=….")
    if layer is None:
        layer = next((layers[name] for name in [*LOG2, *LN, *LOG10, *LOGS] if name in layers), None)
    if layer is None and "rank_genes_groups" in adata.uns:
        return from_long(_ranked_by_scanpy(adata), options)
    there = shorten(map(repr, adata.obs.columns), 12) or "none"
    key = options.columns["perturbation"] or next((c for c in adata.obs if plain(c) in PERTURBATIONS), None)
    if key is not None and key not in adata.obs:
        raise ValueError(f"adata.obs has no column {key!r}; it has {there}.")
    labels = adata.obs_names.to_series() if key is None else adata.obs[key]
    names = pd.Series(["" if pd.isna(label) else str(label).strip() for label in labels])
    if key is None and adata.n_obs and names.str.isdecimal().all():
        raise ValueError(
            "The rows of adata are numbered, and no column of adata.obs has a usual name of perturbations. Name theirs with "
            f"perturbation=…; there are {there}."
        )
    of_rows, of_columns = shares_of_genes(names, adata.var_names, options.sep)
    # Few genes may be measured of many perturbed ones: whoever names the perturbations knows where they are.
    if key is None and options.rows != "perturbations" and of_columns - of_rows > CLEARLY:
        raise ValueError(
            "The rows of adata seem to be genes, and its columns perturbations. Expected the other way round: pass `adata.T.copy()`, "
            "or rows='perturbations' if they are not."
        )
    matrix = adata.X if layer is None else adata.layers[layer]
    if matrix is None:
        raise ValueError("adata.X is empty (None). Name the layer of the effects with layer=….")
    if not options.base and layer == Key.layers.LFC:
        base, told = "e", "the layer 'lfc', in which scapp keeps natural logs"
    elif not options.base and layer is None and Key.uns.EFFECTS in record:
        base, told = "e", "uns['scapp']"
    else:
        base, told = told_base(layer or "adata.X", [], options)
    usual = next((layers[name] for name in ERRORS if name in layers), None)
    errors_in = options.lfc_se if isinstance(options.lfc_se, str) else usual
    if options.lfc_se is not None and errors_in not in adata.layers:
        raise ValueError(
            f"lfc_se={options.lfc_se!r} is no layer of adata; its layers are {shorten(map(repr, layers.values())) or 'none'}."
        )
    errors = None
    read: dict[str, Any] = {"base": base, "told_by": told, "lfc_column": layer or "X"}
    if errors_in is not None:
        errors = _dense(adata.layers[errors_in])
        check_errors(errors, f"adata.layers[{errors_in!r}]")
        read["lfc_se"] = repr(errors_in)
    context = options.context_key
    if context is not None and context not in adata.obs:
        raise ValueError(f"adata.obs has no column {context!r}; it has {there}.")
    if context is None and names.duplicated().any():
        context = next((column for column in adata.obs if plain(column) in CONTEXTS and column != key), None)
    contexts = None if context is None else pd.Series(adata.obs[context].astype(str).to_numpy(), name=context)
    return FoundEffects(compared(names, options), contexts, adata.var_names, _dense(matrix), errors, read, adata.var)


def _dense(matrix: Any) -> NDArray[np.float64]:
    matrix = in_memory(matrix)
    return np.array(matrix.toarray() if sparse.issparse(matrix) else matrix, dtype=np.float64)


def _ranked_by_scanpy(adata: AnnData) -> pd.DataFrame:
    """Return the results of `scanpy.tl.rank_genes_groups` as a long table."""
    ranked = adata.uns["rank_genes_groups"]
    if "logfoldchanges" not in ranked:
        raise ValueError(
            "adata.uns['rank_genes_groups'] holds no log-fold-changes, which scanpy gives for its methods but 'logreg'. Rank again "
            "with method='t-test'."
        )
    fields = [name for name in ("names", "scores", "logfoldchanges", "pvals", "pvals_adj") if name in ranked]
    groups = ranked["names"].dtype.names
    parts = [
        pd.DataFrame({name: np.asarray(ranked[name][group]) for name in fields}).assign(group=group) for group in groups
    ]
    return pd.concat(parts, ignore_index=True)


def _assemble(found: FoundEffects, options: Options, perturbation_key: str, fill_value: float | None) -> AnnData:
    """Check what was read, and put it into an AnnData as natural logs."""
    factor = FACTORS[found.record["base"]]
    found.lfc = found.lfc * factor
    _check_values(found)
    names = dict(zip(found.labels, found.labels, strict=True))
    if not found.canonical:
        names = canonical(found.labels, found.genes, options)
    table = pd.DataFrame({"label": found.labels.map(names).to_numpy(dtype=object)})
    table["context"] = "" if found.contexts is None else found.contexts.to_numpy()
    kept = table[table["label"].notna()]
    if kept.empty:
        raise ValueError("No perturbation is left: all labels are controls.")
    if kept.duplicated().any():
        twice = kept.loc[kept.duplicated(), "label"].unique()
        raise ValueError(
            f"{len(twice)} perturbations have more than one row of effects: {shorten(twice)}. If these are conditions, name their "
            "column with context_key=…; if not, average them first."
        )
    contexts = sorted(kept["context"].unique()) if found.contexts is not None else []
    if found.contexts is not None and (written := [value for value in contexts if is_missing_value(value)]):
        raise ValueError(
            f"{int(kept['context'].isin(written).sum())} rows of {found.contexts.name!r} have no context: {shorten(map(repr, written))}. Fill "
            "them in, or leave these rows out."
        )
    if contexts:
        kept = kept.sort_values(["context", "label"], kind="stable")
    rows = kept.index.to_numpy()
    lfc = found.lfc[rows].astype(np.float32)
    n_absent = int(np.isnan(lfc).sum())
    if n_absent and fill_value is not None:
        lfc[np.isnan(lfc)] = fill_value
    elif n_absent:
        warn_user(
            f"{n_absent:,} of {lfc.size:,} effects ({n_absent / lfc.size:.1%}) are not in the table and are NaN. If only changes were "
            "kept, pass fill_value=0; or leave out genes, as in `effects[:, np.isfinite(effects.layers['lfc']).all(axis=0)].copy()`."
        )
    labels = kept["label"].tolist()
    index = [f"{label} ({context})" for label, context in kept.itertuples(index=False)] if contexts else labels
    obs = pd.DataFrame({perturbation_key: np.array(labels, dtype=object)}, index=pd.Index(index, dtype=object))
    obs[Key.obs.N_PERTURBED_GENES] = [label.count(SEPARATOR) + 1 for label in labels]
    from_base = f" from log{found.record['base']}" if found.record["base"] != "e" else ""
    record: dict[str, Any] = {"perturbation_key": perturbation_key, "control": None, "layer": Key.layers.LFC}
    record |= {
        "sep": SEPARATOR,
        "normalisation": f"natural logs{from_base} (told by {found.record['told_by']})",
        **{name: value for name, value in found.record.items() if name != "told_by"},
    }
    if fill_value is not None:
        record["fill_value"] = float(fill_value)
    if contexts:
        assert found.contexts is not None
        context_key = str(found.contexts.name)
        obs[context_key] = pd.Categorical(kept["context"], categories=contexts)
        record |= {"context_key": context_key, "contexts": np.array(contexts, dtype=object)}
    layers = {Key.layers.LFC: lfc}
    if found.lfc_se is not None:
        errors, n_filled = _fill_errors(found.lfc_se[rows] * factor, np.isfinite(lfc))
        layers[Key.layers.LFC_SE] = errors.astype(np.float32)
        if n_filled:
            record["n_lfc_se_filled"] = n_filled
            warn_user(
                f"{n_filled:,} of {lfc.size:,} effects have no standard error, where the effect or its statistic is zero or missing; the "
                "median of the gene over the other perturbations stands for it."
            )
    names_only = pd.DataFrame(index=pd.Index(found.genes.astype(str).to_numpy(dtype=object)))
    var = names_only if found.var is None else found.var.copy()
    warn_of_names({gene for label in labels for gene in label.split(SEPARATOR)}, var.index.astype(str), var.columns)
    read = AnnData(X=lfc.copy(), obs=obs, var=var, layers=layers, uns={Key.uns.SCAPP: {Key.uns.EFFECTS: record}})
    check_gene_names(read)
    logger.info(
        "%d perturbations by %d genes: %s; %s.",
        *(read.n_obs, read.n_vars, record["normalisation"]),
        f"standard errors from {record['lfc_se']}" if "lfc_se" in record else "no standard errors",
    )
    return read


def _fill_errors(errors: NDArray[np.float64], present: NDArray[np.bool_]) -> tuple[NDArray[np.float64], int]:
    """Return standard errors with those of effects that have none filled by their gene, or else by all; and how many."""
    known = np.isfinite(errors)
    unknown = present & ~known
    if not unknown.any() or not known.any():
        return errors, 0
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of genes without any
        of_gene = np.nanmedian(np.where(known, errors, np.nan), axis=0)
    of_gene = np.where(np.isfinite(of_gene), of_gene, np.median(errors[known]))
    return np.where(unknown, of_gene[None, :], errors), int(unknown.sum())


def _check_values(found: FoundEffects) -> None:
    """Raise unless these can be natural log-fold-changes."""
    infinite = np.isinf(found.lfc)
    if infinite.any():
        i, j = np.argwhere(infinite)[0]
        raise ValueError(
            f"{int(infinite.sum())} effects are infinite, the first that of {found.labels.iloc[i]} on {found.genes[j]}: a gene "
            "without counts on one side, or a number that is too large. Leave these out, or give them a finite value."
        )
    if np.isnan(found.lfc).all():
        raise ValueError("All effects are missing (NaN). Name another column or layer with lfc=… or layer=….")
    largest, smallest = float(np.nanmax(np.abs(found.lfc))), float(np.nanmin(found.lfc))
    if largest > LARGEST_LFC:
        raise ValueError(
            f"Effects reach {largest:.3g} as natural logs, which stay far below {LARGEST_LFC:.0f}: these are no log-fold-changes. Name "
            "their column or layer with lfc=… or layer=…, and their logarithm with base=…."
        )
    if smallest >= 0 and largest > 0 and found.lfc.size >= MANY_VALUES:
        raise ValueError(
            f"None of {found.lfc.size:,} effects is negative: these seem to be expression, ratios or magnitudes, and not "
            "log-fold-changes. Name their column or layer with lfc=… or layer=…; for cells, use `scapp.pp.pseudobulk`."
        )
