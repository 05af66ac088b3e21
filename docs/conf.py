"""Configuration of the documentation, after the template of scverse."""

import inspect
import os
import shutil
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

# The tutorials lie beside the documentation, and Sphinx reads only what is below it.
DOCS = Path(__file__).parent
NOTEBOOKS = DOCS / "notebooks"
NOTEBOOKS.mkdir(exist_ok=True)
for notebook in NOTEBOOKS.glob("*.ipynb"):
    notebook.unlink()  # one that was renamed would stay
for notebook in sorted((DOCS.parent / "tutorials").glob("*.ipynb")):
    shutil.copy2(notebook, NOTEBOOKS)  # with its time, so that only changed ones are read again

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
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

# One page for each public object, from its docstring and its annotations.
autosummary_generate = True
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
html_title = project
html_static_path = ["_static"]
html_css_files = ["css/custom.css"]
html_theme_options = {"navigation_with_keys": False, "show_navbar_depth": 1}
