"""Unseen knockdowns of K562 with the evidence as it is, with STRING rewired, and with the names of genes shuffled in all of it.

python -m benchmarks.evidence --data ../shared/data --splits 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from anndata import AnnData
from benchmarks.paper.damage import rewire
from scipy.stats import wilcoxon

import scapp
from scapp.metrics import l2


def as_it_is(train: AnnData, seed: int) -> None:
    """Change nothing."""


def rewired(train: AnnData, seed: int) -> None:
    """Rewire each network, keeping the degree of every gene."""
    for key in list(train.varp):
        train.varp[key] = rewire(train.varp[key], seed=seed)


def shuffled(train: AnnData, seed: int) -> None:
    """Give each perturbed gene the edges and annotations of another, measured or held out."""
    genes = np.flatnonzero(~train.var["measured"] | train.var_names.isin(train.uns["perturbed"]))
    order = np.arange(train.n_vars)
    order[genes] = np.random.default_rng(seed).permutation(genes)
    for key in list(train.varp):
        train.varp[key] = train.varp[key].tocsr()[order][:, order]
    for key in list(train.varm):
        train.varm[key] = np.asarray(train.varm[key])[order]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--splits", type=int, default=5)
    args = parser.parse_args()
    task = scapp.benchmark.k562_singles(args.data)
    perturbed = list(task.effects.obs_names)
    errors: dict[str, list[np.ndarray]] = {}
    for split in task.splits[: args.splits]:
        truth = task.effects[list(split.test)]
        for change in (None, as_it_is, rewired, shuffled):
            train = task.training(split, networks=True)
            if change is None:
                name, predicted = "mean", scapp.baselines.Mean().fit(train).predict(split.test)
            else:
                train.uns["perturbed"] = perturbed
                change(train, split.seed)
                scapp.model.APP.setup_anndata(
                    train, network_key=task.sources.network_keys, gene_features_key=list(task.gene_features_key)
                )
                model = scapp.model.APP(train)
                model.train(enable_progress_bar=False)
                name, predicted = change.__name__, model.predict(split.test)
            values = predicted[:, truth.var_names].layers["predicted_lfc"]
            errors.setdefault(name, []).append(l2(values, truth.layers["lfc"]))
    print("| evidence | of the mean | worse than with the true evidence, p |\n|---|---:|---:|")
    for name in ("as_it_is", "rewired", "shuffled"):
        ratio = np.mean([a.mean() / b.mean() for a, b in zip(errors[name], errors["mean"], strict=True)])
        true = np.concatenate(errors["as_it_is"])
        p = (
            ""
            if name == "as_it_is"
            else f"{wilcoxon(np.concatenate(errors[name]), true, alternative='greater').pvalue:.1e}"
        )
        print(f"| {name} | {ratio:.4f} | {p} |")


if __name__ == "__main__":
    main()
