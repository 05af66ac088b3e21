"""The Gene Ontology's own format, as far as annotations need it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from scapp._tables import open_text, whole

Stanza = dict[str, list[str]]


@dataclass
class Ontology:
    """Terms of an ontology.

    Parameters
    ----------
    version
        As the file says it.
    names, namespaces
        Of each term that is not obsolete.
    current
        The term that stands for one of another number (``alt_id``).
    parents
        Columns child, parent and relationship, such as ``"is_a"`` and ``"part_of"``.
    """

    version: str = ""
    names: dict[str, str] = field(default_factory=dict)
    namespaces: dict[str, str] = field(default_factory=dict)
    current: dict[str, str] = field(default_factory=dict)
    parents: pd.DataFrame = field(default_factory=pd.DataFrame)


def read_obo(path: Path) -> Ontology:
    """Read an OBO file, gzipped or not.

    Raises
    ------
    ValueError
        If it has no term, or cannot be read to its end.
    """
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
        raise ValueError(f"{str(path)!r} holds no term of an ontology. Expected is a file such as go-basic.obo.")
    ontology.parents = pd.DataFrame(edges, columns=["child", "parent", "relationship"], dtype=object)
    return ontology


def _stanzas(path: Path) -> Iterator[tuple[str, Stanza]]:
    """Return the kind of each stanza and its values by tag; the comment behind a value is left out."""
    kind, stanza = "header", Stanza()
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
