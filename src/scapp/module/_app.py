"""The APP module: combines a closed form over perturbations with an attention over measured perturbations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from scvi.module.base import LossOutput
from torch import Tensor

from scapp.module._attention import N_FOLDS, MeasuredAttention
from scapp.module._base import BATCH, Contribution, Descent, EffectModule, Inputs, Prediction, Wanted, single_rows
from scapp.module._calibration import Calibration
from scapp.module._closed_form import MAX_LEARNED_FROM, ClosedForm, even_choice, order_of
from scapp.module._evidence import Evidence, Genes, genes_of, membership
from scapp.module._kernel import MIN_COMBINATIONS, MIN_SINGLES, Asked
from scapp.module._posterior import Posterior

# L-BFGS steps per epoch. The attentions of the folds only serve to estimate how well the attention predicts left-out
# perturbations, for which fewer steps are enough.
CLOSED_FORM_STEPS, ATTENTION_STEPS, FOLD_STEPS = 10, 10, 4
# Candidate shares of the attention; leave-one-out errors choose among them.
SHARES = torch.linspace(0, 1, 11, dtype=torch.float64)
SMALLEST_NOISE = 0.05  # lower limit on the noise of a perturbation, relative to the median


class APPModule(EffectModule):
    """Combine a closed form (:class:`ClosedForm`) and an attention (:class:`MeasuredAttention`) by one learned share.

    The effect of a gene that was not perturbed alone is a weighted mean of the two predictions, in which the share is the
    weight of the attention; combinations use the result. If the screen has combinations, the closed form of such a gene
    has seen the singles only: combinations say how effects add up, and singles say which genes are alike. If the gene
    occurs in n combinations, this counts as much as one more, and the closed form of all has the rest. All scalars are
    learned on leave-one-out residuals, from fixed starting values.

    Parameters
    ----------
    inputs
        Perturbations and evidence.
    closed_form, attention
        Whether to use each part; at least one must be True.
    """

    share: Tensor
    _similar: NDArray[np.floating]
    _similar_row: dict[int, int]

    def __init__(self, inputs: Inputs, *, closed_form: bool = True, attention: bool = True):
        super().__init__(inputs)
        self.uses_closed_form, self.uses_attention = closed_form, attention
        self.evidence = Evidence(inputs.networks, inputs.features, n_nodes=inputs.n_nodes, added=inputs.added)
        self.closed_form = ClosedForm(self.evidence, self.perturbations, inputs.n_measured)
        self.attention = MeasuredAttention(self.evidence.n_sources, self.perturbations, inputs.n_measured)
        self.genes = self.closed_form.genes  # perturbed in training, in the order of the similarities
        singles = [genes for genes in self.perturbations if len(genes) == 1]
        self.singles_form = None
        if closed_form and self.closed_form.has_combinations and len(singles) >= MIN_SINGLES:
            self.singles_form = ClosedForm(self.evidence, singles, inputs.n_measured)
        self.single_calibration = Calibration(inputs.n_measured)
        self.combination_calibration = Calibration(inputs.n_measured)
        self.register_buffer("share", torch.zeros((), dtype=torch.float64))
        self._forget_similarities()
        self.register_buffer("row_noise", torch.ones(len(self.perturbations), dtype=torch.float64))
        self.register_buffer("gene_noise", torch.ones(inputs.n_measured, dtype=torch.float64))
        self.register_buffer("own_share", torch.zeros(len(self.perturbations), dtype=torch.float64))
        self._row_of = {genes: row for row, genes in enumerate(self.perturbations)}
        self.register_buffer("noise_known", torch.zeros(2, dtype=torch.bool))  # for perturbations, for genes

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
        learned_from, order = even_choice(labels, MAX_LEARNED_FROM), order_of(labels)
        self._learned_from = torch.as_tensor(learned_from)
        self.closed_form.set_effects(self.targets, **self.known_noise())
        self.closed_form.prepare(learned_from, order)
        self.attention.set_effects(self.targets, order)
        if self.singles_form is not None:
            rows = list(self.single_row.values())
            noise = self.known_noise()
            noise["row_noise"] = noise["row_noise"] if noise["row_noise"] is None else noise["row_noise"][rows]
            self.singles_form.set_effects(self.targets[rows], **noise)
            alone = [labels[row] for row in rows]
            self.singles_form.prepare(even_choice(alone, MAX_LEARNED_FROM), order_of(alone))
        self._descents = self._closed_descents()
        if self.uses_attention:
            attention = self.attention
            attention.prepare(learned_from, order, self.closed_form.similarities, self.targets)
            self._descents.append(Descent(attention, attention.loss, ATTENTION_STEPS))
            # The attention of each fold is trained on the other folds and evaluated on its own.
            self._folds = [attention.twin() for _ in range(N_FOLDS)]
            for k, half in enumerate(self._folds):
                learned = attention.queries.of((attention.fold != k).nonzero()[:, 0])
                self._descents.append(Descent(half, partial(half.loss, learned), FOLD_STEPS))

    def known_noise(self) -> dict[str, Tensor | None]:
        """Return the noise of perturbations and of genes as arguments for the closed form; None where unknown."""
        of_rows, of_genes = self.noise_known.tolist()
        return {
            "row_noise": self.row_noise if of_rows else None,
            "gene_noise": self.gene_noise if of_genes else None,
        }

    @property
    def _forms(self) -> list[ClosedForm]:
        return [form for form in (self.closed_form, self.singles_form) if form is not None]

    def _closed_descents(self) -> list[Descent]:
        return [Descent(form, form.loss, CLOSED_FORM_STEPS) for form in self._forms]

    def step(self) -> dict[str, float]:
        """Run the optimiser steps of one epoch; return the leave-one-out losses before them."""
        losses = [descent.step() for descent in self._descents]
        names = ["closed_form", "singles"][: len(self._forms)] + ["attention"]
        return dict(zip(names, losses, strict=False))

    def reweigh(self) -> None:
        """Reweight the perturbations by their residuals, and restart the optimisers."""
        for form in self._forms:
            form.reweigh()
        self._descents[: len(self._forms)] = self._closed_descents()

    @torch.no_grad()
    def finish(self) -> None:
        """Solve the closed form for all training perturbations, and choose the share of the attention."""
        for form in self._forms:
            form.solve()
        closed = self.closed_form
        self.attention.leverage = closed.leverage()
        rows = self._learned_from
        residual, variance = self.left_out(rows)
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
        for name in ("_folds", "_learned_from", "_descents"):
            self.__dict__.pop(name, None)

    @torch.no_grad()
    def left_out(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the closed form's leave-one-out residuals of training perturbations and their variances, (n_rows, n_measured).

        If the screen has combinations, a single is left out as if its gene occurred in none of them.
        """
        closed, form = self.closed_form, self.singles_form
        residual, variance = closed.left_out_with(closed.penalty, rows), closed.left_out_variance(rows)
        if form is not None:
            alone = ~torch.as_tensor(closed.is_combination)[rows]
            of = torch.searchsorted(torch.as_tensor(list(self.single_row.values())), rows[alone])
            residual[alone], variance[alone] = form.left_out_with(form.penalty, of), form.left_out_variance(of)
        return residual, variance

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
        closed = self.singles_form or self.closed_form  # the form whose errors the calibration scales
        scale = self.single_calibration.scale
        noise = closed.noise().median() * closed.penalty
        # At larger penalties the prediction is the centre, and the penalty no longer reflects the noise.
        told = closed.penalty < 1e3
        return 2 * (noise.sqrt() * scale)[told].median() if told.any() else 2 * scale.median()

    def loss(self, tensors: dict[str, Tensor], inference_outputs: dict, generative_outputs: dict) -> LossOutput:
        """Return the leave-one-out loss, for scvi-tools only: training calls :meth:`step` instead."""
        loss = self.closed_form.loss()
        return LossOutput(loss=loss, n_obs_minibatch=len(self.perturbations))

    # ------------------------------------------------------------------ prediction

    @torch.no_grad()
    def predict_batches(self, batches: Sequence[Sequence[Genes]], wanted: Wanted) -> Iterator[Prediction]:
        """Predict batch by batch, looking up the evidence of all genes only once."""
        self.look_up({gene for batch in batches for gene in genes_of(batch)})
        for batch in batches:
            yield self._predict(batch, wanted)

    def look_up(self, nodes: set[int]) -> None:
        """Compute and cache the similarities of genes to the perturbed genes of the training data."""
        new = sorted(nodes - self._similar_row.keys())
        if new:
            found = self.evidence.similarities(new, self.genes)
            self._similar = np.concatenate([self._similar, found], axis=1) if self._similar_row else found
            self._similar_row.update(zip(new, range(len(self._similar_row), self._similar.shape[1]), strict=True))

    def _forget_similarities(self) -> None:
        self._similar = np.zeros((self.evidence.n_sources, 0, len(self.genes)))
        self._similar_row = {}

    def asked(self, perturbations: Sequence[Genes]) -> Asked:
        """Return perturbations with their genes and the similarities of these to the training genes."""
        nodes = genes_of(perturbations)
        return Asked(perturbations, nodes, self.similarities(nodes))

    def similarities(self, nodes: Sequence[int]) -> NDArray[np.floating]:
        """Return the similarities of genes to the perturbed genes: (n_sources, n, n_training_genes)."""
        self.look_up(set(nodes))
        return np.take(self._similar, [self._similar_row[node] for node in nodes], axis=1)

    def _predict(self, perturbations: Sequence[Genes], wanted: Wanted) -> Prediction:
        asked = self.asked(perturbations)
        kernel = self.closed_form.to_training(asked)
        lfc = self.closed_form.predict(kernel)
        attended = [k for k, node in enumerate(asked.genes) if self._is_attended(node)]
        shows_attention = wanted.attention and self.uses_attention
        blends = bool(attended) and float(self.share) > 0
        attention = self.attention.of_genes(asked.genes, asked.similarities) if blends or shows_attention else None
        if attended and (blends or self.singles_form is not None):
            lfc = self._blend(lfc, asked, attended, attention)
        own, share, measured, noise = self._own(perturbations)
        lfc[own] = torch.lerp(lfc[own], measured, share)
        std = change = None
        if wanted.std or wanted.change is not None:
            std, change = self._errors(lfc, kernel, asked, wanted.change)
            # For a measured perturbation, a new measurement differs from the old one by the noise of both.
            twice, kept = 2 * noise, share.expand_as(noise)
            std[own] = torch.lerp(std[own].square(), twice, kept).sqrt()
            if change is not None and len(own):
                change[own] = torch.lerp(change[own], _beyond(lfc[own], twice.sqrt(), float(wanted.change)), kept)
        std = std if wanted.std else None
        if not shows_attention:
            return Prediction(lfc, std, change)
        to_genes, to_perturbations = self._attention_of(asked, attention)
        return Prediction(lfc, std, change, to_genes, to_perturbations, 1 - to_perturbations.sum(1))

    def _errors(
        self, lfc: Tensor, kernel: Tensor, asked: Asked, threshold: float | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the standard deviations of predictions and, given a threshold, the probabilities of a change beyond it."""
        closed, perturbations = self.closed_form, asked.perturbations
        sizes = torch.as_tensor([len(genes) for genes in perturbations], dtype=torch.float64)
        combined, known = sizes > 1, torch.as_tensor([self.single_row.keys() >= set(p) for p in perturbations])
        within = torch.as_tensor(self.evidence.within(perturbations))
        profiles = closed.summed_profiles(asked) if closed.has_combinations else None
        prior = closed.variance(sizes, within, profiles)
        variance = closed.posterior_variance(kernel, prior, closed.new_noise(perturbations))
        form, rows = self.singles_form, (~combined & ~known).nonzero()[:, 0].tolist()
        if form is not None and rows:
            alone = [perturbations[k] for k in rows]
            prior = form.variance(sizes[rows], within[:, rows], None)
            kernel = self._alike(genes[0] for genes in alone)[1]
            variance[rows] = form.posterior_variance(kernel, prior, form.new_noise(alone))
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
            for rows, calibration in self._calibrations(combined):
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
        alone = self.predict([(gene,) for gene in genes_of(guessed)], Wanted(attention=False)).std
        factor = float(self.closed_form.factor)
        return factor**2 * torch.as_tensor(membership(guessed, genes_of(guessed)) @ alone.square().numpy())

    def _alike(self, genes: Iterable[int]) -> tuple[ClosedForm, Tensor]:
        """Return the closed form that predicts genes from similar ones, and its kernel between them and the training."""
        asked, form = self._alone(genes), self.singles_form or self.closed_form
        columns = np.searchsorted(self.genes, form.genes)
        return form, form.to_training(asked._replace(similarities=asked.similarities[:, :, columns]))

    def _is_attended(self, node: int) -> bool:
        """Return whether attention predicts a gene: if it was not perturbed alone, or if there is no closed form."""
        return not self.uses_closed_form or node not in self.single_row

    def _unit(self, n_genes: int) -> float:
        """Return the scale of a perturbation relative to the sum of its genes' effects."""
        if n_genes == 1:
            return 1.0
        return float(self.closed_form.factor) if self.uses_closed_form else self.attention.factor

    def _blend(self, lfc: Tensor, asked: Asked, attended: list[int], attention: Tensor | None) -> Tensor:
        """Predict the effects of genes that were not perturbed alone, and use these effects in combinations."""
        genes = [asked.genes[k] for k in attended]
        holds = membership(asked.perturbations, asked.genes)[:, attended]
        spread = sparse.diags([self._unit(len(p)) for p in asked.perturbations]) @ holds
        apart = None if attention is None else self.attention.predict(attention[:, attended])
        if not self.uses_closed_form:
            return torch.as_tensor(spread @ apart.numpy())
        # If a gene alone is among the perturbations, its closed-form prediction is already there.
        row_of = single_rows(asked.perturbations)
        within = torch.empty(len(genes), lfc.shape[1], dtype=torch.float64)
        there = [i for i, gene in enumerate(genes) if gene in row_of]
        within[there] = lfc[[row_of[genes[i]] for i in there]]
        rest = [i for i, gene in enumerate(genes) if gene not in row_of]
        if rest:
            within[rest] = self.closed_form.predict(self.closed_form.to_training(self._alone(genes[i] for i in rest)))
        form, kernel = self._alike(genes)
        found = form.predict(kernel)
        if apart is not None:
            found = torch.lerp(found, apart, self.share)
        spread = spread @ sparse.diags(self._weight_of_alike(genes))
        return lfc + torch.as_tensor(spread @ (found - within).numpy())

    def _weight_of_alike(self, genes: Sequence[int]) -> NDArray[np.float64]:
        """Return how much similar genes count in the effects of genes not perturbed alone: as much as one combination with the gene."""
        n_combinations = dict(zip(self.genes, np.asarray(self.closed_form.holds.sum(axis=0)).ravel(), strict=True))
        return np.array([1 / (1 + n_combinations.get(gene, 0)) for gene in genes])

    def _alone(self, genes: Iterable[int]) -> Asked:
        return self.asked([(gene,) for gene in genes])

    def _attention_of(self, asked: Asked, attention: Tensor) -> tuple[Tensor, Tensor]:
        """Return the attention of perturbations to the genes of the networks, and to measured perturbations."""
        holds = membership(asked.perturbations, asked.genes)
        mean = sparse.diags([1 / len(genes) for genes in asked.perturbations]) @ holds
        of_genes = self.attention.mean_attention(attention)
        to_perturbations = torch.as_tensor(mean @ of_genes.numpy())
        through = self.evidence.through_genes(
            asked.genes, self.genes, of_genes.numpy() @ self.attention.means, self.network_weights
        )
        total = through.sum(axis=1, keepdims=True)
        through /= np.where(total > 1e-12, total, 1)
        # A gene without edges passes its attention to itself.
        alone = np.flatnonzero(total[:, 0] <= 1e-12)
        through[alone, np.asarray(asked.genes)[alone]] = 1
        to_genes = mean @ through
        total = to_genes.sum(axis=1, keepdims=True)
        return torch.as_tensor(to_genes / np.where(total > 0, total, 1)), to_perturbations

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
        asked = self.asked(perturbations)
        learned, untrained = (
            self._attention_of(asked, half.of_genes(asked.genes, asked.similarities))[0]
            for half in (self.attention, self.attention.twin())
        )
        return learned, untrained

    @torch.no_grad()
    def gene_embeddings(self) -> Tensor:
        """Return the effect of each gene on the programs of the screen, by its attention, (n_nodes, n_programs)."""
        return self.states([(node,) for node in range(self.inputs.n_nodes)])

    @torch.no_grad()
    def states(self, perturbations: Sequence[Genes]) -> Tensor:
        """Return the cell states of perturbations in the programs, summed over their genes, (n, n_programs)."""
        self.look_up(set(genes_of(perturbations)))
        found = []
        for start in range(0, len(perturbations), BATCH):
            asked = self.asked(perturbations[start : start + BATCH])
            states = self.attention.states(self.attention.of_genes(asked.genes, asked.similarities))
            found.append(torch.as_tensor(membership(asked.perturbations, asked.genes) @ states.numpy()))
        return torch.cat(found)

    @torch.no_grad()
    def prior_kernel(self, perturbations: Sequence[Genes], others: Sequence[Genes]) -> Tensor:
        """Return the kernel between two lists of perturbations, shape (n, n_others)."""
        a, b = self.asked(perturbations), self.asked(others)
        parts = self.closed_form.parts_between(a, b, self.evidence.similarities(a.genes, b.genes))
        return self.closed_form.kernel(parts)

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
        closed = self.closed_form
        row = self._row_of.get(tuple(perturbation))
        own = 0.0 if row is None else float(self.own_share[row])
        rows = list(range(len(self.perturbations)))
        value = self.targets[:, gene].double()
        parts = []
        weight = torch.zeros(len(rows), dtype=torch.float64)
        if self.uses_closed_form:
            weight = closed.influence(closed.to_training(self.asked([perturbation])), gene)[0]
        share, unit = float(self.share), self._unit(len(perturbation))
        attended = [node for node in sorted(perturbation) if self._is_attended(node)]
        if attended and (share > 0 or self.singles_form is not None):
            alone = self._alone(attended)
            of_alike = torch.full((len(attended),), unit, dtype=torch.float64)
            if self.uses_closed_form:
                of_alike *= torch.as_tensor(self._weight_of_alike(attended))
                weight = weight - of_alike @ closed.influence(closed.to_training(alone), gene)
                form, kernel = self._alike(attended)
                known = [self._row_of[genes] for genes in form.perturbations]
                weight[known] += (1 - share) * of_alike @ form.influence(kernel, gene)
        if attended and share > 0:
            of_alike = (1 - own) * share * of_alike
            attention = self.attention.of_genes(attended, alone.similarities)
            added, centre = self.attention.contributions(attention, gene)
            # The value of a perturbation is its contribution at full attention.
            part = of_alike @ self.attention.mean_attention(attention)
            part = torch.where(part > 0, part, torch.ones_like(part))
            parts.append(Contribution("attention", rows, part, of_alike @ added / part))
            parts.append(Contribution("centre", [], of_alike.sum()[None], centre[None]))
        if self.uses_closed_form or not parts:
            parts.insert(0, Contribution("closed form", rows, (1 - own) * weight, value))
        if row is not None and own > 0:
            parts.append(Contribution("own measurement", [row], torch.tensor([own]).double(), value[[row]]))
        return parts

    def through_genes(
        self, perturbation: Genes, rows: Sequence[int], weights: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Divide weights of training perturbations among the genes that make a perturbation similar to each of them.

        If two perturbations share no network gene, their weight goes to the perturbed genes themselves.

        Parameters
        ----------
        perturbation
            Nodes of the perturbation.
        rows
            Training perturbations.
        weights
            Their weights, shape (n, n_rows).

        Returns
        -------
        Array of shape (n, n_nodes) with the same row sums.
        """
        known = [self.perturbations[row] for row in rows]
        genes = genes_of(known)
        holds = membership(known, genes)
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
            own = list({*perturbation, *known[k]})
            total[:, own] += weights[:, [k]] / len(own)
        return total

    @torch.no_grad()
    def posterior(self, perturbations: Sequence[Genes]) -> Posterior:
        """Return the joint posterior of the prediction errors of some perturbations."""
        return Posterior(self, perturbations)

    def load_state_dict(self, state_dict: Any, strict: bool = True, assign: bool = False) -> Any:
        """Load weights, and clear everything that was looked up or computed before."""
        self._forget_similarities()
        for form in self._forms:
            form._coefficients = None
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
