"""Attention over measured perturbations: what is known about a gene decides which measured effects its own is made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import sparse
from torch import Tensor, nn

from scapp.module._evidence import Genes, membership

# Programs of the screen: groups of the leading singular vectors of its effects.
PROGRAMS = (0, 1, 3, 8, 20, 60)
# A perturbation would find itself in the programs, had each vector not the effects of several.
PERTURBATIONS_PER_VECTOR = 4
# Added to similarities before their logarithm is taken.
SMALLEST_SIMILARITY = 1e-3
# Fewer singles than these make no programs of their own, or are no queries to learn from.
MIN_SINGLES_FOR_PROGRAMS, MIN_QUERIES = 20, 8
# Strength of the prior on the scalars: in units of one independent value of one perturbation; and how much more strongly
# the programs are held together than their common scores.
SCALAR_PRIOR, PROGRAM_PRIOR = 1.5, 2.0
FACTOR_RANGE = (0.3, 1.0)
CENTRE_STEPS = 50
N_FOLDS = 2


class Queries(NamedTuple):
    """Training perturbations that the attention is asked about while it learns; they do not see themselves.

    `features`, of shape (n_features, n_queries, n), and `hidden`, (n_queries, n), have one query for each perturbed gene;
    `mean`, (n_asked, n_queries), takes the mean over the genes of a perturbation, and is None where each has one gene. The
    rest is of the perturbations: `targets`, (n_asked, rank), squared length `outside` of the programs, the `centre` without
    the perturbation, (n_asked, n_measured), its `centre_scores`, and the `unit` of its effects.
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
        """Return the queries of some of the perturbations."""
        queries, mean = asked, None
        if self.mean is not None:
            queries = (self.mean[asked].sum(0) > 0).nonzero()[:, 0]
            mean = self.mean[asked][:, queries]
        rest = (self.targets, self.outside, self.centre, self.centre_scores, self.unit)
        return Queries(self.features[:, queries], self.hidden[queries], mean, *(values[asked] for values in rest))


class MeasuredAttention(nn.Module):
    r"""Equations 3 to 7, with :math:`h_i` = what perturbing i does.

    The score of a gene p for a measured perturbation i reads the evidence of every source, in each program g of the screen,

    .. math::
        e^g_{pi} = \sum_m \beta^g_m \log k_m(p, i) + \gamma^g_m k_m(p, i) + \delta^g\, o(p, i) + \rho^g \log \lVert h_i \rVert,

    with o the share of p among the genes of i. A softmax over the measured perturbations and a sink gives
    :math:`\alpha^g`, the cell state is the attention-weighted mean of the measured effects in the program, and the linear
    decoder are the program's loadings; what goes to the sink is the centre of the screen. In training, a perturbation
    never sees itself. Afterwards a gene that was perturbed alone attends to itself first, as far as its noise allows.

    Parameters
    ----------
    n_sources
        Number of similarities of genes.
    """

    start: Tensor
    centre: Tensor
    log_size: Tensor
    leverage: Tensor
    unit: Tensor
    scores: Tensor
    loadings: Tensor

    def __init__(self, n_sources: int, perturbations: Sequence[Genes], n_measured: int):
        super().__init__()
        self.n_sources = n_sources
        self.perturbations = list(perturbations)
        self.genes = sorted({gene for genes in self.perturbations for gene in genes})
        self._place = {gene: k for k, gene in enumerate(self.genes)}
        sizes = np.array([len(p) for p in self.perturbations])
        self.is_combination = sizes > 1
        self.single_row = {p[0]: i for i, p in enumerate(self.perturbations) if len(p) == 1}
        self.means = sparse.csr_matrix(sparse.diags(1 / sizes) @ membership(self.perturbations, self._place))
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
    def set_effects(self, lfc: Tensor) -> None:
        """Take the training effects, of shape (n, n_measured), and make their programs."""
        sizes = np.array([len(p) for p in self.perturbations])
        y = lfc.double()
        self.unit = torch.as_tensor(np.where(self.is_combination, sizes * self._factor(y), 1.0))
        y = y / self.unit[:, None]
        weight = self._centre_weights(y)
        self.centre = weight @ y
        deviation = y - self.centre
        of_programs = deviation
        if (~self.is_combination).sum() >= MIN_SINGLES_FOR_PROGRAMS:
            of_programs = deviation[torch.as_tensor(~self.is_combination)]
        rank = self.scores.shape[1]
        if rank < 1:
            return
        self.loadings = torch.linalg.svd(of_programs, full_matrices=False).Vh[:rank].T.contiguous()
        self.scores = y @ self.loadings
        size = deviation.norm(dim=1).clamp_min(1e-9).log()
        self.log_size = size - size.mean()

    def _factor(self, y: Tensor) -> float:
        """Return the scale between a combination and the sum of its measured genes."""
        rows = [
            i for i in np.flatnonzero(self.is_combination) if all(g in self.single_row for g in self.perturbations[i])
        ]
        if not rows:
            return 1.0
        added = torch.stack([y[[self.single_row[g] for g in self.perturbations[i]]].sum(0) for i in rows])
        return float(((added * y[rows]).sum() / added.square().sum().clamp_min(1e-12)).clamp(*FACTOR_RANGE))

    @property
    def factor(self) -> float:
        """Scale between a combination and the sum of its genes."""
        combined = np.flatnonzero(self.is_combination)
        return float(self.unit[combined[0]]) / len(self.perturbations[combined[0]]) if len(combined) else 1.0

    def twin(self) -> MeasuredAttention:
        """Return another set of scalars over the same data, to be learned from a part of it."""
        other = MeasuredAttention(self.n_sources, self.perturbations, len(self.centre))
        own = {**other._parameters}
        other.__dict__.update(
            {k: v for k, v in self.__dict__.items() if k not in ("_parameters", "_buffers", "_modules")}
        )
        other._parameters, other._buffers = own, self._buffers
        return other

    @staticmethod
    def _centre_weights(y: Tensor) -> Tensor:
        """Return the weights with which the perturbations make their geometric median, roughly."""
        weight = torch.full((len(y),), 1 / len(y), dtype=torch.float64)
        for _ in range(CENTRE_STEPS):
            distance = (y - weight @ y).norm(dim=1)
            weight = 1 / distance.clamp_min(0.1 * distance.median().clamp_min(1e-12))
            weight = weight / weight.sum()
        return weight

    @property
    def programs(self) -> list[slice]:
        """Columns of each program among the scores."""
        rank = self.scores.shape[1]
        return [slice(a, min(b, rank)) for a, b in zip(PROGRAMS[:-1], PROGRAMS[1:], strict=True) if a < rank]

    # ------------------------------------------------------------------ scores and attention

    def features(
        self, genes: Sequence[int], similarities: NDArray[np.float64], rows: Sequence[int] | None = None
    ) -> Tensor:
        """Return what the scores read: (n_features, n_genes, n_sources).

        Parameters
        ----------
        genes
            Nodes that ask.
        similarities
            Of these to the training genes, of shape (n_evidence, n_genes, n_training_genes).
        rows
            Training perturbations that are asked; all if None.
        """
        means = self.means if rows is None else self.means[list(rows)]
        alike = [np.asarray((means @ source.T).T) for source in similarities]
        same = np.asarray(
            (membership([(g,) if g in self._place else () for g in genes], self._place) @ means.T).toarray()
        )
        logs = [np.log(x + SMALLEST_SIMILARITY) - np.log(SMALLEST_SIMILARITY) for x in alike]
        return torch.as_tensor(np.stack([*logs, *alike, same]))

    def attention(self, features: Tensor, log_size: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the attention of each program to each perturbation, (n_programs, n_genes, n); the sink has the rest."""
        n_programs = len(self.programs)
        weights = (self.common + self.departure)[:n_programs]
        n_genes, n = features.shape[1:]
        scores = (weights @ features.reshape(len(features), -1)).reshape(n_programs, n_genes, n)
        scores = scores + self.strength[:n_programs, None, None] * log_size
        if hidden is not None:
            scores = scores.masked_fill(hidden, -torch.inf)
        # As many strangers stand in the sink as there are perturbations.
        sink = (self.sink[:n_programs] + np.log(n))[:, None, None].expand(-1, n_genes, 1)
        return torch.softmax(torch.cat([scores, sink], dim=2), dim=2)[:, :, :-1]

    def decode(self, attention: Tensor, scores: Tensor, centre: Tensor) -> Tensor:
        """Return the states, (n_genes, rank): the centre, and what attention adds to it in each program."""
        states = []
        for g, program in enumerate(self.programs):
            mean = attention[g] @ scores[:, program] - attention[g].sum(1, keepdim=True) * centre[:, program]
            states.append(centre[:, program] + self.log_gain[g].exp() * mean)
        return torch.cat(states, dim=1)

    # ------------------------------------------------------------------ learning the scalars

    @torch.no_grad()
    def prepare(
        self, learned_from: Sequence[int], order: Sequence[int], similarities: NDArray[np.float64], lfc: Tensor
    ) -> None:
        """Compute what each step of learning needs.

        Parameters
        ----------
        learned_from
            Training perturbations that are learned from.
        order
            An order of the training perturbations that does not depend on how they stand in the data; it makes the folds.
        similarities
            Of the training genes, of shape (n_evidence, n_genes, n_genes).
        lfc
            Of shape (n, n_measured).
        """
        rows = np.array(learned_from)
        position = {int(row): k for k, row in enumerate(rows)}
        asked = rows[~self.is_combination[rows]]
        if len(asked) < MIN_QUERIES:
            asked = rows
        queries = [(row, gene) for row in asked for gene in self.perturbations[row]]
        columns = [self._place[gene] for _, gene in queries]
        self.asked = asked
        features = self.features([gene for _, gene in queries], similarities[:, columns], rows)
        hidden = torch.zeros(len(queries), len(rows), dtype=torch.bool)
        hidden[torch.arange(len(queries)), torch.as_tensor([position[int(row)] for row, _ in queries])] = True
        at = {int(row): k for k, row in enumerate(asked)}
        mean = None
        if len(queries) != len(asked):
            mean = torch.zeros(len(asked), len(queries), dtype=torch.float64)
            for k, (row, _) in enumerate(queries):
                mean[at[int(row)], k] = 1 / len(self.perturbations[row])
        everything, chosen = torch.as_tensor(rows), torch.as_tensor(asked)
        self._scores, self._sizes = self.scores[everything], self.log_size[everything]
        unit = self.unit[chosen]
        y = lfc.double()[chosen] / unit[:, None]
        weight = self._centre_weights(lfc.double() / self.unit[:, None])[chosen][:, None]
        centre = (self.centre - weight * y) / (1 - weight)  # each without its own row
        deviation = y - self.centre
        outside = deviation.square().sum(1) - (deviation @ self.loadings).square().sum(1)
        self.queries = Queries(
            features, hidden, mean, y @ self.loadings, outside.clamp_min(0), centre, centre @ self.loadings, unit
        )
        self._scale = float((y.norm(dim=1) * unit).mean()) or 1.0
        spectrum = torch.linalg.svdvals(deviation).square()
        independent = float(spectrum.sum() ** 2 / spectrum.square().sum().clamp_min(1e-30)) if spectrum.any() else 1.0
        self._prior = SCALAR_PRIOR / independent
        rank = {int(row): k for k, row in enumerate(i for i in order if i in at)}
        self.fold = torch.as_tensor([rank[int(row)] % N_FOLDS for row in asked])

    def _masked_states(self, queries: Queries) -> Tensor:
        attention = self.attention(queries.features, self._sizes, queries.hidden)
        if queries.mean is not None:
            attention = queries.mean @ attention
        return self.decode(attention, self._scores, torch.sigmoid(self.centre_share) * queries.centre_scores)

    def loss(self, queries: Queries | None = None) -> Tensor:
        """Return the mean length of masked residuals over that of the effects, with the prior on the scalars."""
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
        """Return the masked predictions of the perturbations that are learned from: (n_asked, n_measured)."""
        centre = torch.sigmoid(self.centre_share) * self.queries.centre
        inside = self._masked_states(self.queries) - centre @ self.loadings
        return (centre + inside @ self.loadings.T) * self.queries.unit[:, None]

    # ------------------------------------------------------------------ prediction

    @torch.no_grad()
    def of_genes(self, genes: Sequence[int], similarities: NDArray[np.float64]) -> Tensor:
        """Return the attention of genes, themselves first where they were perturbed alone: (n_programs, n_genes, n)."""
        found = self.attention(self.features(genes, similarities), self.log_size)
        for k, gene in enumerate(genes):
            if gene in self.single_row:
                row = self.single_row[gene]
                own = self.leverage[row]
                found[:, k] *= 1 - own
                found[:, k, row] += own
        return found

    @torch.no_grad()
    def states(self, attention: Tensor) -> Tensor:
        """Return the cell states in all programs, relative to the centre: (n_genes, rank)."""
        centre = (torch.sigmoid(self.centre_share) * self.centre) @ self.loadings
        centre = centre.expand(attention.shape[1], -1)
        return self.decode(attention, self.scores, centre) - centre

    @torch.no_grad()
    def predict(self, attention: Tensor) -> Tensor:
        """Return what genes do if perturbed alone, from their attention: (n_genes, n_measured)."""
        centre = torch.sigmoid(self.centre_share) * self.centre
        return centre + self.states(attention) @ self.loadings.T

    @torch.no_grad()
    def contributions(self, attention: Tensor, gene: int) -> tuple[Tensor, Tensor]:
        """Return what each training perturbation adds to the predicted value of one gene, (n_genes, n), and the centre."""
        centre = torch.sigmoid(self.centre_share) * self.centre
        deviation = self.scores - centre @ self.loadings
        total = torch.zeros(attention.shape[1:], dtype=torch.float64)
        for g, program in enumerate(self.programs):
            value = deviation[:, program] @ self.loadings[gene, program]
            total += self.log_gain[g].exp() * attention[g] * value
        return total, centre[gene]

    @torch.no_grad()
    def mean_attention(self, attention: Tensor) -> Tensor:
        """Return the attention averaged over programs, each weighed by its share of the effects: (n_genes, n)."""
        share = torch.stack([(self.scores[:, program]).square().sum() for program in self.programs])
        share = share / share.sum().clamp_min(1e-30)
        return torch.einsum("g,gpi->pi", share, attention)
