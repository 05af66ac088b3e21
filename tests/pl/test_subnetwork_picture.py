"""What the picture of a subnetwork shows."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scapp
from scapp.pl._figure import Color


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def adata() -> ad.AnnData:
    """A -> g0 -> g1 -> g2, B -> g3 .. g9, and g10 .. g14 without a path; g9 was not measured."""
    genes = ["A", "B", *(f"g{i}" for i in range(15))]
    rng = np.random.default_rng(0)
    attention = rng.random((1, 17)) + 0.1
    attention[0, :2] = 3
    lfc = rng.normal(size=(1, 17))
    lfc[0, 11] = np.nan
    edges = [("A", "g0"), ("g0", "g1"), ("g1", "g2"), *(("B", f"g{i}") for i in range(3, 10))]
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": ["A+B"]}, index=["A+B"]),
        var=pd.DataFrame(index=genes),
        layers={"attention": attention / attention.sum(), "predicted_lfc": lfc},
    )
    table = pd.DataFrame(edges, columns=["source", "target"])
    scapp.pp.add_network(adata, table, directed=True, perturbation_key=None)
    return adata


@pytest.fixture
def graph(adata):
    return scapp.tl.attention_subnetwork(adata, "A+B", n_attended=15, n_changed=3)


def labels(ax: plt.Axes) -> dict[str, plt.Annotation]:
    return {text.get_text(): text for text in ax.texts if text.get_text()}


def test_every_gene_is_named_and_the_perturbed_stand_out(graph):
    ax = scapp.pl.attention_subnetwork(graph, show=False)
    assert set(labels(ax)) == set(graph)
    colors = {name: to_hex(text.get_color()).upper() for name, text in labels(ax).items()}
    assert {name for name, color in colors.items() if color == Color.VERMILION} == {"A", "B"}


def test_columns_are_steps_and_genes_without_a_path_come_last(graph):
    ax = scapp.pl.attention_subnetwork(graph, show=False)
    assert [tick.get_text() for tick in ax.get_xticklabels()] == [
        "perturbed", "1 step", "2 steps", "3 steps", "no path",
    ]  # fmt: skip
    column = {name: text.xy[0] for name, text in labels(ax).items()}
    assert (column["A"], column["g0"], column["g1"], column["g2"], column["g12"]) == (0, 1, 2, 3, 4)
    assert column["g3"] == column["g8"] == 1


def test_area_is_attention_and_color_the_predicted_change(graph):
    ax = scapp.pl.attention_subnetwork(graph, show=False)
    drawn = {}
    for points in ax.collections:
        sizes, values = points.get_sizes(), points.get_array()
        for i, xy in enumerate(points.get_offsets()):
            drawn[tuple(np.round(xy, 6))] = (sizes[i], None if values is None else values[i])
    found = {name: drawn[tuple(np.round(text.xy, 6))] for name, text in labels(ax).items()}
    attention = {name: node["attention"] for name, node in graph.nodes(data=True)}
    names = sorted(graph, key=lambda name: attention[name])
    assert (np.diff([found[name][0] for name in names]) >= 0).all()
    for name, node in graph.nodes(data=True):
        if np.isfinite(node["predicted_lfc"]):
            assert found[name][1] == pytest.approx(node["predicted_lfc"])
        else:
            assert found[name][1] is None
    limits = {tuple(points.get_clim()) for points in ax.collections if points.get_array() is not None}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high  # the middle color is no change
    assert "log-fold-change" in ax.figure.axes[1].get_ylabel()


def test_names_do_not_overlap(graph):
    ax = scapp.pl.attention_subnetwork(graph, show=False)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in labels(ax).values()]
    overlaps = [a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :]]
    assert not any(overlaps)


def test_edges_are_drawn_once_and_networks_have_colors(adata):
    other = adata.varp["network"].copy()
    other.data[:] = 0
    other = other.tolil()
    other[0, 16] = 1
    networks = {"string": adata.varp["network"], "tf": other.tocsr()}
    graph = scapp.tl.attention_subnetwork(adata, "A+B", network=networks, n_attended=15)
    ax = scapp.pl.attention_subnetwork(graph, show=False)
    arrows = [text for text in ax.texts if text.arrow_patch is not None]
    assert len(arrows) == graph.number_of_edges() == 11
    assert len({to_hex(arrow.arrow_patch.get_edgecolor()) for arrow in arrows}) == 2
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert {"string", "tf", "perturbed", "attended"} <= set(legend)


def test_adata_and_graph_give_the_same_picture(adata, graph, tmp_path):
    from_graph = scapp.pl.attention_subnetwork(graph, show=False)
    adata.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad")
    from_adata = scapp.pl.attention_subnetwork(again, show=False)
    assert {n: t.xy for n, t in labels(from_adata).items()} == {n: t.xy for n, t in labels(from_graph).items()}
    figure = scapp.pl.attention_subnetwork(again, "A+B", return_fig=True, save=tmp_path / "s.png")
    assert figure.axes
    assert (tmp_path / "s.png").stat().st_size > 5000
    _, ax = plt.subplots()
    assert scapp.pl.attention_subnetwork(graph, ax=ax, show=False) is ax


def test_what_is_missing_is_named_with_what_fills_it(adata, graph):
    with pytest.raises(
        ValueError, match=r"no subnetwork of 'B'; it has those of 'A\+B'.*scapp.tl.attention_subnetwork"
    ):
        scapp.pl.attention_subnetwork(adata, "B")
    del adata.uns["attention_subnetwork"]
    with pytest.raises(ValueError, match="filled by `scapp.tl.attention_subnetwork`"):
        scapp.pl.attention_subnetwork(adata)
