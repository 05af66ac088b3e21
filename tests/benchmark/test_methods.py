"""Methods by name, where they apply, and what they predict."""

from __future__ import annotations

import dataclasses
import inspect
import pickle

import numpy as np
import pandas as pd
import pytest

from scapp import baselines, benchmark
from scapp.benchmark._methods import ABLATIONS, APP, CORE, choose, registered
from scapp.benchmark._run import slug

NAMES = [
    "no change", "mean", "geometric median", "matching mean", "partner mean", "additive", "shrunk additive",
    "additive, denoised", "linear model", "nearest perturbation", "kernel ridge", "pair kernel", "Gaussian process",
]  # fmt: skip


def named(name):
    (method,) = choose([name])
    return method


def applies_to(task):
    return {method.name for method in registered() if method.applies(task)}


def test_all_methods_of_the_issue_are_registered_with_their_groups():
    table = benchmark.methods().set_index("method")["group"]
    assert table[table == "baseline"].index.tolist() == NAMES
    assert table[table == "app"].index.tolist() == ["APP", "APP, paper"]
    assert set(table) == {"baseline", "app", "ablation"}
    assert set(CORE) <= set(table.index)
    assert len({slug(name) for name in table.index}) == len(table)


def test_options_of_app_are_options_that_it_has():
    from scapp.model import APP as Model

    known = set(inspect.signature(Model).parameters)
    for options in (*APP.values(), *ABLATIONS.values()):
        assert set(options) <= known


def test_methods_apply_where_they_have_something_to_say(doubles, unseen, seen, simulated):
    only_of_combinations = {"matching mean", "partner mean", "shrunk additive", "pair kernel", "Gaussian process"}
    of_measured_singles = {"additive", "additive, denoised"}
    everything = {method.name for method in registered()}
    assert applies_to(doubles) == everything
    assert applies_to(unseen) == everything - only_of_combinations - of_measured_singles
    assert applies_to(seen) == everything - only_of_combinations
    unknown_noise = unseen.effects.copy()
    del unknown_noise.layers["lfc_se"], unknown_noise.obs["n_cells"]
    without_noise = dataclasses.replace(unseen, effects=unknown_noise, halves=None)
    assert applies_to(unseen) - applies_to(without_noise) == {"APP, no known noise"}
    without_network = applies_to(benchmark.unseen_singles(simulated[0]))
    assert without_network == {"no change", "mean", "geometric median", "linear model"}


def test_names_and_groups_choose_in_the_order_asked_each_once():
    assert [method.name for method in choose(["ablation", "mean", "APP", "mean"])] == [*ABLATIONS, "mean", "APP"]
    assert [method.name for method in choose(None)] == benchmark.methods()["method"].tolist()
    assert {method.name for method in choose(None, quick=True)} == set(CORE)
    assert {method.name for method in choose(["core"])} == set(CORE)


def test_unknown_and_ambiguous_methods_are_refused():
    with pytest.raises(ValueError, match="'aditive'.*did you mean 'additive'".replace("did", "Did")):
        choose(["aditive"])
    with pytest.raises(TypeError, match=r"Pass \['mean'\]"):
        choose("mean")
    table = pd.DataFrame(np.eye(3), index=["A", "B", "C"])
    two = [benchmark.embedding_method("mine", table), benchmark.embedding_method("mine", table + 1)]
    with pytest.raises(ValueError, match="Two methods are called 'embedding: mine'"):
        choose(two)


def test_a_baseline_predicts_as_it_does_by_itself(doubles):
    split = doubles.splits[0]
    predicted = named("shrunk additive").predict(doubles, split)
    alone = baselines.ShrunkAdditive().fit(doubles.training(split)).predict(split.test)
    np.testing.assert_array_equal(predicted.lfc, alone.layers["predicted_lfc"][:, doubles.scored])
    assert predicted.std is None
    assert predicted.fit_seconds > 0 and predicted.predict_ms > 0


def test_of_a_seen_single_the_additive_model_repeats_the_first_half(seen):
    split = seen.splits[0]
    predicted = named("additive").predict(seen, split)
    np.testing.assert_allclose(predicted.lfc, seen.training(split).layers["lfc"][:, seen.scored], atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_app_predicts_with_spread_and_a_count_of_parameters(doubles):
    split = doubles.splits[0]
    method = named("APP")
    predicted, again = method.predict(doubles, split), method.predict(doubles, split)
    assert predicted.lfc.shape == predicted.std.shape == (len(split.test), 50)
    assert (predicted.std > 0).all()
    assert predicted.parameters > 10
    np.testing.assert_array_equal(predicted.lfc, again.lfc)


def test_an_option_that_app_lacks_is_named(doubles):
    method = type(named("APP"))("wrong", "app", arguments={"atention": False})
    with pytest.raises(ValueError, match="no option atention; it has .*attention"):
        method.predict(doubles, doubles.splits[0])


def test_fingerprints_tell_options_apart():
    assert len({method.fingerprint() for method in registered()}) == len(registered())
    table = pd.DataFrame(np.eye(3), index=["A", "B", "C"])
    first, second = benchmark.embedding_method("x", table), benchmark.embedding_method("x", table * 2)
    assert first.fingerprint() != second.fingerprint()
    assert first.fingerprint() == benchmark.embedding_method("x", table.copy()).fingerprint()


def test_methods_can_be_handed_to_another_process():
    for method in registered():
        assert pickle.loads(pickle.dumps(method)).fingerprint() == method.fingerprint()


def test_an_embedding_that_tells_targets_apart_beats_the_mean(unseen, simulated):
    # The true effects, reduced, are the best embedding that there can be.
    effects = simulated[1].effects
    singles = effects[effects.obs["n_perturbed_genes"] == 1]
    u, s, _ = np.linalg.svd(singles.layers["lfc"], full_matrices=False)
    table = pd.DataFrame(u[:, :8] * s[:8], index=singles.obs_names)
    method = benchmark.embedding_method("truth", table)
    assert (method.name, method.group) == ("embedding: truth", "embedding")
    error = {}
    for name, of in (("embedding", method), ("mean", named("mean"))):
        error[name] = np.mean(
            [np.linalg.norm(of.predict(unseen, s).lfc - unseen.observed(s), axis=1).mean() for s in unseen.splits]
        )
    assert error["embedding"] < 0.9 * error["mean"]


def test_embeddings_are_read_from_files(tmp_path):
    table = pd.DataFrame(
        np.eye(3, dtype=np.float32), index=pd.Index(["A", "B", "C"], name="gene"), columns=["x", "y", "z"]
    )
    table.to_csv(tmp_path / "e.csv")
    method = benchmark.embedding_method("mine", tmp_path / "e.csv")
    assert method.fingerprint() == benchmark.embedding_method("mine", table).fingerprint()
    with pytest.raises(TypeError, match="format"):
        benchmark.embedding_method("mine", table, format="table")
