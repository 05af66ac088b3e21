"""The two measured tasks: APP beside the baselines, as Markdown tables.

    python benchmarks/measured_tasks.py --data ../shared/data [--task doubles|singles] [--seeds 0 1] [--output FILE]

Each row is the mean over the splits of the mean L2 over the held-out perturbations, and its ratio to the reference
(additive for doubles, mean for singles). Options of the models are their defaults; nothing is chosen on held-out rows.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import scvi

import scapp

sys.path.insert(0, str(Path(__file__).parent))
from tasks import Split, doubles_task, norman_effects, replogle_effects, singles_task

warnings.filterwarnings("ignore", message=".*measured single.*|.*not measured.*|.*does not have many workers.*")


def with_networks(effects: ad.AnnData, networks: Path, *, gene_ontology: bool) -> ad.AnnData:
    """Add STRING as the network and, for unseen genes, GO and the whole of STRING as gene features."""
    adata = scapp.pp.add_unmeasured_genes(effects)
    string, aliases = networks / "string_v12_no_textmining.tsv.gz", networks / "gene_aliases.tsv.gz"
    scapp.pp.add_network(adata, string, aliases=aliases)
    if gene_ontology:
        go = {"parents": networks / "go_dag_parents.tsv.gz", "max_genes": 1000}
        scapp.pp.add_gene_features(
            adata, networks / "gene2go_human_2022-09.tsv.gz", key_added="go", n_components=256, aliases=aliases, **go
        )
        scapp.pp.add_gene_features(adata, string, key_added="string", kind="network", n_components=256, aliases=aliases)
    return adata


def app(full: ad.AnnData, features: list[str] | None, **options: object) -> Callable[[Split], ad.AnnData]:
    """A function that trains APP on a split and predicts its held-out perturbations."""

    def fit_and_predict(split: Split) -> ad.AnnData:
        scvi.settings.seed = split.seed
        train = full[split.train.obs_names].copy()
        scapp.model.APP.setup_anndata(train, control=None, layer="lfc", gene_features_key=features)
        model = scapp.model.APP(train, **options)
        model.train(enable_progress_bar=False)
        return model.predict(split.test.obs_names)[:, split.test.var_names]

    return fit_and_predict


def baseline(method: scapp.baselines.Baseline) -> Callable[[Split], ad.AnnData]:
    return lambda split: method.fit(split.train).predict(split.test.obs_names)


def score(methods: dict[str, Callable], splits: list[Split]) -> pd.DataFrame:
    """One row for each method, split and held-out perturbation."""
    rows = []
    for name, fit_and_predict in methods.items():
        for split in splits:
            begin = time.perf_counter()
            predicted = fit_and_predict(split)
            seconds = time.perf_counter() - begin
            lfc, observed = predicted.layers["predicted_lfc"], split.test.layers["lfc"]
            table = pd.DataFrame({"perturbation": split.test.obs_names, "method": name, "seed": split.seed})
            table["l2"] = scapp.metrics.l2(lfc, observed, genes=split.scored)
            table["pearson_delta"] = scapp.metrics.pearson_delta(lfc, observed, genes=split.scored)
            table["seconds"] = seconds
            if "predicted_lfc_std" in predicted.layers:
                inside = np.abs(lfc - observed) < 1.2816 * predicted.layers["predicted_lfc_std"]
                table["coverage_80"] = inside.mean(axis=1)
            rows.append(table)
            print(
                f"{name}, split {split.seed}: L2 {table['l2'].mean():.3f} ({seconds:.1f} s)",
                file=sys.stderr,
                flush=True,
            )
    return pd.concat(rows, ignore_index=True)


def summary(scores: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Mean over splits, ratio to the reference in each split, and share of held-out perturbations won."""
    by_split = scores.groupby(["method", "seed"], sort=False)["l2"].mean().unstack()
    ratio = by_split / by_split.loc[reference]
    keyed = scores.set_index(["seed", "perturbation"])
    base = keyed.loc[keyed["method"] == reference, "l2"]
    won = {name: (rows["l2"] < base.loc[rows.index]).mean() for name, rows in keyed.groupby("method", sort=False)}
    grouped = scores.groupby("method", sort=False)
    table = pd.DataFrame(
        {
            "L2": by_split.mean(axis=1).round(3),
            f"ratio to {reference}": (by_split.mean(axis=1) / by_split.loc[reference].mean()).round(4),
            "ratio by split": [" ".join(f"{value:.3f}" for value in row) for row in ratio.to_numpy()],
            "better than it on": pd.Series(won).map("{:.0%}".format),
            "Pearson delta": grouped["pearson_delta"].mean().round(3),
            "seconds a split": grouped["seconds"].mean().round(1),
        }
    )
    if "coverage_80" in scores:
        table["80 % intervals hold"] = grouped["coverage_80"].mean().map(lambda v: f"{v:.0%}" if v == v else "")
    return table


def markdown(table: pd.DataFrame) -> str:
    lines = ["| method | " + " | ".join(table.columns) + " |", "|---" * (len(table.columns) + 1) + "|"]
    lines += [
        "| " + " | ".join([str(name), *map(str, row)]) + " |"
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--task", choices=["doubles", "singles"], nargs="+", default=["doubles", "singles"])
    parser.add_argument("--seeds", type=int, nargs="+", help="only these splits")
    parser.add_argument("--ablations", action="store_true", help="also the ablations of the paper's Table 2")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="only methods whose names hold one of these")
    parser.add_argument("--output", type=Path, help="folder for the score of every prediction, as csv")
    args = parser.parse_args()
    b = scapp.baselines
    for task in args.task:
        doubles = task == "doubles"
        splits = doubles_task(args.data) if doubles else singles_task(args.data)
        splits = [split for split in splits if args.seeds is None or split.seed in args.seeds]
        effects = norman_effects(args.data) if doubles else replogle_effects(args.data)
        full = with_networks(effects, args.data / "networks", gene_ontology=not doubles)
        features = None if doubles else ["go", "string"]
        methods = {"no change": baseline(b.NoChange()), "mean": baseline(b.Mean())}
        if doubles:
            methods |= {"additive": baseline(b.Additive()), "shrunk additive": baseline(b.ShrunkAdditive())}
        methods |= {
            "linear model": baseline(b.LinearModel()),
            "APP, preset paper": app(full, features, preset="paper"),
            "APP, one model": app(full, features, n_models=1),
            "APP (default)": app(full, features),
        }
        if args.ablations:
            options = {
                "random embeddings": {"encoder": "random"},
                "identity embeddings": {"encoder": "identity"},
                "no attention": {"pooling": "mean"},
                "MLP decoder": {"decoder": "mlp"},
                "no anchor": {"anchor": False},
            }
            methods |= {f"APP, {name}": app(full, features, **choice) for name, choice in options.items()}
        reference = "additive" if doubles else "mean"
        if args.only:
            methods = {n: m for n, m in methods.items() if n == reference or any(part in n for part in args.only)}
        scores = score(methods, splits)
        if args.output:
            args.output.mkdir(parents=True, exist_ok=True)
            scores.to_csv(args.output / f"{task}.csv", index=False)
        print(f"\n## {task}, {len(splits)} splits\n")
        print(markdown(summary(scores, reference)), flush=True)


if __name__ == "__main__":
    main()
