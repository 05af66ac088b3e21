"""The rooms of scapp know of each other what `docs/architecture.md` says, and no more."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

import scapp

SCRIPT = Path(__file__).parents[1] / "docs" / "make_architecture.py"

# Imports of another room's private modules, by the importing module. Both lists may only get shorter: mend one, take it out.
PRIVATE_IMPORTS: frozenset[tuple[str, str]] = frozenset()
# Attributes with an underscore that `tl` and `pl` read from objects of other rooms.
PRIVATE_ATTRIBUTES: frozenset[tuple[str, str]] = frozenset()
# What a room must never load, neither at the top of a module nor within a function.
FORBIDDEN = {
    "metrics": {"anndata", "lightning", "mudata", "scanpy", "scvi", "torch", "torch_geometric"},
    "module": {"anndata", "mudata", "scanpy"},
    "graph": {"anndata", "lightning", "mudata", "scanpy", "scvi", "torch", "torch_geometric"},
    "pp": {"lightning", "scvi", "torch", "torch_geometric"},
    "baselines": {"lightning", "scvi", "torch", "torch_geometric"},
    "pl": {"lightning", "scvi", "torch", "torch_geometric"},
}


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    """The script that draws the picture, which reads the imports."""
    spec = importlib.util.spec_from_file_location("make_architecture", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    return module


def private_imports(architecture: ModuleType) -> set[tuple[str, str]]:
    """Return (module, private name of another room) of all imports, those for types included."""
    found = set()
    for each in architecture.imports():
        room, other = each.rooms
        parts = each.name.split(".")
        below = parts[2:] if other != architecture.COMMAND else parts[1:]
        if parts[0] == "scapp" and room != other and other != architecture.GROUND:
            if any(part.startswith("_") for part in below):
                found.add((each.module, each.name))
    return found


def private_attributes(architecture: ModuleType) -> set[tuple[str, str]]:
    """Return (module, attribute) wherever `tl` or `pl` read a private attribute of anything but themselves."""
    found = set()
    for name, tree in architecture.modules().items():
        if architecture.room_of(name) not in ("tl", "pl"):
            continue
        # Neither modules of the same room nor other packages (`sys._getframe`).
        own = {
            each.name.split(".")[-1]
            for each in architecture.imports()
            if each.module == name and (len(set(each.rooms)) == 1 or not each.name.startswith("scapp."))
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
                if ast.unparse(node.value) not in {"self", "cls", *own}:
                    found.add((name, node.attr))
    return found


def test_no_room_imports_private_modules_of_another_in_a_new_place(architecture):
    assert sorted(private_imports(architecture) - PRIVATE_IMPORTS) == []


def test_mended_private_imports_are_off_the_list(architecture):
    assert sorted(PRIVATE_IMPORTS - private_imports(architecture)) == []


def test_tools_and_plots_read_no_private_attributes_in_a_new_place(architecture):
    assert sorted(private_attributes(architecture) - PRIVATE_ATTRIBUTES) == []


def test_mended_private_attributes_are_off_the_list(architecture):
    assert sorted(PRIVATE_ATTRIBUTES - private_attributes(architecture)) == []


def test_rooms_do_not_import_each_other_in_circles(architecture):
    uses = architecture.links(architecture.imports())
    circles = architecture.KNOWN_CIRCLES
    assert uses[architecture.GROUND] == set()
    assert {room for storey in architecture.storeys(uses) for room in storey} == set(uses)
    assert {(a, b) for a, b in circles if b in uses[a] and a in uses[b]} == circles  # a mended one leaves the list
    assert not circles


def test_a_circle_is_noticed(architecture):
    with pytest.raises(SystemExit, match="circle: data, model"):
        architecture.storeys({"ground floor": set(), "model": {"data"}, "data": {"model"}})


def test_imports_within_functions_and_for_types_are_told_apart(architecture):
    code = "import a\nif TYPE_CHECKING:\n    from b import c\ndef f():\n    from d import e\n"
    assert list(architecture._imports(ast.parse(code))) == [("a", False), ("b.c", True), ("d.e", False)]


@pytest.mark.parametrize("room", FORBIDDEN)
def test_rooms_do_not_load_what_is_not_their_subject(room, architecture):
    loaded = {each.name.split(".")[0] for each in architecture.imports() if each.rooms[0] == room and not each.typing}
    assert loaded & FORBIDDEN[room] == set()


def test_the_picture_and_the_table_show_the_imports_of_today(architecture):
    found = architecture.imports()
    mend = "run `python docs/make_architecture.py`"
    assert architecture.PICTURE.read_text(encoding="utf-8") == architecture.picture(found), mend
    text = architecture.PAGE.read_text(encoding="utf-8")
    assert text == architecture.page(text, found), mend


def test_every_folder_is_a_room_of_the_picture(architecture):
    folders = {path.parent.name for path in architecture.SOURCE.glob("*/__init__.py")}
    assert folders == set(architecture.PURPOSES) - {architecture.GROUND, architecture.COMMAND}


def test_the_calls_on_the_way_of_the_data_exist(architecture):
    for *_, call in architecture.WAY:
        thing = scapp
        for part in filter(None, call.split(".")):
            thing = getattr(thing, part)
        assert callable(thing) or not call
