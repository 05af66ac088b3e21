"""The measured tasks hold out what ../shared/data/README.md says, and tasks refuse what makes no sense."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from scipy import sparse

from scapp import baselines, benchmark, metrics
from scapp.benchmark._measured import NEVER_HELD_OUT, _held_out, benchmark_doubles
from scapp.benchmark._task import Sources


@pytest.fixture(scope="module")
def norman(shared_data):
    return benchmark.norman_doubles(shared_data)


@pytest.fixture(scope="module")
def k562(shared_data):
    return benchmark.k562_singles(shared_data)


def mean_l2(task, baseline):
    scores = []
    for split in task.splits:
        fitted = baseline().fit(task.training(split))
        lfc = fitted.predict(split.test).layers["predicted_lfc"][:, task.scored]
        if not task.score_targets:
            lfc[task.targets(split)] = 0
        scores.append(metrics.l2(lfc, task.observed(split)).mean())
    return np.mean(scores)


def test_benchmark_doubles_are_the_120_with_both_singles_of_the_123_published_that_match(norman, shared_data):
    published = {"+".join(sorted(label.split("+"))) for label in _held_out(shared_data)["perturbation"]}
    published |= set(NEVER_HELD_OUT)
    assert len(published) == 124
    assert len(published & set(norman.effects.obs_names)) == 123
    doubles = benchmark_doubles(shared_data, norman.effects)
    assert len(doubles) == 120
    assert norman.effects.obs.loc[doubles, "both_singles_measured"].all()


def test_doubles_splits_train_on_all_singles_and_hold_out_58_to_60(norman):
    assert [split.seed for split in norman.splits] == [1, 2, 3, 4, 5]
    for split in norman.splits:
        assert 58 <= len(split.test) <= 60
        assert all("+" in label for label in split.test)
        assert sum("+" not in label for label in split.train) == 104
        assert len(split.train) + len(split.test) == 104 + 120
        assert not set(split.train) & set(split.test)
        assert (norman.n_seen(split) == 2).all()


def test_doubles_are_scored_on_the_1000_genes_highest_in_k562(norman):
    tpm = norman.effects.var["k562_tpm"].fillna(0).to_numpy()
    assert len(set(norman.scored)) == 1000
    assert tpm[norman.scored].min() >= np.delete(tpm, norman.scored).max()


def test_singles_are_790_knockdowns_by_2000_genes_with_158_held_out(k562):
    assert [split.seed for split in k562.splits] == [0, 1, 2, 3, 4]
    assert k562.effects.shape == (790, 2000)
    assert len(k562.scored) == 2000
    assert np.abs(k562.effects.layers["lfc"]).max() <= 3
    for split in k562.splits:
        assert (len(split.train), len(split.test)) == (632, 158)
        assert (k562.n_seen(split) == 0).all()
    everything = sorted(k562.effects.obs_names)
    order = np.random.default_rng(0).permutation(790)[:158]
    assert list(k562.splits[0].test) == [everything[i] for i in order]


def test_no_knockdown_is_scored_on_its_own_target(k562):
    own = [(gene, gene) for gene in k562.effects.obs_names if gene in k562.effects.var_names]
    assert len(own) > 100
    values = k562.effects.to_df("lfc")
    assert all(values.loc[pair] == 0 for pair in own)


def test_reference_values_of_the_doubles(norman):
    assert mean_l2(norman, baselines.Additive) == pytest.approx(12.941, abs=0.0005)
    assert mean_l2(norman, baselines.NoChange) == pytest.approx(17.467, abs=0.0005)


def test_reference_values_of_the_singles(k562):
    assert mean_l2(k562, baselines.Mean) == pytest.approx(10.370, abs=0.0005)
    assert mean_l2(k562, baselines.NoChange) == pytest.approx(10.707, abs=0.0005)


@pytest.mark.slow
def test_the_evidence_of_the_doubles_is_the_recommended(norman):
    inputs = norman.inputs()
    assert inputs is norman.inputs()
    assert norman.gene_features_key == ("go", "reactome")
    assert norman.sources.network_keys == ["experiments", "coexpression", "database", "network"]
    assert {*norman.sources.network_keys} <= set(inputs.varp) and {*norman.gene_features_key} <= set(inputs.varm)
    assert inputs.varp["network"].nnz == 2 * 1456
    assert {"AHR", "ARID1A"} <= set(inputs.var_names)
    assert inputs.var_names[: norman.effects.n_vars].equals(norman.effects.var_names)


def test_standard_errors_of_the_doubles_are_those_of_their_counts(norman, shared_data):
    (known,) = benchmark.measured(shared_data, ["norman_known_noise"])
    assert known.knows_noise and not norman.knows_noise
    errors, effects = known.effects.layers["lfc_se"], known.effects
    assert errors.shape == effects.shape and (errors > 0).all() and np.isfinite(errors).all()
    file = np.load(shared_data / "norman_2019_umi.npz")
    row, column = 7, int(np.argmax(file["counts"][7]))
    rng = np.random.default_rng(0)
    drawn = [
        np.log1p(1e6 * rng.poisson(n, 100_000) / total)
        for n, total in (
            (file["counts"][row, column], file["total_umi"][row]),
            (file["control_counts"][column], file["control_total_umi"]),
        )
    ]
    assert errors[row, column] == pytest.approx(np.std(drawn[0] - drawn[1]), rel=0.02)
    malat1 = effects.var_names.get_loc("MALAT1")
    others = np.delete(errors[row].astype(float) ** 2, malat1)
    assert errors[row, malat1] ** 2 == pytest.approx(np.median(others), rel=1e-5)


def test_noise_alone_leaves_six_tenths_of_the_additive_error(norman):
    floor = np.mean([norman.noise(split).mean() for split in norman.splits])
    assert floor / 12.941 == pytest.approx(0.6, abs=0.01)


def test_well_measured_genes_are_207_of_the_scored(norman, shared_data):
    (task,) = benchmark.measured(shared_data, ["norman_well_measured"])
    assert len(task.scored) == 207 and set(task.scored) < set(norman.scored)
    assert task.splits == norman.splits


def test_unseen_genes_of_norman_occur_in_no_training_perturbation(shared_data):
    names = ["norman_one_unseen", "norman_two_unseen", "norman_unseen_singles"]
    tasks = benchmark.measured(shared_data, names)
    n_tested = {task.name: sum(len(split.test) for split in task.splits) for task in tasks}
    assert n_tested["norman_two_unseen"] == 15 and n_tested["norman_unseen_singles"] == 45
    for task, n_unseen in zip(tasks, (1, 2, 1), strict=True):
        assert [split.seed for split in task.splits] == [3, 4, 5]
        for split in task.splits:
            trained = {gene for label in split.train for gene in label.split("+")}
            assert {sum(gene not in trained for gene in label.split("+")) for label in split.test} == {n_unseen}


def test_reference_values_of_the_knock_outs(shared_data):
    (task,) = benchmark.measured(shared_data, ["papalexi_singles"])
    assert len(task.splits) == 25 and {len(split.test) for split in task.splits} == {1}
    assert task.knows_noise
    assert mean_l2(task, baselines.NoChange) == pytest.approx(2.243, abs=0.0005)
    assert mean_l2(task, baselines.Mean) == pytest.approx(2.309, abs=0.0005)


def test_folds_of_the_macrophages_hold_out_each_knock_down_once(shared_data):
    (task,) = benchmark.measured(shared_data, ["macrophage_singles"])
    assert sorted(label for split in task.splits for label in split.test) == sorted(task.effects.obs_names)
    assert len(task.scored) == 1337 and task.knows_noise


def test_unknown_measured_tasks_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no measured task triples; there are norman_doubles, k562_singles"):
        benchmark.measured(tmp_path, ["triples"])


def test_what_a_perturbation_does_to_its_own_gene_can_be_left_out(simulated, unseen, tmp_path):
    task = dataclasses.replace(unseen, scored=np.arange(unseen.effects.n_vars), score_targets=False)
    split, whole = task.splits[0], dataclasses.replace(task, score_targets=True)
    own = task.targets(split)
    assert (own.sum(axis=1) == 1).all()
    assert (task.observed(split)[own] == 0).all() and (whole.observed(split)[own] != 0).all()
    np.testing.assert_array_equal(task.observed(split)[~own], whole.observed(split)[~own])
    assert task.fingerprint(split) != whole.fingerprint(split)
    # A prediction that is right but for the targets is right.
    values = np.where(own, 9, task.observed(split))
    path = benchmark.write_predictions(tmp_path / "p.npz", split.test, task.genes, values, seed=split.seed)
    benchmark.run(
        task, [benchmark.predictions_method("right", path)], folder=tmp_path, seeds=[split.seed], progress_bar=False
    )
    scores = benchmark.score(task, tmp_path)
    np.testing.assert_allclose(scores.loc[(scores["method"] == "right") & (scores["metric"] == "l2"), "value"], 0)


def test_missing_data_are_listed(tmp_path):
    with pytest.raises(FileNotFoundError, match="norman_2019_effects.h5ad, published/norman_doubles_splits.csv.gz"):
        benchmark.norman_doubles(tmp_path)
    with pytest.raises(FileNotFoundError, match="replogle_2022_k562_zscores.parquet"):
        benchmark.k562_singles(tmp_path)


def test_training_is_a_copy_of_the_training_rows(doubles):
    split = doubles.splits[0]
    train = doubles.training(split, networks=True)
    assert train.obs_names.tolist() == list(split.train)
    assert sparse.issparse(train.varp["network"])
    before = doubles.inputs().layers["lfc"].copy()
    train.layers["lfc"][:] = 0
    np.testing.assert_array_equal(doubles.inputs().layers["lfc"], before)


def test_a_task_without_a_network_says_how_to_give_one(simulated):
    task = benchmark.doubles(simulated[0])
    with pytest.raises(ValueError, match="network=…"):
        task.inputs()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "my task"}, "no blanks or slashes, found 'my task'"),
        ({"splits": ()}, "has no splits"),
        ({"splits": (benchmark.Split(0, ("G1",), ()),)}, "1 training and 0 held-out"),
        ({"splits": (benchmark.Split(0, ("nothing",), ("G1",)),)}, "without effects: nothing"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(doubles, changes, message):
    fields = {
        name: getattr(doubles, name) for name in ("name", "title", "effects", "splits", "scored", "reference", "kind")
    }
    with pytest.raises(ValueError, match=message):
        benchmark.Task(**{**fields, **changes})


def test_a_split_that_trains_on_what_it_holds_out_is_refused(doubles):
    fields = {name: getattr(doubles, name) for name in ("name", "title", "effects", "scored", "reference", "kind")}
    label = doubles.splits[0].test[0]
    with pytest.raises(ValueError, match="trains on held-out perturbations"):
        benchmark.Task(**fields, splits=(benchmark.Split(0, (label,), (label,)),))
    with pytest.raises(ValueError, match="same seed"):
        benchmark.Task(**fields, splits=(doubles.splits[0], doubles.splits[0]))
    with pytest.raises(ValueError, match="two halves"):
        benchmark.Task(**{**fields, "kind": "seen"}, splits=doubles.splits)
    with pytest.raises(ValueError, match=r"no split 7; it has \[0, 1\]"):
        doubles.split(7)


def test_fingerprints_change_with_data_split_and_network_and_with_nothing_else(simulated, network, doubles, tmp_path):
    def fingerprint(cells=simulated[0], edges=network, split=0, **options):
        task = benchmark.doubles(cells, network=edges, **{"n_splits": 2, "n_scored": 50, **options})
        return task.fingerprint(task.splits[split])

    same = fingerprint()
    assert same == doubles.fingerprint(doubles.splits[0])
    other = simulated[0].copy()
    other.X = other.X.copy()
    other.X[0, 0] += 5
    different = {
        "data": fingerprint(cells=other), "split": fingerprint(split=1), "genes": fingerprint(n_scored=40),
        "network": fingerprint(edges=network.iloc[1:]), "test": fingerprint(test_size=0.4),
    }  # fmt: skip
    assert len({same, *different.values()}) == 1 + len(different)
    # A file is known by what is in it, not by where it is.
    paths = [tmp_path / "a.tsv", tmp_path / "b.tsv"]
    for path in paths:
        network.to_csv(path, sep="\t", index=False)
    assert fingerprint(edges=paths[0]) == fingerprint(edges=paths[1])


def test_a_task_can_be_handed_to_another_process(doubles):
    again = pickle.loads(pickle.dumps(doubles))
    assert again.splits == doubles.splits
    np.testing.assert_array_equal(again.observed(again.splits[0]), doubles.observed(doubles.splits[0]))
    assert "20 perturbations" not in repr(again) and "2 split(s)" in repr(again)


def test_channels_become_networks_and_a_missing_one_is_named(simulated, network):
    table = network.assign(seen=network["weight"].abs(), told=np.where(np.arange(len(network)) % 2, 0.5, 0))
    sources = Sources(table, channels=("seen", "told"))
    whole = sources.add_to(simulated[0])
    assert sources.network_keys == ["seen", "told", "network"]
    assert whole.varp["seen"].nnz == pytest.approx(2 * whole.varp["told"].nnz, rel=0.2)
    with pytest.raises(ValueError, match="no column 'heard'; its columns are .*told"):
        Sources(table, channels=("heard",)).add_to(simulated[0])
