"""Find the columns of a table that hold the ends, weight and sign of edges, by their names and contents."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scapp._genes import shorten
from scapp._tables import find_column, plain, text_of, to_numbers, words_of

# Column names in lower case. OmniPath's symbols come before its UniProt ids, which are also called source and target.
ENDS = {
    ("source_genesymbol", "target_genesymbol"): "OmniPath",
    ("source", "target"): "decoupler, GEARS",
    ("protein1", "protein2"): "STRING",
    ("preferredname_a", "preferredname_b"): "STRING",
    ("regulator", "target"): "regulatory networks",
    ("tf", "target"): "regulatory networks",
    ("regulatorygene", "targetgene"): "GENIE3",
    ("gene1", "gene2"): "",
    ("gene_1", "gene_2"): "",
    ("gene_a", "gene_b"): "",
    ("official_symbol_interactor_a", "official_symbol_interactor_b"): "BioGRID",
    ("from", "to"): "igraph",
    ("node1", "node2"): "STRING",
    ("entitya", "entityb"): "SIGNOR",
    ("u", "v"): "networkx",
    ("var1", "var2"): "",
    ("row", "column"): "",
    ("row", "col"): "",
}
# Names of the two ends, if the rest of both names is the same ("parent_symbol" and "child_symbol"). Those with ">" mean that the
# edge has a direction.
_ROLES = [
    re.split("([>-])", ends)
    for ends in """regulator>target tf>target transcription_factor>target effector>target regulator>gene tf>gene
    transcription_factor>gene source-target parent>child upstream>downstream ligand>receptor kinase>substrate from-to head-tail
    cause>effect src-dest 1-2 a-b i-j x-y""".split()
]
# Parts of a name that give the kind of a column.
_KINDS = ["", *"gene symbol gene_symbol genesymbol name gene_name genename node protein id gene_id".split()]
_SYMMETRIC = (
    "gene protein node symbol name interactor entity entry participant partner id uniprot ensembl entrez".split()
)
WEIGHTS = "weight combined_score score mor importance".split()
# Names of weights, if the columns hold numbers.
_NUMBERS = """importance_tf2g tf2g_importance importance_x_rho rho_tf2g tf2g_rho force beta similarity correlation coefficient coef edge_weight strength stringdb::score rho cor pcc partial_correlation
    mutual_information mi distance_correlation probability confidence_score confidence confidence_value lls coef_mean estimate moa
    posterior posterior_probability edge_score interaction_score w value genie3weight corr
    pearson spearman r""".split()
SIGNS = """mode_of_regulation mor sign action interaction effect polarity regulation regulation_tf2g tf2g_regulation regulation_type
    regulatory_effect mode_of_action interaction_type mode direction_of_effect influence consensus_sign direction type edge_type
    relation relationship function subtype arrow regulon""".split()
# Those that hold nothing else, so that values that are not understood are refused.
_CERTAIN = "mode_of_regulation sign polarity regulatory_effect direction_of_effect consensus_sign".split()
# Correlations, whose sign is that of a regulation, but says no direction.
_CORRELATIONS = "rho_tf2g tf2g_rho importance_x_rho rho correlation cor corr pcc pearson spearman r".split()
# Columns that only tables of regulation have, which is directed.
_REGULATIONS = "sign_decision tf_category tf_tier moa mode_of_action mode_of_regulation dorothea_level collectri_level coef_mean".split()
_STIMULATIONS = ["is_stimulation", "consensus_stimulation", "stimulation"]
_INHIBITIONS = ["is_inhibition", "consensus_inhibition", "inhibition"]
_DIRECTED = ["is_directed", "consensus_direction", "directed", "direction"]
_POSITIVE = re.compile(
    r"\+1?(?:\.0+)?|1(?:\.0+)?|(?:co-?)?activat\w*|expression|stimulat\w*|up.?regulat.*|up|positive.*|pos|induc\w*|increas\w*|enhanc\w*|promot\w*|"
    r"-+>|→|↑|agonist|activating|act|arrow|.+\(\+\)"
)
_NEGATIVE = re.compile(
    r"[-−]1?(?:\.0+)?|(?:co-?)?repress\w*|inhibit\w*|down.?regulat.*|down|negative.*|neg|suppress\w*|decreas\w*|silenc\w*|block\w*|"
    r"-+\|+|-+\[|⊣|↓|antagonist|inh|rep|t-?bar|.+\(-\)"
)
_UNKNOWN = re.compile(
    r"|\?|0(?:\.0+)?|\+\s*/?\s*-|-\s*/?\s*\+|±|unknown|unk|both|dual|ambiguous|unclear|undefined|unspecified|na|nan|none|n/a|not.?known|"
    r"form.?complex|complex|binding|bind|mixed|dubious|conflict\w*|(?:de)?phosphorylation|dissociation|ubiquitination|methylation|"
    r"glycosylation|binding/association|association|indirect.effect|state.change|compound|missing.interaction"
)
# Codes of one letter, which are signs if a column holds nothing else.
_LETTERS = ({"a": 1.0, "r": -1.0, "i": -1.0, "u": 0.0}, {"p": 1.0, "n": -1.0}, {"u": 1.0, "d": -1.0})
# Marks at the left and right end of an arrow, and words of Pathway Commons for relations with a direction and without.
_ARROW = re.compile(r"([<|]?)[-=.]+([>|]?)")
_ONE_WAY = re.compile(r"controls-.*|.*-precedes|used-to-produce")
_NO_WAY = re.compile(r"in-complex-with|interacts-with|neighbor-of|reacts-with")
# Shares of the values of a column that must be signs.
_MOST = 0.5
_CYTOSCAPE = re.compile(r"(?P<source>.+?) \((?P<kind>[^()]*)\) (?P<target>.+)")


def edge_ends(table: pd.DataFrame) -> tuple[str, str] | None:
    """Return the columns of the two ends of an edge, by their usual names; None if there are none."""
    for first, second in ENDS:
        source, target = find_column(table, [first]), find_column(table, [second])
        if source is not None and target is not None:
            return source, target
    return _by_roles(table)


def _rest(name: str, role: str) -> str | None:
    """Return a name without its role; None if it has none."""
    if name == role:
        return ""
    if name.startswith(f"{role}_"):
        return name.removeprefix(f"{role}_")
    if name.endswith(f"_{role}"):
        return name.removesuffix(f"_{role}")
    if role.isdigit() and name.endswith(role):
        return name.removesuffix(role)
    return None


def _by_roles(table: pd.DataFrame) -> tuple[str, str] | None:
    def holds_numbers(column: object) -> bool:
        values = table[column]
        return isinstance(values, pd.Series) and pd.api.types.is_float_dtype(values.dtype)

    columns = {
        name: column
        for spelled in (words_of, plain)  # "SymbolA" is "symbol_a" if no column has this name
        for column in reversed(list(table.columns))
        if (name := spelled(column)) and not holds_numbers(column)
    }
    for first, arrow, second in _ROLES:
        symmetric = len(first) == 1
        sources = {rest: column for name, column in columns.items() if (rest := _rest(name, first)) is not None}
        targets = {rest: column for name, column in columns.items() if (rest := _rest(name, second)) is not None}
        for rest in sorted(set(sources) & set(targets), key=lambda rest: ("symbol" not in rest, len(rest))):
            if sources[rest] == targets[rest] or (symmetric and not any(word in rest for word in _SYMMETRIC)):
                continue
            return sources[rest], targets[rest]
        if symmetric:
            continue
        for one, other in product(_KINDS, _KINDS):  # "regulator" with "gene_name"
            if (
                one in sources
                and other in targets
                and sources[one] != targets[other]
                and (arrow == ">" or one or other)
            ):
                return sources[one], targets[other]
    return None


def weight_column(table: pd.DataFrame) -> str | None:
    """Return the column of the weights of edges, by its usual names; None if there is none."""
    column = find_column(table, WEIGHTS)
    if column is not None and isinstance(table[column], pd.Series):  # otherwise it occurs twice, which is refused later
        values = table[column]
        numeric = pd.api.types.is_numeric_dtype(values.dtype)
        if not numeric and (values.astype(str).str.strip() == "-").mean() > _MOST:
            column = None  # BioGRID's scores, which few studies report
        elif plain(column) == "mor" and read_signs(values) is not None and not np.isfinite(to_numbers(values)).all():
            return find_column(table.drop(columns=[column]), WEIGHTS)
    if column is not None:
        return column
    found = (find_column(table, [name]) for name in _NUMBERS)
    column = next((name for name in found if name is not None and np.isfinite(to_numbers(table[name])).all()), None)
    if column is not None:
        return column
    # "effect" may hold numbers of both signs that are not 1 and -1.
    signed = (column for column in table.columns if plain(column) in SIGNS and isinstance(table[column], pd.Series))
    numbers = ((column, to_numbers(table[column])) for column in signed if read_signs(table[column]) is None)
    return next((column for column, values in numbers if np.isfinite(values).all() and (values < 0).any()), None)


def read_signs(column: pd.Series) -> NDArray[np.float64] | None:
    """Return 1, -1 or 0 for each value of a column, or None if most of them are no signs."""
    text = text_of(column).str.lower().str.strip("'\"")
    patterns = ((_UNKNOWN, 0.0), (_POSITIVE, 1.0), (_NEGATIVE, -1.0))

    def sign_of(value: str) -> float:
        value = re.sub(r"^mim-|^process\((.*)\)$", r"\1", value)  # WikiPathways, graphite
        whole = next((sign for pattern, sign in patterns if pattern.fullmatch(value)), np.nan)
        if np.isfinite(whole) or not re.search("[;,|]", value):
            return whole
        parts = {sign_of(part.strip()) for part in re.split("[;,|]", value)}  # "activation;phosphorylation"
        return np.nan if np.isnan([*parts]).any() else next(iter(parts - {0.0})) if len(parts - {0.0}) == 1 else 0.0

    known = {value: sign_of(value) for value in text.unique()}
    codes = {value for value in known if not _UNKNOWN.fullmatch(value)}
    if len(codes) > 1:
        known.update(next((letters for letters in _LETTERS if codes <= set(letters)), {}))
    signs = text.map(known).to_numpy(dtype=np.float64)
    told = np.isfinite(signs)
    if not len(signs) or told.mean() <= _MOST or not (np.abs(signs[told]) == 1).any():
        return None
    if set(known) <= {"1", "1.0", "", "0", "0.0"} and "1" in {value[:1] for value in known}:
        return None  # flags: all one, or one and zero
    return np.nan_to_num(signs)


def find_signs(table: pd.DataFrame, used: Sequence[object]) -> tuple[NDArray[np.float64], str] | None:
    """Return the signs in a table of edges (0 if unknown) and their column; None if it has none.

    The columns of the ends and of the weight, `used`, are no signs; a weight ``mor`` of both signs holds its own.
    """
    left_out = set(used)
    stimulation, inhibition = find_column(table, _STIMULATIONS), find_column(table, _INHIBITIONS)
    if stimulation is not None and inhibition is not None:
        up, down = (_flags(table[column]) for column in (stimulation, inhibition))
        return np.where(up == down, 0.0, np.where(up, 1.0, -1.0)), f"{stimulation}, {inhibition}"
    single = table.columns[~table.columns.duplicated(keep=False)]
    columns = {plain(column): column for column in reversed(list(single)) if column not in left_out}
    for name in SIGNS:
        if name not in columns or (name == "direction" and set(text_of(table[columns[name]])) <= set("+-?")):
            continue  # "-" means no direction, and is not a sign
        if (signs := read_signs(table[columns[name]])) is not None:
            return signs, str(columns[name])
    for name, column in columns.items():  # words of both signs under any other name, such as KEGG's
        text = text_of(table[column].head(1000))
        if name not in SIGNS and text.str.contains(r"[A-Za-z]{3}|-[->|]").mean() > _MOST:
            signs = read_signs(table[column])
            if signs is not None and {1.0, -1.0} <= set(signs):
                return signs, str(column)
    if _is_regulator(used[0]):
        for name in _CORRELATIONS:
            if name in columns and (numbers := to_numbers(table[columns[name]])).notna().all() and (numbers < 0).any():
                return np.sign(numbers.to_numpy()), str(columns[name])
    return None


def check_signs(table: pd.DataFrame, used: Iterable[object]) -> None:
    """Raise if a column is one of signs by its name, and which of its values are positive cannot be told: 1 and 2, for example."""
    for column in [
        column for column in table.columns if plain(column) in SIGNS[: SIGNS.index("type")] and column not in set(used)
    ]:
        values = set(text_of(table[column])) - {""}
        if {"1", "2"} <= values <= set("012") or (plain(column) in _CERTAIN and len(values) > 1):
            raise ValueError(
                f"The column {column!r} seems to hold signs of edges, but which of {shorten(map(repr, sorted(values)), 4)} are positive is not "
                f"known.\nExpected 1 and -1, '+' and '-', or words such as 'activation' and 'repression'.\nReplace them: "
                f"`table[{column!r}] = table[{column!r}].map({{…: 1, …: -1}})`; or leave the column out."
            )


def along_arrows(table: pd.DataFrame, ends: tuple[Any, Any]) -> pd.DataFrame | None:
    """Return edges whose arrows lead from the first end to the second; None if no column holds arrows.

    ``"<-"`` is turned round; ``"|-|"``, and ``"-"`` beside arrows, become two edges.
    """
    mixed = find_column(table, _DIRECTED[:-1])
    if mixed is not None and 0 < _flags(table[mixed]).mean() < 1:  # some edges have a direction, as in OmniPath
        back = table[~_flags(table[mixed])]
        return pd.concat([table, back.assign(**{ends[0]: back[ends[1]], ends[1]: back[ends[0]]})])
    for column in table.columns[~table.columns.duplicated(keep=False)].drop(list(ends), errors="ignore"):
        if not text_of(table[column].head(1000)).str.contains(r"[-=.][>|]|[<|][-=.]|[→⊣←↔]|^controls-").any():
            continue
        text = text_of(table[column]).str.lower().replace({"→": "->", "⊣": "-|", "←": "<-", "↔": "<->"})
        marks = {value: _marks(value) for value in text.unique()}
        if not any(any(ends_of or ()) for ends_of in marks.values()) or text.map(marks).notna().mean() <= _MOST:
            continue
        left, right = (text.map({value: (ends_of or ("", "?"))[k] for value, ends_of in marks.items()}) for k in (0, 1))
        forward, backward = (right != "") | (left == ""), (left != "") | (right == "")
        signs = {">": "->", "<": "->", "|": "-|", "?": "?", "": "?"}
        there = table[forward].assign(**{str(column): right[forward].map(signs)})
        back = table[backward].assign(**{str(column): left[backward].map(signs)})
        back[[ends[0], ends[1]]] = table.loc[backward, [ends[1], ends[0]]].to_numpy()
        return pd.concat([there, back])
    return None


def _marks(value: str) -> tuple[str, str] | None:
    """Return the marks at the two ends of an arrow, or of a relation; None if it is neither."""
    if arrow := _ARROW.fullmatch(value):
        return arrow[1], arrow[2]
    return ("", "?") if _ONE_WAY.fullmatch(value) else ("", "") if _NO_WAY.fullmatch(value) else None


def tells_direction(
    table: pd.DataFrame, ends: tuple[object, object], used: Sequence[object], weights: NDArray[np.float64]
) -> bool:
    """Return whether edges go from the first of their ends to the second.

    The names of the ends say it, or a column of directions of all edges; or one of signs, even if the weights hold them already,
    or of curation, as only regulations have; or negative weights from sources to targets, unless they are correlations.
    """
    directed, level = find_column(table, _DIRECTED), find_column(table, ["confidence"])
    all_directed = directed is not None and len(table) > 0 and bool(_flags(table[directed]).all())
    from_source = plain(ends[0]).startswith("source")
    signed = (
        from_source and bool((weights < 0).any()) and re.search("corr?(el|_|$)|simil|rho|pcc", plain(used[-1])) is None
    )
    by_level = from_source and level is not None and bool(table[level].isin([*"ABCDE"]).all())  # as in DoRothEA
    if _is_regulator(ends[0]) or all_directed or signed or by_level:
        return True
    return find_column(table, _REGULATIONS) is not None or find_signs(table, used) is not None


def _is_regulator(end: object) -> bool:
    """Return whether the name of the first end says that edges lead from it to the second."""
    first = plain(end)
    return first == "regulatorygene" or any(
        arrow == ">" and _rest(first, role) is not None for role, arrow, _ in _ROLES
    )


def _flags(column: pd.Series) -> NDArray[np.bool_]:
    return text_of(column).str.lower().isin(["1", "1.0", "true", "yes", "t", "y", "directed"]).to_numpy()


def split_names_of_edges(table: pd.DataFrame) -> pd.DataFrame | None:
    """Return a table with ends where its edges are named as by Cytoscape, ``"KLF1 (pp) HBB"``; None if they are not."""
    for name in ("name", "shared_name", "edge"):
        column = find_column(table, [name])
        if column is None or not len(table):
            continue
        matches = [_CYTOSCAPE.fullmatch(str(value).strip()) for value in table[column]]
        if all(match is not None for match in matches):
            ends = {end: [match[end] for match in matches if match is not None] for end in ("source", "target")}
            rest = table.drop(columns=[column, *(c for c in ("source", "target") if c in table)])
            return rest.assign(**ends)
    return None


def matrix_as_edges(table: pd.DataFrame) -> pd.DataFrame | None:
    """Return edges from a table of numbers, targets by regulators or genes by genes; None if it is no such table.

    The rows of a square table are sources, as those of an array. Otherwise the regulators are on the side with fewer names, and
    the table must hold 0, 1 and -1 alone, lest effects or features be taken for edges.
    ``attrs`` says whether the edges have a direction.
    """
    if isinstance(table.index, pd.RangeIndex):
        first = table.columns[0] if table.shape[1] else None
        if first is None or table.columns.has_duplicates or pd.api.types.is_numeric_dtype(table[first].dtype):
            return None
        table = table.set_index(first)
    if not table.shape[1] or table.columns.has_duplicates or table.index.has_duplicates or len(table) < 2:
        return None
    if edge_ends(table.reset_index()) is not None or find_column(table, [*WEIGHTS, *_NUMBERS, *SIGNS]) is not None:
        return None
    numbers = np.column_stack([to_numbers(table[column]).to_numpy() for column in table.columns])
    if not np.isfinite(numbers).all():
        return None
    rows, columns = [str(name).strip() for name in table.index], [str(name).strip() for name in table.columns]
    square = set(rows) == set(columns)
    if not square and not set(np.unique(numbers)) <= {-1.0, 0.0, 1.0}:
        return None
    regulators_in_columns = not square and len(columns) <= len(rows)
    i, j = np.nonzero(numbers)
    one, other = np.array(rows, dtype=object)[i], np.array(columns, dtype=object)[j]
    source, target = (other, one) if regulators_in_columns else (one, other)
    edges = pd.DataFrame({"source": source, "target": target, "weight": numbers[i, j]})
    ordered = numbers[:, [columns.index(name) for name in rows]] if square else numbers
    edges.attrs["directed"] = not square or not np.array_equal(ordered, ordered.T)
    return edges
