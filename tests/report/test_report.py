"""The page about a screen has every section, also where the data lack something, and nothing from elsewhere."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import anndata as ad
import numpy as np
import pandas as pd
import pytest

import scapp
from scapp._cli import main
from scapp.report import make_report
from scapp.report._page import Section, render
from scapp.report._sections import SECTIONS

SMALL = {
    "n_genes": 100, "n_regulators": 22, "n_singles": 18, "n_doubles": 20, "n_cells_per_perturbation": 12,
    "n_control_cells": 80,
}  # fmt: skip
TITLES = [title for title, _ in SECTIONS]
VOID = {"meta", "br"}


class Page(HTMLParser):
    """Reads a page: its text by section, whether its tags are closed, and what it would load."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.sections: dict[str, str] = {}
        self.loaded: list[str] = []
        self.current, self.heading = "", False
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        self.heading |= tag == "h2"
        found = dict(attrs)
        self.loaded += [found[name] for name in ("src", "href") if found.get(name) and not found[name].startswith("#")]
        self.loaded += [tag] if tag in ("script", "link", "iframe") else []

    def handle_startendtag(self, tag, attrs):
        """Shapes of a picture close themselves."""

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.heading &= tag != "h2"

    def handle_data(self, data):
        if self.heading:
            self.current = data
            self.sections[data] = ""
        elif self.current:
            self.sections[self.current] += f"{data} "


def read(path) -> Page:
    page = Page(path.read_text(encoding="utf-8"))
    assert not page.open and not page.loaded
    assert list(page.sections) == TITLES
    return page


@pytest.fixture(scope="module")
def simulated():
    return scapp.datasets.simulated_perturb_seq(**SMALL)


@pytest.fixture(scope="module")
def page(simulated, tmp_path_factory):
    cells, truth = simulated
    path = tmp_path_factory.mktemp("report") / "new folder" / "page.html"
    before = cells.copy()
    options = {"batch_key": "batch", "n_splits": 1, "kind": "perturbation_type"}
    assert make_report(cells, truth.network, output=path, **options) == path
    pd.testing.assert_frame_equal(cells.obs, before.obs)
    assert not cells.uns and not cells.varp
    return read(path)


def test_every_section_says_what_it_is_about(page):
    said = page.sections
    assert "could not be shown" not in " ".join(said.values())
    assert re.search(r"cells\s+536", said["What was read"]) and "18 of 1, 20 of 2" in said["What was read"]
    assert re.search(r"control cells\s+80", said["Controls, cells and efficacy"])
    assert re.search(r"worked\s+\d", said["Controls, cells and efficacy"])
    assert re.search(r"perturbed genes\s+18", said["Coverage of the network"])
    accuracy = said["Accuracy on held-out perturbations"]
    for part in (
        "Combinations that were held out",
        "Genes that were not seen",
        "pair kernel",
        "APP",
        "spread kept",
        "noise",
    ):
        assert part in accuracy
    assert "Genes that nobody perturbed" in said["Strongest predictions"]
    assert "Pairs that nobody measured" in said["Strongest predictions"]
    assert "Measured" in said["Pairs that interact"] and "Predicted" in said["Pairs that interact"]
    assert "Single genes" in said["What to measure next"] and "Pairs of genes" in said["What to measure next"]


def test_probabilities_and_changes_are_those_of_the_model(page):
    listed = re.findall(r"([-+]\d+\.\d\d) \((\d\.\d\d)\)", page.sections["Strongest predictions"])
    assert len(listed) > 50
    assert all(0 <= float(p) <= 1 for _, p in listed) and max(float(p) for _, p in listed) > 0.8


def test_it_is_legible_on_a_phone_and_in_the_dark(tmp_path):
    section = Section("T<i>tle")
    section.table(
        pd.DataFrame({"gene": [f"<b>{i}" for i in range(40)], "value": np.linspace(0, 9, 40)}), "caption & more"
    )
    section.bars([("APP", 1.0, True), ("mean", 2.0, False)], "bars", line=0.5)
    section.scatter(np.array([0.0, 1.0]), np.array([0.1, 0.9]), ("x", "y"), "points")
    text = render("A & B", "sub", [section])
    assert "<b>0" not in text and "&lt;b&gt;0" in text and "A &amp; B" in text and "T&lt;i&gt;tle" in text
    for part in ("prefers-color-scheme: dark", "width=device-width", "overflow-x: auto", "<details>", "28 more"):
        assert part in text
    assert Page(text).sections == {"T<i>tle": Page(text).sections["T<i>tle"]}


def test_without_controls_the_labels_and_the_network_are_still_shown(simulated, tmp_path):
    cells, truth = simulated
    only = cells[cells.obs["perturbation"] != "control"].copy()
    said = read(make_report(only, truth.network, output=tmp_path / "page.html")).sections
    assert "What is missing from this page" in said["What was read"] and "'control'" in said["What was read"]
    assert "Cells of each label" in said["Controls, cells and efficacy"]
    assert re.search(r"edges\s+\d", said["Coverage of the network"])
    assert re.search(r"perturbed genes\s+18", said["Coverage of the network"])
    for title in ("Strongest predictions", "What to measure next"):
        assert "a model needs effects" in said[title]


def test_of_one_perturbation_its_effect_is_shown_and_what_a_model_needs(simulated, tmp_path):
    cells, truth = simulated
    label = cells.obs["perturbation"][cells.obs["perturbation"] != "control"].iloc[0]
    one = cells[cells.obs["perturbation"].isin(["control", label])].copy()
    said = read(make_report(one, truth.network, output=tmp_path / "page.html")).sections
    assert "there are 1, and a model needs 4" in said["What was read"]
    assert str(label) in said["Controls, cells and efficacy"]
    assert "could not be tested" in said["Accuracy on held-out perturbations"]
    assert "a model needs 4 perturbations" in said["Strongest predictions"]


def test_without_a_network_baselines_and_measured_pairs_are_shown(simulated, tmp_path):
    said = read(make_report(simulated[0], output=tmp_path / "page.html", n_splits=1)).sections
    assert "a network" in said["What was read"] and "scapp.resources.string" in said["Coverage of the network"]
    accuracy = said["Accuracy on held-out perturbations"]
    assert "shrunk additive" in accuracy and "take no part without one" in accuracy
    assert "additive" in said["Pairs that interact"]
    assert "a model needs a network" in said["What to measure next"]


def test_effects_from_a_file_are_read_as_they_are(simulated, tmp_path):
    effects = scapp.pp.pseudobulk(simulated[0])
    effects.write_h5ad(tmp_path / "effects.h5ad")
    simulated[1].network.to_csv(tmp_path / "edges.tsv", sep="\t", index=False)
    path = make_report(
        tmp_path / "effects.h5ad", tmp_path / "edges.tsv", control=None, output=tmp_path / "p.html", n_splits=1
    )
    said = read(path).sections
    assert "These are effects" in said["What was read"] and "APP" in said["Accuracy on held-out perturbations"]
    assert "could not be shown" not in " ".join(said.values())


def test_what_cannot_be_read_is_refused_before_anything_is_written(simulated, tmp_path):
    cells, truth = simulated
    page = tmp_path / "page.html"
    with pytest.raises(ValueError, match="perturbation_key=…"):
        make_report(cells, truth.network, output=page, perturbation_key="guide")
    with pytest.raises(FileNotFoundError, match="with the screen"):
        make_report(tmp_path / "none.h5ad", output=page)
    with pytest.raises(FileNotFoundError, match="with the network"):
        make_report(cells, tmp_path / "none.tsv", output=page)
    (tmp_path / "text.h5ad").write_text("no h5ad")
    with pytest.raises(ValueError, match="cannot be read as an AnnData"):
        make_report(tmp_path / "text.h5ad", output=page)
    with pytest.raises(ValueError, match="n_splits must be"):
        make_report(cells, output=page, n_splits=0)
    assert not page.exists() and [p.name for p in tmp_path.iterdir()] == ["text.h5ad"]
    page.write_text("mine")
    with pytest.raises(FileExistsError, match="overwrite=True"):
        make_report(cells, output=page)
    with pytest.raises(FileExistsError, match="is a folder"):
        make_report(cells, output=tmp_path)
    assert page.read_text() == "mine"


def test_labels_with_signs_of_html_stand_on_the_page_as_they_are(simulated, tmp_path):
    cells = simulated[0].copy()
    labels = cells.obs["perturbation"].astype(str)
    odd = dict(
        zip(sorted(set(labels) - {"control"}), ["<script>alert(1)</script>", "A&amp;B\"'", "C$D$"], strict=False)
    )
    cells.obs["perturbation"] = labels.map(lambda label: odd.get(label, label))
    page = make_report(cells, simulated[1].network, output=tmp_path / "p.html", n_splits=1)
    assert all(label in read(page).sections["Controls, cells and efficacy"] for label in odd.values())


def test_a_network_of_other_genes_is_said_where_a_model_would_need_it(simulated, tmp_path):
    other = pd.DataFrame({"source": ["X1", "X2"], "target": ["X3", "X4"]})
    said = read(make_report(simulated[0], other, output=tmp_path / "page.html", n_splits=1)).sections
    assert "Only 0 of the 100 genes" in said["Coverage of the network"]
    for title in ("Strongest predictions", "Pairs that interact", "What to measure next"):
        assert "a model needs a network that fits these genes" in said[title]
        assert "varp" not in said[title]


def test_the_code_on_the_page_runs_and_reads_what_the_page_read(simulated, tmp_path):
    cells = simulated[0].copy()
    cells.obs["guide"] = cells.obs["perturbation"].astype(str).str.replace("+", "_")
    cells.layers["raw"] = cells.X.copy()
    del cells.X, cells.obs["perturbation"]
    edges = tmp_path / "edges.tsv"
    simulated[1].network.to_csv(edges, sep="\t", index=False)
    effects = scapp.pp.pseudobulk(cells, perturbation_key="guide", sep="_", layer="raw")
    effects.obs_names = effects.obs["guide"] = effects.obs["guide"].str.replace("+", "_").to_numpy()
    effects = ad.AnnData(obs=effects.obs[["guide"]], var=effects.var[[]], layers={"change": effects.layers["lfc"]})
    shared = {"perturbation_key": "guide", "sep": "_", "overwrite": True, "n_splits": 1}
    for data, options in (
        (cells, {"layer": "raw", "batch_key": "batch"}),
        (effects, {"layer": "change", "control": None}),
    ):
        page = make_report(data, edges, output=tmp_path / "p.html", **shared, **options)
        code = re.search("<pre>(.*)</pre>", page.read_text(), re.DOTALL)[1]
        made = {"cells": data, "scapp": scapp}
        exec(html.unescape(code).split("model.train()")[0], made)
        assert made["effects"].n_obs == 38 and made["effects"].varp["network"].nnz
        assert len(made["model"].adata.obs) == 38
        args = made["model"].registry["setup_args"]
        assert (args["batch_key"], args["perturbation_key"]) == (None, "guide")


def test_efficacy_that_cannot_be_judged_is_said_and_not_claimed(simulated, tmp_path):
    cells = simulated[0].copy()
    cells.obs["how"] = "cut with scissors"
    said = read(make_report(cells, output=tmp_path / "page.html", n_splits=1, kind="how")).sections
    efficacy = said["Controls, cells and efficacy"]
    assert "Efficacy could not be judged." in efficacy and "Judged by" not in efficacy and "own target" not in efficacy


def test_a_perturbation_without_values_has_no_size_of_effect(simulated, tmp_path):
    effects = scapp.pp.pseudobulk(simulated[0])
    effects.layers["lfc"][0] = effects.layers["lfc_se"][0] = np.nan
    said = read(make_report(effects, output=tmp_path / "page.html", control=None, n_splits=1)).sections
    row = rf"{re.escape(effects.obs_names[0])}\s+\d+\s+–\s+–\s"
    assert re.search(row, said["Controls, cells and efficacy"])


def test_where_it_cannot_write_is_said_before_the_work(simulated, tmp_path, monkeypatch):
    steps: list[str] = []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(FileExistsError, match="is a file, not a folder.*output="):
        make_report(simulated[0], output=tmp_path / "file" / "page.html", tell=steps.append)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("scapp.report._make_report.tempfile.TemporaryFile", refuse)
    with pytest.raises(PermissionError, match=r"cannot be written to \(Permission denied\).*output="):
        make_report(simulated[0], output=tmp_path / "page.html", tell=steps.append)
    assert set(steps) == {"Reading the screen …"}
    assert (tmp_path / "file").read_text() == "mine" and not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"data": 5}, "data of scapp.report.make_report must be .*found int"),
        ({"network": 5}, "network of scapp.report.make_report must be .*found int"),
        ({"kind": "scissors"}, "kind='scissors' is neither .*nor a column of adata.obs"),
    ],
)
def test_data_networks_and_kinds_of_other_forms_are_named(simulated, tmp_path, options, said):
    with pytest.raises((TypeError, ValueError), match=said):
        make_report(**{"data": simulated[0], "output": tmp_path / "page.html", **options})
    assert not any(tmp_path.iterdir())


def test_the_command_writes_a_page_and_says_each_step(simulated, tmp_path, capsys):
    only = simulated[0][simulated[0].obs["perturbation"] != "control"].copy()
    only.write_h5ad(tmp_path / "screen.h5ad")
    page = tmp_path / "page.html"
    assert main(["report", "--data", str(tmp_path / "screen.h5ad"), "--output", str(page)]) == 0
    read(page)
    shown = " ".join(capsys.readouterr().out.split())
    for part in (*TITLES, "Wrote"):
        assert part in shown
    assert main(["report", "--data", str(tmp_path / "screen.h5ad"), "--output", str(page)]) == 2
    assert main(["report", "--network", "edges.tsv", "--output", str(page)]) == 2


def test_warnings_of_reading_stand_on_the_page(shared_data, tmp_path):
    cells = ad.read_h5ad(shared_data / "datlinger_2017_jurkat_cells.h5ad")
    said = read(make_report(cells, output=tmp_path / "p.html", kind="knockout", n_splits=1)).sections
    assert "ncounts" in said["What was read"] and "total_counts_key" in said["What was read"]
    assert "More than 1 can be explained" in said["Accuracy on held-out perturbations"]


def test_papalexi_has_a_page(shared_data, tmp_path):
    page = make_report(
        shared_data / "papalexi_2021_counts.h5ad", shared_data / "networks" / "string_v12_no_textmining.tsv.gz",
        perturbation_key="grna_target", control="non-targeting", kind="knockout", n_splits=1, output=tmp_path / "p.html",
    )  # fmt: skip
    said = read(page).sections
    assert re.search(r"perturbations\s+25", said["Controls, cells and efficacy"])
    assert (
        "No combination" in said["Accuracy on held-out perturbations"]
        and "No pair was measured" in said["Pairs that interact"]
    )
    assert "could not be shown" not in " ".join(said.values())
    assert ad.read_h5ad(shared_data / "papalexi_2021_counts.h5ad", backed="r").n_obs == 20_729
