"""The tutorials run, and what is committed of them is their output and nothing of the machine that made it."""

from __future__ import annotations

import functools
import importlib.util
import json
import re
import runpy
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType

import nbformat
import pytest

TUTORIALS = Path(__file__).parents[1] / "tutorials"
NOTEBOOKS = sorted(TUTORIALS.glob("*.ipynb"))
LARGEST = 700_000
# Folders of users and of this project's machines, temporary ones, and those of an environment.
MACHINE = re.compile(
    r"/(?:work|home|root|Users|tmp|private|var|opt|mnt|scratch)/|[A-Z]:\\\\|site-packages|ipykernel_\d"
)


def outputs(path: Path) -> list[dict]:
    return [output for cell in json.loads(path.read_text())["cells"] for output in cell.get("outputs", [])]


def text_of(output: dict) -> str:
    parts = [output.get("text", ""), *(v for k, v in output.get("data", {}).items() if not k.startswith("image/"))]
    return "\n".join("".join(part) if isinstance(part, list) else str(part) for part in parts)


@pytest.fixture(scope="session")
def runner() -> ModuleType:
    """The script that runs the tutorials."""
    spec = importlib.util.spec_from_file_location("run_tutorials", TUTORIALS / "run.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def data_folder(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `SCAPP_DATA_DIR` names: each file under its own name, and the folders as well."""
    folder = tmp_path_factory.mktemp("data")
    for path in [*shared_data.iterdir(), *shared_data.glob("*/*")]:
        link = folder / path.name
        if not link.exists():
            link.symlink_to(path)
    return folder


class Handler(SimpleHTTPRequestHandler):
    """Serves the files of a folder, and says nothing of it."""

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="session")
def mirror(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server on this machine that has the public files under their names."""
    folder = tmp_path_factory.mktemp("public")
    runpy.run_path(str(Path(__file__).with_name("public_files.py")))["write_public_files"](shared_data, folder)
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def test_there_are_tutorials():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_committed_outputs_are_those_of_a_whole_run(path):
    cells = [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    found = outputs(path)
    assert any("image/png" in output.get("data", {}) for output in found)
    assert [output["evalue"] for output in found if output["output_type"] == "error"] == []
    assert [text_of(output) for output in found if output.get("name") == "stderr"] == []
    assert path.stat().st_size < LARGEST


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_name_no_machine(path):
    named = [text for output in outputs(path) if MACHINE.search(text := text_of(output))]
    sources = ["".join(cell["source"]) for cell in json.loads(path.read_text())["cells"]]
    assert [*named, *filter(MACHINE.search, sources)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_show_the_whole_run_and_say_what_a_quick_one_replaces(path, runner):
    notebook = nbformat.read(path, as_version=4)
    assert any(cell.metadata.get("quick") for cell in notebook.cells)
    assert not [cell.source for cell in notebook.cells if cell.cell_type == "code" and "quick" in cell.source]
    runner.make_quick(notebook)  # which raises where a text is not there
    notebook.cells[1].metadata["quick"] = {"nothing of this kind": ""}
    with pytest.raises(ValueError, match="which is not in it"):
        runner.make_quick(notebook)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_open_with_biology_and_imports(path):
    first, imports = json.loads(path.read_text())["cells"][:2]
    assert first["cell_type"] == "markdown" and len("".join(first["source"])) > 400
    lines = [line for line in "".join(imports["source"]).splitlines() if line]
    assert [line for line in lines if not line.startswith(("import ", "from ", "results_folder"))] == []
    sources = "".join("".join(cell["source"]) for cell in json.loads(path.read_text())["cells"])
    for switch in ("rcParams", "verbosity", "SCAPP_DATA_DIR", "SCAPP_TUTORIAL_QUICK"):
        assert switch not in sources


@pytest.mark.slow
@pytest.mark.tutorial
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, runner, data_folder):
    ran = runner.execute(path, {"SCAPP_TUTORIAL_QUICK": "1", "SCAPP_DATA_DIR": str(data_folder)})
    pictures = [o for cell in ran.cells for o in cell.get("outputs", []) if "image/png" in o.get("data", {})]
    committed = [o for o in outputs(path) if "image/png" in o.get("data", {})]
    assert len(pictures) == len(committed)


@pytest.mark.slow
@pytest.mark.tutorial
@pytest.mark.parametrize("name", ["3_unseen_genes", "4_attention_with_scanpy", "5_your_own_data"])
def test_notebook_runs_for_someone_who_has_no_file_yet(name, runner, mirror, tmp_path):
    environment = {"SCAPP_TUTORIAL_QUICK": "1", "SCAPP_DATA_DIR": str(tmp_path), "SCAPP_DATA_URL": mirror}
    runner.execute(TUTORIALS / f"{name}.ipynb", environment)
    assert len(list(tmp_path.iterdir())) >= 2  # what was downloaded
