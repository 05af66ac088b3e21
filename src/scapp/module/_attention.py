"""Attention over measured perturbations: evidence about a gene decides which measured effects predict its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from scapp.module._base import Half
from scapp.module._evidence import Genes, eigh, membership

# Programs of the screen: groups of the leading singular vectors of its effects.
PROGRAMS = (0, 1, 3, 8, 20, 60)
# Each singular vector must combine several effects; otherwise a perturbation would find itself in the programs.
PERTURBATIONS_PER_VECTOR = 4
# Added to similarities before taking their logarithm.
SMALLEST_SIMILARITY = 1e-3
# Minimum numbers of singles for programs of their own, and for queries to learn from.
MIN_SINGLES_FOR_PROGRAMS, MIN_QUERIES = 20, 8
# There are few scalars and programs, so this many evenly chosen perturbations are enough to learn them.
MAX_ASKED = 800
MAX_FOR_PROGRAMS = 1500
# Strength of the prior on the scalars, in units of one independent value of one perturbation, and how many times more
# strongly the scalars of each program are drawn to the common ones.
SCALAR_PRIOR, PROGRAM_PRIOR = 1.5, 2.0
FACTOR_RANGE = (0.3, 1.0)
CENTRE_STEPS = 50
N_FOLDS = 2


class Queries(NamedTuple):
    """Training perturbations that the attention predicts while it learns; each is hidden from itself.

    `features`, shape (n_features, n_queries, n), and `hidden`, (n_queries, n), have one query for each perturbed gene.
    `mean`, (n_asked, n_queries), averages over the genes of a perturbation, and is None if each has one gene. The other
    fields have one entry per perturbation: `targets`, (n_asked, rank); the squared length `outside` the programs; the
    `centre` without the perturbation, (n_asked, n_measured), and its `centre_scores`; and the `unit` of its effects.
    """

    features: Tensor
    hidden: Tensor
    mean: Tensor | None
    targets: Tensor
    outside: Tensor
    centre: Tensor
    centre_scores: Tensor
    unit: Tensor

    def of(self, asked: Tensor) -> Queries:
        """Return the queries for some of the perturbations."""
        queries, mean = asked, None
        if self.mean is not None:
            queries = (self.mean[asked].sum(0) > 0).nonzero()[:, 0]
            mean = self.mean[asked][:, queries]
        rest = (self.targets, self.outside, self.centre, self.centre_scores, self.unit)
        return Queries(self.features[:, queries], self.hidden[queries], mean, *(values[asked] for values in rest))


class MeasuredAttention(Half):
    r"""Equations 3 to 7, where :math:`h_i` is the effect of perturbing i.

    In each program g of the screen, the score of a gene p for a measured perturbation i depends on every evidence source m,

    .. math::
        e^g_{pi} = \sum_m \beta^g_m \log k_m(p, i) + \gamma^g_m k_m(p, i) + \delta^g\, o(p, i) + \rho^g \log \lVert h_i \rVert,

    where o is the share of p among the genes of i. A softmax over the measured perturbations and a sink gives
    :math:`\alpha^g`. The cell state is the attention-weighted mean of the measured effects in the program, and the
    loadings of the program are the linear decoder; the sink represents the centre of the screen. In training, a
    perturbation never sees itself. Afterwards, a gene that was perturbed alone attends first to itself, to the extent
    that its noise allows.

    Parameters
    ----------
    n_sources
        Number of similarities of genes.
    perturbations
        Nodes of each training perturbation.
    n_measured
        Number of measured genes.
    """

    start: Tensor
    centre: Tensor
    log_size: Tensor
    leverage: Tensor
    unit: Tensor
    scores: Tensor
    loadings: Tensor

    def __init__(self, n_sources: int, perturbations: Sequence[Genes], n_measured: int):
        super().__init__(n_sources, perturbations, n_measured)
        sizes = np.array([len(p) for p in self.perturbations])
        self.means = sparse.csr_matrix(sparse.diags(1 / sizes) @ self.holds)
        n_programs, n_features = len(PROGRAMS) - 1, 2 * n_sources + 1
        start = torch.cat([torch.full((n_sources,), 0.5), torch.ones(n_sources), torch.tensor([2.0])]).double()
        self.register_buffer("start", start, persistent=False)
        self.common = nn.Parameter(start.clone())
        self.departure = nn.Parameter(torch.zeros(n_programs, n_features, dtype=torch.float64))
        self.log_gain = nn.Parameter(torch.zeros(n_programs, dtype=torch.float64))
        self.sink = nn.Parameter(torch.zeros(n_programs, dtype=torch.float64))
        self.strength = nn.Parameter(torch.zeros(n_programs, dtype=torch.float64))
        self.centre_share = nn.Parameter(torch.full((1,), 2.0, dtype=torch.float64))  # a logit
        n = len(self.perturbations)
        of_programs = n - self.is_combination.sum()
        of_programs = of_programs if of_programs >= MIN_SINGLES_FOR_PROGRAMS else n
        rank = int(min(PROGRAMS[-1], max(of_programs // PERTURBATIONS_PER_VECTOR, 1), of_programs - 1, n_measured))
        for name, shape in {
            "centre": (n_measured,), "log_size": (n,), "leverage": (n,), "unit": (n,), "scores": (n, rank),
            "loadings": (n_measured, rank),
        }.items():  # fmt: skip
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))

    # ------------------------------------------------------------------ the training perturbations

    @torch.no_grad()
    def set_effects(self, lfc: Tensor, order: Sequence[int]) -> None:
        """Store the training effects, shape (n, n_measured), and compute their programs.

        If there are many perturbations, the programs come from a subset that is evenly spread in `order`, which must not
        depend on the order in the data.
        """
        sizes = np.array([len(p) for p in self.perturbations])
        y = lfc.double()
        self.unit = torch.as_tensor(np.where(self.is_combination, sizes * self._factor(y), 1.0))
        y = y / self.unit[:, None]
        self.centre = y.mean(0)
        squares = torch.linalg.vecdot(y, y)
        for _ in range(CENTRE_STEPS):
            self.centre = _median_weights(y, squares, self.centre) @ y
        deviation = y - self.centre
        singles = [row for row in order if not self.is_combination[row]]
        rows = singles if len(singles) >= MIN_SINGLES_FOR_PROGRAMS else list(order)
        rows = sorted(rows[:: -(-len(rows) // MAX_FOR_PROGRAMS)])
        rank = self.scores.shape[1]
        if rank < 1:
            return
        self.loadings = right_singular_vectors(deviation[rows], rank)
        self.scores = y @ self.loadings
        size = deviation.norm(dim=1).clamp_min(1e-9).log()
        self.log_size = size - size.mean()

    def _factor(self, y: Tensor) -> float:
        """Return the fitted ratio of the effect of a combination to the sum of those of its measured genes."""
        rows = [
            i for i in np.flatnonzero(self.is_combination) if all(g in self.single_row for g in self.perturbations[i])
        ]
        if not rows:
            return 1.0
        added = torch.stack([y[[self.single_row[g] for g in self.perturbations[i]]].sum(0) for i in rows])
        return float(((added * y[rows]).sum() / added.square().sum().clamp_min(1e-12)).clamp(*FACTOR_RANGE))

    @property
    def factor(self) -> float:
        """Ratio of the effect of a combination to the sum of the effects of its genes."""
        combined = np.flatnonzero(self.is_combination)
        return float(self.unit[combined[0]]) / len(self.perturbations[combined[0]]) if len(combined) else 1.0

    def twin(self) -> MeasuredAttention:
        """Return a module with its own scalars on the same data, to be trained on a part of it."""
        other = MeasuredAttention(self.n_sources, self.perturbations, self.n_measured)
        own = {**other._parameters}
        other.__dict__.update(
            {k: v for k, v in self.__dict__.items() if k not in ("_parameters", "_buffers", "_modules")}
        )
        other._parameters, other._buffers = own, self._buffers
        return other

    @property
    def programs(self) -> list[slice]:
        """Columns of each program in the scores."""
        rank = self.scores.shape[1]
        return [slice(a, min(b, rank)) for a, b in zip(PROGRAMS[:-1], PROGRAMS[1:], strict=True) if a < rank]

    # ------------------------------------------------------------------ scores and attention

    def features(
        self, genes: Sequence[int], similarities: NDArray[np.floating], rows: Sequence[int] | None = None
    ) -> Tensor:
        """Return the features of the scores, (n_features, n_genes, n): two per source, the common share, and the size.

        Parameters
        ----------
        genes
            Query nodes.
        similarities
            Their similarities to the training genes, shape (n_evidence, n_genes, n_training_genes).
        rows
            Training perturbations to attend to; all if None.
        """
        means = self.means if rows is None else self.means[list(rows)]
        alike = [np.asarray((means @ source.T).T) for source in similarities]
        known = set(self.genes)
        same = (membership([(g,) if g in known else () for g in genes], self.genes) @ means.T).toarray()
        logs = [np.log(x + SMALLEST_SIMILARITY) - np.log(SMALLEST_SIMILARITY) for x in alike]
        size = (self.log_size if rows is None else self.log_size[list(rows)]).expand(same.shape).numpy()
        return torch.as_tensor(np.stack([*logs, *alike, same, size]))

    def _scalars(self) -> tuple[Tensor, Tensor]:
        """Return the weights of the features, shape (n_programs, n_features), and the score of the sink in each program."""
        weights = torch.cat([self.common + self.departure, self.strength[:, None]], dim=1)
        n_programs = len(self.programs)
        return weights[:n_programs], self.sink[:n_programs]

    def attention(self, features: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the attention to each perturbation, (n_programs, n_genes, n); the remainder goes to the sink."""
        return _attention(*self._scalars(), features, hidden)

    def decode(self, means: Tensor, centre: Tensor) -> Tensor:
        """Return the states, (n_genes, rank): the centre plus the contribution of the attention in each program.

        Parameters
        ----------
        means
            Attention-weighted sums of the values of each program, concatenated.
        centre
            The centre in the coordinates of the programs.
        """
        states, start = [], 0
        for g, program in enumerate(self.programs):
            rank = program.stop - program.start
            mean, mass = means[:, start : start + rank], means[:, start + rank, None]
            states.append(centre[:, program] + self.log_gain[g].exp() * (mean - mass * centre[:, program]))
            start += rank + 1
        return torch.cat(states, dim=1)

    def _values(self, scores: Tensor) -> list[Tensor]:
        """Return the values that attention sums in each program: the scores of the perturbations, and ones for its mass."""
        one = torch.ones(len(scores), 1, dtype=torch.float64)
        return [torch.cat([scores[:, program], one], dim=1) for program in self.programs]

    # ------------------------------------------------------------------ learning the scalars

    @torch.no_grad()
    def prepare(
        self, learned_from: Sequence[int], order: Sequence[int], similarities: NDArray[np.floating], lfc: Tensor
    ) -> None:
        """Precompute the inputs of every training step.

        Parameters
        ----------
        learned_from
            Training perturbations to learn from.
        order
            An order of the training perturbations that does not depend on their order in the data. It defines the folds, and
            the subset to predict if there are many.
        similarities
            Similarities among the training genes, shape (n_evidence, n_genes, n_genes).
        lfc
            Training effects, shape (n, n_measured).
        """
        rows = np.array(learned_from)
        position = {int(row): k for k, row in enumerate(rows)}
        asked = rows[~self.is_combination[rows]]
        if len(asked) < MIN_QUERIES:
            asked = rows
        askable = set(asked.tolist())
        by_label = [row for row in order if row in askable][:: -(-len(asked) // MAX_ASKED)]
        asked = np.sort(by_label)
        queries = [(row, gene) for row in asked for gene in self.perturbations[row]]
        columns = np.searchsorted(self.genes, [gene for _, gene in queries])
        self.asked = asked
        features = self.features([gene for _, gene in queries], similarities[:, columns], rows)
        # A single is predicted as if its gene had not been perturbed at all; a combination, as if it had not been measured.
        holds = torch.as_tensor(self.holds[rows][:, columns].toarray() > 0).T
        hidden = holds & ~torch.as_tensor(self.is_combination[[row for row, _ in queries]])[:, None]
        hidden[torch.arange(len(queries)), torch.as_tensor([position[int(row)] for row, _ in queries])] = True
        at = {int(row): k for k, row in enumerate(asked)}
        mean = None
        if len(queries) != len(asked):
            mean = torch.zeros(len(asked), len(queries), dtype=torch.float64)
            for k, (row, _) in enumerate(queries):
                mean[at[int(row)], k] = 1 / len(self.perturbations[row])
        everything, chosen = torch.as_tensor(rows), torch.as_tensor(asked)
        self._known = self._values(self.scores[everything])
        unit = self.unit[chosen]
        y = lfc.double()[chosen] / unit[:, None]
        everyone = lfc.double() / self.unit[:, None]
        weight = _median_weights(everyone, torch.linalg.vecdot(everyone, everyone), self.centre)[chosen][:, None]
        centre = (self.centre - weight * y) / (1 - weight)  # the centre without each perturbation
        deviation = y - self.centre
        outside = deviation.square().sum(1) - (deviation @ self.loadings).square().sum(1)
        self.queries = Queries(
            features, hidden, mean, y @ self.loadings, outside.clamp_min(0), centre, centre @ self.loadings, unit
        )
        self._scale = float((y.norm(dim=1) * unit).mean()) or 1.0
        # Effective number of independent values of a perturbation: squared sum of eigenvalues over sum of their squares.
        products = deviation @ deviation.T
        independent = float(products.trace() ** 2 / products.square().sum().clamp_min(1e-30)) if products.any() else 1.0
        self._prior = SCALAR_PRIOR / independent
        self.fold = torch.zeros(len(asked), dtype=torch.long)
        self.fold[[at[row] for row in by_label]] = torch.arange(len(asked)) % N_FOLDS

    def _masked_states(self, queries: Queries) -> Tensor:
        means = _Attended.apply(*self._scalars(), queries.features, queries.hidden, self._known)
        if queries.mean is not None:
            means = queries.mean @ means
        return self.decode(means, torch.sigmoid(self.centre_share) * queries.centre_scores)

    def loss(self, queries: Queries | None = None) -> Tensor:
        """Return the mean length of the masked residuals, relative to the effects, plus the prior on the scalars."""
        queries = self.queries if queries is None else queries
        error = (self._masked_states(queries) - queries.targets).square().sum(1) + queries.outside
        length = error.clamp_min(1e-30).sqrt() * queries.unit
        departure = (self.common - self.start).square().sum() + PROGRAM_PRIOR * self.departure.square().sum()
        for p in (self.log_gain, self.sink, self.strength):
            departure = departure + p.square().sum()
        departure = departure + (self.centre_share - 2).square().sum()
        return length.mean() / self._scale + self._prior / len(length) * departure

    @torch.no_grad()
    def left_out(self) -> Tensor:
        """Return the masked predictions for the perturbations to learn from, shape (n_asked, n_measured)."""
        centre = torch.sigmoid(self.centre_share) * self.queries.centre
        inside = self._masked_states(self.queries) - centre @ self.loadings
        return (centre + inside @ self.loadings.T) * self.queries.unit[:, None]

    # ------------------------------------------------------------------ prediction

    @property
    def _drawn_centre(self) -> Tensor:
        """The centre of the screen, shrunk towards zero by the learned share, shape (n_measured,)."""
        return torch.sigmoid(self.centre_share) * self.centre

    @torch.no_grad()
    def of_genes(self, genes: Sequence[int], similarities: NDArray[np.floating]) -> Tensor:
        """Return the attention of genes, (n_programs, n_genes, n); genes perturbed alone attend first to themselves."""
        found = self.attention(self.features(genes, similarities))
        for k, gene in enumerate(genes):
            if gene in self.single_row:
                row = self.single_row[gene]
                own = self.leverage[row]
                found[:, k] *= 1 - own
                found[:, k, row] += own
        return found

    @torch.no_grad()
    def states(self, attention: Tensor) -> Tensor:
        """Return the cell states in all programs, relative to the centre, shape (n_genes, rank)."""
        centre = (self._drawn_centre @ self.loadings).expand(attention.shape[1], -1)
        return self.decode(_means(attention, self._values(self.scores)), centre) - centre

    @torch.no_grad()
    def predict(self, attention: Tensor) -> Tensor:
        """Return the effects of perturbing genes alone, from their attention, shape (n_genes, n_measured)."""
        return self._drawn_centre + self.states(attention) @ self.loadings.T

    @torch.no_grad()
    def contributions(self, attention: Tensor, gene: int) -> tuple[Tensor, Tensor]:
        """Return the contribution of each training perturbation to the predicted value of one gene, and the centre."""
        centre = self._drawn_centre
        deviation = self.scores - centre @ self.loadings
        total = torch.zeros(attention.shape[1:], dtype=torch.float64)
        for g, program in enumerate(self.programs):
            value = deviation[:, program] @ self.loadings[gene, program]
            total += self.log_gain[g].exp() * attention[g] * value
        return total, centre[gene]

    @torch.no_grad()
    def mean_attention(self, attention: Tensor) -> Tensor:
        """Return the attention averaged over programs, weighted by their share of the effects, shape (n_genes, n)."""
        share = torch.stack([(self.scores[:, program]).square().sum() for program in self.programs])
        share = share / share.sum().clamp_min(1e-30)
        return torch.einsum("g,gpi->pi", share, attention)


class _Attended(torch.autograd.Function):
    """Attention-weighted sums of values, whose gradient makes a third as many passes over the scores as autograd's."""

    @staticmethod
    def forward(
        ctx: Any, weights: Tensor, sink: Tensor, features: Tensor, hidden: Tensor, values: Sequence[Tensor]
    ) -> Tensor:
        ctx.attention = _attention(weights, sink, features, hidden)
        ctx.features, ctx.values = features, values
        return _means(ctx.attention, values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        attention, features = ctx.attention, ctx.features
        parts = gradient.split([v.shape[1] for v in ctx.values], dim=1)
        of_scores = torch.stack([part @ v.T for part, v in zip(parts, ctx.values, strict=True)]).mul_(attention)
        total = of_scores.sum(2)
        of_scores.addcmul_(attention, total[:, :, None], value=-1)
        of_weights = of_scores.reshape(len(attention), -1) @ features.reshape(len(features), -1).T
        of_sink = -((1 - attention.sum(2)) * total).sum(1)
        return of_weights, of_sink, None, None, None


def _attention(weights: Tensor, sink: Tensor, features: Tensor, hidden: Tensor | None) -> Tensor:
    """Return the softmax of weighted features over perturbations and a sink (left out), (n_programs, n_genes, n)."""
    n_genes, n = features.shape[1:]
    # The sink weighs as much as n unrelated perturbations, where n is the number of perturbations.
    sink = (sink + np.log(n))[:, None]
    found = (weights @ features.reshape(len(features), -1)).reshape(len(weights), n_genes, n)
    if hidden is not None:
        found.masked_fill_(hidden, -torch.inf)
    largest = torch.maximum(found.amax(2), sink)
    found.sub_(largest[:, :, None]).exp_()
    return found.div_((found.sum(2) + (sink - largest).exp())[:, :, None])


def _means(attention: Tensor, values: Sequence[Tensor]) -> Tensor:
    """Return the attention-weighted sums of the values of each program, concatenated, shape (n_genes, n_values)."""
    return torch.cat([of_program @ value for of_program, value in zip(attention, values, strict=True)], dim=1)


def _median_weights(y: Tensor, squares: Tensor, centre: Tensor) -> Tensor:
    """Return the weights of a Weiszfeld step towards the geometric median: the inverse distances of the perturbations."""
    distance = (squares - 2 * (y @ centre) + centre @ centre).clamp_min(0).sqrt()
    weight = 1 / distance.clamp_min(0.1 * distance.median().clamp_min(1e-12))
    return weight / weight.sum()


def right_singular_vectors(values: Tensor, rank: int) -> Tensor:
    """Return the leading right singular vectors, (n_columns, rank), from inner products of the rows or the columns."""
    if values.shape[0] > values.shape[1]:
        return eigh(values.T @ values)[1][:, -rank:].flip(1).contiguous()
    vectors = eigh(values @ values.T)[1][:, -rank:].flip(1)
    return torch.linalg.qr(values.T @ vectors).Q
