"""Suggestions of perturbations to measure next, to improve the predictions of the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._genes import shorten
from scapp.tl._candidates import Candidates, Genes, check_model

if TYPE_CHECKING:
    from scapp.model import APP
    from scapp.module import Posterior

# The covariance of candidates and targets is held in memory: where it is large, some targets stand for all.
MAX_TARGETS, MIN_TARGETS, MAX_COVARIANCES = 2000, 200, 2**26


@checked(own=("n",))
def suggest_perturbations(
    model: APP,
    n: int,
    *,
    candidates: Iterable[str] | str = "all",
    genes: Iterable[str] | None = None,
    order: int = 1,
    targets: Iterable[str] | None = None,
    strategy: Literal["variance", "uncertainty"] = "variance",
    seed: int = 0,
) -> pd.DataFrame:
    r"""Suggest which perturbations to measure next.

    The closed form of the model is a Gaussian process over perturbations, so the uncertainty of a prediction, and its
    reduction by measuring another perturbation, do not depend on the measured values. With the posterior covariance
    :math:`C` of the candidates P and the targets T, and the noise :math:`\nu` of a measurement, the next perturbation
    is

    .. math:: \arg\max_P \sum_T \frac{C_{PT}^2}{C_{PP} + \nu_P},

    the one that most reduces the expected squared error over all targets :cite:p:`Cohn1996`. C is then updated in
    closed form as if it had been measured, and the next one is chosen, so a batch contains no redundant measurements. A
    large variance alone is no reason to choose a perturbation that says nothing about others. With
    ``strategy="uncertainty"`` it is: each step takes the largest remaining variance (a greedy determinantal point
    process).

    Parameters
    ----------
    model
        A trained model, but not in the paper's form.
    n
        Number of perturbations to suggest.
    candidates
        Labels of perturbations that could be measured, or ``"all"`` unmeasured combinations of `order` of the `genes`.
    genes
        With ``"all"``: the genes to perturb. By default, for `order` 1 all genes with edges or features, and for
        combinations the genes that were perturbed alone.
    order
        With ``"all"``: number of genes per perturbation.
    targets
        Labels of the perturbations whose predictions to improve; the candidates themselves if None. If there are more
        than 2,000 (200 with hundreds of thousands of candidates), that many are drawn at random.
    strategy
        ``"variance"`` or ``"uncertainty"``, see above.
    seed
        Random seed for drawing targets.

    Returns
    -------
    Table of `n` perturbations, in the order of the choice: ``perturbation``; ``predicted_std``, the standard deviation of its
    log-fold-changes over genes before anything is measured; ``remaining``, the share of the targets' variance that
    would remain after measuring this and all perturbations above it; ``n_perturbed_genes``, ``n_singles_measured`` and
    ``uninformed`` as in :meth:`scapp.model.APP.predict`.

    Raises
    ------
    RuntimeError
        If the model has not been trained.
    ValueError
        If there are fewer candidates than `n`; if a label is unknown, was already measured or is given twice (with its
        genes in any order); if the model has the paper's form; or if it has no uncertainty about the candidates.
    TypeError
        If `model` is not a :class:`scapp.model.APP`, or a list is a single string.

    Examples
    --------
    >>> scapp.tl.suggest_perturbations(model, 12)["perturbation"].tolist()
    """
    check_model(model)
    names, perturbations = _candidates(model, candidates, genes, order)
    if not 1 <= n <= len(perturbations) or n != int(n):
        raise ValueError(
            f"n must be a whole number from 1 to the number of candidates, {len(perturbations)}; found {n}."
        )
    n = int(n)
    aims = perturbations
    if targets is not None:
        aims = model.read_perturbations(targets)[1]
    rng = np.random.default_rng(seed)
    n_targets = min(MAX_TARGETS, max(MIN_TARGETS, MAX_COVARIANCES // len(perturbations)))
    if len(aims) > n_targets:
        aims = [aims[i] for i in np.sort(rng.choice(len(aims), n_targets, replace=False))]
    position = {genes: i for i, genes in enumerate(dict.fromkeys([*perturbations, *aims]))}
    if not hasattr(model.module, "posterior"):
        raise ValueError(
            "The paper's form is trained by gradient descent and does not know how its errors go together. "
            "Make the model without preset='paper'."
        )
    posterior = model.module.posterior(list(position))
    chosen, variance, remaining = choose(
        posterior, n, np.arange(len(perturbations)), np.array([position[p] for p in aims]), strategy
    )
    table = model.describe_perturbations([names[i] for i in chosen], [perturbations[i] for i in chosen]).reset_index(
        drop=True
    )
    key = model.registry["setup_args"]["perturbation_key"]
    table.insert(0, "perturbation", table.pop(key))
    table.insert(1, "predicted_std", np.sqrt(variance))
    table.insert(2, "remaining", remaining)
    return table.drop(columns="in_training")


def _candidates(
    model: APP, asked: Iterable[str] | str, genes: Iterable[str] | None, order: int
) -> tuple[list[str], list[Genes]]:
    """Return labels and nodes of what could be measured."""
    trained = set(model.module.perturbations)
    read = Candidates.read(model, asked, genes=genes, order=order, informed=True)
    everything = [p for batch in read.batches(len(read)) for p in batch]
    if (labels := read.labels) is not None:
        first = {p: name for name, p in zip(reversed(labels), reversed(everything), strict=True)}
        twice = [name for name, p in zip(labels, everything, strict=True) if first[p] != name]
        if twice:
            raise ValueError(
                f"{len(twice)} candidate(s) are other spellings of candidates before them: {shorten(twice)}. Ask each perturbation "
                "once."
            )
        measured = [name for name, p in zip(labels, everything, strict=True) if p in trained]
        if measured:
            raise ValueError(
                f"{len(measured)} candidate(s) were measured already: {shorten(measured)}. Leave them out, as in "
                "`[name for name in candidates if name not in effects.obs_names]`."
            )
    perturbations = [p for p in everything if p not in trained]
    return read.names(range(len(perturbations)), perturbations), perturbations


def choose(
    posterior: Posterior, n: int, candidates: np.ndarray, targets: np.ndarray, strategy: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Choose `n` candidates one after the other, each as if those before it had been measured.

    `candidates` and `targets` are positions in the posterior. Which candidates, their variances before anything is
    measured, and the share of the targets' variance that remains after each are returned, all of shape (n,).
    """
    prior = posterior.variance(candidates).clip(0)
    of_targets = posterior.variance(targets).clip(0)
    if not prior.any() or not of_targets.any():
        raise ValueError(
            "The model is certain of all candidates or of all targets, so no measurement is worth more than another. Pass "
            "other candidates or targets."
        )
    variance, total, noise = prior.copy(), of_targets.sum(), posterior.noise[candidates]
    cross = posterior.covariance(candidates, targets).astype(np.float32) if strategy == "variance" else None
    # Rows of the Cholesky factor of the covariance between the chosen perturbations and all candidates and targets.
    known, known_targets = np.empty((n, len(candidates))), np.empty((n, len(targets)))
    free = np.ones(len(candidates), dtype=bool)
    chosen, remaining = [], []
    for step in range(n):
        gain = variance if cross is None else np.einsum("ct,ct->c", cross, cross) / (variance + noise)
        best = int(np.argmax(np.where(free, gain, -np.inf)))
        size = np.sqrt(variance[best] + noise[best])
        for rows, positions in ((known, candidates), (known_targets, targets)):
            covariance = posterior.covariance(positions, candidates[[best]])[:, 0]
            rows[step] = (covariance - known[:step, best] @ rows[:step]) / size
        variance = (variance - np.square(known[step])).clip(0)
        of_targets = (of_targets - np.square(known_targets[step])).clip(0)
        if cross is not None:
            cross -= np.outer(known[step], known_targets[step]).astype(np.float32)
        free[best] = False
        chosen.append(best)
        remaining.append(of_targets.sum() / total)
    return np.array(chosen), prior[chosen], np.array(remaining)
