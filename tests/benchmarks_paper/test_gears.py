"""The hand-over to GEARS and back, with a package of GEARS' interface that predicts sums of mean effects.

GEARS itself needs pandas < 2 and numpy < 2, and so cannot be installed beside what is tested here. The interface is that
of cell-gears 0.1.2, with which the hand-over was run by hand; what GEARS insists on is checked by the stand-in.
"""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import stat
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from benchmarks.paper import gears
from benchmarks.paper.gears import _cells_for_gears, gears_method, run_gears, write_gears_script
from scipy import sparse

import scapp
from scapp import baselines, benchmark
from scapp.expression import Expression

FAKE_GEARS = """
import os, pickle, sys
import anndata, numpy as np
from scipy import sparse

class PertData:
    def __init__(self, data_path, gene_set_path=None, default_pert_graph=True):
        self.data_path = data_path
        with open(os.path.join(data_path, "gene2go_all.pkl"), "rb") as file:
            known = pickle.load(file)
        assert default_pert_graph is (gene_set_path is None)
        if gene_set_path:
            with open(gene_set_path, "rb") as file:
                known = [gene for gene in pickle.load(file) if gene in known]
        self.pert_names = np.unique(list(known))

    def new_data_process(self, dataset_name, adata=None, skip_calc_de=False):
        assert dataset_name == dataset_name.lower()
        assert sparse.issparse(adata.X) and adata.X.format == "csr"
        assert {"condition", "cell_type"} <= set(adata.obs) and "gene_name" in adata.var
        assert all(c == "ctrl" or len(c.split("+")) == 2 for c in adata.obs["condition"])
        assert adata.obs["condition"].value_counts().min() > 1
        os.mkdir(os.path.join(self.data_path, dataset_name))
        adata.write_h5ad(os.path.join(self.data_path, dataset_name, "perturb_processed.h5ad"))

    def load(self, data_name=None, data_path=None):
        adata = anndata.read_h5ad(os.path.join(data_path, "perturb_processed.h5ad"))
        known = {*self.pert_names, "ctrl"}
        self.adata = adata[[known.issuperset(c.split("+")) for c in adata.obs["condition"]]].copy()

    def prepare_split(self, split="simulation", seed=1, split_dict_path=None):
        assert split == "custom"
        with open(split_dict_path, "rb") as file:
            self.set2conditions = pickle.load(file)

    def get_dataloader(self, batch_size, test_batch_size=None):
        there = set(self.adata.obs["condition"])
        for part in ("train", "val", "test"):
            assert there.issuperset(self.set2conditions[part])
        assert "ctrl" in self.set2conditions["train"] and self.set2conditions["val"]
        self.dataloader = {"train_loader": 1, "val_loader": 2, "test_loader": 3}

class GEARS:
    def __init__(self, pert_data, device="cuda"):
        assert device == "cpu" and "test_loader" not in pert_data.dataloader
        self.data, self.pert_list = pert_data, pert_data.pert_names.tolist()

    def model_initialize(self, hidden_size=64):
        self.hidden_size = hidden_size

    def train(self, epochs=20, lr=1e-3):
        for epoch in range(epochs):
            print("Epoch %d, hidden %d" % (epoch + 1, self.hidden_size), file=sys.stderr)
        sys.stderr.write("10%|#    |\\r100%|#####|\\n")
        obs, X = self.data.adata.obs, self.data.adata.X
        self.mean = {c: np.asarray(X[(obs["condition"] == c).to_numpy()].mean(axis=0)).ravel() for c in set(obs["condition"])}

    def predict(self, pert_list):
        control = self.mean["ctrl"]
        out = {}
        for genes in pert_list:
            assert set(genes) <= set(self.pert_list)
            effects = [self.mean[g + "+ctrl"] - control for g in genes if g + "+ctrl" in self.mean]
            out["_".join(genes)] = control + np.sum(effects, axis=0)
        return out
"""


@pytest.fixture(scope="module")
def environments(tmp_path_factory) -> dict[str, Path]:
    """Pythons of two other environments: one that has the stand-in, anndata and numpy, and one that has nothing."""
    root = tmp_path_factory.mktemp("environments")
    pythons = {}
    for name in ("gears", "bare"):
        venv.EnvBuilder(symlinks=True).create(root / name)
        pythons[name] = root / name / "bin" / "python"
    packages = next((root / "gears").glob("lib/python*/site-packages"))
    (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "gears.py").write_text(FAKE_GEARS)
    return pythons


@pytest.fixture(scope="module")
def screen() -> ad.AnnData:
    """Counts of five singles and two doubles over 30 genes, with a gene that was not measured."""
    rng = np.random.default_rng(0)
    genes = [f"G{i}" for i in range(30)]
    base = rng.uniform(1, 5, 30)
    effects = {gene: np.exp(rng.normal(0, 0.5, 30)) for gene in genes[:5]}
    labels, counts = [], []
    for label in ["control", *genes[:5], "G0+G1", "G2+G1"]:
        rate = base * np.prod(
            [effects[gene] for gene in label.split("+") if gene != "control"] or [np.ones(30)], axis=0
        )
        labels += [label] * 30
        counts.append(rng.poisson(rate, (30, 30)))
    adata = ad.AnnData(
        sparse.csr_matrix(np.vstack(counts).astype(np.float32)),
        obs=pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(len(labels))]),
        var=pd.DataFrame({"measured": [True] * 29 + [False]}, index=genes),
    )
    return adata[np.random.default_rng(1).permutation(adata.n_obs)].copy()


SPLIT = {"train": ["G0", "G1", "G2", "G3", "G4"], "test": ["G2+G1", "G0+G1"]}


@pytest.fixture
def gears_data(tmp_path) -> Path:
    folder = tmp_path / "gears_data"
    folder.mkdir()
    (folder / "gene2go_all.pkl").write_bytes(pickle.dumps({f"G{i}": {"GO:1"} for i in range(30) if i != 4}))
    return folder


@pytest.fixture
def call(environments, gears_data, tmp_path):
    def run(cells, split=SPLIT, **options):
        options = {"python": environments["gears"], "gears_data": gears_data, "folder": tmp_path / "work"} | options
        return run_gears(cells, split, epochs=2, **options)

    return run


def test_predictions_come_back_in_order_and_on_the_scale_of_pseudobulk(call, screen, tmp_path, caplog):
    found = call(screen, default_pert_graph=False)
    effects = scapp.pp.pseudobulk(screen).to_df("lfc").iloc[:, :29]
    assert list(found.obs["perturbation"]) == SPLIT["test"]
    assert list(found.var_names) == list(effects.columns)
    expected = effects.loc[["G2", "G0"]].to_numpy() + effects.loc["G1"].to_numpy()
    np.testing.assert_allclose(found.layers["predicted_lfc"], expected, atol=1e-5)
    assert not found.obs["uninformed"].any()
    assert found.uns["gears"]["left_out_of_training"] == ["G4+ctrl"]
    assert "GEARS' graph lacks 1 training perturbation(s), which it did not use: G4+ctrl." in caplog.text
    assert "GEARS: Epoch 2, hidden 64" in caplog.text
    assert "10%" not in caplog.text
    assert "GEARS: 100%|#####|" in caplog.text

    handed = ad.read_h5ad(tmp_path / "work" / "cells.h5ad")
    assert set(handed.obs["condition"]) == {"ctrl", *(f"G{i}+ctrl" for i in range(5))}  # no held-out cell
    assert handed.shape == (180, 29)
    task = json.loads((tmp_path / "work" / "split.json").read_text())
    assert task["test"] == [["G1", "G2"], ["G0", "G1"]]
    assert sorted(task["train"] + task["val"]) == ["G0+ctrl", "G1+ctrl", "G2+ctrl", "G3+ctrl", "G4+ctrl", "ctrl"]
    assert len(task["val"]) == 1
    assert set(task["graph_genes"]) == {*handed.var_names, *SPLIT["train"]}


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
@pytest.mark.parametrize("chunk_size", [None, 7])
def test_cells_that_are_handed_over_are_the_same_in_every_layout(screen, layout, chunk_size):
    cells = screen.copy()
    cells.X = cells.X.toarray() if layout == "dense" else cells.X.asformat(layout)
    perturbations = [
        () if label == "control" else tuple(sorted(label.split("+"))) for label in cells.obs["perturbation"]
    ]
    handed = _cells_for_gears(cells, Expression(cells, chunk_size=chunk_size), perturbations, {("G0",), ("G3",)})
    kept = screen[screen.obs["perturbation"].isin(["control", "G0", "G3"]), :29]
    counts = kept.X.toarray()
    expected = np.log1p(counts * (1e4 / counts.sum(1, keepdims=True)))
    np.testing.assert_allclose(handed.X.toarray(), expected, rtol=1e-5)
    assert handed.X.format == "csr"
    labels = kept.obs["perturbation"].replace({"control": "ctrl", "G0": "G0+ctrl", "G3": "G3+ctrl"})
    assert handed.obs["condition"].tolist() == labels.tolist()


def test_genes_outside_of_the_graph_are_named_or_flagged(call, screen):
    split = {"train": ["G0", "G1", "G2"], "test": ["G4", "G0+G1", "G3+G4"]}
    with pytest.raises(ValueError, match=r"lacks genes of 2 of the 3 held-out.*G3\+G4, G4.*not_in_graph='no change'"):
        call(screen, split)
    # In the same folder again, on log-normalised values: nothing of the run before is in the way.
    counts = screen.X.toarray()[:, :29]
    logged = ad.AnnData(
        np.log1p(counts * (1e4 / counts.sum(1, keepdims=True))).astype(np.float32), screen.obs, screen.var[:29]
    )
    found = call(logged, split, not_in_graph="no change")
    assert found.obs["uninformed"].tolist() == [True, False, True]
    effects = scapp.pp.pseudobulk(screen).to_df("lfc").iloc[:, :29]
    expected = np.zeros((3, 29))
    expected[1] = effects.loc["G0"] + effects.loc["G1"]
    np.testing.assert_allclose(found.layers["predicted_lfc"], expected, atol=1e-5)


def test_cells_are_read_from_a_file(screen, tmp_path):
    screen.write_h5ad(tmp_path / "cells.h5ad")
    python = script(tmp_path / "python", "ls; exit 1")
    with pytest.raises(RuntimeError, match=r"cells\.h5ad"):
        run_gears(tmp_path / "cells.h5ad", SPLIT, python=python)


def test_environment_without_gears_says_what_to_install(call, screen, environments):
    python = environments["bare"]
    with pytest.raises(
        ModuleNotFoundError, match=f"(?s)cannot be imported by {re.escape(str(python))}.*install cell-gears"
    ):
        call(screen, python=python)


def test_packages_of_this_environment_do_not_reach_the_other(call, screen, environments, tmp_path, monkeypatch):
    (tmp_path / "gears.py").write_text(FAKE_GEARS)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), sysconfig.get_path("purelib")]))
    with pytest.raises(ModuleNotFoundError):
        call(screen, python=environments["bare"])


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_failure_shows_the_end_of_the_log(call, screen, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    python = script(tmp_path / "python", "echo first; echo CUDA out of memory; exit 1")
    with pytest.raises(RuntimeError, match="(?s)status 1.*first\nCUDA out of memory"):
        call(screen, python=python)
    assert "GEARS: CUDA out of memory" in caplog.text
    assert "out of memory" in (tmp_path / "work" / "gears.log").read_text()


def test_gears_that_takes_too_long_is_stopped(call, screen, tmp_path):
    with pytest.raises(RuntimeError, match=r"stopped after 0\.3 s"):
        call(screen, python=script(tmp_path / "python", "exec sleep 60"), timeout=0.3)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ({"train": ["G0"]}, "keys 'train' and 'test', found 'train'"),
        ({"train": ["G0", "G1"], "test": ["G0"]}, "to be trained on and held out: G0"),
        ({"train": ["G0", "G0"], "test": ["G1"]}, r"split\['train'\].*2 labels of 1 perturbations"),
        ({"train": ["G0"], "test": []}, r"split\['test'\].*0 labels"),
        ({"train": ["G0"], "test": ["G1+G2+G3"]}, r"one or two genes, not G1\+G2\+G3"),
        ({"train": ["G0", "G9"], "test": ["G1"]}, "1 training perturbation.* fewer than 2 cells: G9"),
        ({"train": ["G0"], "test": ["Gctrl1"]}, "control label: Gctrl1"),
    ],
)
def test_split_that_cannot_be_used_is_refused_before_anything_runs(call, screen, split, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        call(screen, split)
    assert not (tmp_path / "work").exists()


def test_other_arguments_are_checked(call, screen, tmp_path):
    with pytest.raises(ValueError, match="no program 'nowhere/python'"):
        call(screen, python="nowhere/python")
    with pytest.raises(ValueError, match="not_in_graph must be"):
        call(screen, not_in_graph="mean")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="none of GEARS' files: gene2go_all.pkl"):
        call(screen, gears_data=tmp_path / "empty")


def test_written_script_stands_alone(tmp_path):
    path = write_gears_script(tmp_path / "gears_script.py")
    assert "scapp" not in {
        line.split()[1] for line in path.read_text().splitlines() if re.match(r"(from|import) ", line)
    }
    compile(path.read_text(), str(path), "exec")
    imported = set(re.findall(r"^\s*(?:import|from) (\w+)", path.read_text(), re.MULTILINE))
    assert imported - set(sys.stdlib_module_names) == {"anndata", "numpy", "gears"}


def test_gears_is_given_the_cells_of_the_task_and_labels_that_it_reads(simulated, tmp_path, monkeypatch):
    cells = simulated[0].copy()
    cells.obs["perturbation"] = cells.obs["perturbation"].astype(str).str.replace("+", "_")
    cells.write_h5ad(tmp_path / "cells.h5ad")
    tasks = benchmark.screen("mine", tmp_path / "cells.h5ad", n_splits=1, max_genes=30)
    method = gears_method({"mine": tmp_path / "cells.h5ad"}, python="python-with-gears", epochs=3)
    assert [method.applies(task) for task in tasks] == [True, True, True, False]
    given: dict[str, Any] = {}

    def instead(cells, split, **options):
        given.update(options, cells=cells, split=split)
        return baselines.NoChange().fit(tasks[0].training(tasks[0].splits[0])).predict(split["test"])

    monkeypatch.setattr(gears, "run_gears", instead)
    split = tasks[0].splits[0]
    predicted = method.predict(tasks[0], split)
    assert predicted.lfc.shape == (len(split.test), len(tasks[0].scored)) and predicted.fit_seconds > 0
    assert given["split"] == {"train": split.train, "test": split.test}
    assert (given["epochs"], given["seed"], given["python"]) == (3, 0, "python-with-gears")
    # Counts of few genes are normalised by those of all.
    assert given["cells"].n_vars == tasks[0].effects.n_vars < 100
    np.testing.assert_allclose(given["cells"].obs[given["total_counts_key"]], np.asarray(cells.X.sum(axis=1)).ravel())
    with pytest.raises(FileNotFoundError, match="no.h5ad"):
        gears_method({"mine": tmp_path / "no.h5ad"}, python="python")
