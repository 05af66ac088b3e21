"""The linear model on embeddings from elsewhere against its formula, planted embeddings, and bad tables."""

from __future__ import annotations

import warnings

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scapp import baselines

TARGETS = [f"g{i}" for i in range(25)]
GENES = [f"g{i}" for i in range(40)]


@pytest.fixture
def effects() -> ad.AnnData:
    rng = np.random.default_rng(0)
    lfc = rng.normal(size=(25, 6)) @ rng.normal(size=(6, 40)) + rng.normal(size=(25, 40))
    obs = pd.DataFrame({"perturbation": TARGETS}, index=TARGETS)
    return ad.AnnData(obs=obs, var=pd.DataFrame(index=GENES), layers={"lfc": lfc})


def table(n_dimensions: int = 7, genes=(*GENES, "X")) -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(1).normal(size=(len(genes), n_dimensions)), index=list(genes))


def principal(effects, n_components):
    X = np.c_[effects.layers["lfc"].T, np.zeros(40)]
    centred = X - X.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    return centred @ vectors[:, np.argsort(values)[::-1][:n_components]]


def by_hand(G, P, Y, p, ridge):
    """The formula of the research note A.4, literally; the control is the last column of P and Y."""
    b = Y.mean(axis=1, keepdims=True)
    left = np.linalg.inv(G.T @ G + ridge * np.eye(G.shape[1])) @ G.T
    W = left @ (Y - b) @ P.T @ np.linalg.inv(P @ P.T + ridge * np.eye(len(P)))
    return G @ W @ p + b[:, 0]


@pytest.mark.parametrize("width", [7, 60])  # narrower and wider than there are perturbations and genes
@pytest.mark.parametrize("side", ["perturbation", "gene", "both"])
def test_each_side_is_the_published_formula(effects, side, width):
    E = table(width)
    learned = principal(effects, 4)
    G = learned if side == "perturbation" else E.loc[GENES].to_numpy()
    of = learned if side == "gene" else E.loc[GENES].to_numpy()
    P = np.c_[of[:25].T, np.zeros(of.shape[1])]
    Y = np.c_[effects.layers["lfc"].T, np.zeros(40)]
    model = baselines.EmbeddingLinear(E, side=side, n_components=4, ridge=0.3).fit(effects)
    got = model.predict(["g30", "g2", "g30+g2"]).layers["predicted_lfc"]
    for row, p in zip(got, (of[30], of[2], of[30] + of[2]), strict=True):
        np.testing.assert_allclose(row, by_hand(G, P, Y, p, 0.3), rtol=1e-3, atol=1e-4)


def test_with_its_own_principal_components_it_is_the_linear_model(effects):
    own = pd.DataFrame(principal(effects, 5), index=GENES)
    expected = baselines.LinearModel(n_components=5).fit(effects).predict(["g30"]).layers["predicted_lfc"]
    for side in ("perturbation", "gene", "both"):
        got = baselines.EmbeddingLinear(own, side=side, n_components=5).fit(effects).predict(["g30"])
        np.testing.assert_allclose(got.layers["predicted_lfc"], expected, rtol=1e-3, atol=1e-4)


def test_a_planted_embedding_predicts_unseen_genes_and_a_random_one_does_not():
    rng = np.random.default_rng(0)
    genes = [f"t{i}" for i in range(80)]
    planted = rng.normal(size=(80, 5))
    lfc = planted @ rng.normal(size=(5, 40))
    obs = pd.DataFrame({"perturbation": genes}, index=genes)
    adata = ad.AnnData(obs=obs, var=pd.DataFrame(index=GENES), layers={"lfc": lfc})
    error = {}
    for name, values in (("planted", planted), ("random", rng.normal(size=(80, 5)))):
        model = baselines.EmbeddingLinear(pd.DataFrame(values, index=genes), n_components=8).fit(adata[:60].copy())
        error[name] = np.linalg.norm(model.predict(genes[60:]).layers["predicted_lfc"] - lfc[60:], axis=1).mean()
    mean = np.linalg.norm(lfc[60:] - lfc[:60].mean(axis=0), axis=1).mean()
    # The formula has no intercept on the side of the embedding, so a little is left even of what is planted.
    assert error["planted"] < 0.25 * mean and error["random"] > 0.9 * mean


def test_wider_embeddings_are_reduced_to_principal_components_if_asked(effects):
    E = table(30)
    centred = E.to_numpy() - E.to_numpy().mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    reduced = pd.DataFrame(left[:, :6] * size[:6], index=E.index)
    expected = baselines.EmbeddingLinear(reduced).fit(effects).predict(["g30"]).layers["predicted_lfc"]
    got = baselines.EmbeddingLinear(E, embedding_components=6).fit(effects).predict(["g30"]).layers["predicted_lfc"]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-4)
    wide = baselines.EmbeddingLinear(E).fit(effects).predict(["g30"]).layers["predicted_lfc"]
    same = baselines.EmbeddingLinear(E, embedding_components=30).fit(effects).predict(["g30"]).layers["predicted_lfc"]
    np.testing.assert_array_equal(same, wide)
    assert not np.allclose(got, wide)


def test_targets_without_embedding_are_left_out_of_the_fit_named_and_predicted_as_the_mean(effects):
    held = [gene for gene in GENES if gene not in ("g3", "g30")]
    model = baselines.EmbeddingLinear(table(genes=held), n_components=4).fit(effects)
    with pytest.warns(UserWarning, match="2 perturbed gene.*no embedding in the table: Q, g30") as caught:
        got = model.predict(["g30", "Q+g1", "g31"]).layers["predicted_lfc"]
    assert len(caught) == 1 and caught[0].filename == __file__
    mean = effects.layers["lfc"].mean(axis=0)
    np.testing.assert_allclose(got[:2], np.tile(mean, (2, 1)), rtol=1e-5, atol=1e-6)
    E = table(genes=held)
    used = [i for i in range(25) if i != 3]
    P = np.c_[E.loc[[TARGETS[i] for i in used]].to_numpy().T, np.zeros(7)]
    Y = np.c_[effects.layers["lfc"][used].T, np.zeros(40)]
    expected = by_hand(principal(effects, 4), P, Y, E.loc["g31"].to_numpy(), 0.1)
    np.testing.assert_allclose(got[2], expected, rtol=1e-3, atol=1e-4)


def test_measured_genes_without_embedding_are_counted_and_predicted_as_their_mean(effects):
    E = table()
    E.loc[["g38", "g39"]] = np.nan
    with pytest.warns(UserWarning, match="2 of the 40 measured genes have no embedding: g38, g39") as caught:
        model = baselines.EmbeddingLinear(E, side="gene", n_components=4).fit(effects)
    assert caught[0].filename == __file__
    got = model.predict(["g30"]).layers["predicted_lfc"][0]
    b = effects.layers["lfc"].sum(axis=0) / 26  # the control counts
    np.testing.assert_allclose(got[38:], b[38:], rtol=1e-5, atol=1e-6)
    assert not np.allclose(got[:38], b[:38])
    # The other genes are predicted as if these were not there, but for the PCA that embeds the perturbations.
    P = np.c_[principal(effects, 4)[:25].T, np.zeros(4)]
    Y = np.c_[effects.layers["lfc"].T, np.zeros(40)][:38]
    expected = by_hand(E.iloc[:38].to_numpy(), P, Y, principal(effects, 4)[30], 0.1)
    np.testing.assert_allclose(got[:38], expected, rtol=1e-3, atol=1e-4)


@pytest.mark.filterwarnings("ignore:.*measured genes have no embedding:UserWarning")
def test_tables_of_other_names_are_refused_with_both_examples(effects):
    elsewhere = table(genes=["ENSG1", "ENSG2"])
    with pytest.raises(ValueError, match="None of the 25 training perturbations.*g0, g1.*holds ENSG1, ENSG2"):
        baselines.EmbeddingLinear(elsewhere).fit(effects)
    for side in ("gene", "both"):
        with pytest.raises(ValueError, match="None of the 40 measured genes.*g0, g1.*holds ENSG1, ENSG2"):
            baselines.EmbeddingLinear(elsewhere, side=side).fit(effects)
    effects.obs["perturbation"] = [f"t{i}" for i in range(25)]
    with pytest.raises(ValueError, match="None of the 25 training perturbations is of measured genes"):
        baselines.EmbeddingLinear(table(), side="gene").fit(effects)


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda E: E, {"side": "genes"}, "side must be .*found 'genes'"),
        (lambda E: E, {"n_components": 0}, "n_components must be at least 1"),
        (lambda E: E, {"ridge": 0}, "ridge must be greater than 0"),
        (lambda E: E, {"embedding_components": 0}, "embedding_components must be a positive whole number"),
        (lambda E: pd.concat([E, E.iloc[:1]]), {}, "more than once in the feature table: g0"),
        (
            lambda E: E.assign(infinite=np.where(E.index == "g1", np.inf, 0.0)),
            {},
            "missing or infinite, in the genes g1",
        ),
        (lambda E: E.reset_index(drop=True), {}, "must be indexed by gene"),
        (lambda E: E.assign(words="text"), {}, "must hold numbers"),
    ],
)
def test_bad_options_and_tables_are_refused(spoil, options, message):
    with pytest.raises(ValueError, match=message):
        baselines.EmbeddingLinear(spoil(table()), **options)


def test_a_full_table_gives_no_warning(effects):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for side in ("perturbation", "gene", "both"):
            baselines.EmbeddingLinear(table(), side=side).fit(effects).predict(
                ["g30", "X"] if side != "gene" else ["g30"]
            )
