"""No tensor is left on the processor when the model is elsewhere.

The "meta" device stands for a graphics card: it has shapes and no values, and refuses to work with tensors of another device.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from scapp.module import APPModule


def to_meta(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.to("meta")
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(to_meta, value))
    if isinstance(value, list | tuple):
        return type(value)(map(to_meta, value))
    return value


@pytest.fixture
def elsewhere(each_form) -> APPModule:
    """A module that looked at its perturbations on the processor, and was then moved with what it saw."""
    module = each_form
    for name in ("_main_seen", "_main_counts", "_interaction_seen", "_anchored"):
        if name in module.__dict__:
            setattr(module, name, to_meta(getattr(module, name)))
    return module.to("meta")


def test_the_loss_and_its_gradient_stay_on_the_device(elsewhere, rows):
    loss = elsewhere.loss(rows, {}, {}).loss
    loss.backward()
    gradients = [p.grad for p in elsewhere.parameters() if p.grad is not None]
    assert loss.device.type == "meta"
    assert gradients and all(g.device.type == "meta" for g in gradients)


def test_the_last_fit_of_the_closed_form_stays_on_the_device(new_module):
    module = new_module()
    module._main_seen = to_meta(module._main_seen)
    module.to("meta")
    module._solve_main()
    assert all(member.decoder.coefficients.device.type == "meta" for member in module.main)


def test_predicted_effects_and_their_distances_stay_on_the_device(elsewhere):
    member = elsewhere.main[0]
    states, attention = member.states(elsewhere.features, elsewhere.graphs, *elsewhere._main_seen)
    found = [attention, member.decoder(states, None), member.decoder.distance(states, None)]
    assert {tensor.device.type for tensor in found} == {"meta"}


def test_members_start_from_numbers_that_do_not_depend_on_the_device(new_module, monkeypatch):
    drawn = []
    monkeypatch.setattr(torch, "randn_like", lambda *a, **k: pytest.fail("drawn on the device of the model"))
    randn = torch.randn

    def noted(*sizes, **options):
        drawn.append(options.get("device"))
        return randn(*sizes, **options)

    monkeypatch.setattr(torch, "randn", noted)
    module = new_module()
    module.main[0].start(module.features, module.graphs, torch.arange(20))
    assert drawn and set(drawn) == {None}
