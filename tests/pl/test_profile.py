"""The predicted profile of one perturbation."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy import stats

import scapp
from scapp.pl._figure import Color


def labels(ax) -> list[str]:
    return [label.get_text() for label in ax.get_yticklabels()]


def test_the_most_changed_genes_have_their_values_intervals_and_observations(adata):
    ax = scapp.pl.predicted_profile(adata, "g3+g29", n_genes=4, level=0.9, show=False)
    assert labels(ax) == ["g0", "g1", "g28", "g29"]
    lfc = adata.layers["predicted_lfc"][0, [0, 1, 28, 29]]
    segments = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    half = stats.norm.ppf(0.95) * 0.2
    np.testing.assert_allclose(segments, np.column_stack([lfc - half, lfc + half]), rtol=1e-5)
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 0], lfc)
    np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 0], 2 * lfc)
    red = [label.get_text() for label in ax.get_yticklabels() if to_hex(label.get_color()) == to_hex(Color.VERMILION)]
    assert red == ["g29"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["predicted, 90 % interval", "observed"]


def test_without_observations_or_deviations_they_are_not_drawn(adata):
    del adata.layers["lfc"]
    ax = scapp.pl.predicted_profile(adata, "g2", show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["predicted, 80 % interval"]
    del adata.layers["predicted_lfc_std"]
    with pytest.raises(ValueError, match=r"no layer 'predicted_lfc_std'.*pass std_layer=None"):
        scapp.pl.predicted_profile(adata, "g2")
    ax = scapp.pl.predicted_profile(adata, "g2", std_layer=None, show=False)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["predicted"]


def test_genes_can_be_named_and_must_have_been_predicted(adata):
    adata.layers["predicted_lfc"][:, 5] = np.nan
    assert labels(scapp.pl.predicted_profile(adata, "g2", genes=["g9", "g7", "g20"], show=False)) == ["g20", "g9", "g7"]
    assert len(labels(scapp.pl.predicted_profile(adata, "g2", n_genes=100, show=False))) == 29
    with pytest.raises(ValueError, match="not genes of adata: g99"):
        scapp.pl.predicted_profile(adata, "g2", genes=["g9", "g99"])
    with pytest.raises(ValueError, match="Nothing was predicted for g5"):
        scapp.pl.predicted_profile(adata, "g2", genes=["g9", "g5"])
    with pytest.raises(ValueError, match="between 0 and 1; found 80"):
        scapp.pl.predicted_profile(adata, "g2", level=80)


def test_the_legend_lies_below_the_axes_and_hides_no_bar(adata):
    for n_genes in (3, 20):
        figure = scapp.pl.predicted_profile(adata, "g3+g29", n_genes=n_genes, show=False, return_fig=True)
        figure.canvas.draw()
        ax = figure.axes[0]
        legend = ax.get_legend().get_window_extent()
        assert 0 <= legend.y0 and legend.y1 < ax.xaxis.label.get_window_extent().y0 < ax.get_window_extent().y0
