"""Public screens by name: the small ones on their real bytes, the large ones on small files in their format."""

from __future__ import annotations

import hashlib
import inspect
from dataclasses import replace

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp
from scapp import datasets
from scapp.datasets import _public
from scapp.datasets._tidy import tidy

TIDY = ["perturbation", "control", "n_perturbed_genes"]


def pairs(labels):
    return ["+".join(sorted(label.split("+"))) for label in labels]


@pytest.fixture(scope="session")
def originals(shared_data):
    return shared_data / "originals"


@pytest.fixture(params=["folder", "site"])
def options(request, originals, site, tmp_path):
    """The real files, from a folder where they lie and from a mirror."""
    if request.param == "folder":
        return {"folder": originals}
    for path in originals.iterdir():
        site.add(path.name, path.read_bytes())
    return {"folder": tmp_path, "base_url": site.url, "progress_bar": False}


def test_effects_of_norman_are_those_of_the_shared_file(options, shared_data):
    effects = datasets.norman_2019_effects(**options)
    expected = ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")
    np.testing.assert_array_equal(effects.X, expected.X)
    np.testing.assert_array_equal(effects.layers["lfc"], expected.layers["lfc"])
    assert effects.var_names.tolist() == expected.var_names.tolist()
    assert effects.obs_names.tolist() == expected.obs_names.tolist()
    assert effects.obs.columns.tolist() == [*TIDY, "both_singles_measured"]
    for name in ("perturbation", "n_perturbed_genes", "both_singles_measured"):
        assert effects.obs[name].tolist() == expected.obs[name].tolist()
    assert not effects.obs["control"].any()


def test_cells_of_norman_are_those_of_the_shared_file(options, shared_data):
    cells = datasets.norman_2019_cells_subset(**options)
    expected = ad.read_h5ad(shared_data / "norman_2019_cells_subset.h5ad")
    assert cells.shape == expected.shape
    assert cells.obs_names.tolist() == expected.obs_names.tolist()
    assert cells.var_names.tolist() == expected.var_names.tolist()
    np.testing.assert_allclose(cells.X.toarray(), expected.X.toarray(), rtol=0, atol=1e-6)
    assert cells.obs["perturbation"].tolist() == pairs(expected.obs["perturbation"])
    np.testing.assert_array_equal(cells.obs["ncounts"], expected.obs["ncounts"])
    assert cells.obs["control"].sum() == 100
    n_genes = [0 if label == "control" else label.count("+") + 1 for label in expected.obs["perturbation"]]
    assert cells.obs["n_perturbed_genes"].tolist() == n_genes
    assert sorted(cells.obs["batch"].unique()) == list("12345678")
    assert (cells.obs["batch"] == cells.obs_names.str[-1]).all()
    assert cells.obs.columns.tolist()[:4] == [*TIDY, "batch"]


def test_cells_of_norman_become_effects_as_they_are(originals, tmp_path):
    cells = datasets.norman_2019_cells_subset(folder=originals)
    cells.write_h5ad(tmp_path / "cells.h5ad")
    effects = scapp.pp.pseudobulk(ad.read_h5ad(tmp_path / "cells.h5ad"), batch_key="batch")
    assert effects.n_obs == 33


def test_originals_have_the_published_hashes_and_are_left_as_they_are(originals):
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in originals.iterdir()}
    datasets.norman_2019_effects(folder=originals)
    datasets.norman_2019_cells_subset(folder=originals)
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in originals.iterdir()} == before


@pytest.fixture(scope="session")
def scperturb(tmp_path_factory):
    """A small file as scPerturb publishes them."""
    labels = ["control", "KLF1", "CEBPA_KLF1", "OLD1_KLF1", "OLD1", "nan"] * 2
    obs = pd.DataFrame(
        {
            "gemgroup": [1] * 6 + [2] * 6,
            "perturbation": pd.Categorical(labels),
            "nperts": [0, 1, 2, 2, 1, 0] * 2,
            "ncounts": np.arange(12.0),
        },
        index=[f"cell{i}" for i in range(12)],
    )
    counts = sparse.csr_matrix(np.arange(36).reshape(12, 3).astype(np.float32))
    path = tmp_path_factory.mktemp("scperturb") / "screen.h5ad"
    ad.AnnData(counts, obs=obs, var=pd.DataFrame(index=["KLF1", "CEBPA", "HBG1"])).write_h5ad(path)
    return path


def publish(monkeypatch, site, names, content):
    """Let a source be a file of the site."""
    md5 = f"md5:{hashlib.md5(content).hexdigest()}"
    for name in names:
        file = getattr(_public, name)
        site.add(file.name, content)
        monkeypatch.setattr(_public, name, replace(file, url=f"{site.url}/{file.name}", known_hash=md5))


LOADERS = {
    datasets.norman_2019: "NORMAN",
    datasets.replogle_2022_k562_essential: "REPLOGLE_ESSENTIAL",
    datasets.replogle_2022_rpe1: "REPLOGLE_RPE1",
    datasets.replogle_2022_k562_gwps: "REPLOGLE_GWPS",
}


@pytest.mark.parametrize("backed", [False, True])
@pytest.mark.parametrize("load", LOADERS, ids=lambda load: load.__name__)
def test_files_of_scperturb_get_the_tidy_columns(load, backed, site, scperturb, tmp_path, monkeypatch, caplog):
    publish(monkeypatch, site, [LOADERS[load]], scperturb.read_bytes())
    cells = load(folder=tmp_path, progress_bar=False, backed=backed)
    assert cells.isbacked == backed
    assert cells.obs["perturbation"].tolist() == ["control", "KLF1", "CEBPA+KLF1", "KLF1+OLD1", "OLD1"] * 2
    assert cells.obs["control"].tolist() == [True, False, False, False, False] * 2
    assert cells.obs["n_perturbed_genes"].tolist() == [0, 1, 2, 2, 1] * 2
    assert cells.obs["batch"].tolist() == ["1"] * 5 + ["2"] * 5
    assert cells.obs["ncounts"].tolist() == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert "Left out 2 of 12 cells" in caplog.text
    effects = scapp.pp.pseudobulk(cells, min_cells=2)
    assert sorted(effects.obs_names) == ["CEBPA+KLF1", "KLF1", "KLF1+OLD1", "OLD1"]


class _Unpickled:
    def __reduce__(self):
        return pytest.fail, ("a pickle was loaded",)


def test_nothing_is_unpickled(site, tmp_path, monkeypatch):
    np.savez(tmp_path / "pickled.npz", **dict.fromkeys(_public._EFFECT_ARRAYS, np.array([_Unpickled()], dtype=object)))
    content = (tmp_path / "pickled.npz").read_bytes()
    md5 = f"md5:{hashlib.md5(content).hexdigest()}"
    file = replace(_public.NORMAN_EFFECTS, url=site.add("bundle.npz", content), known_hash=md5)
    monkeypatch.setattr(_public, "NORMAN_EFFECTS", file)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        datasets.norman_2019_effects(folder=tmp_path / "data", progress_bar=False)


def test_screens_of_adamson_are_chosen_by_name(site, scperturb, tmp_path, monkeypatch):
    content = scperturb.read_bytes()
    md5 = f"md5:{hashlib.md5(content).hexdigest()}"
    files = {
        name: replace(file, url=site.add(file.name, content), known_hash=md5) for name, file in _public.ADAMSON.items()
    }
    monkeypatch.setattr(_public, "ADAMSON", files)
    for screen, code in {"upr": "10X010", "upr_epistasis": "10X005", "pilot": "10X001"}.items():
        datasets.adamson_2016(screen=screen, folder=tmp_path, progress_bar=False)
        assert code in site.requests[-1][0]
    with pytest.raises(ValueError, match="no screen '10X7'.*'upr_epistasis'"):
        datasets.adamson_2016(screen="10X7", folder=tmp_path)


def test_a_truncated_file_is_said_to_be(site, scperturb, tmp_path, monkeypatch):
    publish(monkeypatch, site, ["NORMAN"], scperturb.read_bytes()[:4000])
    with pytest.raises(ValueError, match="NormanWeissman2019_filtered.h5ad' cannot be read.*Move it away"):
        datasets.norman_2019(folder=tmp_path, progress_bar=False)


def test_a_wrong_file_on_a_mirror_is_refused(site, scperturb, tmp_path):
    site.add("ReplogleWeissman2022_rpe1.h5ad", scperturb.read_bytes())
    with pytest.raises(ValueError, match="its hash is not md5:cc7f1ec5"):
        datasets.replogle_2022_rpe1(folder=tmp_path, base_url=site.url, progress_bar=False)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="session")
def eccite(tmp_path_factory):
    """A small file as pertpy publishes the screen of Papalexi et al."""
    index = [f"cell{i}" for i in range(4)]
    obs = pd.DataFrame(
        {
            "perturbation": ["NT", "KO", "NP", "NT"],
            "gene_target": ["NT", "IRF1", "STAT1", "NT"],
            "replicate": [1, 1, 2, 2],
        },
        index=index,
    ).astype({"perturbation": "category"})
    rna = ad.AnnData(
        sparse.csr_matrix(np.eye(4, 2, dtype=np.float32)), obs=obs, var=pd.DataFrame(index=["IRF1", "STAT1"])
    )
    gdo = ad.AnnData(np.ones((4, 3), dtype=np.float32), obs=pd.DataFrame(index=index))
    path = tmp_path_factory.mktemp("eccite") / "papalexi.h5mu"
    mudata.MuData({"rna": rna, "gdo": gdo}).write(path)
    return path


def test_papalexi_keeps_its_modalities_and_says_that_it_cannot_be_checked(site, eccite, tmp_path, caplog):
    site.add("papalexi_2021.h5mu", eccite.read_bytes())
    sha256 = f"sha256:{hashlib.sha256(eccite.read_bytes()).hexdigest()}"
    mdata = datasets.papalexi_2021(folder=tmp_path / "a", base_url=site.url, progress_bar=False)
    assert (
        f"No hash of papalexi_2021.h5mu is published, so that it cannot be checked. To be told when it changes, pass "
        f"known_hash='{sha256}'" in caplog.text
    )
    assert set(mdata.mod) == {"rna", "gdo"}
    obs = mdata["rna"].obs
    assert obs["perturbation"].tolist() == ["control", "IRF1", "STAT1", "control"]
    assert obs["perturbation_source"].tolist() == ["NT", "KO", "NP", "NT"]
    assert obs["control"].tolist() == [True, False, False, True]
    assert obs["batch"].tolist() == list("1122")
    mdata.write(tmp_path / "again.h5mu")
    assert mudata.read_h5mu(tmp_path / "again.h5mu")["rna"].obs["perturbation"].tolist() == obs["perturbation"].tolist()

    caplog.clear()
    datasets.papalexi_2021(folder=tmp_path / "b", base_url=site.url, progress_bar=False, known_hash=sha256)
    assert "No hash" not in caplog.text
    with pytest.raises(ValueError, match="its hash is not sha256:0000"):
        datasets.papalexi_2021(
            folder=tmp_path / "c", base_url=site.url, progress_bar=False, known_hash=f"sha256:{'0' * 64}"
        )


def test_cells_without_a_target_are_left_out_of_all_modalities(eccite, tmp_path):
    mdata = mudata.read_h5mu(eccite)
    mdata["rna"].obs["gene_target"] = ["NT", "IRF1", None, "NT"]
    mdata.write(tmp_path / "papalexi_2021.h5mu")
    read = datasets.papalexi_2021(folder=tmp_path)
    assert [mod.obs_names.tolist() for mod in read.mod.values()] == [["cell0", "cell1", "cell3"]] * 2


@pytest.mark.parametrize("backed", ["r", None])
def test_genes_of_the_same_symbol_are_one_in_backed_files_too(scperturb, tmp_path, backed):
    cells = ad.read_h5ad(scperturb)
    cells.var_names = ["KLF1", "CEBPA", "KLF1"]
    cells.write_h5ad(tmp_path / "twice.h5ad")
    read = tidy(ad.read_h5ad(tmp_path / "twice.h5ad", backed=backed))
    assert read.var_names.tolist() == ["KLF1", "CEBPA"]
    assert scapp.pp.pseudobulk(read, min_cells=2).n_vars == 2


def test_a_file_without_genes_is_refused(site, tmp_path, eccite):
    mudata.MuData({"gdo": mudata.read_h5mu(eccite)["gdo"]}).write(tmp_path / "papalexi_2021.h5mu")
    with pytest.raises(ValueError, match="no modality 'rna', but 'gdo'"):
        datasets.papalexi_2021(folder=tmp_path)


def test_a_broken_papalexi_file_is_named_and_its_hash_is_not_recommended(eccite, tmp_path, caplog):
    path = tmp_path / "papalexi_2021.h5mu"
    whole = eccite.read_bytes()
    ad.AnnData(np.ones((2, 2))).write_h5ad(tmp_path / "other.h5ad")
    for content in (b"", whole[: len(whole) // 2], (tmp_path / "other.h5ad").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="papalexi_2021.h5mu' (cannot be read .*Move it away|has no modality)"):
            datasets.papalexi_2021(folder=tmp_path)
    mdata = mudata.read_h5mu(eccite)
    del mdata["rna"].obs["gene_target"]
    mdata.write(path)
    with pytest.raises(ValueError, match="no column 'gene_target' of perturbations; it has"):
        datasets.papalexi_2021(folder=tmp_path)
    assert caplog.text.count("No hash") == 1  # of the last, which can be read


def test_columns_of_the_source_are_never_written_over(scperturb):
    cells = ad.read_h5ad(scperturb)
    cells.obs["control"] = [9] * 12
    cells.obs["batch"] = [str(b) for b in cells.obs["gemgroup"]]
    read = tidy(cells)
    assert read.obs["control_source"].tolist() == [9] * 10
    assert "batch_source" not in read.obs
    assert read.obs["perturbation_source"].tolist()[2] == "CEBPA_KLF1"


@pytest.mark.parametrize("name", [name for name in datasets.__all__ if name[0].islower() and "simulated" not in name])
def test_loaders_take_the_same_options(name):
    parameters = inspect.signature(getattr(datasets, name)).parameters
    assert {"folder", "base_url", "progress_bar"} <= set(parameters)
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values())


def test_z_scores_of_replogle_are_a_table_that_becomes_effects(site, tmp_path, monkeypatch):
    knocked = ["A", "A", "B", "B", "NON-TARGETING_NON-TARGETING"]
    table = pd.DataFrame(
        {
            "knocked_down_gene": knocked,
            "affected_gene": list("CDCDC"),
            "z_score": [1.0, -2, 0.5, 3, 9],
            "cell_line": "K562",
        }
    )
    table.to_parquet(tmp_path / "table.parquet")
    publish(monkeypatch, site, ["REPLOGLE_ZSCORES"], (tmp_path / "table.parquet").read_bytes())
    read = datasets.replogle_2022_k562_zscores(folder=tmp_path / "data", known_hash=_public.REPLOGLE_ZSCORES.known_hash)
    assert read["knocked_down_gene"].tolist() == list("AABB")
    columns = {"perturbation": "knocked_down_gene", "gene": "affected_gene", "lfc": "z_score", "base": "e"}
    effects = scapp.pp.read_effects(read, **columns)
    np.testing.assert_allclose(effects[["A", "B"], ["C", "D"]].layers["lfc"], [[1, -2], [0.5, 3]])


def test_another_table_in_its_place_is_refused(site, tmp_path, monkeypatch):
    pd.DataFrame({"gene": ["A"]}).to_parquet(tmp_path / "table.parquet")
    publish(monkeypatch, site, ["REPLOGLE_ZSCORES"], (tmp_path / "table.parquet").read_bytes())
    with pytest.raises(ValueError, match="has no column 'affected_gene', 'knocked_down_gene', 'z_score'"):
        datasets.replogle_2022_k562_zscores(folder=tmp_path / "data")
