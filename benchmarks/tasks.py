"""The two measured tasks: which effects are trained on, which are held out, and which genes are scored.

Both read the files described in ``../shared/data/README.md``. The score is the mean over the held-out perturbations of
``scapp.metrics.l2(predicted, observed, genes=split.scored)``, stated as a ratio to a baseline on the same perturbations.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import numpy as np
import pandas as pd

from scapp._perturbations import Perturbation, format_label, parse_label, parse_labels
from scapp.metrics import top_expressed_genes

if TYPE_CHECKING:
    from numpy.typing import NDArray

# In the published benchmark, and in train in all of its five splits: so they are not in the table of splits.
NEVER_HELD_OUT = ("CNN1+ETS2", "PTPN12+PTPN9")


@dataclass(frozen=True)
class Split:
    """Effects to train on and effects held out (``layers["lfc"]``), and the indices of the scored genes."""

    name: str
    seed: int
    train: ad.AnnData
    test: ad.AnnData
    scored: NDArray[np.intp]


def norman_effects(data: Path) -> ad.AnnData:
    """The 234 perturbations of Norman et al. 2019, with canonical labels."""
    effects = ad.read_h5ad(data / "norman_2019_effects.h5ad")
    labels = [format_label(genes) for genes in _read(effects)]
    effects.obs["perturbation"] = labels
    effects.obs_names = pd.Index(labels)
    return effects


def benchmark_doubles(data: Path, effects: ad.AnnData) -> list[str]:
    """The doubles that belong to the published 124 and have both singles in the file: 120 of the 123 that match."""
    published = {parse_label(label) for label in (*_held_out(data)["perturbation"], *NEVER_HELD_OUT)}
    perturbations = _read(effects)
    singles = {genes for genes in perturbations if len(genes) == 1}
    return [
        format_label(genes) for genes in perturbations if genes in published and all((g,) in singles for g in genes)
    ]


def doubles_task(data: Path) -> list[Split]:
    """Norman: all singles and the benchmark doubles outside the split's 62; the five published splits.

    The 58 to 60 of the 62 that have both singles are held out. Scored: the 1,000 genes of the highest expression in
    K562 (Human Protein Atlas).
    """
    effects = norman_effects(data)
    doubles = set(benchmark_doubles(data, effects))
    is_single = (effects.obs["n_perturbed_genes"] == 1).to_numpy()
    scored = top_expressed_genes(effects.var["k562_tpm"])
    splits = []
    for seed, rows in _held_out(data).groupby("seed"):
        held_out = {format_label(parse_label(label)) for label in rows["perturbation"]} & doubles
        in_test = effects.obs_names.isin(held_out)
        in_train = is_single | effects.obs_names.isin(doubles - held_out)
        train, test = effects[in_train].copy(), effects[in_test].copy()
        splits.append(Split("doubles", int(seed), train, test, scored))
    return splits


def replogle_effects(data: Path) -> ad.AnnData:
    """790 knock-downs of Replogle et al. 2022 over the 2,000 genes with most entries; absent entries are 0.

    The values, clipped z-scores, stand in ``layers["lfc"]``.
    """
    table = pd.read_parquet(data / "replogle_2022_k562_zscores.parquet")
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
    obs = pd.DataFrame({"perturbation": list(lfc.index), "n_perturbed_genes": 1}, index=pd.Index(list(lfc.index)))
    var = pd.DataFrame(index=pd.Index(list(lfc.columns)))
    return ad.AnnData(X=lfc.to_numpy(copy=True), obs=obs, var=var, layers={"lfc": lfc.to_numpy(copy=True)})


def singles_task(data: Path) -> list[Split]:
    """Replogle: for seed 0 to 4, the first 158 of a permutation of the 790 knock-downs are held out. All genes score."""
    effects = replogle_effects(data)
    splits = []
    for seed in range(5):
        order = np.random.default_rng(seed).permutation(effects.n_obs)
        test, train = effects[order[:158]].copy(), effects[np.sort(order[158:])].copy()
        splits.append(Split("singles", seed, train, test, np.arange(effects.n_vars)))
    return splits


def _read(effects: ad.AnnData) -> list[Perturbation]:
    return parse_labels(effects.obs["perturbation"], control=None)


def _held_out(data: Path) -> pd.DataFrame:
    return pd.read_csv(data / "published" / "norman_doubles_splits.csv.gz")
