"""The best of many perturbations are those that scoring all of them at once finds."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

import scapp
from scapp import metrics
from scapp.tl import screen

QUIET = {"progress_bar": False}


@pytest.fixture(scope="module")
def singles(model):
    return [model.genes[node] for node in model.module.single_row]


@pytest.fixture(scope="module")
def pairs(singles):
    return ["+".join(pair) for pair in itertools.combinations(singles, 2)]


@pytest.fixture(scope="module")
def predicted(model, pairs):
    return model.predict(pairs)


@pytest.fixture(scope="module")
def signature(model):
    values = np.random.default_rng(0).normal(size=len(model.genes))
    return pd.Series(values, index=model.genes)


def expected_scores(predicted, signature, metric):
    lfc = predicted[:, signature.index].layers["predicted_lfc"]
    wanted = np.tile(signature.to_numpy(), (len(lfc), 1))
    return {
        "cosine": lambda: metrics.cosine(lfc, wanted),
        "pearson": lambda: metrics.pearson_delta(lfc, wanted),
        "l2": lambda: -metrics.l2(lfc, wanted),
        "dot": lambda: (lfc * wanted).sum(axis=1),
    }[metric]()


@pytest.mark.parametrize("metric", ["cosine", "pearson", "l2", "dot"])
@pytest.mark.parametrize("batch_size", [7, 1000])
def test_the_best_pairs_are_those_of_scoring_all_of_them(model, pairs, predicted, signature, metric, batch_size):
    part = signature.iloc[::3].sample(frac=1, random_state=0)
    found = screen(model, objective=part, metric=metric, n_best=9, batch_size=batch_size, **QUIET)
    scores = pd.Series(expected_scores(predicted, part, metric), index=pairs).sort_values(ascending=False)
    assert found["perturbation"].tolist() == scores.index[:9].tolist()
    np.testing.assert_allclose(found["score"], scores[:9], rtol=1e-4)
    assert (found["score_std"] > 0).all()


def test_the_rows_say_what_predict_says_of_them(model, predicted, signature):
    found = screen(model, objective=signature, n_best=12, **QUIET).set_index("perturbation")
    columns = ["n_perturbed_genes", "in_training", "n_singles_measured", "uninformed"]
    pd.testing.assert_frame_equal(found[columns], predicted.obs.loc[found.index, columns], check_names=False)
    assert found.columns.tolist() == ["score", "score_std", *columns]


@pytest.mark.parametrize("order", [1, 3])
def test_singles_and_triples_of_chosen_genes_are_scored_too(model, singles, signature, order):
    genes = singles[:6][::-1]
    found = screen(model, genes=[*genes, genes[0]], order=order, objective=signature, n_best=100, **QUIET)
    names = ["+".join(sorted(p)) for p in itertools.combinations(genes, order)]
    assert sorted(found["perturbation"]) == sorted(names)
    expected = expected_scores(model.predict(found["perturbation"]), signature, "cosine")
    np.testing.assert_allclose(found["score"], expected, rtol=1e-4)
    assert found["score"].is_monotonic_decreasing


def test_labels_keep_their_spelling_and_may_differ_in_size(model, singles, signature):
    a, b, c = singles[:3]
    labels = [f"{b}+{a}", c, f"{c}+{b}+{a}", f"{a}+ctrl"]
    found = screen(model, (label for label in labels), objective=signature, **QUIET)
    assert set(found["perturbation"]) == set(labels)
    assert found.set_index("perturbation").loc[labels, "n_perturbed_genes"].tolist() == [2, 1, 3, 1]


def test_a_module_is_the_mean_of_the_genes_that_go_up_minus_that_of_those_that_go_down(model, predicted, pairs):
    up, down = model.genes[5:9], model.genes[30:50]
    lfc = predicted.to_df("predicted_lfc")
    expected = (lfc[up].mean(axis=1) - lfc[down].mean(axis=1)).sort_values(ascending=False)
    found = screen(model, objective={"up": up, "down": down}, n_best=5, **QUIET)
    assert found["perturbation"].tolist() == expected.index[:5].tolist()
    np.testing.assert_allclose(found["score"], expected[:5], rtol=1e-4)
    only_up = screen(model, objective=up, n_best=5, **QUIET)
    np.testing.assert_allclose(only_up["score"], lfc[up].mean(axis=1).nlargest(5), rtol=1e-4)


def test_a_function_sees_measured_genes_by_name(effects, make):
    full = scapp.pp.add_unmeasured_genes(effects, ["NEW"], control=None)
    network = full.varp["network"].tolil()
    network[full.n_vars - 1, 0] = 1
    full.varp["network"] = network.tocsr()
    model = make(full)
    seen = []

    def objective(lfc):
        seen.append(lfc.columns.tolist())
        return -lfc["G007"]

    found = screen(model, objective=objective, genes=["NEW", "G001", "G002"], n_best=2, **QUIET)
    assert "NEW" not in seen[0] and len(seen[0]) == effects.n_vars
    lfc = model.predict(["NEW+G001", "NEW+G002", "G001+G002"])[:, "G007"].layers["predicted_lfc"]
    np.testing.assert_allclose(found["score"], np.sort(-lfc.ravel())[::-1][:2], rtol=1e-4)


@pytest.mark.filterwarnings("error")
def test_what_is_not_wanted_is_left_out_and_spoils_no_uncertainty(model):
    def only_up(lfc):
        return np.where(lfc["G001"] > lfc["G001"].median(), lfc["G001"], -np.inf)

    found = screen(model, objective=only_up, n_best=10_000, batch_size=50, **QUIET)
    everything = screen(model, objective=["G001"], n_best=10_000.0, batch_size=50, **QUIET)
    assert 0 < len(found) < len(everything)
    assert np.isfinite(found[["score", "score_std"]]).all().all()
    assert set(found["perturbation"]) <= set(everything["perturbation"])


def test_the_change_of_the_target_itself_is_that_of_predict(effects, make):
    mixed = make(effects, kind="perturbation_type")
    singles = effects[
        (effects.obs["n_perturbed_genes"] == 1) & (effects.obs["perturbation_type"] == "knockdown")
    ].copy()
    one_kind = make(singles, kind="CRISPRi")
    for model, kind in ((mixed, None), (mixed, "CRISPRi"), (mixed, "CRISPRa"), (one_kind, None)):
        unseen = [gene for gene in model.genes if gene not in set(effects.obs_names)][:3]
        for gene in unseen:
            found = screen(model, unseen, objective=[gene], kind=kind, **QUIET).set_index("perturbation")
            predicted = model.predict(unseen, kind=kind)[:, gene]
            np.testing.assert_allclose(found.loc[unseen, "score"], predicted.layers["predicted_lfc"][:, 0], atol=1e-5)
            own = found.loc[gene, "score_std"], predicted[gene].layers["predicted_lfc_std"][0, 0]
            np.testing.assert_allclose(*own, rtol=0.2)
    with pytest.raises(ValueError, match="kind='knockout'"):
        screen(mixed, unseen, objective=unseen, kind="knockout", **QUIET)


def test_of_equal_scores_the_first_are_kept(model, pairs):
    found = screen(model, objective=lambda lfc: np.zeros(len(lfc)), n_best=6, batch_size=4, **QUIET)
    assert found["perturbation"].tolist() == pairs[:6]


def test_planted_synergies_are_found_among_pairs_that_were_never_measured(model, effects, held_out):
    """The true effect of a held-out pair, as the wanted signature, leads to that pair or to one of the same modules."""
    ranks = []
    for name in held_out[:12]:
        wanted = pd.Series(effects[name].layers["lfc"][0], index=effects.var_names)
        found = screen(model, held_out, objective=wanted, metric="l2", n_best=len(held_out), **QUIET)
        ranks.append(found["perturbation"].tolist().index(name))
    # By chance the mean rank is half of the pairs.
    assert np.mean(ranks) < 0.15 * len(held_out)


def test_the_uncertainty_of_a_score_is_that_of_held_out_pairs(model, effects, held_out):
    """Errors of genes go together; taken as independent, they would make the mean of many genes look certain."""
    rng = np.random.default_rng(0)
    measured = effects[held_out].to_df("lfc")
    observed_z, independent_z = [], []
    for _ in range(8):
        genes = rng.choice(effects.var_names, 40, replace=False).tolist()
        found = screen(model, held_out, objective=genes, n_best=len(held_out), **QUIET).set_index("perturbation")
        error = measured.loc[found.index, genes].mean(axis=1) - found["score"]
        std = model.predict(found.index)[:, genes].layers["predicted_lfc_std"]
        observed_z.append(error / found["score_std"])
        independent_z.append(error / (np.sqrt(np.square(std).sum(axis=1)) / len(genes)))
    spread = np.sqrt(np.square(np.concatenate(observed_z)).mean())
    assert 0.6 < spread < 1.5
    assert abs(np.log(spread)) < abs(np.log(np.sqrt(np.square(np.concatenate(independent_z)).mean())))


def test_the_same_seed_gives_the_same_table(model, signature):
    a, b, other = (screen(model, objective=signature, n_best=5, seed=seed, **QUIET) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(a, b)
    assert not np.array_equal(a["score_std"], other["score_std"])
    np.testing.assert_array_equal(a["score"], other["score"])


def test_genes_of_a_signature_that_were_not_measured_are_named(model, signature):
    more = pd.concat([signature, pd.Series({"ELSEWHERE": 1.0})])
    with pytest.warns(UserWarning, match="1 of 121 of the genes of the signature.*ELSEWHERE"):
        found = screen(model, objective=more, n_best=3, **QUIET)
    pd.testing.assert_frame_equal(found, screen(model, objective=signature, n_best=3, **QUIET))


def series(**values):
    return pd.Series(values, dtype=object)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"objective": series(X=1.0, Y=2.0)}, ValueError, r"None of the genes of the signature \(X, Y\)"),
        ({"objective": series(g001=1.0)}, ValueError, "Is 'g001' 'G001'"),
        ({"objective": series(G001=np.nan)}, ValueError, "dropna"),
        ({"objective": series(G001="up")}, ValueError, "not finite numbers"),
        ({"objective": pd.Series([1.0, 2.0], index=["G001", "G001"])}, ValueError, "more than once"),
        ({"objective": series(G001=0.0, G002=0.0)}, ValueError, "0 for all of its 2 measured genes"),
        ({"objective": series(G001=1.0, G002=1.0), "metric": "pearson"}, ValueError, "'pearson'"),
        (
            {"objective": series(G001=1.0), "metric": "mse"},
            ValueError,
            "metric must be one of 'cosine', .*, found 'mse'",
        ),
        ({"objective": {}}, ValueError, "none"),
        ({"objective": {"up": []}}, ValueError, "nothing among the genes that go up"),
        ({"objective": {"G001": 1.0}}, ValueError, "pandas Series"),
        ({"objective": {"up": ["G001"], "down": ["G001"]}}, ValueError, "no perturbation can do both"),
        ({"objective": "G001"}, TypeError, "found the text"),
        ({"objective": {"up": "G001"}}, TypeError, r"found the text 'G001'. Pass \['G001'\]"),
        ({"objective": None}, TypeError, "found NoneType"),
        ({"objective": np.ones(3)}, TypeError, r"found ndarray.*pd.Series\(values, index=genes\)"),
        ({"objective": lambda lfc: np.full(len(lfc), -np.inf)}, ValueError, "-inf for all of the"),
        ({"objective": lambda lfc: lfc}, ValueError, "one number for each row"),
        ({"objective": lambda lfc: np.full(len(lfc), np.nan)}, ValueError, "-inf"),
        ({"pairs": []}, ValueError, "empty"),
        ({"pairs": ["G001+nothing"]}, ValueError, "nothing"),
        ({"pairs": ["G001", "G001"]}, ValueError, "more than once"),
        ({"pairs": "G001+G002"}, TypeError, "list of labels"),
        ({"pairs": ["G001"], "genes": ["G001"]}, ValueError, "either labels"),
        ({"genes": ["nothing", "G001"]}, ValueError, "nothing"),
        ({"genes": "G001"}, TypeError, "list of genes"),
        ({"genes": ["G001"]}, ValueError, "cannot be combined to 2"),
        ({"genes": []}, ValueError, "0 gene"),
        ({"order": 0}, ValueError, "order"),
        ({"n_best": 0}, ValueError, "n_best"),
        ({"n_best": 2.5}, ValueError, "n_best must be a whole number"),
        ({"batch_size": 0}, ValueError, "batch_size"),
    ],
)
def test_bad_input_is_told_what_was_expected(model, options, error, match):
    options = {"objective": ["G001"], **options}
    with pytest.raises(error, match=match):
        screen(model, options.pop("pairs", "all"), **options, **QUIET)


def test_other_models_and_untrained_ones_are_refused(effects):
    with pytest.raises(TypeError, match=r"scapp.model.APP, found Mean"):
        screen(scapp.baselines.Mean().fit(effects), objective=["G001"])
    scapp.model.APP.setup_anndata(effects, control=None, layer="lfc")
    with pytest.raises(RuntimeError, match="train"):
        screen(scapp.model.APP(effects), objective=["G001"])
