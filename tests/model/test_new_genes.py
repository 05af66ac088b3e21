"""Genes added to a trained model: predicted as if they had been nodes from the beginning, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp.model import APP

LATE = ["g16", "g17", "g18"]  # in the modules of the planted screen, never perturbed


def edges_of(adata) -> pd.DataFrame:
    """The whole network as a table of names, each edge once."""
    coo = sparse.triu(adata.varp["network"]).tocoo()
    names = adata.var_names
    return pd.DataFrame({"source": names[coo.row], "target": names[coo.col], "weight": coo.data.astype(float)})


def without(adata, genes=LATE):
    return adata[:, ~adata.var_names.isin(genes)].copy()


@pytest.fixture
def effects_and_edges(effects):
    return effects, edges_of(effects)


@pytest.fixture
def early(effects, make):
    """A model that does not know the late genes."""
    return make(without(effects))


def lfc(predicted, genes):
    return np.asarray(predicted[:, genes].layers["predicted_lfc"])


def test_late_genes_are_predicted_as_if_they_had_been_there(effects_and_edges, early, make):
    effects, edges = effects_and_edges
    whole = make(effects)
    more = early.add_genes(LATE, edges=edges)
    asked = [*LATE, "g16+g1", "g17+g16"]
    genes = without(effects).var_names
    expected, found = whole.predict(asked), more.predict(asked)
    apart = np.linalg.norm(lfc(expected, genes) - lfc(found, genes), axis=1)
    assert (apart < 0.1 * np.linalg.norm(lfc(expected, genes), axis=1)).all()
    ratio = found[:, genes].layers["predicted_lfc_std"] / expected[:, genes].layers["predicted_lfc_std"]
    assert np.median(ratio) == pytest.approx(1, abs=0.15)
    truth = effects["g0", genes].layers["lfc"][0]  # of the same module as g16
    assert np.corrcoef(lfc(found, genes)[0], truth)[0, 1] > 0.9
    assert not found.obs["uninformed"].any()
    np.testing.assert_allclose(found.layers["attention"].sum(axis=1), 1, atol=1e-5)


def test_late_genes_of_a_simulated_screen_are_predicted_nearly_as_well(simulated, make):
    cells, truth = simulated
    effects = scapp.pp.pseudobulk(cells, batch_key="batch")
    unseen = list(truth.effects.obs_names[~truth.effects.obs["in_screen"]])
    few = effects[:, ~effects.var_names.isin(unseen)].copy()
    for adata in (effects, few):
        scapp.pp.add_network(adata, truth.network, directed=True)
    genes = few.var_names
    a = lfc(make(effects).predict(unseen), genes)
    b = lfc(make(few).add_genes(unseen, edges=truth.network).predict(unseen), genes)
    assert np.median(np.linalg.norm(a - b, axis=1) / np.linalg.norm(a, axis=1)) < 0.1
    observed = truth.effects[unseen, genes].layers["lfc"]
    errors = [np.linalg.norm(x - observed, axis=1).mean() for x in (a, b)]
    assert errors[1] < 1.03 * errors[0]


def test_what_was_known_before_is_predicted_exactly_as_before(effects_and_edges, early):
    _, edges = effects_and_edges
    more = early.add_genes(LATE, edges=edges)
    asked = ["g1", "g30", "g1+g2", "g30+g19"]
    before, after = early.predict(asked), more.predict(asked)
    for name in ("predicted_lfc", "predicted_lfc_std", "p_change", "attention"):
        np.testing.assert_allclose(after[:, before.var_names].layers[name], before.layers[name], atol=1e-6)
    assert list(after.var_names) == [*before.var_names, *LATE]
    assert not after.var.loc[LATE, "measured"].any()
    assert np.isnan(after[:, LATE].layers["predicted_lfc"]).all()
    assert "g16" not in early.genes  # the model itself is left as it is


def test_order_of_genes_and_edges_and_steps_does_not_matter(effects_and_edges, early):
    _, edges = effects_and_edges
    asked = [*LATE, "g18+g2"]
    once = early.add_genes(LATE, edges=edges).predict(asked)
    shuffled = edges.sample(frac=1, random_state=1)
    shuffled = shuffled.rename(columns={"source": "target", "target": "source"})
    turned = early.add_genes(LATE[::-1], edges=shuffled).predict(asked)
    steps = early.add_genes(["g17"], edges=edges).add_genes(["g18", "g16"], edges=edges).predict(asked)
    for other in (turned, steps):
        np.testing.assert_allclose(
            other[:, once.var_names].layers["predicted_lfc"], once.layers["predicted_lfc"], atol=1e-6
        )


def test_a_model_with_late_genes_is_saved_and_loaded_anywhere(effects_and_edges, early, tmp_path):
    effects, edges = effects_and_edges
    more = early.add_genes(LATE, edges=edges)
    expected = more.predict([*LATE, "g16+g1", "g1"])
    more.save(tmp_path / "model")
    again = APP.load(tmp_path / "model", adata=False)
    np.testing.assert_allclose(
        again.predict(list(expected.obs_names)).layers["predicted_lfc"], expected.layers["predicted_lfc"], atol=1e-6
    )
    with_data = APP.load(tmp_path / "model", adata=scapp.pp.add_unmeasured_genes(without(effects), LATE))
    np.testing.assert_allclose(
        with_data.predict(["g16"]).layers["predicted_lfc"], expected["g16"].layers["predicted_lfc"], atol=1e-6
    )
    assert again.add_genes(["new"], edges=[("new", "g16"), ("new", "g0")]).genes[-1] == "new"


def test_other_functions_take_the_model(effects_and_edges, early):
    _, edges = effects_and_edges
    more = early.add_genes(LATE, edges=edges)
    objective = pd.Series(early.predict(["g1"]).layers["predicted_lfc"][0], index=early.genes)
    best = scapp.tl.screen(more, LATE, objective=objective, order=1, progress_bar=False)
    assert best["perturbation"].iloc[0] == "g17"  # of the module of g1
    parts = scapp.tl.explain(more, "g16", "g3")
    total = parts["contribution"].sum()
    assert total == pytest.approx(float(more.predict(["g16"])[:, "g3"].layers["predicted_lfc"][0, 0]), abs=1e-4)
    assert len(scapp.tl.suggest_perturbations(more, 2, genes=LATE)) == 2


def test_weights_are_brought_to_the_scale_of_the_network(effects_and_edges, early):
    _, edges = effects_and_edges
    expected = early.add_genes(LATE, edges=edges).predict(LATE).layers["predicted_lfc"]
    scaled = early.add_genes(LATE, edges=edges.assign(weight=edges["weight"] * 900))
    np.testing.assert_allclose(scaled.predict(LATE).layers["predicted_lfc"], expected, atol=1e-6)
    ours = edges[edges["source"].isin(LATE) | edges["target"].isin(LATE)]
    alone = [early.add_genes(LATE, edges=ours.assign(weight=ours["weight"] * factor)) for factor in (1, 500)]
    first, second = (m.predict(LATE).layers["predicted_lfc"] for m in alone)
    np.testing.assert_allclose(first, second, atol=1e-6)
    pairs = early.add_genes(["new"], edges=[("new", "g1"), ("g5", "new")])
    assert pairs.network[pairs.genes.index("new"), pairs.genes.index("g1")] == 1.0


def test_features_of_late_genes_take_part(effects, make):
    rng = np.random.default_rng(0)
    module = rng.normal(size=(4, 8))
    vectors = np.array([module[i % 4] for i in range(40)]) + 0.1 * rng.normal(size=(40, 8))
    table = pd.DataFrame(vectors, index=effects.var_names)
    effects.varm["vectors"] = table.to_numpy()
    few = without(effects)
    few.varm["vectors"][-1] = np.nan
    setup = {"network_key": "network", "gene_features_key": "vectors"}
    early = make(few, setup=setup)
    more = early.add_genes(LATE, features=table)
    whole = effects.copy()
    network = whole.varp["network"].tolil()
    for i in (16, 17, 18):
        network[i] = network[:, i] = 0
    whole.varp["network"] = sparse.csr_matrix(network)
    expected = make(whole, setup=setup).predict(LATE)
    found, expected = (lfc(predicted, few.var_names) for predicted in (more.predict(LATE), expected))
    assert (np.linalg.norm(found - expected, axis=1) < 0.1 * np.linalg.norm(expected, axis=1)).all()
    also = early.add_genes(LATE[:1], features={"vectors": table.loc[LATE[:1]]}, edges=[("g16", "g0")])
    assert "g16" in also.informed_genes
    with pytest.raises(ValueError, match="features of 36 of 36 genes that the model knows are others"):
        early.add_genes(LATE, features=table[::-1].set_axis(table.index))
    with pytest.raises(ValueError, match=r"have 3 columns, and those of 'vectors' .* with 8"):
        early.add_genes(LATE, features=table.iloc[:, :3])
    with pytest.raises(ValueError, match="no gene_features 'other'; it was set up with 'vectors'"):
        early.add_genes(LATE, features={"other": table})


def test_edges_of_several_networks_are_told_apart(effects_and_edges, make):
    effects, edges = effects_and_edges
    effects.varp["second"] = effects.varp["network"].copy()
    early = make(without(effects), setup={"network_key": ["network", "second"]})
    by_key = early.add_genes(LATE, edges={"network": edges, "second": edges})
    named = pd.concat([edges.assign(network="network"), edges.assign(network="second")])
    by_column = early.add_genes(LATE, edges=named)
    a, b = (m.predict(LATE).layers["predicted_lfc"] for m in (by_key, by_column))
    np.testing.assert_allclose(a, b, atol=1e-6)
    one = early.add_genes(LATE, edges={"second": edges})
    assert one.network["network"][-3:].nnz == 0 and one.network["second"][-3:].nnz > 0
    with pytest.raises(ValueError, match="2 of network: 'network', 'second'. Say which one is meant"):
        early.add_genes(LATE, edges=edges)
    with pytest.raises(ValueError, match="no network 'third'"):
        early.add_genes(LATE, edges=edges.assign(network="third"))


def test_edges_that_lead_to_unknown_genes_are_named_and_counted(early):
    edges = [("new", "g1"), ("new", "nobody"), ("noone", "new"), ("noone", "nobody")]
    with pytest.warns(UserWarning, match=r"2 of the 3 edges of new genes lead to 2 gene\(s\).*: nobody, noone"):
        more = early.add_genes(["new"], edges=edges)
    assert more.network[-1].nnz == 1


def test_a_directed_network_keeps_its_directions(effects, make):
    few = without(effects)
    few.varp["network"] = sparse.csr_matrix(sparse.triu(few.varp["network"]))
    more = make(few).add_genes(["new"], edges=[("new", "g1"), ("g2", "new")])
    new, g1, g2 = (more.genes.index(gene) for gene in ("new", "g1", "g2"))
    assert more.network[new, g1] > 0 and more.network[g2, new] > 0
    assert more.network[g1, new] == 0 and more.network[new, g2] == 0


@pytest.mark.parametrize(
    ("genes", "edges", "message"),
    [
        (["g1", "new"], [("new", "g1")], r"1 of the 2 genes are nodes of the model already: g1"),
        (["new"], None, "1 of the 1 new genes have no edge to a gene of the model and no features: new"),
        (["new", "lost"], [("new", "g1")], "1 of the 2 new genes have no edge .*: lost"),
        (["new"], [("g1", "g2")], "no edge to a gene of the model and no features: new"),
        (["new"], [("new", "new")], "no edge to a gene of the model and no features: new"),
        (["g1+new"], [("new", "g1")], "Expected names of single genes, found 'g1"),
        (["control"], [("control", "g1")], "Expected names of single genes, found 'control'"),
        ([" "], [("new", "g1")], "Expected names of single genes"),
        ([], [("new", "g1")], "."),
        (["new", "new"], [("new", "g1")], "new"),
        (["new"], pd.DataFrame({"source": ["new"], "target": ["g1"], "weight": [np.nan]}), "weight"),
    ],
)
def test_bad_input_is_refused_with_the_mend(early, genes, edges, message):
    before = early.predict(["g1"]).layers["predicted_lfc"]
    with pytest.raises(ValueError, match=message):
        early.add_genes(genes, edges=edges)
    np.testing.assert_array_equal(early.predict(["g1"]).layers["predicted_lfc"], before)


def test_one_text_is_no_list_and_a_matrix_has_no_names(early):
    with pytest.raises(TypeError):
        early.add_genes("new", edges=[("new", "g1")])
    with pytest.raises(TypeError, match="need names"):
        early.add_genes(["new"], edges=np.ones((38, 38)))


def test_features_without_any_at_the_set_up_are_refused(early):
    with pytest.raises(ValueError, match="set up without gene_features"):
        early.add_genes(["new"], features=pd.DataFrame([[1.0]], index=["new"]))


def test_an_untrained_model_and_the_paper_form_cannot_learn_of_genes(effects, make):
    few = without(effects)
    APP.setup_anndata(few, control=None, layer="lfc")
    with pytest.raises(RuntimeError, match="has not been trained"):
        APP(few).add_genes(["new"], edges=[("new", "g1")])
    paper = make(few, preset="paper", max_epochs=1)
    with pytest.raises(TypeError, match="paper's form"):
        paper.add_genes(["new"], edges=[("new", "g1")])


def test_genes_of_the_model_are_found_under_other_names(early):
    aliases = pd.DataFrame({"symbol": ["g1"], "alias_symbol": ["OLD1"]})
    more = early.add_genes(["new"], edges=[("new", "OLD1")], aliases=aliases)
    assert more.network[-1].indices.tolist() == [more.genes.index("g1")]


def test_a_model_of_cells_keeps_its_profile_of_controls(simulated, make):
    cells, truth = simulated
    cells = cells.copy()
    scapp.pp.add_network(cells, truth.network, directed=True)
    scapp.model.APP.setup_anndata(cells, batch_key="batch", kind="activation")
    model = APP(cells)
    model.train(max_epochs=1, enable_progress_bar=False)
    gene = model._registered.labels[0].split("+")[0]
    more = model.add_genes(["new"], edges=[("new", gene)])
    predicted = more.predict(["new", f"new+{gene}"])
    assert np.isnan(predicted[:, "new"].X).all()
    assert np.isfinite(predicted[:, cells.var_names].X).all()
    with pytest.raises(ValueError, match="without"):
        more.predict()
