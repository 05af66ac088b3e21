"""``scapp demo``, on small simulations and on a user's files."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scapp
from scapp import _demo as demo
from scapp._cli import main
from scapp.model import APP

SMALL = {
    "n_genes": 100, "n_regulators": 22, "n_singles": 18, "n_doubles": 20, "n_cells_per_perturbation": 12,
    "n_control_cells": 80,
}  # fmt: skip


@pytest.fixture
def small(monkeypatch):
    """Let the demo simulate a small screen."""
    simulate = demo.simulated_screen
    monkeypatch.setattr(demo, "simulated_screen", lambda seed, report: simulate(seed, report, **SMALL))


def test_the_demo_leaves_predictions_model_scores_and_three_pictures(small, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["demo", "--output", str(folder)]) == 0
    names = {path.name for path in folder.iterdir()}
    assert {"predictions.h5ad", "model", "scores.csv"} <= names
    assert len([name for name in names if name.endswith(".png")]) == 3
    predicted = ad.read_h5ad(folder / "predictions.h5ad")
    assert {"lfc", "predicted_lfc", "predicted_lfc_std", "attention"} <= set(predicted.layers)
    assert not predicted.obs["in_training"].any()
    loaded = APP.load(folder / "model", adata=False)
    again = loaded.predict(predicted.obs_names).layers["predicted_lfc"]
    np.testing.assert_allclose(again, predicted.layers["predicted_lfc"], atol=1e-5)
    scores = pd.read_csv(folder / "scores.csv")
    assert set(scores["kind"]) == {"held-out combinations", "unseen genes"}
    assert set(scores["method"]) == {"additive", "shrunk additive", "mean", "APP"}
    shown = " ".join(capsys.readouterr().out.split())
    for part in ("Simulated", "additive", "APP", "Pearson", "all 100 genes", "Wrote"):
        assert part in shown


def test_unseen_genes_occur_in_no_training_perturbation(simulated_effects):
    held = demo.hold_out(simulated_effects, seed=0)
    unseen = set(held["unseen genes"])
    out = {*held["held-out combinations"], *held["unseen genes"], *held["left out"]}
    training = [name for name in simulated_effects.obs_names if name not in out]
    assert unseen
    assert not [name for name in training if unseen & set(name.split("+"))]
    assert held["held-out combinations"]


@pytest.fixture
def simulated_effects():
    return demo.simulated_screen(0, lambda _: None, **SMALL).effects


@pytest.mark.parametrize("form", ["cells", "effects"])
def test_the_demo_runs_on_a_users_files(tmp_path, form, capsys):
    cells, truth = scapp.datasets.simulated_perturb_seq(**SMALL)
    truth.network.to_csv(tmp_path / "edges.tsv", sep="\t", index=False)
    options = ["--control", "NT", "--perturbation-key", "guide", "--batch-key", "batch"]
    if form == "effects":
        cells = scapp.pp.pseudobulk(cells)
        cells.obs["guide"] = cells.obs["perturbation"]
        options = ["--control", "none", "--perturbation-key", "guide", "--layer", "lfc"]
    else:
        cells.obs["guide"] = cells.obs["perturbation"].astype(str).replace("control", "NT")
    del cells.obs["perturbation"]
    cells.write_h5ad(tmp_path / "screen.h5ad")
    files = ["--data", str(tmp_path / "screen.h5ad"), "--network", str(tmp_path / "edges.tsv")]
    folder = tmp_path / "out"
    assert main(["demo", *files, *options, "--output", str(folder)]) == 0
    assert "perturbations x 100 genes" in capsys.readouterr().out
    assert set(pd.read_csv(folder / "scores.csv")["method"]) >= {"APP", "mean"}


def test_wrong_input_is_one_message_and_leaves_nothing_behind(small, tmp_path, capsys):
    folder = tmp_path / "out"
    assert main(["demo", "--data", "screen.h5ad", "--output", str(folder)]) == 2
    assert "--network" in capsys.readouterr().err
    missing = ["--data", str(tmp_path / "no.h5ad"), "--network", str(tmp_path / "no.tsv")]
    assert main(["demo", *missing, "--output", str(folder)]) == 2
    assert "no file" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_with_something_in_it_is_kept_unless_it_may_be_replaced(small, tmp_path, capsys):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "mine.txt").write_text("precious")
    assert main(["demo", "--output", str(folder)]) == 2
    assert "not empty" in capsys.readouterr().err
    assert (folder / "mine.txt").exists()
    with pytest.raises(RuntimeError), demo.complete_folder(folder, overwrite=True):
        raise RuntimeError
    assert (folder / "mine.txt").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_few_perturbations_are_trained_on_and_nothing_is_scored(simulated_effects):
    few = simulated_effects[simulated_effects.obs["n_perturbed_genes"] == 1][:4].copy()
    screen = demo.Screen(few, "perturbation")
    _, predicted, scores = demo.train_and_score(screen, seed=0, progress_bar=False)
    assert predicted.n_obs == 4
    assert scores.empty


def test_the_command_says_its_version_and_what_it_does(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert scapp.__version__ in capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        main(["demo", "--help"])
    assert "--network" in capsys.readouterr().out
