"""A regression test for each trap of scvi-tools that cost somebody a failing test; see the developers' notes.

Trap 1, evaluation mode at a second training, is in test_app.py; traps 10 and 11, MuData wrappers, are in test_mudata.py. Trap
9 (samplers with an extra axis) has nothing here that could fall into it: the splitter hands over one batch.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scvi.train import TrainingPlan

import scapp
from scapp.data import PerturbationSplitter
from scapp.model import APP
from scapp.model._plan import PerturbationTrainingPlan


def test_2_validation_runs_at_every_epoch_also_without_early_stopping(effects, make):
    model = make(effects, max_epochs=0)
    model.train(max_epochs=3, early_stopping=False, enable_progress_bar=False)
    assert len(model.history["validation_loss"]) == 3


def test_2_a_second_training_adds_its_losses_to_the_history(effects, make):
    model = make(effects)
    model.train(max_epochs=2, enable_progress_bar=False)
    assert len(model.history["validation_loss"]) == len(model.history["train_loss"]) == 3 + 2


def test_3_early_stopping_watches_the_validation_loss(effects, make):
    model = make(effects, max_epochs=0)
    model.train(
        max_epochs=100, early_stopping_patience=1, plan_kwargs={"lr": 1.0, "lr_scalars": 1.0}, enable_progress_bar=False
    )
    assert len(model.history["train_loss"]) < 100
    assert model.trainer.early_stopping_callback.monitor == "validation_loss"


def test_4_too_few_perturbations_to_hold_any_out_train_without_validation(effects):
    few = effects[["g0", "g1", "g2", "g3"]].copy()
    APP.setup_anndata(few, control=None, layer="lfc")
    model = APP(few, n_models=1, n_hidden=4)
    with pytest.warns(UserWarning, match="too few to hold out"):
        model.train(max_epochs=2, enable_progress_bar=False)
    assert "validation_loss" not in model.history
    assert np.isfinite(model.predict(["g20"]).layers["predicted_lfc"]).all()


def test_5_controls_are_in_no_split(simulated, make):
    cells = simulated[0].copy()
    model = make(cells, max_epochs=1, setup={"control": "control", "layer": None})
    n = len(model.train_indices) + len(model.validation_indices)
    assert n == len(set(cells.obs["perturbation"]) - {"control"})


@pytest.mark.parametrize("n", [10, 11, 29, 100])
def test_6_the_sizes_of_the_split_are_those_asked(n):
    splitter = PerturbationSplitter([1] * n + [2] * n, validation_size=0.2)
    assert splitter.n_val == 2 * round(0.2 * n)
    assert splitter.n_train + splitter.n_val == 2 * n
    assert not set(splitter.train_idx) & set(splitter.val_idx)


def test_7_perturbations_unseen_at_training_are_predicted_in_another_anndata(trained, effects):
    other = effects[:2].copy()
    other.obs["perturbation"] = ["g25", "g25+g26"]
    del other.varp["network"]
    trained.predict(adata=other)
    assert np.isfinite(other.layers["predicted_lfc"]).all()


def test_8_and_10_nothing_of_the_genes_is_registered_for_loading_by_observation(effects):
    effects.varm["go"] = np.ones((40, 2), dtype=np.float32)
    APP.setup_anndata(effects, control=None, layer="lfc", gene_features_key="go")
    manager = APP._get_most_recent_anndata_manager(effects)
    assert not dict(manager.data_registry)


def test_12_the_registry_can_be_shown(trained):
    trained.view_anndata_setup(hide_state_registries=True)


@pytest.mark.parametrize(
    "module", ["scapp", "scapp.pp", "scapp.pl", "scapp.datasets", "scapp.metrics", "scapp.baselines"]
)
def test_13_only_the_model_loads_torch_and_scvi(module):
    code = f"import sys, {module}; sys.exit(bool({{'torch', 'scvi', 'scanpy'}} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_14_what_setup_writes_can_be_saved(effects, tmp_path):
    before = set(effects.uns)
    APP.setup_anndata(effects, control=None, layer="lfc")
    assert set(effects.uns) - before == {"_scvi_uuid", "_scvi_manager_uuid"}
    assert not list(effects.obsm)
    effects.write_h5ad(tmp_path / "a.h5ad")


def test_adams_epsilon_is_not_the_large_one_of_scvi(trained):
    plan = PerturbationTrainingPlan(trained.module)
    assert plan.configure_optimizers().defaults["eps"] == 1e-8 < TrainingPlan(trained.module).eps


def test_two_setups_of_one_session_do_not_share_anything(effects, make):
    small = effects[:, :30].copy()
    first, second = make(effects), make(small)
    assert (len(first.genes), len(second.genes)) == (40, 30)
    assert first.predict(["g1"]).n_vars == 40


def test_a_changed_copy_of_the_data_gets_predictions_of_its_own(effects, make):
    model = make(effects)
    copy = effects.copy()
    model.predict(adata=copy)
    assert "predicted_lfc" in copy.layers
    assert "predicted_lfc" not in effects.layers


def test_docstrings_show_no_raw_placeholders():
    public = [APP, *(getattr(APP, name) for name in dir(APP) if not name.startswith("_"))]
    own = [f for f in public if getattr(f, "__module__", "").startswith("scapp")]
    assert own
    assert not [f for f in own if "%(" in (f.__doc__ or "")]
    assert scapp.model.APP is APP
