"""The picture of a benchmark: where the ratios are, and that it can be read."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from tests.benchmark_pictures import REFERENCES, overlapping

import scapp
from scapp.benchmark import summarise


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def summary(planted) -> pd.DataFrame:
    return summarise(planted, reference=REFERENCES)


def test_ratios_are_where_the_summary_says_best_on_top(summary):
    ax = scapp.pl.benchmark_ratios(summary, task="norman_doubles", show=False)
    names = [label.get_text() for label in ax.get_yticklabels()]
    rows = summary[summary["task"] == "norman_doubles"].set_index("method")
    assert names[-1] == rows["ratio"].idxmin()
    np.testing.assert_allclose(ax.collections[1].get_offsets()[:, 0], rows.loc[names, "ratio"])
    ends = np.array([segment[:, 0] for segment in ax.collections[0].get_segments()])
    np.testing.assert_allclose(ends, rows.loc[names, ["ratio_low", "ratio_high"]])
    assert [label.get_text() for label in ax.get_yticklabels() if label.get_fontweight() == "bold"] == ["APP"]


def test_no_label_of_the_ratios_lies_over_another(summary):
    figure = scapp.pl.benchmark_ratios(summary, task="norman_doubles", return_fig=True)
    ax = figure.axes[0]
    legend = figure.legends[0].get_texts()
    assert not overlapping([*ax.get_yticklabels(), *ax.texts, *legend, ax.xaxis.label, ax.title], figure)


def test_ceiling_is_drawn_where_it_is_known(summary):
    without = scapp.pl.benchmark_ratios(summary, task="k562_singles", show=False)
    with_it = scapp.pl.benchmark_ratios(summary, task="k562_singles", ceiling=0.5, show=False)
    assert len(with_it.lines) == len(without.lines) + 1
    assert "noise ceiling" in [text.get_text() for text in with_it.texts]


def test_a_picture_says_what_is_wrong(summary):
    with pytest.raises(ValueError, match="no column ratio, ratio_low"):
        scapp.pl.benchmark_ratios(summary.drop(columns=["ratio", "ratio_low"]), task="norman_doubles")
    with pytest.raises(ValueError, match="2 tasks; name one with `task`: 'norman_doubles', 'k562_singles'"):
        scapp.pl.benchmark_ratios(summary)
    with pytest.raises(ValueError, match="no task 'doubles'; the tasks are 'norman_doubles'"):
        scapp.pl.benchmark_ratios(summary, task="doubles")
    with pytest.raises(ValueError, match="no method 'app'; there are"):
        scapp.pl.benchmark_ratios(summary, task="k562_singles", methods=["app"])
