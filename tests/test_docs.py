"""What the documentation promises."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import scapp

DOCS = Path(__file__).parents[1] / "docs"
API = DOCS / "api.md"
SUBMODULES = scapp._SUBMODULES


def public_objects() -> list[str]:
    return [f"{module}.{name}" for module in SUBMODULES for name in getattr(scapp, module).__all__]


@pytest.mark.parametrize("module", SUBMODULES)
def test_api_page_lists_what_is_public(module):
    listed = {line.strip() for line in API.read_text().splitlines() if line.startswith(f"   {module}.")}
    assert listed == {f"{module}.{name}" for name in getattr(scapp, module).__all__}


def test_public_objects_and_their_methods_have_finished_docstrings():
    unfinished = []
    for path in public_objects():
        module, name = path.split(".")
        thing = getattr(getattr(scapp, module), name)
        own = [
            member
            for key, member in (vars(thing).items() if inspect.isclass(thing) else [])
            if not key.startswith("_") and (inspect.isroutine(member) or isinstance(member, property))
        ]
        for described in [thing, *own]:
            text = inspect.getdoc(described) or ""
            if not text or "%(" in text or "TODO" in text:
                unfinished.append((path, described))
    assert not unfinished


def test_parameters_of_public_functions_are_documented():
    missing = []
    for path in public_objects():
        module, name = path.split(".")
        thing = getattr(getattr(scapp, module), name)
        if not inspect.isfunction(thing):
            continue
        lines = [line.strip() for line in (inspect.getdoc(thing) or "").splitlines()]
        documented = {part.strip(" *") for line in lines for part in line.split(",")}
        missing += [f"{path}({p})" for p in inspect.signature(thing).parameters if p not in documented]
    assert not missing


def test_examples_of_the_designs_page_run_as_they_stand():
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "designs.md").read_text(), flags=re.DOTALL)
    names: dict = {}
    for block in blocks:
        exec(block, names)
    assert names["mdata"]["rna"].obs["guide_status"].eq("none").any()
    assert "predicted_lfc" in names["there"].layers and names["there"].n_obs == 10


# What people type into the search box: American spellings, and the words of other tools.
SEARCHED = [
    "knockdown", "knockout", "overexpression", "gpu", "differential expression", "volcano", "citation", "bibtex", "troubleshooting",
    "pseudobulk", "perturb-seq", "crop-seq", "cell line", "batch", "ensembl", "gears", "cpa", "scgpt", "pertpy", "synergy", "guide rna",
    "normalize", "color", "grn", "virtual cell challenge", "install", "save", "seurat", "deseq2", "umap",
]  # fmt: skip


@pytest.mark.parametrize("word", SEARCHED)
def test_words_that_people_search_for_have_a_page(word):
    pages = [*DOCS.glob("*.md"), *DOCS.glob("howto/*.md"), *(DOCS.parent / "tutorials").glob("*.ipynb")]
    texts = (p.read_text(encoding="utf-8").lower() for p in pages if p.stem not in {"changelog", "model_log"})
    assert any(word in text for text in texts)


def test_public_pages_hold_no_text_for_developers():
    private = re.compile(r"\.\./shared|submission|/work/|/root/")
    found = {
        page.name: private.findall(page.read_text(encoding="utf-8"))
        for page in [*DOCS.glob("*.md"), *DOCS.glob("howto/*.md"), DOCS.parent / "README.md"]
        if page.stem not in {"contributing", "model_log"}
    }
    assert not {name: hits for name, hits in found.items() if hits}
