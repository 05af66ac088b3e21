"""Counts of the simulator: drawn for cells, what their pseudobulk is on average, and of guides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse, stats

from scapp._keys import Key
from scapp._labels import parse_label
from scapp.datasets._tidy import no_news_of_mudata

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.random import Generator
    from numpy.typing import NDArray

TARGET_SUM = 1e4
CELLS_AT_A_TIME = 4096
DROPOUT_SCALE = 5  # mean count at which dropout has fallen by a factor e
# Guides.
GUIDES_PER_GENE = 2
N_CONTROL_GUIDES = 4
MEDIAN_COUNT, COUNT_SD = 60.0, 0.8  # of a guide that is there; the latter of the natural logarithm
AMBIENT = 0.15  # mean count of a guide that is not there
LOST = 0.03  # share of cells of which no guide was captured
DOUBLETS = 0.03  # share of cells that hold the guide of another cell as well


@dataclass(frozen=True)
class CountModel:
    r"""Describe how a cell of batch :math:`b` comes by its counts :math:`x_g`.

    .. math:: x_g \sim z_g \cdot \text{NB}(\mu_g, \phi), \qquad
        \mu_g = \ell\, \frac{r_g \beta_{bg}}{\sum_h r_h \beta_{bh}}, \qquad
        \ell \sim \text{LogNormal}, \qquad z_g \sim \text{Bernoulli}(1 - d\, e^{-\mu_g / 5})

    with rates :math:`r`, batch factors :math:`\beta` (n_batches, n_genes), library sizes :math:`\ell` of a given median
    and standard deviation of the logarithm, dispersion :math:`\phi` (variance = mean + :math:`\phi` mean²) and dropout
    :math:`d`, which spares genes of high expression.
    """

    batch_factors: NDArray[np.float64]
    median_library_size: float
    library_size_sd: float
    dispersion: float
    dropout: float

    def shares(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the share of each gene in a cell's counts: (n_batches, n_perturbations, n_genes) from (n_perturbations, n_genes)."""
        shares = rates * self.batch_factors[:, None, :]
        return shares / shares.sum(axis=-1, keepdims=True)

    def kept(self, mean: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the probability that the count of a gene is not lost, by its mean."""
        return 1 - self.dropout * np.exp(-mean / DROPOUT_SCALE)

    def draw(
        self, rng: Generator, rates: NDArray[np.float64], perturbation: NDArray[np.intp], batch: NDArray[np.intp]
    ) -> sparse.csr_matrix:
        """Draw counts of cells, given the row of `rates` and the batch of each; float32 of shape (n_cells, n_genes)."""
        shares = self.shares(rates)
        blocks = []
        for start in range(0, len(perturbation), CELLS_AT_A_TIME):
            cells = slice(start, start + CELLS_AT_A_TIME)
            mean = shares[batch[cells], perturbation[cells]]
            mean *= self.median_library_size * rng.lognormal(0, self.library_size_sd, (len(mean), 1))
            kept = rng.random(mean.shape) < self.kept(mean)
            if self.dispersion:
                mean *= rng.gamma(1 / self.dispersion, self.dispersion, mean.shape)
            counts = rng.poisson(mean) * kept
            blocks.append(sparse.csr_matrix(counts.astype(np.float32)))
        return sparse.vstack(blocks, format="csr")

    def expected_log_expression(self, rates: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the expectation of log1p(counts per 10,000), over the batches in equal parts; (n_perturbations, n_genes).

        What a pseudobulk of ever more cells tends to, which is not log1p of the expected counts. Of the three sources
        of variation, counts and dropout are summed over exactly, and the library size by Gauss-Hermite quadrature. The
        total of a cell is taken to be its library size less the mean dropout; the error is below 0.01 at the default
        depth.
        """
        nodes, node_weights = np.polynomial.hermite_e.hermegauss(9)
        sizes = self.median_library_size * np.exp(self.library_size_sd * nodes)
        shares = self.shares(rates)
        # The expectation depends on the mean count alone, so a fine grid of means serves all genes.
        largest = shares.max() * sizes.max()
        grid = np.geomspace(1e-5, max(largest, 1e-4), 400)
        n = np.arange(np.ceil(grid[-1] * (1 + 10 * np.sqrt(self.dispersion)) + 10 * np.sqrt(grid[-1]) + 20))
        if self.dispersion:
            size = 1 / self.dispersion
            probability = stats.nbinom.pmf(n[None, :], size, size / (size + grid[:, None]))
        else:
            probability = stats.poisson.pmf(n[None, :], grid[:, None])

        expected = np.zeros(shares.shape[1:])
        for size, weight in zip(sizes, node_weights / node_weights.sum(), strict=True):
            mean = shares * size
            total = np.sum(mean * self.kept(mean), axis=-1).mean()
            of_mean = self.kept(grid) * (probability @ np.log1p(TARGET_SUM * n / total))
            values = np.interp(np.log(np.maximum(mean, grid[0])), np.log(grid), of_mean)
            expected += weight * values.mean(axis=0)
        return expected


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
    of_guides = [*np.repeat(np.array(targets, dtype=object), GUIDES_PER_GENE), *["non-targeting"] * N_CONTROL_GUIDES]
    guides = AnnData(
        sparse.csr_matrix(counts.astype(np.float32)),
        obs=pd.DataFrame({"capture": pd.Categorical(kind)}, index=cells.obs_names.copy()),
        var=pd.DataFrame({"target_gene": of_guides}, index=pd.Index(names)),
    )
    with no_news_of_mudata():
        return MuData({"rna": cells, "gdo": guides})
