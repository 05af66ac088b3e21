"""What the pictures show."""

from __future__ import annotations

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import scapp


@pytest.fixture(autouse=True)
def _close():
    yield
    plt.close("all")


@pytest.fixture
def adata() -> ad.AnnData:
    genes = [f"g{i}" for i in range(30)]
    lfc = np.linspace(-1, 1, 30, dtype=np.float32)
    attention = np.arange(1, 31, dtype=np.float32) / np.arange(1, 31).sum()
    layers = {"lfc": [lfc, -lfc], "predicted_lfc": [lfc * 0.5, -lfc], "attention": [attention, attention[::-1]]}
    return ad.AnnData(
        obs=pd.DataFrame(index=["g29+g3", "g2"]),
        var=pd.DataFrame(index=genes),
        layers={key: np.array(value) for key, value in layers.items()},
    )


def test_attention_names_the_most_attended_genes_and_marks_the_perturbed(adata):
    ax = scapp.pl.attention(adata, "g29+g3", n_genes=5, show=False)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["g25", "g26", "g27", "g28", "g29"]
    colors = [to_hex(label.get_color()) for label in ax.get_yticklabels()]
    assert len(set(colors[:4])) == 1
    assert colors[4] != colors[0]
    offsets = ax.collections[-1].get_offsets()
    np.testing.assert_allclose(offsets[:, 0], adata["g29+g3"].layers["attention"][0, 25:], rtol=1e-6)


def test_predicted_vs_observed_draws_every_gene_and_names_the_most_changed(adata):
    adata.layers["predicted_lfc"][0, 5] = np.nan  # a gene that was not measured
    ax = scapp.pl.predicted_vs_observed(adata, "g29+g3", n_top=4, show=False)
    assert len(ax.collections[0].get_offsets()) == 29
    assert {text.get_text() for text in ax.texts} == {"g0", "g1", "g28", "g29"}
    assert "29 genes" in ax.get_title()
    assert ax.get_xlim() == ax.get_ylim()


def test_labels_do_not_overlap(adata):
    adata.layers["predicted_lfc"][0] = 0
    ax = scapp.pl.predicted_vs_observed(adata, "g29+g3", n_top=6, show=False)
    heights = np.sort([text.get_position()[1] for text in ax.texts])
    assert (np.diff(heights) > 0.02).all()


def test_scores_are_means_with_a_bar_for_each_method_and_kind():
    table = pd.DataFrame(
        {
            "method": ["additive"] * 2 + ["APP"] * 4,
            "kind": ["doubles"] * 4 + ["unseen"] * 2,
            "perturbation": ["a", "b", "a", "b", "c", "d"],
            "l2": [2.0, 4.0, 1.0, 2.0, 5.0, 7.0],
        }
    )
    ax = scapp.pl.scores(table, show=False)
    heights = sorted(patch.get_height() for patch in ax.patches if patch.get_height())
    assert heights == [1.5, 3.0, 6.0]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["additive", "APP"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["doubles\n(n = 2)", "unseen\n(n = 2)"]
    with pytest.raises(ValueError, match="no column rmse"):
        scapp.pl.scores(table, metric="rmse", show=False)


def test_training_history_marks_the_epoch_that_was_kept():
    frame = lambda name, values: pd.DataFrame({name: values})
    history = {"train_loss": frame("train_loss", [3.0, 2, 1]), "validation_loss": frame("validation_loss", [3.0, 1, 2])}
    ax = scapp.pl.training_history(history, show=False)
    np.testing.assert_array_equal(ax.collections[0].get_offsets()[0], [1, 1])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), [3, 2, 1])
    with pytest.raises(ValueError, match=r"model\.train\(\)"):
        scapp.pl.training_history({})


def test_pictures_are_saved_returned_and_drawn_where_asked(adata, tmp_path):
    _, ax = plt.subplots()
    assert scapp.pl.attention(adata, "g2", ax=ax, show=False) is ax
    figure = scapp.pl.predicted_vs_observed(adata, "g2", return_fig=True, save=tmp_path / "p.png")
    assert figure.axes
    assert (tmp_path / "p.png").stat().st_size > 5000


@pytest.mark.parametrize("picture", [scapp.pl.attention, scapp.pl.predicted_vs_observed])
def test_what_is_missing_is_named_with_what_fills_it(adata, picture):
    with pytest.raises(ValueError, match="0 observations named 'G2'.*'g2'"):
        picture(adata, "G2")
    del adata.layers["attention"], adata.layers["predicted_lfc"]
    with pytest.raises(ValueError, match=r"filled by `APP\.predict`"):
        picture(adata, "g2")
