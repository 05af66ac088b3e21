"""Predictions files: what is read from them, and what is refused with a list."""

from __future__ import annotations

import json
import pickle

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scapp import baselines
from scapp.benchmark import Split, Task, export_task, read_predictions, write_predictions
from scapp.benchmark._predictions import SUFFIXES

LABELS = ["A+B", "C", "B+D"]
GENES = ["KLF1", "GATA1", "NA", "SPI1"]
LFC = np.arange(12, dtype=np.float32).reshape(3, 4) / 8 - 0.5
STD = 1 + LFC**2


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_back_what_was_written(tmp_path, suffix):
    path = write_predictions(tmp_path / f"predictions{suffix}", LABELS, GENES, LFC)
    lfc, std = read_predictions(path, LABELS, GENES)
    np.testing.assert_array_equal(lfc, LFC)
    assert lfc.dtype == np.float32
    assert std is None


@pytest.mark.parametrize("suffix", [".h5ad", ".npz"])
def test_standard_deviations_are_read_along(tmp_path, suffix):
    path = write_predictions(tmp_path / f"p{suffix}", LABELS, GENES, LFC, std=STD)
    _, std = read_predictions(path, LABELS[::-1], GENES[1:3])
    np.testing.assert_array_equal(std, STD[::-1, 1:3])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_rows_and_columns_are_found_by_name_in_any_order(tmp_path, suffix):
    path = write_predictions(tmp_path / f"p{suffix}", ["D+B", "ctrl+C", "B+A"], GENES[::-1], LFC[[2, 1, 0]][:, ::-1])
    np.testing.assert_array_equal(read_predictions(path, LABELS, GENES)[0], LFC)


def test_labels_may_be_joined_otherwise(tmp_path):
    path = write_predictions(tmp_path / "p.csv", ["B_A", "C", "D_B"], GENES, LFC)
    np.testing.assert_array_equal(read_predictions(path, LABELS, GENES, sep="_")[0], LFC)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_one_file_of_all_splits_is_read_by_seed(tmp_path, suffix):
    labels, values = [*LABELS, "C"], np.vstack([LFC, LFC[1:2] + 9])
    path = write_predictions(tmp_path / f"p{suffix}", labels, GENES, values, seed=[1, 1, 1, 2])
    np.testing.assert_array_equal(read_predictions(path, LABELS, GENES, seed=1)[0], LFC)
    np.testing.assert_array_equal(read_predictions(path, ["C"], GENES, seed=2)[0], values[3:])
    with pytest.raises(ValueError, match="splits 1, 2. Say which"):
        read_predictions(path, LABELS, GENES)
    with pytest.raises(ValueError, match="no predictions of split 3; it has those of 1, 2"):
        read_predictions(path, LABELS, GENES, seed=3)
    with pytest.raises(ValueError, match=r"predictions of split 2[\s\S]*2 of the 3 held-out perturbations are missing"):
        read_predictions(path, LABELS, GENES, seed=2)


def test_predictions_of_a_baseline_are_read_as_they_are(tmp_path):
    effects = ad.AnnData(
        np.zeros((3, 4), np.float32),
        obs=pd.DataFrame({"perturbation": ["A", "B", "C"]}, index=["A", "B", "C"]),
        var=pd.DataFrame({"measured": [True, True, False, True]}, index=GENES),
        layers={"lfc": LFC},
    )
    predicted = baselines.Additive().fit(effects).predict(["A+B", "B+C"])
    predicted.write_h5ad(tmp_path / "p.h5ad")
    lfc, _ = read_predictions(tmp_path / "p.h5ad", ["B+C", "A+B"], ["SPI1", "KLF1"])
    np.testing.assert_allclose(lfc, [LFC[1:3, [3, 0]].sum(0), LFC[:2, [3, 0]].sum(0)])
    # The gene that was not measured is NaN: refused if it is scored, and only then.
    with pytest.raises(ValueError, match=r"2 log-fold-changes are missing, NaN or infinite.*1 gene\(s\), NA"):
        read_predictions(tmp_path / "p.h5ad", ["B+C", "A+B"], ["NA", "KLF1"])


def test_x_is_read_where_there_is_no_layer(tmp_path):
    adata = ad.AnnData(LFC, obs=pd.DataFrame({"perturbation": LABELS}, index=LABELS), var=pd.DataFrame(index=GENES))
    adata.write_h5ad(tmp_path / "p.h5ad")
    np.testing.assert_array_equal(read_predictions(tmp_path / "p.h5ad", LABELS, GENES)[0], LFC)
    del adata.obs["perturbation"]
    adata.write_h5ad(tmp_path / "p.h5ad")
    with pytest.raises(ValueError, match="columns of obs none.*Expected one row per perturbation"):
        read_predictions(tmp_path / "p.h5ad", LABELS, GENES)


def refused(tmp_path, labels, genes, lfc, *, suffix=".npz", std=None) -> str:
    path = write_predictions(tmp_path / f"p{suffix}", labels, genes, lfc, std=std)
    with pytest.raises(ValueError) as error:
        read_predictions(path, LABELS, GENES)
    assert "Expected one row per perturbation" in str(error.value)
    return str(error.value)


def test_missing_and_other_perturbations_and_genes_are_all_listed_at_once(tmp_path):
    message = refused(tmp_path, ["A+B", "X+C", "Z"], ["KLF1", "Gata1", "NA", "other"], LFC)
    assert "2 of the 3 held-out perturbations are missing: C, B+D." in message
    assert "2 perturbation(s) are not among the 3 that are held out: X+C, Z." in message
    assert "2 of the 4 scored genes are missing: GATA1, SPI1. The file has 4 genes: KLF1, Gata1, NA, other." in message
    assert "Is 'GATA1' called 'Gata1'?" in message


def test_long_lists_are_shortened(tmp_path):
    path = write_predictions(tmp_path / "p.npz", ["A"], ["KLF1"], [[0.0]])
    with pytest.raises(ValueError, match="G0, G1, G2, G3, G4 and 95 more"):
        read_predictions(path, ["A"], [f"G{i}" for i in range(100)])


def test_duplicates_are_listed(tmp_path):
    message = refused(tmp_path, ["A+B", "B+A", "C", "D+B"], GENES, np.vstack([LFC, LFC[:1]]))
    assert "1 perturbation(s) have several rows: A+B." in message
    message = refused(tmp_path, LABELS, [*GENES, "KLF1"], np.hstack([LFC, LFC[:, :1]]))
    assert "1 scored gene(s) have several columns: KLF1." in message


def test_control_row_is_refused_as_no_held_out_perturbation(tmp_path):
    message = refused(tmp_path, [*LABELS, "ctrl"], GENES, np.vstack([LFC, LFC[:1]]))
    assert "1 perturbation(s) are not among the 3 that are held out: ctrl." in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_values_that_are_not_finite_are_placed(tmp_path, suffix, bad):
    values = LFC.copy()
    values[1, 2] = bad
    message = refused(tmp_path, LABELS, GENES, values, suffix=suffix)
    assert "1 log-fold-changes are missing, NaN or infinite, in 1 perturbation(s), C, and 1 gene(s), NA." in message


def test_bad_standard_deviations_are_refused(tmp_path):
    assert "12 standard deviations are negative" in refused(tmp_path, LABELS, GENES, LFC, std=-STD)
    assert "12 standard deviations are missing, NaN" in refused(tmp_path, LABELS, GENES, LFC, std=STD * np.nan)


def test_positions_without_names_are_refused(tmp_path):
    for suffix in SUFFIXES:
        message = refused(tmp_path, LABELS, list("0123"), LFC, suffix=suffix)
        assert "The 4 genes are numbered (0, 1, 2 and 1 more), not named" in message
    np.savez(tmp_path / "p.npz", labels=LABELS, lfc=LFC)
    with pytest.raises(ValueError, match="no array genes; it has labels, lfc"):
        read_predictions(tmp_path / "p.npz", LABELS, GENES)


def test_unreadable_labels_and_shapes_are_refused(tmp_path):
    assert "'A++B' has an empty part" in refused(tmp_path, ["A++B", "C", "B+D"], GENES, LFC)
    np.savez(tmp_path / "p.npz", labels=LABELS, genes=GENES, lfc=LFC.T)
    with pytest.raises(ValueError, match=r"shape \(4, 3\), where labels and genes make \(3, 4\)"):
        read_predictions(tmp_path / "p.npz", LABELS, GENES)
    np.savez(tmp_path / "p.npz", labels=LABELS, genes=GENES, lfc=LFC.T, seed=[1, 1, 1])
    with pytest.raises(ValueError, match="a row for each of 3 labels"):
        read_predictions(tmp_path / "p.npz", LABELS, GENES, seed=1)
    np.savez(tmp_path / "p.npz", labels=LABELS, genes=GENES, lfc=LFC, seed=[1, 1])
    with pytest.raises(ValueError, match="one whole number per row"):
        read_predictions(tmp_path / "p.npz", LABELS, GENES, seed=1)


def test_text_in_place_of_numbers_is_placed(tmp_path):
    (tmp_path / "p.csv").write_text("perturbation,KLF1,GATA1,NA,SPI1\nA+B,1,2,3,4\nC,1,,x,4\nB+D,1,2,3,4\n")
    with pytest.raises(ValueError, match=r"2 log-fold-changes are missing.* C, and 2 gene\(s\), GATA1, NA"):
        read_predictions(tmp_path / "p.csv", LABELS, GENES)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_truncated_files_are_refused(tmp_path, suffix):
    path = write_predictions(tmp_path / f"p{suffix}", LABELS, GENES, LFC)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"p\."):
        read_predictions(path, LABELS, GENES)


def test_pickled_objects_are_refused_and_not_run(tmp_path):
    class Bomb:
        def __reduce__(self):
            return type(tmp_path).touch, (tmp_path / "executed",)

    np.savez(tmp_path / "p.npz", labels=np.array([Bomb()], dtype=object), genes=GENES, lfc=LFC, allow_pickle=True)
    with pytest.raises(ValueError, match="holds objects"):
        read_predictions(tmp_path / "p.npz", LABELS, GENES)
    (tmp_path / "p.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ValueError, match="holds objects"):
        read_predictions(tmp_path / "p.npz", LABELS, GENES)
    assert not (tmp_path / "executed").exists()


def test_unknown_formats_and_shapes_are_not_written(tmp_path):
    with pytest.raises(ValueError, match=r"should end in \.h5ad, \.npz"):
        write_predictions(tmp_path / "p.pkl", LABELS, GENES, LFC)
    with pytest.raises(ValueError, match=r"shape \(3, 4\) of labels and genes, found \(4, 3\)"):
        write_predictions(tmp_path / "p.npz", LABELS, GENES, LFC.T)
    with pytest.raises(ValueError, match="cannot hold standard deviations"):
        write_predictions(tmp_path / "p.csv", LABELS, GENES, LFC, std=STD)
    with pytest.raises(ValueError, match="no file"):
        read_predictions(tmp_path / "absent.csv", LABELS, GENES)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=120), suffix=st.sampled_from(SUFFIXES))
def test_any_bytes_end_in_an_error_that_names_the_file(tmp_path, content, suffix):
    path = tmp_path / f"anything{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="anything"):
        read_predictions(path, LABELS, GENES)


# export


@pytest.fixture
def task() -> Task:
    labels = ["A", "B", "A+B", "C"]
    effects = ad.AnnData(
        np.ones((4, 4), np.float32),
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=GENES),
        layers={"lfc": np.vstack([LFC, LFC[:1]]), "lfc_se": np.ones((4, 4), np.float32)},
        uns={"everything": np.ones(3)},
    )
    splits = (Split(1, ("A", "B", "C"), ("A+B",)), Split(2, ("A", "B", "A+B"), ("C",)))
    return Task("tiny", "Tiny", effects, splits, np.array([2, 0]), "mean", "combinations")


def test_exported_task_holds_training_effects_only_and_comes_back(task, tmp_path):
    folders = export_task(task, tmp_path)
    assert folders == [tmp_path / "tiny" / "1", tmp_path / "tiny" / "2"]
    for folder, split in zip(folders, task.splits, strict=True):
        train = ad.read_h5ad(folder / "train.h5ad")
        assert tuple(train.obs["perturbation"]) == split.train
        assert set(train.layers) == {"lfc", "lfc_se"}
        assert train.X is None
        assert not train.uns
        wanted = json.loads((folder / "predict.json").read_text())
        assert wanted["perturbations"] == list(split.test)
        assert wanted["genes"] == ["NA", "KLF1"]
        # What a method outside would do: predict, write, hand back.
        mean = train.to_df("lfc")[wanted["genes"]].mean().to_numpy()[None]
        write_predictions(folder / "predictions.npz", wanted["perturbations"], wanted["genes"], mean)
        lfc, _ = read_predictions(folder / "predictions.npz", split.test, task.genes)
        expected = task.training(split).layers["lfc"][:, task.scored].mean(0, keepdims=True)
        np.testing.assert_allclose(lfc, expected, rtol=1e-6)


def test_export_overwrites_nothing(task, tmp_path):
    export_task(task, tmp_path)
    with pytest.raises(ValueError, match="there already"):
        export_task(task, tmp_path)
