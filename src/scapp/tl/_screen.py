"""The best of very many perturbations, by what they are predicted to do."""

from __future__ import annotations

import functools
import heapq
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import pandas as pd
from rich.progress import track

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import near_matches
from scapp._settings import settings
from scapp._tables import to_numbers
from scapp._warn import warn_user
from scapp.tl._candidates import Candidates, Genes

if TYPE_CHECKING:
    from scapp.model import APP

Metric = Literal["cosine", "pearson", "l2", "dot"]
# From predicted log-fold-changes of the measured genes to one number for each row.
Score: TypeAlias = Callable[[np.ndarray], np.ndarray]
Objective: TypeAlias = pd.Series | Mapping[str, Iterable[str]] | Iterable[str] | Callable[[pd.DataFrame], np.ndarray]
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
    r"""Score single perturbations, pairs or triples by their predicted effects, and keep the best.

    Perturbations are predicted batch by batch, and only the best so far are kept, so memory does not grow with their
    number.

    Parameters
    ----------
    model
        A trained model.
    pairs
        ``"all"`` for all combinations of `order` of the `genes`, or labels of perturbations of any size.
    objective
        The objective to score by:

        - a Series of desired log-fold-changes (natural logarithm), indexed by gene: the agreement by `metric`
        - ``{"up": [...], "down": [...]}``, or a list of genes that should go up: the mean predicted log-fold-change of
          the former minus that of the latter
        - a function that takes a table of predicted log-fold-changes (n_perturbations, n_measured_genes), one column per gene,
          and returns one number for each row, the higher the better; -inf leaves a perturbation out
    metric
        Agreement of predictions with a Series over its genes: ``"cosine"``, ``"pearson"``, ``"dot"`` (the sum of the
        products), or ``"l2"`` (minus the Euclidean distance).
    genes
        Genes to combine; by default those that were perturbed alone or, if there are none, those of the training
        perturbations.
    order
        Number of genes per perturbation: 1, 2, 3, ….
    kind
        As in :meth:`scapp.model.APP.predict`: kind of perturbation of genes that were not perturbed alone, if the
        screen has several kinds.
    n_best
        Number of perturbations to keep.
    batch_size
        Number of perturbations to predict together.
    seed
        Random seed for the draws of `score_std`.
    progress_bar
        Whether to show a progress bar.

    Returns
    -------
    Table of the best perturbations, the best first: ``perturbation``; ``score``, the higher the better;
    ``score_std``, the standard deviation of the score over draws of the predicted log-fold-changes from their
    uncertainty, with errors correlated between genes as for left-out training perturbations (draws for which a function
    is -inf are ignored); and ``n_perturbed_genes``, ``in_training``, ``n_singles_measured`` and ``uninformed`` as in
    :meth:`scapp.model.APP.predict`. The best of very many scores are partly luck, so expect less from each than its
    score.

    Raises
    ------
    RuntimeError
        If the model has not been trained.
    ValueError
        If a label, a gene or a kind is unknown, there is nothing to score, none of the objective's genes was measured, or a
        function returns something else than one number per perturbation, or -inf for all.
    TypeError
        If `model` is not a :class:`scapp.model.APP`, or a list is a single string.

    Examples
    --------
    Which pairs of measured genes revert a disease signature:

    >>> best = scapp.tl.screen(model, objective=-disease["lfc"], n_best=50)
    """
    from scapp.module import Wanted

    candidates = Candidates.read(model, pairs, genes=genes, order=order)
    for name, value in (("n_best", n_best), ("batch_size", batch_size)):
        if value < 1 or value != int(value):
            raise ValueError(f"{name} must be a whole number, at least 1; found {value}.")
    score = read_objective(objective, metric, model.measured_genes)
    batch_size = int(batch_size)

    def scored() -> Iterator[tuple[float, int, Genes]]:
        """Yield the score, minus the position, and the genes of each candidate that is wanted, batch by batch."""
        batches, n_batches = candidates.batches(batch_size), -(-len(candidates) // batch_size)
        is_quiet, position = not progress_bar or settings.is_silent, itertools.count(0, -1)
        wanted = Wanted(std=False, attention=False)
        for batch in track(batches, description="Scoring", total=n_batches, disable=is_quiet):
            for _, arrays in model.predictions(batch, wanted, kind=kind, batch_size=batch_size):
                values = score(arrays[Key.layers.PREDICTED_LFC]).tolist()
                yield from (found for found in zip(values, position, batch, strict=False) if found[0] > -np.inf)

    best = heapq.nlargest(int(n_best), scored())  # of equal scores the first
    if not best:
        raise ValueError(
            f"The objective is -inf for all of the {len(candidates):,} perturbations: none of them is wanted."
        )
    genes_of_best = [genes for *_, genes in best]
    names = candidates.names([-place for _, place, _ in best], genes_of_best)
    table = model.describe_perturbations(names, genes_of_best).reset_index(drop=True)
    table.insert(0, "score", [value for value, *_ in best])
    table.insert(1, "score_std", _score_std(model, genes_of_best, score, seed, kind))
    key = model.registry["setup_args"]["perturbation_key"]
    table.insert(0, "perturbation", table.pop(key))
    return table


def error_draws(model: APP, seed: int) -> dict[bool, np.ndarray]:
    """Draw standardized errors of predictions that are correlated over genes as the errors of left-out perturbations are.

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


def _score_std(model: APP, perturbations: list[Genes], score: Score, seed: int, kind: str | None) -> np.ndarray:
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


def _agreement(columns: np.ndarray, wanted: np.ndarray, metric: Metric, lfc: np.ndarray) -> np.ndarray:
    """Return the agreement of each row with log-fold-changes wanted of the measured genes at some columns."""
    found = lfc[:, columns]
    if metric == "l2":
        return -np.linalg.norm(found - wanted, axis=1)
    if metric == "pearson":
        found, wanted = found - found.mean(axis=1, keepdims=True), wanted - wanted.mean()
    score = found @ wanted
    if metric == "dot":
        return score
    # A prediction of no change agrees with nothing.
    return score / np.maximum(np.linalg.norm(found, axis=1) * np.linalg.norm(wanted), np.finfo(np.float32).tiny)


def _called(function: Callable[[pd.DataFrame], np.ndarray], genes: pd.Index, lfc: np.ndarray) -> np.ndarray:
    """Apply a function of the user to a table of log-fold-changes with one column per measured gene."""
    found = np.asarray(function(pd.DataFrame(lfc, columns=genes)), dtype=np.float64)
    if found.shape != (len(lfc),):
        raise ValueError(
            f"The objective returned the shape {found.shape} for {len(lfc)} perturbations, expected ({len(lfc)},): "
            "one number for each row of the table."
        )
    if np.isnan(found).any():
        raise ValueError(
            f"The objective is NaN for {int(np.isnan(found).sum())} of {len(found)} perturbations, and NaN cannot be "
            "ranked. Return -inf for perturbations that are not wanted."
        )
    return found


def read_objective(objective: Objective, metric: Metric, genes: Sequence[str]) -> Score:
    """Check an objective and reorder it to the measured genes."""
    if callable(objective):
        return functools.partial(_called, objective, pd.Index(genes))
    if isinstance(objective, pd.Series):
        return _signature(objective, metric, genes)
    if isinstance(objective, str):
        raise TypeError(f"Expected a signature, a list of genes or a function, found the text {objective!r}.")
    if isinstance(objective, np.ndarray | pd.DataFrame) or not isinstance(objective, Iterable):
        raise TypeError(
            f"Expected a signature, a list of genes or a function, found {type(objective).__name__}. A signature is a pandas "
            "Series of log-fold-changes, indexed by gene: pd.Series(values, index=genes)."
        )
    module = objective if isinstance(objective, Mapping) else {"up": objective}
    other = set(module) - {"up", "down"}
    if other or not module:
        raise ValueError(
            f"A module of genes is given as {{'up': […], 'down': […]}}, found the keys {shorten(map(repr, module)) or 'none'}. "
            "Desired log-fold-changes of genes are given as a pandas Series."
        )
    weights = np.zeros(len(genes))
    for direction, sign in (("up", 1.0), ("down", -1.0)):
        if direction in module:
            if isinstance(module[direction], str):
                raise TypeError(
                    f"Expected a list of genes that go {direction}, found the text {module[direction]!r}. Pass "
                    f"[{module[direction]!r}]."
                )
            columns = _positions(
                pd.Index(list(module[direction]), dtype=object), genes, f"the genes that go {direction}"
            )
            weights[columns] += sign / len(columns)
    columns = np.flatnonzero(weights)
    if not len(columns):
        raise ValueError("The genes that go up are those that go down: no perturbation can do both.")
    return functools.partial(_agreement, columns, weights[columns], "dot")


def _signature(wanted: pd.Series, metric: Metric, genes: Sequence[str]) -> Score:
    values = gene_values(wanted, "signature")
    columns = _positions(wanted.index, genes, "the genes of the signature")
    known = values[wanted.index.isin(genes)]
    flat = not known.any() if metric in ("cosine", "dot") else metric == "pearson" and np.ptp(known) == 0
    if flat:
        raise ValueError(
            f"The signature is {known[0]:g} for all of its {len(known)} measured genes, which no perturbation can agree with "
            f"more than another by metric={metric!r}."
        )
    return functools.partial(_agreement, columns, known, metric)


def gene_values(series: pd.Series, what: str) -> np.ndarray:
    """Return the values of a Series indexed by gene; refuse genes named twice, and values that are no finite numbers."""
    if series.index.has_duplicates:
        twice = series.index[series.index.duplicated()].unique()
        raise ValueError(f"The {what} names these genes more than once: {shorten(twice)}. Name each once.")
    values = to_numbers(series).to_numpy(dtype=np.float64)
    if (bad := ~np.isfinite(values)).any():
        raise ValueError(
            f"{int(bad.sum())} values of the {what} are not finite numbers, of {shorten(series.index[bad])}. "
            f"Leave these genes out with `{what}.dropna()`."
        )
    return values


def _positions(asked: pd.Index, genes: Sequence[str], what: str) -> np.ndarray:
    """Return the positions of measured genes; warn about the others, and raise if there are none."""
    if not len(asked):
        raise ValueError(f"There is nothing among {what}: name at least one gene.")
    column = {gene: i for i, gene in enumerate(genes)}
    absent = [gene for gene in asked if gene not in column]
    if len(absent) == len(asked):
        like = near_matches(str(absent[0]), genes)
        hint = f" Is {absent[0]!r} {like[0]!r}?" if like else ""
        raise ValueError(
            f"None of {what} ({shorten(absent)}) is among the {len(genes)} measured genes ({shorten(genes)}).{hint} "
            "Use the names that the model was trained with, model.genes."
        )
    if absent:
        warn_user(f"{len(absent)} of {len(asked)} of {what} were not measured and do not count: {shorten(absent)}.")
    return np.array([column[gene] for gene in asked if gene in column])
