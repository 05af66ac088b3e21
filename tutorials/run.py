"""Runs the tutorials and writes their outputs into them.

python tutorials/run.py [NAME ...]

runs all of them, or those whose file names begin with a NAME, each in an empty folder of its own. Data come from the folder
that ``SCAPP_DATA_DIR`` names, or are downloaded. With ``SCAPP_TUTORIAL_QUICK=1`` they run in a small version: the metadata of a
cell hold, under "quick", what is written in the place of which text then.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

HERE = Path(__file__).parent
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
QUICK, QUICK_KEY = "SCAPP_TUTORIAL_QUICK", "quick"
ENVIRONMENT = {
    "MPLBACKEND": "module://matplotlib_inline.backend_inline",  # whatever is set outside
    # Whether progress bars can be widgets depends on the machine, and says nothing about scapp.
    "PYTHONWARNINGS": 'ignore:IProgress not found,ignore:install "ipywidgets"',
}


def execute(path: Path, environment: dict[str, str], *, timeout: int = 900) -> nbformat.NotebookNode:
    """Run a notebook in an empty folder; raises ``nbclient.exceptions.CellExecutionError`` where a cell fails."""
    notebook = nbformat.read(path, as_version=4)
    environment = {**os.environ, **ENVIRONMENT, **environment}
    if environment.get(QUICK):
        make_quick(notebook)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(
            notebook,
            timeout=timeout,
            record_timing=False,
            resources={"metadata": {"path": folder}},
            kernel_name="python3",
        )
        client.execute(env=environment)
    return notebook


def make_quick(notebook: nbformat.NotebookNode) -> None:
    """Replace what the cells say to replace in a quick run.

    Raises
    ------
    ValueError
        If a cell does not hold the text that it says to replace.
    """
    for cell in notebook.cells:
        for shown, quick in cell.metadata.get(QUICK_KEY, {}).items():
            if shown not in cell.source:
                raise ValueError(f"A cell says to replace {shown!r}, which is not in it:\n{cell.source}")
            cell.source = cell.source.replace(shown, quick)


def tidy(notebook: nbformat.NotebookNode) -> None:
    """Leave out what differs from machine to machine, and make pictures small."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        kept = {QUICK_KEY: cell.metadata[QUICK_KEY]} if QUICK_KEY in cell.metadata else {}
        cell.metadata = nbformat.from_dict(kept)
        if cell.cell_type != "code":
            continue
        cell.outputs = [output for output in cell.outputs if not _is_empty(output)]
        for output in cell.outputs:
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = _small(output.data["image/png"])
                output.metadata = nbformat.from_dict({})


def _is_empty(output: nbformat.NotebookNode) -> bool:
    """Return whether an output is what a finished progress bar leaves behind."""
    return output.output_type == "display_data" and not output.data.get("text/plain", "x").strip()


def _small(png: str) -> str:
    from PIL import Image

    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    buffer = io.BytesIO()
    picture.quantize(256, dither=Image.Dither.NONE).save(buffer, "png", optimize=True)
    return base64.b64encode(buffer.getvalue()).decode()


def main() -> None:
    """Run and write."""
    parser = argparse.ArgumentParser(description="Run the tutorials and write their outputs into them.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="beginnings of file names; all if none is given")
    names = tuple(parser.parse_args().names)
    for path in sorted(HERE.glob("*.ipynb")):
        if not names or path.name.startswith(names):
            notebook = execute(path, {})
            tidy(notebook)
            nbformat.write(notebook, path)


if __name__ == "__main__":
    main()
