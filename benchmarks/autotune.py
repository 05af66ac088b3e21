"""Hyper-parameters of APP searched with Ray through scvi.autotune, on the simulated screen.

pip install "scapp[autotune]"
python benchmarks/autotune.py --samples 4 --folder autotune
"""

from __future__ import annotations

import argparse
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--folder", type=Path, default=Path("autotune"))
    args = parser.parse_args()

    import scvi
    from ray import tune
    from scvi.autotune import run_autotune

    import scapp

    cells, truth = scapp.datasets.simulated_perturb_seq(seed=0)
    effects = scapp.pp.pseudobulk(cells, batch_key="batch")
    scapp.pp.add_network(effects, truth.network, directed=True)
    scvi.settings.seed = 0
    scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    found = run_autotune(
        scapp.model.APP,
        effects,
        metrics="validation_loss",
        mode="min",
        search_space={
            "model_params": {"n_models": 1, "n_hidden": tune.choice([16, 32, 64]), "n_layers": tune.choice([1, 2])},
            "train_params": {"max_epochs": 10},
        },
        num_samples=args.samples,
        searcher="random",
        seed=0,
        resources={"cpu": 1},
        logging_dir=str(args.folder.resolve()),
        ignore_reinit_error=True,
    )
    results = found.result_grid.get_dataframe()
    columns = {"config/model_params/n_hidden": "n_hidden", "config/model_params/n_layers": "n_layers"}
    columns |= {"validation_loss": "validation loss", "training_iteration": "epochs"}
    print(results[list(columns)].rename(columns=columns).sort_values("validation loss").to_string(index=False))
    print("Best:", found.result_grid.get_best_result("validation_loss", "min").config["model_params"])


if __name__ == "__main__":
    main()
