"""The attention to measured perturbations is tested as it says: hidden from itself, learned on halves, against the truth."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

import scapp
from scapp.model import APP
from scapp.tl import _measured_checks as checks


@pytest.fixture(scope="module")
def screen() -> SimpleNamespace:
    """True effects of regulators in 8 modules, with their network, and a model of them."""
    _, truth = scapp.datasets.simulated_perturb_seq(
        n_genes=200,
        n_regulators=64,
        n_singles=64,
        n_doubles=0,
        n_modules=8,
        n_cells_per_perturbation=4,
        n_control_cells=20,
    )
    effects = truth.effects.copy()
    scapp.pp.add_network(effects, truth.network, directed=True)
    return SimpleNamespace(effects=effects, truth=truth, model=fit(effects))


def fit(effects, **options) -> APP:
    APP.setup_anndata(effects, control=None, layer="lfc")
    model = APP(effects, **options)
    model.train(enable_progress_bar=False)
    return model


def table(model: APP, nodes=None, **options) -> pd.DataFrame:
    """What the public function says of some perturbations, or of those of the training."""
    names = None if nodes is None else ["+".join(model.genes[node] for node in genes) for genes in nodes]
    given = {"n_top": 6, "n_permutations": 200, **options}
    found = scapp.tl.attention_checks(model, names, of="perturbations", **given)
    return found.set_index(["check", "statistic", "source"])


def test_a_planted_network_is_found(screen):
    found = table(screen.model)
    truth = found.loc["truth"]
    assert truth["value"].iloc[0] > 0.7
    assert truth["p_value"].iloc[0] < 0.01
    assert found.loc[("stability", "rank correlation, learned over prior", "halves"), "p_value"] < 0.01
    assert (found["n"] <= 64).all()


def test_no_perturbation_sees_its_own_effect(screen):
    module = screen.model.module
    nodes = module.perturbations[:5]
    own = np.zeros((5, 64), dtype=bool)
    own[np.arange(5), np.arange(5)] = True
    (found,) = checks.masked_attention(module, [module.attention], nodes, own)
    assert (found[own] == 0).all()
    assert (found[~own] > 0).all()
    assert (found.sum(axis=1) < 1).all()
    (seen,) = checks.masked_attention(module, [module.attention], nodes, ~own & own)
    rest = seen[~own].reshape(5, -1)
    np.testing.assert_array_equal(rest.argmax(axis=1), found[~own].reshape(5, -1).argmax(axis=1))


def test_each_half_learns_from_its_own_perturbations_and_the_model_stays_as_it_was(screen):
    module = screen.model.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    a, b = checks.learn_halves(module)
    assert not torch.allclose(a.common, b.common)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert abs(int((a.fold == 0).sum()) - int((a.fold == 1).sum())) <= 1


@pytest.mark.parametrize("options", [{}, {"closed_form": False}], ids=str)
def test_left_out_predictions_with_attention_are_a_mixture_by_its_share(screen, options):
    model = fit(screen.effects, **options)
    halves = checks.learn_halves(model.module)
    observed, without, together = checks.left_out(model.module, halves)
    assert observed.shape == without.shape == together.shape
    share = float(model.module.share)
    attended = torch.stack([half.left_out() for half in halves])[halves[0].fold, torch.arange(len(observed))].numpy()
    np.testing.assert_allclose(together, (1 - share) * without + share * attended, atol=1e-9)
    dependence = table(model).loc["dependence"]
    errors = [np.linalg.norm(observed - x, axis=1).mean() for x in (without, together)]
    np.testing.assert_allclose(dependence["value"].iloc[2], 1 - errors[1] / errors[0], atol=1e-6)


def test_the_area_is_that_of_the_truly_most_alike(screen):
    rng = np.random.default_rng(0)
    effects, scores = rng.normal(size=(12, 7)), {"attention": rng.random((12, 12)), "prior": rng.random((12, 12))}
    rows = checks._truth(effects, list(range(12)), scores, 3, 20, rng)
    expected = []
    for i in range(12):
        others = np.arange(12) != i
        cosine = effects @ effects[i] / np.linalg.norm(effects, axis=1)
        positive = np.isin(np.arange(12), np.flatnonzero(others)[np.argsort(-cosine[others])[:3]])[others]
        expected.append([roc_auc_score(positive, values[i][others]) for values in scores.values()])
    attention, prior = np.mean(expected, axis=0)
    np.testing.assert_allclose([row["value"] for row in rows], [attention, attention - prior])


def test_unmeasured_perturbations_have_no_truth(screen):
    node = next(i for i in range(200) if i not in screen.model.module.single_row)
    assert "truth" not in table(screen.model, [(node,)]).index.get_level_values("check")


@pytest.mark.parametrize("options", [{"attention": False}, {"preset": "paper"}], ids=str)
def test_models_without_attention_to_perturbations_say_so(screen, options):
    APP.setup_anndata(screen.effects, control=None, layer="lfc")
    model = APP(screen.effects, **options)
    model.train(max_epochs=0)
    with pytest.raises(ValueError, match="does not attend to measured perturbations|made without attention"):
        table(model)


def test_bad_input_is_refused_with_a_mend(screen):
    with pytest.raises(ValueError, match="n_top must be from 1 to 62"):
        table(screen.model, n_top=63)
    with pytest.raises(ValueError, match="n_permutations must be at least 1"):
        table(screen.model, n_permutations=0)
    with pytest.raises(ValueError, match="one model and no sources"):
        table(screen.model, pathways={"p": ["G001", "G002"]})
    with pytest.raises(ValueError, match="of must be 'genes' or 'perturbations'"):
        scapp.tl.attention_checks(screen.model, of="cells")


def test_a_model_loaded_without_data_is_tested_as_well(screen, tmp_path):
    screen.model.save(tmp_path / "m")
    pd.testing.assert_frame_equal(table(APP.load(tmp_path / "m", adata=False)), table(screen.model), rtol=1e-6)
