"""A regression test for each trap of scvi-tools that cost somebody a failing test; see the developers' notes.

Trap 1, evaluation mode at a second training, is in test_app.py; traps 10 and 11, MuData wrappers, are in test_mudata.py. Traps
2 to 6, validation and splits, and 9, samplers, have nothing here that could fall into them: nothing is held out.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from scvi.train import TrainingPlan

import scapp
from scapp.model import APP
from scapp.model._training import PaperPlan


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


def test_13_only_the_model_loads_torch_and_scvi():
    modules = ["scapp", "scapp.pp", "scapp.pl", "scapp.datasets", "scapp.metrics", "scapp.baselines"]
    each = "".join(
        f"import {name}; print({name!r}, *{{'torch', 'scvi', 'scanpy'}} & set(sys.modules))\n" for name in modules
    )
    done = subprocess.run([sys.executable, "-c", f"import sys\n{each}"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == modules


def test_14_what_setup_writes_can_be_saved(effects, tmp_path):
    before = set(effects.uns)
    APP.setup_anndata(effects, control=None, layer="lfc")
    assert set(effects.uns) - before == {"_scvi_uuid", "_scvi_manager_uuid"}
    assert not list(effects.obsm)
    effects.write_h5ad(tmp_path / "a.h5ad")


def test_adams_epsilon_is_not_the_large_one_of_scvi(trained):
    plan = PaperPlan(trained.module)
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
