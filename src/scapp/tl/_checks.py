"""Tests of an attention against chance: arrays in, rows of a table out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.stats import rankdata

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp.tl._attention_checks import GeneSets

    Floats: TypeAlias = NDArray[np.floating]
    Masks: TypeAlias = NDArray[np.bool_]

# Distances of all pairs are computed for this many perturbations at most.
N_COMPARED = 100


@dataclass(frozen=True)
class AttentionRuns:
    """Attention in several runs (models, or halves of the data), and its references for comparison."""

    attention: Floats  # in each run for each perturbation, (n_runs, n, n_genes)
    prior: Floats  # attention without the learned score of each gene, same shape
    perturbed: Masks  # which genes each perturbation perturbs, (n, n_genes)
    bins: NDArray[np.intp]  # genes of like network degree

    def others(self, weights: Floats) -> Floats:
        """Return weights without those of the perturbed genes, rows stretched to sum to one again."""
        rest = np.where(self.perturbed, 0, weights)
        return rest / np.maximum(rest.sum(axis=1, keepdims=True), 1e-30)

    def learned(self, run: int) -> Floats:
        """Return the logarithm of attention over prior; NaN for perturbed genes and those that are not reached."""
        attention, prior = self.attention[run], self.prior[run]
        known = (attention > 0) & (prior > 0) & ~self.perturbed
        ratio = np.divide(attention, prior, out=np.ones_like(attention), where=known)
        return np.where(known, np.log(ratio), np.nan)


def top_genes(weights: Floats, n_top: int, without: Masks | None = None) -> NDArray[np.intp]:
    """Return numbers of the genes with the largest weights, of shape (n, n_top)."""
    scores = weights if without is None else np.where(without, -1, weights)
    return np.argsort(-scores, axis=1, kind="stable")[:, :n_top]


def stability(looked: AttentionRuns, who: str, n_top: int, n_permutations: int, rng: np.random.Generator) -> list[dict]:
    """Test whether several runs attend to the same genes."""
    free = ~looked.perturbed
    ranked = [_ranks(np.where(free, run, np.nan)) for run in looked.attention]
    learned = [_ranks(looked.learned(run)) for run in range(len(looked.attention))]
    tops = []
    for run in looked.attention:
        hits = np.zeros(run.shape)
        np.put_along_axis(hits, top_genes(run, n_top, looked.perturbed), 1, axis=1)
        tops.append(hits)
    overlap: Callable[[Floats, Floats], Floats] = lambda a, b: a @ b.T / n_top
    rows = []
    for statistic, seen, compare, given in (
        ("rank correlation", ranked, _correlations, True),
        (f"overlap of the top {n_top}", tops, overlap, True),
        ("rank correlation, learned over prior", learned, _correlations, False),
    ):
        pairs = [compare(a, b) for a, b in itertools.combinations(seen, 2)]
        value, null = pairing_null(np.mean(pairs, axis=0), n_permutations, rng)
        rows.append(check_row("stability", statistic, who, value, null, len(free), "other perturbations", given=given))
    return rows


def learning(looked: AttentionRuns) -> list[dict]:
    """Test how far attention is from the prior, without the learned score."""
    pairs = zip(looked.attention, looked.prior, strict=True)
    value = float(np.mean([[_distances(a[None], b[None])[0, 0] for a, b in zip(*pair, strict=True)] for pair in pairs]))
    statistic = "Jensen-Shannon distance to the prior"
    row = check_row("learning", statistic, "", value, np.zeros(1), len(looked.perturbed), "no learning")
    return [{**row, "expected": 0.0, "p_value": np.nan}]


def specificity(looked: AttentionRuns, n_permutations: int, rng: np.random.Generator) -> list[dict]:
    """Test whether attention differs between perturbations, and more than between seeds."""
    n = len(looked.perturbed)
    chosen = np.sort(rng.permutation(n)[:N_COMPARED])
    off = ~np.eye(len(chosen), dtype=bool)
    statistic, rows = "Jensen-Shannon distance", []
    runs = [looked.others(run)[chosen] for run in looked.attention]
    if len(runs) > 1:
        distance = np.mean([_distances(a, b) for a, b in itertools.combinations(runs, 2)], axis=0)
        same, null = pairing_null(-distance, n_permutations, rng)
        chance = "same perturbation, other seed"
        row = check_row("specificity", statistic, "members", same, null, len(chosen), chance, given=True)
        value = distance[off].mean() if off.any() else np.nan  # one perturbation differs from no other
        rows.append({**row, "value": value, "expected": -same})
    mean, prior = (looked.others(runs.mean(axis=0))[chosen] for runs in (looked.attention, looked.prior))
    of_mean, of_prior = _distances(mean, mean), _distances(prior, prior)
    difference = np.where(off, of_mean - of_prior, 0).sum(axis=1) / max(len(chosen) - 1, 1)
    value, null = float(difference.mean()), sign_null(difference, n_permutations, rng)
    learned = f"{statistic}, learned over prior"
    return [*rows, check_row("specificity", learned, "", value, null, len(chosen), "random signs")]


def enrichment(
    looked: AttentionRuns, sets: Iterable[GeneSets], n_permutations: int, rng: np.random.Generator
) -> list[dict]:
    """Test whether attended genes are related to the perturbation in known sources, leaving out perturbed genes."""
    free = ~looked.perturbed
    ranks = {
        name: np.nan_to_num(_ranks(np.where(free, weights, np.nan)))
        for name, weights in (("attention", looked.attention.mean(axis=0)), ("prior", looked.prior.mean(axis=0)))
    }
    permutations = [permute_within(looked.bins, rng) for _ in range(n_permutations)]
    learned = _ranks(np.mean([looked.learned(run) for run in range(len(looked.attention))], axis=0))
    rows = []
    for given in sets:
        positive = given.of(looked.perturbed)
        known = positive.any(axis=1) & (free & ~positive).any(axis=1)
        at, gene = positive[known].nonzero()
        n_positive = positive[known].sum(axis=1)
        weight = (1 / (n_positive * (free[known].sum(axis=1) - n_positive)) / max(known.sum(), 1))[at]
        for statistic, score, base, by_construction in (
            ("AUROC", ranks["attention"], 0.5, given.by_construction),
            ("AUROC, attention minus prior", ranks["attention"] - ranks["prior"], 0.0, False),
        ):
            values = score[known]
            value = base + float((weight * values[at, gene]).sum()) if known.any() else np.nan
            null = np.array([base + (weight * values[at, p[gene]]).sum() for p in permutations])
            n, chance = int(known.sum()), "genes of like degree"
            rows.append(check_row("enrichment", statistic, given.source, value, null, n, chance, given=by_construction))
        areas = _areas(learned, positive)
        value, null = pairing_null(areas, n_permutations, rng)
        n, chance = int(np.isfinite(areas.diagonal()).sum()), "gene sets of other perturbations"
        statistic = "AUROC among the reached, learned over prior"
        rows.append(check_row("enrichment", statistic, given.source, value, null, n, chance))
    return rows


def check_row(
    check: str, statistic: str, source: str, value: float, null: Floats, n: int, chance: str, *, given: bool = False
) -> dict:
    """Return a row of the table; `given` says that a model without any learning would pass as well."""
    known = bool(np.isfinite(value)) and n > 1
    return {
        "check": check,
        "statistic": statistic,
        "source": source,
        "value": value,
        "expected": float(np.mean(null)) if known else np.nan,
        "p_value": permutation_p_value(value, null) if known else np.nan,
        "n": n,
        "by_construction": given,
        "null": chance,
    }


def _ranks(values: Floats) -> Floats:
    """Return centred ranks within each row; NaN for missing values."""
    n_known = np.isfinite(values).sum(axis=1, keepdims=True)
    return rankdata(values, axis=1, nan_policy="omit") - (n_known + 1) / 2


def _correlations(a: Floats, b: Floats) -> Floats:
    """Return the Pearson correlation of each row of `a` with each of `b`, over the columns that are known in both."""
    known_a, known_b = np.isfinite(a).astype(float), np.isfinite(b).astype(float)
    a, b = np.nan_to_num(a), np.nan_to_num(b)
    n = np.maximum(known_a @ known_b.T, 1)
    sum_a, sum_b = a @ known_b.T, known_a @ b.T
    product = a @ b.T - sum_a * sum_b / n
    square = (a**2 @ known_b.T - sum_a**2 / n) * (known_a @ (b**2).T - sum_b**2 / n)
    return np.divide(product, np.sqrt(np.maximum(square, 0)), out=np.full_like(product, np.nan), where=square > 1e-9)


def _areas(ranks: Floats, positive: Masks) -> Floats:
    """Return the area under the curve of each row of centred ranks for each row of genes, among those that have a rank; NaN if none."""
    known = np.isfinite(ranks).astype(float)
    n_positive = known @ positive.T
    n_negative = known.sum(axis=1, keepdims=True) - n_positive
    total = np.nan_to_num(ranks) @ positive.T
    pairs = n_positive * n_negative
    return 0.5 + np.divide(total, pairs, out=np.full_like(total, np.nan), where=pairs > 0)


def _distances(a: Floats, b: Floats) -> Floats:
    """Return the Jensen-Shannon distance (base 2) of each row of `a` to each of `b`; rows sum to one."""
    entropy: Callable[[Floats], Floats] = lambda p: -(p * np.log2(np.maximum(p, 1e-30))).sum(axis=-1)
    of_a, of_b = entropy(a), entropy(b)
    divergence = np.array([entropy((row + b) / 2) - (own + of_b) / 2 for row, own in zip(a, of_a, strict=True)])
    return np.sqrt(np.maximum(divergence, 0))


def degree_bins(degree: NDArray[np.intp], n_bins: int = 10) -> NDArray[np.intp]:
    """Return about equally large bins of genes by degree; equal degrees share a bin, and genes without edges have their own."""
    bins = np.zeros(len(degree), dtype=np.intp)
    linked = degree > 0
    if linked.any():
        edges = np.unique(np.quantile(degree[linked], np.linspace(0, 1, n_bins + 1)[1:-1]))
        bins[linked] = 1 + np.searchsorted(edges, degree[linked], side="right")
    return np.unique(bins, return_inverse=True)[1]


def permute_within(bins: NDArray[np.intp], rng: np.random.Generator) -> NDArray[np.intp]:
    """Return a random permutation of genes within bins."""
    permutation = np.empty(len(bins), dtype=np.intp)
    permutation[np.argsort(bins, kind="stable")] = np.lexsort((rng.random(len(bins)), bins))
    return permutation


def permutation_p_value(value: float, null: Floats) -> float:
    """Compute the one-sided permutation p-value: the share of chance values that are as large, the observed among them."""
    return float((1 + np.sum(null >= value - 1e-12)) / (1 + len(null)))


def pairing_null(similarity: Floats, n_permutations: int, rng: np.random.Generator) -> tuple[float, Floats]:
    """Return the mean similarity of each perturbation with itself, and with randomly assigned others, over defined pairs.

    The rows of `similarity`, of shape (n, n), are seen by one model, the columns by another.
    """
    rows = np.arange(len(similarity))
    null = np.array([_mean(similarity[rows, rng.permutation(rows)]) for _ in range(n_permutations)])
    return _mean(similarity.diagonal()), null


def sign_null(differences: Floats, n_permutations: int, rng: np.random.Generator) -> Floats:
    """Return means of differences whose signs are drawn at random."""
    signs = rng.choice([-1.0, 1.0], size=(n_permutations, len(differences)))
    return signs @ differences / len(differences)


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else np.nan
