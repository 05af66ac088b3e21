"""The gallery of the documentation shows every picture, by lines that run."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import matplotlib.pyplot as plt
import pytest
import scanpy as sc

import scapp

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
# Sizes for a test instead of those of the page.
QUICK = {
    "simulated_perturb_seq(seed=1)": "simulated_perturb_seq(seed=1, n_genes=120, n_regulators=24, n_singles=20, n_doubles=48, "
    "n_cells_per_perturbation=12, n_control_cells=100)",
    "scapp.model.APP(train)": "scapp.model.APP(train)",
    "model.train()": "model.train(max_epochs=1, enable_progress_bar=False)",
}


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"_{path.stem}_of_a_test", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


gallery = load(DOCS / "make_gallery.py")


@pytest.fixture(scope="module")
def objects(planted) -> dict[str, Any]:
    """What the set-up of the page makes, smaller; the scores of a benchmark are planted."""
    code = gallery.SETUP
    for of_page, quick in QUICK.items():
        assert of_page in code
        code = code.replace(of_page, quick)
    made: dict[str, Any] = {}
    exec(code, made)
    made["results"] = planted[planted["task"] == "norman_doubles"]
    return made


@pytest.fixture
def nothing_is_shown() -> Iterator[None]:
    before = sc.settings.autoshow
    sc.settings.autoshow = False
    yield
    sc.settings.autoshow = before


def test_every_picture_of_scapp_pl_is_in_the_gallery():
    shown = {name for picture in gallery.PICTURES for name in re.findall(r"scapp\.pl\.(\w+)\(", picture.code)}
    assert shown == set(scapp.pl.__all__)


def test_page_is_the_one_that_the_script_writes():
    assert (DOCS / "gallery.md").read_text() == gallery.page(), "run `python docs/make_gallery.py`"


def test_files_are_those_of_the_page_and_small():
    files = {path.name: path.stat().st_size for path in (DOCS / gallery.FOLDER).iterdir()}
    assert set(files) == {f"{picture.name}.png" for picture in gallery.PICTURES}
    assert max(files.values()) < 60_000
    assert min(files.values()) > 3_000  # not empty


def test_pictures_are_described_for_those_who_do_not_see_them():
    for picture in gallery.PICTURES:
        assert len(picture.alt) > 60
        assert picture.text.endswith((".", "?"))


@pytest.mark.parametrize("picture", gallery.PICTURES, ids=lambda picture: picture.name)
def test_lines_of_the_page_draw_something_a_column_or_a_page_wide(picture, objects, nothing_is_shown):
    png = gallery.draw(picture, dict(objects))
    assert png.startswith(b"\x89PNG")
    figure = plt.gcf()
    assert any(ax.has_data() for ax in figure.axes)
    assert figure.get_figwidth() <= 7
    smallest = min(text.get_fontsize() for text in figure.findobj(plt.Text) if text.get_text().strip())
    assert smallest >= 5.5
