"""Baselines against closed forms on small effects; their values on the real tasks are in test_reference_values.py."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scapp import baselines

ALL = [
    baselines.NoChange,
    baselines.Mean,
    baselines.GeometricMedian,
    baselines.MatchingMean,
    baselines.PartnerMean,
    baselines.Additive,
    baselines.ShrunkAdditive,
    baselines.DenoisedAdditive,
    baselines.PairKernel,
    baselines.GaussianProcess,
    baselines.LinearModel,
    baselines.EmbeddingLinear,
    baselines.KernelRidge,
    baselines.NearestPerturbation,
]
LABELS = ["A", "B", "C", "D", "A+B", "C+D"]
GENES = list("ABCDEFGH")


@pytest.fixture
def effects() -> ad.AnnData:
    rng = np.random.default_rng(0)
    lfc = rng.normal(size=(6, 8)).astype(np.float32)
    obs = pd.DataFrame({"perturbation": LABELS}, index=LABELS)
    return ad.AnnData(obs=obs, var=pd.DataFrame(index=GENES), layers={"lfc": lfc})


def build(baseline):
    known = np.random.default_rng(1).normal(size=(4, 3))
    if baseline is baselines.LinearModel:
        return baseline(n_components=3)
    if baseline is baselines.EmbeddingLinear:
        return baseline(pd.DataFrame(known, index=list("ABCD")), n_components=3)
    if baseline in (baselines.KernelRidge, baselines.NearestPerturbation):
        table = pd.DataFrame(known @ known.T, index=list("ABCD"), columns=list("ABCD"))
        return baseline(network_key=None, similarities=table)
    return baseline()


def lfc_of(effects: ad.AnnData, label: str) -> np.ndarray:
    return effects[label].layers["lfc"][0].astype(float)


# Of two combinations nothing can be learned; what such a fit and prediction say is tested in test_pairs.py.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Only 2 training combination:UserWarning", "ignore:1 combination.s. are of more"
)


@pytest.mark.parametrize("baseline", ALL)
def test_predictions_stand_in_the_order_and_spelling_asked(effects, baseline):
    asked = ["D+A", "C", "A+D", "A+C+B"]
    predicted = build(baseline).fit(effects).predict(iter(asked))
    assert predicted.obs_names.tolist() == predicted.obs["perturbation"].tolist() == asked
    assert predicted.obs["n_perturbed_genes"].tolist() == [2, 1, 2, 3]
    assert predicted.var_names.tolist() == GENES
    lfc = predicted.layers["predicted_lfc"]
    assert lfc.dtype == np.float32 and np.isfinite(lfc).all()
    np.testing.assert_array_equal(lfc[0], lfc[2])


@pytest.mark.parametrize("baseline", ALL)
def test_genes_that_were_not_measured_are_not_read_and_are_predicted_as_nan(effects, baseline):
    expected = build(baseline).fit(effects[:, :6].copy()).predict(["A+C"]).layers["predicted_lfc"]
    effects.var["measured"] = [True] * 6 + [False] * 2
    effects.layers["lfc"][:, 6:] = np.nan
    predicted = build(baseline).fit(effects).predict(["A+C"])
    np.testing.assert_allclose(predicted.layers["predicted_lfc"][:, :6], expected, rtol=1e-6)
    assert np.isnan(predicted.layers["predicted_lfc"][:, 6:]).all()
    assert predicted.var["measured"].tolist() == effects.var["measured"].tolist()


@pytest.mark.parametrize("baseline", ALL)
def test_mean_expression_is_predicted_where_that_of_the_controls_is_known(effects, baseline):
    assert build(baseline).fit(effects).predict(["A"]).X is None
    effects.var["control_mean"] = np.arange(8.0)
    predicted = build(baseline).fit(effects).predict(["A"])
    np.testing.assert_allclose(predicted.X, predicted.layers["predicted_lfc"] + np.arange(8), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("baseline", ALL)
def test_fitting_leaves_the_effects_as_they_were_and_predictions_survive_h5ad(effects, baseline, tmp_path):
    before = effects.copy()
    predicted = build(baseline).fit(effects).predict(["A+C"])
    pd.testing.assert_frame_equal(effects.obs, before.obs)
    pd.testing.assert_frame_equal(effects.var, before.var)
    np.testing.assert_array_equal(effects.layers["lfc"], before.layers["lfc"])
    predicted.write_h5ad(tmp_path / "predicted.h5ad")
    again = ad.read_h5ad(tmp_path / "predicted.h5ad")
    np.testing.assert_array_equal(again.layers["predicted_lfc"], predicted.layers["predicted_lfc"])


@pytest.mark.parametrize("baseline", ALL)
def test_sparse_effects_and_those_in_x_give_the_same_numbers(effects, baseline):
    expected = build(baseline).fit(effects).predict(["A+C"]).layers["predicted_lfc"]
    effects.X = sparse.csr_matrix(effects.layers["lfc"])
    got = build(baseline).fit(effects, layer=None).predict(["A+C"]).layers["predicted_lfc"]
    np.testing.assert_array_equal(got, expected)


def test_other_separators_and_label_columns_are_read(effects):
    effects.obs["guide"] = [label.replace("+", "|") for label in LABELS]
    del effects.obs["perturbation"]
    predicted = baselines.Additive().fit(effects, perturbation_key="guide", sep="|").predict(["C|A"])
    assert predicted.obs["guide"].tolist() == ["C|A"]
    expected = lfc_of(effects, "A") + lfc_of(effects, "C")
    np.testing.assert_allclose(predicted.layers["predicted_lfc"][0], expected, rtol=1e-5)


def test_no_change_predicts_zero_and_mean_the_mean_of_all_training_perturbations(effects):
    assert not baselines.NoChange().fit(effects).predict(["A"]).layers["predicted_lfc"].any()
    predicted = baselines.Mean().fit(effects).predict(["X", "A+Y"]).layers["predicted_lfc"]
    np.testing.assert_allclose(predicted, np.tile(effects.layers["lfc"].mean(axis=0), (2, 1)), rtol=1e-5)


def test_additive_sums_measured_singles(effects):
    predicted = baselines.Additive().fit(effects).predict(["B+C+A", "D"]).layers["predicted_lfc"]
    np.testing.assert_allclose(predicted[0], sum(lfc_of(effects, g) for g in "ABC"), rtol=1e-5)
    np.testing.assert_array_equal(predicted[1], effects["D"].layers["lfc"][0])


@pytest.mark.parametrize("baseline", [baselines.Additive, baselines.ShrunkAdditive])
def test_a_gene_never_perturbed_alone_counts_as_the_mean_single_and_is_named(effects, baseline):
    model = baseline().fit(effects)
    with pytest.warns(UserWarning, match="2 gene.*X, Z") as caught:
        predicted = model.predict(["A+X", "Z"]).layers["predicted_lfc"]
    assert len(caught) == 1 and caught[0].filename == __file__
    scale = getattr(model, "scale", 1.0)
    mean = effects.layers["lfc"][:4].astype(float).mean(axis=0)
    np.testing.assert_allclose(predicted[0], scale * (lfc_of(effects, "A") + mean), rtol=1e-5)
    np.testing.assert_allclose(predicted[1], mean, rtol=1e-5)


def test_shrunk_additive_finds_the_planted_scale_and_leaves_singles_alone(effects):
    for label in ("A+B", "C+D"):
        row = effects.obs_names.get_loc(label)
        effects.layers["lfc"][row] = 0.7 * sum(lfc_of(effects, gene) for gene in label.split("+"))
    model = baselines.ShrunkAdditive().fit(effects)
    assert model.scale == pytest.approx(0.7, rel=1e-6)
    predicted = model.predict(["A+D", "A"]).layers["predicted_lfc"]
    np.testing.assert_allclose(predicted[0], 0.7 * (lfc_of(effects, "A") + lfc_of(effects, "D")), rtol=1e-5)
    np.testing.assert_allclose(predicted[1], lfc_of(effects, "A"), rtol=1e-6)


def test_the_scale_is_least_squares_over_combinations_whose_singles_were_measured(effects):
    x = np.concatenate([lfc_of(effects, "A") + lfc_of(effects, "B"), lfc_of(effects, "C") + lfc_of(effects, "D")])
    y = np.concatenate([lfc_of(effects, "A+B"), lfc_of(effects, "C+D")])
    expected = np.linalg.lstsq(x[:, None], y, rcond=None)[0][0]
    obs = pd.DataFrame({"perturbation": ["A+X"]}, index=["A+X"])
    unusable = ad.AnnData(obs=obs, var=effects.var, layers={"lfc": np.full((1, 8), 9, np.float32)})
    model = baselines.ShrunkAdditive().fit(ad.concat([effects, unusable]))
    assert model.scale == pytest.approx(expected, rel=1e-6)


def test_without_combinations_the_sum_is_not_shrunk_and_a_warning_says_so(effects):
    model = baselines.ShrunkAdditive().fit(effects)
    with pytest.warns(UserWarning, match="No training combination") as caught:
        model.fit(effects[:4].copy())
    assert caught[0].filename == __file__
    assert model.scale == 1


def linear_model_by_hand(X, Y, targets, n_components, ridge):
    """Formula of the research note A.4, literally: eigenvectors instead of an SVD, inverses, a loop over targets."""
    centred = X - X.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    G = centred @ vectors[:, np.argsort(values)[::-1][:n_components]]
    b = Y.mean(axis=1, keepdims=True)
    P = np.stack([G[t] if t is not None else np.zeros(n_components) for t in targets], axis=1)
    penalty = ridge * np.eye(n_components)
    W = np.linalg.inv(G.T @ G + penalty) @ G.T @ (Y - b) @ P.T @ np.linalg.inv(P @ P.T + penalty)
    return G, W, b[:, 0]


@pytest.mark.parametrize("control_mean", [None, np.linspace(0, 3, 40)])
def test_linear_model_is_the_published_formula(control_mean):
    rng = np.random.default_rng(1)
    genes = [f"g{i}" for i in range(40)]
    trained = genes[:25]
    lfc = rng.normal(size=(25, 6)) @ rng.normal(size=(6, 40)) + rng.normal(size=(25, 40))
    effects = ad.AnnData(
        obs=pd.DataFrame({"perturbation": trained}, index=trained), var=pd.DataFrame(index=genes), layers={"lfc": lfc}
    )
    base = np.zeros(40)
    if control_mean is not None:
        effects.var["control_mean"] = base = control_mean
    predicted = baselines.LinearModel().fit(effects).predict(["g30", "g2", "g30+g2"]).layers["predicted_lfc"]

    # Conditions as the columns, the control the last of them: no change, and no embedding.
    Y = np.c_[lfc.T, np.zeros(40)]
    G, W, b = linear_model_by_hand(Y + base[:, None], Y, [*range(25), None], 10, 0.1)
    np.testing.assert_allclose(predicted[0], G @ W @ G[30] + b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(predicted[1], G @ W @ G[2] + b, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(predicted[2], G @ W @ (G[30] + G[2]) + b, rtol=1e-5, atol=1e-5)


def test_linear_model_leaves_targets_without_embedding_out_of_the_fit_and_predicts_the_mean_for_them(effects):
    lfc = effects.layers["lfc"].astype(float)
    effects.obs["perturbation"] = ["A", "B", "C", "X", "Y", "Z"]
    model = baselines.LinearModel(n_components=2).fit(effects)
    with pytest.warns(UserWarning, match="Q, X"):
        predicted = model.predict(["D", "Q", "A+X"]).layers["predicted_lfc"]
    np.testing.assert_allclose(predicted[1], lfc.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(predicted[2], lfc.mean(axis=0), rtol=1e-5)
    X, Y = np.c_[lfc.T, np.zeros(8)], np.c_[lfc[:3].T, np.zeros(8)]
    G, W, b = linear_model_by_hand(X, Y, [0, 1, 2, None], 2, 0.1)
    np.testing.assert_allclose(predicted[0], G @ W @ G[3] + b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda e: e.obs.drop(columns="perturbation", inplace=True), "no column 'perturbation'"),
        (lambda e: e.layers.pop("lfc"), "no layer 'lfc'"),
        (lambda e: e.obs.__setitem__("perturbation", ["A", "B", "C", "D", "A+B", "B+A"]), "more than one .*A\\+B"),
        (lambda e: e.obs.__setitem__("perturbation", ["A", "B", "C", "D", "A+B", "ctrl"]), "controls"),
        (lambda e: e.layers["lfc"].__setitem__((2, 3), np.nan), "NaN or infinite, in the genes D"),
        (lambda e: e.var.__setitem__("measured", False), "No gene"),
        (lambda e: e.var.__setitem__("control_mean", np.nan), "control_mean"),
        (lambda e: e.var.__setattr__("index", ["A"] * 8), "more than once in adata.var_names"),
    ],
)
@pytest.mark.parametrize("baseline", ALL)
def test_bad_effects_are_refused(effects, baseline, spoil, message):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spoil(effects)
    with pytest.raises(ValueError, match=message):
        build(baseline).fit(effects)


@pytest.mark.parametrize(
    ("asked", "error", "message"),
    [
        ("A+B", TypeError, r"Pass \['A\+B'\]"),
        ([], ValueError, "empty"),
        (["A", "B", "A"], ValueError, "more than once: A"),
        (["control"], ValueError, "the control"),
        (["A+"], ValueError, "empty part"),
        (["A+A"], ValueError, "names A more than once"),
    ],
)
def test_bad_names_are_refused(effects, asked, error, message):
    with pytest.raises(error, match=message):
        baselines.Additive().fit(effects).predict(asked)


def test_what_cannot_be_fitted_says_why(effects):
    with pytest.raises(RuntimeError, match="not been fitted"):
        baselines.Mean().predict(["A"])
    with pytest.raises(TypeError, match="AnnData"):
        baselines.Mean().fit(effects.to_df("lfc"))
    with pytest.raises(ValueError, match="single gene"):
        baselines.Additive().fit(effects[4:].copy())
    with pytest.raises(ValueError, match="n_components=10"):
        baselines.LinearModel().fit(effects)
    effects.obs["perturbation"] = list("UVWXYZ")
    with pytest.raises(ValueError, match="None of the 6"):
        baselines.LinearModel(n_components=2).fit(effects)
    with pytest.raises(ValueError, match="ridge"):
        baselines.LinearModel(ridge=0)
    with pytest.raises(ValueError, match="n_components"):
        baselines.LinearModel(n_components=0)


@pytest.mark.parametrize("baseline", ALL)
def test_a_refused_fit_keeps_the_earlier_one(effects, baseline):
    model = build(baseline).fit(effects)
    expected = model.predict(["A+C"]).layers["predicted_lfc"]
    refused = effects[4:].copy()
    if not isinstance(model, baselines.Additive):
        refused.layers["lfc"][0, -1] = np.nan
    with pytest.raises(ValueError):
        model.fit(refused)
    np.testing.assert_array_equal(model.predict(["A+C"]).layers["predicted_lfc"], expected)


def test_repr_says_what_it_was_fitted_to(effects):
    assert repr(baselines.Mean()) == "Mean, not fitted"
    assert repr(baselines.Mean().fit(effects)) == "Mean, fitted to 6 perturbations x 8 measured genes"
