"""The best of very many perturbations, by what they are predicted to do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from rich.progress import track

from scapp._checked import checked
from scapp._keys import Key
from scapp._settings import settings
from scapp.tl._candidates import Candidates, Genes
from scapp.tl._objective import Function, Metric, Objective, Signature, read_objective

if TYPE_CHECKING:
    from scapp.model import APP

N_DRAWS = 256


@checked(own=("model", "n_best"))
def screen(
    model: APP,
    pairs: Iterable[str] | str = "all",
    *,
    objective: Objective,
    metric: Metric = "cosine",
    genes: Iterable[str] | None = None,
    order: int = 2,
    kind: str | None = None,
    n_best: int = 100,
    batch_size: int = 1024,
    seed: int = 0,
    progress_bar: bool = True,
) -> pd.DataFrame:
    r"""Score single perturbations, pairs or triples by what they are predicted to do, and keep the best.

    Perturbations are predicted batch by batch and forgotten unless they are among the best so far, so that memory does not
    grow with their number.

    Parameters
    ----------
    model
        A trained model.
    pairs
        ``"all"`` for all combinations of `order` of the `genes`, or labels of perturbations of any size.
    objective
        What is wanted:

        - a Series of desired log-fold-changes (natural logarithm), indexed by gene: agreement by `metric`
        - ``{"up": [...], "down": [...]}``, or a list of genes that are to go up: the mean predicted log-fold-change of the
          former minus that of the latter
        - a function that takes a table of predicted log-fold-changes (n_perturbations, n_measured_genes), one column per gene,
          and returns one number for each row, the higher the better; -inf leaves a perturbation out
    metric
        How predictions agree with a Series, over its genes: ``"cosine"``, ``"pearson"``, ``"dot"`` (the sum of the
        products), or ``"l2"`` (minus the Euclidean distance).
    genes
        The genes to be combined; by default those that were measured alone or, if there are none, those of the training
        perturbations.
    order
        How many genes a perturbation has: 1, 2, 3, ….
    kind
        As in :meth:`scapp.model.APP.predict`: how genes that were not perturbed alone are perturbed, where the screen has
        several kinds.
    n_best
        How many perturbations to keep.
    batch_size
        How many are predicted together.
    seed
        For the draws of `score_std`.
    progress_bar
        Whether to show a progress bar.

    Returns
    -------
    Table of the best perturbations, the best first: ``perturbation``; ``score``, the higher the better;
    ``score_std``, the standard deviation of the score over draws of the predicted log-fold-changes from their uncertainty, in
    which errors of genes go together as those of left-out training perturbations do (where a function is -inf for some draws,
    over the others); and ``n_perturbed_genes``, ``in_training``,
    ``n_singles_measured`` and ``uninformed`` as in :meth:`scapp.model.APP.predict`. The best of very many scores are the
    luckier ones: expect less of each than its score.

    Raises
    ------
    RuntimeError
        If the model has not been trained.
    ValueError
        If a label, a gene or a kind is unknown, there is nothing to score, none of the objective's genes was measured, or a
        function returns something else than one number per perturbation, or -inf for all.
    TypeError
        If `model` is no :class:`scapp.model.APP`, or a list is one text.

    Examples
    --------
    Which pairs of measured genes revert a disease signature:

    >>> best = scapp.tl.screen(model, objective=-disease["lfc"], n_best=50)
    """
    candidates = Candidates.read(model, pairs, genes=genes, order=order)
    for name, value in (("n_best", n_best), ("batch_size", batch_size)):
        if value < 1 or value != int(value):
            raise ValueError(f"{name} must be a whole number, at least 1; found {value}.")
    score = read_objective(objective, metric, model.measured_genes)
    best, batch_size = _Best(int(n_best)), int(batch_size)
    scored = _scores(candidates, score, batch_size, kind)
    n_batches = -(-len(candidates) // batch_size)
    for batch, scores in track(
        scored, description="Scoring", total=n_batches, disable=not progress_bar or settings.is_silent
    ):
        best.add(batch, scores)
    if not best.genes:
        raise ValueError(f"The objective is -inf for all of the {best.n_seen:,} perturbations: none of them is wanted.")
    order_of_best = best.order()
    found = [best.genes[i] for i in order_of_best]
    names = candidates.names(best.positions[order_of_best], found)
    table = model.describe_perturbations(names, found).reset_index(drop=True)
    table.insert(0, "score", best.scores[order_of_best])
    table.insert(1, "score_std", _score_std(model, found, score, seed, kind))
    key = model.registry["setup_args"]["perturbation_key"]
    table.insert(0, "perturbation", table.pop(key))
    return table


class _Best:
    """The best so far; of equal scores the first stay."""

    def __init__(self, n: int):
        self.n = n
        self.n_seen = 0
        self.scores = np.empty(0)
        self.positions = np.empty(0, dtype=np.int64)
        self.genes: list[Genes] = []

    def add(self, batch: list[Genes], scores: np.ndarray) -> None:
        worth = np.flatnonzero(scores > (self.scores.min() if len(self.scores) == self.n else -np.inf))
        self.scores = np.concatenate([self.scores, scores[worth]])
        self.positions = np.concatenate([self.positions, self.n_seen + worth])
        self.genes += [batch[i] for i in worth]
        self.n_seen += len(batch)
        if len(self.scores) > self.n:
            keep = np.sort(self.order()[: self.n])
            self.scores, self.positions = self.scores[keep], self.positions[keep]
            self.genes = [self.genes[i] for i in keep]

    def order(self) -> np.ndarray:
        return np.lexsort([self.positions, -self.scores])


def _scores(
    candidates: Candidates, score: Signature | Function, size: int, kind: str | None
) -> Iterator[tuple[list[Genes], np.ndarray]]:
    from scapp.module import Wanted

    wanted = Wanted(std=False, attention=False)
    for batch in candidates.batches(size):
        for _, arrays in candidates.model.predictions(batch, wanted, kind=kind, batch_size=size):
            yield batch, score(arrays[Key.layers.PREDICTED_LFC])


def error_draws(model: APP, seed: int) -> dict[bool, np.ndarray]:
    """Draw standardized errors of predictions that are correlated over genes as the errors of left-out perturbations are.

    Returns
    -------
    For single genes (False) and combinations (True) an array of shape (n_draws, n_measured). The draws are the same for all
    perturbations, so that these differ by what is known of them and not by chance.
    """
    rng = np.random.default_rng(seed)
    alone = rng.standard_normal((N_DRAWS, model.module.targets.shape[1]))
    errors = {}
    for combined in (False, True):
        factors = model.module.error_factors(combined=combined).cpu().numpy()
        rest = np.sqrt(np.maximum(1 - np.square(factors).sum(axis=0), 0))
        errors[combined] = rng.standard_normal((N_DRAWS, len(factors))) @ factors + alone * rest
    return errors


def _score_std(
    model: APP, perturbations: list[Genes], score: Signature | Function, seed: int, kind: str | None
) -> np.ndarray:
    """Return the standard deviation of the score of each, over draws from the uncertainty of its log-fold-changes."""
    from scapp.module import Wanted

    errors = error_draws(model, seed)
    found = np.empty(len(perturbations))
    predictions = model.predictions(perturbations, Wanted(attention=False), kind=kind, batch_size=1)
    for i, (genes, (_, arrays)) in enumerate(zip(perturbations, predictions, strict=True)):
        lfc, std = arrays[Key.layers.PREDICTED_LFC], arrays[Key.layers.PREDICTED_LFC_STD]
        scores = score(lfc + std * errors[len(genes) > 1])
        scores = scores[np.isfinite(scores)]
        found[i] = scores.std(ddof=1) if len(scores) > 1 else np.nan
    return found
