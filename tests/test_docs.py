"""What the documentation promises."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import scapp

API = Path(__file__).parents[1] / "docs" / "api.md"
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
