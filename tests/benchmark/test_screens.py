"""Tasks of any screen: what is held out, how labels of public files are read, and what small screens are told."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp import benchmark
from scapp._labels import parse_label
from scapp.datasets._tidy import read_labels, tidy


def genes_of(labels):
    return {gene for label in labels for gene in parse_label(label, control=None)}


def test_doubles_hold_out_half_and_train_on_all_singles(doubles):
    assert [split.seed for split in doubles.splits] == [0, 1]
    singles = {label for label in doubles.effects.obs_names if "+" not in label}
    for split in doubles.splits:
        assert len(split.test) == 10
        assert singles <= set(split.train)
        assert not set(split.train) & set(split.test)
        assert (doubles.n_seen(split) == 2).all()
    assert doubles.splits[0].test != doubles.splits[1].test


def test_unseen_genes_of_doubles_occur_nowhere_in_training(simulated):
    task = benchmark.doubles(simulated[0], unseen_genes=0.25, n_splits=3)
    for split in task.splits:
        n_seen = task.n_seen(split)
        assert set(n_seen) >= {1, 2}
        trained = genes_of(split.train)
        for label, n in zip(split.test, n_seen, strict=True):
            assert len(trained & genes_of([label])) == n


def test_unseen_singles_train_on_no_perturbation_of_a_held_out_gene(unseen):
    for split in unseen.splits:
        assert len(split.test) == 4
        assert not genes_of(split.train) & genes_of(split.test)
        assert (unseen.n_seen(split) == 0).all()


def test_seen_singles_train_on_one_half_of_the_cells_and_predict_the_other(seen, simulated):
    split = seen.splits[0]
    assert split.train == split.test
    train = seen.training(split)
    first, second = seen.halves[0]
    np.testing.assert_array_equal(train.layers["lfc"], first[list(split.train)].layers["lfc"])
    observed = second[list(split.test), seen.effects.var_names[seen.scored]].layers["lfc"]
    np.testing.assert_array_equal(seen.observed(split), observed)
    whole = seen.effects[list(split.test)]
    assert (first[list(split.test)].obs["n_cells"] + second[list(split.test)].obs["n_cells"]).equals(
        whole.obs["n_cells"]
    )
    assert first.uns["n_control_cells"] + second.uns["n_control_cells"] == whole.uns["n_control_cells"]
    # The halves err independently: were control cells shared, the mean error would be common to both.
    truth = simulated[1].effects[list(split.test), whole.var_names].layers["lfc"]
    errors = [(half[list(split.test)].layers["lfc"] - truth).mean(axis=0) for half in (first, second)]
    assert abs(np.corrcoef(*errors)[0, 1]) < 0.4
    with_network = seen.training(split, networks=True)
    np.testing.assert_array_equal(with_network[:, train.var_names].layers["lfc"], train.layers["lfc"])


def test_another_seed_splits_the_cells_otherwise(seen):
    label = list(seen.splits[0].train)
    assert not np.allclose(seen.halves[0][0][label].layers["lfc"], seen.halves[1][0][label].layers["lfc"])


def test_the_same_seed_makes_the_same_task(simulated, doubles):
    again = benchmark.doubles(simulated[0], n_splits=2, n_scored=50)
    assert again.splits == doubles.splits
    np.testing.assert_array_equal(again.halves[0][0].layers["lfc"], doubles.halves[0][0].layers["lfc"])


def test_effects_and_files_make_the_same_splits_as_cells(simulated, doubles, tmp_path):
    effects = scapp.pp.pseudobulk(simulated[0])
    path = tmp_path / "cells.h5ad"
    simulated[0].write_h5ad(path)
    from_effects = benchmark.doubles(effects, control=None, n_splits=2, n_scored=50)
    from_file = benchmark.doubles(path, n_splits=2, n_scored=50)
    for task in (from_effects, from_file):
        assert task.splits == doubles.splits
        np.testing.assert_array_equal(task.observed(task.splits[0]), doubles.observed(doubles.splits[0]))
    assert from_effects.halves is None


def test_labels_of_any_spelling_become_canonical(simulated):
    effects = scapp.pp.pseudobulk(simulated[0])
    effects.obs["guide"] = ["/".join(reversed(name.split("+"))) for name in effects.obs_names]
    effects.obs_names = [f"row {i}" for i in range(effects.n_obs)]
    del effects.obs["perturbation"]
    task = benchmark.unseen_singles(effects, control=None, perturbation_key="guide", sep="/")
    assert all(label == "+".join(sorted(label.split("+"))) for label in task.effects.obs_names)
    assert task.effects.obs["perturbation"].tolist() == task.effects.obs_names.tolist()


def test_scored_are_the_genes_of_the_highest_expression_in_controls(doubles):
    expression = doubles.effects.var["control_mean"].to_numpy()
    assert len(set(doubles.scored)) == 50
    assert expression[doubles.scored].min() >= np.delete(expression, doubles.scored).max()


def test_a_large_screen_keeps_the_most_variable_and_the_perturbed_genes(simulated):
    task = benchmark.doubles(simulated[0], max_genes=30)
    assert 30 <= task.effects.n_vars < 100
    assert genes_of(task.effects.obs_names) <= set(task.effects.var_names)
    assert task.halves[0][0].var_names.equals(task.effects.var_names)


@pytest.mark.parametrize(
    ("call", "options", "message"),
    [
        (benchmark.doubles, {"test_size": 1}, "test_size must lie between 0 and 1, found 1"),
        (benchmark.doubles, {"unseen_genes": -0.1}, "unseen_genes must lie between 0 and 1"),
        (benchmark.unseen_singles, {"n_splits": 0}, "n_splits must be at least 1, found 0"),
        (benchmark.doubles, {"gene_features": {"go": {}}}, "gene_features also need a network"),
    ],
)
def test_options_out_of_range_are_refused(simulated, call, options, message):
    with pytest.raises(ValueError, match=message):
        call(simulated[0], **options)


def test_unknown_options_are_named(simulated):
    with pytest.raises(TypeError, match="nsplits.*n_splits"):
        benchmark.doubles(simulated[0], nsplits=3)  # type: ignore[call-arg]


def test_small_screens_are_told_what_they_lack(simulated):
    effects = scapp.pp.pseudobulk(simulated[0])
    singles = effects[effects.obs["n_perturbed_genes"] == 1].copy()
    pairs = effects[effects.obs["n_perturbed_genes"] == 2].copy()
    with pytest.raises(ValueError, match="at least 2 combinations, and this screen has 0"):
        benchmark.doubles(singles, control=None)
    with pytest.raises(ValueError, match="at least 1 single perturbations, and this screen has 0"):
        benchmark.doubles(pairs, control=None)
    with pytest.raises(ValueError, match="at least 4 single perturbations, and this screen has 3"):
        benchmark.unseen_singles(singles[:3].copy(), control=None)
    with pytest.raises(ValueError, match="need cells"):
        benchmark.seen_singles(singles, control=None)
    with pytest.raises(ValueError, match="combinations of seen genes"):
        benchmark.doubles(effects, control=None, unseen_genes=0.95)


@pytest.mark.filterwarnings("ignore:Observation names are not unique")
def test_effects_without_their_layer_or_column_say_which(simulated):
    effects = scapp.pp.pseudobulk(simulated[0])
    with pytest.raises(ValueError, match="no layer 'logfc'"):
        benchmark.doubles(effects, control=None, layer="logfc")
    with pytest.raises(ValueError, match="no column 'guide'"):
        benchmark.doubles(effects, control=None, perturbation_key="guide")
    with pytest.raises(ValueError, match="more than one observation"):
        benchmark.doubles(ad.concat([effects, effects[:1]]), control=None)


def test_missing_files_are_named(simulated, tmp_path):
    with pytest.raises(FileNotFoundError, match="no.h5ad"):
        benchmark.doubles(tmp_path / "no.h5ad")
    with pytest.raises(FileNotFoundError, match="no.tsv"):
        benchmark.doubles(simulated[0], network=tmp_path / "no.tsv")


def public_file(simulated, path, form):
    """The simulated screen as scPerturb, pertpy or GEARS would write it."""
    cells = simulated[0].copy()
    labels = cells.obs["perturbation"].astype(str)
    del cells.obs["perturbation"]
    if form == "scperturb":
        cells.obs["perturbation"] = labels.str.replace("+", "_")
        cells.obs["nperts"] = np.where(labels == "control", 0, labels.str.count(r"\+") + 1)
    elif form == "pertpy":
        cells.obs["perturbation_name"] = labels
    else:
        cells.obs["condition"] = [
            "ctrl" if label == "control" else label if "+" in label else f"{label}+ctrl" for label in labels
        ]
        cells.var["gene_name"] = cells.var_names.to_numpy()
        cells.var_names = [f"ENSG{i:011d}" for i in range(cells.n_vars)]
    cells.write_h5ad(path)
    return path


@pytest.mark.parametrize("form", ["scperturb", "pertpy", "gears"])
def test_public_screens_give_the_same_tasks_in_any_form(simulated, tmp_path, form):
    tasks = benchmark.screen("norman_2019", public_file(simulated, tmp_path / "a.h5ad", form), n_splits=2)
    names = ["doubles", "doubles_unseen_genes", "unseen_singles", "seen_singles"]
    assert [task.name for task in tasks] == [f"norman_2019_{name}" for name in names]
    expected = benchmark.doubles(simulated[0], n_splits=2)
    assert tasks[0].splits == expected.splits
    np.testing.assert_array_equal(tasks[0].observed(tasks[0].splits[0]), expected.observed(expected.splits[0]))
    assert "Norman" in tasks[0].title


def test_screens_of_singles_have_no_doubles(simulated, tmp_path):
    path = public_file(simulated, tmp_path / "a.h5ad", "scperturb")
    tasks = benchmark.screen("replogle_2022_rpe1", path, n_splits=1)
    assert [task.kind for task in tasks] == ["unseen", "seen"]
    cells = ad.read_h5ad(path)
    cells[~cells.obs["perturbation"].str.contains("_")].write_h5ad(path)
    own = benchmark.screen("mine", path, n_splits=1)
    assert [task.name for task in own] == ["mine_unseen_singles", "mine_seen_singles"]


def cells_called(labels, genes=("KLF1", "CEBPA", "HLA-A", "SPI1"), **columns):
    obs = pd.DataFrame({"perturbation": labels, **columns}, index=[f"c{i}" for i in range(len(labels))])
    return ad.AnnData(sparse.csr_matrix((len(labels), len(genes))), obs=obs, var=pd.DataFrame(index=list(genes)))


def test_guides_of_adamson_are_read_as_genes_and_controls():
    labels = [
        "62(mod)_pBA581", "63(mod)_pBA580", "Gal4-4(mod)_pBA582", "3x_neg_ctrl_pMJ144-1", "*", "", None, "SPI1_pDS255",
        "PERK_only_pMJ146",
    ]  # fmt: skip
    read = read_labels(cells_called(labels))
    assert read.tolist() == ["control"] * 4 + [None] * 3 + ["SPI1", "PERK"]


def test_underscores_part_genes_only_where_each_part_is_known(caplog):
    labels = ["KLF1_CEBPA", "non_targeting", "HLA-A", "KLF1_v2", "ctrl_SPI1", "CEBPA;KLF1", "C3orf72_SPI1", "C3orf72"]
    read = read_labels(cells_called(labels))
    assert read.tolist() == [
        "CEBPA+KLF1", "control", "HLA-A", "KLF1_v2", "SPI1", "CEBPA+KLF1", "C3orf72+SPI1", "C3orf72",
    ]  # fmt: skip
    assert "KLF1_v2" in caplog.text
    counted = read_labels(cells_called(["OLD1_OLD2", "OLD3_1", "control"], nperts=[2, 1, 0]))
    assert counted.tolist() == ["OLD1+OLD2", "OLD3_1", "control"]


def test_a_file_without_a_column_of_labels_is_told_which_are_looked_for(tmp_path):
    cells = cells_called(["KLF1"])
    cells.obs = cells.obs.rename(columns={"perturbation": "treatment"})
    with pytest.raises(ValueError, match="perturbation_name.*'treatment'.*perturbation_key"):
        read_labels(cells)
    assert read_labels(cells, perturbation_key="treatment").tolist() == ["KLF1"]


def test_of_genes_with_the_same_symbol_one_is_kept(caplog):
    cells = cells_called(["KLF1", "control"], genes=("ENSG00000000001", "ENSG00000000002", "ENSG00000000003"))
    cells.var["gene_name"] = ["KLF1", "SPI1", "KLF1"]
    assert tidy(cells).var_names.tolist() == ["KLF1", "SPI1"]
    assert "Left out 1 gene(s) whose symbol another gene has before them: KLF1" in caplog.text


@pytest.mark.parametrize("name", ["norman_2019_cells_subset.h5ad"])
def test_the_real_cells_of_norman_are_read(shared_data, name):
    tasks = benchmark.screen("norman_2019_subset", shared_data / name, n_splits=1)
    kinds = {task.name.removeprefix("norman_2019_subset_"): task for task in tasks}
    assert len(kinds["seen_singles"].splits[0].train) == 18
    assert sum("+" in label for label in kinds["doubles"].effects.obs_names) == 15
    assert kinds["doubles"].halves is not None
