"""Values, files and numbers that crash or hang libraries below are bounded or refused; each is tried in a process of its own."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy import sparse

import scapp
from scapp import _tables

HUGE = "1e4099999999"


def in_process(code: str, folder: Path) -> str:
    """What a program prints that must end without a crash within a minute."""
    program = f"import scapp, pandas as pd, numpy as np, anndata as ad\n{code}"
    env = os.environ | {"PYTHONPATH": str(Path(scapp.__file__).parents[1])}
    command = [sys.executable, "-W", "ignore", "-c", program]
    ended = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr[-800:]
    return ended.stdout


def test_an_exponent_of_many_digits_in_any_csv_does_not_end_the_interpreter(tmp_path):
    (tmp_path / "edges.csv").write_text(f"source,target,weight\nKLF1,HBB,{HUGE}\nGATA1,HBB,1\n")
    (tmp_path / "wide.csv").write_text(f"perturbation,KLF1,HBB\nKLF1,-1,{HUGE}\nGATA1,0.5,1\n")
    (tmp_path / "benchmark.csv").write_text(f"metric,value\nl2,{HUGE}\n")
    code = f"""
for call in (
    lambda: scapp.resources.from_table("edges.csv"),
    lambda: scapp.pp.read_effects("wide.csv"),
    lambda: scapp.resources.read_embedding_table("wide.csv"),
    lambda: scapp.benchmark.read_results("."),
):
    try:
        call()
        print("read")
    except (ValueError, TypeError, OSError) as error:
        print("refused")
from scapp._tables import to_numbers
print(to_numbers(pd.Series(["{HUGE}", "1"])).tolist())
"""
    assert in_process(code, tmp_path).split("\n")[-2] == "[inf, 1.0]"


def test_no_other_reader_of_numbers_is_used_than_the_two_that_survive():
    source = Path(scapp.__file__).parent
    for file in source.rglob("*.py"):
        text = file.read_text()
        assert "pd.to_numeric(" not in text, file
        for call in text.split("pd.read_csv(")[1:]:
            options = call.split("\n\n")[0][:600]
            in_message = call.startswith(("path, sep", "…"))
            assert in_message or "round_trip" in options or "dtype=str" in options, file


@pytest.mark.parametrize("flavor", ["seurat_v3", "seurat_v3_paper"])
@pytest.mark.parametrize("n_varying", [0, 2, 5, 12])
def test_counts_without_variation_are_refused_and_do_not_end_the_interpreter(tmp_path, flavor, n_varying):
    code = f"""
x = np.full((60, 40), 3.0, dtype=np.float32)
x[:, :{n_varying}] = np.random.default_rng(0).poisson(5, size=(60, {n_varying}))
obs = pd.DataFrame({{"perturbation": ["control"] * 30 + ["G1"] * 30}}, index=[f"c{{i}}" for i in range(60)])
cells = ad.AnnData(x, obs=obs, var=pd.DataFrame(index=[f"G{{i}}" for i in range(40)]))
try:
    scapp.pp.select_genes(cells, 5, flavor="{flavor}")
except ValueError as error:
    print(error)
"""
    assert f"flavor='{flavor}'" in in_process(code, tmp_path)


def test_paths_of_a_million_edges_end_where_no_longer_path_is_better():
    names = [f"G{i}" for i in range(30)]
    rows = np.arange(29)
    adata = ad.AnnData(
        obs=pd.DataFrame({"perturbation": ["G0"]}, index=["G0"]),
        var=pd.DataFrame(index=names),
        layers={"attention": np.full((1, 30), 1 / 30), "predicted_lfc": np.linspace(0, 1, 30)[None]},
        varp={"network": sparse.csr_matrix((np.full(29, 0.5), (rows, rows + 1)), shape=(30, 30))},
    )
    many = scapp.tl.attention_subnetwork(adata, "G0", max_length=10**6, n_attended=0)
    few = scapp.tl.attention_subnetwork(adata, "G0", max_length=30, n_attended=0)
    assert set(many.edges) == set(few.edges) and len(many.edges) == 29


@pytest.mark.parametrize("restart", [1e-300, 1e-6, 0.0, 1.5])
def test_a_walk_that_hardly_ever_restarts_is_refused_and_does_not_go_on_for_ever(restart):
    network = sparse.csr_matrix(np.ones((3, 3)) - np.eye(3))
    edges = pd.DataFrame({"source": ["A", "B"], "target": ["B", "C"]})
    for call in (
        lambda: scapp.graph.diffusion(network, restart=restart),
        lambda: scapp.graph.diffusion_embedding(network, restart=restart),
        lambda: scapp.baselines.KernelRidge(restart=restart),
        lambda: scapp.baselines.diffusion_similarity(edges, ["A", "B"], restart=restart),
    ):
        with pytest.raises(ValueError, match="restart must be a probability above 0 and at most 1"):
            call()


@pytest.mark.parametrize("where", ["first", "later"])
def test_a_line_of_tabs_is_refused_at_once(tmp_path, where):
    header = "hgnc_id\tsymbol\talias_symbol\tprev_symbol\tentrez_id\tensembl_gene_id\n"
    lines = ["\t" * 100_000 + "\n", header, "HGNC:1\tA\t\t\t1\tENSG1\n"]
    (tmp_path / "hgnc.txt").write_text("".join(lines if where == "first" else lines[1:] + lines[:1]))
    code = """
import time
for call in (lambda: scapp.resources.hgnc(file="hgnc.txt"), lambda: scapp.resources.from_table("hgnc.txt")):
    start = time.perf_counter()
    try:
        call()
    except ValueError:
        pass
    print(time.perf_counter() - start < 5)
"""
    assert in_process(code, tmp_path).split() == ["True", "True"]


def test_a_small_file_that_unpacks_without_end_is_not_read_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(_tables, "LARGEST_SMALL", 10**6)
    path = tmp_path / "edges.tsv.gz"
    path.write_bytes(gzip.compress(b"source\ttarget\nA\tB\n" + b"C\tD\n" * 5_000_000))
    for call in (
        lambda: scapp.resources.from_table(path),
        lambda: scapp.pp.read_effects(path),
        lambda: scapp.resources.hgnc(file=path),
    ):
        with pytest.raises(ValueError, match=r"edges\.tsv\.gz'.*(unpacks to more than|complete set)"):
            call()
    small = tmp_path / "small.tsv.gz"
    small.write_bytes(gzip.compress(b"source\ttarget\nA\tB\nC\tD\n"))
    assert len(scapp.resources.from_table(small)) == 2


def test_a_zip_that_unpacks_without_end_is_not_read(tmp_path, monkeypatch):
    from scapp import _xlsx

    monkeypatch.setattr(_xlsx, "LARGEST_SHEET", 10**6)
    path = tmp_path / "a.xlsx"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", '<w xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r='
                         '"http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheet r:id="i"/></w>')  # fmt: skip
        archive.writestr("xl/_rels/workbook.xml.rels", '<r><x Id="i" Target="sheet.xml"/></r>')
        archive.writestr("xl/sheet.xml", "<a/>")
        archive.writestr("xl/sharedStrings.xml", "<a>" + " " * 10**7 + "</a>")
    with pytest.raises(ValueError, match="larger than 1,000,000 bytes"):
        scapp.pp.read_effects(path)
    arrays = tmp_path / "a.npz"
    np.savez_compressed(arrays, names=np.array(["KLF1"]), x=np.zeros((1, 10**7)))
    adata = ad.AnnData(obs=pd.DataFrame(index=["a"]), var=pd.DataFrame(index=["KLF1"]))
    monkeypatch.setattr("scapp._feature_tables.LARGEST_SMALL", 10**6)
    with pytest.raises(ValueError, match="unpacks to"):
        scapp.pp.add_gene_features(adata, arrays, key_added="x")


# Pictures and paths


@pytest.fixture
def figures(tmp_path) -> Iterator[Path]:
    before = sc.settings.figdir
    sc.settings.figdir = tmp_path / "figures"
    yield tmp_path / "figures"
    sc.settings.figdir = before


@pytest.fixture
def predicted() -> ad.AnnData:
    names = ["KLF1", "A$B$", "$x_{", "c"]
    values = np.random.default_rng(0).dirichlet(np.ones(4), size=1)
    return ad.AnnData(
        obs=pd.DataFrame({"perturbation": ["KLF1"]}, index=["KLF1"]),
        var=pd.DataFrame(index=names),
        layers={"attention": values, "predicted_lfc": values},
    )


def test_pictures_are_saved_by_scanpys_habits_and_under_the_home_folder(predicted, figures, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    scapp.pl.attention(predicted, "KLF1", show=False, save=True)
    scapp.pl.attention(predicted, "KLF1", show=False, save=".png")
    scapp.pl.attention(predicted, "KLF1", show=False, save=False)
    scapp.pl.attention(predicted, "KLF1", show=False, save="~/a/b.svg")
    plt.close("all")
    assert sorted(path.name for path in figures.iterdir()) == ["attention.pdf", "attention.png"]
    assert (tmp_path / "home" / "a" / "b.svg").exists()
    assert not Path("~").exists()


def test_a_dollar_in_a_name_is_drawn_and_not_read_as_a_formula(predicted):
    for draw in (
        lambda: scapp.pl.attention(predicted, "KLF1", show=False),
        lambda: scapp.pl.predicted_profile(predicted, "KLF1", show=False, std_layer=None),
    ):
        ax = draw()
        ax.get_figure().canvas.draw()
        assert "$x_{" in {text.get_text() for text in ax.findobj(plt.Text)}
        plt.close("all")


def test_a_tilde_is_the_home_folder_in_every_path_that_is_written(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    from scapp.model._streaming import check_place

    assert check_place("~/a.zarr", overwrite=False) == tmp_path / "a.zarr"
    with pytest.raises(ValueError, match=str(tmp_path)):
        scapp.model.APP.load("~/nothing_here")
