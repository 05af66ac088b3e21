"""The change of a target that nobody perturbed alone follows what others of its kind did to theirs."""

from __future__ import annotations

import mudata
import numpy as np
import pandas as pd
import pytest
import scvi

import scapp
from scapp.model import APP
from scapp.model._target_effect import TargetEffect

DOWN = [f"g{i}" for i in range(16)]


def own(adata, direction=-1.0):
    """Each single shifts its own gene by 0.2 + 0.6 of its expression in control cells."""
    adata = adata.copy()
    for i, label in enumerate(adata.obs_names):
        for gene in label.split("+"):
            j = adata.var_names.get_loc(gene)
            adata.layers["lfc"][i, j] = direction * (0.2 + 0.6 * adata.var["control_mean"].iloc[j])
    return adata


def at(predicted, label, gene, layer="predicted_lfc"):
    return float(predicted[label, gene].layers[layer][0, 0])


def test_the_own_effect_is_the_line_in_the_control_mean_and_nothing_else_changes(effects, make):
    adata = own(effects)
    model = make(adata, setup={"kind": "CRISPRi"})
    without = make(adata)
    names = ["g20", "g25", "g20+g3", "g4"]
    found, plain = model.predict(names), without.predict(names)
    for gene in ("g20", "g25"):
        expected = -(0.2 + 0.6 * adata.var["control_mean"][gene])
        assert at(found, gene, gene) == pytest.approx(expected, abs=1e-4)
        assert at(found, gene, gene, "predicted_lfc_std") < 1e-3
    assert at(found, "g20+g3", "g20") == at(found, "g20", "g20")
    # Genes that were measured alone keep their measurement, and all other genes their prediction.
    differs = found.layers["predicted_lfc"] != plain.layers["predicted_lfc"]
    assert {(names[i], found.var_names[j]) for i, j in np.argwhere(differs)} == {
        ("g20", "g20"),
        ("g25", "g25"),
        ("g20+g3", "g20"),
    }
    np.testing.assert_array_equal(found.layers["attention"], plain.layers["attention"])


def test_a_line_that_predicts_left_out_targets_worse_gives_way_to_the_mean(effects, make):
    adata = effects.copy()
    rng = np.random.default_rng(1)
    noise = -1 + 0.2 * rng.normal(size=16)
    adata.layers["lfc"][np.arange(16), np.arange(16)] = noise
    adata.var["control_mean"] = 1.0 + np.arange(40) % 2 * 1e-3 + 1.0  # nearly constant, and unrelated
    adata.var["control_mean"] += np.r_[1.0, np.zeros(39)]  # one of great leverage
    found = make(adata, setup={"kind": "interference"}).predict(["g20"])
    assert at(found, "g20", "g20") == pytest.approx(noise.mean(), abs=1e-5)
    left_out = (noise - noise.mean()) * 16 / 15
    assert at(found, "g20", "g20", "predicted_lfc_std") == pytest.approx(np.sqrt((left_out**2).mean()), rel=1e-5)


def test_expression_cannot_fall_below_zero_nor_interference_raise_its_target(effects, make):
    adata = own(effects)
    adata.var.loc["g20", "control_mean"] = 0.1
    model = make(adata, setup={"kind": "interference"})
    assert at(model.predict(["g20"]), "g20", "g20") == pytest.approx(-0.1)
    up = make(own(effects, 1.0), setup={"kind": "interference"})  # the wrong kind: said to be down, and is up
    assert at(up.predict(["g20"]), "g20", "g20") == 0


def test_a_mixed_screen_predicts_by_the_kind_that_is_asked(effects, make):
    adata = own(effects)
    up = [i for i in range(16) if i % 2]
    adata.layers["lfc"][up, up] *= -1
    adata.obs["kind"] = ["CRISPRa" if label in {f"g{i}" for i in up} else "CRISPRi" for label in adata.obs_names]
    model = make(adata, setup={"kind": "kind"})
    expected = 0.2 + 0.6 * adata.var["control_mean"]["g20"]
    assert at(model.predict(["g20"], kind="activation"), "g20", "g20") == pytest.approx(expected, abs=1e-4)
    assert at(model.predict(["g20"], kind="CRISPRi"), "g20", "g20") == pytest.approx(-expected, abs=1e-4)
    assert at(model.predict(["g20"]), "g20", "g20") == at(make(adata).predict(["g20"]), "g20", "g20")
    with pytest.raises(ValueError, match="kind='knockout'.*these kinds: 'interference', 'activation'"):
        model.predict(["g20"], kind="knockout")
    with pytest.raises(ValueError, match="these kinds: none.*set-up"):
        make(adata).predict(["g20"], kind="activation")


def test_the_kind_is_saved_with_the_model(effects, make, tmp_path):
    adata = own(effects)
    model = make(adata, setup={"kind": "interference"})
    model.save(tmp_path / "model")
    again = APP.load(tmp_path / "model", adata=False)
    np.testing.assert_array_equal(
        again.predict(["g20"]).layers["predicted_lfc"], model.predict(["g20"]).layers["predicted_lfc"]
    )
    fresh = own(effects)
    APP.load(tmp_path / "model", adata=fresh).predict()
    assert np.isfinite(fresh.layers["predicted_lfc"]).all()


def test_kinds_are_read_from_cells_and_from_a_mudata(simulated):
    cells = simulated[0].copy()
    options = {"batch_key": "batch", "kind": "perturbation_type"}
    APP.setup_anndata(cells, **options)
    kinds = APP(cells)._registered.kinds
    assert set(kinds) == {"interference", "activation", ""}
    with mudata.set_options(pull_on_update=False):
        mdata = mudata.MuData({"rna": cells.copy(), "other": cells[:, :2].copy()})
    del mdata["rna"].obs["perturbation_type"]
    modalities = {"layer": "rna", "perturbation_key": "rna", "batch_key": "rna", "kind": "other"}
    APP.setup_mudata(mdata, modalities=modalities, **options)
    assert APP(mdata)._registered.kinds == kinds


def test_kinds_that_cannot_be_read_are_refused(effects, simulated):
    with pytest.raises(ValueError, match="neither 'knockout', 'interference' nor 'activation', nor a column"):
        APP.setup_anndata(effects, control=None, layer="lfc", kind="magic")
    effects.obs["kind"] = ["CRISPRi"] * 15 + ["?"] * (effects.n_obs - 15)
    with pytest.raises(ValueError, match=r"1 perturbation\(s\) of a single gene, or says several: g15"):
        APP.setup_anndata(effects, control=None, layer="lfc", kind="kind")
    cells = simulated[0].copy()
    cells.obs["kind"] = np.where(np.arange(cells.n_obs) % 2, "CRISPRi", "CRISPRa")
    with pytest.raises(ValueError, match="says several"):
        APP.setup_anndata(cells, kind="kind")


def test_a_kind_that_the_data_contradict_is_said(effects, simulated, recwarn):
    down = own(effects)
    APP.setup_anndata(down, control=None, layer="lfc", kind="CRISPRi")
    mixed = simulated[0].copy()
    APP.setup_anndata(mixed, batch_key="batch", kind="perturbation_type")
    assert not [w for w in recwarn if "measured targets" in str(w.message)]
    with pytest.warns(
        UserWarning, match=r"kind='CRISPRa' says 'activation', but 1\d of 16 measured targets.*went down"
    ):
        APP.setup_anndata(down, control=None, layer="lfc", kind="CRISPRa")
    turned = {"knockdown": "activation", "activation": "knockdown"}
    mixed.obs["turned"] = mixed.obs["perturbation_type"].astype(str).replace(turned)
    with pytest.warns(UserWarning, match=r"adata.obs\['turned'\] says 'interference'.*went up"):
        APP.setup_anndata(mixed, batch_key="batch", kind="turned")


def test_too_few_measured_targets_give_no_estimate(effects, make):
    few = own(effects)[["g0", "g1", "g2", "g3", "g4"]].copy()
    model = make(few[:4].copy(), setup={"kind": "interference"})
    assert TargetEffect.fit(model._registered, model.module.targets.numpy()).lines == {}
    assert np.isfinite(model.predict(["g20"]).layers["predicted_lfc"]).all()


def test_on_norman_the_own_effect_of_held_out_genes_is_predicted(shared_data):
    effects = scapp.benchmark.norman_doubles(shared_data).effects
    singles = effects[effects.obs["n_perturbed_genes"] == 1]
    held_out = singles.obs_names[np.random.default_rng(0).permutation(singles.n_obs)[:26]]
    train = singles[~singles.obs_names.isin(held_out)].copy()
    train = scapp.pp.add_unmeasured_genes(train, genes=list(held_out), control=None)
    rng = np.random.default_rng(0)
    edges = pd.DataFrame({end: rng.choice(train.var_names, 3000) for end in ("source", "target")})
    scapp.pp.add_network(train, edges.drop_duplicates(), control=None)
    scvi.settings.seed = 0
    error, length = {}, {}
    for kind in (None, "CRISPRa"):
        APP.setup_anndata(train, control=None, layer="lfc", kind=kind)
        model = APP(train)
        model.train(max_epochs=0)  # what has a closed form
        found = model.predict(list(held_out))
        measured = [gene for gene in held_out if gene in singles.var_names]
        true = np.array([singles[gene, gene].layers["lfc"][0, 0] for gene in measured])
        error[kind] = np.abs(np.array([at(found, gene, gene) for gene in measured]) - true).mean()
        residual = found[:, singles.var_names].layers["predicted_lfc"] - singles[list(held_out)].layers["lfc"]
        length[kind] = np.linalg.norm(residual, axis=1).mean()
    assert len(measured) > 10
    assert error["CRISPRa"] < 0.5 * error[None]
    assert length["CRISPRa"] < length[None]
