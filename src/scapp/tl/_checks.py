"""Tests of an attention: arrays in, rows of a table out."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from scipy.stats import rankdata

from scapp.tl._gene_sets import GeneSets
from scapp.tl._permutations import pairing_null, permutation_p_value, permute_within, sign_null

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats: TypeAlias = NDArray[np.floating]
    Masks: TypeAlias = NDArray[np.bool_]

# Distances of all pairs are computed for this many perturbations at most.
N_COMPARED = 100


@dataclass(frozen=True)
class AttentionRuns:
    """Attention of a model in several runs.

    Parameters
    ----------
    attention
        Attention in each run (model, or half of one) for each perturbation, of shape (n_runs, n, n_genes).
    prior
        What it would be without the learned score of each gene, of the same shape.
    perturbed
        Which genes each perturbation perturbs, of shape (n, n_genes).
    bins
        Genes of like network degree.
    """

    attention: Floats
    prior: Floats
    perturbed: Masks
    bins: NDArray[np.intp]

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
    """Do several runs attend to the same genes?"""
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
        rows.append(
            _row(
                "stability", statistic, who, value, null, len(free), by_construction=given, chance="other perturbations"
            )
        )
    return rows


def learning(looked: AttentionRuns) -> list[dict]:
    """Test how far attention is from what it would be without the learned score."""
    pairs = zip(looked.attention, looked.prior, strict=True)
    value = float(np.mean([[_distances(a[None], b[None])[0, 0] for a, b in zip(*pair, strict=True)] for pair in pairs]))
    row = _row(
        "learning", "Jensen-Shannon distance to the prior", "", value, np.zeros(1), len(looked.perturbed),
        by_construction=False, chance="no learning",
    )  # fmt: skip
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
        row = _row(
            "specificity", statistic, "members", same, null, len(chosen), by_construction=True,
            chance="same perturbation, other seed",
        )  # fmt: skip
        value = distance[off].mean() if off.any() else np.nan  # one perturbation differs from no other
        rows.append({**row, "value": value, "expected": -same})
    mean, prior = (looked.others(runs.mean(axis=0))[chosen] for runs in (looked.attention, looked.prior))
    of_mean, of_prior = _distances(mean, mean), _distances(prior, prior)
    difference = np.where(off, of_mean - of_prior, 0).sum(axis=1) / max(len(chosen) - 1, 1)
    row = _row(
        "specificity", f"{statistic}, learned over prior", "", float(difference.mean()),
        sign_null(difference, n_permutations, rng), len(chosen), by_construction=False, chance="random signs",
    )  # fmt: skip
    return [*rows, row]


def enrichment(
    looked: AttentionRuns, sets: Iterable[GeneSets], n_permutations: int, rng: np.random.Generator
) -> list[dict]:
    """Test whether the attended genes belong to the perturbation by what is known; the perturbed are left out."""
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
            observed = base + float((weight * values[at, gene]).sum())
            null = np.array([base + (weight * values[at, p[gene]]).sum() for p in permutations])
            rows.append(
                _row(
                    "enrichment",
                    statistic,
                    given.source,
                    observed if known.any() else np.nan,
                    null,
                    int(known.sum()),
                    by_construction=by_construction,
                    chance="genes of like degree",
                )  # fmt: skip
            )
        areas = _areas(learned, positive)
        own, null = pairing_null(areas, n_permutations, rng)
        n_known = int(np.isfinite(areas.diagonal()).sum())
        rows.append(
            _row(
                "enrichment",
                "AUROC among the reached, learned over prior",
                given.source,
                own,
                null,
                n_known,
                by_construction=False,
                chance="gene sets of other perturbations",
            )  # fmt: skip
        )
    return rows


def _row(
    check: str, statistic: str, source: str, value: float, null: Floats, n: int, *, by_construction: bool, chance: str
) -> dict:
    known = bool(np.isfinite(value)) and n > 1
    return {
        "check": check,
        "statistic": statistic,
        "source": source,
        "value": value,
        "expected": float(np.mean(null)) if known else np.nan,
        "p_value": permutation_p_value(value, null) if known else np.nan,
        "n": n,
        "by_construction": by_construction,
        "null": chance,
    }


def _ranks(values: Floats) -> Floats:
    """Return ranks within each row, centred; NaN where there is no value."""
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
