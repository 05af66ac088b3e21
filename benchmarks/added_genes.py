"""Genes that a trained model learns of later, against a model that was set up with them, as a Markdown table.

python benchmarks/added_genes.py --data ../shared/data

On the first split of the knockdowns of Replogle et al., held-out targets that were not measured are left out of the genes, and come
back by APP.add_genes: 20 of them, and all.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

import scapp
from scapp.model import APP

FEW = 20


def train(effects: AnnData, features: list[str]) -> APP:
    APP.setup_anndata(effects, control=None, layer="lfc", network_key="network", gene_features_key=features or None)
    model = APP(effects)
    model.train(enable_progress_bar=False)
    return model


def edges_of(effects: AnnData, genes: list[str]) -> pd.DataFrame:
    """Return the edges of some genes as a table."""
    found = sparse.coo_matrix(effects.varp["network"])
    names = effects.var_names.to_numpy()
    table = pd.DataFrame({"source": names[found.row], "target": names[found.col], "weight": found.data})
    return table[table["source"].isin(genes) | table["target"].isin(genes)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[1] / "../shared/data")
    args = parser.parse_args()
    logging.getLogger("scapp").setLevel(logging.ERROR)
    task = scapp.benchmark.k562_singles(args.data)
    split = task.splits[0]
    whole = task.training(split, networks=True)
    measured = whole.var_names[whole.var["measured"]]
    observed = pd.DataFrame(task.effects.layers["lfc"], index=task.effects.obs_names, columns=task.effects.var_names)[
        measured
    ]
    mean = observed.loc[list(split.train)].mean()

    def predicted(model: APP, genes: list[str]) -> pd.DataFrame:
        found = model.predict(genes)[:, measured]
        return pd.DataFrame(found.layers["predicted_lfc"], index=genes, columns=measured)

    def error(guess: pd.DataFrame | pd.Series, genes: list[str]) -> float:
        return float(np.linalg.norm(observed.loc[genes] - guess, axis=1).mean())

    print("| added later | evidence | difference, median (largest) | error, added later | error, set up with them |")
    print("|---|---|---|---|---|")
    for features in ([], ["go"]):
        informed = np.diff(sparse.csr_matrix(whole.varp["network"]).indptr) > 0
        for key in features:
            informed |= ~np.isnan(whole.varm[key]).any(axis=1)
        possible = set(whole.var_names[informed]) - set(measured)
        late = sorted(possible.intersection(split.test))
        model = train(whole.copy(), features)
        for genes in ([late[k * len(late) // FEW] for k in range(FEW)], late):
            fewer = whole[:, ~whole.var_names.isin(genes)].copy()
            tables = {key: pd.DataFrame(whole.varm[key], index=whole.var_names).loc[genes].dropna() for key in features}
            edges = edges_of(whole, genes)
            more = train(fewer, features).add_genes(genes, edges=edges, features=tables or None)
            at_set_up, later = predicted(model, genes), predicted(more, genes)
            apart = np.linalg.norm(later - at_set_up, axis=1) / np.linalg.norm(at_set_up, axis=1)
            errors = [error(guess, genes) / error(mean, genes) for guess in (later, at_set_up)]
            print(
                f"| {len(genes)} genes | {', '.join(['STRING', *features])} | {np.median(apart):.3f} ({apart.max():.3f}) | "
                f"{errors[0]:.3f} | {errors[1]:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
