"""scapp: what happens if I perturb these genes?

From a Perturb-seq screen and a gene network to the expression changes of perturbations that nobody measured.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import logging
from types import ModuleType
from typing import TYPE_CHECKING

from scapp._settings import settings

if TYPE_CHECKING:
    from scapp import baselines, benchmark, datasets, metrics, model, pl, pp, report, resources, tl

__version__ = importlib.metadata.version("scapp")

# Loaded when first used: `import scapp` stays light, and only `scapp.model` needs torch and scvi-tools.
_SUBMODULES = ("baselines", "benchmark", "datasets", "metrics", "model", "pl", "pp", "report", "resources", "tl")

__all__ = [
    "__version__",
    "baselines",
    "benchmark",
    "datasets",
    "metrics",
    "model",
    "pl",
    "pp",
    "report",
    "resources",
    "settings",
    "tl",
]


def __getattr__(name: str) -> ModuleType:
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(_SUBMODULES)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SUBMODULES})


def _show_messages() -> None:
    """Show messages of level INFO in the terminal, unless the user has set up logging already."""
    logger = logging.getLogger(__name__)
    if logger.handlers or logging.getLogger().handlers:
        return
    from rich.logging import RichHandler

    logger.setLevel(settings.verbosity)
    handler = RichHandler(show_time=False, show_path=False)
    handler.addFilter(lambda record: record.levelno >= settings.verbosity)
    logger.addHandler(handler)
    logger.propagate = False


_show_messages()
