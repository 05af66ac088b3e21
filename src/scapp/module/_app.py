"""The APP module: combines a closed form over perturbations with an attention over measured perturbations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scvi.module.base import LossOutput
from torch import Tensor

from scapp.module._attention import N_FOLDS, MeasuredAttention
from scapp.module._base import BATCH, Contribution, EffectModule, Inputs, Prediction, Wanted
from scapp.module._calibration import Calibration
from scapp.module._closed_form import MAX_LEARNED_FROM, MIN_COMBINATIONS, ClosedForm, even_choice, order_of
from scapp.module._evidence import Evidence, Genes, membership
from scapp.module._posterior import Posterior

# # L-BFGS steps per epoch. The attentions of the folds only serve to estimate how well the attention predicts left-out
# perturbations, for which fewer steps are enough.
CLOSED_FORM_STEPS, ATTENTION_STEPS, FOLD_STEPS = 10, 10, 4
# Candidate shares of the attention; leave-one-out errors choose among them.
SHARES = torch.linspace(0, 1, 11, dtype=torch.float64)
SMALLEST_NOISE = 0.05  # lower limit on the noise of a perturbation, relative to the median


class APPModule(EffectModule):
    """Combine a closed form (:class:`ClosedForm`) and an attention (:class:`MeasuredAttention`) by one learned share.

    The effect of a gene that was not perturbed alone is a weighted mean of the two predictions, in which the share is the
    weight of the attention; combinations use the result. All scalars are learned on leave-one-out residuals, from fixed
    starting values.

    Parameters
    ----------
    inputs
        Perturbations and evidence.
    closed_form, attention
        Whether to use each part; at least one must be True.
    """

    targets: Tensor
    share: Tensor
    _similar: NDArray[np.floating]
    _similar_row: dict[int, int]

    def __init__(self, inputs: Inputs, *, closed_form: bool = True, attention: bool = True):
        super().__init__()
        self.inputs = inputs
        self.perturbations = list(inputs.perturbations)
        self.uses_closed_form, self.uses_attention = closed_form, attention
        self.evidence = Evidence(inputs.networks, inputs.features, n_nodes=inputs.n_nodes, added=inputs.added)
        shape = (self.evidence.n_sources, self.perturbations, inputs.n_measured)
        self.closed_form = ClosedForm(*shape)
        self.attention = MeasuredAttention(*shape)
        self.single_calibration = Calibration(inputs.n_measured)
        self.combination_calibration = Calibration(inputs.n_measured)
        self.register_buffer("targets", torch.zeros(len(self.perturbations), inputs.n_measured))
        self.register_buffer("share", torch.zeros((), dtype=torch.float64))
        self.register_buffer("threshold", torch.ones((), dtype=torch.float64))
        self._forget_similarities()
        self.register_buffer("row_noise", torch.ones(len(self.perturbations), dtype=torch.float64))
        self.register_buffer("gene_noise", torch.ones(inputs.n_measured, dtype=torch.float64))
        self.register_buffer("own_share", torch.zeros(len(self.perturbations), dtype=torch.float64))
        self._row_of = {genes: row for row, genes in enumerate(self.perturbations)}
        self.register_buffer("noise_known", torch.zeros(2, dtype=torch.bool))  # for perturbations, for genes

    @property
    def genes(self) -> list[int]:
        """The perturbed genes of the training data, in the order of the similarities."""
        return self.closed_form.genes

    @property
    def single_row(self) -> dict[int, int]:
        """The training row of each gene that was perturbed alone."""
        return self.closed_form.single_row

    # ------------------------------------------------------------------ training

    @torch.no_grad()
    def set_effects(
        self,
        lfc: NDArray[np.floating],
        *,
        variance: NDArray[np.floating] | None = None,
        depth: NDArray[np.floating] | None = None,
    ) -> None:
        """Store the training effects.

        Parameters
        ----------
        lfc
            Log-fold-changes, shape (n, n_measured).
        variance
            Squared standard errors, same shape.
        depth
            Number of cells or counts of each perturbation, shape (n,); used if there are no standard errors.
        """
        self.targets.copy_(torch.as_tensor(np.asarray(lfc)))
        self.noise_known.fill_(False)
        if variance is not None and np.any(variance > 0):
            known = torch.as_tensor(np.asarray(variance, dtype=np.float64))
            self.row_noise.copy_(_relative(known.mean(1)))
            self.gene_noise.copy_((known / self.row_noise[:, None]).mean(0))
            self.noise_known.fill_(True)
        elif depth is not None:
            self.row_noise.copy_(_relative(1 / torch.as_tensor(np.asarray(depth, dtype=np.float64))))
            self.noise_known[0] = True

    @torch.no_grad()
    def prepare(self) -> None:
        """Precompute everything that stays constant while the scalars are learned."""
        labels = self.inputs.labels
        similarities = self.evidence.similarities(self.genes, self.genes)
        learned_from, order = even_choice(labels, MAX_LEARNED_FROM), order_of(labels)
        self._learned_from = torch.as_tensor(learned_from)
        row, gene = (
            noise if known else None
            for noise, known in zip((self.row_noise, self.gene_noise), self.noise_known, strict=True)
        )
        self.closed_form.set_effects(self.targets, similarities, row_noise=row, gene_noise=gene)
        self.closed_form.prepare(learned_from, order)
        self.attention.set_effects(self.targets, order)
        if self.uses_attention:
            self.attention.prepare(learned_from, order, similarities, self.targets)
        self._folds = [self.attention.twin() for _ in range(N_FOLDS)] if self.uses_attention else []
        self._optimizers = [_lbfgs(self.closed_form, CLOSED_FORM_STEPS)]
        if self.uses_attention:
            self._optimizers.append(_lbfgs(self.attention, ATTENTION_STEPS))
            self._optimizers += [_lbfgs(half, FOLD_STEPS) for half in self._folds]
            fold = self.attention.fold
            # The attention of each fold is trained on the other folds and evaluated on its own.
            self._learned = [self.attention.queries.of((fold != k).nonzero()[:, 0]) for k in range(N_FOLDS)]

    def step(self) -> dict[str, float]:
        """Run the optimiser steps of one epoch; return the leave-one-out losses before them."""
        losses: list[Callable[[], Tensor]] = [self.closed_form.loss]
        if self.uses_attention:
            losses.append(self.attention.loss)
            losses += [partial(half.loss, queries) for half, queries in zip(self._folds, self._learned, strict=True)]
        found = [_descend(optimizer, loss) for optimizer, loss in zip(self._optimizers, losses, strict=True)]
        names = ["closed_form", "attention"]
        return dict(zip(names, found, strict=False))

    def reweigh(self) -> None:
        """Reweight the perturbations by their residuals, and restart the optimisers."""
        self.closed_form.reweigh()
        self._optimizers[0] = _lbfgs(self.closed_form, CLOSED_FORM_STEPS)

    @torch.no_grad()
    def finish(self) -> None:
        """Solve the closed form for all training perturbations, and choose the share of the attention."""
        closed = self.closed_form
        closed.solve()
        self.attention.leverage = closed.leverage()
        rows = self._learned_from
        residual = closed.left_out_with(closed.penalty, rows)
        variance = closed.left_out_variance(rows)
        singles, residual_of_singles, variance_of_singles = closed.singles_left_out(rows)
        residual[singles], variance[singles] = residual_of_singles, variance_of_singles
        targets = self.targets[rows].double()
        predicted = targets - residual
        self.share.fill_(0.0 if self.uses_closed_form else 1.0)
        if self.uses_attention:
            asked = torch.as_tensor(self.attention.asked)
            at = torch.searchsorted(rows, asked)
            apart = torch.stack([half.left_out() for half in self._folds])
            attended = apart[self.attention.fold, torch.arange(len(asked))]
            if self.uses_closed_form and not closed.is_combination[self.attention.asked].any():
                self.share.copy_(_choose_share(targets[at], predicted[at], attended))
            predicted[at] = torch.lerp(predicted[at], attended, self.share)
        residual = targets - predicted
        combined = torch.as_tensor(closed.is_combination)[rows]
        single = combined if combined.all() else ~combined
        self.single_calibration.fit(residual[single], predicted[single], variance[single])
        if int(combined.sum()) >= MIN_COMBINATIONS:
            self.combination_calibration.fit(residual[combined], predicted[combined], variance[combined])
        else:
            self.combination_calibration.load_state_dict(self.single_calibration.state_dict())
        self.threshold.copy_(self._supported_threshold())
        self._forget_similarities()
        self._keep_own_measurements()
        for name in ("_folds", "_learned", "_learned_from", "_optimizers"):
            self.__dict__.pop(name, None)

    def _keep_own_measurements(self) -> None:
        """Choose how far the prediction of each training perturbation moves towards its own measurement.

        Reweighting keeps a few large effects from dominating the fit, but their own predictions would then ignore much of
        their measurement. If standard errors are known, the positive-part James-Stein estimate restores the part of the
        residual that noise does not explain.
        """
        self.own_share.zero_()
        if not self.noise_known[1]:
            return
        fitted = self.predict(self.perturbations, Wanted(std=False, attention=False)).lfc
        residual = (self.targets.double() - fitted).square().sum(1)
        noise = self.row_noise * self.gene_noise.sum()
        self.own_share.copy_((1 - noise / residual.clamp_min(1e-30)).clamp(0, 1))

    def _own(self, perturbations: Sequence[Genes]) -> tuple[list[int], Tensor, Tensor, Tensor]:
        """Return the positions of training perturbations, their own shares, their measurements and the noise of these."""
        there = [k for k, genes in enumerate(perturbations) if genes in self._row_of]
        rows = [self._row_of[perturbations[k]] for k in there]
        noise = self.row_noise[rows, None] * self.gene_noise
        return there, self.own_share[rows, None], self.targets[rows].double(), noise

    def _supported_threshold(self) -> Tensor:
        """Return twice the typical noise of a measured value; larger values count as changes."""
        if self.noise_known[1]:
            return 2 * (self.gene_noise.median() * self.row_noise.median()).sqrt()
        closed, scale = self.closed_form, self.single_calibration.scale
        noise = closed.noise().median() * closed.penalty
        told = (
            closed.penalty < 1e3
        )  # at larger penalties the prediction is the centre, and the penalty no longer reflects the noise
        return 2 * (noise.sqrt() * scale)[told].median() if told.any() else 2 * scale.median()

    def loss(self, tensors: dict[str, Tensor], inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Return the leave-one-out loss, for scvi-tools only: training calls :meth:`step` instead."""
        loss = self.closed_form.loss()
        return LossOutput(loss=loss, n_obs_minibatch=len(self.perturbations))

    # ------------------------------------------------------------------ prediction

    @torch.no_grad()
    def predict_batches(self, batches: Sequence[Sequence[Genes]], wanted: Wanted) -> Iterator[Prediction]:
        """Predict batch by batch, looking up the evidence of all genes only once."""
        self.look_up({gene for batch in batches for genes in batch for gene in genes})
        for batch in batches:
            yield self._predict(batch, wanted)

    def look_up(self, nodes: set[int]) -> None:
        """Compute and cache the similarities of genes to the perturbed genes of the training data."""
        new = sorted(nodes - self._similar_row.keys())
        if new:
            found = self.evidence.similarities(new, self.genes)
            self._similar = np.concatenate([self._similar, found], axis=1) if self._similar_row else found
            self._similar_row.update(zip(new, range(len(self._similar_row), self._similar.shape[1]), strict=True))
        if self.closed_form.has_combinations and not hasattr(self.closed_form, "_similarities"):
            self.closed_form._similarities = self.evidence.similarities(self.genes, self.genes)

    def _forget_similarities(self) -> None:
        self._similar = np.zeros((self.evidence.n_sources, 0, len(self.genes)))
        self._similar_row = {}

    def similarities(self, nodes: Sequence[int]) -> NDArray[np.floating]:
        """Return the similarities of genes to the perturbed genes: (n_sources, n, n_training_genes)."""
        self.look_up(set(nodes))
        return np.take(self._similar, [self._similar_row[node] for node in nodes], axis=1)

    def _predict(self, perturbations: Sequence[Genes], wanted: Wanted) -> Prediction:
        nodes = sorted({gene for genes in perturbations for gene in genes})
        similar = self.similarities(nodes)
        kernel = self.closed_form.kernel(self.closed_form.parts(perturbations, nodes, similar))
        lfc = self.closed_form.predict(kernel)
        attended = [k for k, node in enumerate(nodes) if self._is_attended(node)]
        blends = bool(attended) and float(self.share) > 0
        shows_attention = wanted.attention and self.uses_attention
        attention = self.attention.of_genes(nodes, similar) if blends or shows_attention else None
        if blends:
            lfc = self._blend(lfc, perturbations, nodes, attended, similar, attention)
        own, share, measured, noise = self._own(perturbations)
        lfc[own] = torch.lerp(lfc[own], measured, share)
        std = change = None
        if wanted.std or wanted.change is not None:
            std, change = self._errors(lfc, kernel, perturbations, nodes, similar, wanted.change)
            # For a measured perturbation, a new measurement differs from the old one by the noise of both.
            twice, kept = 2 * noise, share.expand_as(noise)
            std[own] = torch.lerp(std[own].square(), twice, kept).sqrt()
            if change is not None and len(own):
                change[own] = torch.lerp(change[own], _beyond(lfc[own], twice.sqrt(), float(wanted.change)), kept)
        std = std if wanted.std else None
        if not shows_attention:
            return Prediction(lfc, std, change)
        to_genes, to_perturbations = self._attention_of(perturbations, nodes, attention)
        return Prediction(lfc, std, change, to_genes, to_perturbations, 1 - to_perturbations.sum(1))

    def _errors(
        self,
        lfc: Tensor,
        kernel: Tensor,
        perturbations: Sequence[Genes],
        nodes: list[int],
        similar: NDArray[np.floating],
        threshold: float | None,
    ) -> tuple[Tensor, Tensor | None]:
        """Return the standard deviations of predictions and, given a threshold, the probabilities of a change beyond it."""
        closed = self.closed_form
        sizes = torch.as_tensor([len(genes) for genes in perturbations], dtype=torch.float64)
        combined, known = sizes > 1, torch.as_tensor([self.single_row.keys() >= set(p) for p in perturbations])
        within = torch.as_tensor(self.evidence.within(perturbations))
        profiles = closed.summed_profiles(perturbations, nodes, similar) if closed.has_combinations else None
        prior = closed.variance(sizes, within, profiles, guessed=~combined & ~known)
        variance = closed.posterior_variance(kernel, prior, closed.new_noise(perturbations))
        std = torch.empty_like(lfc)
        for rows, calibration in self._calibrations(combined):
            std[rows] = calibration.std(lfc[rows], variance[rows])
        partly = combined & ~known
        if closed.has_combinations and partly.any():
            # Errors of combining come from pairs of measured genes; errors of predicting unmeasured genes add to them.
            added = self._guess_errors([perturbations[row] for row in partly.nonzero()[:, 0]])
            std[partly] = (std[partly].square() + added).sqrt()
        change = None
        if threshold is not None:
            change = torch.empty_like(lfc)
            for rows, calibration in self._calibrations(
                combined & known
            ):  # errors of guessed genes are distributed like those of single genes
                change[rows] = calibration.change(lfc[rows], std[rows], threshold)
        return std, change

    def _calibrations(self, combined: Tensor) -> Iterator[tuple[Tensor, Calibration]]:
        """Yield the mask of perturbations for each of the two calibrations, and the calibration; skip empty masks."""
        for rows, calibration in ((~combined, self.single_calibration), (combined, self.combination_calibration)):
            if rows.any():
                yield rows, calibration

    def _guess_errors(self, combinations: Sequence[Genes]) -> Tensor:
        """Return the squared errors of combinations due to genes not perturbed alone, shape (n, n_measured)."""
        guessed = [tuple(gene for gene in genes if gene not in self.single_row) for genes in combinations]
        place = {gene: k for k, gene in enumerate(sorted({gene for genes in guessed for gene in genes}))}
        alone = self.predict([(gene,) for gene in place], Wanted(attention=False)).std
        factor = float(self.closed_form.log_factor.exp())
        return factor**2 * torch.as_tensor(membership(guessed, place) @ alone.square().numpy())

    def _is_attended(self, node: int) -> bool:
        """Return whether attention predicts a gene: if it was not perturbed alone, or if there is no closed form."""
        return not self.uses_closed_form or node not in self.single_row

    def _blend(
        self,
        lfc: Tensor,
        perturbations: Sequence[Genes],
        nodes: list[int],
        attended: list[int],
        similar: NDArray,
        attention: Tensor,
    ) -> Tensor:
        """Give the attention its share in the effects of single genes, and use these effects in combinations."""
        genes = [(nodes[k],) for k in attended]
        apart = self.attention.predict(attention[:, attended])
        holds = membership(perturbations, {node: k for k, node in enumerate(nodes)})[:, attended]
        sizes = np.array([len(p) for p in perturbations])
        if not self.uses_closed_form:
            unit = np.where(sizes > 1, self.attention.factor, 1.0)
            return torch.as_tensor((sparse.diags(unit) @ holds) @ apart.numpy())
        within = torch.empty_like(apart)
        # If a gene alone is among the perturbations, its closed-form prediction is already there.
        asked = {p[0]: row for row, p in enumerate(perturbations) if len(p) == 1}
        rest = [i for i, gene in enumerate(genes) if gene[0] not in asked]
        there = [i for i, gene in enumerate(genes) if gene[0] in asked]
        within[there] = lfc[[asked[genes[i][0]] for i in there]]
        if rest:
            others = [genes[i] for i in rest]
            narrow = similar[:, [attended[i] for i in rest]]
            within[rest] = self.closed_form.predict(
                self.closed_form.kernel(self.closed_form.parts(others, [gene[0] for gene in others], narrow))
            )
        unit = np.where(sizes > 1, float(self.closed_form.log_factor.exp()), 1.0)
        return lfc + float(self.share) * torch.as_tensor((sparse.diags(unit) @ holds) @ (apart - within).numpy())

    def _attention_of(
        self, perturbations: Sequence[Genes], nodes: list[int], attention: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the attention of perturbations to the genes of the networks, and to measured perturbations."""
        place = {node: k for k, node in enumerate(nodes)}
        mean = sparse.diags([1 / len(genes) for genes in perturbations]) @ membership(perturbations, place)
        of_genes = self.attention.mean_attention(attention)
        to_perturbations = torch.as_tensor(mean @ of_genes.numpy())
        through = self.evidence.through_genes(
            nodes, self.genes, of_genes.numpy() @ self.attention.means, self.network_weights
        )
        total = through.sum(axis=1, keepdims=True)
        through /= np.where(total > 1e-12, total, 1)
        # A gene without edges passes its attention to itself.
        alone = np.flatnonzero(total[:, 0] <= 1e-12)
        through[alone, np.asarray(nodes)[alone]] = 1
        return torch.as_tensor(_unit_sums(mean @ through)), to_perturbations

    def error_factors(self, *, combined: bool) -> Tensor:
        """Return factors of the error covariance between genes, shape (n_factors, n_measured)."""
        return (self.combination_calibration if combined else self.single_calibration).factors

    @property
    def attends(self) -> bool:
        """Return whether there is an attention that can look beyond the perturbed genes."""
        return self.uses_attention

    @torch.no_grad()
    def attended(self, perturbations: Sequence[Genes]) -> tuple[Tensor, Tensor]:
        """Return the attention to genes, and its value before training (the prior), both (n, n_nodes)."""
        nodes = sorted({gene for genes in perturbations for gene in genes})
        similar = self.similarities(nodes)
        untrained = self.attention.twin()
        return tuple(  # type: ignore[return-value]
            self._attention_of(perturbations, nodes, half.of_genes(nodes, similar))[0]
            for half in (self.attention, untrained)
        )

    @torch.no_grad()
    def gene_embeddings(self) -> Tensor:
        """Return the effect of each gene on the programs of the screen, by its attention, (n_nodes, n_programs)."""
        return self.states([(node,) for node in range(self.inputs.n_nodes)])

    @torch.no_grad()
    def states(self, perturbations: Sequence[Genes]) -> Tensor:
        """Return the cell states of perturbations in the programs, summed over their genes, (n, n_programs)."""
        self.look_up({gene for genes in perturbations for gene in genes})
        found = []
        for start in range(0, len(perturbations), BATCH):
            batch = perturbations[start : start + BATCH]
            nodes = sorted({gene for genes in batch for gene in genes})
            states = self.attention.states(self.attention.of_genes(nodes, self.similarities(nodes)))
            place = {node: k for k, node in enumerate(nodes)}
            found.append(torch.as_tensor(membership(batch, place) @ states.numpy()))
        return torch.cat(found)

    @torch.no_grad()
    def prior_kernel(self, perturbations: Sequence[Genes], others: Sequence[Genes]) -> Tensor:
        """Return the kernel between two lists of perturbations, shape (n, n_others)."""
        nodes, at = (sorted({gene for genes in names for gene in genes}) for names in (perturbations, others))
        return self.closed_form.kernel_between(
            perturbations,
            nodes,
            self.similarities(nodes),
            others,
            at,
            self.similarities(at),
            self.evidence.similarities(nodes, at),
        )

    @property
    def network_weights(self) -> NDArray[np.float64]:
        """Return the weight of each network in the kernel, shape (n_networks,); the weights sum to one."""
        weight = self.closed_form.log_additive.detach().exp().cpu().numpy()[2 : 2 + len(self.inputs.networks)]
        return weight / weight.sum() if len(weight) else weight

    # ------------------------------------------------------------------ explanation

    @torch.no_grad()
    def explain(self, perturbation: Genes, gene: int) -> list[Contribution]:
        """Return contributions that sum to the prediction for one measured gene.

        Parameters
        ----------
        perturbation
            Nodes of the perturbation.
        gene
            Position among the measured genes.
        """
        closed, share = self.closed_form, float(self.share)
        row = self._row_of.get(tuple(perturbation))
        own = 0.0 if row is None else float(self.own_share[row])
        nodes = sorted(perturbation)
        similar = self.similarities(nodes)
        rows = list(range(len(self.perturbations)))
        value = self.targets[:, gene].double()
        weight = torch.zeros(len(rows), dtype=torch.float64)
        if self.uses_closed_form:
            weight = closed.influence(closed.kernel(closed.parts([perturbation], nodes, similar)), gene)[0]
        attended = [k for k, node in enumerate(nodes) if self._is_attended(node)]
        kept = []
        if row is not None and own > 0:
            kept.append(Contribution("own measurement", [row], torch.tensor([own]).double(), value[[row]]))
        if share == 0 or not attended:
            return [Contribution("closed form", rows, (1 - own) * weight, value), *kept]
        unit = 1.0
        if len(perturbation) > 1:
            unit = float(closed.log_factor.exp()) if self.uses_closed_form else self.attention.factor
        if self.uses_closed_form:
            genes = [(nodes[k],) for k in attended]
            inside = closed.kernel(closed.parts(genes, [nodes[k] for k in attended], similar[:, attended]))
            weight = weight - share * unit * closed.influence(inside, gene).sum(0)
        weight, share = (1 - own) * weight, (1 - own) * share
        attention = self.attention.of_genes([nodes[k] for k in attended], similar[:, attended])
        added, centre = self.attention.contributions(attention, gene)
        mean = self.attention.mean_attention(attention).sum(0)
        parts = [Contribution("closed form", rows, weight, value)] if self.uses_closed_form else []
        total = share * unit * added.sum(0)
        # The value of a perturbation is its contribution at full attention.
        part = share * unit * mean
        safe = torch.where(part > 0, part, torch.ones_like(part))
        parts.append(Contribution("attention", rows, torch.where(part > 0, part, torch.ones_like(part)), total / safe))
        constant = torch.as_tensor([share * unit * len(attended)], dtype=torch.float64)
        parts.append(Contribution("centre", [], constant, centre[None]))
        return [*parts, *kept]

    def through_genes(
        self, perturbation: Genes, rows: Sequence[int], weights: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Divide weights of training perturbations among the genes that make a perturbation similar to each of them.

        If two perturbations share no network gene, their weight goes to the perturbed genes themselves.

        Parameters
        ----------
        perturbation
            Its nodes.
        rows
            Training perturbations.
        weights
            Their weights, shape (n, n_rows).

        Returns
        -------
        Array of shape (n, n_nodes) with the same row sums.
        """
        genes = sorted({gene for row in rows for gene in self.perturbations[row]})
        holds = membership([self.perturbations[row] for row in rows], {gene: k for k, gene in enumerate(genes)})
        nodes = list(perturbation)
        similar = self.evidence.similarities(nodes, genes)[: len(self.network_weights)]
        alike = holds @ np.einsum("m,mpi->i", self.network_weights, similar)
        none = alike <= 1e-12
        # The weight of a perturbed gene goes to the network genes that it shares with the genes of the row.
        scaled = np.where(none, 0, weights / np.where(none, 1, alike)) @ holds
        total = np.zeros((len(weights), self.inputs.n_nodes))
        for node in nodes:
            total += self.evidence.through_genes([node] * len(weights), genes, scaled, self.network_weights)
        for k in np.flatnonzero(none).tolist():
            own = list({*perturbation, *self.perturbations[rows[k]]})
            total[:, own] += weights[:, [k]] / len(own)
        return total

    @torch.no_grad()
    def posterior(self, perturbations: Sequence[Genes]) -> Posterior:
        """Return the joint posterior of the prediction errors of some perturbations."""
        return Posterior(self, perturbations)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load weights, and clear everything that was looked up or computed before."""
        self._forget_similarities()
        self.closed_form._coefficients = None
        return super().load_state_dict(state_dict, strict=strict, assign=assign)


def _beyond(lfc: Tensor, std: Tensor, threshold: float) -> Tensor:
    """Return the probability that a normal variable lies beyond a threshold in either direction."""
    normal, std = torch.distributions.Normal(0.0, 1.0), std.clamp_min(1e-12)
    return normal.cdf((lfc - threshold) / std) + normal.cdf((-lfc - threshold) / std)


def _relative(noise: Tensor) -> Tensor:
    return (noise / noise.median().clamp_min(1e-30)).clamp_min(SMALLEST_NOISE)


def _choose_share(observed: Tensor, closed: Tensor, attended: Tensor) -> Tensor:
    """Return the share with the shortest leave-one-out residuals, or zero if its gain may be due to chance."""
    lengths = torch.stack([(observed - torch.lerp(closed, attended, share)).norm(dim=1) for share in SHARES])
    best = lengths.mean(1).argmin()
    gain = lengths[0] - lengths[best]
    error = gain.std() / max(len(gain), 1) ** 0.5
    return SHARES[best] if gain.mean() > error else SHARES[0]


def _lbfgs(module: torch.nn.Module, n_steps: int) -> torch.optim.LBFGS:
    return torch.optim.LBFGS(
        list(module.parameters()), max_iter=n_steps, history_size=30, line_search_fn="strong_wolfe"
    )


def _descend(optimizer: torch.optim.LBFGS, loss: Any) -> float:
    def closure() -> Tensor:
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    with torch.enable_grad():
        return float(optimizer.step(closure).detach())


def _unit_sums(values: NDArray[np.floating]) -> NDArray[np.floating]:
    total = values.sum(axis=1, keepdims=True)
    return values / np.where(total > 0, total, 1)
