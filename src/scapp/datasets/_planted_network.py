"""The planted network of the simulator, the effects of perturbations in it, and the interacting pairs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import combinations, zip_longest
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

# Changes of the logarithm of a gene's rate (natural logarithm).
PERTURBED = 1.5  # a knockdown leaves exp(-1.5) = 22 % of its target; an activation makes 4.5 times as much
LARGEST = 1.2  # what regulation saturates at
N_STEPS = 4  # the longest path along which an effect travels

SHARE_IN_MODULES = 0.6  # of the genes that regulate nothing by design; the rest only change by chance
ARC = 1.6  # how many arcs of the ring a module covers, so that neighbouring modules share targets
SHARE_TARGETED = 0.75  # of its module's direct targets that a regulator regulates
SHARE_SECOND_STEP = 0.25  # of a module's genes that are regulated by its targets, not by its regulators
N_PRIVATE_TARGETS = 3  # of each regulator, anywhere

# What is left of the effect of a pair on the genes downstream of both, by kind of interaction.
FACTORS = {"none": 1.0, "synergy": 1.6, "buffering": 0.3, "suppression": -0.7}


@dataclass(frozen=True)
class PlantedNetwork:
    """Regulators in modules, and the weights of their edges.

    `weights` has the shape (n_genes, n_genes), row = source, column = target. `regulators` are gene indices, `module`
    the number of each one's module, and `direction` what a perturbation does to a regulator: -1 knocks down, +1
    activates. `interactions` gives the kind for pairs of modules whose genes interact.
    """

    weights: NDArray[np.float64]
    regulators: NDArray[np.intp]
    module: NDArray[np.intp]
    direction: NDArray[np.intp]
    interactions: dict[tuple[int, int], str]
    interaction_strength: float

    @cached_property
    def downstream(self) -> NDArray[np.bool_]:
        """Return a mask of the genes within `N_STEPS` edges of each regulator, shape (n_regulators, n_genes)."""
        edges = self.weights != 0
        reached = edges[self.regulators]
        for _ in range(N_STEPS - 1):
            reached = reached | (reached.astype(np.int64) @ edges > 0)
        reached[np.arange(len(self.regulators)), self.regulators] = False
        return reached

    def kind(self, pair: Sequence[int]) -> str:
        """Return the kind of interaction of two regulators, given by their place among the regulators."""
        first, second = sorted(int(self.module[i]) for i in pair)
        kind = self.interactions.get((first, second), "none")
        return kind if kind != "none" and self.shared(pair).any() else "none"

    def shared(self, pair: Sequence[int]) -> NDArray[np.bool_]:
        """Return the genes downstream of both of two regulators, without these two; shape (n_genes,)."""
        shared: NDArray[np.bool_] = np.logical_and.reduce(self.downstream[list(pair)])
        shared[self.regulators[list(pair)]] = False
        return shared

    def rate_change(self, perturbation: Sequence[int]) -> NDArray[np.float64]:
        """Change of each gene's log rate when some regulators (by place) are perturbed; shape (n_genes,).

        The perturbed genes are held at their level. Every other gene follows its regulators, and saturates:
        change = LARGEST * tanh(sum over its regulators of weight * change / LARGEST). Then the effect on the genes
        downstream of both of an interacting pair is multiplied.
        """
        held = self.regulators[list(perturbation)]
        level = PERTURBED * self.direction[list(perturbation)]
        change = np.zeros(len(self.weights))
        change[held] = level
        for _ in range(N_STEPS):
            change = LARGEST * np.tanh(change @ self.weights / LARGEST)
            change[held] = level
        if len(perturbation) == 2:
            factor = 1 + self.interaction_strength * (FACTORS[self.kind(perturbation)] - 1)
            change[self.shared(perturbation)] *= factor
        return change


def plant_network(
    rng: Generator, *, n_genes: int, n_regulators: int, n_modules: int, interaction_strength: float
) -> PlantedNetwork:
    """Draw a network.

    Other genes stand on a ring, and each module's genes are an arc of it that overlaps with the next module's. A module
    has a signature: the sign and size of its effect on each of its genes. Each of its regulators regulates most of the
    module's direct targets in proportion to the signature, so that two regulators of a module do much the same; some
    of the module's genes follow from the direct targets instead; and each regulator has a few targets of its own.
    """
    order = rng.permutation(n_genes)
    regulators, others = np.sort(order[:n_regulators]), order[n_regulators:]
    module = np.arange(n_regulators) % n_modules
    weights = np.zeros((n_genes, n_genes))

    ring = others[: int(SHARE_IN_MODULES * len(others))]
    step = len(ring) / n_modules
    for m in range(n_modules):
        length = min(int(ARC * step), len(ring))
        genes = rng.permutation(ring[(int(m * step) + np.arange(length)) % len(ring)])
        n_second = int(SHARE_SECOND_STEP * length)
        second, direct = genes[:n_second], genes[n_second:]
        # As many up as down: else counts per 10,000 would fall or rise in all other genes.
        signature = np.resize([-1, 1], len(direct)) * rng.uniform(0.35, 0.75, len(direct))
        members = regulators[module == m]
        strength = rng.uniform(0.7, 1.2, (len(members), 1)) * rng.uniform(0.8, 1.2, (len(members), len(direct)))
        regulated = rng.random(strength.shape) < SHARE_TARGETED
        weights[np.ix_(members, direct)] = regulated * strength * signature
        for target in second:
            sources = rng.choice(direct, min(2, len(direct)), replace=False)
            weights[sources, target] = rng.choice([-1, 1]) * rng.uniform(0.5, 0.8)
    for regulator in regulators:
        private = rng.choice(others, N_PRIVATE_TARGETS, replace=False)
        weights[regulator, private] += rng.choice([-1, 1], N_PRIVATE_TARGETS) * rng.uniform(0.2, 0.6, N_PRIVATE_TARGETS)

    # All genes of a module are perturbed in one direction: else a gene never perturbed would have no predictable sign.
    direction = np.where(module % 2 == 0, -1, 1)
    # Half of the pairs of modules that share genes interact, each kind in turn.
    neighbours = {tuple(sorted((m, (m + 1) % n_modules))) for m in range(n_modules)}
    sharing = sorted({(m, m) for m in range(n_modules)} | neighbours)
    chosen = rng.permutation(len(sharing))[: (len(sharing) + 1) // 2]
    kinds = [kind for kind in FACTORS if kind != "none"]
    interactions = {sharing[c]: kinds[i % len(kinds)] for i, c in enumerate(chosen)}
    return PlantedNetwork(weights, regulators, module, direction, interactions, interaction_strength)


def draw_pairs(
    rng: Generator, network: PlantedNetwork, *, n_singles: int, n_pairs: int, interacting: float
) -> list[tuple[int, int]]:
    """Draw pairs of the first `n_singles` regulators.

    A share of them interacts if there are enough such pairs, about equally many from each interacting pair of modules.
    """
    pairs = list(combinations(range(n_singles), 2))
    modules: dict[tuple[int, ...], list[int]] = {}
    quiet = []
    for i in rng.permutation(len(pairs)):
        if network.kind(pairs[i]) == "none":
            quiet.append(i)
        else:
            modules.setdefault(tuple(sorted(network.module[list(pairs[i])])), []).append(i)
    in_turn = [i for turn in zip_longest(*modules.values()) for i in turn if i is not None]
    n_interacting = min(len(in_turn), max(round(interacting * n_pairs), n_pairs - len(quiet)))
    chosen = in_turn[:n_interacting] + quiet[: n_pairs - n_interacting]
    return [pairs[i] for i in sorted(chosen)]
