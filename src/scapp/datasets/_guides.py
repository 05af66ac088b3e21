"""Guide counts of the simulator: guides of each cell, ambient counts of all others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._keys import Key
from scapp._labels import parse_label

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.random import Generator

GUIDES_PER_GENE = 2
N_CONTROL_GUIDES = 4
MEDIAN_COUNT, COUNT_SD = 60.0, 0.8  # of a guide that is there; the latter of the natural logarithm
AMBIENT = 0.15  # mean count of a guide that is not there
LOST = 0.03  # share of cells of which no guide was captured
DOUBLETS = 0.03  # share of cells that hold the guide of another cell as well


def with_guides(rng: Generator, cells: AnnData, control: str) -> MuData:
    """Make a MuData of the cells (``"rna"``) and of guide counts (``"gdo"``); see :func:`simulated_perturb_seq`."""
    from mudata import MuData

    labels = cells.obs[Key.obs.PERTURBATION].astype(str)
    perturbed = [parse_label(label, control=control) for label in labels]
    targets = sorted({gene for genes in perturbed for gene in genes})
    names = [f"{gene}_{k}" for gene in targets for k in range(1, GUIDES_PER_GENE + 1)]
    names += [f"NTC_{k}" for k in range(1, N_CONTROL_GUIDES + 1)]
    first = {gene: i * GUIDES_PER_GENE for i, gene in enumerate(targets)}

    def draw(genes: tuple[str, ...]) -> list[int]:
        if not genes:
            return [len(names) - N_CONTROL_GUIDES + int(rng.integers(N_CONTROL_GUIDES))]
        return [first[gene] + int(rng.integers(GUIDES_PER_GENE)) for gene in genes]

    held = [draw(genes) for genes in perturbed]
    kind = rng.choice(["intact", "lost", "doublet"], size=len(held), p=[1 - LOST - DOUBLETS, LOST, DOUBLETS])
    other = rng.permutation(len(held))
    present = np.zeros((len(held), len(names)), dtype=bool)
    for cell, guides in enumerate(held):
        if kind[cell] != "lost":
            present[cell, guides] = True
        if kind[cell] == "doublet":
            present[cell, held[other[cell]]] = True
    counts = rng.poisson(AMBIENT, present.shape)
    counts[present] += rng.poisson(MEDIAN_COUNT * rng.lognormal(0, COUNT_SD, int(present.sum())))
    guides = AnnData(
        sparse.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame({"capture": pd.Categorical(kind)}, index=cells.obs_names.copy()),
        var=pd.DataFrame(
            {
                "target_gene": [
                    *(gene for gene in targets for _ in range(GUIDES_PER_GENE)),
                    *["non-targeting"] * N_CONTROL_GUIDES,
                ]
            },
            index=pd.Index(names),
        ),
    )
    return MuData({"rna": cells, "gdo": guides})
