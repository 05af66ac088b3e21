"""What a predicted value is made of: the parts sum to it, and are what they say."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from types import SimpleNamespace

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pytest
import scvi
from matplotlib.colors import to_hex

import scapp
from scapp.model import APP
from scapp.pl._figure import Color


@pytest.fixture(scope="module")
def screen() -> SimpleNamespace:
    """Effects of a small noisy screen with a network: the anchor then denoises its singles."""
    cells, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=120, n_regulators=24, n_singles=20, n_doubles=24, n_cells_per_perturbation=12, n_control_cells=100
    )
    effects = scapp.pp.pseudobulk(cells, batch_key="batch")
    scapp.pp.add_network(effects, truth.network, directed=True, control=None)
    singles = effects.obs_names[effects.obs["n_perturbed_genes"] == 1].tolist()
    unseen = sorted(set(truth.modules.index) - set(singles))
    return SimpleNamespace(effects=effects, singles=singles, unseen=unseen)


def train(effects: ad.AnnData, kind: str | None = None, **options: object) -> APP:
    scvi.settings.seed = 0
    APP.setup_anndata(effects, control=None, layer="lfc", kind=kind)
    model = APP(effects, **options)
    model.train(max_epochs=2, enable_progress_bar=False)
    return model


@pytest.fixture(scope="module")
def trained(screen) -> Callable[..., APP]:
    """A model of the screen for each set of options, trained once."""
    return cache(lambda **options: train(screen.effects, **options))


@pytest.fixture(scope="module")
def model(trained) -> APP:
    return trained()


def asked(screen: SimpleNamespace) -> list[str]:
    (a, b), (c, d) = screen.singles[:2], screen.unseen[:2]
    return [a, c, f"{a}+{b}", f"{a}+{c}", f"{c}+{d}", f"{a}+{b}+{c}"]


@pytest.mark.parametrize("by", ["perturbations", "genes"])
@pytest.mark.parametrize(
    "options",
    [{}, {"attention": False}, {"closed_form": False}],
    ids=str,
)
def test_contributions_sum_to_the_prediction(screen, trained, options, by):
    model = trained(**options)
    genes = screen.effects.var_names[[3, 60]]
    for perturbation in asked(screen):
        predicted = model.predict([perturbation])[:, genes].layers["predicted_lfc"][0]
        tables = [scapp.tl.explain(model, perturbation, gene, by=by) for gene in genes]
        np.testing.assert_allclose([t["contribution"].sum() for t in tables], predicted, atol=1e-5)
        for table in tables:
            np.testing.assert_allclose(table["weight"] * table["value"], table["contribution"], atol=1e-12)
            assert table["contribution"].abs().is_monotonic_decreasing


def test_the_papers_form_is_explained_by_genes_only(screen, trained):
    model = trained(preset="paper")
    name, gene = screen.unseen[0], screen.effects.var_names[3]
    table = scapp.tl.explain(model, name, gene, by="genes")
    predicted = model.predict([name])[:, gene].layers["predicted_lfc"][0, 0]
    np.testing.assert_allclose(table["contribution"].sum(), predicted, atol=1e-6)
    attention = model.get_attention([name]).iloc[0]
    genes = table[table["source"] == "gene"]
    np.testing.assert_allclose(genes["weight"], attention[genes["name"]], atol=1e-6)
    with pytest.raises(ValueError, match=r"gradient descent.*by='genes'"):
        scapp.tl.explain(model, name, gene)


def test_a_hidden_layer_is_not_explained(screen):
    model = train(screen.effects, preset="paper", decoder="mlp")
    with pytest.raises(ValueError, match="hidden layer"):
        scapp.tl.explain(model, screen.unseen[0], screen.effects.var_names[3], by="genes")


def test_too_few_singles_for_main_effects_of_their_own_are_explained_as_well(screen):
    effects = screen.effects
    few = effects[(effects.obs["n_perturbed_genes"] > 1) | effects.obs_names.isin(screen.singles[:2])].copy()
    model = train(few)
    gene = effects.var_names[3]
    for perturbation in (screen.singles[5], f"{screen.singles[0]}+{screen.singles[5]}"):
        predicted = model.predict([perturbation])[:, gene].layers["predicted_lfc"][0, 0]
        for by in ("perturbations", "genes"):
            table = scapp.tl.explain(model, perturbation, gene, by=by)
            np.testing.assert_allclose(table["contribution"].sum(), predicted, atol=1e-5)


def test_values_of_the_closed_form_are_the_measured_effects(screen, model):
    gene, single, pair = screen.effects.var_names[3], screen.singles[0], "+".join(screen.singles[:2])
    measured = screen.effects[:, gene].layers["lfc"].ravel()
    measured = dict(zip(screen.effects.obs_names, measured, strict=True))
    for perturbation in (single, pair):
        table = scapp.tl.explain(model, perturbation, gene)
        closed = table[table["term"] == "closed form"]
        assert set(closed["source"]) == {"training perturbation"}
        np.testing.assert_allclose(closed["value"], [measured[name] for name in closed["name"]], rtol=1e-5)
    own = scapp.tl.explain(model, single, gene).set_index("name")["weight"]
    assert own.idxmax() == single
    assert 0.1 < own[single] <= 1.05


def test_genes_that_make_perturbations_alike_are_of_the_network(screen, model):
    name = screen.unseen[0]
    table = scapp.tl.explain(model, name, screen.effects.var_names[3], by="genes")
    assert set(table["source"]) <= {"gene", "centre"}
    attention = model.get_attention([name]).iloc[0]
    largest = table.loc[table["source"] == "gene", "name"][:10]
    assert (attention[largest] > attention.median()).all()


@pytest.mark.parametrize("by", ["perturbations", "genes"])
def test_a_model_loaded_without_data_explains_the_same(screen, model, tmp_path, by):
    model.save(tmp_path / "m")
    loaded = APP.load(tmp_path / "m", adata=False)
    for perturbation in asked(screen)[1:4]:
        tables = [scapp.tl.explain(m, perturbation, screen.effects.var_names[3], by=by) for m in (model, loaded)]
        keys = ["source", "term", "name"]
        before, after = (t.set_index(keys)["contribution"].sort_index() for t in tables)
        assert before.index.tolist() == after.index.tolist()
        np.testing.assert_allclose(after, before, atol=1e-5)


def test_unmeasured_genes_and_unknown_names_are_refused_with_a_mend(screen):
    effects = screen.effects[:, screen.effects.var_names != screen.unseen[0]].copy()
    effects = scapp.pp.add_unmeasured_genes(effects, [screen.unseen[0]], control=None)
    scapp.pp.add_network(effects, np.ones((120, 120)) - np.eye(120), control=None)
    model = train(effects)
    with pytest.raises(ValueError, match="was not measured"):
        scapp.tl.explain(model, screen.singles[0], screen.unseen[0])
    with pytest.raises(ValueError, match=r"gene 'g003'.*'G003'"):
        scapp.tl.explain(model, screen.singles[0], "g003")
    with pytest.raises(ValueError, match="not among the 120 genes"):
        scapp.tl.explain(model, "nothing", "G003")
    with pytest.raises(ValueError, match="by must be"):
        scapp.tl.explain(model, screen.singles[0], "G003", by="cells")
    table = scapp.tl.explain(model, screen.unseen[0], effects.var_names[0])
    predicted = model.predict([screen.unseen[0]])[:, effects.var_names[0]].layers["predicted_lfc"][0, 0]
    np.testing.assert_allclose(table["contribution"].sum(), predicted, atol=1e-5)


def test_an_untrained_model_says_what_to_call(screen):
    APP.setup_anndata(screen.effects, control=None, layer="lfc")
    with pytest.raises(RuntimeError, match=r"model\.train\(\)"):
        scapp.tl.explain(APP(screen.effects), screen.singles[0], "G003")


def test_the_picture_ends_at_the_prediction_and_sums_what_it_leaves_out(screen, model):
    name, gene = f"{screen.singles[0]}+{screen.unseen[0]}", screen.effects.var_names[3]
    table = scapp.tl.explain(model, name, gene)
    ax = scapp.pl.explanation(table, n_top=5, show=False)
    bars = ax.patches
    assert len(bars) == 6
    np.testing.assert_allclose([bar.get_width() for bar in bars[:5]], table["contribution"][:5])
    np.testing.assert_allclose(bars[5].get_width(), table["contribution"][5:].sum())
    ends = [bar.get_x() + bar.get_width() for bar in bars]
    np.testing.assert_allclose(ends[-1], table["contribution"].sum())
    np.testing.assert_allclose([bar.get_x() for bar in bars[1:]], ends[:-1])
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels[-1] == f"{len(table) - 5} others"
    assert labels[0].split(" ")[0] == table["name"][0]
    assert f"{gene} under {name}" in ax.get_title()
    assert to_hex(bars[5].get_facecolor()).upper() == Color.GREY
    single = scapp.pl.explanation(scapp.tl.explain(model, screen.singles[0], gene), n_top=3, show=False)
    assert to_hex(single.patches[0].get_facecolor()).upper() == Color.ORANGE
    with pytest.raises(ValueError, match="no column contribution"):
        scapp.pl.explanation(table.drop(columns="contribution"))
    with pytest.raises(ValueError, match="about 2 predictions"):
        scapp.pl.explanation(table.assign(gene=["other", *table["gene"][1:]]))
    plt.close("all")


def test_a_screen_without_combinations_is_explained_and_tested(screen):
    singles = screen.effects[screen.effects.obs["n_perturbed_genes"] == 1].copy()
    model = train(singles)
    gene = screen.effects.var_names[3]
    for perturbation in asked(screen)[:4]:
        predicted = model.predict([perturbation])[:, gene].layers["predicted_lfc"][0, 0]
        for by in ("perturbations", "genes"):
            table = scapp.tl.explain(model, perturbation, gene, by=by)
            np.testing.assert_allclose(table["contribution"].sum(), predicted, atol=1e-5)
    names = [screen.unseen[0], f"{screen.singles[0]}+{screen.unseen[0]}"]
    checks = scapp.tl.attention_checks(model, names, n_permutations=20)
    assert np.isfinite(checks["value"]).all()


def test_the_change_of_a_target_itself_has_no_contributions_where_a_kind_decides_it(screen):
    one_kind = screen.effects[screen.effects.obs["perturbation_type"] == "knockdown"].copy()
    model = train(one_kind, kind="CRISPRi")
    target, other = screen.unseen[:2]
    with pytest.raises(ValueError, match=f"the change of '{target}' itself.*check_efficacy"):
        scapp.tl.explain(model, target, target)
    single = one_kind.obs_names[one_kind.obs["n_perturbed_genes"] == 1][0]
    for perturbation, gene in ((target, other), (single, single)):  # what was measured alone is predicted from that
        predicted = model.predict([perturbation])[:, gene].layers["predicted_lfc"][0, 0]
        np.testing.assert_allclose(
            scapp.tl.explain(model, perturbation, gene)["contribution"].sum(), predicted, atol=1e-4
        )
