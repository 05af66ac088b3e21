"""What the pictures of a benchmark show, and that it can be read."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from benchmarks.paper import plots
from benchmarks.paper.figures import damage_table, pictures
from benchmarks.paper.folder import png, read_folder
from matplotlib.collections import PathCollection
from matplotlib.colors import to_hex
from tests.benchmark_pictures import REFERENCES, overlapping

from scapp.benchmark import by_stratum, calibration, paired, summarise


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def summary(planted) -> pd.DataFrame:
    return summarise(planted, reference=REFERENCES)


def test_test_sets_have_a_mark_for_each_method_and_stratum(planted):
    strata = by_stratum(planted, reference=REFERENCES, n_draws=20)
    methods = ["APP", "pair kernel"]
    ax = plots.by_test_set(strata, task="norman_doubles", methods=methods)
    marks = [c.get_offsets() for c in ax.collections if len(c.get_offsets()) == 6]
    rows = strata[(strata["task"] == "norman_doubles") & (strata["method"] == "APP")]
    np.testing.assert_allclose(marks[0][:, 1], rows["ratio"])
    assert not set(marks[0][:, 0]) & set(marks[1][:, 0])  # beside each other
    assert "small\nn = 12" in [label.get_text() for label in ax.get_xticklabels()]
    assert not overlapping([*ax.get_xticklabels(), *ax.texts], ax.figure)


def test_scatter_shows_every_pair_and_the_share_of_the_table(planted):
    ax = plots.scatter(planted, "APP", against="pair kernel", task="norman_doubles")
    assert sum(len(c.get_offsets()) for c in ax.collections) == 60
    share = paired(planted[planted["task"] == "norman_doubles"], methods=["APP"], against="pair kernel")["win_rate"][0]
    assert ax.texts[0].get_text() == f"better on {100 * share:.0f} %"
    assert ax.get_xlim() == ax.get_ylim()


def test_calibration_has_a_line_for_each_task(planted):
    table = calibration(planted)
    ax = plots.calibration(table, labels={"norman_doubles": "doubles"})
    rows = table[(table["method"] == "APP") & (table["task"] == "norman_doubles")]
    assert rows["n_largest"].tolist() == [0, 0, 0, 20]
    np.testing.assert_allclose(ax.lines[1].get_ydata(), rows["empirical"][rows["n_largest"] == 0])
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["doubles", "k562_singles"]


def attended(perturbed: bool = True) -> pd.DataFrame:
    genes = [f"g{i}" for i in range(12)]
    tables = [
        pd.DataFrame(
            {"panel": panel, "gene": genes, "score": np.arange(1, 13) / 78, "perturbed": [perturbed, *[False] * 11]}
        )
        for panel in ("KLF1\n(single)", "A+B\n(combination)", "GATA1\n(unseen gene)")
    ]
    return pd.concat(tables, ignore_index=True)


def test_attention_has_a_panel_for_each_perturbation_with_its_top_genes():
    table = attended()
    table.loc[0, "score"] = 0.9
    ax = plots.attention(table, n_genes=5)
    assert [a.get_title() for a in ax] == ["KLF1\n(single)", "A+B\n(combination)", "GATA1\n(unseen gene)"]
    assert [label.get_text() for label in ax[0].get_yticklabels()] == ["g8", "g9", "g10", "g11", "g0"]
    assert [label.get_text() for label in ax[1].get_yticklabels()] == ["g7", "g8", "g9", "g10", "g11"]
    colors = [to_hex(label.get_color()) for label in ax[0].get_yticklabels()]
    assert colors[4] != colors[0]


@pytest.mark.parametrize("span", [3, 200, 1e5])
def test_numbers_under_the_attention_stay_apart(span):
    table = attended()
    table["score"] = np.tile(np.geomspace(1 / span, 1, 12), 3)
    figure = plots.attention(table, n_genes=12)[0].figure
    figure.canvas.draw()
    for ax in figure.axes:
        low, high = ax.get_xlim()
        inside = [label for label in ax.get_xticklabels(which="both") if low <= label.get_position()[0] <= high]
        assert not overlapping(inside, figure)


def test_damage_is_drawn_beside_what_was_claimed(results_folder):
    table = damage_table(read_folder(results_folder))
    claimed = pd.DataFrame({"task": ["norman_doubles"], "method": ["APP, 10 % edges removed"], "ratio": [5.4 / 5.3]})
    ax = plots.network_damage(table, claimed=claimed)
    filled = next(c for c in ax.collections if len(c.get_offsets()) == 5)
    np.testing.assert_allclose(filled.get_offsets()[:, 1], table.loc[table["task"] == "norman_doubles", "ratio"])
    marks = [c for c in ax.collections if isinstance(c, PathCollection)]
    hollow = [c for c in marks if len(c.get_offsets()) == 1 and not len(c.get_facecolor())]
    assert [c.get_offsets()[0, 1] for c in hollow] == [5.4 / 5.3]
    assert [label.get_text() for label in ax.get_xticklabels()][0] == "10 %\nedges\nremoved"
    assert not overlapping(ax.get_xticklabels(), ax.figure)


def test_pictures_say_what_is_wrong(summary, planted):
    with pytest.raises(ValueError, match="choose at most 7"):
        plots.by_test_set(summary, methods=list("abcdefgh"))
    with pytest.raises(ValueError, match="have no rmse of the same perturbations"):
        plots.scatter(planted, "APP", against="mean", task="k562_singles", metric="rmse")
    with pytest.raises(ValueError, match="no coverage of 'mean'; there is of 'APP'"):
        plots.calibration(calibration(planted), method="mean")
    with pytest.raises(ValueError, match=r"(?s)3 panels .* and 1 axes"):
        plots.attention(attended(), ax=[plt.subplots()[1]])


def test_every_picture_of_a_folder_is_drawn_and_described(results_folder):
    drawn = list(pictures(read_folder(results_folder)))
    names = [picture.name for picture in drawn]
    assert names == [
        "headline", "ratios_norman_doubles", "test_sets_norman_doubles", "ratios_k562_singles",
        "test_sets_k562_singles", "scatter", "calibration", "attention", "network_damage",
    ]  # fmt: skip
    assert all(len(picture.alt) > 20 and picture.caption.endswith(".") for picture in drawn)
    assert png(drawn[0].figure) == png(drawn[0].figure)
    assert "APP 0.8" in drawn[0].alt
