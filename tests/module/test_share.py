"""Processes that share the members of the ensemble find, in the mean, the loss and the gradient of one that has all."""

from __future__ import annotations

import pytest
import torch

from scapp.module import APPModule
from scapp.module._share import Share


def loss_and_gradients(
    module: APPModule, rows: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    module.zero_grad(set_to_none=True)
    for member in [*module.main, *module.interaction]:
        member.decoder.weight = None  # a step leaves behind how much each row counts
    found = module.loss(rows, {}, {})
    found.loss.backward()
    return found.loss.detach(), {
        n: p.grad for n, p in module.named_parameters() if p.requires_grad and p.grad is not None
    }


@pytest.mark.parametrize("n_processes", [2, 3])
def test_the_mean_over_processes_is_what_one_process_finds(each_form, n_processes, rows):
    module = each_form
    loss, gradients = loss_and_gradients(module, rows)
    losses, shared = [], []
    for rank in range(n_processes):
        module.share = Share(rank, n_processes)
        found = loss_and_gradients(module, rows)
        losses.append(found[0])
        shared.append(found[1])
    torch.testing.assert_close(torch.stack(losses).mean(), loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(torch.stack([g[name] for g in shared]).mean(0), gradient)


def test_every_process_has_a_gradient_of_its_own_for_each_parameter(new_module, rows):
    """torch's distributed training waits for all of them, and writes into each."""
    module = new_module()
    module.share = Share(1, 2)
    _, gradients = loss_and_gradients(module, rows)
    assert set(gradients) == {name for name, p in module.named_parameters() if p.requires_grad}
    places = [gradient.untyped_storage().data_ptr() for gradient in gradients.values()]
    assert len(set(places)) == len(places)


def test_members_are_spread_evenly(new_module):
    module = new_module()
    n = module.n_members
    for n_processes in range(1, n + 1):
        numbers = []
        for rank in range(n_processes):
            share = Share(rank, n_processes)
            numbers.append(len(share.of(module.main, 0)) + len(share.of(module.interaction, len(module.main))))
        assert sum(numbers) == n
        assert max(numbers) - min(numbers) <= 1
