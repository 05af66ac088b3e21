"""What the pictures show."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from scipy import sparse

import scapp
from scapp.pl._figure import Color


def test_attention_names_the_most_attended_genes_and_marks_the_perturbed(adata):
    ax = scapp.pl.attention(adata, "g29+g3", n_genes=5, show=False)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["g25", "g26", "g27", "g28", "g29"]
    colors = [to_hex(label.get_color()) for label in ax.get_yticklabels()]
    assert len(set(colors[:4])) == 1
    assert colors[4] != colors[0]
    offsets = ax.collections[-1].get_offsets()
    np.testing.assert_allclose(offsets[:, 0], adata["g29+g3"].layers["attention"][0, 25:], rtol=1e-6)


def test_attention_of_a_ranking_shows_its_scores(adata):
    names = np.rec.fromarrays([np.array(["g4", "g2", "g9"], dtype=object)], dtype=[("g2/x", "O")])
    scores = np.rec.fromarrays([np.array([2.0, 1.0, -1.0])], dtype=[("g2/x", "f4")])
    adata.uns["attention_genes"] = {"names": names, "scores": scores, "params": {"method": "attention_relative"}}
    ax = scapp.pl.attention(adata, "g2/x", key="attention_genes", show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["g9", "g2", "g4"]
    np.testing.assert_allclose(ax.collections[-1].get_offsets()[:, 0], [-1, 1, 2])
    assert ax.get_xlabel() == "ln (attention / mean over perturbations)"
    assert ax.get_xscale() == "linear"
    with pytest.raises(ValueError, match=r"no group 'g3'.*groups are g2/x"):
        scapp.pl.attention(adata, "g3", key="attention_genes")
    with pytest.raises(ValueError, match=r"no ranking of genes 'genes'; it has 'attention_genes'.*model\.predict\(\)"):
        scapp.pl.attention(adata, "g2/x", key="genes")


def test_attention_leaves_out_genes_without_and_says_so_of_controls(adata):
    adata.layers["attention"][1] = 0
    adata.layers["attention"][1, [2, 7]] = [0.6, 0.4]
    ax = scapp.pl.attention(adata, "g2", show=False)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["g7", "g2"]
    adata.layers["attention"][1] = np.nan
    with pytest.raises(ValueError, match="zero or NaN for all genes; controls have none"):
        scapp.pl.attention(adata, "g2")


def test_attention_can_be_sparse(adata):
    dense = scapp.pl.attention(adata, "g2", show=False).collections[-1].get_offsets()
    adata.layers["attention"] = sparse.csr_matrix(adata.layers["attention"])
    np.testing.assert_allclose(scapp.pl.attention(adata, "g2", show=False).collections[-1].get_offsets(), dense)


def test_predicted_vs_observed_draws_every_gene_and_names_the_most_changed_and_missed(adata):
    adata.layers["predicted_lfc"][0, 5] = np.nan  # a gene that was not measured
    adata.layers["predicted_lfc"][0, 15] = -1
    ax = scapp.pl.predicted_vs_observed(adata, "g29+g3", n_top=4, n_missed=1, show=False)
    assert len(ax.collections[0].get_offsets()) == 29
    assert {text.get_text() for text in ax.texts} == {"g0", "g1", "g28", "g29", "g15"}
    red = {text.get_text() for text in ax.texts if to_hex(text.get_color()) == to_hex(Color.VERMILION)}
    assert red == {"g15"}
    assert {text.get_text() for text in ax.texts if text.get_fontweight() == "bold"} == {"g29"}
    assert "29 genes" in ax.get_title()
    assert ax.get_xlim() == ax.get_ylim()


def test_names_in_predicted_vs_observed_do_not_overlap(adata, overlapping):
    adata.layers["predicted_lfc"][0] = 0
    ax = scapp.pl.predicted_vs_observed(adata, "g29+g3", n_top=12, show=False)
    assert len(ax.texts) == 12
    assert not overlapping(ax.texts)


def test_observed_effects_may_be_another_anndata_with_genes_in_another_order(adata):
    effects = adata[:, ::-1].copy()
    effects.obs_names = ["g3+g29", "g2"]
    effects.layers["lfc"] = effects.layers["lfc"] * 2
    del adata.layers["lfc"]
    ax = scapp.pl.predicted_vs_observed(adata, "g29+g3", observed=effects[:, :20], show=False)
    drawn = ax.collections[0].get_offsets()
    np.testing.assert_allclose(drawn[:, 0], np.linspace(-1, 1, 30)[10:] * 2, rtol=1e-5)
    np.testing.assert_allclose(drawn[:, 1], np.linspace(-1, 1, 30)[10:] / 2, rtol=1e-5)
    with pytest.raises(ValueError, match=r"no layer 'lfc'.*observed=effects"):
        scapp.pl.predicted_vs_observed(adata, "g29+g3")
    effects.var_names = [f"other{i}" for i in range(30)]
    with pytest.raises(ValueError, match="No gene of adata is among those"):
        scapp.pl.predicted_vs_observed(adata, "g2", observed=effects)


def test_cells_are_told_from_perturbations(adata):
    adata.obs_names = ["AAAC-1", "AAAG-1"]
    with pytest.raises(ValueError, match=r"0 observations named 'g2'.*obs\['perturbation'\]: these are cells.*predict"):
        scapp.pl.attention(adata, "g2")


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
    lines = scapp.pl.scores(table, ceiling={"unseen": 4.0}, show=False)
    np.testing.assert_allclose(lines.collections[-2].get_segments()[0], [[0.55, 4], [1.45, 4]])
    assert [t.get_text() for t in lines.get_legend().get_texts()] == ["additive", "APP", "noise ceiling"]
    with pytest.raises(ValueError, match="ceiling names 'seen'; kinds are 'doubles', 'unseen'"):
        scapp.pl.scores(table, ceiling={"seen": 4.0}, show=False)
    with pytest.raises(ValueError, match="no column rmse"):
        scapp.pl.scores(table, metric="rmse", show=False)


def test_training_history_draws_the_loss_of_each_half():
    frame = lambda name, values: pd.DataFrame({name: values})
    names = ("train_loss", "leave_one_out_closed_form", "leave_one_out_attention")
    history = {name: frame(name, [3.0 + k, 2 + k, 1 + k]) for k, name in enumerate(names)}
    ax = scapp.pl.training_history(history, show=False)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [4, 3, 2])
    labels = [text.get_text() for text in ax.get_legend().get_texts()]
    assert labels == ["mean", "closed form", "attention"]
    alone = scapp.pl.training_history({"train_loss": history["train_loss"][:1]}, show=False)
    assert alone.lines[0].get_marker() == "o"  # a line of one point would not be seen
    with pytest.raises(ValueError, match=r"model\.train\(\)"):
        scapp.pl.training_history({})


def test_pictures_are_saved_returned_and_drawn_where_asked(adata, tmp_path):
    _, ax = plt.subplots()
    assert scapp.pl.attention(adata, "g2", ax=ax, show=False) is ax
    figure = scapp.pl.predicted_vs_observed(adata, "g2", return_fig=True, save=tmp_path / "p.png")
    assert figure.axes
    assert (tmp_path / "p.png").stat().st_size > 5000


@pytest.mark.parametrize("picture", [scapp.pl.attention, scapp.pl.predicted_vs_observed, scapp.pl.predicted_profile])
def test_what_is_missing_is_named_with_what_fills_it(adata, picture):
    with pytest.raises(ValueError, match="0 observations named 'G2'.*'g2'"):
        picture(adata, "G2")
    del adata.layers["attention"], adata.layers["predicted_lfc"]
    with pytest.raises(ValueError, match=r"filled by `APP\.predict`"):
        picture(adata, "g2")


def test_a_file_that_is_no_picture_is_named_with_the_formats(adata, tmp_path):
    with pytest.raises(ValueError, match="ends in no format of a picture.*png.*'table.png'"):
        scapp.pl.predicted_vs_observed(adata, "g2", save=tmp_path / "new" / "table.csv", show=False)
    assert not (tmp_path / "new").exists()
