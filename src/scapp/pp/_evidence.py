"""The recommended networks and annotations into effects, in one call."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy import sparse

from scapp._checked import checked
from scapp._feature_tables import load_features
from scapp._gene_names import NameTables, perturbed_genes_in
from scapp._genes import check_key_added, shorten, writable
from scapp._keys import Key
from scapp._labels import SEPARATOR
from scapp._settings import READERS, hushed, settings
from scapp._tables import is_path
from scapp.pp._evidence_sources import (
    SOURCES,
    Evidence,
    SourceOptions,
    check_folder,
    check_sources,
    read_aliases,
    read_sources,
)
from scapp.pp._features import add_gene_features, recognise_features
from scapp.pp._network import add_network
from scapp.pp._report import report
from scapp.resources import check_score

if TYPE_CHECKING:
    from scapp._edges import Edges
    from scapp._tables import PathLike

logger = logging.getLogger(__name__)


@checked(own=("networks", "local"))
def add_evidence(
    effects: AnnData,
    *,
    organism: str = "human",
    sources: Sequence[str] = SOURCES,
    networks: Mapping[str, Edges] | None = None,
    features: Mapping[str, Any] | None = None,
    local: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    aliases: Any = "auto",
    min_score: float = 400,
    min_genes: int = 2,
    max_genes: int | None = 1000,
    n_components: int = 256,
    perturbation_key: str | None = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    progress_bar: bool = True,
    copy: bool = False,
) -> AnnData | None:
    """Add prior knowledge about genes: the recommended networks and annotations, and your own.

    STRING :cite:p:`Szklarczyk2023` without text mining becomes four networks, because its kinds of evidence predict
    better separately than as a sum: ``varp["experiments"]``, ``varp["database"]``, ``varp["coexpression"]``, and the
    combined ``varp["network"]``. The Gene Ontology :cite:p:`Ashburner2000`, propagated to broader terms, and Reactome
    :cite:p:`Milacic2024` become ``varm["go"]`` and ``varm["reactome"]``, whose rows have tf-idf cosines as dot
    products.

    Files are read from `local` if it is given. Otherwise they are read from the cache, and missing files are downloaded
    into it, about 150 MB for human.

    Parameters
    ----------
    effects
        Effects with one observation per perturbation; changed in place unless `copy`. Call :func:`add_unmeasured_genes`
        first, so that genes that were perturbed but not measured get evidence too; the summary names those without.
    organism
        ``"human"``, ``"mouse"``, ``"rat"``, ``"zebrafish"``, ``"fly"``, ``"worm"`` or ``"yeast"``. Reactome can be
        downloaded only for human.
    sources
        Some of ``"string"``, ``"go"`` and ``"reactome"``; empty to use only your own evidence.
    networks
        Additional networks: for each key of `varp` the edges, in any form that :func:`add_network` accepts.
    features
        Additional gene features: for each key of `varm` a table, annotations or a network, in any form that
        :func:`add_gene_features` accepts. Annotations are reduced like GO and Reactome, and tables are kept unchanged.
    local
        Folder of files from which all `sources` are read. These files are recognised by name: a table of STRING
        (``string*.tsv.gz`` with the columns source, target, combined_score, experiments, database, coexpression) or its own
        files (``9606.protein.links.detailed.v12.0.txt.gz`` and ``9606.protein.info.v12.0.txt.gz``); GO as tables
        (``gene2go*.tsv.gz``, ``go*parents*.tsv.gz``) or in its own formats (``*.gaf.gz``, ``*.obo``); ``reactome*.gmt.gz``;
        names of genes (``*alias*.tsv.gz``, ``hgnc*.txt``).
    folder
        Folder of downloaded files; if None, ``$SCAPP_DATA_DIR`` or the folder of scanpy.
    base_url
        Mirror that has the files under the same names; if None, ``$SCAPP_DATA_URL`` or the public hosts.
    aliases
        Gene aliases, as in :func:`add_network`. ``"auto"`` uses those in `local`, or HGNC's :cite:p:`Seal2023` for
        human; None matches genes only by symbol.
    min_score
        Minimum combined score of STRING edges, from 0 to 1000.
    min_genes, max_genes
        Leave out terms with fewer or more annotated genes.
    n_components
        Length of a gene's vector for annotations.
    perturbation_key, control, sep
        Column with the perturbations, control label and separator, for reporting perturbed genes without evidence; optional.
    progress_bar
        Whether to show the progress of downloads and of the matching.
    copy
        Return a changed copy and leave `effects` unchanged.

    Returns
    -------
    None, or the copy. Besides the arrays, this writes ``effects.uns["scapp"]["evidence"]`` with ``network_keys`` and
    ``gene_features_keys``; for each of these, in ``networks`` and ``gene_features``, the source, its license and
    version, and the numbers matched (``n_genes``, ``n_edges``, ``n_features``); ``perturbed_genes_without_evidence``
    and, among them, ``perturbed_genes_not_in_var``. Evidence from an earlier call is kept, unless a key is the same.

    Raises
    ------
    ValueError
        If an argument does not fit, `local` lacks a source, a file or table cannot be read, or hardly any gene matches.
        `effects` is unchanged then, as after every error.
    ConnectionError
        If a file cannot be downloaded.

    See Also
    --------
    add_network, add_gene_features, add_unmeasured_genes, scapp.resources.string, scapp.resources.gene_ontology

    Examples
    --------
    >>> scapp.pp.add_evidence(effects, sources=["string"], aliases=None)
    >>> list(effects.uns["scapp"]["evidence"]["network_keys"])
    ['experiments', 'database', 'coexpression', 'network']

    A folder of files, and a network of your own:

    >>> scapp.pp.add_evidence(effects, local="evidence", networks={"mine": "collectri.csv"})
    """
    effects = writable(effects, "scapp.pp.add_evidence", copy=copy)
    download = {"folder": folder, "base_url": base_url, "progress_bar": progress_bar}
    options = SourceOptions(organism, check_folder(local), download, min_score)
    chosen = check_sources(sources, options)
    own = Evidence(_named(networks, "networks", "edges"), _named(features, "features", "table"))
    if not (chosen or own.networks or own.features):
        raise ValueError("There is no evidence to add: sources is empty, and neither networks nor features are given.")
    check_score(min_score)
    perturbed = perturbed_genes_in(effects, perturbation_key, control, sep)

    # Networks and features are added to this one first, so that an error leaves the effects as they were.
    scratch = AnnData(obs=effects.obs.copy(), var=effects.var.copy())
    with nullcontext() if logger.isEnabledFor(logging.DEBUG) else hushed(*READERS):
        tables = NameTables.read(read_aliases(options) if isinstance(aliases, str) and aliases == "auto" else aliases)
        matching: dict[str, Any] = {"aliases": tables, "perturbation_key": perturbation_key}
        matching |= {"control": control, "sep": sep}
        reduced = {"min_genes": min_genes, "max_genes": max_genes, "n_components": n_components}
        recommended = read_sources(chosen, options)
        for argument, mine, others in (
            ("networks", own.networks, recommended.networks),
            ("features", own.features, recommended.features),
        ):
            if taken := sorted(set(mine) & set(others)):
                raise ValueError(
                    f"The key {taken[0]!r} in {argument} is taken by the recommended evidence. Choose another key, or leave that "
                    "source out with sources=[…]."
                )
        silent = not progress_bar or settings.is_silent
        added = _add_all(scratch, recommended, own, matching, reduced, silent)
    evidence = _merged(effects, added)
    evidence |= _uncovered(scratch, effects, evidence, perturbed)
    for slot in ("varp", "varm"):  # nothing can fail from here on
        for key, values in getattr(scratch, slot).items():
            getattr(effects, slot)[key] = values
    reports = effects.uns.setdefault(Key.uns.SCAPP, {})
    for group, held in scratch.uns[Key.uns.SCAPP].items():
        reports.setdefault(group, {}).update(held)
    reports[Key.uns.EVIDENCE] = evidence
    logger.info("%s", _summary(added, evidence, perturbed))
    return effects if copy else None


def _named(given: Mapping[str, Any] | None, argument: str, what: str) -> dict[str, Any]:
    """Return evidence by its key, or raise if it has none."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{argument} must be a mapping from a key to its {what}, found {type(given).__name__}. Pass "
            f"{argument}={{'mine': {what}}}."
        )
    for key in given:
        check_key_added(key)
    return dict(given)


def _add_all(
    scratch: AnnData,
    recommended: Evidence,
    own: Evidence,
    matching: dict[str, Any],
    reduced: dict[str, Any],
    silent: bool,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Add all evidence to an AnnData, and return a record for each key."""
    from rich.console import Console
    from rich.progress import track

    networks, features = recommended.networks | own.networks, recommended.features | own.features
    added: dict[str, dict[str, dict[str, Any]]] = {Key.uns.NETWORKS: {}, Key.uns.GENE_FEATURES: {}}
    steps = [(key, True) for key in networks] + [(key, False) for key in features]
    for key, is_network in track(steps, description="Evidence", console=Console(stderr=True), disable=silent):
        if is_network:
            edges = networks[key]
            try:
                add_network(scratch, edges, key_added=key, **matching)
            except ValueError as error:
                if key not in recommended.networks or key == Key.varp.NETWORK:
                    raise
                # Screens of few genes may have none in a channel; if they are of other genes, the combined network says so.
                logger.warning("No edge of STRING's channel %r joins genes of these effects: %s", key, error)
                continue
            found = report(scratch, "network", key)
            held = {"n_genes": found.n_genes - found.n_isolated, "n_edges": found.n_edges}
            added[Key.uns.NETWORKS][key] = _origin(edges) | held
        else:
            origin = _origin(features[key])
            loaded = load_features(features[key]) if is_path(features[key]) else features[key]
            options = reduced if recognise_features(loaded) == "annotations" else {}
            options = options | matching | {"parents": recommended.parents.get(key)}
            add_gene_features(scratch, loaded, key_added=key, **options)
            found = report(scratch, "gene_features", key)
            held = {"n_genes": found.n_genes_with_features, "n_features": found.n_features}
            added[Key.uns.GENE_FEATURES][key] = origin | held
    return added


def _origin(given: object) -> dict[str, str]:
    """Return source, license, version, date and file of a table, each empty if the table does not say it."""
    attrs = given.attrs if isinstance(given, pd.DataFrame) else {}
    return {name: str(attrs.get(name, "")) for name in ("source", "license", "version", "date", "file")}


def _merged(effects: AnnData, added: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the record of the evidence, including that of earlier calls that still exists."""
    before = effects.uns.get(Key.uns.SCAPP, {}).get(Key.uns.EVIDENCE, {})
    merged: dict[str, Any] = {}
    for group, keys, slot in (
        (Key.uns.NETWORKS, Key.uns.NETWORK_KEYS, effects.varp),
        (Key.uns.GENE_FEATURES, Key.uns.GENE_FEATURES_KEYS, effects.varm),
    ):
        kept = [key for key in before.get(keys, ()) if key in slot and key not in added[group]]
        merged[keys] = np.array([*kept, *added[group]], dtype=object)
        merged[group] = {key: before[group][key] for key in kept} | added[group]
    return merged


def _uncovered(
    scratch: AnnData, effects: AnnData, evidence: dict[str, Any], perturbed: Sequence[str]
) -> dict[str, Any]:
    """Return the perturbed genes about which nothing is known, and those that are not genes of the effects."""
    known = np.zeros(effects.n_vars, dtype=bool)
    for key in evidence[Key.uns.NETWORK_KEYS]:
        network = sparse.coo_matrix(scratch.varp[key] if key in scratch.varp else effects.varp[key])
        known[network.row] = known[network.col] = True
    for key in evidence[Key.uns.GENE_FEATURES_KEYS]:
        values = np.asarray(scratch.varm[key] if key in scratch.varm else effects.varm[key])
        known |= np.isfinite(values).any(axis=1)
    missing = {
        "perturbed_genes_without_evidence": set(effects.var_names[known]),
        "perturbed_genes_not_in_var": set(effects.var_names),
    }
    return {
        name: np.array([gene for gene in perturbed if gene not in genes], dtype=object)
        for name, genes in missing.items()
    }


def _summary(added: dict[str, dict[str, dict[str, Any]]], evidence: dict[str, Any], perturbed: Sequence[str]) -> str:
    lines = ["Evidence added:"]
    for key, held in added[Key.uns.NETWORKS].items():
        lines.append(f"  network {key!r}{_told(held)}: {held['n_edges']:,} edges of {held['n_genes']:,} genes")
    for key, held in added[Key.uns.GENE_FEATURES].items():
        lines.append(
            f"  features {key!r}{_told(held)}: {held['n_features']} numbers for each of {held['n_genes']:,} genes"
        )
    absent = list(evidence["perturbed_genes_not_in_var"])
    unknown = [gene for gene in evidence["perturbed_genes_without_evidence"] if gene not in set(absent)]
    if unknown:
        lines.append(
            f"  {len(unknown)} of {len(perturbed)} perturbed genes are without any evidence: {shorten(unknown, 10)}"
        )
    if absent:
        lines.append(
            f"  {len(absent)} of {len(perturbed)} perturbed genes are not among the genes of effects, and have no evidence: "
            f"{shorten(absent, 10)}. Add them with `effects = scapp.pp.add_unmeasured_genes(effects, control=None)`, then call "
            "add_evidence again."
        )
    return "\n".join(lines)


def _told(held: dict[str, Any]) -> str:
    """Return source, version and license for the summary."""
    source = " ".join(part for part in (held["source"], held["version"]) if part)
    told = ", ".join(part for part in (source, held["license"]) if part)
    return f" ({told})" if told else ""
