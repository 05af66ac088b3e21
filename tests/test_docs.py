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
