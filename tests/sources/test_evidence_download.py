"""The recommended evidence from a server, from the cache, and from local files in their official formats."""

from __future__ import annotations

import gzip
import io
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from scapp import pp

CHANNELS = "neighborhood fusion cooccurence coexpression experimental database textmining combined_score"
LINKS = f"""\
protein1 protein2 {CHANNELS}
9606.P1 9606.P2 0 0 0 150 900 0 950 994
9606.P2 9606.P1 0 0 0 150 900 0 950 994
9606.P1 9606.P3 0 0 0 0 0 0 990 990
9606.P3 9606.P1 0 0 0 0 0 0 990 990
9606.P2 9606.P3 0 0 0 0 0 500 0 500
9606.P3 9606.P2 0 0 0 0 0 500 0 500
"""
INFO = """\
#string_protein_id\tpreferred_name\tprotein_size\tannotation
9606.P1\tKLF1\t10\t
9606.P2\tGATA1\t10\t
9606.P3\tMYC\t10\t
"""
ROW = "UniProtKB\tQ\t{gene}\tinvolved_in\t{term}\tPMID:1\tIDA\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t\n"
GAF = "!gaf-version: 2.2\n" + "".join(
    ROW.format(gene=gene, term=term)
    for gene, term in [("KLF1", "GO:0000002"), ("GATA1", "GO:0000001"), ("MYC", "GO:0000003"), ("OLD", "GO:0000003")]
)
TERM = "[Term]\nid: {id}\nname: {id}\nnamespace: biological_process\n"
OBO = "format-version: 1.2\ndata-version: releases/2026-08-15\n\n" + "\n".join(
    [
        TERM.format(id="GO:0000001"),
        TERM.format(id="GO:0000002") + "is_a: GO:0000001 ! parent\n",
        TERM.format(id="GO:0000003"),
    ]
)
HGNC = (
    "hgnc_id\tsymbol\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\n"
    + "".join(f"HGNC:{i}\t{gene}\t\t\t{i}\t\n" for i, gene in enumerate(("KLF1", "GATA1", "MYC"), start=1))
    + "HGNC:9\tNEW\t\tOLD\t9\t\n"
)
SETS = "first\tR-HSA-1\tKLF1\tGATA1\nsecond\tR-HSA-2\tMYC\tKLF1\n"


def zipped(name: str, text: str) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, text)
    return packed.getvalue()


FILES = {
    "9606.protein.links.detailed.v12.0.txt.gz": gzip.compress(LINKS.encode()),
    "9606.protein.info.v12.0.txt.gz": gzip.compress(INFO.encode()),
    "goa_human.gaf.gz": gzip.compress(GAF.encode()),
    "go-basic.obo": OBO.encode(),
    "ReactomePathways.gmt.zip": zipped("ReactomePathways.gmt", SETS),
    "hgnc_complete_set.txt": HGNC.encode(),
}


@pytest.fixture
def effects() -> ad.AnnData:
    labels = ["KLF1", "GATA1+MYC"]
    obs = pd.DataFrame({"perturbation": labels}, index=labels)
    var = pd.DataFrame(index=["KLF1", "GATA1", "MYC", "NEW"])
    return ad.AnnData(np.zeros((2, 4), dtype=np.float32), obs=obs, var=var)


@pytest.fixture
def mirror(site, tmp_path):
    for name, content in FILES.items():
        site.add(name, content)
    return {"folder": tmp_path / "cache", "base_url": site.url, "progress_bar": False}


def test_everything_is_downloaded_once_and_then_read_from_the_cache(effects, site, mirror, assert_same):
    again = effects.copy()
    pp.add_evidence(effects, **mirror)
    assert {path for path, _ in site.requests} == {f"/{name}" for name in FILES}
    n_requests = len(site.requests)
    pp.add_evidence(again, **mirror)
    assert len(site.requests) == n_requests == len(FILES)
    assert_same(again, effects)

    evidence = effects.uns["scapp"]["evidence"]
    assert list(evidence["network_keys"]) == ["experiments", "database", "coexpression", "network"]
    # Text mining is no evidence: KLF1 and MYC have no edge.
    assert effects.varp["network"][0, 2] == 0 and effects.varp["network"][0, 1] > effects.varp["network"][1, 2] > 0
    assert effects.varp["experiments"].nnz == effects.varp["database"].nnz == effects.varp["coexpression"].nnz == 2
    # KLF1 has the broader term of its own, which GATA1 has; NEW is found by the old name that HGNC knows.
    similar = effects.varm["go"] @ effects.varm["go"].T
    assert similar[0, 1] > 0.3 and similar[2, 3] == pytest.approx(1, abs=1e-6)
    assert np.isfinite(effects.varm["reactome"][:3]).all()
    licenses = [evidence["gene_features"][key]["license"] for key in ("go", "reactome")]
    assert licenses == ["CC BY 4.0", "CC0 1.0"]
    assert evidence["networks"]["network"]["version"] == "12.0"


def test_local_files_in_their_official_formats_give_the_same_without_a_download(effects, site, mirror, tmp_path):
    folder = tmp_path / "official"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    local = pp.add_evidence(effects, local=folder, base_url=site.url, progress_bar=False, copy=True)
    assert site.requests == []
    pp.add_evidence(effects, **mirror)
    for key in effects.varp:
        assert (local.varp[key] != effects.varp[key]).nnz == 0
    for key in effects.varm:
        np.testing.assert_array_equal(local.varm[key], effects.varm[key])


@pytest.mark.parametrize("missing", ["9606.protein.info.v12.0.txt.gz", "go-basic.obo"])
def test_the_second_file_of_an_official_pair_is_asked_for(effects, tmp_path, missing):
    folder = tmp_path / "official"
    folder.mkdir()
    for name in FILES.keys() - {missing}:
        (folder / name).write_bytes(FILES[name])
    with pytest.raises(ValueError, match=f"named like {missing}"):
        pp.add_evidence(effects, local=folder)


def test_a_file_that_cannot_be_fetched_leaves_effects_as_they_were(effects, site, mirror, assert_same):
    del site.files["/ReactomePathways.gmt.zip"]
    before = effects.copy()
    with pytest.raises(ConnectionError, match="ReactomePathways"):
        pp.add_evidence(effects, **mirror)
    assert_same(effects, before)
    pp.add_evidence(effects, sources=["string", "go"], **mirror)
    assert list(effects.uns["scapp"]["evidence"]["gene_features_keys"]) == ["go"]


def test_mouse_has_its_own_files_and_needs_no_human_names(effects, site, mirror):
    for name in ("links.detailed", "info"):
        content = gzip.decompress(FILES[f"9606.protein.{name}.v12.0.txt.gz"]).replace(b"9606.", b"10090.")
        site.add(f"10090.protein.{name}.v12.0.txt.gz", gzip.compress(content))
    pp.add_evidence(effects, organism="mouse", sources=["string"], **mirror)
    assert not any("hgnc" in path or "9606" in path for path, _ in site.requests)
    assert effects.varp["network"].nnz == 4
