"""Explain one predicted value as a table of contributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._keys import Key
from scapp._labels import did_you_mean
from scapp.tl._candidates import check_model

if TYPE_CHECKING:
    from scapp.model import APP

By = Literal["perturbations", "genes"]


@checked
def explain(model: APP, perturbation: str, gene: str, *, by: By = "perturbations") -> pd.DataFrame:
    r"""Decompose one predicted log-fold-change into contributions that sum to it.

    Both parts of the model are weighted sums of measured effects. In the closed form, training perturbation Q has the
    weight :math:`\sum_R K(P, R)\, ((K + \lambda D)^{-1})_{RQ}`; in the attention, its attention is multiplied by what
    it adds in the programs of the screen. Scalars, penalties and programs are held fixed: the contributions show how
    the number was computed, not how it would differ if a perturbation had not been measured.

    With ``by="genes"``, each contribution is divided among the network genes that make the two perturbations similar,
    in proportion to :math:`\sqrt{w(p, j)\, w(i, j)}`. If two perturbations share no network gene, the contribution goes
    to the perturbed genes.

    Parameters
    ----------
    model
        Trained :class:`scapp.model.APP`, with or without its data.
    perturbation
        Label such as ``"KLF1"`` or ``"KLF1+CEBPA"``.
    gene
        The measured gene whose predicted log-fold-change to explain.
    by
        ``"perturbations"``: contributions of training perturbations. ``"genes"``: contributions through network genes.

    Returns
    -------
    One row per contribution, the largest (in size) first, with the columns

    - ``perturbation``, ``gene``: as given
    - ``source``: ``"training perturbation"``, ``"gene"``, or ``"centre"``, the mean of the screen
    - ``term``: ``"closed form"``, ``"attention"``, ``"centre"``, or ``"own measurement"``, the part of its own
      measurement that is kept for a measured perturbation with standard errors
    - ``name``: the perturbation or the gene; empty for the centre
    - ``weight``, ``value``, ``contribution``: contribution = weight * value. In the closed form, the value is the
      measured log-fold-change; in the attention, it is the contribution at full attention. Contributions of zero have
      no row.

    Raises
    ------
    RuntimeError
        If the model has not been trained.
    ValueError
        If a label cannot be read, the gene is not measured, or there is no exact answer. The paper's form
        (``preset="paper"``) has no contributions of training perturbations, and none of either kind with a hidden layer
        (``decoder="mlp"``). If a `kind` was named at set-up, the change of the target itself comes from the effects of
        other perturbations on their own targets.

    Examples
    --------
    >>> table = scapp.tl.explain(model, "CEBPA+KLF1", "HBG1")
    >>> table["contribution"].sum()  # model.predict(["CEBPA+KLF1"]) of HBG1
    >>> scapp.pl.explanation(table)
    """
    check_model(model)
    _, (nodes,) = model.read_perturbations([perturbation])
    measured = model.predict([perturbation]).var[Key.var.MEASURED]
    if gene not in measured.index:
        hint = did_you_mean(gene, measured.index)
        raise ValueError(f"The model does not know the gene {gene!r}.{hint}")
    if not measured[gene]:
        raise ValueError(
            f"The gene {gene!r} was not measured, so no effect on it is predicted; ask for a measured gene."
        )
    column = model.measured_genes.index(gene)
    # With a kind at set-up, the predicted change of the target itself is not a sum of contributions.
    written = np.full((1, model.module.targets.shape[1]), np.nan)
    own = model.target_effect()
    if own is not None:
        own.write(None, [nodes], written)
    if not np.isnan(written[0, column]):
        raise ValueError(
            f"The model was set up with a kind of perturbation, so the change of {gene!r} itself is read from what others of that "
            "kind did to their targets (`scapp.pp.check_efficacy` shows these), and not from contributions. Ask for another gene."
        )
    keys = ["source", "term", "name"]
    rows = pd.concat(_contributions(model, nodes, column, by))
    table = rows.groupby(keys, as_index=False, sort=False)[["weight", "contribution"]].sum()
    table = table[table["contribution"] != 0]
    table.insert(4, "value", table["contribution"] / table["weight"].where(table["weight"] != 0))
    order = np.argsort(-table["contribution"].abs().to_numpy(), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "gene", gene)
    table.insert(0, "perturbation", perturbation)
    return table


def _contributions(model: APP, nodes: tuple[int, ...], column: int, by: By) -> list[pd.DataFrame]:
    """Return a table of contributions for each half of the model, which may name a source more than once."""
    from scapp.module import PaperModule

    is_paper = isinstance(model.module, PaperModule)
    if is_paper and by == "perturbations":
        raise ValueError(
            "The paper's form is trained by gradient descent, so a prediction is no weighted sum of training effects. "
            "Pass by='genes', or make the model without preset='paper'."
        )
    found, sep, genes = [], model.registry["setup_args"]["sep"], np.array(model.genes, dtype=object)
    for part in model.module.explain(nodes, column):
        weight = part.weight.cpu().numpy()
        contribution = weight * part.value.cpu().numpy()
        source: str = "centre"
        names: Any = [""]
        if part.rows and by == "perturbations":
            source = "training perturbation"
            names = [sep.join(genes[list(model.module.perturbations[row])]) for row in part.rows]
        elif part.rows and is_paper:
            source, names = "gene", genes[part.rows]
        elif part.rows:
            source, names = "gene", genes
            weight, contribution = model.module.through_genes(nodes, part.rows, np.stack([weight, contribution]))
        table = pd.DataFrame({"source": source, "term": part.half, "name": names, "weight": weight})
        found.append(table.assign(contribution=contribution))
    return found
