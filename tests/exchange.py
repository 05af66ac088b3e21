"""Write a model and its predictions with this set of packages, or read what another set wrote.

    python tests/exchange.py write FOLDER
    python tests/exchange.py read FOLDER ...

Reading predicts with the model, compares with what its writer predicted, and writes the h5ad once more.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

warnings.filterwarnings("ignore", category=FutureWarning)  # of packages about packages, at their import

import anndata as ad  # noqa: E402
import numpy as np  # noqa: E402

import scapp  # noqa: E402

PACKAGES = ("numpy", "pandas", "anndata", "scvi-tools", "torch")
LAYERS = ("predicted_lfc", "predicted_lfc_std", "p_change", "attention")


def write(folder: Path) -> None:
    """Save a model trained on a small simulated screen, with its data, and what it predicts."""
    cells, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=60, n_regulators=10, n_singles=8, n_doubles=4, n_cells_per_perturbation=10
    )
    effects = scapp.pp.pseudobulk(cells, batch_key="batch")
    scapp.pp.add_network(effects, truth.network, directed=True)
    scapp.model.APP.setup_anndata(effects)
    model = scapp.model.APP(effects)
    model.train(max_epochs=2, enable_progress_bar=False)
    model.save(str(folder / "model"), save_anndata=True)
    unseen = "+".join(truth.effects.obs_names[~truth.effects.obs["in_screen"]][:2])
    predicted = model.predict([*effects.obs_names[:3], unseen])
    scapp.tl.rank_attention_genes(predicted)
    predicted.write_h5ad(folder / "predicted.h5ad", compression="gzip")


def read(folder: Path) -> None:
    """Load the model with and without its data, compare its predictions, and write what was read."""
    expected = ad.read_h5ad(folder / "predicted.h5ad")
    with_data = [None] if (folder / "model" / "adata.h5ad").is_file() else []
    for adata in (False, *with_data):
        predicted = scapp.model.APP.load(str(folder / "model"), adata=adata).predict(list(expected.obs_names))
        for layer in LAYERS:
            np.testing.assert_allclose(predicted.layers[layer], expected.layers[layer], rtol=1e-4, atol=1e-5)
    again = folder / f"again_{os.getpid()}.h5ad"  # others read the same folder at the same time
    expected.write_h5ad(again)
    again.unlink()
    for _ in with_data:
        effects = ad.read_h5ad(folder / "model" / "adata.h5ad")
        scapp.model.APP.setup_anndata(effects)
        scapp.model.APP(effects).train(max_epochs=1, enable_progress_bar=False)


def main() -> None:
    """Do what is asked, and say with which versions."""
    what, *folders = sys.argv[1:]
    for folder in map(Path, folders):
        folder.mkdir(parents=True, exist_ok=True)
        {"write": write, "read": read}[what](folder)
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        print(f"{what} {folder.name}: Python {sys.version.split()[0]}, {versions}")


if __name__ == "__main__":
    main()
