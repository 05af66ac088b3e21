"""Genes ranked by attention, for scanpy's plots and tables."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd

from scapp._checked import checked
from scapp._controls import Control
from scapp._effects import label_column
from scapp._genes import check_gene_names, check_layer, check_no_view, shorten
from scapp._keys import Key
from scapp._labels import is_control, near_matches
from scapp._ranking import order_for_scanpy, write_ranking
from scapp.tl._rows import FILLED, labels_of, mean_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import NDArray

Score = Literal["attention", "relative", "z_score"]
Of = Literal["genes", "perturbations"]


@checked
def rank_attention_genes(
    adata: AnnData,
    *,
    perturbation_key: str = Key.obs.PERTURBATION,
    groups: Iterable[str] | None = None,
    n_genes: int | None = None,
    of: Of = "genes",
    score: Score = "attention",
    layer: str = Key.layers.ATTENTION,
    lfc_layer: str = Key.layers.PREDICTED_LFC,
    control: str | Sequence[str] | None = "control",
    key_added: str = Key.uns.ATTENTION_GENES,
    copy: bool = False,
) -> AnnData | None:
    r"""Rank the genes of each perturbation by attention, in the format of ``scanpy.tl.rank_genes_groups``.

    All ``scanpy.pl.rank_genes_groups*`` and ``scanpy.get.rank_genes_groups_df`` read the result with
    ``key="attention_genes"``. The genes with the most attention, such as hubs of the network, are often the same for
    all perturbations. Use the relative scores to see what is specific.

    Parameters
    ----------
    adata
        Predictions returned by :meth:`scapp.model.APP.predict`, or the AnnData (cells or effects) that it wrote into.
        If the observations of a perturbation differ in attention, their mean is used.
    perturbation_key
        Column of `obs` with the labels of the perturbations.
    groups
        Perturbations to rank, in this order; all except the controls if None.
    n_genes
        Number of genes to keep for each perturbation; all if None, as ``values_to_plot`` in scanpy's plots requires.
    of
        ``"genes"``: the network genes that make a perturbation similar to those that it attends to (`layer`).
        ``"perturbations"``: the measured perturbations from which its prediction is built
        (``obsm["attention_to_perturbations"]``); their log-fold-changes are NaN, and their "genes" are labels.
    score
        Let :math:`\alpha_{Pg}` be the attention of perturbation :math:`P` to gene :math:`g`, :math:`\bar\alpha_g` and
        :math:`\sigma_g` its mean and standard deviation over all perturbations of `adata` (ranked or not, each counted
        once), and :math:`G` the number of genes:

        - ``"attention"``: :math:`\alpha_{Pg}` itself.
        - ``"relative"``: :math:`\ln\frac{\alpha_{Pg} + 1/G}{\bar\alpha_g + 1/G}`, the logarithm of the attention
          relative to its mean. The uniform attention :math:`1/G` is added so that genes without attention stay near 0.
        - ``"z_score"``: :math:`(\alpha_{Pg} - \bar\alpha_g) / \sigma_g`; 0 where :math:`\sigma_g = 0`.
    layer, lfc_layer
        Layers of the attention and of the log-fold-changes.
    control
        Label of the controls. They have no attention (NaN) and are never ranked.
    key_added
        Key of the result in `uns`.
    copy
        Whether to return a changed copy instead of writing into `adata`.

    Returns
    -------
    None, or the copy. It gains ``uns[key_added]``: `params`, and the structured arrays `names`, `scores`,
    `logfoldchanges` (predicted, natural logarithm, NaN for genes that were not measured), `pvals` and `pvals_adj` (NaN,
    because attention has none) with one field for each perturbation. ``obs[perturbation_key]`` becomes categorical, as
    scanpy's plots want it, and ``uns["dendrogram_" + perturbation_key]`` is written for few observations of many genes,
    for which scanpy's plots fail to make it.

    An h5ad file can hold about 500 perturbations in this format. If there are more, ``uns["attention_genes_complete"]``
    (`key_added` with ``"_complete"``) is written instead, with a warning: `groups` and `genes`, the `order` of the
    genes for each group and their `scores`, shape (n_groups, n_genes).

    Raises
    ------
    ValueError
        If the column, a layer or a group is missing, a group has no attention, a relative score is requested for a
        single perturbation, or `adata` is a view and `copy` is False. Nothing is written then.
    TypeError
        If `groups` is a single string instead of a list.

    Examples
    --------
    >>> predicted = model.predict(["KLF1", "CEBPA+KLF1"])
    >>> scapp.tl.rank_attention_genes(predicted, score="relative")
    >>> sc.pl.rank_genes_groups(predicted, key="attention_genes")
    """
    if n_genes is not None and n_genes < 1:
        raise ValueError(f"n_genes must be at least 1, or None for all, found {n_genes}.")
    if not copy:
        check_no_view(adata, "scapp.tl.rank_attention_genes")
    check_gene_names(adata)
    perturbation_key = label_column(adata, perturbation_key)
    labels = labels_of(adata, perturbation_key)
    for name in (layer, lfc_layer) if of == "genes" else ():
        check_layer(adata, name, FILLED)
    perturbations = _perturbations(adata.obs[perturbation_key], control, adata.var_names)
    asked = _asked(groups, perturbations, control)
    if of == "perturbations":
        ranked_names, attention = _attended_perturbations(adata, labels, perturbations)
        slot = f"obsm[{Key.obsm.ATTENTION_TO_PERTURBATIONS!r}]"
    else:
        ranked_names, attention = adata.var_names.tolist(), mean_rows(adata.layers[layer], labels, perturbations)
        slot = f"layers[{layer!r}]"
    known = np.asarray(np.isfinite(attention).all(axis=1))
    row = {name: i for i, name in enumerate(perturbations)}
    chosen = [name for name in perturbations if known[row[name]]] if asked is None else asked
    without = [name for name in chosen if not known[row[name]]]
    if without or not chosen:
        raise ValueError(
            f"These perturbations have no attention (NaN) in adata.{slot}: "
            f"{shorten(without or perturbations)}. It is filled by `APP.predict`."
        )
    if score != "attention" and known.sum() < 2:
        raise ValueError(
            f"score={score!r} compares perturbations, and adata has attention for one only. Predict several, for example "
            "all of the screen, and choose the ones to be ranked with groups=[…]."
        )
    rows = [row[name] for name in chosen]
    if of == "genes":
        lfc = mean_rows(adata.layers[lfc_layer], labels, chosen)
    else:
        lfc = np.full((len(rows), len(ranked_names)), np.nan)
    scores = _scores(attention[rows], attention[known], score)
    target = adata.copy() if copy else adata
    method = "attention" if score == "attention" else f"attention_{score}"
    options = {"groupby": perturbation_key, "layer": lfc_layer, "method": method, "n_genes": n_genes}
    write_ranking(target, key_added, scores, lfc, chosen, ranked_names, **options)
    # scanpy's plots group by categories.
    if not isinstance(target.obs[perturbation_key].dtype, pd.CategoricalDtype):
        target.obs[perturbation_key] = pd.Categorical(labels, categories=list(dict.fromkeys(labels)))
    order_for_scanpy(target, perturbation_key)
    return target if copy else None


def _attended_perturbations(
    adata: AnnData, labels: pd.Series, perturbations: list[str]
) -> tuple[list[str], NDArray[np.float64]]:
    """Return the labels of the measured perturbations, and the attention to them: (n_perturbations, n_measured)."""
    key = Key.obsm.ATTENTION_TO_PERTURBATIONS
    names = adata.uns.get(Key.uns.SCAPP, {}).get(Key.uns.PREDICTION, {}).get("attended_perturbations")
    if key not in adata.obsm or names is None:
        raise ValueError(f"adata.obsm has no {key!r}. It is filled by `APP.predict`, but not by the paper's form.")
    return [str(name) for name in names], mean_rows(np.asarray(adata.obsm[key]), labels, perturbations)


def _perturbations(column: pd.Series, control: Control, known: Collection[str]) -> list[str]:
    """Return labels that are no control, in the order of the categories or of the observations."""
    labels = column.astype(str)
    if isinstance(column.dtype, pd.CategoricalDtype):
        present = set(labels)
        distinct = [str(label) for label in column.cat.categories if str(label) in present]
    else:
        distinct = list(dict.fromkeys(labels))
    return [label for label in distinct if (control is None and label in known) or not is_control(label, control)]


def _asked(groups: Iterable[str] | None, perturbations: list[str], control: Control) -> list[str] | None:
    if groups is None:
        return None
    if isinstance(groups, str):
        raise TypeError(f"Expected a list of perturbations, found the text {groups!r}. Pass groups=[{groups!r}].")
    chosen = list(dict.fromkeys(groups))
    unknown = [name for name in chosen if name not in set(perturbations)]
    if not chosen or unknown:
        hints = [f"did you mean {like[0]!r}?" for name in unknown[:1] if (like := near_matches(name, perturbations))]
        controls = " Controls have no attention." if any(is_control(name, control) for name in unknown) else ""
        raise ValueError(
            f"{len(unknown)} of the {len(chosen)} groups are no perturbations of adata: {shorten(unknown) or 'none given'}."
            f"{controls} {' '.join(hints)} Predict them first with `APP.predict`, or choose among "
            f"{shorten(perturbations)}."
        )
    return chosen


def _scores(attention: NDArray[np.float64], background: NDArray[np.float64], score: Score) -> NDArray[np.float64]:
    if score == "attention":
        return attention
    mean = background.mean(axis=0)
    if score == "relative":
        uniform = 1 / attention.shape[1]
        return np.log((attention + uniform) / (mean + uniform))
    spread = background.std(axis=0)
    return np.divide(attention - mean, spread, out=np.zeros_like(attention), where=spread > 0)
