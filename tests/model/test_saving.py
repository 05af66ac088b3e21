"""Models are written whole or not at all."""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch

import scapp
from scapp.model._saving import checksum


@pytest.fixture
def model(effects) -> scapp.model.APP:
    scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    model = scapp.model.APP(effects)
    model.train(max_epochs=0)
    return model


@contextmanager
def disk_of(n_bytes: int) -> Iterator[None]:
    """Files cannot grow beyond `n_bytes`: what is written then fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def predicted(model: scapp.model.APP) -> np.ndarray:
    return model.predict(["g1+g2"]).layers["predicted_lfc"]


@pytest.mark.parametrize("n_bytes", [0, 5_000, 20_000])
def test_a_full_disk_leaves_nothing_of_a_new_model_and_an_old_one_as_it_was(model, tmp_path, n_bytes):
    with disk_of(n_bytes), pytest.raises(OSError, match=r"could not be written.*disk is full.*Free some space"):
        model.save(tmp_path / "results" / "model")
    assert not list(tmp_path.iterdir())
    model.save(tmp_path / "model", save_anndata=True)
    before = contents(tmp_path)
    with disk_of(n_bytes), pytest.raises(OSError, match="disk is full"):
        model.save(tmp_path / "model", overwrite=True)
    assert contents(tmp_path) == before
    np.testing.assert_array_equal(predicted(scapp.model.APP.load(tmp_path / "model")), predicted(model))


def test_data_that_do_not_fit_leave_nothing(model, tmp_path, monkeypatch):
    def write(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ad.AnnData, "write", write)
    with pytest.raises(OSError, match="disk is full"):
        model.save(tmp_path / "model", save_anndata=True)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_there_is_written_only_when_asked(model, tmp_path):
    with pytest.raises(ValueError, match="exists already.*overwrite=True"):
        model.save(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    model.save(str(tmp_path), prefix="first_", overwrite=True)
    model.save(tmp_path, prefix="second_", overwrite=True)
    assert sorted(contents(tmp_path)) == ["first_model.pt", "notes.txt", "second_model.pt"]
    again = scapp.model.APP.load(str(tmp_path), prefix="second_", adata=model.adata)
    np.testing.assert_array_equal(predicted(again), predicted(model))


def test_backed_data_stay_in_their_own_file(effects, backed, tmp_path):
    scapp.model.APP.setup_anndata(backed, control=None, layer="lfc")
    model = scapp.model.APP(backed)
    model.train(max_epochs=0)
    model.save(tmp_path / "model", save_anndata=True)
    assert backed.filename == tmp_path / "mine.h5ad"
    np.testing.assert_array_equal(backed[:2].to_memory().X, effects.X[:2])


def test_a_model_without_data_cannot_save_them(model, tmp_path):
    model.save(tmp_path / "model")
    without = scapp.model.APP.load(tmp_path / "model")
    with pytest.raises(ValueError, match="without its data.*save_anndata=False"):
        without.save(tmp_path / "again", save_anndata=True)
    assert not (tmp_path / "again").exists()
    without.save(tmp_path / "again")
    np.testing.assert_array_equal(predicted(scapp.model.APP.load(tmp_path / "again")), predicted(model))


def test_a_new_model_of_the_data_that_a_saved_one_was_loaded_with_trains(effects, make, tmp_path):
    first = make(effects)
    first.save(tmp_path / "model")
    loaded = scapp.model.APP.load(tmp_path / "model", adata=effects)
    second = scapp.model.APP(effects)
    second.train(max_epochs=3, enable_progress_bar=False)
    names = ["g1+g3", "g20"]
    for model in (loaded, second):
        np.testing.assert_allclose(
            model.predict(names).layers["predicted_lfc"], first.predict(names).layers["predicted_lfc"], atol=1e-5
        )
    fewer = effects[:-3].copy()
    del fewer.uns["_scvi_uuid"], fewer.uns["_scvi_manager_uuid"]
    scapp.model.APP.load(tmp_path / "model", adata=fewer)
    with pytest.raises(RuntimeError, match="setup_anndata"):
        scapp.model.APP(fewer).train(max_epochs=1, enable_progress_bar=False)


def test_a_saved_model_holds_tensors_and_plain_values_only(model, tmp_path):
    model.train(max_epochs=1, enable_progress_bar=False)
    model.save(tmp_path / "model")
    content = torch.load(tmp_path / "model" / "model.pt", weights_only=True)
    assert content["scapp"]["version"] == scapp.__version__
    again = scapp.model.APP.load(tmp_path / "model")
    assert set(again.history) == set(model.history)
    for name, table in model.history.items():
        pd.testing.assert_frame_equal(again.history[name], table.astype(float), check_dtype=False, check_names=False)
    again.save(tmp_path / "again")
    np.testing.assert_array_equal(predicted(scapp.model.APP.load(tmp_path / "again")), predicted(model))


def test_no_code_of_a_crafted_file_is_run(model, tmp_path):
    class Code:
        def __reduce__(self):
            return Path.touch, (tmp_path / "was_run",)

    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.pt"
    content = torch.load(file, weights_only=True)
    content["attr_dict"]["init_params_"] = Code()
    torch.save(content, file)
    with pytest.raises(ValueError, match="Nothing of it was run"):
        scapp.model.APP.load(tmp_path / "model")
    assert not (tmp_path / "was_run").exists()


def test_a_damaged_file_is_refused_wherever_a_byte_changed(model, tmp_path):
    model.save(tmp_path / "model")
    expected = predicted(model)
    file = tmp_path / "model" / "model.pt"
    whole = file.read_bytes()
    n_refused = 0
    for place in np.random.default_rng(0).integers(0, len(whole), 60):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            again = scapp.model.APP.load(tmp_path / "model")
        except ValueError as error:
            assert "damaged" in str(error)
            n_refused += 1
        else:  # the byte was one of the padding between entries
            np.testing.assert_array_equal(predicted(again), expected)
    assert n_refused > 30
    for n in (0, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:n])
        with pytest.raises(ValueError, match="damaged"):
            scapp.model.APP.load(tmp_path / "model")


def test_a_tensor_of_more_values_than_the_file_holds_is_refused_before_it_fills_the_memory(model, tmp_path):
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.pt"
    content = torch.load(file, weights_only=True)
    content["model_state_dict"]["targets"] = torch.zeros(1).expand(10**7, 10**7)
    torch.save(content, file)
    with pytest.raises(ValueError, match="damaged"):
        scapp.model.APP.load(tmp_path / "model")


def test_weights_of_nan_and_later_formats_are_refused(model, tmp_path):
    model.save(tmp_path / "model")
    file = tmp_path / "model" / "model.pt"

    def change(spoil):
        content = torch.load(file, weights_only=True)
        del content["scapp"]["checksum"]
        spoil(content)
        torch.save({**content, "scapp": {**content["scapp"], "checksum": checksum(content)}}, file)

    change(lambda content: content["model_state_dict"]["targets"].fill_(np.nan))
    with pytest.raises(ValueError, match="targets.*hold NaN"):
        scapp.model.APP.load(tmp_path / "model")
    model.save(tmp_path / "model", overwrite=True)
    change(lambda content: content["scapp"].update(format=99, version="9.9"))
    with pytest.raises(ValueError, match="scapp 9.9.*Update scapp"):
        scapp.model.APP.load(tmp_path / "model")


def test_data_of_another_save_are_refused(model, effects, make, tmp_path):
    model.save(tmp_path / "one", save_anndata=True)
    other = effects.copy()
    other.layers["lfc"] *= 2
    make(other).save(tmp_path / "two", save_anndata=True)
    (tmp_path / "two" / "adata.h5ad").replace(tmp_path / "one" / "adata.h5ad")
    with pytest.raises(ValueError, match="was not saved with"):
        scapp.model.APP.load(tmp_path / "one")
    assert scapp.model.APP.load(tmp_path / "one", adata=False).adata is None


def test_leftovers_of_a_killed_save_are_removed_by_the_next(model, tmp_path):
    for left in (tmp_path / ".model.0123abcd.partial", tmp_path / ".other.0123abcd.partial"):
        left.mkdir()
        (left / "model.pt").write_bytes(b"half")
    model.save(tmp_path / "model")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".other.0123abcd.partial", "model"]


def test_the_path_of_data_is_named_with_who_reads_it(model, tmp_path):
    model.save(tmp_path / "model")
    with pytest.raises(TypeError, match=r"found the path 'screen.h5ad'.*anndata\.read_h5ad\('screen.h5ad'\)"):
        scapp.model.APP.load(tmp_path / "model", adata="screen.h5ad")


def test_labels_joined_otherwise_or_in_a_table_are_named_with_the_mend(model):
    one, other = model.genes[:2]
    with pytest.raises(ValueError, match=rf"did you mean '{one}\+{other}'"):
        model.predict([f"{one}_{other}"])
    with pytest.raises(TypeError, match=r"found a DataFrame.*list\(table"):
        model.predict(pd.DataFrame({"perturbation": [one]}))
