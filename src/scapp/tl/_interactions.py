"""Genetic interactions: effects of pairs beyond the sum of the single effects."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np
import pandas as pd
from rich.progress import track

from scapp._checked import checked
from scapp._genes import check_gene_names, check_layer, check_no_view, measured_mask, shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, format_label, parse_labels, refuse_text
from scapp.tl._additivity import check_cutoffs, classify, find_cutoffs, pair_scores
from scapp.tl._rows import FILLED, labels_of, mean_rows

if TYPE_CHECKING:
    from anndata import AnnData
    from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

Cutoffs = Literal["screen", "gears"] | Mapping[str, float]
# Predictions are held for this many pairs at a time.
BLOCK = 1000
# From this many pairs on a bar shows the progress.
LONG = 100


class Predictor(Protocol):
    """Anything that predicts: :class:`scapp.model.APP` and the baselines."""

    def predict(self, perturbations: list[str], /) -> AnnData:
        """Return predictions with one observation per label, in ``layers["predicted_lfc"]``."""


@checked
def genetic_interactions(
    adata: AnnData,
    pairs: Iterable[str | tuple[str, str]] | None = None,
    *,
    model: Predictor | None = None,
    layer: str | None = None,
    genes: ArrayLike | None = None,
    cutoffs: Cutoffs = "screen",
    n_genes: int | None = 20,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    seed: int = 0,
    key_added: str | None = Key.uns.GENETIC_INTERACTIONS,
) -> pd.DataFrame:
    r"""Score and classify the interaction of each pair of perturbations, measured or predicted.

    Let :math:`a`, :math:`b` and :math:`ab` be the log-fold-changes of two single perturbations and of the pair. The
    deviation of a gene from additivity is :math:`ab - (a + b)`. The scores of a pair are those of :cite:t:`Norman2019`
    (columns of their Table S9 in brackets). They fit :math:`ab \approx c_1 a + c_2 b` by Theil-Sen regression without
    intercept and compare profiles by distance correlation :cite:p:`Szekely2007`, :math:`\operatorname{dcor}`:

    ========================== =======================================================================================
    `c1`, `c2`                 coefficients of the first and the second gene, in alphabetical order
    `magnitude`                :math:`\sqrt{c_1^2 + c_2^2}` (ts_norm2): :math:`\sqrt 2` for a sum, 1 for an average
    `dominance`                :math:`|\log_{10}(|c_1| / |c_2|)|` (abs_log_ts_ratio): 0 if both contribute alike
    `model_fit`                :math:`\operatorname{dcor}(c_1 a + c_2 b, ab)` (ts_linear_dcor)
    `fit_correlation`          Pearson's correlation of the same two, which GEARS uses in its place
    `similarity`               :math:`\operatorname{dcor}([a, b], ab)` (dcor): of both singles to the pair
    `similarity_of_singles`    :math:`\operatorname{dcor}(a, b)` (dcor_singles)
    `similarity_first`,        :math:`\operatorname{dcor}(a, ab)` and :math:`\operatorname{dcor}(b, ab)`
    `similarity_second`
    `equality_of_contribution` the smaller of those two divided by the larger (dcor_ratio)
    `deviation`                :math:`\lVert ab - a - b \rVert`, a length over the genes
    `relative_deviation`       that divided by :math:`\lVert a + b \rVert`
    ========================== =======================================================================================

    Norman et al. drew their classes around groups of points in a UMAP of such scores, chose the number of groups by
    eye, and published no cut-offs. The classes here follow their descriptions; a pair gets the first class that
    applies, in this order:

    - ``"neomorphism"``: something new; the linear model does not fit (low `fit_correlation`).
    - ``"redundancy"``: the two genes have the same effect (high `similarity_of_singles`).
    - ``"epistasis"``: the pair has the effect of one gene alone (low `equality_of_contribution`).
    - ``"synergy"``: more than expected (high `magnitude`); this includes what they call potentiation.
    - ``"suppression"``: less than expected (low `magnitude`).
    - ``"additive"``: none of these. ``"undetermined"``: a score cannot be computed, for example for singles without any
      effect.

    Parameters
    ----------
    adata
        Effects or predictions of the single perturbations and the pairs, from :func:`scapp.pp.pseudobulk` or
        :meth:`scapp.model.APP.predict`. With `model`, only the labels of its single perturbations are read.
    pairs
        Labels of pairs such as ``"CEBPA+KLF1"``, or tuples of two genes. If None, all pairs in `adata` whose singles
        are both there; with `model`, all pairs of its singles.
    model
        A trained model or baseline: pairs and singles are then predicted by ``model.predict``.
    layer
        Layer of the log-fold-changes; ``"lfc"``, or ``"predicted_lfc"`` with `model`, if None.
    genes
        Mask over ``var_names``, indices or names of the genes to score; all measured genes if None. Norman et al. used
        well expressed genes; see :func:`scapp.metrics.top_expressed_genes`. Time and memory grow with the square of
        their number: about 0.05 s per pair for 1,000 genes.
    cutoffs
        - ``"screen"``: quantiles over the pairs of this call, so that each criterion alone is met by the share of pairs
          that Figure 4F of Norman et al. shows for the class (of 88: 13 neomorphism, 8 redundancy, 9 epistasis, 30
          synergy, 12 suppression). Use this for other genes and normalisations and for predictions, whose scores have a
          different scale.
        - ``"gears"``: the numbers in the published analysis code of GEARS :cite:p:`Roohani2024` (``thresh`` in
          ``paper/fig_utils.py`` of github.com/yhr91/GEARS_misc): 0.88, 0.85, 0.28, 1.15 and 1. They are valid only for
          its genes and normalisation. GEARS applies 0.85 to `similarity`, which most synergistic pairs exceed as well.
        - a number for each class.
    n_genes
        Number of genes with the largest deviation to list for each pair; all if None.
    perturbation_key, control, sep
        Column of the labels, and options for reading them.
    seed
        Random seed for the subsets of the Theil-Sen regression.
    key_added
        Key of the tables in `uns`; None writes nothing.

    Returns
    -------
    One row per pair: `perturbation` (canonical label), `first`, `second`, the scores, and `interaction`, the class.
    ``adata.uns[key_added]`` holds it as ``["pairs"]``, and ``["genes"]``, one row per pair and gene, the largest deviation
    first: `perturbation`, `gene`, `deviation`, `pair` and `additive` (:math:`ab` and :math:`a + b`); and ``["params"]`` with the
    cut-offs.

    Raises
    ------
    ValueError
        If a pair or a single is missing, a label is not a pair, the layer is missing, values are not finite, or `genes`
        or `cutoffs` are invalid. Nothing is written then.

    Examples
    --------
    >>> scapp.tl.genetic_interactions(effects)  # the measured pairs
    >>> table = scapp.tl.genetic_interactions(effects, model=model)  # all pairs of the single perturbations
    >>> scapp.pl.interaction_map(effects, score="magnitude")
    """
    check_gene_names(adata)
    if key_added is not None:
        check_no_view(adata, "scapp.tl.genetic_interactions")
    if n_genes is not None and n_genes < 1:
        raise ValueError(f"n_genes must be at least 1, or None for all, found {n_genes}.")
    labels = labels_of(adata, perturbation_key)
    label_of = _by_perturbation(labels, control, sep)
    if pairs is None:
        wanted = _all_pairs(label_of, model is not None, sep)
    else:
        wanted = _asked(pairs, label_of, model is not None, control, sep)
    check_cutoffs(cutoffs, len(wanted))
    layer = layer or (Key.layers.LFC if model is None else Key.layers.PREDICTED_LFC)
    if model is None:
        check_layer(adata, layer, "It is filled by `scapp.pp.pseudobulk` (measured) or `APP.predict` (predicted).")

    def profiles(perturbations: Sequence[Perturbation]) -> tuple[AnnData, NDArray[np.float64]]:
        """Return measured or predicted log-fold-changes over all genes, and their source."""
        if model is None:
            return adata, mean_rows(adata.layers[layer], labels, [label_of[p] for p in perturbations])
        predicted = model.predict([format_label(p, sep=sep) for p in perturbations])
        check_layer(predicted, layer, FILLED)
        return predicted, np.asarray(predicted.layers[layer], dtype=np.float64)

    singles: list[Perturbation] = sorted({(gene,) for pair in wanted for gene in pair})
    source, values = profiles(singles)
    columns = _scored_columns(source, genes)
    names = source.var_names[columns]
    alone = dict(zip(singles, _check_finite(values[:, columns], singles, layer), strict=True))

    blocks = [wanted[i : i + BLOCK] for i in range(0, len(wanted), BLOCK)]
    together = (
        (pair, values)
        for block in blocks
        for pair, values in zip(block, _check_finite(profiles(block)[1][:, columns], block, layer), strict=True)
    )
    rows, listed = [], []
    is_short = len(wanted) < LONG
    for pair, both in track(together, "Interactions", total=len(wanted), transient=True, disable=is_short):
        first, second = alone[pair[:1]], alone[pair[1:]]
        label = format_label(pair, sep=sep)
        scores = pair_scores(first, second, both, seed=seed)
        rows.append({"perturbation": label, "first": pair[0], "second": pair[1], **scores})
        listed.append(_deviations(label, first + second, both, names, n_genes))
    table = pd.DataFrame(rows)
    numbers = find_cutoffs(table, cutoffs)
    table["interaction"] = classify(table, numbers)
    table.index = table.index.astype(str)
    if key_added is not None:
        deviations = pd.concat(listed, ignore_index=True)
        deviations.index = deviations.index.astype(str)
        params = {"layer": layer, "predicted": model is not None, "n_genes_scored": len(names), "cutoffs": numbers}
        adata.uns[key_added] = {Key.tables.PAIRS: table.copy(), Key.tables.GENES: deviations, Key.tables.PARAMS: params}
    return table


def _by_perturbation(labels: pd.Series, control: str | Sequence[str] | None, sep: str) -> dict[Perturbation, str]:
    """Return the spelling of each perturbation in adata; if there are two, the first."""
    distinct = list(dict.fromkeys(labels))
    parsed = parse_labels(distinct, control=control, sep=sep)
    found: dict[Perturbation, str] = {}
    for perturbation, label in zip(parsed, distinct, strict=True):
        found.setdefault(perturbation, label)
    return found


def _all_pairs(label_of: Mapping[Perturbation, str], predicted: bool, sep: str) -> list[Perturbation]:
    """Return the pairs of single perturbations: all that can be predicted, or those that were measured."""
    singles = sorted(p[0] for p in label_of if len(p) == 1)
    if predicted:
        found: list[Perturbation] = list(itertools.combinations(singles, 2))
    else:
        doubles = [p for p in label_of if len(p) == 2]
        found = [p for p in doubles if set(p) <= set(singles)]
        if len(found) < len(doubles):
            logger.info(
                f"{len(doubles) - len(found)} of {len(doubles)} pairs are not scored, as one of their genes was not "
                f"perturbed alone: {shorten(format_label(p, sep=sep) for p in doubles if not set(p) <= set(singles))}."
            )
    if not found:
        raise ValueError(
            f"adata has {len(singles)} single perturbations and no pair of which both genes were perturbed alone. "
            "Interactions compare a pair with its two singles; predict missing ones with model=…."
        )
    return found


def _asked(
    pairs: Iterable[str | tuple[str, str]], label_of: Mapping[Perturbation, str], predicted: bool,
    control: str | Sequence[str] | None, sep: str,
) -> list[Perturbation]:  # fmt: skip
    refuse_text(pairs, "pairs")
    asked = [p if isinstance(p, str) else sep.join(p) for p in pairs]
    parsed = parse_labels(asked, control=control, sep=sep)
    wrong = [label for label, genes in zip(asked, parsed, strict=True) if len(genes) != 2]
    if wrong or not asked:
        raise ValueError(f"Expected pairs of two genes, found {shorten(map(repr, wrong)) or 'none'}.")
    found = list(dict.fromkeys(parsed))
    if not predicted:
        needed = dict.fromkeys(p for pair in found for p in (pair, pair[:1], pair[1:]))
        missing = [format_label(p, sep=sep) for p in needed if p not in label_of]
        if missing:
            raise ValueError(
                f"{len(missing)} perturbations are not in adata: {shorten(missing)}. A pair is compared with its two singles; "
                "predict unmeasured ones with model=…, or leave these pairs out."
            )
    return found


def _deviations(
    label: str, additive: NDArray[np.float64], pair: NDArray[np.float64], names: pd.Index, n_genes: int | None
) -> pd.DataFrame:
    deviation = pair - additive
    order = np.argsort(-np.abs(deviation), kind="stable")[:n_genes]
    return pd.DataFrame(
        {
            "perturbation": label,
            "gene": names[order].astype(object),
            "deviation": deviation[order],
            "pair": pair[order],
            "additive": additive[order],
        }
    )


def _scored_columns(adata: AnnData, genes: ArrayLike | None) -> NDArray[np.intp]:
    """Return positions of the scored genes."""
    names, measured = adata.var_names, measured_mask(adata)
    if genes is None:
        return np.flatnonzero(measured)
    asked = np.asarray(genes)
    if asked.dtype == bool:
        if asked.shape != (len(names),):
            raise ValueError(f"genes is a mask of shape {asked.shape}, expected ({len(names)},), one for each gene.")
        columns = np.flatnonzero(asked)
    elif np.issubdtype(asked.dtype, np.integer):
        columns = asked
    else:
        columns = names.get_indexer(pd.Index(asked.astype(object)))
    wrong = [str(g) for g, column in zip(asked[:], columns, strict=False) if not 0 <= column < len(names)]
    if asked.dtype != bool and wrong:
        raise ValueError(f"{len(wrong)} of the genes to score are not among the {len(names)} genes: {shorten(wrong)}.")
    unmeasured = names[columns[~measured[columns]]]
    if len(unmeasured) or len(columns) < 3:
        raise ValueError(
            f"Expected at least 3 measured genes to score, found {len(columns)}, of which {len(unmeasured)} were not "
            f"measured ({shorten(unmeasured) or 'none'}). Choose others with genes=…."
        )
    return columns


def _check_finite(
    values: NDArray[np.float64], perturbations: Sequence[Perturbation], layer: str
) -> NDArray[np.float64]:
    """Return the values; raise if one is NaN or infinite."""
    bad = ~np.isfinite(values).all(axis=1)
    if bad.any():
        found = shorten(format_label(perturbations[int(i)]) for i in np.flatnonzero(bad))
        raise ValueError(
            f"The layer {layer!r} holds NaN or infinite values of scored genes for {int(bad.sum())} perturbations: {found}. "
            "Leave these genes out with genes=…, or mark them in adata.var['measured']."
        )
    return values
