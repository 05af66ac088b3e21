"""The report of a call that writes into an AnnData."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from anndata import AnnData

from scapp import pp

OF = {
    "add_network": "network",
    "similarity_network": "network",
    "coexpression_network": "network",
    "add_gene_features": "gene_features",
    "add_effects_as_features": "gene_features",
    "harmonize_genes": "gene_names",
    "guides_to_perturbations": "guides",
    "check_efficacy": "efficacy",
}


def reported(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function of `scapp.pp` and return its report, or what it returns of a table."""
    returned = function(*args, **kwargs)
    if returned is not None:
        return returned
    given = inspect.signature(function).bind(*args, **kwargs)
    given.apply_defaults()
    data = next(iter(given.arguments.values()))
    if not isinstance(data, AnnData):
        data = data[given.arguments["expression_modality"]]
    return pp.report(data, OF[function.__name__], given.arguments.get("key_added"))
