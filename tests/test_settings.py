"""How much scapp says, in a process of its own as a user starts it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import scapp

RUN = """
import tempfile
import scapp
{first}
cells, truth = scapp.datasets.simulated_perturb_seq(
    n_genes=120, n_regulators=24, n_singles=20, n_doubles=8, n_cells_per_perturbation=12, n_control_cells=100)
effects = scapp.pp.pseudobulk(cells)
scapp.pp.add_network(effects, truth.network)
scapp.model.APP.setup_anndata(effects)
model = scapp.model.APP(effects)
model.train(max_epochs=2)
model.predict(["G001"])
model.predict()
with tempfile.TemporaryDirectory() as folder:
    model.save(folder + "/model")
    scapp.model.APP.load(folder + "/model")
"""


def said(first: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", RUN.format(first=first)], capture_output=True, text=True, check=True, timeout=300
    )
    return done.stdout + done.stderr


def test_a_normal_run_says_what_was_read_and_shows_one_progress_bar():
    text = said("")
    assert "raw counts" in text and "edges" in text and "Epoch 2/2" in text
    for chatter in ("GPU", "TPU", "litlogger", "Trainer.fit", "Warning", "self-loops: 0", "downloaded"):
        assert chatter not in text


@pytest.mark.parametrize(
    "first", ["scapp.settings.verbosity = 'error'", "import scvi, logging; scvi.settings.verbosity = logging.ERROR"]
)
def test_at_the_level_of_errors_nothing_is_said(first):
    assert said(first).strip() == ""


def test_unknown_levels_are_refused():
    before = scapp.settings.verbosity
    with pytest.raises(ValueError, match="verbosity must be a level"):
        scapp.settings.verbosity = "loud"
    assert scapp.settings.verbosity == before
    assert "INFO" in repr(scapp.settings) or before != 20
