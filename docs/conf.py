"""Configuration of the documentation, after the template of scverse."""

import dataclasses
import inspect
import json
import os
import re
import sys
import warnings
from datetime import date
from importlib.metadata import metadata
from pathlib import Path

import scapp

info = metadata("scapp")
project = info["Name"]
author = "the scapp developers"
copyright = f"{date.today():%Y}, {author}"
version = release = info["Version"]

# The one setting of the repository: `urls.Source` in pyproject.toml. Without it no page links to a source, an issue or Colab.
links = dict(url.split(", ", 1) for url in info.get_all("Project-URL") or [])
repository = links.get("Source", "").rstrip("/")

# The tutorials lie beside the documentation, and Sphinx reads only what is below it.
DOCS = Path(__file__).parent
NOTEBOOKS = DOCS / "notebooks"
NOTEBOOKS.mkdir(exist_ok=True)


def with_links(notebook: Path) -> str:
    """Return the notebook with links under its title: download, and Google Colab where the repository has an address."""
    content = json.loads(notebook.read_text(encoding="utf-8"))
    links = f"{{download}}`Download this notebook <{notebook.name}>`"
    if repository:
        colab = repository.replace("https://github.com", "https://colab.research.google.com/github")
        links += (
            f" · [Open in Colab]({colab}/blob/main/tutorials/{notebook.name}) (run `%pip install scapp` there first)"
        )
    title, _, rest = "".join(content["cells"][0]["source"]).partition("\n")
    content["cells"][0]["source"] = f"{title}\n\n{links}\n{rest}"
    return json.dumps(content, indent=1, ensure_ascii=False)


copies = {path.name: with_links(path) for path in sorted((DOCS.parent / "tutorials").glob("*.ipynb"))}
for notebook in NOTEBOOKS.glob("*.ipynb"):
    if notebook.name not in copies:
        notebook.unlink()  # one that was renamed would stay
for name, text in copies.items():
    notebook = NOTEBOOKS / name
    if not notebook.is_file() or notebook.read_text(encoding="utf-8") != text:  # only changed ones are read again
        notebook.write_text(text, encoding="utf-8")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_autodoc_typehints",
    "scanpydoc.elegant_typehints",
    "sphinxcontrib.bibtex",
    "sphinxcontrib.katex",
    "sphinx_copybutton",
    "sphinx_design",
    "IPython.sphinxext.ipython_console_highlighting",
]
exclude_patterns = ["_build", "Thumbs.db", ".DS_Store", "**.ipynb_checkpoints"]
templates_path = ["_templates"]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}  # pages of objects take the first
default_role = "literal"

# One page for each public object, from its docstring and its annotations, with its picture and the pages that use it.
autosummary_generate = True
PUBLIC = {
    f"{module}.{name}": getattr(getattr(scapp, module), name)
    for module in scapp._SUBMODULES
    for name in getattr(scapp, module).__all__
}


def members(thing: type) -> dict[str, list[str]]:
    """List public methods and attributes of a class, inherited ones too, as far as completion lists them."""
    fields = {field.name for field in dataclasses.fields(thing)} if dataclasses.is_dataclass(thing) else set()
    hidden = getattr(sys.modules[thing.__module__], "OF_CELLS", ())
    listed = [name for name in dir(thing) if name not in hidden]
    names = [name for name in listed if not name.startswith("_") and name not in fields and hasattr(thing, name)]
    found = {name: inspect.getattr_static(thing, name) for name in names}
    methods = [n for n, m in found.items() if inspect.isroutine(m) or isinstance(m, classmethod | staticmethod)]
    attributes = [n for n, m in found.items() if isinstance(m, property) and n not in methods]
    own = [n for n in methods + attributes if inspect.getdoc(getattr(thing, n))]
    return {"Methods": [n for n in methods if n in own], "Attributes": [n for n in attributes if n in own]}


def pages_that_use() -> dict[str, list[str]]:
    """List the how-tos and tutorials that call each public name."""
    code = {
        f"howto/{p.stem}": "\n".join(re.findall(r"```python\n(.*?)```", p.read_text(encoding="utf-8"), re.DOTALL))
        for p in sorted((DOCS / "howto").glob("*.md"))
    }
    for name, text in copies.items():
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        code[f"notebooks/{Path(name).stem}"] = "\n".join("".join(cell["source"]) for cell in cells)
    used = {
        name: [page for page, text in code.items() if re.search(rf"\b{re.escape(name)}\b", text)] for name in PUBLIC
    }
    return {name: pages[:6] for name, pages in used.items() if pages}


pictures = {f"pl.{path.stem}": path.name for path in (DOCS / "_static" / "gallery").glob("*.png")}
autosummary_context = {
    "pictures": pictures,
    "used": pages_that_use(),
    "listed": {name: members(thing) for name, thing in PUBLIC.items() if inspect.isclass(thing)},
}
autodoc_member_order = "bysource"
napoleon_google_docstring = False
napoleon_numpy_docstring = True
napoleon_include_init_with_doc = False
napoleon_use_rtype = False  # sections "Returns" are prose, types stand in the signatures
typehints_defaults = "braces"
always_use_bars_union = True
# Classes go by their public names.
qualname_overrides = {"anndata._core.anndata.AnnData": "anndata.AnnData"} | {
    f"{thing.__module__}.{name}": f"scapp.{module}.{name}"
    for module in scapp._SUBMODULES
    for name, thing in inspect.getmembers(getattr(scapp, module), inspect.isclass)
    if name in getattr(scapp, module).__all__
}
warnings.filterwarnings("ignore", module="sphinx_autodoc_typehints", category=DeprecationWarning)

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath", "html_admonition", "html_image"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are committed with their outputs
nb_merge_streams = True
nb_output_stderr = "remove"
# Browsers draw MathML without the style sheet of KaTeX, which would come from a network.
katex_options = r"""{output: "mathml"}"""
bibtex_bibfiles = ["references.bib"]
bibtex_reference_style = "author_year"

# References to scapp must resolve; those to other projects do where their inventories can be fetched.
nitpicky = True
# Other projects are known by their inventories; classes of private modules occur in signatures and have no page.
nitpick_ignore_regex = [(r"py:.*", r"(?!scapp\.).*"), (r"py:.*", r"scapp\.\w+\._.*")]
intersphinx_mapping = {
    "anndata": ("https://anndata.readthedocs.io/en/stable/", None),
    "matplotlib": ("https://matplotlib.org/stable/", None),
    "networkx": ("https://networkx.org/documentation/stable/", None),
    "numpy": ("https://numpy.org/doc/stable/", None),
    "pandas": ("https://pandas.pydata.org/pandas-docs/stable/", None),
    "python": ("https://docs.python.org/3", None),
    "scanpy": ("https://scanpy.readthedocs.io/en/stable/", None),
    "scipy": ("https://docs.scipy.org/doc/scipy/", None),
    "scvi-tools": ("https://docs.scvi-tools.org/en/stable/", None),
    "torch": ("https://docs.pytorch.org/docs/stable/", None),
}
if os.environ.get("SCAPP_DOCS_OFFLINE"):
    intersphinx_mapping = {}

html_theme = "sphinx_book_theme"
html_title = f"{project} {release}"
html_logo = html_favicon = "_static/logo.svg"
html_static_path = ["_static"]
html_css_files = ["css/custom.css"]
html_theme_options = {
    "logo": {"text": f"{project} {release}"},
    "navigation_with_keys": False,
    "show_navbar_depth": 1,
    "navbar_persistent": [],  # the search box stands in the sidebar, once
}
if repository:
    html_theme_options |= {
        "repository_url": repository,
        "use_repository_button": True,
        "use_issues_button": True,
    }
