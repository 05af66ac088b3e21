"""How guides became perturbations: the report."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd

from scapp._genes import shorten


@dataclass(frozen=True, repr=False)
class GuidesReport:
    """How many cells got which label, and why others got none.

    Parameters
    ----------
    key
        Where the labels are: ``adata.obs[key]``.
    method
        ``"mixture"``, ``"threshold"``, ``"maximum"``, or ``"calls"`` where calls were given.
    n_cells
        All cells; they are the sum of the next five.
    n_perturbed, n_control
        Cells with a label of genes, and control cells.
    n_none, n_many, n_rare
        Cells set apart because they have no guide, too many (or one that is not dominant), or a perturbation of too few
        cells.
    n_combined
        Of the perturbed cells, those with more than one gene.
    n_not_counted
        Cells of the expression that the guide counts do not hold; they are among those without a guide.
    perturbations
        Number of different perturbations.
    not_fitted
        Guides whose counts do not show two components, so that `min_counts` decided alone.
    unused
        Guides that no cell has.
    guides
        One row per guide: its name, ``target`` (empty for a control), ``n_cells`` that have it, and ``threshold``, the
        fewest counts at which it is assigned (NaN for calls).
    """

    key: str
    method: str
    n_cells: int
    n_perturbed: int
    n_control: int
    n_none: int
    n_many: int
    n_rare: int
    n_combined: int
    n_not_counted: int
    perturbations: int
    not_fitted: tuple[str, ...]
    unused: tuple[str, ...]
    guides: pd.DataFrame = field(compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that an h5ad file can hold."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {
            name: np.array(value, dtype=object) if isinstance(value, tuple) else value for name, value in values.items()
        }

    def to_frame(self) -> pd.DataFrame:
        """Return a table with one row per number or list of names, in the column ``value``."""
        values = {
            field.name: shorten(value, len(value)) if isinstance(value := getattr(self, field.name), tuple) else value
            for field in fields(self)
            if field.name != "guides"
        }
        return pd.DataFrame({"value": pd.Series(values, dtype=object)})

    def __repr__(self) -> str:
        def part(n: int) -> str:
            return f"{n:,} ({n / max(self.n_cells, 1):.1%})"

        lines = [
            f"Guides into obs[{self.key!r}] ({self.method}): {self.n_cells:,} cells, {self.perturbations:,} perturbations",
            f"  perturbed: {part(self.n_perturbed)}, {self.n_combined:,} of them in several genes; "
            f"control: {part(self.n_control)}",
            f"  set apart: without a guide {part(self.n_none)}, with too many {part(self.n_many)}"
            + (f", of rare perturbations {part(self.n_rare)}" if self.n_rare else ""),
        ]
        controls = self.guides[self.guides["target"] == ""]
        if len(controls):
            named = [f"{guide} ({n:,})" for guide, n in controls["n_cells"].items()]
            lines.append(f"  control guides, with their cells: {len(named)} ({shorten(named, 10)})")
        if self.n_not_counted:
            lines.append(f"  cells that the guide counts do not hold: {self.n_not_counted:,}")
        for what, names in (
            ("guides without two components, assigned by min_counts alone", self.not_fitted),
            ("guides in no cell", self.unused),
        ):
            if names:
                lines.append(f"  {what}: {len(names)} ({shorten(names, 10)})")
        return "\n".join(lines)
