"""A simulated Perturb-seq screen with its truth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._checked import checked
from scapp._keys import Key
from scapp._labels import SEPARATOR
from scapp.datasets._counts import CountModel, with_guides
from scapp.datasets._planted_network import PlantedNetwork, draw_pairs, plant_network

if TYPE_CHECKING:
    from mudata import MuData

CONTROL = "control"
MINIMUM_OTHER_GENES = 12  # for each module: fewer leave no targets to share


@dataclass(frozen=True)
class SimulatedTruth:
    """Hold the planted truth of :func:`simulated_perturb_seq`.

    Attributes
    ----------
    network
        Directed edges, with the columns ``source``, ``target`` and ``weight`` (negative: represses).
    effects
        The true effects of every single regulator, whether perturbed in the screen or not (``obs["in_screen"]``), and
        of every double of the screen, in the format of :func:`scapp.pp.pseudobulk`: `X` the expected expression,
        ``layers["lfc"]`` the log-fold-change that a pseudobulk of infinitely many cells would have (natural logarithm
        of counts per 10,000 plus one), ``var["control_mean"]``. ``layers["rate_change"]`` is the planted change of the
        logarithm of each gene's rate, before counting and normalisation.
    interactions
        One row per double of the screen: ``perturbation``, ``interacts``, and ``kind`` (``"synergy"``, ``"buffering"``,
        ``"suppression"`` or ``"none"``).
    downstream
        One row for each regulator (``gene``) and gene that it regulates directly or through others (``downstream``).
    modules
        The module of each regulator.
    """

    network: pd.DataFrame
    effects: AnnData
    interactions: pd.DataFrame
    downstream: pd.DataFrame
    modules: pd.Series


@checked
def simulated_perturb_seq(
    *,
    n_genes: int = 300,
    n_regulators: int = 48,
    n_singles: int = 40,
    n_doubles: int = 80,
    n_cells_per_perturbation: int = 50,
    n_control_cells: int = 600,
    n_modules: int = 4,
    n_batches: int = 2,
    interacting: float = 0.5,
    interaction_strength: float = 1.0,
    median_library_size: float = 5000,
    library_size_sd: float = 0.3,
    dispersion: float = 0.1,
    dropout: float = 0.2,
    batch_effect: float = 0.1,
    line: int = 0,
    line_effect: float = 0.3,
    return_mudata: bool = False,
    seed: int = 0,
) -> tuple[AnnData | MuData, SimulatedTruth]:
    """Simulate a Perturb-seq screen whose truth is known.

    Regulators belong to modules. Regulators of one module share most of their targets, so the network reveals the
    effect of a regulator that was not perturbed; neighbouring modules share some targets. Effects travel along the
    edges and saturate, so two regulators of one module do less than the sum of both. In addition, pairs from certain
    modules interact: on the genes downstream of both, the effect of the double is larger (synergy, 1.6 times), smaller
    (buffering, 0.3 times) or reversed (suppression, -0.7 times). Which modules interact can be learned from other
    doubles of the same modules.

    The regulators of a module are all knocked down or all activated. Counts are negative binomial, with varying library
    sizes, dropout, and batch effects that multiply the rate of each gene.

    Parameters
    ----------
    n_genes
        Number of genes, including the regulators.
    n_regulators
        Number of genes that may be perturbed.
    n_singles
        Number of regulators that are perturbed alone; the rest are never perturbed.
    n_doubles
        Number of pairs of these that are perturbed together.
    n_cells_per_perturbation, n_control_cells
        Numbers of cells of each perturbation and of unperturbed cells, spread evenly over the batches.
    n_modules
        Number of modules of regulators.
    n_batches
        Number of batches, named in ``obs["batch"]``.
    interacting
        Share of the doubles that interact, if there are enough such pairs.
    interaction_strength
        1 for the factors above, 0 for no interaction (and, with the same seed, the same network and pairs).
    median_library_size, library_size_sd
        Median counts of a cell before dropout, and the standard deviation of their natural logarithm.
    dispersion
        Variance of a count beyond Poisson: variance = mean + dispersion * mean².
    dropout
        Probability that the count of a barely expressed gene is lost; it falls by a factor of e for every 5 expected
        counts.
    batch_effect
        Standard deviation of the log factor by which a batch multiplies the rate of a gene.
    line
        Number of the cell line. Lines of one seed share the regulators and their network, so a gene has similar effects
        in all of them; they differ in the expression of unperturbed cells, in the strength of each edge, and in their
        cells.
    line_effect
        Difference of the other lines from line 0: the standard deviation of the log factors of the edges and of the
        genes' rates.
    return_mudata
        Return the cells as a MuData with expression and guide counts.
    seed
        The same seed gives the same numbers.

    Returns
    -------
    The cells and the planted truth. The cells hold raw counts in `X` (csr, float32) and in ``obs`` the
    ``perturbation`` (``"control"`` or genes in alphabetical order joined by ``"+"``), the ``perturbation_type``
    (``"control"``, ``"knockdown"``, ``"activation"`` or, for a double of both, ``"mixed"``) and the ``batch``.

    With `return_mudata`, a MuData holds these cells as ``"rna"`` and the counts of guides as ``"gdo"``: two guides per
    gene and four non-targeting ones (``var["target_gene"]``), with ambient counts of absent guides. In 3 % of the cells
    no guide was captured, and 3 % also contain that of another cell; ``obs["capture"]`` of the guides marks them. Their
    true perturbation is still in ``obs["perturbation"]`` of ``"rna"``.

    Raises
    ------
    ValueError
        If a number is out of range, or there are too few genes, regulators or pairs for the request.

    Examples
    --------
    >>> adata, truth = scapp.datasets.simulated_perturb_seq(seed=1)
    >>> effects = scapp.pp.pseudobulk(adata, batch_key="batch")
    """
    _check_at_least(2, n_modules=n_modules)
    _check_at_least(0, n_doubles=n_doubles)
    if not 1 <= n_singles <= n_regulators:
        raise ValueError(f"n_singles must be from 1 to n_regulators={n_regulators}, found {n_singles}.")
    if n_regulators < n_modules:
        raise ValueError(f"n_regulators must be at least n_modules={n_modules}, found {n_regulators}.")
    needed = n_regulators + MINIMUM_OTHER_GENES * n_modules
    if n_genes < needed:
        raise ValueError(
            f"n_genes={n_genes} are too few for {n_regulators} regulators in {n_modules} modules: at least {needed} "
            f"are needed ({MINIMUM_OTHER_GENES} targets a module)."
        )
    n_pairs = n_singles * (n_singles - 1) // 2
    if n_doubles > n_pairs:
        raise ValueError(f"n_doubles={n_doubles} is more than the {n_pairs} pairs of n_singles={n_singles} genes.")
    _check_at_least(1, n_batches=n_batches)
    # Each batch holds cells of each perturbation, and controls to compare them with.
    _check_at_least(2 * n_batches, n_control_cells=n_control_cells)
    _check_at_least(max(2, n_batches), n_cells_per_perturbation=n_cells_per_perturbation)
    _check_range(0, 1, interacting=interacting, interaction_strength=interaction_strength)
    _check_range(0, 1, library_size_sd=library_size_sd, dispersion=dispersion, batch_effect=batch_effect)
    _check_range(0, 1, dropout=dropout, line_effect=line_effect)
    _check_at_least(0, line=line)
    _check_range(100, 50_000, median_library_size=median_library_size)

    rng = np.random.default_rng(seed)
    genes = np.array([f"G{i:0{len(str(n_genes))}d}" for i in range(1, n_genes + 1)], dtype=object)
    network = plant_network(
        rng, n_genes=n_genes, n_regulators=n_regulators, n_modules=n_modules, interaction_strength=interaction_strength
    )
    pairs = draw_pairs(rng, network, n_singles=n_singles, n_pairs=n_doubles, interacting=interacting)
    counts = CountModel(
        batch_factors=np.exp(rng.normal(0, batch_effect, (n_batches, n_genes))),
        median_library_size=median_library_size,
        library_size_sd=library_size_sd,
        dispersion=dispersion,
        dropout=dropout,
    )
    base = rng.lognormal(0, 0.8, n_genes)
    if line:
        rng = np.random.default_rng([seed, line])
        factors = np.exp(rng.normal(0, line_effect, network.weights.shape))
        network = replace(network, weights=network.weights * factors)
        base = base * np.exp(rng.normal(0, line_effect, n_genes))

    perturbations: list[tuple[int, ...]] = [(i,) for i in range(n_regulators)]
    perturbations += pairs
    changes = np.array([network.rate_change(p) for p in perturbations])
    # Row 0 is the control; the regulators that are not perturbed have a truth and no cells.
    rates = base * np.exp(np.vstack([np.zeros(n_genes), changes]))
    in_screen = np.array([len(p) > 1 or p[0] < n_singles for p in perturbations])

    cells = np.concatenate(
        [np.zeros(n_control_cells, int), np.repeat(1 + np.flatnonzero(in_screen), n_cells_per_perturbation)]
    )
    # Spread evenly over the batches, starting from the first cell of each perturbation.
    first = np.searchsorted(cells, cells)
    batch = (np.arange(len(cells)) - first) % n_batches
    labels = [SEPARATOR.join(genes[network.regulators[list(p)]]) for p in perturbations]
    names = {(-1,): "knockdown", (1,): "activation", (-1, 1): "mixed"}
    types = [names[tuple(sorted(set(network.direction[list(p)].tolist())))] for p in perturbations]
    obs = pd.DataFrame(
        {
            Key.obs.PERTURBATION: pd.Categorical(np.array([CONTROL, *labels], dtype=object)[cells]),
            "perturbation_type": pd.Categorical(np.array([CONTROL, *types], dtype=object)[cells]),
            "batch": pd.Categorical([f"batch{b + 1}" for b in batch]),
        },
        index=pd.Index([f"cell{i}" for i in range(len(cells))]),
    )
    adata = AnnData(X=counts.draw(rng, rates, cells, batch), obs=obs, var=pd.DataFrame(index=pd.Index(genes)))

    expected = counts.expected_log_expression(rates)
    layers = {Key.layers.LFC: expected[1:] - expected[0], "rate_change": changes}
    effects = AnnData(
        X=expected[1:].astype(np.float32),
        obs=pd.DataFrame({Key.obs.PERTURBATION: np.array(labels, dtype=object)}, index=pd.Index(labels)),
        var=pd.DataFrame({Key.var.CONTROL_MEAN: expected[0]}, index=pd.Index(genes)),
        layers={name: values.astype(np.float32) for name, values in layers.items()},
    )
    effects.obs["perturbation_type"] = pd.Categorical(types)
    effects.obs["in_screen"] = in_screen
    effects.obs[Key.obs.N_PERTURBED_GENES] = [len(p) for p in perturbations]
    kinds = [network.kind(p) if interaction_strength else "none" for p in pairs]
    truth = _describe(network, effects, kinds, labels[n_regulators:], genes)
    if return_mudata:
        # A separate generator, so that the expression is the same with and without guides.
        return with_guides(np.random.default_rng([seed, line, 1]), adata, CONTROL), truth
    return adata, truth


def _describe(
    network: PlantedNetwork, effects: AnnData, kinds: list[str], doubles: list[str], genes: np.ndarray
) -> SimulatedTruth:
    source, target = np.nonzero(network.weights)
    edges = pd.DataFrame({"source": genes[source], "target": genes[target], "weight": network.weights[source, target]})
    regulator, reached = np.nonzero(network.downstream)
    regulators = genes[network.regulators]
    return SimulatedTruth(
        network=edges,
        effects=effects,
        interactions=pd.DataFrame(
            {"perturbation": doubles, "interacts": [kind != "none" for kind in kinds], "kind": kinds}
        ),
        downstream=pd.DataFrame({"gene": regulators[regulator], "downstream": genes[reached]}),
        modules=pd.Series([f"M{m + 1}" for m in network.module], index=pd.Index(regulators), name="module"),
    )


def _check_at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, found {value}.")


def _check_range(least: float, most: float, **values: float) -> None:
    for name, value in values.items():
        if not least <= value <= most:
            raise ValueError(f"{name} must be from {least} to {most}, found {value}.")
