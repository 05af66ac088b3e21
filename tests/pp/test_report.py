"""Functions that write into annotated data return nothing, or a copy, and their reports are had again, also from a file."""

from __future__ import annotations

import logging

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.reports import OF

import scapp
from scapp import pp
from scapp.pp._report import Report

GENES = ["KLF1", "GATA1", "HBB", "HBG1", "TAL1", "SPI1"]


@pytest.fixture
def effects():
    labels = ["GATA1", "KLF1", "KLF1+TAL1"]
    lfc = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    return ad.AnnData(
        lfc,
        obs=pd.DataFrame({"perturbation": labels}, index=labels),
        var=pd.DataFrame(index=GENES),
        layers={"lfc": lfc.copy(), "lfc_se": np.full_like(lfc, 0.1)},
    )


@pytest.fixture
def cells():
    rng = np.random.default_rng(1)
    calls = np.array(["KLF1_1", "GATA1_2", "NTC_1", "KLF1_1|GATA1_2"])[np.arange(60) % 4]
    obs = pd.DataFrame({"guide_calls": calls, "perturbation": np.where(np.arange(60) < 40, "control", "KLF1")})
    counts = rng.poisson(rng.gamma(2, 5, size=(60, 1)) * np.ones(6)).astype(np.float32) + 1
    return ad.AnnData(counts, obs=obs.set_index(obs.index.map("c{}".format)), var=pd.DataFrame(index=GENES))


def calls(effects, cells):
    """Each function, with data and arguments of it."""
    other = effects.copy()
    other.obs_names = other.obs["perturbation"] = ["HBB", "HBG1", "TAL1"]
    other = ad.concat([other, effects[:2]], merge="same")
    other.layers["lfc"] = other.layers["lfc"][::-1].copy()
    edges = pd.DataFrame({"source": ["KLF1", "EKLF"], "target": ["HBB", "SPI1"], "weight": [1.0, -2.0]})
    return {
        "add_network": (effects, {"edges": edges, "aliases": {"EKLF": "KLF1"}}),
        "similarity_network": (effects, {"annotations": {"a": GENES[:3], "b": GENES[2:]}}),
        "coexpression_network": (cells, {"min_correlation": 0.01}),
        "add_gene_features": (effects, {"features": pd.DataFrame(np.eye(6)[:5], index=GENES[:5]), "key_added": "f"}),
        "add_effects_as_features": (effects, {"effects": other, "key_added": "o"}),
        "harmonize_genes": (effects, {"aliases": {"HBG1": "HBG2", "KLF1": "KLF1"}}),
        "guides_to_perturbations": (
            cells,
            {"calls_key": "guide_calls", "targets": r"(.+)_\d", "max_genes": 2, "key_added": "target"},
        ),
        "check_efficacy": (effects, {}),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", OF)
def test_a_call_returns_nothing_and_its_report_survives_a_file(effects, cells, name, tmp_path, caplog):
    function = getattr(pp, name)
    data, arguments = calls(effects, cells)[name]
    before = data.copy()
    with caplog.at_level(logging.INFO):
        changed = function(data, copy=True, **arguments)
    key = arguments.get("key_added")
    report = pp.report(changed, OF[name], key)
    assert [record.getMessage() for record in caplog.records].count(str(report)) == 1
    assert data.uns.get("scapp", {}) == before.uns.get("scapp", {})
    assert data.var_names.equals(before.var_names) and data.obs.equals(before.obs)
    assert function(data, **arguments) is None
    assert str(pp.report(data, OF[name], key)) == str(report)
    changed.write_h5ad(tmp_path / "a.h5ad")
    again = pp.report(ad.read_h5ad(tmp_path / "a.h5ad"), OF[name], key)
    assert type(again) is type(report) and str(again) == str(report)
    pd.testing.assert_frame_equal(again.to_frame(), report.to_frame())
    for field, value in again.to_dict().items():
        assert type(value) is type(report.to_dict()[field])


def test_reports_that_are_not_there_are_asked_for_in_vain(effects):
    with pytest.raises(ValueError, match="no report on 'network'"):
        pp.report(effects, "network")
    with pytest.raises(ValueError, match="what must be one of 'network', 'gene_features', .*, found 'net'"):
        pp.report(effects, "net")
    for key in ("a", "b"):
        pp.add_network(effects, [("KLF1", "HBB")], key_added=key)
    with pytest.raises(ValueError, match="several reports on 'network'. Name one of these with key=…: 'a', 'b'"):
        pp.report(effects, "network")
    with pytest.raises(ValueError, match="key='c' has no report on 'network'"):
        pp.report(effects, "network", "c")
    pp.add_network(effects, [("KLF1", "HBB"), ("KLF1", "SPI1")])
    assert pp.report(effects, "network").n_edges == 2 and pp.report(effects, "network", "a").n_edges == 1


@pytest.mark.parametrize("entry", ["text", {}, {"target": "symbol"}, {"report": {"n_worked": 1}, "params": {}}])
def test_reports_that_were_changed_are_told(effects, entry):
    for what, group in (("gene_names", "gene_names"), ("efficacy", "efficacy")):
        effects.uns["scapp"] = {group: entry}
        with pytest.raises(ValueError, match="cannot be read|no report on|must be a dictionary"):
            pp.report(effects, what)


def test_a_mudata_may_be_copied(tmp_path):
    mdata, _ = scapp.datasets.simulated_perturb_seq(
        n_genes=60, n_regulators=12, n_singles=6, n_doubles=2, n_cells_per_perturbation=6, return_mudata=True
    )
    labels = mdata["rna"].obs["perturbation"].copy()
    found = pp.guides_to_perturbations(mdata, targets="target_gene", max_genes=2, copy=True)
    assert "guide_status" in found["rna"].obs and "guide_status" not in mdata["rna"].obs
    assert mdata["rna"].obs["perturbation"].equals(labels)
    assert pp.report(found["rna"], "guides").n_cells == found.n_obs


def test_a_report_that_says_nothing_cannot_be_made(monkeypatch):
    monkeypatch.setattr(Report, "_kinds", {})

    class Silent(Report, what="network"):
        pass

    with pytest.raises(TypeError, match="_lines"):
        Silent()  # type: ignore[abstract]
