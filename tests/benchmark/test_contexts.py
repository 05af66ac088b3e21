"""Contexts held out: trained on the same perturbations elsewhere, scored where they were not learned."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pytest

import scapp
from scapp import benchmark


@pytest.fixture(scope="module")
def lines():
    """Cells of a small simulated screen in three cell lines, of which the last lacks some perturbations."""
    parts = {}
    for k, name in enumerate(["A", "B", "C"]):
        parts[name], truth = scapp.datasets.simulated_perturb_seq(
            n_genes=80,
            n_regulators=20,
            n_singles=14,
            n_doubles=6,
            n_cells_per_perturbation=20,
            n_control_cells=80,
            seed=0,
            line=k,
        )
    labels = sorted(set(parts["C"].obs["perturbation"]) - {"control"})
    parts["C"] = parts["C"][~parts["C"].obs["perturbation"].isin(labels[:3])].copy()
    cells = ad.concat(parts, label="cell_line", index_unique="-")
    return cells, truth, labels


@pytest.fixture(scope="module")
def task(lines):
    cells, truth, _ = lines
    network = scapp.resources.from_table(truth.network, directed=True)
    return benchmark.unseen_contexts(cells, context_key="cell_line", batch_key="batch", network=network)


def test_each_context_is_held_out_once_with_what_others_measured(task, lines):
    _, _, labels = lines
    assert [split.seed for split in task.splits] == [0, 1, 2]
    assert task.splits[0].train == task.splits[0].test
    assert set(task.splits[0].test) == set(labels)
    assert set(task.splits[2].test) == set(labels[3:])
    assert "0 'A' (20), 1 'B' (20), 2 'C' (17)" in task.note
    assert task.reference == "additive" and task.kind == "context"


def test_training_and_held_out_effects_are_those_of_the_contexts_alone(task, lines):
    cells, _, _ = lines
    split = task.split(1)
    here = scapp.pp.pseudobulk(cells[cells.obs["cell_line"] == "B"].copy(), batch_key="batch")
    labels = list(split.test)
    np.testing.assert_allclose(task.observed(split), here[labels, task.genes].layers["lfc"], atol=1e-5)
    others = cells[cells.obs["cell_line"] != "B"].copy()
    others.obs["both"] = others.obs["cell_line"].astype(str) + others.obs["batch"].astype(str)
    elsewhere = scapp.pp.pseudobulk(others, batch_key="both")
    train = task.training(split)
    for layer in ("lfc", "lfc_se"):
        np.testing.assert_allclose(train.layers[layer], elsewhere[labels, train.var_names].layers[layer], atol=1e-5)
    assert train.X is not None and not np.allclose(train.layers["lfc"], here[labels, train.var_names].layers["lfc"])


def test_cells_are_left_as_they_are(lines):
    cells, _, _ = lines
    columns = list(cells.obs.columns)
    task = benchmark.unseen_contexts(cells, context_key="cell_line", n_splits=1, seed=2, name="lines")
    assert list(cells.obs.columns) == columns
    assert [split.seed for split in task.splits] == [2] and task.name == "lines"


def test_the_benchmark_scores_contexts_against_the_noise_of_the_one_held_out(task, tmp_path):
    wanted = ["no change", "mean", "additive", "linear model", "APP"]
    failed = benchmark.run([task], wanted, folder=tmp_path, progress_bar=False, quick=True)
    assert not len(failed)
    scores = benchmark.score([task], tmp_path)
    summary = benchmark.summarise(scores, reference={task.name: "additive"}).set_index("method")
    assert set(summary.index) == set(wanted)
    assert summary.loc["additive", "ratio"] == 1
    assert summary.loc["additive", "mean"] < summary.loc["no change", "mean"]  # lines respond alike in the simulation
    split = task.split(0)
    ceiling = scores.query("metric == 'ceiling_l2' and seed == 0").set_index("perturbation")["value"].astype(float)
    np.testing.assert_allclose(ceiling[list(split.test)], task.noise(split))
    errors = task.held_out(split)[list(split.test), task.genes].layers["lfc_se"]
    np.testing.assert_allclose(task.noise(split), np.linalg.norm(errors, axis=1), rtol=1e-5)


def test_a_split_by_context_is_checked_as_repeated_measurements(task):
    found = benchmark.check_split(task)
    assert "warning" not in set(found.loc[found["check"] == "perturbations", "status"])
    controls = found.loc[found["check"] == "control cells", "status"]
    assert "warning" not in set(controls)


def test_screens_without_contexts_are_refused(lines):
    cells, _, labels = lines
    with pytest.raises(ValueError, match="no column 'line'"):
        benchmark.unseen_contexts(cells, context_key="line")
    one = cells[cells.obs["cell_line"] == "A"].copy()
    with pytest.raises(ValueError, match=r"two contexts or more, found one in adata.obs\['cell_line'\]: 'A'"):
        benchmark.unseen_contexts(one, context_key="cell_line")
    apart = cells[
        ~(cells.obs["perturbation"].isin(labels[:10]) & (cells.obs["cell_line"] == "A"))
        & ~(cells.obs["perturbation"].isin(labels[10:]) & (cells.obs["cell_line"] != "A"))
    ].copy()
    with pytest.raises(ValueError, match="No perturbation of the context 'A' .* was measured in another"):
        benchmark.unseen_contexts(apart, context_key="cell_line")
    with pytest.raises(ValueError, match="need cells"):
        benchmark.unseen_contexts(cells, context_key="cell_line", control=None)
    with pytest.raises(ValueError, match="3 contexts .* seed must be below that"):
        benchmark.unseen_contexts(cells, context_key="cell_line", seed=3)
    with pytest.raises(TypeError, match="Unknown option"):
        benchmark.unseen_contexts(cells, context_key="cell_line", splits=3)  # type: ignore[call-arg]
