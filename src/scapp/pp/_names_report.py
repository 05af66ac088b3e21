"""What became of the names of genes when they were brought to one kind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

from scapp._genes import shorten

COLUMNS = ["name", "new_name", "rule", "candidates", "perturbed", "collided"]
FLAGS = ("perturbed", "collided")
RENAMED = ("given", "previous", "alias", "ensembl", "entrez", "prefix", "version", "case", "excel", "symbol")
_SAID = {
    "given": "as you said",
    "previous": "previous symbol",
    "alias": "alias",
    "ensembl": "Ensembl id",
    "entrez": "Entrez id",
    "prefix": "prefix of the genome",
    "version": "version of the id",
    "case": "upper and lower case",
    "excel": "date or number that a spreadsheet made of the name",
    "symbol": "symbol to id",
}


@dataclass(frozen=True, repr=False)
class GeneNamesReport:
    """What :func:`scapp.pp.harmonize_genes` found and did.

    Parameters
    ----------
    target
        ``"symbol"`` or ``"ensembl"``.
    names
        One row per name that was given, with the columns ``name``; ``new_name`` (the same, where it was not renamed);
        ``rule``: ``"official"`` (it was right), how it was found (``"given"``, ``"previous"``, ``"alias"``,
        ``"ensembl"``, ``"entrez"``, ``"prefix"``, ``"version"``, ``"case"``, ``"excel"``, ``"symbol"``), or why it was left as it is
        (``"ambiguous"``, ``"collision"``, ``"unknown"``); ``candidates``: what an ambiguous name could mean, joined by
        ``", "``, or the name for which names collide; ``perturbed``: whether it is a perturbed gene; ``collided``: whether
        another name means the same gene.
    """

    target: str
    names: pd.DataFrame

    @property
    def renamed(self) -> pd.DataFrame:
        """The names that were changed."""
        return self.names[self.names["name"] != self.names["new_name"]]

    @property
    def ambiguous(self) -> pd.DataFrame:
        """Names that could mean several genes, left as they are; ``candidates`` says which."""
        return self._of("ambiguous")

    @property
    def collided(self) -> pd.DataFrame:
        """Names of a gene that has several among the names; ``candidates`` says which gene."""
        return self.names[self.names["collided"]]

    @property
    def unknown(self) -> pd.DataFrame:
        """Names that no table knows, left as they are."""
        return self._of("unknown")

    def _of(self, rule: str) -> pd.DataFrame:
        return self.names[self.names["rule"] == rule]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that an h5ad file can hold; names that were right are only counted."""
        told = self.names[self.names["rule"] != "official"]
        values: dict[str, Any] = {
            column: told[column].to_numpy(dtype=bool if column in FLAGS else object) for column in told
        }
        return values | {"target": self.target, "n_names": len(self.names)}

    def to_frame(self) -> pd.DataFrame:
        """Return one row per name; see `names`."""
        return self.names.copy()

    def __repr__(self) -> str:
        lines = [
            f"Gene names to {'symbols' if self.target == 'symbol' else 'Ensembl ids'}: {len(self.renamed):,} of {len(self.names):,} renamed, "
            f"{len(self._of('official')):,} were right, {len(self.unknown):,} are unknown"
        ]
        renamed = self.renamed
        for rule in RENAMED:
            rows = renamed[renamed["rule"] == rule]
            if len(rows):
                pairs = [f"{a} -> {b}" for a, b in zip(rows["name"], rows["new_name"], strict=True)]
                lines.append(f"  by {_SAID[rule]}: {len(rows):,} ({shorten(pairs)})")
        for what, rows, link in (
            ("ambiguous, left as they are", self.ambiguous, "could be"),
            ("several names for one gene", self.collided, "for"),
        ):
            if len(rows):
                told = [f"{a} {link} {b}" for a, b in zip(rows["name"], rows["candidates"], strict=True)]
                lines.append(f"  {what}: {len(rows):,} ({shorten(told)})")
        lost = self.unknown[self.unknown["perturbed"]]["name"]
        if len(lost):
            lines.append(f"  perturbed genes that are unknown: {len(lost):,} ({shorten(lost, 10)})")
        return "\n".join(lines)
