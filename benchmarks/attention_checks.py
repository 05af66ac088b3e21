"""Tests of the attention on the measured tasks, as Markdown tables: the first split.

Attention to genes is tested on its held-out perturbations, attention to measured perturbations on those of the training,
each hidden from itself.

python benchmarks/attention_checks.py --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import torch

import scapp

TASKS = {"norman_doubles": scapp.benchmark.norman_doubles, "k562_singles": scapp.benchmark.k562_singles}


def trained(task: scapp.benchmark.Task) -> scapp.model.APP:
    train = task.training(task.splits[0], networks=True)
    scapp.model.APP.setup_anndata(
        train,
        network_key=task.sources.network_keys,
        gene_features_key=list(task.gene_features_key),
    )
    model = scapp.model.APP(train)
    model.train(enable_progress_bar=False)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--permutations", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="folder for the tables as csv")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    networks = args.data / "networks"
    for name in args.tasks:
        task = TASKS[name](args.data)
        model = trained(task)
        of_genes = scapp.tl.attention_checks(
            model,
            task.splits[0].test,
            regulons=networks / "collectri_2025-09.csv.gz",
            pathways=networks / "reactome_2024-04.gmt.gz",
            known=["pathways"] if "reactome" in task.gene_features_key else [],
            aliases=networks / "gene_aliases.tsv.gz",
            n_permutations=args.permutations,
        )
        of_perturbations = scapp.tl.attention_checks(model, of="perturbations", n_permutations=args.permutations)
        for of, checks in (("genes", of_genes), ("perturbations", of_perturbations)):
            if args.output is not None:
                args.output.mkdir(parents=True, exist_ok=True)
                checks.to_csv(args.output / f"{name}_{of}.csv", index=False)
            print(f"\n### {task.title}: attention to {of}\n\n{markdown(checks)}", flush=True)


def markdown(checks: pd.DataFrame) -> str:
    lines = [
        "| check | statistic | against | value | by chance | p | n | by construction |",
        "|---|---|---|---:|---:|---:|---:|---|",
    ]
    for row in checks.itertuples():
        p = r"\< 0.001" if row.p_value < 0.001 else "" if pd.isna(row.p_value) else f"{row.p_value:.3f}"
        given = "yes" if row.by_construction else "no"
        lines.append(
            f"| {row.check} | {row.statistic.replace('<=', '≤')} | {row.source or row.null} | {row.value:.3f} | {row.expected:.3f} "
            f"| {p} | {row.n} | {given} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
