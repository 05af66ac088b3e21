"""Annotations of genes: Reactome, the Gene Ontology, and files in their formats."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pandas as pd

from scapp._annotations import gene_sets, read_annotations
from scapp._checked import checked
from scapp._download import RemoteFile, fetch, small_tables
from scapp._provenance import check_columns, noted, taxon
from scapp._tables import PathLike, existing_file, open_text, read_table, whole

logger = logging.getLogger(__name__)

ASPECTS: Final = {"BP": "biological_process", "MF": "molecular_function", "CC": "cellular_component"}
_LETTERS: Final = {"P": "BP", "F": "MF", "C": "CC"}
_GO = "https://current.geneontology.org"
_GENE_ONTOLOGY: Final[dict[str, Any]] = {"source": "Gene Ontology", "license": "CC BY 4.0"}
_GAF = {"human": "goa_human", "mouse": "mgi", "rat": "rgd", "zebrafish": "zfin"}
_GAF |= {"fly": "fb", "worm": "wb", "yeast": "sgd"}
_OBO = RemoteFile("go-basic.obo", f"{_GO}/ontology/go-basic.obo", header="format-version")
_REACTOME = RemoteFile("ReactomePathways.gmt.zip", "https://reactome.org/download/current/ReactomePathways.gmt.zip")
_NUMBERED = r"R-[A-Z]{3}-\d+$"
_SMALL_REACTOME = "reactome_2024-04.gmt.gz"
_SMALL_GO = ["gene2go_human_2022-09.tsv.gz", "go_dag_parents.tsv.gz"]
# Columns of a GAF file.
_SYMBOL, _QUALIFIER, _TERM, _EVIDENCE, _ASPECT, _N_COLUMNS = 2, 3, 4, 6, 8, 15


@checked
def from_gmt(file: PathLike, *, source: str = "", license: str = "", version: str = "") -> pd.DataFrame:
    """Read gene sets from a GMT file: name, description and genes, separated by tabs; gzipped or not.

    Parameters
    ----------
    file
        The file.
    source, license, version
        Provenance to store with the table.

    Returns
    -------
    One row per gene and set: ``gene``, ``term`` (the name of the set), ``description``. For
    :func:`scapp.pp.similarity_network` and :func:`scapp.pp.add_gene_features`.

    Raises
    ------
    ValueError
        If the file is missing or damaged, a line is not a gene set, or the name of a set occurs twice.
    """
    path = existing_file(file)
    return noted(_sets(path, unique=True), source=source or path.name, license=license, version=version, path=path)


@checked
def reactome(
    *,
    organism: str = "human",
    file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return pathways of human genes from Reactome :cite:p:`Milacic2024`.

    Parameters
    ----------
    organism
        ``"human"``; Reactome publishes gene sets for no other organism.
    file
        Local copy of ``ReactomePathways.gmt.zip``, or its GMT file, used instead of a download.
    folder, base_url, progress_bar
        As in :func:`scapp.datasets.norman_2019_effects`. If the data folder does not have this file but has a
        ``reactome_2024-04.gmt.gz`` (:doc:`/data`), that is read.

    Returns
    -------
    One row per gene and pathway: ``gene`` (symbol), ``term`` (such as R-HSA-73843), ``description`` (its name). Origin,
    license and date are in ``attrs``.

    Raises
    ------
    ConnectionError
        If the file cannot be fetched.
    ValueError
        If the organism is not human, or the file is not from Reactome.
    """
    taxon(organism, ("human",))
    small = small_tables([_SMALL_REACTOME], instead_of=_REACTOME, local=file, folder=folder)
    options: dict[str, Any] = {"folder": folder, "base_url": base_url, "progress_bar": progress_bar}
    path = small[0] if small else fetch(_REACTOME, local=file, **options)
    table = _sets(path)
    # The official file has the name of a pathway first and its id second; other files have them reversed.
    if not table["term"].str.match(_NUMBERED).mean() > 0.5:
        table = table.rename(columns={"term": "description", "description": "term"})[["gene", "term", "description"]]
    if not table["term"].str.match(_NUMBERED).mean() > 0.5:
        raise ValueError(
            f"{str(path)!r} has no pathways of Reactome, which are numbered as in 'R-HSA-73843'; the first is "
            f"{table['term'].iloc[0]!r}. Read other gene sets with scapp.resources.from_gmt."
        )
    return noted(
        table, source="Reactome", license="CC0 1.0", version="", path=path, url=_REACTOME.url, organism=organism
    )


@checked
def gene_ontology(
    *,
    organism: str = "human",
    aspects: Sequence[str] = ("BP", "MF", "CC"),
    evidence: Sequence[str] | None = None,
    exclude_evidence: Sequence[str] = ("ND",),
    propagate: bool = True,
    relations: Sequence[str] = ("is_a", "part_of"),
    file: PathLike | None = None,
    ontology_file: PathLike | None = None,
    folder: PathLike | None = None,
    base_url: str | None = None,
    progress_bar: bool = True,
) -> pd.DataFrame:
    """Return annotations of genes with the Gene Ontology :cite:p:`Ashburner2000,GeneOntology2023`, propagated to broader terms.

    Parameters
    ----------
    organism
        ``"human"``, ``"mouse"``, ``"rat"``, ``"zebrafish"``, ``"fly"``, ``"worm"`` or ``"yeast"``.
    aspects, evidence, exclude_evidence, relations
        As in :func:`from_gaf`.
    propagate
        Whether a gene also gets all broader terms of its terms.
    file, ontology_file
        Local copies of the annotations (GAF) and of ``go-basic.obo``, used instead of a download.
    folder, base_url, progress_bar
        As in :func:`scapp.datasets.norman_2019_effects`. Where the folder of data has no such file but the small tables
        ``gene2go_human_2022-09.tsv.gz`` and ``go_dag_parents.tsv.gz`` (:doc:`/data`), those are read; terms have no
        description then.

    Returns
    -------
    As :func:`from_gaf`.

    Raises
    ------
    ConnectionError
        If a file cannot be fetched.
    ValueError
        If an argument is invalid, a file is of another format, or no annotation is left.
    """
    taxon(organism, tuple(_GAF))
    name = f"{_GAF[organism]}.gaf.gz"
    gaf = RemoteFile(name, f"{_GO}/annotations/{name}", header="!")
    whole_ontology = set(aspects) == set(ASPECTS) and set(relations) == {"is_a", "part_of"}
    if organism == "human" and ontology_file is None and whole_ontology:
        small = small_tables(_SMALL_GO, instead_of=gaf, local=file, folder=folder)
        if small:
            return _small_ontology(small[0], small[1], evidence, exclude_evidence, propagate)
    options: dict[str, Any] = {"folder": folder, "base_url": base_url, "progress_bar": progress_bar}
    table = from_gaf(
        fetch(gaf, local=file, **options),
        ontology=fetch(_OBO, local=ontology_file, **options),
        aspects=aspects,
        evidence=evidence,
        exclude_evidence=exclude_evidence,
        propagate=propagate,
        relations=relations,
        **_GENE_ONTOLOGY,
    )
    table.attrs |= {"organism": organism, "url": gaf.url}
    return table


def _small_ontology(
    annotations: Path, parents: Path, evidence: Sequence[str] | None, exclude_evidence: Sequence[str], propagate: bool
) -> pd.DataFrame:
    """Return annotations of the small tables, chosen and passed on as those of the Gene Ontology's files are."""
    table, lineage = read_table(annotations), read_table(parents)
    mend = "Remove it, so that the Gene Ontology's file is downloaded."
    check_columns(annotations, table.columns, ["symbol", "go_id", "evidence"], "the small table of GO", mend)
    check_columns(parents, lineage.columns, ["child", "parent"], "the small table of GO's terms", mend)
    kept = ~table["evidence"].isin(_as_list(exclude_evidence))
    if evidence is not None:
        kept &= table["evidence"].isin(_as_list(evidence))
    pairs = table.loc[kept, ["symbol", "go_id"]].set_axis(["gene", "term"], axis=1).drop_duplicates(ignore_index=True)
    if pairs.empty:
        raise ValueError(f"No annotation of {str(annotations)!r} is left; change evidence= or exclude_evidence=.")
    if propagate:
        pairs = read_annotations(pairs, parents=lineage).pairs()
    about: dict[str, Any] = {"path": annotations, "organism": "human", "propagated": propagate}
    return noted(pairs, version="", file=annotations.name, **about, **_GENE_ONTOLOGY)


@checked
def from_gaf(
    file: PathLike,
    *,
    ontology: PathLike | None = None,
    aspects: Sequence[str] = ("BP", "MF", "CC"),
    evidence: Sequence[str] | None = None,
    exclude_evidence: Sequence[str] = ("ND",),
    propagate: bool = True,
    relations: Sequence[str] = ("is_a", "part_of"),
    source: str = "",
    license: str = "",
    version: str = "",
) -> pd.DataFrame:
    """Read annotations from a file in the format of the Gene Ontology (GAF 2), gzipped or not.

    Parameters
    ----------
    file
        The file.
    ontology
        The ontology in OBO format, needed to propagate annotations.
    aspects
        Some of ``"BP"``, ``"MF"`` and ``"CC"``.
    evidence
        Evidence codes to keep, such as ``["EXP", "IDA", "IMP"]``; None keeps all.
    exclude_evidence
        Evidence codes to leave out, by default those that mean that nothing is known.
    propagate
        Whether a gene also gets all broader terms of its terms; only with an ontology.
    relations
        Relations along which genes of a narrower term are assigned to the broader one.
    source, license, version
        To be noted with the table; version and date are read from the files if they say them.

    Returns
    -------
    One row per gene and term: ``gene`` (symbol), ``term`` and, with an ontology, ``description`` (its name).
    Annotations with the qualifier NOT and obsolete terms are left out, and their number is logged. Alternative ids of a
    term are replaced.

    Raises
    ------
    ValueError
        If the file is missing, damaged or in another format, an aspect or relation is unknown, or no annotation is
        left.
    """
    aspects, exclude_evidence, relations = _as_list(aspects), _as_list(exclude_evidence), _as_list(relations)
    unknown = [aspect for aspect in aspects if aspect not in ASPECTS]
    if unknown or not aspects:
        raise ValueError(
            f"aspects must be some of 'BP', 'MF' and 'CC', found {', '.join(map(repr, unknown)) or 'none'}."
        )
    path = existing_file(file)
    table, generated = _read_gaf(path)
    if table.empty:
        raise ValueError(f"{str(path)!r} holds no annotations. Fetch or write it again.")
    kept = table["aspect"].map(_LETTERS).isin(aspects) & ~table["evidence"].isin(exclude_evidence)
    if evidence is not None:
        kept &= table["evidence"].isin(_as_list(evidence))
    negated = table["qualifier"].str.split("|").map(lambda words: "NOT" in words)
    logger.info("%d of %d annotations say NOT, and were left out.", negated.sum(), len(table))
    annotations = table.loc[kept & ~negated, ["gene", "term"]]
    if ontology is not None:
        terms = read_obo(existing_file(ontology))
        if propagate:
            there = sorted(set(terms.parents["relationship"]))
            unknown = [relation for relation in relations if relation not in there]
            if unknown and there:  # nothing would be passed on by these
                named, have = ", ".join(map(repr, unknown)), ", ".join(map(repr, there))
                said = f"There is no relation {named} in {str(existing_file(ontology))!r}; there are {have}."
                if len(unknown) == len(relations):
                    raise ValueError(f"{said} Pass relations=… of these, or propagate=False.")
                logger.info("%s", said)
        current = annotations["term"].map(lambda term: terms.current.get(term, term))
        known = current.isin(set(terms.names))
        if not known.all():
            logger.info(
                "Left out %d annotation(s) with terms that the ontology has not, or calls obsolete.", (~known).sum()
            )
        annotations = annotations.assign(term=current)[known]
    if annotations.empty:
        raise ValueError(
            f"No annotation of {str(path)!r} is left. The codes of evidence there are "
            f"{', '.join(sorted(set(table['evidence'])))}; change evidence=, exclude_evidence= or aspects=."
        )
    annotations = annotations.drop_duplicates(ignore_index=True)
    if ontology is not None:
        annotations = _described(annotations, terms, aspects, relations if propagate else ())
        version = version or terms.version
    return noted(
        annotations,
        source=source or path.name,
        license=license,
        version=version or generated,
        path=path,
        annotations_date=generated,
        propagated=bool(ontology is not None and propagate),
    )


def _as_list(given: Sequence[str]) -> list[str]:
    """Return a list; a single text means a list of one."""
    return [given] if isinstance(given, str) else list(given)


def _sets(path: Path, *, unique: bool = False) -> pd.DataFrame:
    rows, names = [], set()
    for name, description, genes in gene_sets(path):
        if unique and name in names:
            raise ValueError(
                f"The gene set {name!r} occurs twice in {str(path)!r}. Rename one of them; or, if this is a table with a gene and "
                "a term in each row, read it with scapp.resources.from_table."
            )
        names.add(name)
        rows += [(gene, name, description) for gene in genes]
    if not rows:
        raise ValueError(f"{str(path)!r} holds no gene sets.")
    return pd.DataFrame(rows, columns=["gene", "term", "description"], dtype=object)


def _read_gaf(path: Path) -> tuple[pd.DataFrame, str]:
    """Return gene, qualifier, term, evidence and aspect of each annotation, and the date in the file."""
    rows, generated = [], ""
    with whole(path), open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if line.startswith("!"):
                if line.startswith("!date-generated:"):
                    generated = line.split(":", 1)[1].strip()
                continue
            fields = line.rstrip("\n").split("\t")
            if len(fields) < _N_COLUMNS or fields[_ASPECT] not in _LETTERS:
                raise ValueError(
                    f"Line {number} of {str(path)!r} is no annotation in GAF format: it has {len(fields)} fields, not "
                    f"{_N_COLUMNS} or more, or its ninth is not P, F or C. Read tables with scapp.resources.from_table."
                )
            rows.append([fields[i].strip() for i in (_SYMBOL, _QUALIFIER, _TERM, _EVIDENCE, _ASPECT)])
    table = pd.DataFrame(rows, columns=["gene", "qualifier", "term", "evidence", "aspect"], dtype=object)
    return table[table["gene"] != ""], generated


def _described(
    annotations: pd.DataFrame, ontology: Ontology, aspects: Sequence[str], relations: Sequence[str]
) -> pd.DataFrame:
    """Add the name of each term, and pass annotations on to broader terms of the wanted aspects."""
    followed = ontology.parents[ontology.parents["relationship"].isin(relations)][["child", "parent"]]
    if followed["child"].isin(set(annotations["term"])).any():
        annotations = read_annotations(annotations, parents=followed).pairs()
        wanted = {ASPECTS[aspect] for aspect in aspects}
        annotations = annotations[annotations["term"].map(ontology.namespaces).isin(wanted)]
    return annotations.assign(description=annotations["term"].map(ontology.names)).sort_values(
        ["gene", "term"], ignore_index=True
    )


@dataclass
class Ontology:
    """Terms of an ontology.

    `version` is as the file says it; `names` and `namespaces` are those of each term that is not obsolete; `current` has the term
    that stands for one of another number (``alt_id``); `parents` the columns child, parent and relationship, such as ``"is_a"``.
    """

    version: str = ""
    names: dict[str, str] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    parents: pd.DataFrame = field(default_factory=pd.DataFrame)


def read_obo(path: Path) -> Ontology:
    """Read an OBO file, gzipped or not; ValueError if it has no term, or cannot be read to its end."""
    ontology = Ontology()
    edges = []
    for kind, stanza in _stanzas(path):
        if kind == "header":
            ontology.version = stanza.get("data-version", [""])[0]
        if kind != "Term" or "id" not in stanza or stanza.get("is_obsolete") == ["true"]:
            continue
        term = stanza["id"][0]
        ontology.names[term] = stanza.get("name", [""])[0]
        ontology.namespaces[term] = stanza.get("namespace", [""])[0]
        ontology.current |= dict.fromkeys(stanza.get("alt_id", ()), term)
        edges += [(term, parent.split()[0], "is_a") for parent in stanza.get("is_a", ())]
        related = (value.split() for value in stanza.get("relationship", ()))
        edges += [(term, words[1], words[0]) for words in related if len(words) > 1]
    if not ontology.names:
        raise ValueError(f"{str(path)!r} holds no terms of an ontology. Expected a file such as go-basic.obo.")
    ontology.parents = pd.DataFrame(edges, columns=["child", "parent", "relationship"], dtype=object)
    return ontology


def _stanzas(path: Path) -> Iterator[tuple[str, dict[str, list[str]]]]:
    """Return the kind of each stanza and its values by tag; the comment behind a value is left out."""
    kind: str = "header"
    stanza: dict[str, list[str]] = {}
    with whole(path), open_text(path) as file:
        for line in file:
            line = line.split(" ! ")[0].strip()
            if line.startswith("[") and line.endswith("]"):
                yield kind, stanza
                kind, stanza = line[1:-1], {}
            elif ":" in line:
                tag, value = line.split(":", 1)
                stanza.setdefault(tag, []).append(value.strip())
    yield kind, stanza
