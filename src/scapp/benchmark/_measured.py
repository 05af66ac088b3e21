"""The two tasks that scapp is measured on: which effects are trained on, which are held out, which genes are scored."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd

from scapp._keys import Key
from scapp._perturbations import Perturbation, format_label, parse_label, parse_labels
from scapp.benchmark._sources import Sources
from scapp.benchmark._task import Split, Task
from scapp.metrics import top_expressed_genes

if TYPE_CHECKING:
    from anndata import AnnData

# In the published benchmark, and in train in all of its five splits: so they are not in the table of splits.
NEVER_HELD_OUT = ("CNN1+ETS2", "PTPN12+PTPN9")
N_HELD_OUT_SINGLES = 158
N_COMPONENTS = 256
# Kinds of evidence of STRING, without text mining: each as a network of its own predicts better than their sum.
STRING_CHANNELS = ("experiments", "coexpression", "database")


def norman_doubles(folder: Path | str) -> Task:
    """Doubles of :cite:p:`Norman2019` in the five published splits of :cite:p:`AhlmannEltze2025`.

    Trained on all 104 singles and the benchmark doubles outside the split's 62, of which the 58 to 60 with both singles
    are held out. Scored: the 1,000 genes of the highest expression in K562 (Human Protein Atlas). The networks are
    the channels of STRING :cite:p:`Szklarczyk2023` without text mining. The additive model has a mean L2 of 12.941, no change 17.467.

    Parameters
    ----------
    folder
        Holds ``norman_2019_effects.h5ad``, ``published/norman_doubles_splits.csv.gz`` and ``networks/``.

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
        splits.append(Split(int(seed), tuple(effects.obs_names[in_train]), tuple(effects.obs_names[in_test])))
    return Task(
        name="norman_doubles",
        title="Doubles, Norman et al. 2019 (K562, CRISPRa)",
        effects=effects,
        splits=tuple(splits),
        scored=top_expressed_genes(effects.var["k562_tpm"]),
        reference="additive",
        kind="combinations",
        note="The five published splits; all singles and the other benchmark doubles are trained on. Pseudobulk "
        "log-fold-changes over 2,000 variable genes, the 1,000 of the highest expression in K562 scored. "
        "Networks: the channels of STRING, without text mining.",
        sources=_sources(folder, features=False),
    )


def k562_singles(folder: Path | str) -> Task:
    """Unseen knock-downs of :cite:p:`Replogle2022` in K562: a fifth of 790 held out, five times.

    The effects are z-scores clipped to 3 over the 2,000 genes with most entries, all of which are scored. The networks
    are the channels of STRING :cite:p:`Szklarczyk2023` without text mining; gene features are annotations of the Gene
    Ontology :cite:p:`GeneOntology2023` and of Reactome. The mean has a mean L2 of 10.370, no change 10.707.

    Parameters
    ----------
    folder
        Holds ``replogle_2022_k562_zscores.parquet`` and ``networks/``.

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
        train, test = np.sort(order[N_HELD_OUT_SINGLES:]), order[:N_HELD_OUT_SINGLES]
        splits.append(Split(seed, tuple(effects.obs_names[train]), tuple(effects.obs_names[test])))
    return Task(
        name="k562_singles",
        title="Unseen genes, Replogle et al. 2022 (K562, CRISPRi)",
        effects=effects,
        splits=tuple(splits),
        scored=np.arange(effects.n_vars),
        reference="mean",
        kind="unseen",
        note="158 of 790 knock-downs held out in each of five splits. Effects are z-scores clipped to 3, entries below "
        "0.5 are 0; all 2,000 genes scored. Networks: the channels of STRING, without text mining; features: GO and Reactome.",
        sources=_sources(folder, features=True),
    )


def norman_effects(folder: Path) -> AnnData:
    """The 234 perturbations of Norman et al. 2019, with canonical labels."""
    effects = ad.read_h5ad(folder / "norman_2019_effects.h5ad")
    labels = [format_label(genes) for genes in _read(effects)]
    effects.obs[Key.obs.PERTURBATION] = labels
    effects.obs_names = pd.Index(labels)
    return effects


def benchmark_doubles(folder: Path, effects: AnnData) -> list[str]:
    """The doubles that belong to the published 124 and have both singles in the file: 120 of the 123 that match."""
    published = {parse_label(label) for label in (*_held_out(folder)["perturbation"], *NEVER_HELD_OUT)}
    perturbations = _read(effects)
    singles = {genes for genes in perturbations if len(genes) == 1}
    return [
        format_label(genes) for genes in perturbations if genes in published and all((g,) in singles for g in genes)
    ]


def replogle_effects(folder: Path) -> AnnData:
    """790 knock-downs of Replogle et al. 2022 over the 2,000 genes with most entries; absent entries are 0.

    The values, clipped z-scores, stand in ``layers["lfc"]``.
    """
    table = pd.read_parquet(folder / "replogle_2022_k562_zscores.parquet")
    pseudo = table["knocked_down_gene"].str.startswith("NON-TARGETING")
    own = table["knocked_down_gene"] == table["affected_gene"]
    pairs = table[~pseudo & ~own].groupby(["knocked_down_gene", "affected_gene"], as_index=False)["z_score"].mean()
    n_entries = pairs["knocked_down_gene"].value_counts()
    pairs = pairs[pairs["knocked_down_gene"].map(n_entries) >= 100]
    # Genes with equally many entries stand in alphabetical order.
    n_times = pairs["affected_gene"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    genes = n_times.index[:2000]
    values = pairs.pivot(index="knocked_down_gene", columns="affected_gene", values="z_score")
    lfc = values.sort_index().reindex(columns=genes).clip(-3, 3).fillna(0).astype(np.float32)
    names = pd.Index(list(lfc.index))
    obs = pd.DataFrame({Key.obs.PERTURBATION: list(names), Key.obs.N_PERTURBED_GENES: 1}, index=names)
    var = pd.DataFrame(index=pd.Index(list(lfc.columns)))
    return ad.AnnData(X=lfc.to_numpy(copy=True), obs=obs, var=var, layers={Key.layers.LFC: lfc.to_numpy(copy=True)})


def string_and_annotations(networks: Path, *, features: bool) -> Sources:
    """STRING and its channels as networks and, as gene features, GO and Reactome, from the files of a folder.

    Parameters
    ----------
    networks
        Holds ``string_v12_no_textmining.tsv.gz``, ``gene_aliases.tsv.gz`` and, for features,
        ``gene2go_human_2022-09.tsv.gz``, ``go_dag_parents.tsv.gz`` and ``reactome_2024-04.gmt.gz``.
    features
        Whether to bring gene features.
    """
    names = ["string_v12_no_textmining.tsv.gz", "gene_aliases.tsv.gz"]
    annotations = ["gene2go_human_2022-09.tsv.gz", "go_dag_parents.tsv.gz", "reactome_2024-04.gmt.gz"]
    _checked(networks, *names, *(annotations if features else []))
    reduced = {"max_genes": 1000, "n_components": N_COMPONENTS}
    go = {"features": networks / annotations[0], "parents": networks / annotations[1], **reduced}
    reactome = {"features": networks / annotations[2], **reduced}
    return Sources(
        network=networks / names[0],
        aliases=networks / names[1],
        features={"go": go, "reactome": reactome} if features else {},
        channels=STRING_CHANNELS,
    )


def _sources(folder: Path, *, features: bool) -> Sources:
    return string_and_annotations(folder / "networks", features=features)


def _checked(folder: Path | str, *names: str) -> Path:
    folder = Path(folder)
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(
            f"The folder {str(folder)!r} lacks {', '.join(missing)}. Name the folder of the benchmark's data."
        )
    return folder


def _read(effects: AnnData) -> list[Perturbation]:
    return parse_labels(effects.obs[Key.obs.PERTURBATION], control=None)


def _held_out(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "published" / "norman_doubles_splits.csv.gz")
