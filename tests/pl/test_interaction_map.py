"""What the map of genetic interactions shows."""

from __future__ import annotations

import itertools

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scapp
from scapp.pl._interactions import COLORS


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


def pairs(n: int) -> pd.DataFrame:
    """Genes of even and of odd number interact among themselves."""
    names = [f"GENE{i}" for i in range(n)]
    rows = [
        (a, b, 1.5 if (i - j) % 2 == 0 else 0.6, "synergy" if (i - j) % 2 == 0 else "additive")
        for (i, a), (j, b) in itertools.combinations(enumerate(names), 2)
    ]
    return pd.DataFrame(rows, columns=["first", "second", "magnitude", "interaction"])


def matrix(ax: plt.Axes) -> pd.DataFrame:
    names = [label.get_text() for label in ax.get_yticklabels()]
    return pd.DataFrame(ax.images[0].get_array().filled(np.nan), index=names, columns=names)


def test_every_pair_is_drawn_twice_and_the_diagonal_not_at_all():
    table = pairs(6)
    found = matrix(scapp.pl.interaction_map(table, show=False))
    for first, second, magnitude, _ in table.itertuples(index=False):
        assert found.loc[first, second] == found.loc[second, first] == magnitude
    assert np.isnan(np.diag(found)).all()


def test_clustering_puts_similar_genes_together():
    found = matrix(scapp.pl.interaction_map(pairs(10), show=False))
    even = [int(name[4:]) % 2 for name in found.index]
    assert sum(a != b for a, b in itertools.pairwise(even)) == 1
    chosen = ["GENE5", "GENE2", "GENE4"]
    as_given = matrix(scapp.pl.interaction_map(pairs(10), genes=chosen, cluster=False, show=False))
    assert list(as_given.index) == chosen


def test_missing_pairs_stay_empty_and_do_not_break_the_order():
    table = pairs(8).iloc[3:]
    ax = scapp.pl.interaction_map(table, show=False)
    found = matrix(ax)
    assert np.isnan(found.loc["GENE0", "GENE1"])
    assert found.notna().to_numpy().sum() == 2 * len(table)
    assert "25 pairs of 8 genes" in ax.get_title()


def test_magnitude_is_centred_at_one_and_other_scores_are_not():
    ax = scapp.pl.interaction_map(pairs(6), show=False)
    norm = ax.images[0].norm
    assert norm(1.0) == pytest.approx(0.5)
    assert "magnitude" in ax.figure.axes[1].get_ylabel()
    table = pairs(6).assign(model_fit=np.linspace(0, 1, 15))
    ax = scapp.pl.interaction_map(table, score="model_fit", vmin=0, vmax=1, show=False)
    assert ax.images[0].get_clim() == (0, 1)
    ax = scapp.pl.interaction_map(table, score="model_fit", center=0.2, show=False)
    assert ax.images[0].norm(0.2) == pytest.approx(0.5)


def test_classes_have_their_colors_and_a_legend():
    ax = scapp.pl.interaction_map(pairs(6), score="interaction", show=False)
    image = ax.images[0]
    names = [label.get_text() for label in ax.get_yticklabels()]
    rgba = image.to_rgba(image.get_array())
    i, j = names.index("GENE0"), names.index("GENE2")
    assert to_hex(rgba[i, j]).upper() == COLORS["synergy"]
    assert to_hex(rgba[i, names.index("GENE1")]).upper() == COLORS["additive"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["synergy", "additive", "not scored"]


@pytest.mark.parametrize(("n", "every", "figsize"), [(40, 1, None), (100, 1, None), (100, 3, (3.5, 3.2))])
def test_names_can_be_read_or_are_thinned_with_a_note(n, every, figsize):
    ax = scapp.pl.interaction_map(pairs(n), cluster=False, figsize=figsize, show=False)
    ax.figure.canvas.draw()
    shown = ax.get_yticklabels()
    assert len(shown) == int(np.ceil(n / every))
    assert all(label.get_fontsize() >= 4 for label in shown)
    boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.y0)
    assert all(above.y0 >= below.y0 + 0.75 * below.height for below, above in itertools.pairwise(boxes))
    assert ax.get_xlabel() == ("" if every == 1 else "one of 3 genes is named")


def test_adata_is_read_and_the_picture_saved(tmp_path):
    adata = ad.AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["g"]))
    with pytest.raises(ValueError, match="filled by `scapp.tl.genetic_interactions`"):
        scapp.pl.interaction_map(adata)
    table = pairs(5)
    table.index = table.index.astype(str)
    adata.uns["genetic_interactions"] = {"pairs": table}
    figure = scapp.pl.interaction_map(adata, return_fig=True, save=tmp_path / "m.png")
    assert figure.axes
    assert (tmp_path / "m.png").stat().st_size > 5000
    _, ax = plt.subplots()
    assert scapp.pl.interaction_map(adata, ax=ax, show=False) is ax


def test_bad_input_is_told_what_is_there():
    table = pairs(4)
    with pytest.raises(ValueError, match="no column model_fit; it has first, second"):
        scapp.pl.interaction_map(table, score="model_fit")
    with pytest.raises(ValueError, match="without a pair: GENE9"):
        scapp.pl.interaction_map(table, genes=["GENE1", "GENE9"])
    swapped = table.rename(columns={"first": "second", "second": "first"})
    with pytest.raises(ValueError, match="6 pairs occur more than once"):
        scapp.pl.interaction_map(pd.concat([table, swapped]))
