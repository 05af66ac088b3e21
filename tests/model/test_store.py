"""Predictions that are streamed to disk are those of `predict`, and appear whole or not at all."""

from __future__ import annotations

import errno
import itertools
import os
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
import zarr

import scapp
from scapp.model import _streaming
from scapp.module import Wanted

LAYERS = {"predicted_lfc", "predicted_lfc_std", "p_change", "attention"}


@pytest.fixture
def small_chunks(monkeypatch):
    """Three predictions of the 40 genes in a chunk."""
    monkeypatch.setattr(_streaming, "VALUES_IN_CHUNK", 120)


def listing(folder):
    return sorted(os.listdir(folder))


def fail_in_second_chunk(monkeypatch, error):
    write, times = zarr.Array.__setitem__, itertools.count()

    def failing(array, rows, value):
        if "predicted_lfc" in array.name and next(times) == 2:
            raise error
        write(array, rows, value)

    monkeypatch.setattr(zarr.Array, "__setitem__", failing)


def test_the_file_holds_what_predict_returns_in_the_order_asked(trained, tmp_path, small_chunks):
    names = ["g3+g1", "g20", "g2", "g1+g3+g15", "g0", "g20+g21", "g22+g5", "g7+g3"]
    trained.predict_to_zarr(
        tmp_path / "p.zarr", (name for name in names), attention=True, p_change=True, progress_bar=False
    )
    found, expected = ad.read_zarr(tmp_path / "p.zarr"), trained.predict(names)
    assert found.obs.equals(expected.obs.drop(columns="attention_to_mean"))
    assert found.var.equals(expected.var)
    found_of, expected_of = (dict(adata.uns["scapp"]["prediction"]) for adata in (found, expected))
    np.testing.assert_array_equal(found_of.pop("attended_perturbations"), expected_of.pop("attended_perturbations"))
    assert found_of == expected_of
    assert found.X is None
    assert set(found.layers) == LAYERS
    for layer in LAYERS:
        np.testing.assert_allclose(found.layers[layer], expected.layers[layer], atol=1e-6)
    # A slice can be read without the rest, and nothing but the file is there.
    store = zarr.open(tmp_path / "p.zarr", mode="r")
    np.testing.assert_array_equal(store["layers/predicted_lfc"][2:4], found.layers["predicted_lfc"][2:4])
    assert store["layers/predicted_lfc"].chunks == (3, 40)
    assert listing(tmp_path) == ["p.zarr"]


def test_layers_that_are_not_asked_are_not_written(trained, tmp_path):
    trained.predict_to_zarr(tmp_path / "p.zarr", ["g1+g2"], std=False, dtype="float16", progress_bar=False)
    found = ad.read_zarr(tmp_path / "p.zarr")
    assert set(found.layers) == {"predicted_lfc"}
    assert found.layers["predicted_lfc"].dtype == np.float16
    expected = trained.predict(["g1+g2"]).layers["predicted_lfc"]
    np.testing.assert_allclose(found.layers["predicted_lfc"], expected, rtol=2e-3, atol=1e-4)


def test_genes_that_were_not_measured_have_no_log_fold_change_on_disk_either(effects, make, tmp_path):
    full = scapp.pp.add_unmeasured_genes(effects, ["NEW"], control=None)
    network = full.varp["network"].tolil()
    network[40, 0] = network[0, 40] = 1
    full.varp["network"] = network.tocsr()
    make(full).predict_to_zarr(tmp_path / "p.zarr", ["NEW+g1", "g1"], attention=True, progress_bar=False)
    found = ad.read_zarr(tmp_path / "p.zarr")
    assert np.isnan(found[:, "NEW"].layers["predicted_lfc"]).all()
    assert np.isfinite(found[:, "g0"].layers["predicted_lfc"]).all()
    assert np.isfinite(found.layers["attention"]).all()


def test_batches_are_predicted_one_at_a_time(trained):
    pairs = list(itertools.combinations(range(6), 2))
    found = trained.predictions(pairs, Wanted(std=False, attention=False), batch_size=4)
    rows, arrays = next(found)
    assert (rows.start, rows.stop) == (0, 4)
    assert set(arrays) == {"predicted_lfc"}
    assert sum(len(arrays["predicted_lfc"]) for _, arrays in found) == len(pairs) - 4


@pytest.mark.parametrize(
    "options", [{}, {"attention": False}, {"closed_form": False}, {"preset": "paper"}],
    ids=str,
)  # fmt: skip
def test_leaving_out_attention_and_std_changes_no_log_fold_change(effects, make, options):
    module = make(effects, max_epochs=1, **options).module
    asked = [(1, 3), (20,), (2,), (20, 21), (1, 2, 3)]
    everything = module.predict(asked)
    attends = options.get("attention", True)
    for std, attention in itertools.product([False, True], repeat=2):
        found = module.predict(asked, Wanted(std=std, attention=attention))
        np.testing.assert_allclose(found.lfc, everything.lfc, atol=1e-9)
        assert (found.std is not None, found.to_genes is not None) == (std, attention and attends)
        if std:
            np.testing.assert_allclose(found.std, everything.std, atol=1e-9)


def test_what_is_there_is_replaced_only_if_asked_and_only_if_it_is_zarr(trained, tmp_path):
    path = tmp_path / "p.zarr"
    trained.predict_to_zarr(path, ["g1+g2"], progress_bar=False)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        trained.predict_to_zarr(path, ["g1+g3"])
    assert ad.read_zarr(path).obs_names.tolist() == ["g1+g2"]
    trained.predict_to_zarr(path, ["g1+g3"], overwrite=True, progress_bar=False)
    assert ad.read_zarr(path).obs_names.tolist() == ["g1+g3"]
    notes = tmp_path / "notes"
    notes.mkdir()
    with pytest.raises(FileExistsError, match="no zarr store"):
        trained.predict_to_zarr(notes, ["g1+g3"], overwrite=True)
    assert listing(tmp_path) == ["notes", "p.zarr"]
    with pytest.raises(FileNotFoundError, match="nowhere"):
        trained.predict_to_zarr(tmp_path / "nowhere" / "p.zarr", ["g1+g3"])


def test_a_link_stays_and_what_it_points_at_is_replaced(trained, tmp_path):
    (tmp_path / "scratch").mkdir()
    link, place = tmp_path / "pairs.zarr", tmp_path / "scratch" / "pairs.zarr"
    link.symlink_to(place)
    for names in (["g1"], ["g1", "g2"]):
        trained.predict_to_zarr(link, names, overwrite=True, progress_bar=False)
        assert link.is_symlink() and list(ad.read_zarr(place).obs_names) == names
    assert listing(place.parent) == ["pairs.zarr"] and listing(tmp_path) == ["pairs.zarr", "scratch"]


@pytest.mark.parametrize("kind", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_nothing_half_written_and_the_old_file_as_it_was(
    trained, tmp_path, monkeypatch, small_chunks, kind
):
    path = tmp_path / "p.zarr"
    trained.predict_to_zarr(path, ["g1+g2"], progress_bar=False)
    fail_in_second_chunk(monkeypatch, OSError(kind, "No space left on device"))
    pairs = ["+".join(pair) for pair in itertools.combinations(["g1", "g2", "g3", "g4"], 2)]
    with pytest.raises(OSError, match=r"disk is full.*dtype='float16'"):
        trained.predict_to_zarr(path, pairs, overwrite=True, progress_bar=False)
    assert listing(tmp_path) == ["p.zarr"]
    assert ad.read_zarr(path).obs_names.tolist() == ["g1+g2"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.EIO, "broken"), RuntimeError("other")], ids=str)
def test_an_interruption_is_passed_on_and_leaves_nothing(trained, tmp_path, monkeypatch, small_chunks, error):
    fail_in_second_chunk(monkeypatch, error)
    pairs = ["+".join(pair) for pair in itertools.combinations(["g1", "g2", "g3", "g4"], 2)]
    with pytest.raises(type(error)) as raised:
        trained.predict_to_zarr(tmp_path / "p.zarr", pairs, progress_bar=False)
    assert raised.value is error
    assert listing(tmp_path) == []


def test_too_little_space_is_said_before_anything_is_computed(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(_streaming.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    with pytest.warns(UserWarning, match="are free there"):
        trained.predict_to_zarr(tmp_path / "p.zarr", ["g1+g2"], progress_bar=False)


@pytest.mark.parametrize(
    ("perturbations", "error", "match"),
    [
        ([], ValueError, "empty"),
        (["g1", "nothing+g1"], ValueError, "nothing"),
        (["g1", "g1"], ValueError, "more than once"),
        (["control"], ValueError, "control"),
        ("g1", TypeError, "list of labels"),
    ],
)
def test_labels_are_checked_before_anything_is_written(trained, tmp_path, perturbations, error, match):
    with pytest.raises(error, match=match):
        trained.predict_to_zarr(tmp_path / "p.zarr", perturbations)
    assert listing(tmp_path) == []


def test_an_unknown_type_is_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="float16"):
        trained.predict_to_zarr(tmp_path / "p.zarr", ["g1"], dtype="int8")
