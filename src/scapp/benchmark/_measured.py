"""Measured tasks: effects of public screens, the perturbations held out, and the genes scored."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scapp import pp
from scapp._keys import Key
from scapp._labels import Perturbation, format_label, parse_label, parse_labels
from scapp.benchmark._task import Sources, Split, Task
from scapp.metrics import top_expressed_genes

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

# In the published benchmark, and trained on in all of its five splits: so they are not in the table of splits.
NEVER_HELD_OUT = ("CNN1+ETS2", "PTPN12+PTPN9")
N_HELD_OUT_SINGLES = 158
N_COMPONENTS = 256
# Kinds of evidence of STRING, without text mining: each as a network of its own predicts better than their sum.
STRING_CHANNELS = ("experiments", "coexpression", "database")
EVIDENCE = "Evidence: STRING without text mining and its channels, GO and Reactome."
# Lower counts of a gene are taken to be this many.
MIN_COUNTS = 0.5
# A gene with so many counts per million in control cells is well measured.
WELL_MEASURED = 10
UNSEEN_SEEDS, N_UNSEEN_GENES = (3, 4, 5), 15
N_FOLDS = 5


def norman_doubles(folder: Path | str) -> Task:
    """Read the doubles of :cite:p:`Norman2019` in the five published splits of :cite:p:`AhlmannEltze2025`.

    Each split trains on all 104 singles and the benchmark doubles outside its 62, of which the 58 to 60 with both
    singles are held out. The 1,000 genes with the highest expression in K562 (Human Protein Atlas) are scored. The
    evidence is STRING :cite:p:`Szklarczyk2023` without text mining and its channels, the Gene Ontology
    :cite:p:`GeneOntology2023` and Reactome. The additive model has a mean L2 of 12.941, no change 17.467. If
    ``norman_2019_umi.npz`` is in the folder, its counts give the noise ceiling; no method reads them.

    Parameters
    ----------
    folder
        Folder with ``norman_2019_effects.h5ad``, ``published/norman_doubles_splits.csv.gz`` and ``networks/``.

    Returns
    -------
    The task ``"norman_doubles"``; its reference is ``"additive"``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    """
    folder = _checked(folder, "norman_2019_effects.h5ad", "published/norman_doubles_splits.csv.gz")
    effects = norman_effects(folder)
    doubles = set(benchmark_doubles(folder, effects))
    is_single = (effects.obs[Key.obs.N_PERTURBED_GENES] == 1).to_numpy()
    splits = []
    for seed, rows in _held_out(folder).groupby("seed"):
        held_out = {format_label(parse_label(label)) for label in rows["perturbation"]} & doubles
        in_test = effects.obs_names.isin(held_out)
        in_train = is_single | effects.obs_names.isin(doubles - held_out)
        splits.append(_split(effects, int(seed), in_train, in_test))
    return _task(
        folder, "norman_doubles", "Doubles, Norman et al. 2019 (K562, CRISPRa)", effects, splits,
        scored=top_expressed_genes(effects.var["k562_tpm"]),
        reference="additive", kind="combinations",
        note="The five published splits; all singles and the other benchmark doubles are trained on. Pseudobulk "
        "log-fold-changes over 2,000 variable genes, the 1,000 of the highest expression in K562 scored.",
        standard_errors=standard_errors(folder) if (folder / "norman_2019_umi.npz").is_file() else None,
    )  # fmt: skip


def k562_singles(folder: Path | str) -> Task:
    """Read the knockdowns of :cite:p:`Replogle2022` in K562: a fifth of 790 held out, five times.

    The effects are z-scores clipped to 3 over the 2,000 genes with the most entries, all of which are scored. The
    evidence is STRING :cite:p:`Szklarczyk2023` without text mining and its channels, the Gene Ontology
    :cite:p:`GeneOntology2023` and Reactome. The mean has a mean L2 of 10.370, no change 10.707.

    Parameters
    ----------
    folder
        Folder with ``replogle_2022_k562_zscores.parquet`` and ``networks/``.

    Returns
    -------
    The task ``"k562_singles"``; its reference is ``"mean"``.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    """
    folder = _checked(folder, "replogle_2022_k562_zscores.parquet")
    effects = replogle_effects(folder)
    splits = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(effects.n_obs)
        splits.append(_split(effects, seed, np.sort(order[N_HELD_OUT_SINGLES:]), order[:N_HELD_OUT_SINGLES]))
    return _task(
        folder, "k562_singles", "Unseen genes, Replogle et al. 2022 (K562, CRISPRi)", effects, splits,
        reference="mean", kind="unseen",
        note="158 of 790 knockdowns held out in each of five splits. Effects are z-scores clipped to 3, entries below "
        "0.5 are 0; all 2,000 genes scored.",
    )  # fmt: skip


def norman_known_noise(folder: Path) -> Task:
    """Read the doubles with the standard errors that their counts give."""
    task = norman_doubles(_checked(folder, "norman_2019_umi.npz"))
    effects = task.effects.copy()
    effects.layers[Key.layers.LFC_SE] = standard_errors(folder).astype(np.float32)
    return replace(
        task,
        name="norman_known_noise",
        title="Doubles with standard errors, Norman et al. 2019",
        effects=effects,
        note=f"As norman_doubles, with standard errors by the Poisson noise of the UMI counts. {EVIDENCE}",
    )


def norman_well_measured(folder: Path) -> Task:
    """Read the same, scored on the 207 genes with 10 counts per million or more in control cells."""
    task = norman_known_noise(folder)
    counts = np.load(folder / "norman_2019_umi.npz")
    per_million = 1e6 * counts["control_counts"] / float(counts["control_total_umi"])
    return replace(
        task,
        name="norman_well_measured",
        title="Doubles on well-measured genes, Norman et al. 2019",
        scored=task.scored[per_million[task.scored] >= WELL_MEASURED],
        note=f"As norman_known_noise, scored on the genes of {WELL_MEASURED} counts per million or more in control cells.",
    )


def norman_unseen(folder: Path, *, name: str, title: str, n_genes: int, n_unseen: int) -> Task:
    """Read perturbations of Norman et al. 2019 with a given number of genes that are in no training perturbation."""
    folder = _checked(folder, "norman_2019_effects.h5ad", "norman_2019_umi.npz")
    effects = norman_effects(folder)
    perturbations = _read(effects)
    genes = sorted({gene for parts in perturbations for gene in parts})
    splits = []
    for seed in UNSEEN_SEEDS:
        unseen = set(np.random.default_rng(seed).choice(genes, N_UNSEEN_GENES, replace=False).tolist())
        hidden = np.array([len(unseen & set(parts)) for parts in perturbations])
        asked = (hidden == n_unseen) & np.array([len(parts) == n_genes for parts in perturbations])
        if asked.any():
            splits.append(_split(effects, seed, hidden == 0, asked))
    return _task(
        folder, name, f"{title}, Norman et al. 2019 (K562, CRISPRa)", effects, splits,
        reference="mean", kind="unseen" if n_genes == 1 else "combinations",
        note=f"{N_UNSEEN_GENES} genes with all their perturbations held out, three times; all 2,000 genes scored.",
        standard_errors=standard_errors(folder),
    )  # fmt: skip


def papalexi_singles(folder: Path) -> Task:
    """Read the knockouts of Papalexi et al. 2021, each held out alone; the effect on the own gene is left out."""
    folder = _checked(folder, "papalexi_2021_counts.h5ad")
    effects = pp.pseudobulk(
        ad.read_h5ad(folder / "papalexi_2021_counts.h5ad"), perturbation_key="grna_target", control="non-targeting"
    )
    names = _labelled(effects, "grna_target").obs_names.tolist()
    # As in the K562 screen, the effect of a knockout on its own gene is neither trained on nor scored.
    for row, name in enumerate(names):
        if name in effects.var_names:
            effects.layers[Key.layers.LFC][row, effects.var_names.get_loc(name)] = 0
    splits = [
        Split(i, tuple(name for name in names if name != left_out), (left_out,)) for i, left_out in enumerate(names)
    ]
    return _task(
        folder, "papalexi_singles", "Unseen genes, Papalexi et al. 2021 (THP-1, knockout)", effects, splits,
        reference="no change", kind="unseen",
        note=f"Each of {len(names)} knockouts held out alone; {effects.n_vars} genes but the knocked-out one scored.",
        score_targets=False,
    )  # fmt: skip


def macrophage_singles(folder: Path) -> Task:
    """Read knockdowns in primary macrophages, a fifth held out in turn: effects that are mostly noise."""
    folder = _checked(folder, "macrophage_2025_crispri_effects.h5ad")
    effects = ad.read_h5ad(folder / "macrophage_2025_crispri_effects.h5ad")
    effects = _labelled(effects, Key.obs.PERTURBATION)
    order = np.random.default_rng(0).permutation(effects.n_obs)
    folds = [order[fold::N_FOLDS] for fold in range(N_FOLDS)]
    splits = [_split(effects, fold, np.setdiff1d(order, test), test) for fold, test in enumerate(folds)]
    return _task(
        folder, "macrophage_singles", "Unseen genes, macrophages 2025 (primary cells, CRISPRi)", effects, splits,
        reference="mean", kind="unseen",
        note="A fifth of the knockdowns held out in turn; effects are mostly noise; all genes scored.",
    )  # fmt: skip


# The measured tasks by name.
MEASURED: dict[str, Callable[[Path], Task]] = {
    "norman_doubles": norman_doubles,
    "k562_singles": k562_singles,
    "norman_known_noise": norman_known_noise,
    "norman_well_measured": norman_well_measured,
    **{
        name: functools.partial(norman_unseen, name=name, title=title, n_genes=n_genes, n_unseen=n_unseen)
        for name, title, n_genes, n_unseen in (
            ("norman_one_unseen", "Doubles with one unseen gene", 2, 1),
            ("norman_two_unseen", "Doubles with two unseen genes", 2, 2),
            ("norman_unseen_singles", "Unseen singles", 1, 1),
        )
    },
    "papalexi_singles": papalexi_singles,
    "macrophage_singles": macrophage_singles,
}


def measured(folder: Path | str, names: Iterable[str] | None = None) -> list[Task]:
    """Read the tasks on which scapp is measured.

    Parameters
    ----------
    folder
        The folder of the benchmark's data, as for :func:`norman_doubles` and :func:`k562_singles`.
    names
        Any of ``"norman_doubles"``, ``"k562_singles"``, ``"norman_known_noise"`` (the doubles with standard errors by
        their counts), ``"norman_well_measured"`` (the same on the genes with most counts), ``"norman_one_unseen"``,
        ``"norman_two_unseen"``, ``"norman_unseen_singles"`` (by how many genes occur in no training perturbation),
        ``"papalexi_singles"`` and ``"macrophage_singles"``; all if None.

    Returns
    -------
    One task per name.

    Raises
    ------
    ValueError
        If a name is unknown.
    FileNotFoundError
        If a file is missing.
    """
    names = list(MEASURED) if names is None else list(names)
    unknown = [name for name in names if name not in MEASURED]
    if unknown:
        raise ValueError(f"There is no measured task {', '.join(unknown)}; there are {', '.join(MEASURED)}.")
    return [MEASURED[name](Path(folder)) for name in names]


def norman_effects(folder: Path) -> AnnData:
    """Read the 234 perturbations of Norman et al. 2019, with canonical labels."""
    effects = ad.read_h5ad(folder / "norman_2019_effects.h5ad")
    return _labelled(effects, Key.obs.PERTURBATION)


def standard_errors(folder: Path) -> NDArray[np.float64]:
    """Compute standard errors of the effects of Norman et al. 2019 from the Poisson noise of their counts.

    The variance of log1p(1e6 n / N) is n (1e6 / N)² / (1 + 1e6 n / N)². MALAT1, whose counts are unknown, gets the median of
    its perturbation.
    """
    with np.load(folder / "norman_2019_umi.npz") as file:
        counts, total = file["counts"], file["total_umi"][:, None]
        control, control_total = file["control_counts"], float(file["control_total_umi"])
    variance = _log_variance(counts, total) + _log_variance(control, control_total)
    variance[:, (counts < 0).any(axis=0) | (control < 0)] = np.nan
    typical = np.nanmedian(variance, axis=1, keepdims=True)
    return np.sqrt(np.where(np.isnan(variance), typical, variance))


def _log_variance(counts: NDArray[np.integer], total: NDArray[np.integer] | float) -> NDArray[np.float64]:
    n, scale = np.maximum(counts, MIN_COUNTS), 1e6 / total
    return n * scale**2 / (1 + scale * n) ** 2


def benchmark_doubles(folder: Path, effects: AnnData) -> list[str]:
    """List the doubles of the published 124 that have both singles in the file: 120 of the 123 that match."""
    published = {parse_label(label) for label in (*_held_out(folder)["perturbation"], *NEVER_HELD_OUT)}
    perturbations = _read(effects)
    singles = {genes for genes in perturbations if len(genes) == 1}
    return [
        format_label(genes) for genes in perturbations if genes in published and all((g,) in singles for g in genes)
    ]


def replogle_effects(folder: Path) -> AnnData:
    """Read 790 knockdowns of Replogle et al. 2022 as clipped z-scores over the 2,000 genes with the most entries."""
    table = pd.read_parquet(folder / "replogle_2022_k562_zscores.parquet")
    pseudo = table["knocked_down_gene"].str.startswith("NON-TARGETING")
    own = table["knocked_down_gene"] == table["affected_gene"]
    pairs = table[~pseudo & ~own].groupby(["knocked_down_gene", "affected_gene"], as_index=False)["z_score"].mean()
    n_entries = pairs["knocked_down_gene"].value_counts()
    pairs = pairs[pairs["knocked_down_gene"].map(n_entries) >= 100]
    # Genes with equally many entries are in alphabetical order.
    n_times = pairs["affected_gene"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    genes = n_times.index[:2000]
    values = pairs.pivot(index="knocked_down_gene", columns="affected_gene", values="z_score")
    lfc = values.sort_index().reindex(columns=genes).clip(-3, 3).fillna(0).astype(np.float32)
    names = pd.Index(list(lfc.index))
    obs = pd.DataFrame({Key.obs.PERTURBATION: list(names), Key.obs.N_PERTURBED_GENES: 1}, index=names)
    var = pd.DataFrame(index=pd.Index(list(lfc.columns)))
    return ad.AnnData(X=lfc.to_numpy(copy=True), obs=obs, var=var, layers={Key.layers.LFC: lfc.to_numpy(copy=True)})


def string_and_annotations(networks: Path) -> Sources:
    """Name STRING and its channels as networks, and GO and Reactome as gene features, from the files of a folder."""
    names = ["string_v12_no_textmining.tsv.gz", "gene_aliases.tsv.gz"]
    annotations = ["gene2go_human_2022-09.tsv.gz", "go_dag_parents.tsv.gz", "reactome_2024-04.gmt.gz"]
    _checked(networks, *names, *annotations)
    reduced = {"max_genes": 1000, "n_components": N_COMPONENTS}
    go = {"features": networks / annotations[0], "parents": networks / annotations[1], **reduced}
    reactome = {"features": networks / annotations[2], **reduced}
    return Sources(
        network=networks / names[0],
        aliases=networks / names[1],
        features={"go": go, "reactome": reactome},
        channels=STRING_CHANNELS,
    )


def _task(
    folder: Path, name: str, title: str, effects: AnnData, splits: Sequence[Split], *, note: str, **options: Any
) -> Task:
    """Make a task with the recommended evidence, in which all genes are scored by default."""
    options.setdefault("scored", np.arange(effects.n_vars))
    sources = string_and_annotations(folder / "networks")
    note = f"{note} {EVIDENCE}"
    return Task(name, title, effects, tuple(splits), note=note, sources=sources, **options)


def _split(effects: AnnData, seed: int, train: NDArray, test: NDArray) -> Split:
    return Split(seed, tuple(effects.obs_names[train]), tuple(effects.obs_names[test]))


def _checked(folder: Path | str, *names: str) -> Path:
    folder = Path(folder)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"The folder {str(folder)!r} lacks {', '.join(missing)}. Name the folder of the benchmark's data."
        )
    return folder


def _labelled(effects: AnnData, key: str) -> AnnData:
    """Give effects canonical labels, in the usual column and as names of the observations."""
    labels = [format_label(genes) for genes in parse_labels(effects.obs[key], control=None)]
    effects.obs[Key.obs.PERTURBATION] = np.array(labels, dtype=object)
    effects.obs_names = pd.Index(labels)
    return effects


def _read(effects: AnnData) -> list[Perturbation]:
    return parse_labels(effects.obs[Key.obs.PERTURBATION], control=None)


def _held_out(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "published" / "norman_doubles_splits.csv.gz", float_precision="round_trip")
