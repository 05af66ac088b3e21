"""Genetic interactions: scores against closed forms and other libraries, planted classes, real doubles."""

from __future__ import annotations

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist
from sklearn.linear_model import TheilSenRegressor

import scapp
from scapp.tl._additivity import NORMAN_SHARES, Distances, pair_scores, theil_sen

rng = np.random.default_rng(0)
A, B = rng.normal(size=(2, 300))


def effects_of(profiles: dict[str, np.ndarray], layer: str = "lfc") -> ad.AnnData:
    labels = list(profiles)
    return ad.AnnData(
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=[f"g{i}" for i in range(len(next(iter(profiles.values()))))]),
        layers={layer: np.array(list(profiles.values()), dtype=np.float32)},
    )


@pytest.fixture
def planted() -> ad.AnnData:
    """24 pairs of 8 genes, each of a known kind."""
    random = np.random.default_rng(1)
    singles = {f"P{i}": random.normal(size=200) for i in range(8)}
    singles["P1"] = singles["P0"] + 0.05 * random.normal(size=200)
    profiles = dict(singles)
    for i, (first, second) in enumerate(itertools.combinations(singles, 2)):
        a, b = singles[first], singles[second]
        pair = [a + b, 1.8 * (a + b), 0.3 * (a + b), a + 0.02 * b, random.normal(size=200)][i % 5]
        if (first, second) == ("P0", "P1"):
            pair = a
        profiles[f"{first}+{second}"] = pair + 0.01 * random.normal(size=200)
    return effects_of(profiles)


def brute_force_dcor(x: np.ndarray, y: np.ndarray) -> float:
    """As Szekely et al. define it: product of the doubly centred matrices of distances."""
    centred = []
    for values in (x, y):
        d = cdist(values.reshape(len(values), -1), values.reshape(len(values), -1))
        centred.append(d - d.mean(axis=0) - d.mean(axis=1)[:, None] + d.mean())
    (xx, yy), xy = [(m * m).mean() for m in centred], (centred[0] * centred[1]).mean()
    return np.sqrt(xy / np.sqrt(xx * yy))


def test_coefficients_of_a_planted_combination_are_found_despite_outliers():
    pair = 0.7 * A - 0.2 * B
    pair[:60] += 20 * rng.normal(size=60)
    c1, c2 = theil_sen(A, B, pair)
    assert c1 == pytest.approx(0.7, abs=0.02)
    assert c2 == pytest.approx(-0.2, abs=0.02)


def test_coefficients_are_those_of_scikit_learn():
    pair = 0.5 * A + 0.9 * B + 0.5 * rng.normal(size=300)
    theirs = TheilSenRegressor(fit_intercept=False, max_subpopulation=5000, random_state=0).fit(np.c_[A, B], pair)
    np.testing.assert_allclose(theil_sen(A, B, pair), theirs.coef_, atol=0.02)


def test_singles_that_cannot_be_told_apart_have_no_coefficients():
    assert np.isnan(theil_sen(A, 2 * A, A)).all()
    assert np.isnan(theil_sen(A, np.zeros(300), A)).all()


def test_distance_correlation_is_that_of_the_definition():
    x, y = Distances.between(A), Distances.between(A**2 + 0.3 * B)
    assert x.correlation(y) == pytest.approx(brute_force_dcor(A, A**2 + 0.3 * B))
    both = Distances.between(A).beside(Distances.between(B))
    assert both.correlation(y) == pytest.approx(brute_force_dcor(np.c_[A, B], A**2 + 0.3 * B))
    assert x.correlation(Distances.between(3 - 2 * A)) == pytest.approx(1)
    assert np.isnan(x.correlation(Distances.between(np.ones(300))))


def test_scores_of_a_sum_are_the_closed_forms():
    scores = pair_scores(A, B, A + B)
    for name in ("c1", "c2", "model_fit", "fit_correlation"):
        assert scores[name] == pytest.approx(1)
    assert scores["magnitude"] == pytest.approx(np.sqrt(2))
    assert scores["dominance"] == pytest.approx(0, abs=1e-6)
    assert scores["deviation"] == scores["relative_deviation"] == 0
    one_only = pair_scores(A, B, 0.5 * A)
    assert one_only["equality_of_contribution"] == pytest.approx(brute_force_dcor(A, B))
    assert one_only["similarity_first"] == pytest.approx(1)
    np.testing.assert_allclose(one_only["deviation"], np.linalg.norm(0.5 * A + B))


def test_planted_classes_are_found(planted):
    table = scapp.tl.genetic_interactions(planted, cutoffs="gears").set_index("perturbation")
    kinds = ["synergy", "synergy", "suppression", "epistasis", "neomorphism"]  # 1.41 of a sum is above 1.15
    expected = [kinds[i % 5] for i in range(28)]
    expected[0] = "redundancy"
    assert table["interaction"].tolist() == expected
    assert (planted.uns["genetic_interactions"]["params"]["cutoffs"]["synergy"]) == 1.15


def test_cutoffs_of_the_screen_are_met_by_the_published_shares(planted):
    table = scapp.tl.genetic_interactions(planted)
    cutoffs = planted.uns["genetic_interactions"]["params"]["cutoffs"]
    assert (table["magnitude"] > cutoffs["synergy"]).mean() == pytest.approx(NORMAN_SHARES["synergy"], abs=1 / 28)
    assert (table["fit_correlation"] < cutoffs["neomorphism"]).mean() == pytest.approx(13 / 88, abs=1 / 28)
    mine = {**cutoffs, "neomorphism": -1.0, "redundancy": 2.0, "epistasis": -1.0, "synergy": 100.0, "suppression": 0.0}
    assert set(scapp.tl.genetic_interactions(planted, cutoffs=mine)["interaction"]) == {"additive"}


def test_deviations_of_genes_are_the_pair_minus_the_sum(planted):
    scapp.tl.genetic_interactions(planted, ["P2+P3"], n_genes=5, cutoffs="gears")
    genes = planted.uns["genetic_interactions"]["genes"]
    lfc = planted.to_df("lfc").astype(float)
    deviation = lfc.loc["P2+P3"] - lfc.loc["P2"] - lfc.loc["P3"]
    assert genes["gene"].tolist() == deviation.abs().nlargest(5).index.tolist()
    np.testing.assert_allclose(genes["deviation"], deviation[genes["gene"]], rtol=1e-5)
    np.testing.assert_allclose(genes["pair"] - genes["additive"], genes["deviation"], rtol=1e-9)
    scapp.tl.genetic_interactions(planted, [("P3", "P2")], n_genes=None, cutoffs="gears")
    assert len(planted.uns["genetic_interactions"]["genes"]) == planted.n_vars


def test_order_of_the_genes_in_a_pair_does_not_matter(planted):
    one = scapp.tl.genetic_interactions(planted, ["P3+P2"], cutoffs="gears", key_added=None)
    other = scapp.tl.genetic_interactions(planted, [("P2", "P3")], cutoffs="gears", key_added=None)
    pd.testing.assert_frame_equal(one, other)
    assert one[["perturbation", "first", "second"]].values.tolist() == [["P2+P3", "P2", "P3"]]


def test_genes_can_be_chosen_by_mask_index_and_name_and_unmeasured_ones_are_left_out(planted):
    mask = np.arange(planted.n_vars) < 50
    chosen = [mask, np.arange(50), list(planted.var_names[:50])]
    tables = [scapp.tl.genetic_interactions(planted, genes=genes, key_added=None) for genes in chosen]
    pd.testing.assert_frame_equal(tables[0], tables[1])
    pd.testing.assert_frame_equal(tables[0], tables[2])
    planted.var["measured"] = mask
    planted.layers["lfc"][:, ~mask] = np.nan
    pd.testing.assert_frame_equal(scapp.tl.genetic_interactions(planted), tables[0])
    assert planted.uns["genetic_interactions"]["params"]["n_genes_scored"] == 50


def test_predictions_of_a_model_take_the_place_of_measurements(planted):
    singles = planted[[len(name) == 2 for name in planted.obs_names]].copy()
    model = scapp.baselines.Additive().fit(singles)
    table = scapp.tl.genetic_interactions(singles, model=model)
    assert len(table) == 28
    np.testing.assert_allclose(table["deviation"], 0, atol=1e-5)
    np.testing.assert_allclose(table["model_fit"], 1, rtol=1e-6)
    apart = table[table["perturbation"] != "P0+P1"]
    np.testing.assert_allclose(apart["magnitude"], np.sqrt(2), rtol=1e-3)
    predicted = model.predict([*singles.obs_names, *table["perturbation"]])
    written = scapp.tl.genetic_interactions(predicted, layer="predicted_lfc")
    pd.testing.assert_frame_equal(written, table)


def test_singles_without_effect_are_undetermined(planted):
    planted.layers["lfc"][planted.obs_names == "P2"] = 0
    table = scapp.tl.genetic_interactions(planted).set_index("perturbation")
    without = table.index.str.contains("P2")
    assert set(table.loc[without, "interaction"]) == {"undetermined"}
    assert "undetermined" not in set(table.loc[~without, "interaction"])


def test_tables_survive_h5ad(planted, tmp_path):
    planted.obs_names = planted.obs["perturbation"] = [name.replace("P1", "HLA/1") for name in planted.obs_names]
    table = scapp.tl.genetic_interactions(planted)
    planted.write_h5ad(tmp_path / "a.h5ad")
    again = ad.read_h5ad(tmp_path / "a.h5ad").uns["genetic_interactions"]
    pd.testing.assert_frame_equal(again["pairs"], table, check_dtype=False, check_categorical=False)
    assert again["params"]["cutoffs"].keys() == NORMAN_SHARES.keys()
    assert "HLA/1+P0" in set(again["genes"]["perturbation"].astype(str))


def test_pairs_without_their_singles_are_named(planted, caplog, assert_same):
    fewer = planted[planted.obs_names != "P7"].copy()
    table = scapp.tl.genetic_interactions(fewer, genes=range(20), key_added=None)
    assert len(table) == 21
    assert "7 of 28 pairs are not scored" in caplog.text
    before = fewer.copy()
    with pytest.raises(ValueError, match="1 perturbations are not in adata: P7.*model="):
        scapp.tl.genetic_interactions(fewer, ["P0+P7"])
    with pytest.raises(ValueError, match="pairs of two genes, found 'P0'"):
        scapp.tl.genetic_interactions(fewer, ["P0"])
    with pytest.raises(TypeError, match=r"Pass \['P0\+P1'\]"):
        scapp.tl.genetic_interactions(fewer, "P0+P1")
    with pytest.raises(ValueError, match="at least 20 with scores; there are 1.*cutoffs='gears'"):
        scapp.tl.genetic_interactions(fewer, ["P0+P2"])
    with pytest.raises(ValueError, match="'screen', 'gears'"):
        scapp.tl.genetic_interactions(fewer, cutoffs="norman")
    with pytest.raises(ValueError, match="one number for each of neomorphism"):
        scapp.tl.genetic_interactions(fewer, cutoffs={"synergy": 1.0})
    with pytest.raises(ValueError, match="no layer 'predicted_lfc'"):
        scapp.tl.genetic_interactions(fewer, layer="predicted_lfc")
    with pytest.raises(ValueError, match="genes to score are not among.*nowhere"):
        scapp.tl.genetic_interactions(fewer, genes=["g1", "nowhere"])
    with pytest.raises(ValueError, match="at least 3 measured genes"):
        scapp.tl.genetic_interactions(fewer, genes=["g1", "g2"])
    with pytest.raises(ValueError, match="no pair of which both genes"):
        scapp.tl.genetic_interactions(planted[:8].copy())
    assert_same(fewer, before)
    fewer.layers["lfc"][2, 5] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values"):
        scapp.tl.genetic_interactions(fewer)


def test_measured_doubles_agree_with_the_published_scores(shared_data, tasks):
    """Other genes and another normalisation than theirs, so the ranks agree and not the numbers."""
    effects = tasks.norman_effects(shared_data)
    published = pd.read_csv(shared_data / "published" / "norman_gi_scores.csv").set_index("perturbation")
    published = published[published.index.isin(effects.obs_names)]
    assert len(published) == 71
    expressed = scapp.metrics.top_expressed_genes(effects.var["k562_tpm"], 400)
    table = scapp.tl.genetic_interactions(effects, published.index, genes=expressed, key_added=None)
    table = table.set_index("perturbation")
    least = {"magnitude": ("mag", 0.8), "similarity_of_singles": ("dcor_singles", 0.75), "c1": ("c1", 0.8),
             "equality_of_contribution": ("eq_contr", 0.8), "fit_correlation": ("corr_fit", 0.5)}  # fmt: skip
    for score, (theirs, at_least) in least.items():
        assert table[score].corr(published[theirs], method="spearman") > at_least
    synergy = table.loc[published.index[published["gi_type"] == "synergy"], "interaction"]
    assert (synergy == "synergy").mean() > 0.5
