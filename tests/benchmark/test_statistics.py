"""Means, intervals, paired tests, strata and ceilings against closed forms and planted ratios."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from scapp.benchmark import by_stratum, calibration, ceilings, paired, summarise
from scapp.benchmark._statistics import holm

REFERENCES = {"norman_doubles": "additive", "k562_singles": "mean"}


def scores(values: dict[str, dict[int, dict[str, float]]], metric: str = "l2") -> pd.DataFrame:
    """Scores of one task from {method: {split: {perturbation: value}}}."""
    rows = [
        ("t", method, "app" if method == "APP" else "baseline", seed, label, metric, value, 2, 1.0)
        for method, of in values.items()
        for seed, each in of.items()
        for label, value in each.items()
    ]
    columns = ["task", "method", "group", "seed", "perturbation", "metric", "value", "n_seen", "effect_size"]
    return pd.DataFrame(rows, columns=columns)


def random_scores(n: int, seeds: tuple[int, ...] = (1,), *, same: bool = False, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    first = {m: rng.gamma(9, 1, n) for m in ("APP", "additive")}
    each = {
        m: {s: dict(zip([f"p{i}" for i in range(n)], v if same else rng.gamma(9, 1, n), strict=True)) for s in seeds}
        for m, v in first.items()
    }
    return scores(each)


def test_summary_is_the_mean_over_splits_of_means_over_perturbations():
    table = scores(
        {"APP": {1: {"a": 1.0, "b": 3.0, "c": 5.0}, 2: {"a": 9.0}}, "additive": {1: {"a": 2.0}, 2: {"a": 4.0}}}
    )
    row = summarise(table).set_index("method").loc["APP"]
    assert row["mean"] == (3 + 9) / 2  # the mean of all scores would be 4.5
    assert (row["n_perturbations"], row["n_seeds"]) == (3, 2)


def test_ratio_is_over_what_both_were_scored_on():
    table = scores({"APP": {1: {"a": 1.0, "b": 100.0}}, "additive": {1: {"a": 2.0, "c": 50.0}}})
    row = summarise(table, reference="additive").set_index("method").loc["APP"]
    assert row["ratio"] == 0.5
    assert row["mean"] == 50.5


def test_planted_ratios_are_found_within_their_intervals(planted, planted_ratios):
    summary = summarise(planted, reference=REFERENCES)
    for row in summary.itertuples():
        truth = planted_ratios[row.method][1 + list(REFERENCES).index(row.task)]
        assert row.ratio == pytest.approx(truth, abs=0.02), row.method
        assert row.ratio_low <= row.ratio <= row.ratio_high
    best = summary.groupby("task")["method"].first()
    assert best.tolist() == ["APP, no known noise"] * 2


def test_ratio_by_split_is_that_of_each_split(planted):
    doubles = planted[planted["task"] == "norman_doubles"]
    row = summarise(doubles, reference="additive").set_index("method").loc["APP"]
    for ratio, seed in zip(row["ratio_by_seed"], (1, 2, 3), strict=True):
        means = doubles[(doubles["seed"] == seed) & (doubles["metric"] == "l2")].groupby("method")["value"].mean()
        assert ratio == pytest.approx(means["APP"] / means["additive"])


def test_interval_of_a_mean_is_as_wide_as_its_standard_error():
    table = random_scores(200)
    row = summarise(table).iloc[0]
    values = table.loc[table["method"] == row["method"], "value"]
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * values.std() / np.sqrt(200), rel=0.1)


def test_a_perturbation_held_out_in_five_splits_counts_once():
    once, five = (summarise(random_scores(40, s, same=True), reference="additive") for s in ((1,), (1, 2, 3, 4, 5)))
    columns = ["mean", "low", "high", "ratio", "ratio_low", "ratio_high"]
    pd.testing.assert_frame_equal(once[columns], five[columns])
    tests = [paired(random_scores(40, s, same=True), against="additive") for s in ((1,), (1, 2, 3, 4, 5))]
    assert tests[0]["p_value"].iloc[0] == pytest.approx(tests[1]["p_value"].iloc[0])


def test_intervals_are_the_same_again_and_change_with_the_seed():
    table = random_scores(30)
    first, again, other = (summarise(table, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert (first["low"] != other["low"]).all()


def test_paired_agrees_with_scipy_on_means_over_splits():
    table = random_scores(25, (1, 2, 3))
    row = paired(table, methods=["APP"], against="additive").iloc[0]
    wide = table.pivot(index=["perturbation", "seed"], columns="method", values="value")
    means = wide.groupby("perturbation").mean()
    assert row["p_value"] == pytest.approx(stats.wilcoxon(means["APP"], means["additive"]).pvalue)
    assert row["win_rate"] == pytest.approx((wide["APP"] < wide["additive"]).mean())
    assert row["median_difference"] == pytest.approx((means["APP"] - means["additive"]).median())
    assert (row["n"], row["n_perturbations"]) == (75, 25)


def test_ties_are_half_a_win_and_no_evidence():
    same = {1: {"a": 1.0, "b": 2.0, "c": 3.0}}
    row = paired(scores({"APP": same, "additive": same})).iloc[0]
    assert (row["win_rate"], row["p_value"], row["verdict"], row["ratio"]) == (0.5, 1.0, "unclear", 1.0)


def test_higher_is_better_for_correlations(planted):
    table = paired(planted, metric="pearson_delta", methods=["APP"], against=["mean", "linear model"])
    assert (table["verdict"] == "better").all()
    assert (table["win_rate"] == 1).all()
    assert (table["difference"] > 0).all()


def test_verdicts_follow_what_was_planted(planted):
    table = paired(planted, methods=["APP, no known noise", "APP, attention alone", "APP, no attention"], against="APP")
    verdicts = table.set_index(["task", "method"])["verdict"].unstack()
    assert (verdicts["APP, no known noise"] == "better").all()
    assert (verdicts["APP, attention alone"] == "worse").all()
    assert (verdicts["APP, no attention"] == "unclear").all()


def test_all_pairs_of_methods_and_baselines_by_default(planted):
    table = paired(planted, n_draws=10)
    doubles = table[table["task"] == "norman_doubles"]
    assert set(doubles["against"]) == {
        "no change", "mean", "geometric median", "additive", "shrunk additive", "linear model", "pair kernel"
    }  # fmt: skip
    assert len(doubles) == 7 * 18


def test_holm_multiplies_by_the_tests_left_and_stays_in_order():
    np.testing.assert_allclose(holm(np.array([0.04, 0.01, 0.03])), [0.06, 0.03, 0.06])
    assert holm(np.array([0.9, 0.8])).max() == 1


def test_strata_are_thirds_of_effect_sizes_splits_and_genes_seen():
    table = random_scores(30, (1, 2))
    sizes = {f"p{i}": float(i) for i in range(30)}
    table["effect_size"] = table["perturbation"].map(sizes)
    table["n_seen"] = table["perturbation"].map(lambda p: int(p[1:]) % 3)
    strata = by_stratum(table, reference="additive", n_draws=50)
    of = strata[strata["method"] == "APP"].set_index(["kind", "stratum"])
    names = [*[("split", s) for s in "12"], *[("effect size", s) for s in ("small", "medium", "large")]]
    assert list(of.index) == [*names, *[("genes seen", s) for s in "012"]]
    assert of.loc[names[2:], "n_perturbations"].tolist() == [10, 10, 10]
    small = table[(table["effect_size"] < 10)].groupby(["method", "seed"])["value"].mean().groupby("method").mean()
    assert of.loc[("effect size", "small"), "ratio"] == pytest.approx(small["APP"] / small["additive"])


def test_kinds_of_one_stratum_are_left_out(planted):
    strata = by_stratum(planted, reference=REFERENCES, n_draws=10)
    assert set(strata["kind"]) == {"split", "effect size"}


def test_share_closed_is_between_nothing_and_the_ceiling():
    table = scores({"no change": {1: {"a": 10.0, "b": 20.0}}, "APP": {1: {"a": 6.0, "b": 12.0}}})
    ceiling = scores({"noise ceiling": {1: {"a": 2.0, "b": 4.0}}}, metric="ceiling_l2")
    row = ceilings(pd.concat([table, ceiling])).set_index("method")["share_closed"]
    assert row["APP"] == pytest.approx(0.5)
    assert row["no change"] == 0
    assert ceilings(table).empty


def test_ceiling_is_compared_on_the_perturbations_that_have_one():
    table = scores({"no change": {1: {"a": 10.0, "b": 99.0}}, "APP": {1: {"a": 6.0, "b": 99.0}}})
    ceiling = scores({"noise ceiling": {1: {"a": 2.0}}}, metric="ceiling_l2")
    assert ceilings(pd.concat([table, ceiling])).set_index("method").loc["APP", "share_closed"] == pytest.approx(0.5)


def test_calibration_is_a_mean_over_splits(planted):
    table = calibration(planted).set_index(["task", "method", "nominal", "n_largest"])["empirical"]
    assert table["k562_singles", "APP", 0.8, 0] == pytest.approx(0.79, abs=0.01)
    assert table["k562_singles", "APP", 0.8, 20] == pytest.approx(0.62)
    assert len(table) == 2 * 2 * 4
    assert calibration(planted[planted["metric"] == "l2"]).empty


def test_what_is_missing_is_named(planted):
    with pytest.raises(ValueError, match="no column value; they have task"):
        summarise(planted.drop(columns="value"))
    with pytest.raises(ValueError, match="metric 'L2'; the metrics are .*l2"):
        summarise(planted, metric="L2")
    with pytest.raises(
        ValueError, match="'additive' has no l2 in the task 'k562_singles'; methods with one are no change"
    ):
        summarise(planted, reference="additive")
    with pytest.raises(ValueError, match="no scores of 'Additive'; methods are no change"):
        paired(planted, against="Additive")
    with pytest.raises(ValueError, match="not known which way is better"):
        paired(planted, metric="coverage_80")
    with pytest.raises(ValueError, match="nothing to compare"):
        paired(planted[planted["method"] == "mean"], methods=["mean"], against="mean")


def test_a_score_that_stands_twice_is_refused(planted):
    row = planted[planted["method"] == "APP"].iloc[[0]]
    with pytest.raises(ValueError, match="'APP' has more than one l2 for 'G.*' in split 1"):
        summarise(pd.concat([planted, row]))


@settings(max_examples=30)
@given(
    values=st.lists(st.floats(0.1, 100), min_size=2, max_size=12),
    factor=st.floats(0.1, 10),
    scale=st.floats(0.01, 100),
)
def test_ratios_do_not_depend_on_units_or_order_and_are_exact_for_a_factor(values, factor, scale):
    labels = [f"p{i}" for i in range(len(values))]
    base = dict(zip(labels, values, strict=True))
    table = scores({"additive": {1: base}, "APP": {1: {p: v * factor for p, v in base.items()}}})
    row = summarise(table, reference="additive", n_draws=20).set_index("method").loc["APP"]
    np.testing.assert_allclose(row[["ratio", "ratio_low", "ratio_high"]].astype(float), factor)
    moved = table.assign(value=table["value"] * scale).iloc[::-1]
    again = summarise(moved, reference="additive", n_draws=20).set_index("method").loc["APP"]
    assert again["ratio"] == pytest.approx(row["ratio"])
    assert again["low"] == pytest.approx(row["low"] * scale)
