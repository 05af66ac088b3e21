"""The screen of a report: its input, its effects, and the model trained on them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anndata as ad
import pandas as pd

from scapp._effects import control_label, label_column
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, parse_labels

if TYPE_CHECKING:
    from scapp.model import APP

MIN_TRAINING = 4  # of APP


class Missing(Exception):
    """Raise when a section needs something that the data lack."""


@dataclass
class Screen:
    """Hold the data that sections share: the screen as it was read, and the results from it."""

    adata: ad.AnnData
    name: str
    network: pd.DataFrame | Path | str | None
    options: dict
    kind: str | None
    n_splits: int
    seed: int
    effects: ad.AnnData | None = None
    model: APP | None = None
    lacks: list[str] = field(default_factory=list)

    @property
    def key(self) -> str:
        """Return the column with the labels."""
        return label_column(self.adata, self.options["perturbation_key"])

    @property
    def control(self) -> str | Sequence[str] | None:
        """Return the label of the controls; None for effects."""
        return control_label(self.adata, self.options["control"], self.key)

    @property
    def sep(self) -> str:
        """Return the separator of the genes in the effects, which is the default if they come from cells."""
        return self.options["sep"] if self.control is None else SEPARATOR

    @property
    def parsed(self) -> list[Perturbation]:
        """Return the perturbations of the effects."""
        assert self.effects is not None
        return parse_labels(self.effects.obs[self.key].astype(str), control=None, sep=self.sep)

    @property
    def singles(self) -> list[str]:
        """Return the genes that were measured alone."""
        return sorted(genes[0] for genes in self.parsed if len(genes) == 1)

    @property
    def has_combinations(self) -> bool:
        """Return whether a combination was measured."""
        return any(len(genes) > 1 for genes in self.parsed)

    def unmeasured_pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of genes that were measured alone but not together."""
        known = set(self.parsed)
        return [pair for pair in itertools.combinations(self.singles, 2) if pair not in known]


def trained(screen: Screen) -> APP:
    """Return a model trained on all effects; raise if something is missing for it."""
    if screen.model is not None:
        return screen.model
    if lacking := needs(screen):
        raise Missing("This needs a model, and a model needs " + " and ".join(lacking) + ".")
    assert screen.effects is not None
    if Key.varp.NETWORK not in screen.effects.varp:
        raise Missing(
            "This needs a model, and a model needs a network that fits these genes: see the coverage of the network."
        )
    from scapp.model import APP

    APP.setup_anndata(screen.effects, perturbation_key=screen.key, control=None, layer=Key.layers.LFC, sep=screen.sep)
    model = APP(screen.effects)
    model.train(enable_progress_bar=False, accelerator="cpu")
    screen.model = model
    return model


def needs(screen: Screen) -> list[str]:
    """Return the inputs of a model that the screen lacks."""
    lacks = {
        "effects": screen.effects is None,
        "a network": screen.network is None,
        f"{MIN_TRAINING} perturbations": screen.effects is not None and screen.effects.n_obs < MIN_TRAINING,
    }
    return [what for what, is_lacking in lacks.items() if is_lacking]
