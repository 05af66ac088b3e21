"""Tests of the tests of the attention: each passes on a planted signal, fails without it, and computes what it says."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.spatial.distance import jensenshannon
from scipy.stats import spearmanr
from sklearn.metrics import roc_auc_score

import scapp
from scapp.model import APP
from scapp.tl import _attention_checks, _checks
from scapp.tl._attention_checks import GeneSets, gene_sets
from scapp.tl._checks import degree_bins, permute_within

COLUMNS = ["check", "statistic", "source", "value", "expected", "p_value", "n", "by_construction", "null"]


@pytest.fixture(scope="module")
def planted() -> SimpleNamespace:
    """A simulated screen, what is downstream of its regulators, and models of two halves of it."""
    cells, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=120, n_regulators=24, n_singles=20, n_doubles=24, n_cells_per_perturbation=12, n_control_cells=100
    )
    effects = scapp.pp.pseudobulk(cells, batch_key="batch")
    scapp.pp.add_network(effects, truth.network, directed=True, control=None)
    models = []
    for part in (effects, effects[::2].copy(), effects[1::2].copy()):
        APP.setup_anndata(part, control=None, layer="lfc")
        model = APP(part)
        model.train(max_epochs=4, enable_progress_bar=False)
        models.append(model)
    downstream = truth.downstream.rename(columns={"gene": "source", "downstream": "target"})
    return SimpleNamespace(models=models, effects=effects, truth=truth, downstream=downstream)


def check(planted: SimpleNamespace, **options: object) -> pd.DataFrame:
    given = {"regulons": planted.downstream, "known": ["regulons"], "n_permutations": 200}
    return scapp.tl.attention_checks(planted.models, **{**given, **options})


def shuffled(looked: _checks.AttentionRuns, rng: np.random.Generator) -> _checks.AttentionRuns:
    """The same attention to other genes, the perturbed ones kept."""
    attention = looked.attention.copy()
    for run in attention:
        for row, perturbed in zip(run, looked.perturbed, strict=True):
            row[~perturbed] = rng.permutation(row[~perturbed])
    return dataclasses.replace(looked, attention=attention)


SIGNALS = (
    ("stability", "rank correlation", "models"),
    ("stability", "overlap of the top 20", "models"),
    ("enrichment", "AUROC", "neighbours, network"),
    ("enrichment", "AUROC", "targets, regulons"),
)


def test_checks_pass_on_a_planted_signal_and_fail_on_a_broken_attention(planted, monkeypatch):
    keys = ["check", "statistic", "source"]
    table = check(planted)
    assert table.columns.tolist() == COLUMNS
    assert (table.loc[~table["statistic"].str.startswith("AUROC among"), "n"] == 44).all()
    assert 0 < table.loc[table["check"] == "learning", "value"].item() < 0.5
    whole = table.set_index(keys)["p_value"]
    look, rng = _attention_checks.look, np.random.default_rng(0)
    monkeypatch.setattr(_attention_checks, "look", lambda model, nodes: shuffled(look(model, nodes), rng))
    broken = check(planted).set_index(keys)["p_value"]
    for signal in SIGNALS:
        assert whole[signal] < 0.01, signal
        assert broken[signal] > 0.01, signal


def test_what_any_untrained_model_would_pass_is_marked(planted):
    marked = check(planted).set_index(["check", "statistic", "source"])["by_construction"]
    assert marked[list(SIGNALS)].all()
    assert not marked[[key for key in marked.index if "prior" in key[1]]].any()
    free = check(planted, known=(), networks={"other": planted.truth.network})
    free = free.set_index(["check", "statistic", "source"])["by_construction"]
    assert not free["enrichment", "AUROC", "targets, regulons"]
    assert not free["enrichment", "AUROC", "neighbours, other"]


def test_untrained_scalars_have_learned_nothing_over_the_prior(planted):
    APP.setup_anndata(planted.effects, control=None, layer="lfc")
    model = APP(planted.effects)
    model.train(max_epochs=0)
    looked = _attention_checks.look(model, [(0,), (1,), (2, 3)])
    np.testing.assert_allclose(looked.attention, looked.prior, atol=1e-6)
    np.testing.assert_allclose(looked.prior.sum(axis=2), 1, rtol=1e-5)
    table = scapp.tl.attention_checks(model, ["G002", "G111", "G017"], n_permutations=50)
    learned = table[table["statistic"].str.contains("to the prior|minus prior|distance, learned")]
    learned = learned.set_index("check")["value"]
    np.testing.assert_allclose(learned["learning"], 0, atol=1e-3)
    np.testing.assert_allclose(learned["enrichment"], 0, atol=0.02)
    np.testing.assert_allclose(learned["specificity"], 0, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"closed_form": False}, {"preset": "paper"}], ids=str)
def test_what_is_looked_at_is_the_attention_that_the_model_reports(planted, options):
    APP.setup_anndata(planted.effects, control=None, layer="lfc")
    model = APP(planted.effects, **options)
    model.train(max_epochs=0)
    names = ["G002", "G111", planted.effects.obs_names[-1], "G002+G111"]
    nodes = [tuple(planted.effects.var_names.get_loc(gene) for gene in name.split("+")) for name in names]
    looked = _attention_checks.look(model, nodes)
    np.testing.assert_allclose(looked.attention.mean(axis=0), model.get_attention(names), atol=1e-6)
    np.testing.assert_allclose(looked.prior.sum(axis=2), 1, rtol=1e-5)


def test_a_model_loaded_without_data_is_tested_on_its_training_perturbations(planted, tmp_path):
    planted.models[0].save(tmp_path / "m")
    loaded = APP.load(tmp_path / "m", adata=False)
    tables = [scapp.tl.attention_checks(model, n_permutations=20) for model in (planted.models[0], loaded)]
    pd.testing.assert_frame_equal(*tables, rtol=1e-3)
    assert tables[0]["n"].max() == 44


def test_one_perturbation_has_values_and_no_p_values(planted):
    table = scapp.tl.attention_checks(planted.models[0], ["G111"], n_permutations=20)
    assert table["p_value"].isna().all()
    assert np.isfinite(table.loc[table["check"] == "learning", "value"]).all()


def test_bad_input_is_refused_with_a_mend(planted):
    model = planted.models[0]
    with pytest.raises(ValueError, match="known=.*'pathways'.*not given"):
        scapp.tl.attention_checks(model, known=["pathways"])
    with pytest.raises(ValueError, match="None of the 1 edges of regulons.*aliases"):
        scapp.tl.attention_checks(model, regulons=pd.DataFrame({"source": ["x"], "target": ["y"]}))
    with pytest.raises(ValueError, match="None of the 2 genes of pathways"):
        scapp.tl.attention_checks(model, pathways={"p": ["x", "y"]})
    with pytest.raises(TypeError, match=r"Pass \['G002'\]"):
        scapp.tl.attention_checks(model, "G002")
    with pytest.raises(ValueError, match="found the control"):
        scapp.tl.attention_checks(model, ["control"])
    with pytest.raises(ValueError, match="n_top from 1 to the 119 genes"):
        scapp.tl.attention_checks(model, ["G002"], n_top=120)
    with pytest.raises(ValueError, match="list of models is empty"):
        scapp.tl.attention_checks([])
    with pytest.raises(TypeError, match=r"scapp\.model\.APP, found int"):
        scapp.tl.attention_checks(3)
    APP.setup_anndata(planted.effects, control=None, layer="lfc")
    untrained = APP(planted.effects, attention=False)
    with pytest.raises(RuntimeError, match=r"model\.train\(\)"):
        scapp.tl.attention_checks(untrained)
    untrained.train(max_epochs=0)
    with pytest.raises(ValueError, match="made without attention"):
        scapp.tl.attention_checks(untrained)


def looked_at(rng: np.random.Generator, n: int = 4, n_genes: int = 30) -> _checks.AttentionRuns:
    attention = rng.dirichlet(np.full(n_genes, 0.3), size=(2, n))
    attention[:, :, -3:] = 0
    prior = np.full_like(attention, 1 / n_genes)
    perturbed = np.zeros((n, n_genes), dtype=bool)
    perturbed[np.arange(n), np.arange(n)] = True
    return _checks.AttentionRuns(attention, prior, perturbed, np.arange(n_genes) % 3)


def test_enrichment_is_the_mean_area_under_the_curve_of_the_other_genes():
    rng = np.random.default_rng(0)
    looked = looked_at(rng)
    related = rng.random((30, 30)) < 0.2
    related[1] = False  # a perturbation of which nothing is known
    sets = GeneSets("x", sparse.csr_matrix(related.astype(np.float32)), False)
    row, over_prior, learned = _checks.enrichment(looked, [sets], 50, rng)
    expected, among_reached = [], []
    for i in (0, 2, 3):
        others = np.arange(30) != i
        expected.append(roc_auc_score(related[i][others], looked.attention.mean(axis=0)[i][others]))
        reached = others & (looked.attention > 0).all(axis=0)[i]
        ratio = np.log(looked.attention[:, i] + 1e-300).mean(axis=0)  # over a prior that is flat
        among_reached.append(roc_auc_score(related[i][reached], ratio[reached]))
    assert row["n"] == 3
    np.testing.assert_allclose(row["value"], np.mean(expected))
    np.testing.assert_allclose(over_prior["value"], np.mean(expected) - 0.5)  # a flat prior knows nothing
    np.testing.assert_allclose(learned["value"], np.mean(among_reached))


def test_stability_is_spearmans_correlation_and_the_shared_top():
    rng = np.random.default_rng(1)
    looked = looked_at(rng)
    rows = _checks.stability(looked, "members", 5, 50, rng)
    a, b = looked.attention
    free = ~looked.perturbed
    rho = [spearmanr(x[f], y[f]).statistic for x, y, f in zip(a, b, free, strict=True)]
    top = [
        set(np.argsort(-np.where(f, x, -1), kind="stable")[:5]) for x, f in zip([*a, *b], [*free, *free], strict=True)
    ]
    np.testing.assert_allclose(rows[0]["value"], np.mean(rho))
    np.testing.assert_allclose(rows[1]["value"], np.mean([len(top[i] & top[i + 4]) / 5 for i in range(4)]))


def test_distances_are_those_of_jensen_and_shannon():
    p, q = np.random.default_rng(2).dirichlet(np.ones(10), size=(2, 3))
    expected = [[jensenshannon(x, y, base=2) for y in q] for x in p]
    np.testing.assert_allclose(_checks._distances(p, q), expected)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 6), min_size=12, max_size=40), st.integers(0, 10**6))
def test_chance_keeps_the_degrees(degrees, seed):
    rng = np.random.default_rng(seed)
    bins = degree_bins(np.array(degrees))
    assert len({bins[i] for i, degree in enumerate(degrees) if degree == 0}) <= 1
    permutation = permute_within(bins, rng)
    assert sorted(permutation) == list(range(len(bins)))
    np.testing.assert_array_equal(bins[permutation], bins)


def test_sources_go_by_aliases_and_know_their_direction():
    pathways = {"small": ["A", "B"], "large": [f"x{i}" for i in range(300)]}
    found = gene_sets(
        ["A", "B", "C"],
        {"network": sparse.csr_matrix(np.array([[0, 2.0, 0], [0, 0, 0], [0, 0, 0]]))},
        networks=None,
        regulons=pd.DataFrame({"source": ["A", "C_old"], "target": ["C_old", "B"]}),
        pathways=pathways,
        known=["pathways"],
        aliases={"C_old": "C"},
    )
    perturbed = np.eye(3, dtype=bool)
    neighbours, targets, together = (sets.of(perturbed).astype(int) for sets in found)
    np.testing.assert_array_equal(neighbours, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    np.testing.assert_array_equal(targets, [[0, 0, 1], [0, 0, 0], [0, 1, 0]])
    np.testing.assert_array_equal(together, [[0, 1, 0], [1, 0, 0], [0, 0, 0]])
    assert [sets.by_construction for sets in found] == [True, False, True]
