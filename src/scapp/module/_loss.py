"""What training minimises."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from scvi.module.base import LossOutput
from torch import Tensor, nn

from scapp.module._attention import Reach
from scapp.module._encoder import Graph
from scapp.module._parts import Parts, rows_seen
from scapp.module._share import Share


class LossMixin:
    """Errors on perturbations that were left out, of the main effects and of the interaction term."""

    main: nn.ModuleList
    interaction: nn.ModuleList
    features: Tensor
    interaction_features: Tensor
    graphs: Sequence[Graph]
    targets: Tensor
    main_rows: list[int]
    combination_rows: list[int]
    _parts: Parts
    _main_seen: tuple[Tensor, list[Reach]]
    _main_counts: Tensor | None
    _interaction_seen: tuple[Tensor, list[Reach]]
    _anchored: Tensor
    parameters: Callable[[], Iterator[nn.Parameter]]
    share = Share()

    def loss(self, tensors: dict[str, Tensor], inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Mean length of the residual over perturbations, relative to that of predicting no effect beyond the mean.

        Where processes share the members of the ensemble, it is the mean over processes that says this.

        The residuals are those of leaving each training perturbation out (closed form) or, if `tensors` holds rows
        ``"held_out"``, those of the held-out perturbations.
        """
        fit = tensors["fit"].tolist()
        held_out = tensors["held_out"].tolist() if "held_out" in tensors else None
        parts = {
            "main": self._part_loss(
                self.main, self.features, self._main_seen, self._main_counts, self._parts.targets("main", self._main_targets),
                self.main_rows, fit, held_out, first=0, center=True,
            )
        }  # fmt: skip
        if self.interaction:
            parts["interaction"] = self._part_loss(
                self.interaction, self.interaction_features, self._interaction_seen, None,
                self._parts.targets("interaction", self._interaction_targets), self.combination_rows,
                fit, held_out, first=len(self.main), center=False,
            )  # fmt: skip
        known = {name: value for name, value in parts.items() if value is not None}
        total = torch.stack(list(known.values())).mean() if known else self.features.new_zeros(())
        return LossOutput(
            loss=self.share.touching(total, self.parameters()),
            n_obs_minibatch=len(fit if held_out is None else held_out),
            extra_metrics={name: value.detach() for name, value in known.items()},
        )

    def _part_loss(
        self,
        members: nn.ModuleList,
        features: Tensor,
        seen: tuple[Tensor, list[Reach]],
        counts: Tensor | None,
        targets: Tensor,
        rows: list[int],
        fit: list[int],
        held_out: list[int] | None,
        *,
        first: int,
        center: bool,
    ) -> Tensor | None:
        position = {row: k for k, row in enumerate(rows)}
        f = [position[row] for row in fit if row in position]
        h = [position[row] for row in held_out if row in position] if held_out is not None else None
        if not f or (h is not None and not h):
            return None
        # Rows that share states (sums of genes) need all states; otherwise each row is its own state.
        states_of: Callable[[list[int]], Any] = lambda k: slice(None)
        counts_of: Callable[[list[int]], Tensor | None] = lambda k: None
        if counts is None:
            needed = f if h is None else [*f, *h] if self._parts.solved else h
            seen = rows_seen(seen, needed)
            place = {row: k for k, row in enumerate(needed)}
            states_of = lambda k: [place[row] for row in k if row in place]
        else:
            counts_of = lambda k: counts[k]
        y = targets[f]
        null = targets[f if h is None else h] - (y.mean(0) if center else 0)
        scale = null.norm(dim=1).mean().clamp_min(1e-12)
        losses = []
        for member in self.share.of(members, first):
            states = member.cell_states(features, self.graphs, *seen)
            self._parts.recall(member, f, len(targets))
            if h is None:
                residual = member.decoder.residuals(states[states_of(f)], counts_of(f), y)
                self._parts.keep(member, f)
            else:
                new = member.decoder.held_out(states[states_of(f)], counts_of(f), y, states[states_of(h)], counts_of(h))
                residual = targets[h] - new
            losses.append(residual.norm(dim=1).mean() / scale)
        return self.share.mean(losses, len(members), y)

    def _main_targets(self) -> Tensor:
        return self.targets[self.main_rows]

    def _interaction_targets(self) -> Tensor:
        return self.targets[self.combination_rows] - self._anchored
