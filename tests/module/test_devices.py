"""No tensor is left on the processor when the model is elsewhere.

The "meta" device stands for a graphics card: it has shapes and no values, and refuses to work with tensors of another device.
"""

from __future__ import annotations

from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scvi
import torch

import scapp
from scapp.module import APPModule
from scapp.module._predictor import Architecture

N_NODES, N_GENES, N_FIT = 30, 25, 25
SINGLES = [(i,) for i in range(20)]
COMBINATIONS = [(i, i + 1) for i in range(8)] + [(3, 25), (4, 26)]
FORMS = {
    "default": Architecture(),
    "linear": Architecture(decoder="linear"),
    "mlp": Architecture(decoder="mlp"),
    "free head": Architecture(n_free_heads=1),
    "mean pooling": Architecture(pooling="mean"),
    "sum, two layers": Architecture(aggregation="sum", n_layers=2),
    "paper": Architecture(closed_form=False, priors=False, n_free_heads=1, decoder="linear", activation="relu"),
}


def module_of(architecture: Architecture, anchor: bool) -> APPModule:
    torch.manual_seed(0)
    module = APPModule(
        perturbations=[*SINGLES, *COMBINATIONS],
        n_genes=N_GENES,
        graphs=[(torch.randint(N_NODES, (2, 100)), torch.rand(100))],
        features=torch.randn(N_NODES, 12),
        block_sizes=[8, 4],
        n_models=2,
        anchor=anchor,
        architecture=architecture,
    )
    module.targets.normal_()
    module.prepare(range(N_FIT))
    return module


def to_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(to_meta, value))
    if isinstance(value, list | tuple):
        return type(value)(map(to_meta, value))
    return value


@pytest.fixture(params=list(FORMS))
def elsewhere(request: pytest.FixtureRequest) -> APPModule:
    """A module that looked at its perturbations on the processor, and was then moved with what it saw."""
    module = module_of(FORMS[request.param], anchor=request.param != "paper")
    for name in ("_main_seen", "_main_counts", "_interaction_seen", "_anchored"):
        if name in module.__dict__:
            setattr(module, name, to_meta(getattr(module, name)))
    return module.to("meta")


def test_a_training_step_and_its_gradient_stay_on_the_device(elsewhere):
    loss = elsewhere.loss({"fit": torch.arange(N_FIT)}, {}, {}).loss
    loss.backward()
    gradients = [p.grad for p in elsewhere.parameters() if p.grad is not None]
    assert loss.device.type == "meta"
    assert gradients and all(g.device.type == "meta" for g in gradients)


def test_validation_stays_on_the_device(elsewhere):
    rows = {"fit": torch.arange(N_FIT), "held_out": torch.arange(N_FIT, 30)}
    assert elsewhere.loss(rows, {}, {}).loss.device.type == "meta"


def test_the_last_fit_of_the_closed_form_stays_on_the_device():
    module = module_of(Architecture(), anchor=True)
    module._main_seen = to_meta(module._main_seen)
    module.to("meta")
    module._solve_main()
    assert all(member.decoder.coefficients.device.type == "meta" for member in module.main)


def test_predicted_effects_and_their_distances_stay_on_the_device(elsewhere):
    member = elsewhere.main[0]
    states, attention = member.states(elsewhere.features, elsewhere.graphs, *elsewhere._main_seen)
    found = [attention, member.decoder(states, None), member.decoder.distance(states, None)]
    assert {tensor.device.type for tensor in found} == {"meta"}


def test_members_start_from_numbers_that_do_not_depend_on_the_device(monkeypatch):
    drawn = []
    monkeypatch.setattr(torch, "randn_like", lambda *a, **k: pytest.fail("drawn on the device of the model"))
    randn = torch.randn

    def noted(*sizes, **options):
        drawn.append(options.get("device"))
        return randn(*sizes, **options)

    monkeypatch.setattr(torch, "randn", noted)
    module = module_of(Architecture(), anchor=True)
    module.main[0].start(module.features, module.graphs, torch.arange(20))
    assert drawn and set(drawn) == {None}


def effects() -> ad.AnnData:
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(60)]
    labels = [*genes[:40], *(f"g{i}+g{i + 1}" for i in range(20))]
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=genes),
        layers={"lfc": rng.normal(size=(len(labels), 60)).astype(np.float32)},
    )
    adata.varp["network"] = (rng.random((60, 60)) < 0.1).astype(np.float32)
    return adata


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA graphics card, and there is none here")
def test_a_graphics_card_gives_the_numbers_of_the_processor():
    found = {}
    for accelerator in ("cpu", "gpu"):
        adata = effects()
        scvi.settings.seed = 0
        scapp.model.APP.setup_anndata(adata, control=None, layer="lfc")
        model = scapp.model.APP(adata)
        model.train(accelerator=accelerator, devices=1, enable_progress_bar=False)
        found[accelerator] = model.predict(["g3+g50", "g45", "g1+g2"]).layers["predicted_lfc"]
    np.testing.assert_allclose(found["gpu"], found["cpu"], atol=1e-4)


@pytest.mark.parametrize("devices", [2, [0, 1], "2", "0,1", -1], ids=repr)
def test_several_devices_are_refused_before_training(devices):
    adata = effects()
    scapp.model.APP.setup_anndata(adata, control=None, layer="lfc")
    model = scapp.model.APP(adata, n_models=1)
    with pytest.raises(ValueError, match=r"one device.*devices=1"):
        model.train(devices=devices)
    assert not model.is_trained_
