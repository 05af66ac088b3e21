"""Networks and annotations by name: files in the official formats from a server, and the real ones of the shared data."""

from __future__ import annotations

import gzip
import io
import zipfile

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.reports import reported

from scapp import pp, resources
from scapp.resources import _annotations, _networks, _omnipath, _string
from scapp.resources._string import CHANNELS, combined_score

LINKS = """\
protein1 protein2 neighborhood fusion cooccurence coexpression experimental database textmining combined_score
9606.P1 9606.P2 0 0 0 150 900 0 950 994
9606.P2 9606.P1 0 0 0 150 900 0 950 994
9606.P1 9606.P3 0 0 0 0 0 0 990 990
9606.P3 9606.P1 0 0 0 0 0 0 990 990
9606.P2 9606.P4 0 0 450 0 0 0 0 450
9606.P4 9606.P2 0 0 450 0 0 0 0 450
9606.P5 9606.P4 0 0 0 0 500 0 0 500
9606.P4 9606.P5 0 0 0 0 500 0 0 500
"""
INFO = """\
#string_protein_id\tpreferred_name\tprotein_size\tannotation
9606.P1\tKLF1\t10\t"5'-phosphatase" with a quote that does not end: "x
9606.P2\tGATA1\t10\t
9606.P3\tNA\t10\t
9606.P4\tMYC\t10\t
"""
GAF = """\
!gaf-version: 2.2
!date-generated: 2026-09-01T00:00
UniProtKB\tQ1\tKLF1\tinvolved_in\tGO:0000003\tPMID:1\tIDA\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t
UniProtKB\tQ1\tKLF1\tinvolved_in\tGO:0000003\tPMID:2\tIMP\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t
UniProtKB\tQ2\tMYC\tNOT|involved_in\tGO:0000003\tPMID:1\tIDA\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t
UniProtKB\tQ2\tMYC\tinvolved_in\tGO:0000099\tPMID:1\tIEA\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t
UniProtKB\tQ2\tMYC\tenables\tGO:0000010\tPMID:1\tIDA\t\tF\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t
UniProtKB\tQ3\tSPI1\tinvolved_in\tGO:0000001\tPMID:1\tND\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t
UniProtKB\tQ3\tSPI1\tinvolved_in\tGO:0000666\tPMID:1\tIDA\t\tP\tn\ts\tprotein\ttaxon:9606\t20200101\tX\t\t
"""
OBO = """\
format-version: 1.2
data-version: releases/2026-08-15

[Term]
id: GO:0000001
name: process
namespace: biological_process

[Term]
id: GO:0000002
name: narrower: with a colon
namespace: biological_process
alt_id: GO:0000099
is_a: GO:0000001 ! process

[Term]
id: GO:0000003
name: narrowest
namespace: biological_process
is_a: GO:0000002 {source="x"} ! narrower
relationship: regulates GO:0000004 ! other

[Term]
id: GO:0000004
name: other
namespace: biological_process

[Term]
id: GO:0000010
name: function
namespace: molecular_function
relationship: part_of GO:0000004 ! other

[Term]
id: GO:0000666
name: gone
namespace: biological_process
is_obsolete: true

[Typedef]
id: part_of
name: part of
"""
OMNIPATH_HEADER = (
    "source\ttarget\tsource_genesymbol\ttarget_genesymbol\tis_directed\tis_stimulation\tis_inhibition\t"
    "consensus_direction\tconsensus_stimulation\tconsensus_inhibition"
)


def answer(*rows, column="sources"):
    """What the web service of OmniPath sends."""
    lines = [
        f"P{i}\tQ{i}\t{source}\t{target}\t1\t{stimulates}\t{inhibits}\t1\t{mostly}\t0\t{value}"
        for i, (source, target, stimulates, inhibits, mostly, value) in enumerate(rows)
    ]
    return "\n".join([f"{OMNIPATH_HEADER}\t{column}", *lines, ""]).encode()


def data(genes=("KLF1", "GATA1", "MYC", "SPI1"), perturbed=("control",)):
    obs = pd.DataFrame({"perturbation": list(perturbed)}, index=[f"c{i}" for i in range(len(perturbed))])
    return ad.AnnData(
        np.zeros((len(perturbed), len(genes)), dtype=np.float32), obs=obs, var=pd.DataFrame(index=list(genes))
    )


@pytest.fixture
def mirror(site, tmp_path):
    """Options that fetch from the site."""
    return {"folder": tmp_path / "data", "base_url": site.url, "progress_bar": False}


@pytest.fixture
def string_site(site):
    site.add("9606.protein.links.detailed.v12.0.txt.gz", gzip.compress(LINKS.encode()))
    site.add("9606.protein.info.v12.0.txt.gz", gzip.compress(INFO.encode()))
    return site


# STRING


def test_scores_are_combined_as_string_combines_them():
    # Two rows as STRING published them: the last column is its own combined score.
    rows = np.array([[0, 0, 165, 0, 0, 0, 145], [0, 0, 0, 165, 0, 0, 0]])
    assert combined_score(rows).tolist() == [255, 165]
    assert combined_score(np.zeros((1, 7), dtype=int)).tolist() == [0]
    assert combined_score(np.array([[1000, 0]])).tolist() == [1000]
    # A channel alone keeps its score; more evidence never lowers it.
    alone = np.arange(42, 1001)
    np.testing.assert_array_equal(combined_score(alone[:, None]), alone)
    assert (combined_score(np.column_stack([alone, np.full_like(alone, 300)])) >= alone).all()


def test_string_leaves_text_mining_out_and_lists_each_pair_once(string_site, mirror):
    edges = resources.string(**mirror)
    assert list(zip(edges["source"], edges["target"], edges["weight"], strict=True)) == [
        ("9606.P5", "MYC", 500),
        ("GATA1", "KLF1", 911),
        ("GATA1", "MYC", 450),
    ]
    expected = 0.041 + 0.959 * (1 - (1 - (0.15 - 0.041) / 0.959) * (1 - (0.9 - 0.041) / 0.959))
    assert edges["weight"][1] == int(1000 * expected)
    assert edges.columns.tolist() == ["source", "target", "weight", *CHANNELS[:-1]]
    assert edges.attrs["license"] == "CC BY 4.0"
    assert edges.attrs["version"] == "12.0"
    assert edges.attrs["date"]
    assert edges.attrs["directed"] is False
    assert resources.string(**mirror).equals(edges)
    assert len(string_site.requests) == 2


def test_string_by_channel_and_score(string_site, mirror):
    assert resources.string(channels=["textmining"], **mirror)["target"].tolist() == ["KLF1", "NA"]
    assert resources.string(channels="cooccurence", **mirror)["weight"].tolist() == [450]
    assert resources.string(channels=CHANNELS, min_score=0, **mirror)["weight"].max() > 990
    assert resources.string(min_score=600, **mirror)["weight"].tolist() == [911]
    with pytest.raises(ValueError, match="No pair has a score of min_score=950"):
        resources.string(min_score=950, **mirror)


def test_string_goes_into_adata_with_its_license(string_site, mirror, tmp_path):
    adata = data()
    report = reported(pp.add_network, adata, resources.string(**mirror))
    assert (report.n_edges, report.directed, report.weight_column) == (2, False, "weight")
    adata.write_h5ad(tmp_path / "a.h5ad")
    origin = ad.read_h5ad(tmp_path / "a.h5ad").uns["scapp"]["networks"]["network"]["params"]["origin"]
    assert (origin["source"], origin["license"], origin["version"]) == ("STRING", "CC BY 4.0", "12.0")


def test_string_is_read_in_blocks_and_from_local_files(string_site, mirror, tmp_path, monkeypatch):
    expected = resources.string(**mirror)
    monkeypatch.setattr(_string, "_ROWS", 3)
    n_asked = len(string_site.requests)
    local = resources.string(
        file=mirror["folder"] / "9606.protein.links.detailed.v12.0.txt.gz",
        info_file=mirror["folder"] / "9606.protein.info.v12.0.txt.gz",
    )
    pd.testing.assert_frame_equal(local, expected)
    assert len(string_site.requests) == n_asked


def test_string_of_another_organism_is_another_file(site, mirror):
    site.add("10090.protein.links.detailed.v12.0.txt.gz", gzip.compress(LINKS.replace("9606.", "10090.").encode()))
    site.add("10090.protein.info.v12.0.txt.gz", gzip.compress(INFO.replace("9606.", "10090.").encode()))
    edges = resources.string(organism="mouse", **mirror)
    assert edges.attrs["organism"] == "mouse"
    assert len(edges) == 3


def test_files_that_are_not_strings_are_refused(site, mirror, tmp_path):
    name = "9606.protein.links.detailed.v12.0.txt.gz"
    site.add(name, gzip.compress(b"protein1 protein2 combined_score\n9606.P1 9606.P2 900\n"))
    site.add("9606.protein.info.v12.0.txt.gz", gzip.compress(INFO.encode()))
    with pytest.raises(ValueError, match="no column 'neighborhood'.*from_table"):
        resources.string(**mirror)
    site.add(name, gzip.compress(LINKS.encode() * 100)[:-20])
    with pytest.raises(ValueError, match="sent something else"):
        resources.string(**(mirror | {"folder": tmp_path / "new"}))
    assert not list((tmp_path / "new").glob("*links*"))
    broken = tmp_path / "broken.txt.gz"
    broken.write_bytes(gzip.compress((LINKS + LINKS[110:] * 3000).encode())[:-30])
    with pytest.raises(ValueError, match="cannot be read to its end"):
        resources.string(file=broken, info_file=mirror["folder"] / "9606.protein.info.v12.0.txt.gz")


@pytest.fixture
def string_files(tmp_path):
    links, info = tmp_path / "links.txt.gz", tmp_path / "info.txt.gz"
    links.write_bytes(gzip.compress(LINKS.encode()))
    info.write_bytes(gzip.compress(INFO.encode()))
    return {"file": links, "info_file": info, "progress_bar": False}


def test_string_of_another_species_than_it_is_asked_for_is_refused(string_files):
    with pytest.raises(ValueError, match=r"another species: .* '9606.P1', .* begin with '10090.'.*organism="):
        resources.string(organism="mouse", **string_files)
    string_files["info_file"].write_text(INFO.replace(".P", ".Q"))
    with pytest.raises(ValueError, match="Only 0 of the 4 proteins of .* have a name in .* one version and species"):
        resources.string(**string_files)


def test_scores_on_the_scale_of_the_web_page_are_pointed_out(string_files):
    with pytest.raises(ValueError, match=r"min_score=0.7 is on the scale of .* min_score=700"):
        resources.string(min_score=0.7, **string_files)


def test_string_files_need_no_suffix_and_are_read_to_their_last_number(string_files, capsys):
    expected = resources.string(**string_files)
    assert capsys.readouterr().err == ""
    links = string_files["file"].with_name("links.txt")
    links.write_text(LINKS)
    edges = resources.string(**(string_files | {"file": links, "progress_bar": True}))
    pd.testing.assert_frame_equal(edges, expected)
    assert "links.txt" in capsys.readouterr().err
    links.write_text(LINKS.rstrip()[:-12])
    with pytest.raises(ValueError, match="links.txt' cannot be read to its end.*Move it away"):
        resources.string(**(string_files | {"file": links}))


# CollecTRI, DoRothEA, OmniPath


def test_collectri_is_signed_and_directed(site, mirror):
    table = "source,target,weight,resources,references,sign_decision\nKLF1,MYC,1,a,1,PMID\nMYC,GATA1,-1,a,,x\nKLF1,MYC,1,b,2,PMID\n"
    site.add("CollecTRI_regulons.csv", table.encode())
    edges = resources.collectri(**mirror)
    assert edges[["source", "target", "weight"]].values.tolist() == [["KLF1", "MYC", 1], ["MYC", "GATA1", -1]]
    adata = data()
    report = reported(pp.add_network, adata, edges)
    assert report.directed
    assert adata.varp["network"][2, 1] == -1
    assert reported(pp.add_network, adata, edges, directed=False).directed is False


def test_collectri_of_mouse_comes_from_the_web_service(site, mirror):
    site.add(
        "omnipath_collectri_mouse_academic.tsv", answer(("Klf1", "Myc", 1, 0, 1, "x"), ("Myc", "Gata1", 0, 1, 0, "y"))
    )
    edges = resources.collectri(organism="mouse", **mirror)
    assert edges[["source", "target", "weight"]].values.tolist() == [["Klf1", "Myc", 1], ["Myc", "Gata1", -1]]
    with pytest.raises(ValueError, match="organism must be one of 'human', 'mouse', 'rat', found 'fly'"):
        resources.collectri(organism="fly", **mirror)


def test_dorothea_weighs_by_sign_and_level(site, mirror):
    rows = [
        ("KLF1", "MYC", 0, 1, 0, "B;D"),
        ("MYC", "GATA1", 1, 1, 0, "A"),
        ("MYC", "KLF1", 1, 1, 1, "A"),
        ("SPI1", "MYC", 0, 0, 0, "C"),
        ("SPI1", "KLF1", 1, 0, 1, "D"),
    ]
    site.add("omnipath_dorothea_human_academic_A-B-C.tsv", answer(*rows, column="dorothea_level"))
    edges = resources.dorothea(**mirror)
    assert edges.values.tolist() == [
        ["MYC", "GATA1", -1.0, "A"],
        ["MYC", "KLF1", 1.0, "A"],
        ["KLF1", "MYC", -0.5, "B"],
        ["SPI1", "MYC", 1 / 3, "C"],
    ]
    assert edges.attrs["levels"] == ["A", "B", "C"]
    with pytest.raises(ValueError, match="levels must be some of 'A', 'B', 'C', 'D', found"):
        resources.dorothea(levels=["E"])


def test_dorothea_asks_the_web_service_for_what_is_wanted(monkeypatch, tmp_path):
    asked = _omnipath._query("dorothea", "rat", "commercial", dorothea_levels="A,B", fields="dorothea_level")
    assert asked.url == (
        "https://omnipathdb.org/interactions?genesymbols=1&format=tsv&datasets=dorothea&organisms=10116&license=commercial"
        "&dorothea_levels=A,B&fields=dorothea_level"
    )
    assert asked.name == "omnipath_dorothea_rat_commercial_A-B.tsv"


def test_omnipath_says_which_signs_are_known(site, mirror):
    site.add(
        "omnipath_omnipath_human_academic.tsv",
        answer(("KLF1", "MYC", 0, 1, 0, "s"), ("NA", "GATA1", 0, 0, 0, "s"), ("MYC", "GATA1", "True", "False", 1, "s")),
    )
    edges = resources.omnipath(**mirror)
    assert edges[["source", "target", "weight", "sign"]].values.tolist() == [
        ["KLF1", "MYC", -1, -1],
        ["NA", "GATA1", 1, 0],
        ["MYC", "GATA1", 1, 1],
    ]
    assert edges["sources"].tolist() == ["s"] * 3
    assert resources.omnipath(signed_only=True, **mirror)["sign"].tolist() == [-1, 1]
    assert reported(pp.add_network, data(), edges).directed
    with pytest.raises(ValueError, match="datasets must be some of"):
        resources.omnipath(datasets=["mirna"], **mirror)
    with pytest.raises(ValueError, match="license must be 'academic' or 'commercial'"):
        resources.omnipath(license="none", **mirror)


def test_local_tables_without_edges_names_or_weights_are_refused(tmp_path):
    path = tmp_path / "table.tsv"
    for rows, message in (("", "no edges"), ("A,B,\n", "A -> B: nothing"), ("A,,1\n", "no name in column 'target'")):
        path.write_text(f"source,target,weight\n{rows}")
        with pytest.raises(ValueError, match=message):
            resources.collectri(file=path)
    path.write_bytes(answer(("KLF1", "MYC", 1, 0, 1, "D"), column="dorothea_level"))
    with pytest.raises(ValueError, match=r"table.tsv' has no edge of levels=\['A', 'B', 'C'\]"):
        resources.dorothea(file=path)
    assert len(resources.dorothea(file=path, levels="D")) == 1


def test_what_a_web_service_says_instead_of_a_table_is_not_kept(site, mirror):
    site.add("omnipath_omnipath_human_academic.tsv", b"Something is not entirely good:\n\nUnknown dataset\n")
    with pytest.raises(ValueError, match=r"begins with b'Something is not entirely good.*not with 'source"):
        resources.omnipath(**mirror)
    assert not list(mirror["folder"].iterdir())


# Annotations


def test_gene_ontology_is_passed_on_by_the_wanted_relations(site, mirror, caplog):
    site.add("goa_human.gaf.gz", gzip.compress(GAF.encode()))
    site.add("go-basic.obo", OBO.encode())
    table = resources.gene_ontology(**mirror)
    assert table[["gene", "term"]].values.tolist() == [
        ["KLF1", "GO:0000001"], ["KLF1", "GO:0000002"], ["KLF1", "GO:0000003"],
        ["MYC", "GO:0000001"], ["MYC", "GO:0000002"], ["MYC", "GO:0000004"], ["MYC", "GO:0000010"],
    ]  # fmt: skip
    assert table["description"][1] == "narrower: with a colon"
    assert table.attrs["version"] == "releases/2026-08-15"
    assert table.attrs["annotations_date"] == "2026-09-01T00:00"
    assert table.attrs["license"] == "CC BY 4.0"
    assert "1 of 7 annotations say NOT" in caplog.text
    assert "Left out 1 annotation(s) with terms that the ontology has not, or calls obsolete" in caplog.text

    assert resources.gene_ontology(aspects=["MF"], **mirror)["term"].tolist() == ["GO:0000010"]
    assert (
        resources.gene_ontology(relations=["is_a"], aspects=["MF", "BP"], **mirror)["term"].tolist().count("GO:0000004")
        == 0
    )
    assert resources.gene_ontology(propagate=False, **mirror)["term"].tolist() == [
        "GO:0000003",
        "GO:0000002",
        "GO:0000010",
    ]
    assert set(resources.gene_ontology(evidence=["IMP"], **mirror)["gene"]) == {"KLF1"}
    assert resources.gene_ontology(evidence=["ND"], exclude_evidence=(), **mirror)["gene"].tolist() == ["SPI1"]
    with pytest.raises(ValueError, match="codes of evidence there are IDA, IEA, IMP, ND"):
        resources.gene_ontology(evidence=["XXX"], **mirror)
    with pytest.raises(ValueError, match="aspects must be some of 'BP', 'MF' and 'CC', found 'P'"):
        resources.gene_ontology(aspects=["P"], **mirror)


def _random_annotations():
    genes = ["KLF1", "GATA1", "MYC", "SPI1", *(f"G{i}" for i in range(30))]
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        [(gene, f"t{t}") for gene in genes for t in rng.choice(20, 6, replace=False)], columns=["gene", "term"]
    )


def test_annotations_go_into_adata_with_their_license():
    adata = data()
    table = resources.from_table(_random_annotations(), license="mine", name="lab")
    report = reported(pp.add_gene_features, adata, table, key_added="lab", n_components=2)
    assert (report.kind, report.n_genes_with_features) == ("annotations", 4)
    assert adata.uns["scapp"]["gene_features"]["lab"]["params"]["origin"]["license"] == "mine"


def test_gaf_files_are_read_without_an_ontology_and_refused_if_they_are_none(tmp_path):
    path = tmp_path / "a.gaf"
    path.write_text(GAF)
    table = resources.from_gaf(path, license="mine")
    assert table.values.tolist() == [
        ["KLF1", "GO:0000003"], ["MYC", "GO:0000099"], ["MYC", "GO:0000010"], ["SPI1", "GO:0000666"],
    ]  # fmt: skip
    assert (table.attrs["license"], table.attrs["version"]) == ("mine", "2026-09-01T00:00")
    path.write_text("gene\tterm\nKLF1\tGO:1\n")
    with pytest.raises(ValueError, match="Line 1 .* is no annotation in GAF format: it has 2 fields.*from_table"):
        resources.from_gaf(path)
    path.write_text(GAF)
    (tmp_path / "none.obo").write_text("format-version: 1.2\n")
    with pytest.raises(ValueError, match="holds no terms of an ontology"):
        resources.from_gaf(path, ontology=tmp_path / "none.obo")
    (tmp_path / "a.gaf.gz").write_bytes(gzip.compress(GAF.encode() * 50)[:-12])
    with pytest.raises(ValueError, match="cannot be read to its end"):
        resources.from_gaf(tmp_path / "a.gaf.gz")


def test_options_of_annotations_may_be_one_text_and_unknown_relations_are_refused(tmp_path):
    path, terms = tmp_path / "a.gaf", tmp_path / "go.obo"
    path.write_text(GAF)
    terms.write_text(OBO)
    assert resources.from_gaf(path, evidence="IMP", aspects="BP").values.tolist() == [["KLF1", "GO:0000003"]]
    assert "IDA" not in resources.from_gaf(path, exclude_evidence="IDA")["term"].tolist()
    assert len(resources.from_gaf(path, ontology=terms, relations="is_a", aspects="BP")) == 5
    with pytest.raises(ValueError, match="no relation 'isa' in .*go.obo'; there are 'is_a', 'part_of', 'regulates'"):
        resources.from_gaf(path, ontology=terms, relations=["isa"])
    assert len(resources.from_gaf(path, ontology=terms, relations=["isa"], propagate=False))
    path.write_text("!gaf-version: 2.2\n")
    with pytest.raises(ValueError, match="a.gaf' holds no annotations"):
        resources.from_gaf(path)


TERM = "[Term]\nid: GO:{0}\nname: n{0}\nnamespace: biological_process\n\n"
GENE = "U\tQ\tG{0}\tinvolved_in\tGO:{0}\tP\tIDA\t\tP\tn\ts\tprotein\tt\t2020\tX\t\t\n"
TRUNCATED = {
    "from_gaf": ("", GENE, resources.from_gaf),
    "ontology": ("", TERM, lambda path: resources.from_gaf(path.with_name("whole.gaf"), ontology=path)),
    "from_gmt": ("", "S{0}\tset\tG{0}\n", resources.from_gmt),
    "reactome": ("", "R-HSA-{0}\tset\tG{0}\n", lambda path: resources.reactome(file=path)),
    "from_table": ("gene\tterm\n", "G{0}\tT{0}\n", resources.from_table),
    "hgnc": ("hgnc_id\tsymbol\n", "H{0}\tG{0}\n", lambda path: resources.hgnc(file=path)),
    "collectri": ("source,target,weight\n", "G{0},T{0},1\n", lambda path: resources.collectri(file=path)),
}


@pytest.mark.parametrize("case", TRUNCATED)
def test_packed_files_that_break_off_are_named(case, tmp_path):
    header, row, read = TRUNCATED[case]
    (tmp_path / "whole.gaf").write_text(GAF)
    packed = gzip.compress((header + "".join(row.format(i * i) for i in range(30_000))).encode())
    (tmp_path / "packed.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        ValueError, match="packed.gz' cannot be read to its end: it is truncated.*Fetch or write it again"
    ):
        read(tmp_path / "packed.gz")


def zipped(text):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("ReactomePathways.gmt", text)
    return buffer.getvalue()


def test_reactome_is_read_from_its_zip_file(site, mirror, tmp_path):
    site.add("ReactomePathways.gmt.zip", zipped("Glycolysis\tR-HSA-70171\tKLF1\tMYC\nOther\tR-HSA-1\tGATA1\n"))
    table = resources.reactome(**mirror)
    assert table.values.tolist() == [
        ["KLF1", "R-HSA-70171", "Glycolysis"], ["MYC", "R-HSA-70171", "Glycolysis"], ["GATA1", "R-HSA-1", "Other"],
    ]  # fmt: skip
    assert table.attrs["license"] == "CC0 1.0"
    (tmp_path / "other.gmt").write_text("HALLMARK\thttp://x\tKLF1\n")
    with pytest.raises(ValueError, match="no pathways of Reactome.*'http://x'|no pathways of Reactome.*'HALLMARK'"):
        resources.reactome(file=tmp_path / "other.gmt")
    # With any time of the day in its header, two bytes of which may be a tab or the end of a line.
    broken = bytearray(zipped("a\tb\tc\n")[:40])
    broken[10:12] = b"\n\t"
    (tmp_path / "broken.gmt.zip").write_bytes(broken)
    with pytest.raises(ValueError, match="broken.gmt.zip' (?:cannot be read to its end|is a zip archive)"):
        resources.reactome(file=tmp_path / "broken.gmt.zip")
    with pytest.raises(ValueError, match="organism must be one of 'human', found 'mouse'"):
        resources.reactome(organism="mouse")


def test_gene_sets_of_any_name_are_read(tmp_path):
    path = tmp_path / "sets.gmt.gz"
    path.write_bytes(gzip.compress(b"HALLMARK\thttp://x\tKLF1,1.0\tMYC\n\nEMPTY\t\n"))
    table = resources.from_gmt(path, license="CC BY 4.0", version="7")
    assert table.values.tolist() == [["KLF1", "HALLMARK", "http://x"], ["MYC", "HALLMARK", "http://x"]]
    assert table.attrs["source"] == "sets.gmt.gz"
    path.write_bytes(gzip.compress(b"\n"))
    with pytest.raises(ValueError, match="holds no gene sets"):
        resources.from_gmt(path)
    path.write_text("KLF1\tGO:1\tIDA\nKLF1\tGO:2\tIDA\n")
    with pytest.raises(ValueError, match="'KLF1' occurs twice .*from_table"):
        resources.from_gmt(path)


# Tables and names


def test_tables_of_edges_keep_their_further_columns(tmp_path):
    table = pd.DataFrame({"TF": ["KLF1", "MYC"], "target": ["MYC", "GATA1"], "mor": [1.0, -0.2], "kind": ["a", "b"]})
    edges = resources.from_table(table, license="mine", name="lab")
    assert edges.columns.tolist() == ["source", "target", "weight", "kind"]
    assert edges["weight"].tolist() == [1.0, -0.2]
    assert edges.attrs["source"] == "lab"
    assert edges.attrs["directed"] is True  # a regulator and its target
    pairs = table.rename(columns={"TF": "gene1", "target": "gene2"})
    assert "directed" not in resources.from_table(pairs).attrs
    assert resources.from_table(table, min_weight=0.5)["source"].tolist() == ["KLF1"]
    assert reported(pp.add_network, data(), resources.from_table(table, directed=True)).directed
    with pytest.raises(ValueError, match="No edge has a weight of min_weight=2"):
        resources.from_table(table, min_weight=2)
    with pytest.raises(ValueError, match="this table is read as a network"):
        resources.from_table(table, parents=table)
    swapped = resources.from_table(table, source="target", target="TF", weight="mor")
    assert swapped["source"].tolist() == ["MYC", "GATA1"]
    table.to_csv(tmp_path / "lab.csv", index=False)
    assert resources.from_table(tmp_path / "lab.csv").attrs["source"] == "lab.csv"


def test_rows_are_told_apart_where_an_index_repeats():
    table = pd.DataFrame({"source": ["KLF1", "MYC"], "target": ["MYC", "SPI1"], "weight": [1, 2], "kind": ["a", "b"]})
    edges = resources.from_table(table.set_axis([0, 0]))
    assert edges.values.tolist() == [["KLF1", "MYC", 1.0, "a"], ["MYC", "SPI1", 2.0, "b"]]
    assert len(table.columns) == 4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("who\twhom\tscore\nKLF1\tMYC\t0.5\n", "Cannot tell which columns hold the two ends"),
        ("KLF1\tMYC\n0.5\t1.5\n0.4\t0.2\n", "'KLF1' holds numbers.*gene= and term="),
    ],
)
def test_networks_whose_ends_are_not_known_are_no_annotations(text, message, tmp_path):
    (tmp_path / "net.tsv").write_text(text)
    with pytest.raises(ValueError, match=message):
        resources.from_table(tmp_path / "net.tsv")


def test_a_first_row_of_data_is_no_header(tmp_path):
    (tmp_path / "net.tsv").write_text("KLF1\tMYC\t0.5\nGATA1\tSPI1\t0.4\n")
    assert resources.from_table(tmp_path / "net.tsv").values.tolist() == [["KLF1", "MYC", 0.5], ["GATA1", "SPI1", 0.4]]


def test_what_is_read_as_annotations_is_said_and_may_have_scores(caplog):
    scored = pd.DataFrame({"gene": ["KLF1"], "term": ["t1"], "score": [0.5]})
    with caplog.at_level("INFO", logger="scapp"):
        assert resources.from_table(scored).values.tolist() == [["KLF1", "t1"]]
    assert "genes from column 'gene', terms from column 'term'" in caplog.text


def test_tables_of_genie3_are_directed_and_bounds_are_checked():
    table = pd.DataFrame({"regulatoryGene": ["KLF1"], "targetGene": ["MYC"], "weight": [0.5]})
    assert reported(pp.add_network, data(), table).directed
    assert resources.from_table(table)["weight"].tolist() == [0.5]
    with pytest.raises(ValueError, match="must not be negative, found -1"):
        resources.from_table(table, min_weight=-1)
    with pytest.raises(ValueError, match="min_weight=2 or more; the largest is 0.5"):
        resources.from_table(table, min_weight=2)


def test_tables_of_annotations_are_passed_on():
    table = pd.DataFrame({"symbol": ["KLF1", "KLF1", "MYC"], "go": ["t2", "t2", "t1"], "n": [1, 2, 3]})
    parents = pd.DataFrame({"child": ["t2"], "parent": ["t1"]})
    assert resources.from_table(table).values.tolist() == [["KLF1", "t2"], ["MYC", "t1"]]
    passed_on = resources.from_table(table, gene="symbol", term="go", parents=parents)
    assert sorted(passed_on.values.tolist()) == [["KLF1", "t1"], ["KLF1", "t2"], ["MYC", "t1"]]
    with pytest.raises(ValueError, match="needs two columns at least, found 'symbol'"):
        resources.from_table(table[["symbol"]])
    with pytest.raises(ValueError, match="term='x' is not a column"):
        resources.from_table(table, term="x")
    with pytest.raises(TypeError, match="found list"):
        resources.from_table([1])


def test_hgnc_names_genes(site, mirror):
    header = "hgnc_id\tsymbol\tname\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\n"
    rows = 'HGNC:29798\tMAP3K21\tkinase 21\t"MLK4|dJ862P8.3"\tKIAA1804\t84451\tENSG00000143674\n'
    site.add("hgnc_complete_set.txt", (header + rows).encode())
    names = resources.hgnc(**mirror)
    assert names.attrs["license"] == "CC0 1.0"
    for name in ("KIAA1804", "MLK4", "dJ862P8.3", "84451", "ENSG00000143674.3"):
        adata = data([name], ["control", name] if "." not in name else ["control"])
        pp.harmonize_genes(adata, aliases=names)
        assert adata.var_names.tolist() == ["MAP3K21"]
    report = reported(
        pp.add_network,
        data(["MAP3K21", "MYC"]),
        pd.DataFrame({"source": ["KIAA1804"], "target": ["MYC"]}),
        aliases=names,
    )
    assert report.n_edges == 1
    (mirror["folder"] / "hgnc_complete_set.txt").write_text("a\tb\n1\t2\n")
    with pytest.raises(ValueError, match="is not HGNC's complete set: it has no column 'hgnc_id'"):
        resources.hgnc(**mirror)


def test_every_public_host_is_asked_over_https():
    urls = [
        _networks._HGNC.url, _annotations._OBO.url, _annotations._REACTOME.url, _omnipath._COLLECTRI.url,
        _omnipath._query("omnipath", "human", "academic").url, _string._file(9606, "info", "12.0", "").url,
    ]  # fmt: skip
    assert all(url.startswith("https://") for url in urls)


# The real files


@pytest.fixture(scope="session")
def shared_networks(shared_data):
    return shared_data / "networks"


@pytest.fixture(scope="session")
def norman(shared_data):
    return ad.read_h5ad(shared_data / "norman_2019_effects.h5ad")


def test_the_shared_string_network_is_read(shared_networks, norman):
    edges = resources.from_table(
        shared_networks / "string_v12_no_textmining.tsv.gz", license="CC BY 4.0", version="12.0", min_weight=700
    )
    assert edges.columns.tolist() == ["source", "target", "weight", "coexpression", "experiments", "database"]
    assert edges["weight"].min() >= 700
    report = reported(pp.add_network, norman.copy(), edges, control=None)
    assert report.n_edges > 500


def test_scores_of_the_shared_string_network_are_at_least_those_of_its_channels(shared_networks):
    table = pd.read_csv(shared_networks / "string_v12_no_textmining.tsv.gz", sep="\t", na_filter=False)
    combined = combined_score(table[["coexpression", "experiments", "database"]].to_numpy())
    # The file lacks three channels, which can only add to the score: the formula is a bound that is met where they are absent.
    difference = table["combined_score"] - combined
    assert difference.min() >= -1
    assert (difference == 0).mean() > 0.2


def test_the_shared_collectri_and_reactome_are_read(shared_networks, norman):
    edges = resources.collectri(file=shared_networks / "collectri_2025-09.csv.gz")
    assert len(edges) == 43_178
    assert set(edges["weight"]) == {-1, 1}
    report = reported(pp.add_network, norman.copy(), edges, control=None)
    assert report.directed
    assert report.n_edges > 1000
    pathways = resources.reactome(file=shared_networks / "reactome_2024-04.gmt.gz")
    assert pathways["term"].nunique() == 2681
    assert pathways["term"].str.startswith("R-HSA-").all()
    features = reported(
        pp.add_gene_features, norman.copy(), pathways, key_added="reactome", n_components=16, control=None
    )
    assert features.n_genes_with_features > 700


def test_the_shared_annotations_are_passed_on(shared_networks):
    direct = resources.from_table(shared_networks / "gene2go_human_2022-09.tsv.gz")
    passed_on = resources.from_table(
        shared_networks / "gene2go_human_2022-09.tsv.gz", parents=shared_networks / "go_dag_parents.tsv.gz"
    )
    assert direct["gene"].nunique() == passed_on["gene"].nunique() > 20_000
    assert len(passed_on) > 3 * len(direct)
    # The root of biological processes is an ancestor of every process.
    assert passed_on["term"].eq("GO:0008150").sum() > 15_000
