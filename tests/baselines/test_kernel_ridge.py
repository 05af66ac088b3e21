"""Kernel ridge regression on similarities of genes against its formula, planted similarity, and bad input."""

from __future__ import annotations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp import baselines
from scapp.graph import diffusion

GENES = list("ABCDEFGH")
LABELS = ["A", "B", "C", "D", "A+C"]


def cosine(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.fixture
def effects() -> ad.AnnData:
    rng = np.random.default_rng(0)
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": LABELS}, index=LABELS),
        var=pd.DataFrame(index=GENES),
        layers={"lfc": rng.normal(size=(5, 8))},
    )
    edges = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (5, 1)])
    weight = rng.uniform(0.2, 1, size=len(edges))
    half = sparse.csr_matrix((weight, edges.T), shape=(8, 8))
    adata.varp["network"] = sparse.csr_matrix(half + half.T)
    features = rng.normal(size=(8, 3)).astype(np.float32)
    features[7] = np.nan
    adata.varm["go"] = features
    return adata


def similarity(seed: int = 3, genes: list[str] = GENES) -> pd.DataFrame:
    values = cosine(np.random.default_rng(seed).normal(size=(len(genes), 4)))
    return pd.DataFrame(values, index=genes, columns=genes)


def by_hand(effects, kernel, asked, ridge):
    """The formula with loops; `kernel` over GENES."""
    position = {gene: i for i, gene in enumerate(GENES)}

    def between(p, q):
        return sum(kernel[position[g], position[h]] for g in p.split("+") for h in q.split("+"))

    lfc = effects.layers["lfc"]
    mean = lfc.mean(axis=0)
    K = np.array([[between(p, q) for q in LABELS] for p in LABELS])
    weights = np.linalg.inv(K + ridge * np.eye(len(K))) @ (lfc - mean)
    return np.array([mean + np.array([between(p, q) for q in LABELS]) @ weights for p in asked])


def test_every_kind_of_similarity_enters_the_formula_as_described(effects):
    walks = diffusion(effects.varp["network"], restart=0.3)
    of_network = cosine(walks.astype(float))
    of_network[[6, 7]] = of_network[:, [6, 7]] = 0  # genes without edges
    features = np.nan_to_num(effects.varm["go"].astype(float))
    of_features = features @ features.T / (features**2).sum(axis=1).max()
    table = similarity()
    effects.varp["text"] = similarity(4).to_numpy()
    kernel = of_network + of_features + table.to_numpy() + effects.varp["text"]
    asked = ["E", "B", "F+A"]
    for options, expected in (
        ({}, of_network),
        ({"network_key": None, "gene_features_key": "go"}, of_features),
        ({"network_key": None, "similarities": table}, table.to_numpy()),
        ({"network_key": None, "similarity_key": ["text"]}, effects.varp["text"]),
        ({"gene_features_key": ["go"], "similarity_key": "text", "similarities": [table]}, kernel),
    ):
        model = baselines.KernelRidge(ridge=0.7, restart=0.3, **options).fit(effects)
        got = model.predict(asked).layers["predicted_lfc"]
        np.testing.assert_allclose(got, by_hand(effects, expected, asked, 0.7), rtol=1e-4, atol=1e-5)
        assert model.ridge == 0.7


def test_a_table_may_hold_other_genes_in_another_order_and_ensembl_effects_need_none_of_its_own(effects):
    table = similarity(genes=[*GENES, "X", "Y"])
    expected = baselines.KernelRidge(network_key=None, similarities=table).fit(effects).predict(["E", "X"])
    shuffled = table.loc[list("YHGXFEDCBA"), list("ABYCDEFXGH")]
    got = baselines.KernelRidge(network_key=None, similarities=shuffled).fit(effects).predict(["E", "X"])
    np.testing.assert_allclose(got.layers["predicted_lfc"], expected.layers["predicted_lfc"], rtol=1e-5, atol=1e-6)


def test_the_penalty_has_the_least_leave_one_out_error(effects):
    # Effects are a smooth function of the similarity, with noise: neither the smallest nor the largest penalty.
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(60)]
    vectors = rng.normal(size=(60, 4))
    lfc = cosine(vectors) @ rng.normal(size=(60, 30)) + 1.5 * rng.normal(size=(60, 30))
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": genes}, index=genes),
        var=pd.DataFrame(index=[f"r{i}" for i in range(30)]),
        layers={"lfc": lfc},
    )
    table = pd.DataFrame(cosine(vectors), index=genes, columns=genes)
    model = baselines.KernelRidge(network_key=None, similarities=table)
    assert model.ridge is None
    chosen = model.fit(adata).ridge
    deviations = lfc - lfc.mean(axis=0)

    def left_out(ridge):
        inverse = np.linalg.inv(table.to_numpy() + ridge * np.eye(60))
        return np.sum((inverse @ deviations / np.diag(inverse)[:, None]) ** 2)

    assert 2.0**-8 < chosen < 2.0**6
    assert left_out(chosen) == min(left_out(2.0**k) for k in range(-8, 7))


def test_planted_effects_of_similar_genes_are_predicted():
    rng = np.random.default_rng(0)
    genes = [f"g{i}" for i in range(80)]
    vectors = rng.normal(size=(80, 5))
    lfc = vectors @ rng.normal(size=(5, 50))
    obs = pd.DataFrame({"perturbation": genes}, index=genes)
    adata = ad.AnnData(obs=obs, var=pd.DataFrame(index=[f"r{i}" for i in range(50)]), layers={"lfc": lfc})
    adata = scapp.pp.add_unmeasured_genes(adata, control=None)
    scapp.pp.add_gene_features(adata, pd.DataFrame(vectors, index=genes), key_added="known", control=None)
    train = adata[:60].copy()
    got = baselines.KernelRidge(network_key=None, gene_features_key="known").fit(train).predict(genes[60:])
    error = np.linalg.norm(got.layers["predicted_lfc"][:, :50] - lfc[60:], axis=1).mean()
    # The mean of the training perturbations is taken as it is, so a little is left.
    assert error < 0.25 * np.linalg.norm(lfc[60:] - lfc[:60].mean(axis=0), axis=1).mean()


def test_genes_of_which_nothing_is_known_are_named_and_fall_back_to_the_mean(effects):
    model = baselines.KernelRidge(network_key=None, similarities=similarity(genes=list("ABE")))
    with pytest.warns(UserWarning, match="about 2 of the 4 perturbed genes: C, D.*mean only") as caught:
        model.fit(effects)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"about 2 perturbed gene\(s\): C, X") as caught:
        got = model.predict(["X", "E+X", "E", "C"]).layers["predicted_lfc"]
    assert len(caught) == 1 and caught[0].filename == __file__
    np.testing.assert_allclose(got[[0, 3]], np.tile(effects.layers["lfc"].mean(axis=0), (2, 1)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[1], got[2], rtol=1e-6)
    assert not np.allclose(got[2], got[0])


def test_genes_without_edges_or_features_are_unknown(effects):
    with pytest.warns(UserWarning, match=r"1 perturbed gene\(s\): G\."):
        baselines.KernelRidge().fit(effects).predict(["G", "F"])
    with pytest.warns(UserWarning, match=r"1 perturbed gene\(s\): H\."):
        baselines.KernelRidge(network_key=None, gene_features_key="go").fit(effects).predict(["G", "H"])


def test_nothing_known_about_any_perturbed_gene_is_refused(effects):
    with pytest.raises(ValueError, match="any of the 4 perturbed genes: A, B, C, D.*hold X, Y.*add_unmeasured_genes"):
        baselines.KernelRidge(network_key=None, similarities=similarity(genes=["X", "Y"])).fit(effects)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"network_key": "string"}, r"effects.varp has no 'string'; it holds 'network'.*scapp.pp.add_network"),
        ({"gene_features_key": "text"}, r"effects.varm has no 'text'; it holds 'go'.*add_gene_features"),
        ({"similarity_key": "text"}, r"effects.varp has no 'text'"),
        ({"similarity_key": "directed"}, "must be symmetric.*network_key"),
        ({"similarity_key": "missing"}, "1 similarities of effects.varp\\['missing'\\] are NaN"),
        ({"similarity_key": "negative"}, "not a kernel.*negative eigenvalue.*network_key"),
        ({"gene_features_key": "spoilt"}, "1 values of effects.varm\\['spoilt'\\] are missing or infinite"),
        ({"network_key": "missing"}, "effects.varp\\['missing'\\] holds weights that are NaN"),
    ],
)
def test_what_effects_do_not_hold_or_hold_wrongly_is_refused(effects, options, message):
    directed, missing = np.eye(8), np.eye(8)
    directed[0, 1] = 1
    missing[2, 2] = np.nan
    effects.varp["directed"], effects.varp["missing"] = directed, missing
    effects.varp["negative"] = 1 - np.eye(8)
    spoilt = effects.varm["go"].copy()
    spoilt[1, 1] = np.inf
    effects.varm["spoilt"] = spoilt
    with pytest.raises(ValueError, match=message):
        baselines.KernelRidge(**options).fit(effects)


def test_bad_options_and_tables_are_refused():
    table = similarity()
    with pytest.raises(ValueError, match="ridge must be greater than 0"):
        baselines.KernelRidge(ridge=0)
    with pytest.raises(ValueError, match="restart must be a probability"):
        baselines.KernelRidge(restart=0)
    with pytest.raises(ValueError, match="needs to know which genes are similar"):
        baselines.KernelRidge(network_key=None)
    with pytest.raises(TypeError, match="must be DataFrames.*ndarray"):
        baselines.KernelRidge(similarities=[table.to_numpy()])
    with pytest.raises(ValueError, match="same genes as index and columns.*7 rows.*8 columns"):
        baselines.KernelRidge(similarities=table.iloc[1:])
    with pytest.raises(ValueError, match="same genes as index and columns"):
        baselines.KernelRidge(similarities=table.rename(index={"A": "B"}))
    with pytest.raises(ValueError, match="must hold numbers, but A do not"):
        baselines.KernelRidge(similarities=table.assign(A="much"))
    with pytest.raises(ValueError, match="8 similarities of a table.*NaN"):
        baselines.KernelRidge(similarities=table.assign(A=np.nan))


ANNOTATIONS = pd.DataFrame({"gene": list("AABBCCDE"), "term": ["t1", "t2", "t1", "t2", "t2", "t3", "t3", "t4"]})


def test_annotation_similarity_is_the_cosine_of_tf_idf_weights_of_all_annotated_genes():
    found = baselines.annotation_similarity(ANNOTATIONS, ["B", "C", "X", "A"], min_genes=1)
    idf = {"t1": np.log(5 / 2), "t2": np.log(5 / 3), "t3": np.log(5 / 2)}
    vectors = {"A": ["t1", "t2"], "B": ["t1", "t2"], "C": ["t2", "t3"]}

    def between(a, b):
        length = [np.sqrt(sum(idf[t] ** 2 for t in vectors[g])) for g in (a, b)]
        return sum(idf[t] ** 2 for t in set(vectors[a]) & set(vectors[b])) / np.prod(length)

    assert found.index.tolist() == found.columns.tolist() == ["B", "C", "X", "A"]
    assert found.loc["A", "B"] == pytest.approx(1) and found.loc["A", "C"] == pytest.approx(between("A", "C"))
    assert not found.loc["X"].any() and not found["X"].any()
    wide = baselines.annotation_similarity(ANNOTATIONS, ["A", "C"], min_genes=1, max_genes=2)
    assert wide.loc["A", "C"] == 0
    assert baselines.annotation_similarity(ANNOTATIONS, ["a1", "B"], aliases={"a1": "A"}).loc[
        "a1", "B"
    ] == pytest.approx(1)


def test_diffusion_similarity_is_the_cosine_of_walks_over_the_whole_network():
    edges = pd.DataFrame({"source": list("ABCX"), "target": list("XXYY"), "weight": [1.0, 2.0, 3.0, 4.0]})
    found = baselines.diffusion_similarity(edges, ["A", "Q", "C"], restart=0.4)
    nodes = list("ABCXY")
    W = np.zeros((5, 5))
    for _, (source, target, weight) in edges.iterrows():
        i, j = nodes.index(source), nodes.index(target)
        W[i, j] = W[j, i] = weight
    walks = 0.4 * np.linalg.inv(np.eye(5) - 0.6 * W / W.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found.loc["A", "C"], cosine(walks)[0, 2], atol=1e-5)
    assert found.loc["A", "A"] == pytest.approx(1) and not found.loc["Q"].any()


def test_similarities_refuse_a_text_and_genes_that_do_not_match():
    with pytest.raises(TypeError, match=r"Pass \['A'\]"):
        baselines.annotation_similarity(ANNOTATIONS, "A")
    with pytest.raises(ValueError, match="Only 0 of the 2 genes.*annotations"):
        baselines.annotation_similarity(ANNOTATIONS, ["ENSG1", "ENSG2"])
    edges = pd.DataFrame({"source": ["A"], "target": ["B"]})
    with pytest.raises(ValueError, match="Only 0 of the 2 genes.*network"):
        baselines.diffusion_similarity(edges, ["ENSG1", "ENSG2"])
    with pytest.raises(ValueError, match="restart"):
        baselines.diffusion_similarity(edges, ["A", "B"], restart=2)
