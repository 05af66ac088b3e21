"""Draw the rooms of scapp and the way of the data, from the imports of the code.

``python docs/make_architecture.py`` writes ``docs/_static/architecture.svg`` and the table of imports in ``docs/architecture.md``.
``tests/test_architecture.py`` fails where either is no longer what the code says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

DOCS = Path(__file__).parent
SOURCE = DOCS.parent / "src" / "scapp"
PICTURE = DOCS / "_static" / "architecture.svg"
PAGE = DOCS / "architecture.md"
BEGIN, END = "<!-- begin: written by make_architecture.py -->\n", "<!-- end: written by make_architecture.py -->\n"

GROUND = "ground floor"
COMMAND = "command line"
# One line for each room; a folder that is missing here, or gone, stops the script.
PURPOSES = {
    GROUND: "labels, tables, edges, names of genes, downloads",
    "baselines": "models to compare with",
    "benchmark": "tasks, methods, scores",
    COMMAND: "scapp demo, benchmark, report",
    "datasets": "public and simulated screens",
    "expression": "cells by blocks, on one scale",
    "graph": "networks as sparse matrices",
    "metrics": "arrays in, numbers out",
    "model": "APP: set up, train, predict",
    "module": "closed form and attention",
    "pl": "pictures",
    "pp": "cells to effects, evidence",
    "report": "one page about a screen",
    "resources": "STRING, GO, gene embeddings",
    "tl": "ranked genes, designs, tests",
}
# Modules in the top folder that belong to the command; all others are the ground floor.
COMMAND_MODULES = {"scapp._cli", "scapp._demo"}
# The way of the data: an object, then the call that makes the next one.
WAY = [
    ("cells", "AnnData, MuData, file", "pp.pseudobulk"),
    ("effects", "lfc and its error", "pp.add_evidence"),
    ("with evidence", "networks, features", "model.APP"),
    ("model", "trained on effects", "model.APP.predict"),
    ("predictions", "layers and uns", "tl.screen"),
    ("answers", "tables, pictures", ""),
]
# Pairs of rooms that import each other; the second import is not drawn as a storey.
KNOWN_CIRCLES: set[tuple[str, str]] = set()
HEAVY = {"torch": {"lightning", "scvi", "torch", "torch_geometric"}, "AnnData": {"anndata", "mudata", "scanpy"}}


@dataclass(frozen=True)
class Import:
    """An import: by which module, of which name (``scapp._tables.read_table``), and whether only types need it."""

    module: str
    name: str
    typing: bool

    @property
    def rooms(self) -> tuple[str, str]:
        """The rooms on both sides."""
        return room_of(self.module), room_of(self.name)


def room_of(name: str) -> str:
    """Return the room of a module, or of what is imported from it."""
    parts = name.split(".")
    if len(parts) > 1 and (SOURCE / parts[1]).is_dir():
        return parts[1]
    return COMMAND if ".".join(parts[:2]) in COMMAND_MODULES else GROUND


@cache
def modules() -> dict[str, ast.Module]:
    """Return the parsed modules of scapp by name."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["scapp", *path.relative_to(SOURCE).with_suffix("").parts]
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = ast.parse(path.read_text(encoding="utf-8"))
    return found


def _imports(tree: ast.AST, typing: bool = False) -> Iterator[tuple[str, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, typing) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((f"{node.module}.{alias.name}", typing) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from ((name, True) for child in node.body for name, _ in _imports(ast.Module([child], [])))
        else:
            yield from _imports(node, typing)


@cache
def imports() -> list[Import]:
    """Return all imports of the modules of scapp, those within functions included."""
    return [Import(module, *found) for module, tree in modules().items() for found in _imports(tree)]


def links(found: list[Import]) -> dict[str, set[str]]:
    """Return, for each room, the rooms whose code it runs. The package's face, ``scapp/__init__.py``, is no room."""
    rooms: dict[str, set[str]] = {room: set() for room in PURPOSES}
    for each in found:
        a, b = each.rooms
        if each.name.startswith("scapp.") and each.module != "scapp" and not each.typing and a != b:
            rooms[a].add(b)
    return rooms


def needs(found: list[Import]) -> dict[str, list[str]]:
    """Return which of the large libraries each room imports by itself."""
    used: dict[str, set[str]] = {room: set() for room in PURPOSES}
    for each in found:
        if not each.typing:
            used[each.rooms[0] if each.module != "scapp" else GROUND].add(each.name.split(".")[0])
    return {room: [name for name, of in HEAVY.items() if of & libraries] for room, libraries in used.items()}


def storeys(uses: dict[str, set[str]]) -> list[list[str]]:
    """Return the rooms from the top down: each stands below all that use it, and the ground floor below everything."""
    users = {room: {a for a in uses if room in uses[a] and (a, room) not in KNOWN_CIRCLES} for room in uses}
    level: dict[str, int] = {}
    rest = sorted(uses.keys() - {GROUND})
    while rest:
        placed = [room for room in rest if users[room] <= level.keys()]
        if not placed:
            raise SystemExit(f"Rooms import each other in a circle: {', '.join(rest)}.")
        for room in placed:
            level[room] = 1 + max((level[a] for a in users[room]), default=-1)
        rest = [room for room in rest if room not in level]
    for room in sorted(uses.keys() - {GROUND, COMMAND}):
        if not users[room]:  # used by the reader only: just above what it uses
            level[room] = min((level[b] for b in uses[room] - {GROUND}), default=1) - 1
    return [*([r for r in sorted(level) if level[r] == i] for i in range(1 + max(level.values()))), [GROUND]]


def drawn_links(uses: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Return the links that do not follow from others, without those to the ground floor, which all rooms stand on."""
    direct = {a: {b for b in below if b != GROUND and (a, b) not in KNOWN_CIRCLES} for a, below in uses.items()}

    def below(room: str) -> set[str]:
        return direct[room] | {x for b in direct[room] for x in below(b)}

    return [
        (a, b) for a in sorted(direct) for b in sorted(direct[a]) if not any(b in below(c) for c in direct[a] - {b})
    ]


Place = tuple[float, float]
WIDTH, BOX, HEIGHT, RISE = 1240, 192, 62, 112
STYLE = """\
  text { font-family: "DejaVu Sans", Verdana, Helvetica, sans-serif; font-size: 12px; fill: #1f2933; }
  .title { font-size: 16px; font-weight: bold; } .name { font-size: 14px; font-weight: bold; } .small { font-size: 10.5px; fill: #52606d; }
  .room { fill: #e8f1fa; stroke: #4a7ba6; } .inner { fill: #f4f5f7; stroke: #8795a1; } .object { fill: #fdf3e1; stroke: #c98a2b; }
  .link { fill: none; stroke: #7b8794; stroke-width: 1.2; } .circle { stroke: #b42318; stroke-dasharray: 5 3; }
  .way { fill: none; stroke: #c98a2b; stroke-width: 2; }"""


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "middle") -> str:
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" class="{style}">{text}</text>'


def _box(x: float, y: float, width: float, lines: list[tuple[str, str]], style: str) -> list[str]:
    box = f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="6" class="{style}"/>'
    first = y + (HEIGHT - 17 * (len(lines) - 1)) / 2 + 4
    return [box, *(_text(x + width / 2, first + 17 * i, *line) for i, line in enumerate(lines))]


def picture(found: list[Import]) -> str:
    """Return the picture as SVG: the way of the data, and below it the rooms, each above those that it imports."""
    uses, libraries = links(found), needs(found)
    floors = storeys(uses)[:-1]
    shown = [
        *_text_of_way(),
        _text(20, 152, "The rooms: lines lead from each to those that it imports", "title", "start"),
    ]
    top = 172
    places: dict[str, Place] = {}
    for i, floor in enumerate(floors):
        floor = _largest_in_the_middle(floor, uses)
        step = WIDTH / len(floor)
        for j, room in enumerate(floor):
            places[room] = (step * (j + 0.5) - BOX / 2, top + i * RISE)
    bottom = top + len(floors) * RISE
    lines, boxes = [], []
    for a, b in drawn_links(uses):
        lines.append(_curve(places[a], places[b], places.values(), "link", "arrow"))
    for a, b in sorted(KNOWN_CIRCLES):
        if b in uses[a]:
            lines.append(_curve(places[a], places[b], places.values(), "link circle", "back"))
    for room, (x, y) in places.items():
        public = "room" if room in {*_public(), COMMAND} else "inner"
        marks = ", ".join(libraries[room])
        text = [(room, "name"), (PURPOSES[room], "small"), *([(f"imports {marks}", "small")] if marks else [])]
        boxes += _box(x, y, BOX, text, public)
    boxes += _box(20, bottom, WIDTH - 40, [(GROUND, "name"), (PURPOSES[GROUND], "small")], "inner")
    legend = "blue: public or the command; grey: for scapp itself; lines that follow from others are left out"
    if KNOWN_CIRCLES:
        legend += "; dashed red: an import against the order, to be removed"
    note = _text(20, bottom + HEIGHT + 24, legend, "small", "start")
    arrows = "".join(
        f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0,0 L8,4 L0,8 z" fill="{colour}"/></marker>'
        for name, colour in (("arrow", "#7b8794"), ("back", "#b42318"), ("data", "#c98a2b"))
    )
    height = bottom + HEIGHT + 40
    body = "\n".join(["<rect width='100%' height='100%' fill='white'/>", *shown, *lines, *boxes, note])
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}">\n'
        f"<style>\n{STYLE}\n</style>\n<defs>{arrows}</defs>\n{body}\n</svg>\n"
    )


def _public() -> set[str]:
    """Return the rooms that `scapp` offers by name, as its ``__init__.py`` lists them."""
    tree = modules()["scapp"]
    values = [n.value for n in tree.body if isinstance(n, ast.Assign) and ast.unparse(n.targets[0]) == "_SUBMODULES"]
    return set(ast.literal_eval(values[0]))


def _text_of_way() -> list[str]:
    shown = [_text(20, 28, "The way of the data", "title", "start")]
    width = 138
    step = (WIDTH - 40 - width) / (len(WAY) - 1)
    for i, (name, what, call) in enumerate(WAY):
        x = 20 + i * step
        shown += _box(x, 48, width, [(name, "name"), (what, "small")], "object")
        if call:
            shown.append(f'<path d="M{x + width:g},79 H{x + step - 3:g}" class="way" marker-end="url(#data)"/>')
            shown.append(_text(x + (width + step) / 2, 44, call, "small"))
    return shown


def _largest_in_the_middle(floor: list[str], uses: dict[str, set[str]]) -> list[str]:
    """Return the rooms of a storey with those that use most in its middle, where lines to the storeys below start."""

    def below(room: str) -> set[str]:
        return uses[room] | {x for b in uses[room] if (room, b) not in KNOWN_CIRCLES for x in below(b)}

    ordered: list[str] = []
    for i, room in enumerate(sorted(floor, key=lambda room: (-len(below(room)), room))):
        ordered.insert(len(ordered) if i % 2 else 0, room)
    return ordered


def _curve(start: Place, end: Place, boxes: Iterable[Place], style: str, marker: str) -> str:
    """Return a line from one box to another, straight down past the boxes between them and bent between storeys only."""
    (x0, y0), (x1, y1) = start, end
    up = y1 < y0
    x0, x1 = x0 + BOX / 2 + (14 if up else 0), x1 + BOX / 2 + (14 if up else 0)
    y0, y1 = (y0, y1 + HEIGHT) if up else (y0 + HEIGHT, y1)
    bend, between = RISE - HEIGHT, [x for x, y in boxes if y0 < y < y1]
    lanes = [x0, x0 - BOX / 2 - 14, x0 + BOX / 2 + 14]
    lane = next((lane for lane in lanes if not any(x - 8 < lane < x + BOX + 8 for x in between)), x0)
    path, at, y = f"M{x0:g},{y0:g}", x0, y0
    if between:
        path += f" C{x0:g},{y0 + bend / 2:g} {lane:g},{y0 + bend / 2:g} {lane:g},{y0 + bend:g} V{y1 - bend:g}"
        at, y = lane, y1 - bend
    middle = (y + y1) / 2
    path += f" C{at:g},{middle:g} {x1:g},{middle:g} {x1:g},{y1:g}"
    return f'<path d="{path}" class="{style}" marker-end="url(#{marker})"/>'


def table(found: list[Import]) -> str:
    """Return all imports between rooms as a table of Markdown, from the top down."""
    uses, libraries = links(found), needs(found)
    rows = ["| room | uses | imports by itself |", "|---|---|---|"]
    for room in (room for floor in storeys(uses) for room in floor):
        used = ", ".join(f"`{b}`" for b in sorted(uses[room] - {GROUND}))
        rows.append(
            f"| {f'`{room}`' if room not in (GROUND, COMMAND) else room} | {used} | {', '.join(libraries[room])} |"
        )
    return "\n".join(rows) + "\n"


def page(text: str, found: list[Import]) -> str:
    """Return the text of the page with the table of today."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n" + table(found) + "\n" + END + rest.split(END)[1]


def main() -> None:
    """Write the picture, and the table into the page."""
    found = imports()
    PICTURE.write_text(picture(found), encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), found), encoding="utf-8")


if __name__ == "__main__":
    main()
