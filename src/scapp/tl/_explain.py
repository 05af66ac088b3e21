"""What one predicted value is made of, as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import pandas as pd

from scapp._keys import Key
from scapp._perturbations import near_matches
from scapp.tl._asked import check_trained, nodes_of

if TYPE_CHECKING:
    from scapp.model import APP

By = Literal["perturbations", "genes"]


def explain(model: APP, perturbation: str, gene: str, *, by: By = "perturbations") -> pd.DataFrame:
    r"""What one predicted log-fold-change is made of; the contributions sum to the prediction.

    The decoder is solved in closed form, so its prediction is a weighted sum of the measured effects that it was fitted to:
    the weight of training perturbation Q is :math:`\sum_R k(s_P, s_R)\, (A^{-1})_{RQ}`. The effect of a combination begins
    with the sum of what its genes do alone; these denoised singles are a weighted sum of the measured ones. All of this is
    exact for what was learned and chosen in training: the networks' weights, the weights of the robust fit, the scale
    and threshold of the anchor and the basis of its singular vectors are held fixed. It says what the number is computed
    from, not what it would be had a perturbation never been measured.

    With ``by="genes"`` the terms that come from equations 1 to 7 are divided among the attended genes instead. A gene
    adds its attention times its embedding to the cell state. A linear decoder reads that off exactly. A kernel
    decoder is not linear in the state, and is replaced by its average gradient on the straight way from the mean training
    state to this one (integrated gradients :cite:p:`Sundararajan2017`, along the state); the contributions then still sum to
    the prediction exactly, but another way would divide them differently. The embedding of a gene holds
    its neighbours', and so does its contribution.

    Parameters
    ----------
    model
        Trained :class:`scapp.model.APP`, with or without its data.
    perturbation
        Label such as ``"KLF1"`` or ``"KLF1+CEBPA"``.
    gene
        A measured gene: whose predicted log-fold-change.
    by
        ``"perturbations"``: training perturbations. ``"genes"``: attended genes.

    Returns
    -------
    One row a contribution, the largest (in size) first, with the columns

    - ``perturbation``, ``gene``: as asked
    - ``source``: ``"anchor single"``, a measured single in the anchor of a combination, or in its own denoised effect;
      ``"training perturbation"``; ``"gene"``; ``"intercept"``, what is predicted at the mean training state (the constant
      of a linear decoder)
    - ``term``: ``"anchor"``, ``"main effects"`` (equations 1 to 7 for genes) or ``"interaction"`` (for combinations)
    - ``name``: the perturbation or the gene; empty for the intercept
    - ``weight``, ``value``, ``contribution``: contribution = weight * value. The value is the measured log-fold-change
      or, in the interaction term, by how much it departs from the anchor. For genes the weight is the attention, mean
      over heads and models, and the value what the gene adds for each unit of it. Contributions that are zero have no row.

    Raises
    ------
    RuntimeError
        If the model has not been trained.
    ValueError
        If a label cannot be read, the gene is not measured, or there is no exact answer: a decoder trained by gradient
        descent (``preset="paper"``) has no contributions of training perturbations, one with a hidden layer
        (``decoder="mlp"``) none of either kind, and where a `kind` was named at set-up the change of a target itself is
        read from what others did to theirs.

    Examples
    --------
    >>> table = scapp.tl.explain(model, "CEBPA+KLF1", "HBG1")
    >>> table["contribution"].sum()  # model.predict(["CEBPA+KLF1"]) of HBG1
    >>> scapp.pl.explanation(table)
    """
    check_trained(model)
    if by not in get_args(By):
        raise ValueError(f"by must be 'perturbations' or 'genes', found {by!r}.")
    (nodes,) = nodes_of(model, [perturbation])
    column = _column(model, perturbation, gene)
    _check_not_own(model, nodes, column, gene)
    sep = model.registry["setup_args"]["combination_sep"]
    parts = []
    for share in model.module.explain(nodes, column, by):
        weight = share.weight.cpu().numpy()
        names = [sep.join(model.genes[node] for node in name) for name in share.names]
        part = pd.DataFrame({"source": share.kind, "term": share.term, "name": names, "weight": weight})
        parts.append(part.assign(contribution=weight * share.value.cpu().numpy()))
    # Two genes of a combination that were not measured alone draw on the same training perturbations.
    keys = ["source", "term", "name"]
    table = pd.concat(parts).groupby(keys, as_index=False, sort=False)[["weight", "contribution"]].sum()
    table = table[table["contribution"] != 0]
    table.insert(4, "value", table["contribution"] / table["weight"])
    order = np.argsort(-table["contribution"].abs().to_numpy(), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "gene", gene)
    table.insert(0, "perturbation", perturbation)
    return table


def _column(model: APP, perturbation: str, gene: str) -> int:
    """Number of a gene among the measured ones."""
    measured = model.predict([perturbation]).var[Key.var.MEASURED]
    if gene not in measured.index:
        like = near_matches(gene, measured.index)
        hint = f" Did you mean {' or '.join(map(repr, like))}?" if like else ""
        raise ValueError(f"The model does not know the gene {gene!r}.{hint}")
    if not measured[gene]:
        raise ValueError(
            f"The gene {gene!r} was not measured, so no effect on it is predicted; ask for a measured gene."
        )
    return int(measured[: list(measured.index).index(gene)].sum())


def _check_not_own(model: APP, nodes: tuple[int, ...], column: int, gene: str) -> None:
    """Raise where the prediction is no sum of contributions: the change of a target itself, with a kind at set-up."""
    written = np.full((1, model.module.targets.shape[1]), np.nan)
    model._write_own_effects(None)([nodes], written, None)
    if not np.isnan(written[0, column]):
        raise ValueError(
            f"The model was set up with a kind of perturbation, so the change of {gene!r} itself is read from what others of that "
            "kind did to their targets (`scapp.pp.check_efficacy` shows these), and not from contributions. Ask for another gene."
        )
