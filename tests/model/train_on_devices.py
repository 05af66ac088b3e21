"""Trains and predicts; what `test_train_on_devices.py` runs as a script, on the devices that it says."""

from __future__ import annotations

import sys

import anndata as ad
import numpy as np
import pandas as pd
import scvi

import scapp


def main(out: str, accelerator: str, devices: str, *strategy: str) -> None:
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(60)]
    labels = [*genes[:40], *(f"g{i}+g{i + 1}" for i in range(20))]
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=genes),
        layers={"lfc": rng.normal(size=(len(labels), 60)).astype(np.float32)},
    )
    adata.varp["network"] = (rng.random((60, 60)) < 0.1).astype(np.float32)
    scvi.settings.seed = 0
    scapp.model.APP.setup_anndata(adata, control=None, layer="lfc")
    model = scapp.model.APP(adata)
    options = {"strategy": strategy[0]} if strategy else {}
    model.train(
        max_epochs=8, early_stopping_patience=3, accelerator=accelerator, devices=int(devices), enable_progress_bar=False, **options
    )  # fmt: skip
    predicted = model.predict(["g3+g50", "g45", "g1+g2"]).layers["predicted_lfc"]
    if model.trainer.is_global_zero:
        np.savez(out, predicted=predicted, validation_loss=model.history["validation_loss"].to_numpy(dtype=float))


if __name__ == "__main__":
    main(*sys.argv[1:])
