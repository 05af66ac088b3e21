"""The two sides of a split, training and held out, from labels, a task, or cells and effects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from anndata import AnnData

from scapp._effects import control_label, label_column
from scapp._genes import measured_mask, shorten
from scapp._keys import Key
from scapp._labels import Perturbation, format_label, parse_labels
from scapp.benchmark._task import Split, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scapp._controls import Control


@dataclass(frozen=True)
class Sides:
    """Hold the data on the two sides of a split."""

    name: str  # of the split, in messages
    train: list[Perturbation]  # distinct ones
    test: list[Perturbation]
    # Where observations are known, a table with the columns "side" ("train" or "test"), "perturbation" (canonical label, ""
    # for controls), and "guide" and "batch" if known. None for labels.
    obs: pd.DataFrame | None = None
    are_cells: bool = False  # and not effects
    effects: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None  # of both sides, of shape (n, n_genes)
    labels: list[Perturbation] | None = None  # perturbations of the rows of the held-out effects
    # Expected squared error of the control mean, relative to the squared norm of the mean training effect.
    control_share: float | None = None
    halves_share_controls: bool | None = None  # whether two halves of the cells are compared with the same controls
    scored_targets: list[str] | None = None  # held-out labels whose own gene is scored


def sides_of_labels(split: Split) -> Sides:
    for side, labels in (("train", split.train), ("test", split.test)):
        if isinstance(labels, str) or not len(labels):
            raise ValueError(
                f"The side {side!r} of a Split holds labels, found {labels!r}. Pass ('KLF1', 'GATA1+CEBPA')."
            )
    return Sides(str(split.seed), _distinct(parse_labels(split.train)), _distinct(parse_labels(split.test)))


def _distinct(perturbations: Iterable[Perturbation]) -> list[Perturbation]:
    """Return each perturbation once, without the control."""
    return [genes for genes in dict.fromkeys(perturbations) if genes]


def sides_of_task(task: Task, split: Split, guide_key: str | None, batch_key: str | None) -> Sides:
    train, test = task.effects[list(split.train)], task.effects[list(split.test)]
    obs = [
        _columns(rows.obs, side, list(rows.obs_names), guide_key, batch_key)
        for rows, side in ((train, "train"), (test, "test"))
    ]
    trained, held = (parse_labels(labels, control=None) for labels in (split.train, split.test))
    found = Sides(f"{split.seed} of {task.name!r}", _distinct(trained), _distinct(held), pd.concat(obs))
    if task.score_targets:
        own = [name for name, scored in zip(split.test, task.targets(split), strict=True) if scored.any()]
        found = replace(found, scored_targets=own)
    if not task.is_repeated:
        effects, share = (_lfc(train), _lfc(test)), _control_share(train)
        return replace(found, effects=effects, labels=held, control_share=share)
    first, second = (task.halves or {})[split.seed]
    if Key.var.CONTROL_MEAN in first.var and Key.var.CONTROL_MEAN in second.var:
        means = [half.var[Key.var.CONTROL_MEAN].to_numpy(dtype=float) for half in (first, second)]
        same = means[0].shape == means[1].shape and bool(np.array_equal(means[0], means[1], equal_nan=True))
        found = replace(found, halves_share_controls=same)
    return found


def _lfc(effects: AnnData) -> NDArray[np.float64]:
    return np.asarray(effects.layers[Key.layers.LFC], dtype=np.float64)[:, measured_mask(effects)]


def sides_of_columns(
    data: AnnData | pd.DataFrame,
    split_key: str,
    train: str,
    test: str | Sequence[str] | None,
    perturbation_key: str,
    control: Control,
    sep: str,
    guide_key: str | None,
    batch_key: str | None,
) -> Sides:
    table = data.obs if isinstance(data, AnnData) else data
    if isinstance(data, AnnData):
        perturbation_key = label_column(data, perturbation_key)
        control = control_label(data, control, perturbation_key)
    for key, argument in ((split_key, "split_key"), (perturbation_key, "perturbation_key")):
        _check_column(table, key, argument)
    there = table[split_key].notna().to_numpy()
    side = table[split_key].astype(str).to_numpy()
    in_train = there & (side == train)
    wanted = {test} if isinstance(test, str) else set(map(str, test or ()))
    in_test = there & (side != train) & (np.isin(side, list(wanted)) if wanted else True)
    for name, rows in ((f"{train!r}", in_train), ("what is held out", in_test)):
        if not rows.any():
            values = shorten(map(repr, pd.unique(side[there]))) or "none"
            raise ValueError(
                f"Nothing is on the side of {name} by the column {split_key!r}, whose values are {values}. Name them with "
                "train=… and test=…."
            )
    used = in_train | in_test
    labels = table[perturbation_key][used]
    if labels.isna().any():
        raise ValueError(
            f"{int(labels.isna().sum())} rows have no perturbation in {perturbation_key!r}. Leave them out, for example with "
            f"`adata[adata.obs[{perturbation_key!r}].notna()]`."
        )
    parsed = parse_labels(labels.astype(str), control=control, sep=sep)
    obs = _columns(table[used], "", [format_label(genes) for genes in parsed], guide_key, batch_key)
    obs["side"] = np.where(in_test[used], "test", "train")
    trained, held = (
        [genes for genes, at in zip(parsed, obs["side"], strict=True) if at == name] for name in ("train", "test")
    )
    sides = Sides(repr(split_key), _distinct(trained), _distinct(held), obs, are_cells=True)
    for name, perturbations in (("train", sides.train), ("test", sides.test)):
        if not perturbations:
            raise ValueError(
                f"The side {name!r} holds control cells and no perturbation. Name the sides with train=… and test=…."
            )
    if not (isinstance(data, AnnData) and Key.layers.LFC in data.layers):
        return sides
    # Effects have one row per perturbation and no controls.
    effects, share = (_lfc(data[in_train]), _lfc(data[in_test])), _control_share(data[in_train])
    return replace(sides, are_cells=False, effects=effects, labels=held, control_share=share)


def _check_column(table: pd.DataFrame, key: str, argument: str) -> None:
    if key not in table:
        columns = shorten(map(repr, table.columns), 10) or "none"
        raise ValueError(f"There is no column {key!r}; the columns are {columns}. Name it with {argument}=….")


def _columns(
    table: pd.DataFrame, side: str, labels: Sequence[str], guide_key: str | None, batch_key: str | None
) -> pd.DataFrame:
    """Return the columns that the checks read, under names of their own."""
    found = pd.DataFrame({"side": side, "perturbation": np.array(labels, dtype=object)}, index=range(len(table)))
    for name, key in (("guide", guide_key), ("batch", batch_key)):
        if key is not None:
            _check_column(table, key, f"{name}_key")
            found[name] = table[key].astype(object).to_numpy()
    return found


def _control_share(training: AnnData) -> float | None:
    """Return the squared error of the control mean relative to the squared mean training effect; None if it is not known."""
    n = np.asarray(training.uns.get(Key.uns.N_CONTROL_CELLS, np.nan), dtype=float)
    if n.ndim or not n > 0 or Key.var.CONTROL_VAR not in training.var:
        return None
    error = training.var[Key.var.CONTROL_VAR].to_numpy(dtype=float) / float(n)
    common = np.square(np.asarray(training.layers[Key.layers.LFC], dtype=np.float64).mean(axis=0))
    known = np.isfinite(error) & np.isfinite(common)
    total = common[known].sum()
    return float(error[known].sum() / total) if total > 0 else None
