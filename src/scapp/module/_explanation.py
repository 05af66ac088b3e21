"""What one predicted value is made of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from scapp.module._inspection import InspectionMixin
from scapp.module._prediction import mean_of
from scapp.module._units import Genes, Units

By = Literal["perturbations", "genes"]


class Share(NamedTuple):
    """A part of a predicted value: the sum of `weight` * `value`, both of the length of `names`.

    `kind` says what the names are: perturbations measured alone (``"anchor single"``), perturbations of the fit
    (``"training perturbation"``), attended genes (``"gene"``), or nothing (``"intercept"``).
    """

    kind: str
    term: str
    names: list[Genes]
    weight: Tensor
    value: Tensor


class ExplanationMixin(InspectionMixin):
    """How :class:`APPModule` is asked what a prediction is made of."""

    _main_composition: Callable[[], tuple[list[int], Tensor | None]]
    _main_units: Callable[[], tuple[list[int], Units, Tensor | None]]
    main_rows: list[int]
    single_rows: list[int]
    combination_rows: list[int]
    perturbations: list[Genes]

    @torch.inference_mode()
    def explain(self, perturbation: Genes, gene: int, by: By) -> list[Share]:
        """Parts whose sum is the prediction.

        Parameters
        ----------
        perturbation
            Its nodes.
        gene
            Which of the measured genes.
        by
            What the terms that come from equations 1 to 7 are divided into; the anchor is always divided into measured
            singles.
        """
        if not self.anchored:
            return self._share_out("main effects", perturbation, gene, by)
        assert self.anchor is not None
        scale = self.anchor.scale[gene].double() if len(perturbation) > 1 else torch.ones((), dtype=torch.float64)
        shares = []
        measured = [self.single_column[node] for node in perturbation if node in self.single_column]
        if measured:
            singles = self.targets[self.single_rows]
            weight = scale * self.anchor.denoising(singles)[measured].sum(0)
            names = [self.perturbations[row] for row in self.single_rows]
            shares.append(Share("anchor single", "anchor", names, weight, singles[:, gene].double()))
        for node in perturbation:
            if node not in self.single_column:
                parts = self._share_out("main effects", (node,), gene, by)
                shares += [part._replace(weight=scale * part.weight) for part in parts]
        if len(perturbation) > 1 and len(self.interaction):
            shares += self._share_out("interaction", perturbation, gene, by)
        return shares

    def _share_out(self, term: str, perturbation: Genes, gene: int, by: By) -> list[Share]:
        members, features = self.main, self.features
        if term == "interaction":
            members, features = self.interaction, self.interaction_features
        seen = self.combined_units([perturbation]).seen()
        if by == "perturbations":
            return [self._training_share(term, members, features, seen, gene)]
        found = [self._gene_shares(member, features, seen, gene) for member in members]
        contribution, intercept, attention = (mean_of(list(tensors)) for tensors in zip(*found, strict=True))
        at = attention.nonzero()[:, 0]
        value = contribution[at] / attention[at]
        constant = Share("intercept", term, [()], torch.ones_like(intercept)[None], intercept[None])
        return [constant, Share("gene", term, [(int(i),) for i in at], attention[at], value)]

    def _training_share(self, term: str, members: nn.ModuleList, features: Tensor, seen: tuple, gene: int) -> Share:
        rows, counts = self.main_rows, None
        if term == "interaction":
            rows = self.combination_rows
            fitted = [self.perturbations[row] for row in rows]
            targets = self.targets[rows] - self._anchor_of(fitted)
        else:
            counts = self._main_composition()[1] if self.anchored else None
            targets = self.targets[rows]

        weights = []
        for member in members:
            new, _ = member.states(features, self.graphs, *seen)

            def states(member: nn.Module = member) -> Tensor:
                units = self._main_units()[1] if term == "main effects" else self.combined_units(fitted)
                return member.states(features, self.graphs, *units.seen())[0]

            weights.append(member.decoder.influence(new, states, counts, targets)[0])
        names = [self.perturbations[row] for row in rows]
        return Share("training perturbation", term, names, mean_of(weights), targets[:, gene].double())

    def _gene_shares(self, member: nn.Module, features: Tensor, seen: tuple, gene: int) -> tuple[Tensor, ...]:
        """What each gene adds to the cell state is its attention times its embedding; the secant reads it."""
        h = member.embed(features, self.graphs).double()
        states, attention = member.states(features, self.graphs, *seen)
        weights = attention[0].double()
        secant = member.decoder.secant(weights @ h, gene)
        added = h @ secant.slope.T - (secant.origin * secant.slope).sum(
            1
        )  # of each gene to each head, for all attention
        return (weights.T * added).sum(1), secant.value, weights.mean(0)
