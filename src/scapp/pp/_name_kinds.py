"""Of what kind names of genes are, and why those of two sources do not agree."""

from __future__ import annotations

import re
from collections.abc import Sequence

# The first that fits most of the names. Human symbols and those of mouse and rat differ by case alone.
_KINDS = {
    "STRING's protein ids": re.compile(r"^\d+\.\w+"),
    "Ensembl protein ids": re.compile(r"^ENS[A-Z]{0,4}P\d{11}"),
    "Ensembl transcript ids": re.compile(r"^ENS[A-Z]{0,4}T\d{11}"),
    "Ensembl ids": re.compile(r"^ENS[A-Z]{0,4}G\d{6,}"),
    "Entrez ids": re.compile(r"^\d+$"),
    "UniProt accessions": re.compile(r"^([OPQ]\d[A-Z\d]{3}\d|[A-NR-Z]\d([A-Z][A-Z\d]{2}\d){1,2})$"),
    "symbols as of mouse or rat": re.compile(r"^[A-Z][a-z\d.-]*[a-z][a-z\d.-]*$"),
    "symbols as of human": re.compile(r"^[A-Z\d][A-Z\d.-]*(orf\d+)?[A-Z\d.-]*$"),
}
_MOUSE, _HUMAN = "symbols as of mouse or rat", "symbols as of human"
_SPECIES = re.compile(r"^ENS([A-Z]{0,4})[GTP]\d")


def kind_of(names: Sequence[str]) -> str:
    """Return the kind that most of the names are of; empty if none is."""
    for kind, pattern in _KINDS.items():
        if sum(bool(pattern.match(name)) for name in names) > len(names) / 2:
            return kind
    return ""


def likely_reason(var_names: Sequence[str], names: Sequence[str], what: str, var_columns: Sequence[str]) -> str:
    """Explain why hardly any gene of adata is among those of a source, and name the call that mends it.

    Parameters
    ----------
    var_names
        The genes of adata.
    names, what
        The genes of the source; what it is, for example ``"network"``.
    var_columns
        Columns of ``adata.var``, of which one may hold symbols.
    """
    ours, theirs = kind_of(var_names), kind_of(names)
    if {ours, theirs} == {_MOUSE, _HUMAN}:
        return (
            f"One is of another species, it seems: adata has {ours}, the {what} {theirs}. Take the {what} of the species of adata (the "
            f"functions of scapp.resources have organism={'mouse' if ours == _MOUSE else 'human'!r}), or map one side to "
            "its orthologues first."
        )
    if ours == theirs == "Ensembl ids" and _species(var_names) != _species(names):
        return f"These are Ensembl ids of two species. Take the {what} of the species of adata."
    if ours != theirs and ours and theirs:
        return f"adata has {ours}, the {what} has {theirs}. {_mend(ours, theirs, what, var_columns)}"
    upper = {name.upper() for name in var_names}
    if len({name.upper() for name in names} & upper) >= 0.01 * min(len(upper), len(names)):
        return (
            "They would agree but for upper and lower case. If they are of one species, "
            "`scapp.pp.harmonize_genes(adata, aliases=…)` corrects the case; if not, map one side to its orthologues first."
        )
    return (
        "Are they of the same species and the same kind (symbols, Ensembl, Entrez or UniProt ids)? Bring both to symbols "
        f"with `scapp.pp.harmonize_genes(adata, aliases=…)` and `scapp.pp.harmonize_genes({what}, aliases=…)`, or map one "
        "side to the other with aliases={name: symbol, …}."
    )


def _mend(ours: str, theirs: str, what: str, var_columns: Sequence[str]) -> str:
    symbols = (_MOUSE, _HUMAN)
    side, kind = ("adata", ours) if ours not in symbols else (what, theirs)
    column = next((name for name in var_columns if "symbol" in name.lower() or "name" in name.lower()), None)
    if side == "adata" and column is not None:
        return f"Symbols may be in adata.var[{column!r}]: `adata.var_names = adata.var[{column!r}].astype(str)`."
    if kind == "Ensembl ids":
        return f"Bring them to symbols with `scapp.pp.harmonize_genes({side}, ensembl=table)`, a table of ensembl_id and symbol."
    if kind == "Entrez ids":
        return f"Bring them to symbols with `scapp.pp.harmonize_genes({side}, aliases=table)`, a table of entrez and symbol."
    if "protein ids" in kind:
        return (
            "scapp.resources.string reads STRING's files and names proteins by the symbol of their gene; or pass STRING's table of "
            "names with it: aliases='….protein.info….txt.gz'."
        )
    return f"Bring them to symbols with `scapp.pp.harmonize_genes({side}, aliases={{name: symbol, …}})`."


def _species(names: Sequence[str]) -> str:
    """Return the letters for the species in most Ensembl ids: empty for human, ``"MUS"`` for mouse."""
    found = [match[1] for name in names if (match := _SPECIES.match(name))]
    return max(set(found), key=found.count) if found else ""
