"""What the network says of the genes."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import scapp


@pytest.fixture
def screen() -> ad.AnnData:
    """Eight genes: a hub, its four targets, one with a loop only, two without edges; c and f perturbed, and X, no gene."""
    labels = ["control", "hub", "c+f", "X"]
    adata = ad.AnnData(
        np.ones((4, 8), dtype=np.float32),
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame({"measured": [True] * 7 + [False]}, index=["hub", "a", "b", "c", "d", "loop", "e", "f"]),
    )
    edges = pd.DataFrame({"source": ["hub"] * 4 + ["a", "loop"], "target": ["a", "b", "c", "d", "hub", "loop"]})
    scapp.pp.add_network(adata, edges, directed=True, self_loops=True)
    return adata


def words(ax) -> list[str]:
    return [text.get_text() for text in ax.texts]


def test_degrees_count_neighbours_once_and_not_the_gene_itself(screen):
    upper, _ = scapp.pl.network_coverage(screen, show=False)
    assert [label.get_text() for label in upper.get_xticklabels()] == ["0", "1", "2–3", "4–7"]
    perturbed, all_genes = (np.array([bar.get_height() for bar in bars]) for bars in upper.containers)
    np.testing.assert_allclose(perturbed, [1 / 3, 1 / 3, 0, 1 / 3])  # f, c, hub
    np.testing.assert_allclose(all_genes, np.array([3, 4, 0, 1]) / 8)
    names = [text.get_text() for text in upper.get_legend().get_texts()]
    assert names == ["perturbed genes (n = 3, median 1)", "all genes (n = 8, median 1)"]


def test_lacks_are_counted_and_perturbed_genes_named(screen):
    _, lower = scapp.pl.network_coverage(screen, show=False)
    assert [label.get_text() for label in lower.get_yticklabels()] == [
        "no neighbour",
        "not measured",
        "no gene\nof adata",
    ]
    assert words(lower) == ["1 of 3", "3 of 8", "f", "1 of 3", "1 of 8", "f", "1 of 4", "X"]
    np.testing.assert_allclose([bar.get_width() for bar in lower.patches], [1 / 3, 3 / 8, 1 / 3, 1 / 8, 1 / 4])


def test_features_of_all_keys_count_unless_some_are_named(screen):
    for key, genes in {"go": ["hub", "a"], "text": ["f", "a"]}.items():
        table = pd.DataFrame(np.eye(2), index=genes)
        scapp.pp.add_gene_features(screen, table, key_added=key, kind="table")
    _, lower = scapp.pl.network_coverage(screen, show=False)
    assert words(lower)[3:6] == ["1 of 3", "5 of 8", "c"]
    _, lower = scapp.pl.network_coverage(screen, gene_features_key="go", show=False)
    assert words(lower)[3:6] == ["2 of 3", "6 of 8", "c, f"]
    with pytest.raises(ValueError, match=r"no gene features 'esm'; it has 'go', 'text'.*add_gene_features"):
        scapp.pl.network_coverage(screen, gene_features_key="esm")


def test_several_networks_are_taken_together(screen):
    scapp.pp.add_network(screen, pd.DataFrame({"source": ["e"], "target": ["f"]}), key_added="second")
    _, lower = scapp.pl.network_coverage(screen, network_key=["network", "second"], show=False)
    assert words(lower)[:2] == ["0 of 3", "1 of 8"]


def test_what_is_missing_is_named_with_the_call_that_adds_it(screen):
    with pytest.raises(ValueError, match=r"no network 'string'; it has 'network'.*add_network"):
        scapp.pl.network_coverage(screen, network_key="string")
    with pytest.raises(ValueError, match="names no network"):
        scapp.pl.network_coverage(screen, network_key=[])
    with pytest.raises(ValueError, match=r"no column 'condition'.*'perturbation'.*perturbation_key"):
        scapp.pl.network_coverage(screen, perturbation_key="condition")
    with pytest.raises(ValueError, match="pass two axes"):
        scapp.pl.network_coverage(screen, ax=plt.subplots()[1])
    axes = plt.subplots(2)[1]
    assert scapp.pl.network_coverage(screen, ax=axes, show=False) == tuple(axes)


def test_many_genes_without_anything_take_a_line(screen, overlapping):
    names = [f"GENE{i}" for i in range(60)]
    adata = ad.AnnData(
        np.ones((60, 60), dtype=np.float32),
        obs=pd.DataFrame({"perturbation": names}, index=names),
        var=pd.DataFrame(index=names),
    )
    scapp.pp.add_network(adata, pd.DataFrame({"source": ["GENE0"], "target": ["GENE1"]}))
    figure = scapp.pl.network_coverage(adata, return_fig=True)
    line = figure.axes[1].texts[2].get_text()
    assert line.startswith("GENE2, GENE3, ") and line.endswith(" more")
    figure.canvas.draw()
    assert figure.axes[1].get_position().width > 0.5
    assert figure.axes[1].texts[2].get_window_extent().x1 <= figure.bbox.x1
    assert not overlapping(figure.axes[1].texts)


def test_labels_of_the_coverage_do_not_overlap(screen, overlapping):
    figure = scapp.pl.network_coverage(screen, return_fig=True)
    for ax in figure.axes:
        assert not overlapping([*ax.texts, *ax.get_xticklabels(), *ax.get_yticklabels(), ax.xaxis.label])
