"""The how-to pages run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted((DOCS / "howto").glob("*.md"))


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_list_of_howtos_names_each_page_twice():
    index = (DOCS / "howto.md").read_text()
    assert len(PAGES) >= 12
    for page in PAGES:
        assert index.count(f"howto/{page.stem}") == 2, page.stem  # in the table and in the tree of pages


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if p.stem != "use_with_pertpy"], ids=lambda page: page.stem)
def test_howto_runs_as_it_stands(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks(page):
        exec(compile(block, page.name, "exec"), names)
    assert "scapp" in names
    plt.close("all")
