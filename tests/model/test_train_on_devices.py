"""Two processes give the numbers of one, whichever way Lightning starts them, and a graphics card those of the processor."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import anndata as ad
import numpy as np
import pytest
import scvi
import torch

import scapp
from scapp.model._devices import check_processes

# Lightning runs a script again for each process, and copies a notebook; "spawn" is for systems that cannot copy.
RUNS = {
    "one": ["cpu", "1"],
    "script": ["cpu", "2"],
    "notebook": ["cpu", "2", "ddp_notebook"],
    "spawn": ["cpu", "2", "ddp_spawn"],
}
if torch.cuda.is_available():
    RUNS["card"] = ["gpu", "1"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, np.ndarray]]:
    """Predictions and validation losses of each run; all at the same time, because they begin with slow imports."""
    script, folders = Path(__file__).with_name("train_on_devices.py"), {}
    processes = {}
    for name, arguments in RUNS.items():
        folders[name] = tmp_path_factory.mktemp(name)
        processes[name] = subprocess.Popen(
            [sys.executable, script, "found.npz", *arguments],
            cwd=folders[name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    for process in processes.values():
        output, _ = process.communicate(timeout=400)
        assert process.returncode == 0, output
    assert all([path.name for path in folder.iterdir()] == ["found.npz"] for folder in folders.values())
    return {name: dict(np.load(folder / "found.npz")) for name, folder in folders.items()}


@pytest.mark.parametrize("run", ["script", "notebook", "spawn"])
def test_two_devices_give_the_numbers_of_one(run, found):
    one = found["one"]
    assert len(one["validation_loss"]) > 3
    for name, values in found[run].items():
        np.testing.assert_allclose(values, one[name], atol=1e-5)


@pytest.mark.skipif("card" not in RUNS, reason="needs an NVIDIA graphics card, and there is none here")
def test_a_graphics_card_gives_the_numbers_of_the_processor(found):
    for name, values in found["card"].items():
        np.testing.assert_allclose(values, found["one"][name], atol=1e-4)


@pytest.fixture
def untrained() -> scapp.model.APP:
    genes = [f"g{i}" for i in range(20)]
    effects = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    adata = ad.AnnData(effects, obs={"perturbation": genes}, layers={"lfc": effects})
    adata.var_names = genes
    adata.varp["network"] = np.eye(20, k=1, dtype=np.float32)
    scapp.model.APP.setup_anndata(adata, control=None, layer="lfc")
    return scapp.model.APP(adata, n_models=2)


def test_more_devices_than_networks_are_refused_before_training(untrained):
    scvi.settings.seed = 0
    with pytest.raises(ValueError, match=r"3 devices for 2 networks.*devices=2 at most"):
        untrained.train(accelerator="cpu", devices=3)
    assert not untrained.is_trained_


def test_several_devices_need_a_seed(untrained, monkeypatch):
    monkeypatch.setattr(scvi.settings, "_seed", None)
    with pytest.raises(ValueError, match=r"scvi\.settings\.seed = 0"):
        untrained.train(accelerator="cpu", devices=2)
    assert not untrained.is_trained_


def test_a_strategy_that_splits_the_model_is_refused():
    trainer = SimpleNamespace(world_size=2, strategy=object())
    with pytest.raises(ValueError, match=r'strategy: object does not .*strategy="ddp"'):
        check_processes(trainer, n_members=4)
