"""From the labels that a user asks about to the nodes of a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from scapp._labels import check_known, parse_labels

if TYPE_CHECKING:
    from scapp.model import APP


def check_trained(model: APP) -> None:
    """Raise unless the model has been trained.

    Raises
    ------
    TypeError
        If it is no APP.
    RuntimeError
        If it has not been trained.
    """
    if not hasattr(model, "module") or not hasattr(model, "is_trained_"):
        raise TypeError(f"Expected a trained scapp.model.APP, found {type(model).__name__}.")
    if not model.is_trained_:
        raise RuntimeError("This APP has not been trained: call model.train() first.")


def nodes_of(model: APP, labels: Iterable[str]) -> list[tuple[int, ...]]:
    """Parse labels into nodes, by the grammar that the model was set up with.

    Raises
    ------
    ValueError
        If a label cannot be read, is a control, or names a gene that is not a node.
    """
    labels = list(labels)
    args = model.registry["setup_args"]
    parsed = parse_labels(labels, control=args["control"], sep=args["sep"], genes=model.genes)
    for label, perturbation in zip(labels, parsed, strict=True):
        if not perturbation:
            raise ValueError(f"Expected a perturbation, found the control ({label}), which has no effect.")
    genes = model.genes
    check_known(parsed, genes)
    node = {gene: i for i, gene in enumerate(genes)}
    return [tuple(node[gene] for gene in perturbation) for perturbation in parsed]


def label_of(model: APP, nodes: tuple[int, ...]) -> str:
    """Return the canonical label of some nodes, with the model's separator."""
    genes = model.genes
    return str(model.registry["setup_args"]["sep"]).join(genes[node] for node in nodes)
