"""Small predictions with known values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:
    yield
    plt.close("all")


@pytest.fixture
def adata() -> ad.AnnData:
    genes = [f"g{i}" for i in range(30)]
    lfc = np.linspace(-1, 1, 30, dtype=np.float32)
    attention = np.arange(1, 31, dtype=np.float32) / np.arange(1, 31).sum()
    layers = {
        "lfc": [lfc, -lfc],
        "predicted_lfc": [lfc * 0.5, -lfc],
        "predicted_lfc_std": [np.full(30, 0.2), np.full(30, 0.1)],
        "attention": [attention, attention[::-1]],
    }
    return ad.AnnData(
        obs=pd.DataFrame({"perturbation": ["g29+g3", "g2"]}, index=["g29+g3", "g2"]),
        var=pd.DataFrame(index=genes),
        layers={key: np.array(value, dtype=np.float32) for key, value in layers.items()},
    )


@pytest.fixture
def overlapping() -> Callable[[Any], list[tuple[str, str]]]:
    """Pairs of texts that lie over each other as drawn."""

    def pairs(texts: Any) -> list[tuple[str, str]]:
        texts = [text for text in texts if text.get_text().strip()]
        figure = texts[0].get_figure(root=True)
        figure.canvas.draw()
        boxes = [(t.get_text(), plt.Text.get_window_extent(t, figure.canvas.get_renderer())) for t in texts]
        return [(a, b) for (a, x), (b, y) in itertools.combinations(boxes, 2) if x.overlaps(y)]

    return pairs
