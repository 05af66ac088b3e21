"""Conversion of annotations in any accepted form to a sparse matrix of genes by terms."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy import sparse

from scapp._edge_columns import edge_ends
from scapp._gene_names import OF_GENES, kind_of
from scapp._genes import shorten
from scapp._tables import (
    TERM_ID,
    PathLike,
    check_single,
    existing_file,
    find_column,
    has_no_header,
    is_gmt,
    is_path,
    is_term,
    names_of,
    open_text,
    plain,
    read_table,
    text_of,
    whole,
    words_of,
)
from scapp._warn import warn_user

logger = logging.getLogger(__name__)

Annotations: TypeAlias = pd.DataFrame | Mapping[str, Iterable[str]] | PathLike
# Share of the first fields that must hold several genes, and the pattern of gene names.
N_LOOKED_AT = 1000
_MOST = 0.5
_NAME = re.compile(r"[\w.\-]+")
_ID = re.compile(rf"(?:.*[\[(])?(?:{TERM_ID.pattern})[\])]?")
# Columns of genes and of terms by their usual names, the most telling first.
GENES = """gene_symbol symbol official_gene_symbol hgnc_symbol external_gene_name gene_name gene_names_primary gene marker cell_marker
    genes ensembl_id gene_stable_id gene_id entrez protein""".split()
TERMS = """term go go_id goid go_term go_term_accession term_id pathway pathway_id pathway_name gene_set geneset set gs_name annotation
    category class ontology_id kegg reactome complex complex_name module cluster family hpo_id disease_id cell_name cell_type""".split()
# Words in other names of theirs. Those of the first line are of genes even beside words of terms.
_OF_GENES = set("marker markers genes members member subunits symbol symbols".split())
_OF_TERMS = set(
    """term terms go ontology pathway pathways set geneset module cluster complex disease phenotype class category family cell
    group interpro pfam process compartment trait disorder location annotation keyword keywords kegg reactome hpo domain signature
    regulon program""".split()
)
_LIKE_GENES = set("gene protein ensembl entrez uniprot hgnc target".split())
_ABOUT = set(
    """description desc definition type biotype synonym synonyms alias start end length chromosome index score count
    size""".split()
)
# Codes of evidence, which look like symbols.
_EVIDENCE = set(
    """EXP IDA IPI IMP IGI IEP HTP HDA HMP HGI HEP IBA IBD IKR IRD ISS ISO ISA ISM IGC RCA TAS NAS IC ND
    IEA""".split()
)
# Relations of the Gene Ontology along which genes of the child also belong to the parent.
_INHERITED = {"isa", "is_a", "part_of", "partof"}


@dataclass(frozen=True)
class AnnotationTable:
    """Terms of each gene: boolean csr matrix of shape (n_genes, n_terms), with the names of both."""

    genes: list[str]
    terms: list[str]
    membership: sparse.csr_matrix

    def pairs(self) -> pd.DataFrame:
        """Return one row per gene and term."""
        held = self.membership.tocoo()
        genes, terms = pd.Index(self.genes, dtype=object), pd.Index(self.terms, dtype=object)
        return pd.DataFrame({"gene": genes[held.row], "term": terms[held.col]})

    def with_term_sizes(self, min_genes: int, max_genes: int | None) -> AnnotationTable:
        """Keep only terms with a number of genes in this range; ValueError if there are none."""
        size = np.bincount(self.membership.indices, minlength=len(self.terms))
        keep = (size >= min_genes) & (size <= (np.inf if max_genes is None else max_genes))
        if not keep.any():
            raise ValueError(
                f"None of the {len(self.terms)} terms has between min_genes={min_genes} and max_genes={max_genes} genes; "
                f"their sizes are {size.min()} to {size.max()}."
            )
        terms = [term for term, kept in zip(self.terms, keep, strict=True) if kept]
        return AnnotationTable(self.genes, terms, self.membership[:, keep])


def read_annotations(annotations: Annotations, *, parents: pd.DataFrame | PathLike | None = None) -> AnnotationTable:
    """Read annotations: a long table of genes and terms, or its path; a mapping from term to its genes; a GMT file.

    The columns are found as by :func:`gene_and_term`; of a table of edges, they are the first two.

    `parents` is a long table, or its path, whose first two columns are child term and parent term. A gene that has a term
    also gets all ancestors of the term. With a column ``relationship_type`` (or ``relationship``), only
    "is a" and "part of" are followed, as a gene that regulates a process is not part of it.

    Raises
    ------
    ValueError
        If there is no annotation, a name is missing, or no term has a parent in `parents`.
    TypeError
        If an argument is something else.
    """
    path = None
    if is_path(annotations):
        # The first line of a table may be a row of data.
        path = annotations
        annotations = read_gmt(path) if is_gmt(path) else read_table(path, header=not has_no_header(path))
    if isinstance(annotations, Mapping):
        for term, genes in annotations.items():
            if isinstance(genes, str | Mapping) or not isinstance(genes, Iterable):
                what = "text" if isinstance(genes, str) else type(genes).__name__
                raise TypeError(
                    f"The mapping must give a list of genes for each term, found the {what} {genes!r} for {term!r}."
                )
        listed = [(gene, term) for term, genes in annotations.items() for gene in genes]
        annotations = pd.DataFrame(listed, columns=["gene", "term"], dtype=object)
    if not isinstance(annotations, pd.DataFrame):
        raise TypeError(
            "annotations must be a DataFrame (gene, term, …), a mapping from term to genes, or the path of a table or GMT "
            f"file, found {type(annotations).__name__}."
        )
    columns = list(annotations.columns[:2])
    if len(columns) == 2 and edge_ends(annotations) is None:
        columns = [*gene_and_term(annotations, from_file=path is not None)]
        annotations = annotated_rows(annotations, columns[1])
    gene, term = _first_two(annotations[columns], "annotations", "gene and term")
    gene, term = split_terms(gene, term)
    if not len(gene):
        raise ValueError("There are no annotations in what was given: the table or mapping is empty.")
    gene_code, genes = pd.factorize(gene, sort=True)
    term_code, terms = pd.factorize(term, sort=True)
    membership = _boolean(gene_code, term_code, (len(genes), len(terms)))
    if parents is None:
        return AnnotationTable(list(genes), list(terms), membership)
    all_terms, membership = _propagate(membership, list(terms), parents)
    return AnnotationTable(list(genes), all_terms, membership)


def named_columns(table: pd.DataFrame) -> tuple[list[Any], list[Any]]:
    """Return the columns that hold genes, and those that hold terms, by their names, the most telling first."""
    found: tuple[list[Any], list[Any]] = ([], [])
    for column in table.columns:
        spelled = {plain(column), words_of(column)}
        words = set(words_of(column).split("_"))
        if spelled & {*GENES, *TERMS}:
            found[not spelled & set(GENES)].append(column)
        elif not words & _ABOUT and words & (_OF_GENES | _OF_TERMS | _LIKE_GENES):
            found[not words & _OF_GENES and bool(words & _OF_TERMS)].append(column)
    for columns, names in zip(found, (GENES, TERMS), strict=True):
        rank = {name: i for i, name in enumerate(names)}
        columns.sort(key=lambda c: min(rank.get(plain(c), len(rank)), rank.get(words_of(c), len(rank))))
    return found


def gene_and_term(
    table: pd.DataFrame, gene: Any = None, term: Any = None, *, from_file: bool = False
) -> tuple[Any, Any]:
    """Return the columns of genes and of terms, by their names or else by what they hold; ValueError if neither tells them.

    Two columns of which nothing is known are gene and term in this order, unless a file has no header.
    """
    if table.shape[1] > 14 and _holds(table.iloc[:, 4], is_term) and set(table.iloc[:, 8].astype(str)) <= set("PFC"):
        raise ValueError(
            "These are the columns of a file of annotations (GAF) without its first lines.\nExpected a table of genes and terms.\n"
            "Read the file with `scapp.resources.from_gaf`."
        )
    check_single(table, dict.fromkeys(table.columns))
    genes, terms = named_columns(table)
    texts = [c for c in table.columns if table[c].dtype.kind not in "fb"]
    ids = [c for c in texts if _holds(table[c], is_term)]
    kinds = {c: kind_of(re.split("[;|,/] ?", "|".join(table[c].head(N_LOOKED_AT).astype(str)))) for c in texts}
    if gene is None:
        named = [c for c in genes if c != term and c in texts]
        # Symbols before ids: BioMart and the Human Protein Atlas have both.
        named.sort(key=lambda c: kinds[c] in OF_GENES or not kinds[c])
        held = [c for c in texts if kinds[c] and c not in (term, *terms, *ids)]
        held = [c for c in held if not _holds(table[c], _EVIDENCE.__contains__)]
        if (
            len(held) > 1 and len(ids) == 1 and isinstance(held[0], int | np.integer)
        ):  # no header: the one beside the term
            held = [c for c in held if c < ids[0]][-1:] or held[:1]
        held = [c for c in held if kinds[c] not in OF_GENES] or held
        gene = named[0] if named else held[0] if len(held) == 1 and (len(texts) > 2 or terms) else None
    if term is None:
        named = [c for c in terms if c != gene and c in texts]
        usual = [c for c in named if {plain(c), words_of(c)} & set(TERMS)]
        # One column that may hold anything is that of terms, unless there are numbers that belong to the genes.
        text = [c for c in texts if c not in (gene, *genes) and kinds[c] not in OF_GENES and kinds[c] != "Entrez ids"]
        text = [c for c in text if len(texts) == table.shape[1] and not _ABOUT & {*words_of(c).split("_")}]
        of_terms = usual or [c for c in named if c in ids] or named or [c for c in ids if c != gene] or text
        term = of_terms[0] if usual or len(of_terms) == 1 else None
    if table.shape[1] == 2 and (gene is None or term is None):
        if gene is None and term is None and from_file:
            _check_first_row(table, kinds)
        first, second = table.columns
        swapped = (
            gene == second
            or term == first
            or (None is gene is term and bool(kinds.get(second)) and not kinds.get(first))
        )
        gene, term = (second, first) if swapped else (first, second)
    if gene is None or term is None:
        raise ValueError(
            f"Which columns hold genes and terms cannot be told; there are {shorten(map(repr, table.columns), 12)}.\nExpected usual names, such as "
            "'gene' and 'term', or ids of terms.\nName them with `scapp.resources.from_table(table, gene=…, term=…)`, and pass what it "
            "returns."
        )
    return gene, term


def _holds(column: pd.Series, is_one: Callable[[str], bool]) -> bool:
    """Return whether most fields of a column that hold something are of a kind."""
    text = text_of(column.head(N_LOOKED_AT))
    text = text[text != ""]
    return bool(len(text)) and text.map(is_one).mean() > _MOST


def _check_first_row(table: pd.DataFrame, kinds: Mapping[Any, str]) -> None:
    """Raise if the first row of a file was taken for its header, as its names are genes like those below."""
    for column in table.columns:
        if isinstance(column, str) and kinds.get(column) and kind_of([column]) == kinds[column]:
            raise ValueError(
                f"Is the first line of the file, {', '.join(map(repr, table.columns))}, a header, or genes and terms as below?\nExpected a header "
                "such as 'gene' and 'term'.\nAdd one, or pass `pd.read_csv(path, sep=…, header=None, names=['gene', 'term'])`."
            )


def annotated_rows(table: pd.DataFrame, term: Any) -> pd.DataFrame:
    """Leave out genes without a term, as BioMart lists them, and terms that a gene does not have (NOT, as in NCBI's gene2go)."""
    qualifier = find_column(table, ["qualifier"])
    negated = (
        text_of(table[qualifier]).str.contains(r"\bNOT\b") if qualifier is not None else pd.Series(False, table.index)
    )
    empty = text_of(table[term]) == ""
    if (negated | empty).any():
        counts = len(table), negated.sum(), empty.sum()
        logger.info("Of %d annotations, %d say NOT and %d name no term; these were left out.", *counts)
    return table[~negated & ~empty]


def split_terms(gene: pd.Series, term: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Split several terms (``"GO:0000001;GO:0000002"``) or genes in one field into one per row."""
    if join := joined_names(gene, most=0):
        gene, term = _split("Genes", join, gene, term)
    for join in (";", "|", ","):
        joined = term[term.astype(str).str.contains(join, regex=False)].head(1000)
        parts = [part.strip() for value in joined for part in value.split(join) if part.strip()]
        # Parts are ids, or have them in brackets, or are joined by semicolons without spaces, unlike names of terms.
        bare = join == ";" and not any(" " in value for value in joined)
        if len(joined) and (bare or all(_ID.fullmatch(part) for part in parts)):
            term, gene = _split("Terms", join, term, gene)
            break
    return gene, term


def _split(what: str, join: str, names: pd.Series, others: pd.Series) -> tuple[pd.Series, pd.Series]:
    """Split fields with several names into one name per row, together with the other column."""
    pairs = pd.DataFrame({"name": names.str.split(join), "other": others}).explode("name", ignore_index=True)
    pairs["name"] = pairs["name"].str.strip()
    pairs = pairs[pairs["name"] != ""]
    logger.info("%s joined by %r were split: %d rows became %d.", what, join, len(names), len(pairs))
    return pairs["name"].rename(names.name), pairs["other"].rename(others.name)


def joined_names(column: pd.Series, most: float = _MOST) -> str:
    """Return the separator of names in most fields of a column, or in some; empty if most hold one name, or numbers."""
    text = column.head(N_LOOKED_AT).astype(str)
    for join in (";", "|", ",", "/"):
        joined = text.str.contains(join, regex=False)
        if len(text) and joined.mean() > most:
            parts = [part.strip() for value in text[joined] for part in value.split(join) if part.strip()]
            if parts and all(_NAME.fullmatch(part) for part in parts) and any(not part.isdecimal() for part in parts):
                return join
    return ""


def read_gmt(path: PathLike) -> dict[str, list[str]]:
    """Read gene sets, one per line: name, description, genes, separated by tabs; ValueError if a set occurs twice.

    The weights after genes in Enrichr's libraries (``"KLF1,1.0"``) are removed.
    """
    sets: dict[str, list[str]] = {}
    for name, _, genes in gene_sets(existing_file(path)):
        if name in sets:
            raise ValueError(f"The gene set {name!r} occurs twice in {str(path)!r}.")
        sets[name] = genes
    return sets


def gene_sets(path: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Name, description and genes of each set of a GMT file, which may be gzipped or alone in a zip file."""
    descriptions: set[str] = set()
    members: set[str] = set()
    with whole(path), open_text(path) as file:
        for number, line in enumerate(file, start=1):
            fields = [field.strip() for field in line.rstrip("\n").split("\t")]
            if fields == [""]:
                continue
            if len(fields) < 2 or not fields[0]:
                raise ValueError(
                    f"Line {number} of {str(path)!r} is not a gene set: name, description and genes, separated by tabs."
                )
            genes = list(dict.fromkeys(gene for field in fields[2:] if (gene := field.split(",")[0].strip())))
            descriptions.add(fields[1])
            members.update(genes)
            yield fields[0], fields[1], genes
    taken = descriptions & members
    if len(taken) > _MOST * len(descriptions):
        warn_user(
            f"The second field of a set in {str(path)!r} is taken as its description, but {len(taken)} of {len(descriptions)} are genes of "
            f"other sets, such as {min(taken)!r}. If the file has no descriptions, put an empty field behind each name."
        )


def _first_two(table: pd.DataFrame, argument: str, what: str) -> tuple[pd.Series, pd.Series]:
    if table.shape[1] < 2:
        raise ValueError(
            f"The first two columns of {argument} must be {what}, found the columns {', '.join(map(repr, table.columns))}."
        )
    for i in (0, 1):
        if pd.api.types.is_float_dtype(table.dtypes.iloc[i]):
            raise ValueError(
                f"The first two columns of {argument} must be {what}, but column {table.columns[i]!r} holds numbers. "
                "Reorder the columns, as in `table[['gene', 'term']]`."
            )
    first, second = what.split(" and ")
    return names_of(table.iloc[:, 0], first), names_of(table.iloc[:, 1], second)


def _boolean(rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> sparse.csr_matrix:
    matrix = sparse.csr_matrix((np.ones(len(rows), dtype=np.int32), (rows, columns)), shape=shape)
    matrix.sum_duplicates()
    return matrix.astype(bool)


def _propagate(
    membership: sparse.csr_matrix, terms: list[str], parents: pd.DataFrame | PathLike
) -> tuple[list[str], sparse.csr_matrix]:
    table = read_table(parents) if is_path(parents) else parents
    if not isinstance(table, pd.DataFrame):
        raise TypeError(f"parents must be a DataFrame (child, parent, …) or a path, found {type(table).__name__}.")
    relation = find_column(table, ["relationship_type", "relationship"])
    if relation is not None:
        inherited = table[relation].map(plain).isin(_INHERITED)
        logger.info(
            "Following %d of %d relations of terms, those of kind 'is a' and 'part of'.", inherited.sum(), len(table)
        )
        table = table[inherited]
    child, parent = _first_two(table, "parents", "child term and parent term")
    if not child.isin(set(terms)).any():
        raise ValueError(
            f"No annotated term has a parent: the terms are named like {terms[0]!r}, and the first column of parents "
            f"holds names like {child.iloc[0]!r}."
            if len(child)
            else "The table of parents has no rows to follow."
        )
    known = dict.fromkeys([*terms, *child, *parent])
    position = {term: i for i, term in enumerate(known)}
    n_terms = len(position)
    # The identity keeps a gene's terms while it adds those one step up, so that nothing is lost, circles in
    # the ontology do no harm, and the steps end when nothing is added.
    step = _boolean(
        np.r_[np.arange(n_terms), child.map(position).to_numpy()],
        np.r_[np.arange(n_terms), parent.map(position).to_numpy()],
        (n_terms, n_terms),
    )
    reached = sparse.csr_matrix(
        (membership.data, membership.indices, membership.indptr), shape=(membership.shape[0], n_terms)
    )
    n_before = -1
    while reached.nnz > n_before:
        n_before = reached.nnz
        reached = sparse.csr_matrix(reached @ step)
    return list(known), reached
