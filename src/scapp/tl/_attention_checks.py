"""Tests of the attention: is it stable, does the prediction depend on it, does it agree with known sources?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._annotations import Annotations, read_annotations
from scapp._checked import checked
from scapp._edges import read_edges
from scapp._gene_names import Aliases, GeneMatcher
from scapp.tl import _checks
from scapp.tl._candidates import check_model, networks_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._edges import Edges
    from scapp.model import APP

Of = Literal["genes", "perturbations"]
# Larger pathways, such as "Metabolism", hold genes that have little to do with each other.
MAX_PATHWAY_SIZE = 200


@checked
def attention_checks(
    model: APP | Sequence[APP],
    perturbations: Iterable[str] | None = None,
    *,
    of: Of = "genes",
    networks: Mapping[str, Edges] | None = None,
    regulons: Edges | None = None,
    pathways: Annotations | None = None,
    known: Sequence[str] = (),
    aliases: Aliases | None = None,
    n_top: int = 20,
    n_permutations: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Test the attention of a model to genes or to measured perturbations against chance.

    Attention to genes (``of="genes"``) says which network genes make a perturbation similar to the measured ones that
    it attends to. Much of it follows by construction, in every model, trained or not; rows for which this is true are
    marked. The other rows ask what was learned relative to the prior (the same attention before training), or compare
    with sources that the model has not seen. Perturbed genes are left out.

    - **Learning**: Jensen-Shannon distance :cite:p:`Lin1991` of the attention to its prior, between 0 (nothing was learned) and 1.
    - **Stability**, if several models are given: rank correlation and overlap of the top genes between models for the
      same perturbation; chance compares different perturbations.
    - **Enrichment**: area under the ROC curve for finding genes related to the perturbed ones (neighbours, targets,
      same pathway) by attention, averaged over perturbations; chance permutes genes of similar degree, in the same way
      for all perturbations. Also the difference from the same area for the prior; and whether the learned score, the
      ratio of attention to prior, is higher for related genes among the genes reached, where chance uses the genes
      related to another perturbation.
    - **Specificity**: Jensen-Shannon distance between perturbations, minus that of the prior.

    Attention to measured perturbations (``of="perturbations"``) says which measurements predictions are built from.
    Each perturbation is hidden from itself, as in training, and the scalars are learned again on each half of the
    perturbations.

    - **Learning**: as above.
    - **Stability**: the same statistics between the two halves.
    - **Dependence**: the share of the attention in the prediction of single genes, how far the predictions of left-out
      training perturbations move without it, and how much it reduces their error; chance is random signs. The share
      itself was chosen among eleven values on the same perturbations.
    - **Truth**: for each training perturbation, the area under the ROC curve for finding the `n_top` others with the
      most similar measured effects, by the half that did not learn from it; chance uses those most similar to other
      perturbations. Also the difference from the areas for the prior and for the similarity of random walks on each
      network.

    To see the full effect of the attention, train without it: compare ``APP(effects, attention=False)``, as
    :mod:`scapp.benchmark` does.

    Parameters
    ----------
    model
        Trained :class:`scapp.model.APP`, or several that were trained on different perturbations over the same genes;
        everything except stability is tested on the first.
    perturbations
        Labels, measured or not; the training perturbations if None. Time and memory grow with their number, so choose a
        few hundred from a genome-wide screen.
    of
        The attention to test: ``"genes"``, or ``"perturbations"`` (for one model, without the sources below).
    networks
        Networks that the model has not seen, by name, in any form that :func:`scapp.pp.add_network` accepts. The
        networks of the model are always tested, and marked.
    regulons
        Edges from regulators to targets, such as CollecTRI :cite:p:`MullerDott2023`.
    pathways
        Gene sets, in any form that :func:`scapp.pp.similarity_network` accepts; those with 2 to 200 genes are used.
    known
        Sources (names of `networks`, ``"regulons"``, ``"pathways"``) that the model saw in another form, for example as
        gene features; they are marked.
    aliases
        Gene aliases, as in :func:`scapp.pp.add_network`.
    n_top
        Number of top genes or perturbations.
    n_permutations
        Permutations for each p-value.
    seed
        Random seed of the permutations.

    Returns
    -------
    One row per test, with the columns

    - ``check``, ``statistic``, ``source``: what is tested, and against what
    - ``value``, ``expected``: the statistic, and its mean by chance
    - ``p_value``: share of permutations with an equal or larger value (smaller, for the distances between members); NaN
      if there is only one perturbation, or if nothing is permuted
    - ``n``: number of perturbations, not counting those without related genes in a source
    - ``by_construction``: whether a model that has learned nothing would pass too
    - ``null``: the definition of chance

    Raises
    ------
    RuntimeError
        If a model has not been trained.
    ValueError
        If a label cannot be read or names a gene that is not a node, a source is about other genes, the models are about
        different genes, the model has no such attention (``attention=False``; of perturbations, ``preset="paper"``), or several
        models or sources are given with ``of="perturbations"``.

    Examples
    --------
    >>> checks = scapp.tl.attention_checks(model, regulons="collectri.csv", pathways="reactome.gmt")
    >>> checks[~checks["by_construction"]]
    """
    from scapp.tl._measured_checks import measured_checks  # torch is loaded only where it is needed

    models = list(model) if isinstance(model, Sequence) else [model]
    if not models:
        raise ValueError("No model is given: the list of models is empty.")
    for one in models:
        check_model(one)
        if not one.module.attends:
            raise ValueError(
                "This model was made without attention. Make it with attention=True, or pooling='attention'."
            )
        if one.genes != models[0].genes:
            raise ValueError("The models are about different genes; pass models that were set up with the same adata.")
    first = models[0]
    if perturbations is None:
        sep = first.registry["setup_args"]["sep"]
        perturbations = [sep.join(first.genes[node] for node in nodes) for nodes in first.module.perturbations]
    elif not isinstance(perturbations, str):  # which is refused as it is
        perturbations = list(dict.fromkeys(perturbations))
    labels, nodes = first.read_perturbations(perturbations)
    if of == "perturbations":
        if len(models) > 1 or networks or known or regulons is not None or pathways is not None:
            raise ValueError(
                "of='perturbations' tests one model against its own screen: pass one model and no sources."
            )
        if n_permutations < 1:
            raise ValueError(f"n_permutations must be at least 1, found {n_permutations}.")
        return pd.DataFrame(measured_checks(first, nodes, n_top, n_permutations, np.random.default_rng(seed)))
    most = len(first.genes) - max(map(len, nodes))
    if n_permutations < 1 or not 1 <= n_top <= most:
        raise ValueError(
            f"n_permutations must be at least 1, found {n_permutations}; n_top from 1 to the {most} genes that are not "
            f"perturbed, found {n_top}."
        )
    sets = gene_sets(
        first.genes,
        networks_of(first),
        networks=networks,
        regulons=regulons,
        pathways=pathways,
        known=known,
        aliases=aliases,
    )
    rng = np.random.default_rng(seed)
    looked = look(first, nodes)
    rows = _checks.learning(looked)
    if len(models) > 1:
        each = [looked, *(look(one, one.read_perturbations(labels)[1]) for one in models[1:])]
        attention, prior = (
            np.stack(runs) for runs in zip(*((e.attention.mean(0), e.prior.mean(0)) for e in each), strict=True)
        )
        between = _checks.AttentionRuns(attention, prior, looked.perturbed, looked.bins)
        rows += _checks.stability(between, "models", n_top, n_permutations, rng)
    rows += _checks.enrichment(looked, sets, n_permutations, rng)
    rows += _checks.specificity(looked, n_permutations, rng)
    return pd.DataFrame(rows)


def look(model: APP, nodes: Sequence[tuple[int, ...]]) -> _checks.AttentionRuns:
    """Look up the attention of a model for some perturbations."""
    attention, prior = (tensor.cpu().numpy()[None] for tensor in model.module.attended(nodes))
    perturbed = np.zeros(prior.shape[1:], dtype=bool)
    for row, genes in zip(perturbed, nodes, strict=True):
        row[list(genes)] = True
    linked = sum(
        (abs(n) + abs(n).T for n in networks_of(model).values()), start=sparse.csr_matrix((len(model.genes),) * 2)
    )
    degree = np.diff(sparse.csr_matrix(linked).indptr)
    return _checks.AttentionRuns(attention, prior, perturbed, _checks.degree_bins(degree))


@dataclass(frozen=True)
class GeneSets:
    """Genes that belong together by one source: `related` is a boolean matrix of genes by genes, row = perturbed gene."""

    source: str
    related: sparse.csr_matrix
    by_construction: bool

    def of(self, perturbed: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return the genes related to those of each perturbation, which are left out; shape (n, n_genes)."""
        found = sparse.csr_matrix(perturbed.astype(np.float32)) @ self.related
        return (found.toarray() > 0) & ~perturbed


def gene_sets(
    genes: Sequence[str],
    own: Mapping[str, sparse.csr_matrix],
    *,
    networks: Mapping[str, Edges] | None,
    regulons: Edges | None,
    pathways: Annotations | None,
    known: Sequence[str],
    aliases: Aliases | None,
) -> list[GeneSets]:
    """Read the model's own networks and all sources; refuse what is about other genes."""
    matcher = GeneMatcher(genes, aliases)
    found = [GeneSets(f"neighbours, {key}", _either_way(adjacency), True) for key, adjacency in own.items()]
    names = {
        *(networks or {}),
        *(["regulons"] if regulons is not None else []),
        *(["pathways"] if pathways is not None else []),
    }
    if unknown := [name for name in known if name not in names]:
        raise ValueError(
            f"known={list(known)!r} names {unknown[0]!r}, which is not given; the sources are {sorted(names) or 'none'}."
        )
    for name, edges in (networks or {}).items():
        related = _either_way(_edges(edges, genes, matcher, f"networks[{name!r}]"))
        found.append(GeneSets(f"neighbours, {name}", related, name in known))
    if regulons is not None:
        related = _edges(regulons, genes, matcher, "regulons")
        found.append(GeneSets("targets, regulons", related, "regulons" in known))
    if pathways is not None:
        found.append(GeneSets("same pathway", _together(pathways, genes, matcher), "pathways" in known))
    return found


def _edges(edges: Edges, genes: Sequence[str], matcher: GeneMatcher, argument: str) -> sparse.csr_matrix:
    table = read_edges(edges, var_names=genes).edges
    names, codes = np.unique(pd.concat([table["source"], table["target"]]).to_numpy(str), return_inverse=True)
    position = _positions(names.tolist(), genes, matcher)
    source, target = position[codes[: len(table)]], position[codes[len(table) :]]
    inside = (source >= 0) & (target >= 0) & (source != target)
    if not inside.any():
        raise ValueError(
            f"None of the {len(table)} edges of {argument} joins two of the model's {len(genes)} genes, which are named "
            f"like {genes[0]!r}, and the edges like {names[0]!r}. Pass aliases=… if they go by other names."
        )
    return _boolean(source[inside], target[inside], len(genes))


def _together(pathways: Annotations, genes: Sequence[str], matcher: GeneMatcher) -> sparse.csr_matrix:
    """Return pairs of genes that share a pathway of moderate size."""
    table = read_annotations(pathways).with_term_sizes(2, MAX_PATHWAY_SIZE)
    position = _positions(table.genes, genes, matcher)
    rows, terms = table.membership.nonzero()
    inside = position[rows] >= 0
    if not inside.any():
        raise ValueError(
            f"None of the {len(table.genes)} genes of pathways is among the model's {len(genes)}, which are named like "
            f"{genes[0]!r}. Pass aliases=… if they go by other names."
        )
    ones = np.ones(int(inside.sum()), dtype=np.float32)
    membership = sparse.csr_matrix((ones, (position[rows[inside]], terms[inside])), (len(genes), len(table.terms)))
    source, target = (membership @ membership.T).nonzero()
    return _boolean(source[source != target], target[source != target], len(genes))


def _positions(names: list[str], genes: Sequence[str], matcher: GeneMatcher) -> NDArray[np.intp]:
    """Return the number of the gene that each name means, -1 for none."""
    best, _ = matcher.match(names).best_names(len(genes))
    position = np.full(len(names), -1, dtype=np.intp)
    position[best[best >= 0]] = np.flatnonzero(best >= 0)
    return position


def _either_way(adjacency: sparse.csr_matrix) -> sparse.csr_matrix:
    source, target = adjacency.nonzero()
    other = source != target
    source, target = source[other], target[other]
    return _boolean(np.r_[source, target], np.r_[target, source], adjacency.shape[0])


def _boolean(source: NDArray[np.intp], target: NDArray[np.intp], n: int) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(source), dtype=np.float32), (source, target)), shape=(n, n))
    matrix.sum_duplicates()
    matrix.data[:] = 1
    return matrix
