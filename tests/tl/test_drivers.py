"""The perturbation behind a shift is found, its direction too, and what is no shift is refused."""

from __future__ import annotations

import itertools

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp.tl import rank_drivers
from scapp.tl._candidates import Candidates
from scapp.tl._drivers import NOISE, Space, read_shift

QUIET = {"progress_bar": False, "n_permutations": 50}


@pytest.fixture(scope="module")
def singles(model):
    return [model.genes[node] for node in model.module.single_row]


def effect(model, label: str) -> pd.Series:
    genes = model.measured_genes
    return pd.Series(model.predict([label])[:, genes].layers["predicted_lfc"][0].astype(float), index=genes)


def noise(genes, seed: int, size: float = 1.0) -> pd.Series:
    return pd.Series(np.random.default_rng(seed).normal(scale=size, size=len(genes)), index=genes)


def test_a_planted_cause_comes_first_with_its_direction_and_dose(model, singles):
    for label, factor in ((singles[3], 2.0), (singles[5], -0.5)):
        shift = factor * effect(model, label)
        best = rank_drivers(model, shift + noise(shift.index, 0, 0.2 * shift.std()), **QUIET).iloc[0]
        assert best["perturbation"] == label
        assert best["direction"] == ("same" if factor > 0 else "opposite")
        assert 0.8 < best["score"] <= 1 and best["dose"] == pytest.approx(abs(factor), rel=0.15)
        assert best["p_value"] == best["p_adjusted"] == pytest.approx(1 / 51)
        assert 0 < best["score_std"] < 0.5


def test_reversing_a_shift_is_explaining_its_negative(model, singles):
    shift = effect(model, singles[0]) + noise(model.measured_genes, 1, 0.05)
    one = rank_drivers(model, shift, reverse=True, **QUIET)
    pd.testing.assert_frame_equal(one, rank_drivers(model, -shift, **QUIET))
    assert one["perturbation"][0] == singles[0] and one["direction"][0] == "opposite"
    same = rank_drivers(model, shift, reverse=True, direction="same", **QUIET)
    assert set(same["direction"]) == {"same"} and same["score"][0] < one["score"][0]


def test_pairs_that_were_held_out_are_found_from_their_measured_effects(model, effects, held_out, singles):
    pairs = ["+".join(pair) for pair in itertools.combinations(sorted(singles), 2)]
    asked = [label for label in held_out if label in pairs]
    by_drivers, by_correlation = [], []
    lfc = model.predict(pairs)[:, model.measured_genes].layers["predicted_lfc"]
    for label in asked:
        shift = pd.Series(effects[label, model.measured_genes].layers["lfc"][0], index=model.measured_genes)
        table = rank_drivers(model, shift, perturbations=pairs, direction="same", n_best=len(pairs), **QUIET)
        by_drivers.append(table["perturbation"].tolist().index(label))
        correlation = np.array([np.corrcoef(row, shift)[0, 1] for row in lfc])
        by_correlation.append((correlation > correlation[pairs.index(label)]).sum())
    assert len(asked) > 10
    # One pair that the model predicts badly may have any rank; most are found.
    assert np.mean(np.array(by_drivers) == 0) >= 0.8
    assert np.mean(np.array(by_drivers) < 3) >= np.mean(np.array(by_correlation) < 3) - 0.05


def test_the_score_is_that_of_the_formula(model, singles):
    genes = model.measured_genes[::2]
    shift = effect(model, singles[2])[genes] + noise(genes, 3, 0.1)
    se = np.random.default_rng(4).uniform(0.05, 0.3, len(genes))
    effects = ad.AnnData(shift.to_numpy()[None], var=pd.DataFrame(index=genes), obs=pd.DataFrame(index=["patients"]))
    effects.layers["lfc"], effects.layers["lfc_se"] = effects.X.copy(), se[None]
    found = rank_drivers(model, effects, perturbations=singles, direction="same", n_best=len(singles), **QUIET)

    predicted = model.predict(singles)[:, genes]
    lfc = predicted.layers["predicted_lfc"].astype(float)
    unit = np.sqrt(np.mean(lfc**2) / np.mean(shift**2))
    sd = np.sqrt(np.mean(predicted.layers["predicted_lfc_std"].astype(float) ** 2, axis=0))
    factors = model.module.error_factors(combined=False).numpy()[:, ::2]
    together = factors.T @ factors
    np.fill_diagonal(together, np.maximum(1, np.diag(together)))
    inverse = np.linalg.inv(sd[:, None] * together * sd + np.diag(np.square(unit * se)))
    s = shift.to_numpy()
    expected = [s @ inverse @ m / np.sqrt((s @ inverse @ s) * (m @ inverse @ m)) for m in lfc]
    expected = pd.Series(expected, index=singles).sort_values(ascending=False)
    assert found["perturbation"].tolist() == expected.index.tolist()
    np.testing.assert_allclose(found["score"], expected, rtol=1e-5)
    dose = {label: s @ inverse @ m / (m @ inverse @ m) for label, m in zip(singles, lfc, strict=True)}
    np.testing.assert_allclose(found["dose"], [dose[label] for label in found["perturbation"]], rtol=1e-5)


def test_neither_the_unit_of_the_shift_nor_the_size_of_batches_matters(model, singles):
    shift = effect(model, singles[1]) + noise(model.measured_genes, 5, 0.1)
    table = rank_drivers(model, shift, **QUIET)
    for other in (rank_drivers(model, shift / np.log(2), **QUIET), rank_drivers(model, shift, batch_size=3, **QUIET)):
        assert other["perturbation"].tolist() == table["perturbation"].tolist()
        np.testing.assert_allclose(other["score"], table["score"], rtol=1e-5)
        np.testing.assert_array_equal(other["p_value"], table["p_value"])
    np.testing.assert_allclose(
        rank_drivers(model, shift / np.log(2), **QUIET)["dose"], table["dose"] / np.log(2), rtol=1e-5
    )


def test_a_gene_whose_shift_is_uncertain_does_not_decide(model, singles):
    genes = model.measured_genes
    shift = effect(model, singles[4])
    wrong = shift.copy()
    wrong.iloc[:5] += 30 * shift.std()
    se = np.full(len(genes), 0.2 * shift.std())
    se[:5] = 100 * shift.std()
    effects = ad.AnnData(wrong.to_numpy()[None], var=pd.DataFrame(index=genes), obs=pd.DataFrame(index=["patients"]))
    effects.layers["lfc"], effects.layers["lfc_se"] = effects.X.copy(), se[None]
    certain = rank_drivers(model, effects, **QUIET).iloc[0]
    assert certain["perturbation"] == singles[4] and certain["score"] > 0.9
    del effects.layers["lfc_se"]
    assert rank_drivers(model, effects, **QUIET)["score"][0] < 0.7


def test_a_shift_of_errors_alone_has_no_cause(model, singles):
    shift = read_shift(noise(model.measured_genes, 0), model.measured_genes)
    candidates = Candidates.read(model, singles, genes=None, order=1)
    space = Space.of(candidates, shift, None, 100)
    sigma = np.linalg.inv(space.whiten(space.whiten(np.eye(len(shift.lfc))).T))
    root, p_values, adjusted = np.linalg.cholesky(sigma), [], []
    for seed in range(40):
        drawn = root @ np.random.default_rng(seed).normal(size=len(sigma))
        table = rank_drivers(
            model, pd.Series(drawn, index=model.measured_genes), perturbations=singles, n_best=len(singles),
            n_permutations=40, progress_bar=False,
        )  # fmt: skip
        p_values += table["p_value"].tolist()
        adjusted.append(table["p_adjusted"].min())
    assert 0.4 < np.mean(p_values) < 0.6
    assert np.mean(np.array(adjusted) <= 0.05) <= 0.2
    assert NOISE > 0


def test_cells_of_two_groups_become_a_shift_by_pseudobulk(simulated, model, singles):
    cells, _ = simulated
    label = singles[7]
    two = cells[cells.obs["perturbation"].isin(["control", label])].copy()
    two.obs["disease"] = np.where(two.obs["perturbation"] == label, "patient", "healthy")
    shift = scapp.pp.pseudobulk(two, perturbation_key="disease", control="healthy")
    assert "lfc_se" in shift.layers
    before = shift.copy()
    table = rank_drivers(model, shift, **QUIET)
    assert label in table["perturbation"][:3].tolist() and table["p_adjusted"][0] < 0.05
    np.testing.assert_array_equal(shift.layers["lfc"], before.layers["lfc"])


def test_single_candidates_are_all_genes_that_something_is_known_of(model, singles):
    shift = noise(model.measured_genes, 2)
    table = rank_drivers(model, shift, n_best=10_000, **QUIET)
    assert set(table["perturbation"]) == set(model.informed_genes) and set(singles) <= set(model.informed_genes)
    assert not table["uninformed"].any()
    assert table["score"].is_monotonic_decreasing and table["score"].between(0, 1).all()
    assert list(table.columns) == [
        "perturbation", "direction", "score", "score_std", "dose", "p_value", "p_adjusted", "n_perturbed_genes",
        "in_training", "n_singles_measured", "uninformed",
    ]  # fmt: skip
    pairs = rank_drivers(model, shift, order=2, genes=singles[:4], **QUIET)
    assert len(pairs) == 6 and (pairs["n_perturbed_genes"] == 2).all()


def test_what_the_gene_itself_does_is_said_where_the_screen_says_it(effects, make):
    model = make(effects.copy(), kind="interference")
    shift = noise(model.measured_genes, 6)
    table = rank_drivers(model, shift, **QUIET)
    assert ((table["direction"] == "same") == (table["activity"] == "lower")).all()
    assert set(table["activity"]) == {"lower", "higher"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.set_axis([f"ENSG{i:011d}" for i in range(len(s))]), r"(?s)0 of the .* genes of the shift.*Bring both|has Ensembl ids"),
        (lambda s: np.exp(s), "np.log"),
        (lambda s: s * 1e4, "stay far below"),
        (lambda s: s.where(s.index != s.index[3]), r"dropna\(\)"),
        (lambda s: s * 0, "nothing to explain"),
        (lambda s: pd.concat([s, s.iloc[:2]]), "more than once"),
        (lambda s: s.iloc[:4], "4 of the 4 genes"),
    ],
)  # fmt: skip
def test_what_is_no_shift_of_these_genes_is_refused_with_the_mend(model, change, message):
    with pytest.raises(ValueError, match=message):
        rank_drivers(model, change(noise(model.measured_genes, 7)), **QUIET)


def test_a_shift_of_another_form_is_refused_with_the_mend(model, effects, simulated):
    with pytest.raises(TypeError, match=r"pp\.read_effects"):
        rank_drivers(model, noise(model.measured_genes, 7).to_frame(), **QUIET)
    with pytest.raises(TypeError, match="indexed by gene"):
        rank_drivers(model, noise(model.measured_genes, 7).to_numpy(), **QUIET)
    with pytest.raises(ValueError, match="expected one. Choose it with"):
        rank_drivers(model, effects, **QUIET)
    with pytest.raises(ValueError, match=r"pp\.pseudobulk"):
        rank_drivers(model, simulated[0], **QUIET)
    with pytest.raises(TypeError, match=r"scapp\.model\.APP"):
        rank_drivers(effects, noise(model.measured_genes, 7), **QUIET)
    with pytest.raises(ValueError, match="direction must be.*found 'up'"):
        rank_drivers(model, noise(model.measured_genes, 7), direction="up", **QUIET)
    with pytest.raises(ValueError, match="n_permutations must be"):
        rank_drivers(model, noise(model.measured_genes, 7), n_permutations=0)
    with pytest.raises(ValueError, match="not among the"):
        rank_drivers(model, noise(model.measured_genes, 7), perturbations=["NOGENE"], **QUIET)


def test_few_genes_in_common_are_warned_of(model):
    with pytest.warns(UserWarning, match="only these are compared"):
        rank_drivers(model, noise(model.measured_genes[:20], 8), **QUIET)


def of_one_observation(model, **layers) -> ad.AnnData:
    genes = model.measured_genes
    lfc = noise(genes, 0).to_numpy()[None]
    return ad.AnnData(var=pd.DataFrame(index=genes), obs=pd.DataFrame(index=["s"]), layers={"lfc": lfc, **layers})


def test_sparse_layers_are_the_same_shift(model):
    errors = np.full((1, len(model.measured_genes)), 0.1)
    dense = of_one_observation(model, lfc_se=errors)
    thin = of_one_observation(model, lfc_se=sparse.csr_matrix(errors))
    thin.layers["lfc"] = sparse.csc_matrix(dense.layers["lfc"])
    one, other = (read_shift(shift, model.measured_genes) for shift in (dense, thin))
    np.testing.assert_array_equal(one.lfc, other.lfc)
    np.testing.assert_array_equal(one.se, other.se)


def test_genes_that_effects_did_not_measure_do_not_count(model):
    shift = of_one_observation(model)
    measured = np.arange(shift.n_vars) % 4 > 0
    shift.var["measured"] = measured
    found = read_shift(shift, model.measured_genes)
    np.testing.assert_array_equal(found.columns, np.flatnonzero(measured))


@pytest.mark.parametrize("value", [-0.1, np.inf])
def test_standard_errors_that_cannot_be_true_are_refused(model, value):
    errors = np.full((1, len(model.measured_genes)), 0.1)
    errors[0, 2] = value
    with pytest.raises(
        ValueError, match=f"1 standard errors.*negative or infinite, of {model.measured_genes[2]}.*lfc_se"
    ):
        read_shift(of_one_observation(model, lfc_se=errors), model.measured_genes)


def test_missing_standard_errors_and_infinite_values_are_not_dropped_in_silence(model):
    genes = model.measured_genes
    errors = np.full((1, len(genes)), 0.1)
    errors[0, 2] = np.nan
    with pytest.warns(UserWarning, match=rf"1 genes of the shift have no standard error \({genes[2]}\)"):
        assert read_shift(of_one_observation(model, lfc_se=errors), genes).se is None
    shift = of_one_observation(model)
    shift.layers["lfc"][0, 3] = np.inf
    with pytest.raises(ValueError, match=f"1 values of the shift are not finite numbers, of {genes[3]}"):
        read_shift(shift, genes)


def test_a_short_list_of_known_genes_is_said_to_be_short(model):
    for n in (0, 8):
        with pytest.raises(ValueError, match=rf"{n} of the {n} genes of the shift.*at least 10 are needed.*all genes"):
            read_shift(noise(model.measured_genes[:n], 0), model.measured_genes)
