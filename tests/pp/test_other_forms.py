"""Networks as lists, dictionaries and tables of polars, STRING with its protein ids, names that a spreadsheet changed, old files."""

from __future__ import annotations

import gzip

import anndata as ad
import h5py
import mudata
import numpy as np
import pandas as pd
import polars
import pytest
from scipy import sparse
from tests.reports import reported

import scapp
from scapp._gene_names import excel_form
from scapp.datasets import labelled_cells
from scapp.pp._harmonize import made_by_excel

GENES = ["KLF1", "GATA1", "HBB", "ALAS2"]


def genes(names: list[str] = GENES) -> ad.AnnData:
    return ad.AnnData(np.zeros((1, len(names)), dtype=np.float32), var=pd.DataFrame(index=names))


def edges_of(given: object, **options: object) -> dict[tuple[str, str], float]:
    adata = genes()
    scapp.pp.add_network(adata, given, scale=False, **options)
    matrix = sparse.coo_matrix(adata.varp["network"])
    return {(GENES[i], GENES[j]): float(w) for i, j, w in zip(matrix.row, matrix.col, matrix.data, strict=True)}


@pytest.mark.parametrize(
    ("given", "weighted"),
    [
        ([("KLF1", "HBB"), ("GATA1", "ALAS2")], False),
        ((["KLF1", "HBB"], ["GATA1", "ALAS2"]), False),
        ({("KLF1", "HBB"), ("GATA1", "ALAS2")}, False),
        ([("KLF1", "HBB", 0.5), ("GATA1", "ALAS2", -2)], True),
        ({"KLF1": ["HBB"], "GATA1": {"ALAS2"}}, False),
        ({"KLF1": "HBB", "GATA1": "ALAS2"}, False),
        ({"KLF1": {"HBB": 0.5}, "GATA1": {"ALAS2": -2}}, True),
        ({("KLF1", "HBB"): 0.5, ("GATA1", "ALAS2"): -2}, True),
    ],
)
def test_lists_and_dictionaries_of_edges_are_those_of_the_table(given, weighted):
    table = pd.DataFrame({"source": ["KLF1", "GATA1"], "target": ["HBB", "ALAS2"]})
    table = table.assign(weight=[0.5, -2.0]) if weighted else table
    for directed in (False, True):
        assert edges_of(given, directed=directed) == edges_of(table, directed=directed)
    assert len(edges_of(given, directed=True)) == 2


@pytest.mark.parametrize(
    "given", [["KLF1"], [("KLF1",)], [("KLF1", "HBB"), ("KLF1", "HBB", 1)], [(1, 2)], {"KLF1": 3}.items()]
)
def test_lists_of_something_else_are_refused_by_what_they_hold(given):
    with pytest.raises((ValueError, TypeError), match="pairs"):
        scapp.pp.add_network(genes(), list(given))


def test_tables_of_polars_are_read_as_those_of_pandas():
    table = pd.DataFrame({"source": ["KLF1", "GATA1"], "target": ["HBB", "ALAS2"], "weight": [0.5, 1.0]})
    given = polars.DataFrame(table.to_dict("list"))
    for one in (given, given.lazy()):
        assert edges_of(one) == edges_of(table)
        pd.testing.assert_frame_equal(scapp.resources.from_table(one), scapp.resources.from_table(table))
    wide = pd.DataFrame({"perturbation": ["KLF1", "GATA1"], "HBB": [0.5, -1.0], "ALAS2": [0.1, 0.2]})
    found = scapp.pp.read_effects(polars.DataFrame(wide.to_dict("list")), base="e")
    np.testing.assert_allclose(found.to_df("lfc")[["HBB", "ALAS2"]], wide[["HBB", "ALAS2"]], rtol=1e-6)


def test_a_list_of_pairs_is_a_network_for_from_table():
    found = scapp.resources.from_table([("KLF1", "HBB", 0.5), ("GATA1", "ALAS2", 1.0)])
    assert found[["source", "target", "weight"]].values.tolist() == [["KLF1", "HBB", 0.5], ["GATA1", "ALAS2", 1.0]]


def test_string_as_downloaded_is_read_with_its_table_of_names(tmp_path):
    ids = {gene: f"9606.ENSP0000000000{i}" for i, gene in enumerate(GENES)}
    links, info = tmp_path / "9606.protein.links.v12.0.txt", tmp_path / "9606.protein.info.v12.0.txt"
    links.write_text(
        f"protein1 protein2 combined_score\n{ids['KLF1']} {ids['HBB']} 900\n{ids['GATA1']} {ids['KLF1']} 450\n"
    )
    lines = [f'{id_}\t{gene}\t100\tthe "{gene}" protein' for gene, id_ in ids.items()]
    info.write_text("\n".join(["#string_protein_id\tpreferred_name\tprotein_size\tannotation", *lines]) + "\n")
    found = edges_of(links, aliases=info)
    assert found == {("KLF1", "HBB"): 900, ("HBB", "KLF1"): 900, ("GATA1", "KLF1"): 450, ("KLF1", "GATA1"): 450}
    with pytest.raises(ValueError, match=r"STRING's protein ids.*aliases='….protein.info"):
        scapp.pp.add_network(genes(), links)


HGNC = pd.DataFrame(
    {
        "symbol": ["MARCHF1", "MARCHF3", "MTARC1", "SEPTIN2", "DELEC1", "KLF1", "POU5F1"],
        "prev_symbol": ["MARCH1", "MARCH3", "MARC1", "SEPT2", "DEC1", "", ""],
        "alias_symbol": ["", "", "", "", "", "EKLF", "OCT4"],
    }
)


@pytest.mark.parametrize(
    ("name", "symbol"),
    [
        ("2-Sep", "SEPTIN2"),
        ("02-Sep", "SEPTIN2"),
        ("2-Sep-24", "SEPTIN2"),
        ("2-Sep-2024", "SEPTIN2"),
        ("Sep-02", "SEPTIN2"),
        ("2-sep", "SEPTIN2"),
        ("2023-09-02 00:00:00", "SEPTIN2"),
        ("3-Mar", "MARCHF3"),
        ("1-Dec", "DELEC1"),
        ("4-Oct", "POU5F1"),
    ],
)
def test_dates_of_a_spreadsheet_are_the_genes_that_they_were(name, symbol):
    adata = genes(["KLF1", name])
    report = reported(scapp.pp.harmonize_genes, adata, aliases=HGNC)
    assert adata.var_names.tolist() == ["KLF1", symbol]
    assert report.names.set_index("name").loc[name, "rule"] == "excel"
    renamed = HGNC.assign(prev_symbol="")  # the new symbols alone tell it, but for aliases
    other = genes(["KLF1", name])
    scapp.pp.harmonize_genes(other, aliases=renamed)
    assert other.var_names.tolist() == ["KLF1", symbol]


def test_a_date_that_two_genes_became_is_listed_unless_one_of_them_is_there():
    adata = genes(["KLF1", "1-Mar"])
    report = reported(scapp.pp.harmonize_genes, adata, aliases=HGNC)
    assert adata.var_names.tolist() == ["KLF1", "1-Mar"]
    assert report.ambiguous["candidates"].tolist() == ["MARCHF1, MTARC1"]
    for there, other in (("MTARC1", "MARCHF1"), ("MARC1", "MARCHF1"), ("MARCHF1", "MTARC1")):
        adata = genes(["KLF1", "1-Mar", there])
        scapp.pp.harmonize_genes(adata, aliases=HGNC)
        assert adata.var_names[1] == other


def test_clones_that_became_powers_of_ten_are_found_where_one_alone_fits():
    table = pd.DataFrame(
        {"symbol": ["2310009E13Rik", "2310001E13Rik", "5730000E07Rik", "Klf1"], "alias_symbol": [""] * 3 + ["Eklf"]}
    )
    adata = genes(["2.31E+19", "5.73E+13", "Klf1"])
    report = reported(scapp.pp.harmonize_genes, adata, aliases=table)
    assert adata.var_names.tolist() == ["2.31E+19", "5730000E07Rik", "Klf1"]
    assert report.ambiguous["candidates"].tolist() == ["2310001E13Rik, 2310009E13Rik"]


def test_names_of_genes_are_no_dates():
    for name in (
        "KLF1",
        "MARCH1",
        "SEPT2",
        "DEC1",
        "MAR-1A",
        "1A-Mar",
        "32-Foo",
        "2-Foo",
        "7SK",
        "ENSG00000105610",
        "E2F1",
    ):
        assert excel_form(name) == ""
    assert list(made_by_excel("KLF1")) == list(made_by_excel("SEPT99")) == []
    assert list(made_by_excel("Septin2")) == ["SEP-2"]


@pytest.mark.parametrize("matrix", ["dense", "sparse"])
def test_a_file_of_anndata_below_0_7_is_read_by_its_path(tmp_path, matrix):
    n = 60
    counts = np.random.default_rng(0).poisson(5, size=(n, 4)).astype(np.float32)
    obs = np.zeros(n, dtype=[("index", "S10"), ("perturbation", "i1")])
    obs["index"], obs["perturbation"] = [f"c{i}".encode() for i in range(n)], np.repeat([0, 1, 2], 20)
    var = np.array([(name.encode(),) for name in GENES], dtype=[("index", "S10")])
    with h5py.File(tmp_path / "old.h5ad", "w") as file:
        if matrix == "dense":
            file["X"] = counts
        else:
            csr = sparse.csr_matrix(counts)
            group = file.create_group("X")
            group["data"], group["indices"], group["indptr"] = csr.data, csr.indices, csr.indptr
            group.attrs["h5sparse_format"], group.attrs["h5sparse_shape"] = "csr", counts.shape
        file["obs"], file["var"] = obs, var
        file["uns/perturbation_categories"] = np.array([b"GATA1", b"KLF1", b"control"])
    labels = np.repeat(["GATA1", "KLF1", "control"], 20)
    cells = ad.AnnData(counts, obs=pd.DataFrame({"perturbation": labels}, index=[f"c{i}" for i in range(n)]),
                       var=pd.DataFrame(index=GENES))  # fmt: skip
    expected = scapp.pp.pseudobulk(cells)
    found = scapp.pp.pseudobulk(tmp_path / "old.h5ad")
    assert found.obs_names.tolist() == expected.obs_names.tolist()
    np.testing.assert_allclose(found.layers["lfc"], expected.layers["lfc"], rtol=1e-5)


def test_screens_of_other_kinds_are_named_with_who_reads_them(tmp_path):
    for name, group, reader in (
        ("m.h5mu", "mod", "read_h5mu"),
        ("x.h5", "matrix", "read_10x_h5"),
        ("x.loom", "matrix", "read_loom"),
    ):
        with h5py.File(tmp_path / name, "w") as file:
            file.create_group(group)
        with pytest.raises(ValueError, match=f"{name}' is .*where an AnnData is expected.*{reader}"):
            scapp.pp.pseudobulk(tmp_path / name)
    (tmp_path / "filtered").mkdir()
    (tmp_path / "filtered" / "matrix.mtx.gz").write_bytes(b"")
    with pytest.raises(ValueError, match="read_10x_mtx"):
        scapp.pp.pseudobulk(tmp_path / "filtered")
    (tmp_path / "screen.h5ad.gz").write_bytes(gzip.compress(b"\x89HDF"))
    with pytest.raises(ValueError, match="Unpack it with `gunzip`"):
        scapp.pp.pseudobulk(tmp_path / "screen.h5ad.gz")
    with pytest.raises(ValueError, match="is an address.*Download it"):
        scapp.pp.pseudobulk("https://host.example/screen.h5ad")
    with pytest.raises(TypeError, match=r"found MuData\. Pass the modality.*mdata\['rna'\]"):
        scapp.pp.pseudobulk(mudata.MuData({"rna": genes()}))
    with pytest.raises(TypeError, match=r"found DataFrame\. Make one of counts"):
        scapp.pp.pseudobulk(pd.DataFrame({"KLF1": [1]}))


@pytest.mark.parametrize(
    "read", [scapp.pp.pseudobulk, scapp.report.make_report, labelled_cells], ids=["pseudobulk", "report", "loader"]
)
def test_every_reader_of_screens_names_what_it_was_given(read, tmp_path):
    (tmp_path / "cells.csv").write_text("gene,c1\nKLF1,3\n")
    (tmp_path / "damaged.h5ad").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(200))
    with h5py.File(tmp_path / "m.h5mu", "w") as file:
        file.create_group("mod")
    for name, said in (("cells.csv", "is a table"), ("damaged.h5ad", "truncated, damaged"), ("m.h5mu", "is a MuData")):
        with pytest.raises(ValueError, match=f"{name}' .*{said}"):
            read(tmp_path / name)
