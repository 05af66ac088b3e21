"""Published results: the values that the paper's source data gives, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from benchmarks.paper.published import published_interaction_curves, published_results


@pytest.fixture(scope="module")
def results(shared_data):
    return published_results(shared_data / "published", n_bootstrap=500)


def of(results, panel, dataset):
    rows = results[(results["panel"] == panel) & (results["dataset"] == dataset)]
    return rows.set_index("method")


def test_doubles_are_those_of_the_paper(results):
    found = of(results, "doubles", "norman_from_scfoundation")
    expected = {
        "additive": 2.766, "Geneformer": 3.478, "GEARS": 4.096, "scBERT": 4.279, "UCE": 4.279, "scGPT": 4.616,
        "scFoundation": 4.722, "no change": 5.616, "CPA": 12.205,
    }  # fmt: skip
    assert found["l2"].to_dict() == pytest.approx(expected, abs=6e-4)
    assert set(found["n_scores"]) == {310}
    assert set(found["n_perturbations"]) == {122}
    assert list(found["ratio"]) == sorted(found["ratio"])
    assert found.loc["Geneformer", "ratio"] == pytest.approx(3.4785 / 2.7658, abs=1e-3)
    assert found.loc["Geneformer", "wins"] == pytest.approx(0.27, abs=0.005)
    assert found.loc["GEARS", "wins"] == pytest.approx(0.12, abs=0.005)


@pytest.mark.parametrize(
    ("dataset", "n", "expected"),
    [
        ("adamson", 48, {"GEARS": 3.867, "linear model": 4.081, "mean": 3.936, "scGPT": 4.951}),
        ("replogle_k562_essential", 262, {"GEARS": 4.079, "linear model": 4.097, "mean": 4.193, "scGPT": 4.437}),
        ("replogle_rpe1_essential", 413, {"GEARS": 6.113, "linear model": 5.390, "mean": 5.534, "scGPT": 5.991}),
    ],
)
def test_unseen_singles_are_those_of_the_paper(results, dataset, n, expected):
    found = of(results, "unseen singles", dataset)
    assert found.loc[list(expected), "l2"].to_dict() == pytest.approx(expected, abs=6e-4)
    assert set(found["n_scores"]) == {n}
    assert found.loc["mean", "ratio"] == 1


def test_embedding_panel_holds_out_what_was_held_out_and_marks_the_leak(results):
    for dataset, n, method, value in [
        ("adamson", 20, "linear model, K562 perturbation embedding", 3.473),
        ("replogle_k562_essential", 214, "linear model, scFoundation gene embedding", 3.892),
        ("replogle_rpe1_essential", 224, "linear model, K562 perturbation embedding", 5.147),
    ]:
        found = of(results, "unseen singles, embeddings", dataset)
        assert set(found["n_scores"]) == {n}
        assert found.loc[method, "l2"] == pytest.approx(value, abs=6e-4)
        assert found.loc[method, "note"] == "another preprocessing"
    leaks = results[results["note"] != "another preprocessing"]
    assert leaks["note"].str.contains("upper reference").all()
    assert leaks["l2"].tolist() == pytest.approx([2.826, 3.739], abs=6e-4)


def test_intervals_hold_the_ratio_and_the_reference_has_none(results):
    assert (results["ratio_low"] <= results["ratio"]).all()
    assert (results["ratio"] <= results["ratio_high"]).all()
    reference = results[results["method"] == results["reference"]]
    assert len(reference) == 7
    assert (reference[["ratio", "ratio_low", "ratio_high"]] == 1).all(axis=None)
    assert (reference["wins"] == 0).all()


def test_published_interaction_curves_are_those_of_the_paper(shared_data):
    curves = published_interaction_curves(shared_data / "published")
    at = curves.pivot(index="method", columns="fdp", values="tpr")
    assert at.loc["no change", [0.1, 0.3, 0.5]].tolist() == pytest.approx([0.0066, 0.097, 0.272], abs=6e-4)
    assert at.loc["GEARS", [0.1, 0.3, 0.5]].tolist() == pytest.approx([0.0013, 0.019, 0.061], abs=6e-4)
    assert at[0.5].idxmax() == "no change"
    assert set(curves["note"]) == {"another preprocessing"}


# Planted


def scores(n_perturbations=30, n_seeds=4, noise=0.0) -> pd.DataFrame:
    """Additive scores that differ between perturbations and not between seeds; a method at 0.9 of them."""
    rng = np.random.default_rng(0)
    level = rng.uniform(1, 5, n_perturbations)
    factor = 0.9 + noise * rng.normal(size=n_perturbations)
    rows = []
    for seed in range(n_seeds):
        for i in range(n_perturbations):
            for method, l2 in (("additive_model", level[i]), ("ours", factor[i] * level[i])):
                rows.append(("norman", seed, method, f"A{i}+B{i}", "test", l2))
    return pd.DataFrame(rows, columns=["dataset_name", "seed", "method", "perturbation", "train", "l2"])


def save(folder, table) -> None:
    table.to_csv(folder / "norman_doubles_l2.csv.gz", index=False)


def test_seeds_of_one_perturbation_do_not_narrow_the_interval(tmp_path):
    widths = []
    for n_seeds in (1, 16):
        save(tmp_path, scores(n_seeds=n_seeds, noise=0.2))
        found = published_results(tmp_path).set_index("method").loc["ours"]
        widths.append(found["ratio_high"] - found["ratio_low"])
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)
    # The standard error of a ratio of means, by linearisation.
    table = scores(n_seeds=1, noise=0.2).pivot(index="perturbation", columns="method", values="l2")
    ratio = table["ours"].mean() / table["additive_model"].mean()
    residual = table["ours"] - ratio * table["additive_model"]
    error = np.sqrt((residual**2).sum()) / table["additive_model"].sum()
    assert widths[0] == pytest.approx(2 * 1.96 * error, rel=0.15)


def test_constant_ratio_has_no_interval_and_training_rows_are_left_out(tmp_path):
    table = scores()
    leak = table[table["method"] == "ours"].assign(
        perturbation=lambda t: t["perturbation"] + "x", train="train", l2=0.0
    )
    save(tmp_path, pd.concat([table, leak]))
    found = published_results(tmp_path).set_index("method").loc["ours"]
    assert found[["ratio", "ratio_low", "ratio_high"]].tolist() == pytest.approx([0.9] * 3)
    assert found["wins"] == 1
    assert (found["n_perturbations"], found["n_scores"]) == (30, 120)


def test_perturbation_that_a_method_lacks_is_left_out_for_all(tmp_path):
    table = scores(n_seeds=1)
    table = table.drop(table.index[(table["method"] == "ours") & (table["perturbation"] == "A3+B3")])
    save(tmp_path, table)
    assert set(published_results(tmp_path)["n_scores"]) == {29}


def test_methods_without_a_common_perturbation_are_refused(tmp_path):
    table = scores(n_seeds=1)
    table.loc[table["method"] == "ours", "perturbation"] += "+C"
    save(tmp_path, table)
    with pytest.raises(ValueError, match="no held-out perturbation of 'norman' for which every method"):
        published_results(tmp_path)


def test_order_of_genes_does_not_make_another_perturbation(tmp_path):
    table = scores(n_seeds=1)
    ours = table["method"] == "ours"
    table.loc[ours, "perturbation"] = ["+".join(label.split("+")[::-1]) for label in table.loc[ours, "perturbation"]]
    save(tmp_path, table)
    assert set(published_results(tmp_path)["n_scores"]) == {30}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.drop(columns="l2"), "lacks the column.*'l2'"),
        (lambda t: t[t["method"] == "ours"], "no 'additive_model', the baseline, on 'norman'; it has ours"),
        (lambda t: t.assign(l2=np.nan), "240 values of 'l2' .* not finite"),
        (lambda t: pd.concat([t, t.iloc[:1]]), r"1 scores are twice.*A0\+B0"),
    ],
)
def test_unusable_tables_say_why(tmp_path, change, message):
    save(tmp_path, change(scores()))
    with pytest.raises(ValueError, match=message):
        published_results(tmp_path)


def test_folder_without_tables_says_what_is_expected(tmp_path):
    with pytest.raises(ValueError, match="norman_doubles_l2.csv.gz.*found nothing"):
        published_results(tmp_path)
    with pytest.raises(ValueError, match="no such folder"):
        published_results(tmp_path / "absent")
    with pytest.raises(ValueError, match="norman_doubles_gi_tpr_fdp"):
        published_interaction_curves(tmp_path)
    (tmp_path / "norman_doubles_l2.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(ValueError, match="cannot be read"):
        published_results(tmp_path)
    pd.DataFrame({"method": ["a"], "fdp": [0.1], "tpr": [2.0]}).to_csv(
        tmp_path / "norman_doubles_gi_tpr_fdp.csv.gz", index=False
    )
    with pytest.raises(ValueError, match="rates from 0 to 1"):
        published_interaction_curves(tmp_path)
