"""Check what training and held-out perturbations share, and so whether scores of a split can be believed."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np
import pandas as pd
from anndata import AnnData
from scipy.stats.contingency import association

from scapp._checked import checked
from scapp._genes import shorten
from scapp._keys import Key
from scapp._labels import SEPARATOR, Perturbation, format_label
from scapp._warn import warn_user
from scapp.benchmark._sides import Sides, sides_of_columns, sides_of_labels, sides_of_task
from scapp.benchmark._task import Split, Task

if TYPE_CHECKING:
    from numpy.typing import NDArray


Claim: TypeAlias = Literal["combinations", "unseen", "seen"]
COLUMNS = ("split", "check", "status", "n", "of", "examples", "meaning")
OK, NOTE, WARNING = "ok", "note", "warning"
# Two effects that agree better than this are one measurement under two names; replicates never do.
SAME_EFFECT = 0.9999
# From this share on, what training effects have in common is in good part the error of the common controls.
CONTROL_SHARE = 0.25
# An association of batch and perturbation (Cramér's V) as of cells that were pooled by perturbation.
CONFOUNDED = 0.9
# "KLF1_2", "KLF1_sg2", "KLF1_g2": guides of one gene. Not "NKX2-1", which is a gene.
GUIDE_ENDING = re.compile(r"_(?:sg|g|guide|grna|sgrna)?\d+$", re.IGNORECASE)


@checked(own=("data", "test"))
def check_split(
    data: Task | Split | AnnData | pd.DataFrame,
    *,
    claim: Claim | None = None,
    split_key: str = "split",
    train: str = "train",
    test: str | Sequence[str] | None = None,
    perturbation_key: str = Key.obs.PERTURBATION,
    control: str | Sequence[str] | None = "control",
    sep: str = SEPARATOR,
    guide_key: str | None = None,
    batch_key: str | None = None,
) -> pd.DataFrame:
    r"""Check whether training and held-out perturbations share information that would inflate a score.

    Warnings say what would inflate the score, how often it occurs, and what to do. The checks are

    - ``"perturbation"``: a held-out perturbation is also in training, with its genes in any order
    - ``"genes"``: a gene that is claimed to be unseen occurs in training, alone or as the partner in a pair
    - ``"guides"``: the same guide, or guides of the same gene by name (``"KLF1_1"``, ``"KLF1_2"``), are on both sides
    - ``"same effects"``: a held-out effect is a training effect under another name
    - ``"control cells"``: both sides use the same control cells, whose error is part of every effect. This is common.
      It gives a warning if the error is a quarter or more of the common part of the training effects (the squared norm
      of their mean), because predicting the mean then gets credit for it, or if two halves of the cells share controls
    - ``"batch"``: perturbations whose cells are in batches without controls or other perturbations, so that their
      effect is confounded with that of the batch; batches that distinguish the two sides
    - ``"targets"``: held-out perturbations whose own gene is scored, although its change says little (a note only)

    Parameters
    ----------
    data
        A task; a :class:`Split` of labels; or cells, effects or a table of their `obs` with a column that gives the
        side of each.
    claim
        What the split should test. ``"unseen"``: genes occur nowhere in training. ``"combinations"``: combinations of genes
        that may be measured. ``"seen"``: other cells of the same perturbations. If None, the kind of the task, or else
        unseen genes for held-out single perturbations and combinations for the rest.
    split_key
        For cells, effects or a table: column with the side of each.
    train, test
        The values in this column. `test` may be several; None takes all except `train` and missing values.
    perturbation_key, control, sep
        Column of the labels, control label, and separator between the genes of a combination, as in
        :func:`scapp.pp.pseudobulk`. Labels of a :class:`Split` and a task are joined by ``"+"``.
    guide_key, batch_key
        For cells, effects or a table, and for the effects of a task: columns with the guide and the batch; not checked if
        None.

    Returns
    -------
    One row per split and check: ``split``; ``check``; ``status`` (``"ok"``, ``"note"`` or ``"warning"``); ``n``, the
    number affected, and ``of``, their total; ``examples``; ``meaning``, in words, with the remedy. Checks for which
    there are no data have no row.

    Raises
    ------
    ValueError
        If a column is missing, a side is empty, a label cannot be read, or `claim` is unknown.
    TypeError
        If `data` has an unsupported type.

    See Also
    --------
    doubles, unseen_singles, seen_singles, run

    Examples
    --------
    >>> split = scapp.benchmark.Split(0, train=("KLF1", "GATA1+CEBPA"), test=("CEBPA",))
    >>> scapp.benchmark.check_split(split).query("status == 'warning'")["check"].tolist()
    ['genes']
    """
    if isinstance(data, Task):
        sides = [sides_of_task(data, split, guide_key, batch_key) for split in data.splits]
        claim = claim or ("seen" if data.kind == "context" else data.kind)
    elif isinstance(data, Split):
        sides = [sides_of_labels(data)]
    elif isinstance(data, AnnData | pd.DataFrame):
        sides = [sides_of_columns(data, split_key, train, test, perturbation_key, control, sep, guide_key, batch_key)]
    else:
        raise TypeError(
            f"Expected a Task, a Split, cells or effects, or a table of their obs; found {type(data).__name__}. "
            "Labels are checked as `check_split(Split(0, train=(…), test=(…)))`."
        )
    rows = [
        (side.name, check, *found._replace(examples=shorten(found.examples)))
        for side in sides
        for check, find in CHECKS.items()
        for found in find(side, claim)
    ]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for _, rows in table[table["status"] == WARNING].groupby("check", sort=False):
        splits = f" (and in {len(rows) - 1} more splits)" if len(rows) > 1 else ""
        first = rows.iloc[0]
        warn_user(f"Split {first['split']}{splits}: {first['meaning']}")
    return table


class Finding(NamedTuple):
    """Hold the answer of one check."""

    status: str
    n: int
    of: int
    examples: Sequence[str]
    meaning: str


def _perturbations(side: Sides, claim: Claim | None) -> Iterable[Finding]:
    trained = set(side.train)
    both = [format_label(genes) for genes in side.test if genes in trained]
    status, words = OK, "No held-out perturbation is trained on."
    if claim == "seen":
        words = "The same perturbations on both sides, as is meant."
    elif both:
        status, words = WARNING, (
            f"{len(both)} of {len(side.test)} held-out perturbations are trained on as well ({shorten(both)}), so that the score "
            "says how well they are remembered.\nSplit by perturbation, its genes in any order, or say so with claim='seen'."
        )  # fmt: skip
    yield Finding(status, len(both), len(side.test), both, words)


def _genes(side: Sides, claim: Claim | None) -> Iterable[Finding]:
    if claim == "seen":
        return
    partners = defaultdict(list)
    for genes in side.train:
        for gene in genes:
            partners[gene].append(genes)
    # A perturbation that is trained on itself is found by the check before this one.
    trained = set(side.train)
    asked = [p for p in side.test if p not in trained]
    judged = [p for p in asked if claim == "unseen" or (claim is None and len(p) == 1)]
    known = [p for p in judged if any(gene in partners for gene in p)]
    if known:
        gene = next(gene for gene in known[0] if gene in partners)
        yield Finding(
            WARNING, len(known), len(judged), [format_label(p) for p in known],
            f"{len(known)} of {len(judged)} held-out perturbations have genes that training perturbs as well ({gene} in "
            f"{shorten(map(format_label, partners[gene]), 3)}), so that they are not unseen.\nLeave every perturbation with such a "
            "gene out of training, as benchmark.unseen_singles does, or say so with claim='combinations'.",
        )  # fmt: skip
    elif judged:
        yield Finding(OK, 0, len(judged), [], "No gene that is claimed to be unseen occurs in training.")
    if combined := [p for p in asked if len(p) > 1 and p not in set(judged)]:
        alone = [p for p in combined if all((gene,) in trained for gene in p)]
        yield Finding(
            NOTE, len(alone), len(combined), [format_label(p) for p in alone],
            f"Of {len(combined)} held-out combinations {len(alone)} have all their genes measured alone, so that the additive model "
            "is the baseline to beat there.",
        )  # fmt: skip


def _guides(side: Sides, claim: Claim | None) -> Iterable[Finding]:
    if side.obs is not None and "guide" in side.obs:
        known = side.obs[(side.obs["perturbation"] != "") & side.obs["guide"].notna()]
        of = {name: set(rows["guide"].astype(str)) for name, rows in known.groupby("side", observed=True)}
        trained, held = of.get("train", set()), of.get("test", set())
        both = sorted(trained & held)
        if both and claim != "seen":
            yield Finding(
                WARNING, len(both), len(held), both,
                f"{len(both)} of {len(held)} guides have cells on both sides ({shorten(both)}).\nSplit by perturbation, of which "
                "guides are parts: all cells of a gene go to one side.",
            )  # fmt: skip
        else:
            yield Finding(OK, len(both), len(held), both, f"{len(both)} guides are on both sides.")
    if claim == "seen":
        return
    # If labels name guides, the perturbation is their gene.
    trained = {_without_guide(genes) for genes in side.train}
    shared = [
        format_label(genes) for genes in side.test if _without_guide(genes) in trained and genes not in set(side.train)
    ]
    if shared:
        yield Finding(
            WARNING, len(shared), len(side.test), shared,
            f"{len(shared)} of {len(side.test)} held-out labels look like guides of genes of which training has another guide "
            f"({shorten(shared)}).\nName the genes: scapp.pp.guides_to_perturbations, or split the labels at '_'.",
        )  # fmt: skip


def _without_guide(genes: Perturbation) -> Perturbation:
    return tuple(GUIDE_ENDING.sub("", gene) for gene in genes)


def _same_effects(side: Sides, claim: Claim | None) -> Iterable[Finding]:
    if side.effects is None or claim == "seen":
        return
    train, test = (_unit_rows(values) for values in side.effects)
    closest = (test @ train.T).max(axis=1)
    trained, asked = set(side.train), side.labels or side.test
    same = [
        format_label(genes)
        for genes, value in zip(asked, closest.tolist(), strict=True)
        if value > SAME_EFFECT and genes not in trained
    ]
    if same:
        yield Finding(
            WARNING, len(same), len(side.test), same,
            f"{len(same)} of {len(side.test)} held-out effects are training effects under another name ({shorten(same)}), gene by "
            "gene.\nLeave one of each out, or find out which label is right.",
        )  # fmt: skip
    else:
        yield Finding(OK, 0, len(side.test), [], "No held-out effect is a training effect.")


def _unit_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return centred rows of unit length; 0 if there is nothing to compare."""
    known = np.where(np.isfinite(values), values, 0)
    centered = known - known.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centered, axis=1, keepdims=True)
    return np.divide(centered, length, out=np.zeros_like(centered), where=length > 1e-12)


def _controls(side: Sides, claim: Claim | None) -> Iterable[Finding]:
    if side.halves_share_controls:
        words = (
            "Both halves of the cells are compared with the same control cells, whose errors are then learned and scored as "
            "effects.\nSplit the controls as well, as benchmark.seen_singles does."
        )
        yield Finding(WARNING, 1, 1, [], words)
    elif side.halves_share_controls is not None:
        yield Finding(OK, 0, 1, [], "Each half has control cells of its own.")
    if side.control_share is not None:
        share = side.control_share
        words = f"The error of the control cells, which stand behind all effects, is {share:.0%} of what training effects have in common"
        status = WARNING if share >= CONTROL_SHARE else NOTE
        mend = ": predicting the mean gets credit for it.\nTake more controls, or compare with benchmark.seen_singles."
        percent = min(round(100 * share), 100)
        yield Finding(status, percent, 100, [], words + (mend if status == WARNING else "."))
    if side.are_cells and side.obs is not None:
        controls = side.obs.loc[side.obs["perturbation"] == "", "side"].value_counts()
        n_train, n_test = int(controls.get("train", 0)), int(controls.get("test", 0))
        if n_train + n_test == 0:
            return
        if n_train and n_test:
            yield Finding(OK, 0, n_train + n_test, [], "Each side has control cells of its own.")
            return
        owner = "training" if n_train else "held-out"
        yield Finding(
            WARNING if claim == "seen" else NOTE, n_train + n_test, n_train + n_test, [],
            f"All {n_train + n_test:,} control cells are on the {owner} side, so that effects of both are compared with them and "
            "share their errors.\nGive each side controls of its own, at random, where errors matter.",
        )  # fmt: skip


def _batches(side: Sides, claim: Claim | None) -> Iterable[Finding]:
    obs = side.obs
    if obs is None or "batch" not in obs:
        return
    obs = obs[obs["batch"].notna()].astype({"batch": str})
    if side.are_cells:
        yield from _batches_of_cells(obs)
    # Batches distinguish the sides if each batch belongs to one side.
    perturbed = obs[obs["perturbation"] != ""]
    table = pd.crosstab(perturbed["batch"], perturbed["side"])
    if table.shape[0] < 2 or table.shape[1] < 2:
        return
    apart = [str(batch) for batch, row in table.iterrows() if (row > 0).sum() == 1]
    if len(apart) == len(table):
        yield Finding(
            WARNING, len(apart), len(table), apart,
            f"All {len(table)} batches are on one side only, so that a score mixes the perturbations with the batches.\nThat is "
            "right for a test of transfer to other batches: then correct effects within each (batch_key=… of pp.pseudobulk).",
        )  # fmt: skip


def _batches_of_cells(obs: pd.DataFrame) -> Iterable[Finding]:
    table = pd.crosstab(obs["perturbation"], obs["batch"])
    has_controls = (table.loc[""] > 0) if "" in table.index else pd.Series(False, index=table.columns)
    cells = table.drop(index="", errors="ignore")
    if cells.shape[1] < 2:
        yield Finding(OK, 0, len(cells), [], "There is one batch.")
        return
    n_others = (cells > 0).sum(axis=0)
    bad = [
        str(name)
        for name, row in cells.iterrows()
        if not has_controls[row > 0].any() or (not has_controls.any() and (n_others[row > 0] == 1).all())
    ]
    # A batch with a single perturbation and no controls is confounded with it.
    strength = float(association(cells.to_numpy(), method="cramer")) if len(cells) > 1 else 0.0
    if bad and len(bad) == len(cells) and not has_controls.any():
        words = f"No batch holds control cells by these labels, and batch and perturbation go together by {strength:.2f} (Cramér's V)"
    else:
        words = f"{len(bad)} of {len(cells)} perturbations have cells only in batches without control cells ({shorten(bad)})"
    if bad:
        yield Finding(
            WARNING, len(bad), len(cells), bad,
            f"{words}, so that effects of the batch count as theirs.\nLeave them out, or take batches that share controls.",
        )  # fmt: skip
    elif strength >= CONFOUNDED:
        yield Finding(
            NOTE, len(cells), len(cells), [],
            f"Batch and perturbation go together by {strength:.2f} (Cramér's V): compare each with the controls of its own batch "
            "(batch_key=… of pp.pseudobulk).",
        )  # fmt: skip
    else:
        words = f"Every perturbation has controls in its batches; Cramér's V is {strength:.2f}."
        yield Finding(OK, 0, len(cells), [], words)


def _targets(side: Sides, claim: Claim | None) -> Iterable[Finding]:
    if side.scored_targets is not None:
        n, of = len(side.scored_targets), len(side.test)
        words = f"{n} of {of} held-out perturbations are scored on their own gene as well, whose change needs no prediction."
        yield Finding(NOTE if n else OK, n, of, side.scored_targets, words)


CHECKS: dict[str, Callable[[Sides, Claim | None], Iterable[Finding]]] = {
    "perturbation": _perturbations,
    "genes": _genes,
    "guides": _guides,
    "same effects": _same_effects,
    "control cells": _controls,
    "batch": _batches,
    "targets": _targets,
}
