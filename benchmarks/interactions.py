"""Agreement of genetic interactions with the published scores of 72 doubles, as Markdown; about 2 minutes on two idle cores.

python benchmarks/interactions.py --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import scvi

import scapp
from scapp.benchmark import Split, Task

SCORES = {
    "c1": "c1",
    "c2": "c2",
    "magnitude": "mag",
    "dominance": "dominance",
    "fit_correlation": "corr_fit",
    "similarity": "dcor",
    "similarity_of_singles": "dcor_singles",
    "similarity_first": "dcor_first",
    "similarity_second": "dcor_second",
    "equality_of_contribution": "eq_contr",
}
CLASSES = {
    "synergy": "synergy",
    "suppressor": "suppression",
    "neomorphic": "neomorphism",
    "redundant": "redundancy",
    "epistasis": "epistasis",
}


def published(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(folder / "published" / "norman_gi_scores.csv")
    table = table.rename(columns={theirs: ours for ours, theirs in SCORES.items()})
    return table.assign(interaction=table["gi_type"].map(CLASSES)).set_index("perturbation")


def predicted(task: Task, split: Split, name: str) -> pd.DataFrame:
    """Interactions of the held-out doubles of a split."""
    networks = name == "APP"
    train = task.training(split, networks=networks)
    if networks:
        scvi.settings.seed = split.seed
        scapp.model.APP.setup_anndata(train)
        model = scapp.model.APP(train)
        model.train(enable_progress_bar=False)
    else:
        model = scapp.baselines.ShrunkAdditive().fit(train)
    genes = list(task.genes)
    return scapp.tl.genetic_interactions(train, split.test, model=model, genes=genes, key_added=None)


def spearman(found: pd.DataFrame, expected: pd.DataFrame) -> pd.Series:
    both = found.index.intersection(expected.index)
    return pd.Series({s: found.loc[both, s].corr(expected.loc[both, s], method="spearman") for s in SCORES})


def agreement(found: pd.DataFrame, expected: pd.Series) -> str:
    """Found and published class of each pair, which may occur once a split."""
    both = found[found.index.isin(expected.index)]
    theirs, ours = expected[both.index].to_numpy(), both["interaction"].to_numpy()
    counts = pd.crosstab(pd.Series(theirs, name="expected"), pd.Series(ours, name="found"))
    right, largest = (theirs == ours).mean(), pd.Series(theirs).value_counts(normalize=True).iloc[0]
    return f"{right:.0%} of {len(both)} agree (all in the largest class: {largest:.0%})\n\n{markdown(counts)}"


def markdown(table: pd.DataFrame) -> str:
    head = [str(table.index.name or ""), *map(str, table.columns)]
    rows = [
        [str(name), *(f"{v:.2f}" if isinstance(v, float) else str(v) for v in row)] for name, *row in table.itertuples()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    parser.add_argument(
        "--methods", nargs="*", default=["ShrunkAdditive", "APP"], help="what predicts held-out doubles"
    )
    parser.add_argument("--splits", type=int, default=5, help="how many of the five published splits")
    args = parser.parse_args()
    task, expected = scapp.benchmark.norman_doubles(args.data), published(args.data)

    measured = scapp.tl.genetic_interactions(task.effects, genes=task.scored, key_added=None).set_index("perturbation")
    print(f"## Measured: classes, cut-offs of the screen ({len(measured)} pairs)\n")
    print(agreement(measured, expected["interaction"]))
    gears = scapp.tl.genetic_interactions(task.effects, genes=task.scored, cutoffs="gears", key_added=None)
    print("\n## Measured: classes, cut-offs of GEARS\n")
    print(agreement(gears.set_index("perturbation"), expected["interaction"]))

    columns = {"measured": spearman(measured, expected)}
    found = {}
    for name in args.methods:
        tables = [predicted(task, split, name) for split in task.splits[: args.splits]]
        found[name] = pd.concat(tables).set_index("perturbation")
        means = found[name].groupby(level=0)[list(SCORES)].mean()
        columns[f"{name}, against published"] = spearman(means, expected)
        columns[f"{name}, against measured"] = spearman(means, measured)
        n = (len(means.index.intersection(expected.index)), len(means))
        print(f"\n## {name}: held-out doubles; {n[0]} of {n[1]} have published scores\n")
        print(agreement(found[name], expected["interaction"]))
        print(f"\nWith the classes of the measured effects: {agreement(found[name], measured['interaction'])}")
    print(f"\n## Spearman correlations of the scores\n\n{markdown(pd.DataFrame(columns))}")


if __name__ == "__main__":
    main()
