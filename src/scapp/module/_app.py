"""The APP module: main effects of single genes, an interaction term for combinations, and the anchor that joins them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from scvi.module.base import BaseModuleClass
from torch import Tensor, nn

from scapp.module._anchor import Anchor, composition_of
from scapp.module._calibration import Calibration
from scapp.module._encoder import Graph
from scapp.module._explanation import ExplanationMixin
from scapp.module._inspection import InspectionMixin
from scapp.module._loss import LossMixin
from scapp.module._parts import Parts, all_states
from scapp.module._prediction import PredictionMixin, mean_of
from scapp.module._predictor import Architecture, Predictor
from scapp.module._spectrum import spectrum
from scapp.module._units import Bags, Genes, Units

# Singular values of the measured singles are soft-thresholded by this share of their median before they become features.
SIGNATURE_THRESHOLD = 0.4
N_SIGNATURES = 128
# Fewer single perturbations than this do not support main effects of their own; combinations then share in them.
MIN_SINGLES = 3


class APPModule(ExplanationMixin, InspectionMixin, LossMixin, PredictionMixin, BaseModuleClass):
    r"""The ensemble.

    With the anchor, the effect of perturbing the genes P is

    .. math::
        \Delta y_P = c \odot \sum_{p \in P} \tilde y_p + W_D\, s_P + b_D,

    where :math:`\tilde y_p` is the measured effect of p alone, denoised, or, where there is none, the effect that equations
    1 to 7 predict for p; the last two terms, equations 1 to 7 for the pair, appear for combinations only.
    Without the anchor, equations 1 to 7 predict all perturbations at once.

    Parameters
    ----------
    perturbations
        The nodes that each training perturbation holds.
    n_genes
        Number of measured genes.
    graphs
        Pairs of `edge_index` (2, n_edges) and `edge_weight` (n_edges,) of each network.
    features
        Gene features of shape (n_nodes, sum of `block_sizes`).
    block_sizes
        Widths of the blocks of features.
    n_models
        Members of the ensemble.
    anchor
        Whether combinations are anchored.
    architecture
        The choices that all members share.
    """

    features: Tensor
    signatures: Tensor
    targets: Tensor
    singles_error: Tensor
    started: Tensor

    def __init__(
        self,
        *,
        perturbations: Sequence[Genes],
        n_genes: int,
        graphs: Sequence[tuple[Tensor, Tensor]],
        features: Tensor,
        block_sizes: Sequence[int],
        n_models: int,
        anchor: bool,
        architecture: Architecture,
    ):
        super().__init__()
        self.perturbations = list(perturbations)
        self.anchored = anchor
        self.n_networks = len(graphs)
        for k, (edge_index, edge_weight) in enumerate(graphs):
            self.register_buffer(f"edge_index_{k}", torch.as_tensor(edge_index), persistent=False)
            self.register_buffer(f"edge_weight_{k}", torch.as_tensor(edge_weight), persistent=False)
        n_nodes = len(features)
        is_single = [len(genes) == 1 for genes in self.perturbations]
        self.single_rows = [i for i, single in enumerate(is_single) if single]
        self.combination_rows = [i for i, single in enumerate(is_single) if not single]
        self.single_column = {self.perturbations[i][0]: k for k, i in enumerate(self.single_rows)}
        self.main_rows = self.single_rows
        if not anchor or len(self.single_rows) < MIN_SINGLES:
            self.main_rows = list(range(len(self.perturbations)))

        self.register_buffer("features", features)
        self.register_buffer("targets", torch.zeros(len(self.perturbations), n_genes))
        self.register_buffer("singles_error", torch.zeros(len(self.single_rows), n_genes))
        self.register_buffer("started", torch.zeros((), dtype=torch.bool))
        shared: dict[str, Any] = {
            "n_nodes": n_nodes,
            "n_networks": self.n_networks,
            "n_genes": n_genes,
            "architecture": architecture,
        }
        n_units = len(self.main_rows)
        if anchor and self.main_rows != self.single_rows:
            n_units = len({gene for genes in self.perturbations for gene in genes})
        self.main = nn.ModuleList(Predictor(block_sizes, n_states=n_units, **shared) for _ in range(n_models))
        self.main_calibration = Calibration(n_genes)
        self.interaction_calibration = Calibration(n_genes)
        self.anchor: Anchor | None = None
        self.interaction = nn.ModuleList()
        n_signatures = min(N_SIGNATURES, len(self.single_rows), n_genes) if anchor else 0
        self.register_buffer("signatures", torch.zeros(n_nodes, n_signatures))
        if anchor:
            self.anchor = Anchor(len(self.single_rows), n_genes)
        if anchor and len(self.combination_rows) >= MIN_SINGLES:
            sizes = [*block_sizes, n_signatures] if n_signatures else list(block_sizes)
            n_states = len(self.combination_rows)
            self.interaction.extend(
                Predictor(sizes, n_states=n_states, constant=0.3, **shared) for _ in range(n_models)
            )

    @property
    def n_members(self) -> int:
        """Networks of the ensemble, those of the main effects and those of the interaction term."""
        return len(self.main) + len(self.interaction)

    # ------------------------------------------------------------------ what the members see

    @property
    def graphs(self) -> list[Graph]:
        """The networks."""
        return [
            Graph(getattr(self, f"edge_index_{k}"), getattr(self, f"edge_weight_{k}")) for k in range(self.n_networks)
        ]

    @property
    def interaction_features(self) -> Tensor:
        """Gene features joined by what each measured single perturbation does; zero for the other genes.

        They describe perturbations that are not targets of the interaction term, so no target is among its inputs.
        """
        return torch.cat([self.features, self.signatures], dim=1)

    # ------------------------------------------------------------------ training

    @torch.no_grad()
    def prepare(self, rows: Sequence[int]) -> None:
        """Fix what does not change while training on `rows`: what the attention sees, the anchor, where the members start."""
        self._fit_rows = list(rows)
        self._parts = Parts(len(self._fit_rows), solved=self.main[0].decoder.n_solved > 0)
        self._look()
        if self.anchor is not None and self._unmeasured_alone():
            self._solve_main()  # the anchor needs what the genes without a measurement of their own do
        self._fit_anchor()

    def _look(self) -> None:
        """What the attention sees of the training perturbations, and the members' start if they have none."""
        if "_main_seen" in self.__dict__:
            return
        main_genes, units, self._main_counts = self._main_units()
        self._main_seen = units.seen()
        combinations = [self.perturbations[i] for i in self.combination_rows]
        if self.interaction:
            self._interaction_seen = self.combined_units(combinations).seen()
        if self.started:
            return
        device = self.features.device
        for member in self.main:
            member.start(self.features, self.graphs, torch.as_tensor(main_genes, device=device))
        if self.interaction:
            self._set_signatures()  # once: the encoder is trained on these axes, and another SVD may turn them
            perturbed = torch.as_tensor(sorted({gene for genes in combinations for gene in genes}), device=device)
            for member in self.interaction:
                member.start(self.interaction_features, self.graphs, perturbed)
        self.started.fill_(True)

    def _main_composition(self) -> tuple[list[int], Tensor | None]:
        """Genes that the main effects are fitted to, and how often each occurs in each row of the fit; None if a row is a gene."""
        # Each single is a unit of its own, in the order of the targets; combinations are sums or averages of genes.
        if self.main_rows == self.single_rows:
            return [self.perturbations[i][0] for i in self.single_rows], None
        genes = sorted({gene for i in self.main_rows for gene in self.perturbations[i]})
        column = {gene: k for k, gene in enumerate(genes)}
        return genes, composition_of([self.perturbations[i] for i in self.main_rows], column).to(self.features)

    def _main_units(self) -> tuple[list[int], Units, Tensor | None]:
        """These genes, the units of the fit, and how often each unit counts in each row; None if each row is a unit."""
        genes, composition = self._main_composition()
        units = self.gene_units(genes)
        if composition is None or self.anchored:
            return genes, units, composition
        column = {gene: k for k, gene in enumerate(genes)}
        bags = Bags.of([self.perturbations[i] for i in self.main_rows], column, self.features.device)
        return genes, units.combined(bags), None

    @torch.no_grad()
    def finish(self) -> None:
        """Fit anchor and decoders to all training perturbations, now that encoders and attention are trained."""
        self.prepare(range(len(self.perturbations)))
        if self.anchor is None or not self._unmeasured_alone():
            self._solve_main()
        if self.interaction:
            targets, measured = self._interaction_targets(), self.targets[self.combination_rows]
            residuals, distances = [], []
            for member in self.interaction:
                states = all_states(member, self.interaction_features, self.graphs, self._interaction_seen)
                residual, distance = member.decoder.finish(states, None, targets)
                residuals.append(residual)
                distances.append(distance)
            left_out = mean_of(residuals)
            self.interaction_calibration.fit(left_out, measured - left_out, mean_of(distances))
        for name in ("_main_seen", "_main_counts", "_interaction_seen", "_anchored", "_parts"):
            self.__dict__.pop(name, None)  # as large as the perturbations times the genes, and made again by `prepare`

    def inference(self, *args: Any, **kwargs: Any) -> dict:
        """All is in `loss`: the closed form needs the training perturbations together."""
        return {}

    def generative(self, *args: Any, **kwargs: Any) -> dict:
        """See `inference`."""
        return {}

    def _get_inference_input(self, tensors: dict[str, Tensor], **kwargs: Any) -> dict:
        return {}

    def _get_generative_input(self, tensors: dict[str, Tensor], inference_outputs: dict, **kwargs: Any) -> dict:
        return {}

    def _unmeasured_alone(self) -> bool:
        """Whether a training combination holds a gene that was not measured alone."""
        return any(gene not in self.single_column for i in self.combination_rows for gene in self.perturbations[i])

    def sample(self, *args: Any, **kwargs: Any) -> None:
        """Not a generative model of cells."""
        raise TypeError("APP predicts the mean effect of a perturbation; it does not sample cells.")

    def _solve_main(self) -> None:
        fit = set(self._fit_rows)
        chosen = [k for k, row in enumerate(self.main_rows) if row in fit]
        if not chosen:
            return
        targets = self._main_targets()[chosen]
        residuals, distances = [], []
        for member in self.main:
            states = all_states(member, self.features, self.graphs, self._main_seen)
            rows = (states[chosen], None) if self._main_counts is None else (states, self._main_counts[chosen])
            residual, distance = member.decoder.finish(*rows, targets)
            residuals.append(residual)
            distances.append(distance)
        left_out = mean_of(residuals)
        self.main_calibration.fit(left_out, targets - left_out, mean_of(distances))

    def _set_signatures(self) -> None:
        if not self.signatures.shape[1]:
            return
        factors = spectrum(self.targets[self.single_rows])
        values = (factors.S - SIGNATURE_THRESHOLD * factors.median).clamp_min(0)
        scores = (factors.U * values)[:, : self.signatures.shape[1]]
        size = scores.square().sum(1).mean().sqrt().clamp_min(1e-12)
        self.signatures.zero_()
        self.signatures[list(self.single_column), : scores.shape[1]] = scores / size

    def _fit_anchor(self) -> None:
        if self.anchor is None:
            return
        fit = set(self._fit_rows)
        rows = [i for i in self.combination_rows if i in fit]
        combinations = [self.perturbations[i] for i in rows]
        composition = composition_of(combinations, self.single_column).to(self.features)
        singles = self.targets[self.single_rows]
        self.anchor.fit(singles, composition, self._rest(combinations), self.targets[rows])
        self._anchored = self._anchor_of([self.perturbations[i] for i in self.combination_rows])
