"""Sections of a report, one function each. They show what the data allow and say what is missing."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anndata as ad
import numpy as np
import pandas as pd

from scapp import benchmark, pp
from scapp._genes import measured_mask, shorten, show_counts
from scapp._keys import Key
from scapp._labels import SEPARATOR, count_labels, parse_labels, perturbed_genes
from scapp.report._page import Section
from scapp.report._predicted import interactions, predictions, suggestions
from scapp.report._screen import MIN_TRAINING, Screen

if TYPE_CHECKING:
    from scapp.benchmark import Task

MAX_GENES, N_POINTS = 2000, 2000
# The smallest change of a target that counts, if standard errors are unknown.
MIN_CHANGE = 0.1


def _what_was_read(screen: Screen, section: Section) -> None:
    adata = screen.adata
    labels = adata.obs[screen.key]
    counts = count_labels(labels.dropna().astype(str))
    control = screen.control
    section.facts(
        [
            ("effects" if control is None else "cells", adata.n_obs),
            ("genes", adata.n_vars),
            ("labels", len(counts)),
            ("values in", "X" if screen.options["layer"] is None else screen.options["layer"]),
        ]
    )
    if labels.isna().any():
        section.text(f"{int(labels.isna().sum()):,} rows have no label in {screen.key!r} and are left out.")
        screen.adata = adata = adata[labels.notna().to_numpy()].copy()
    if control is None:
        screen.effects = _effects_as_they_are(screen)
        section.text(f"These are effects: one row for each of {screen.effects.n_obs:,} perturbations.")
    else:
        section.text(f"The most frequent labels in {screen.key!r}: {show_counts(counts, 6)}.")
        try:
            with warnings.catch_warnings(record=True) as warned:
                warnings.simplefilter("always")
                screen.effects = pp.pseudobulk(
                    adata, perturbation_key=screen.key, control=control, layer=screen.options["layer"],
                    batch_key=screen.options["batch_key"], sep=screen.options["sep"], on_few_cells="drop",
                )  # fmt: skip
            for said in dict.fromkeys(str(each.message) for each in warned if each.category is UserWarning):
                other = "\nYou can pass effects that were computed elsewhere instead of the cells, with control=None."
                section.missing(said + other * ("total_counts_key" in said))
        except ValueError as error:
            screen.lacks.append("effects, and with them everything below but the labels and the network")
            section.missing(f"Effects could not be computed from these cells. {error}")
            return
    effects = screen.effects
    if screen.network is None:
        screen.lacks.append("a network, without which genes that were not perturbed cannot be predicted")
    if effects.n_obs < MIN_TRAINING:
        screen.lacks.append(f"perturbations: there are {effects.n_obs}, and a model needs {MIN_TRAINING}")
    sizes = pd.Series([len(genes) for genes in screen.parsed]).value_counts().sort_index()
    section.text("Perturbations by their number of genes: " + ", ".join(f"{n} of {k}" for k, n in sizes.items()) + ".")


def _effects_as_they_are(screen: Screen) -> ad.AnnData:
    effects, layer = screen.adata.copy(), screen.options["layer"] or Key.layers.LFC
    if layer not in effects.layers:
        raise ValueError(
            f"The effects have no layer {layer!r} with log-fold-changes; there are {shorten(map(repr, effects.layers)) or 'none'}. Name "
            "it with layer=…, or the label of the control cells with control=…, if these are cells."
        )
    effects.layers[Key.layers.LFC] = effects.layers[layer].copy()
    return effects


def _controls_and_efficacy(screen: Screen, section: Section) -> None:
    effects = screen.effects
    if effects is None:
        counts = count_labels(screen.adata.obs[screen.key].dropna().astype(str))
        table = pd.DataFrame({"label": list(counts), "cells": list(counts.values())})
        section.table(table.sort_values("cells", ascending=False), "Cells of each label.")
        return
    facts: list[tuple[str, object]] = [("perturbations", effects.n_obs)]
    if Key.uns.N_CONTROL_CELLS in effects.uns:
        facts.insert(0, ("control cells", int(np.sum(effects.uns[Key.uns.N_CONTROL_CELLS]))))
    table = pd.DataFrame({"perturbation": effects.obs_names.astype(str)})
    if Key.obs.N_CELLS in effects.obs:
        table["cells"] = effects.obs[Key.obs.N_CELLS].to_numpy()
        facts += [("median cells", float(table["cells"].median())), ("fewest cells", int(table["cells"].min()))]
    lfc = np.asarray(effects.layers[Key.layers.LFC], dtype=float)[:, measured_mask(effects)]
    table["size of effect"] = _lengths(lfc)
    if Key.layers.LFC_SE in effects.layers:
        errors = np.asarray(effects.layers[Key.layers.LFC_SE], dtype=float)[:, measured_mask(effects)]
        table["size of noise"] = _lengths(errors)
    kind, how = _kind_of_targets(screen)
    refused = None
    if kind is not None:
        smallest = 0.0 if Key.layers.LFC_SE in effects.layers else MIN_CHANGE
        try:
            pp.check_efficacy(effects, kind=kind, perturbation_key=screen.key, sep=screen.sep, min_change=smallest)
        except ValueError as error:
            refused = str(error)
        else:
            table["own target"] = effects.obs[Key.obs.EFFICACY].to_numpy()
            table["status"] = effects.obs[Key.obs.EFFICACY_STATUS].astype(str).to_numpy()
            status = table["status"].value_counts()
            facts += [(name, int(status.get(name, 0))) for name in ("worked", "unclear", "opposite", "not measured")]
    section.facts(facts)
    if kind is None:
        section.text("No perturbed gene was measured, so efficacy cannot be judged.", soft=True)
    elif refused is not None:
        section.missing(f"Efficacy could not be judged. {refused}")
    else:
        section.text(f"Judged {how}. The column “own target” is the log-fold-change of the perturbed gene itself.")
    section.table(
        table.sort_values("size of effect", ascending=False),
        "Perturbations in the order of their effect, as lengths of their log-fold-changes. Where noise is as large as the effect, "
        "there is nothing to predict.",
    )
    if "status" in table and len(failed := table.loc[table["status"].isin(["unclear", "opposite"]), "perturbation"]):
        section.text(f"No evidence that these worked: {shorten(failed, 20)}.")


def _lengths(values: np.ndarray) -> np.ndarray:
    """Return the length of each row over its measured genes; NaN if it has none."""
    return np.where(np.isfinite(values).any(axis=1), np.sqrt(np.nansum(np.square(values), axis=1)), np.nan)


def _kind_of_targets(screen: Screen) -> tuple[str | None, str]:
    """Return the kind of the perturbations, and how it was determined."""
    effects = screen.effects
    assert effects is not None
    if screen.kind is not None:
        is_column = screen.kind in screen.adata.obs
        return screen.kind, f"by the column {screen.kind!r}" if is_column else f"as {screen.kind}"
    lfc = np.asarray(effects.layers[Key.layers.LFC], dtype=float)
    column = {gene: i for i, gene in enumerate(effects.var_names)}
    own = np.array([lfc[row, column[p[0]]] for row, p in enumerate(screen.parsed) if len(p) == 1 and p[0] in column])
    own = own[np.isfinite(own) & (own != 0)]
    if not len(own):
        return None, ""
    down = int((own < 0).sum())
    if down >= len(own) / 2:
        return "interference", f"as interference, because {down} of {len(own)} targets went down"
    return "activation", f"as activation, because {len(own) - down} of {len(own)} targets went up"


def _coverage(screen: Screen, section: Section) -> None:
    if screen.network is None:
        section.missing(
            "There is no network. Pass a table of edges (source, target, weight), such as that of scapp.resources.string(), with "
            "network=… or --network."
        )
        return
    options = screen.options
    labelled: dict[str, Any] = {"perturbation_key": None}
    if screen.effects is None:
        genes = ad.AnnData(var=screen.adata.var[[]])
        labels = screen.adata.obs[screen.key].dropna().astype(str)
        targets = perturbed_genes(parse_labels(labels, control=options["control"], sep=options["sep"]))
    else:
        genes, labelled = screen.effects, {"perturbation_key": screen.key, "sep": screen.sep}
        if genes.n_vars > MAX_GENES:
            genes = pp.select_genes(genes, MAX_GENES, perturbation_key=screen.key, control=None)
        screen.effects = genes = pp.add_unmeasured_genes(genes, control=None, **labelled)
        targets = perturbed_genes(screen.parsed)
    pp.add_network(genes, screen.network, aliases=options["aliases"], control=None, **labelled)
    network = genes.varp[Key.varp.NETWORK]
    joined = (network != 0) + (network.T != 0)
    degree = np.asarray(joined.sum(axis=1)).ravel()
    place = genes.var_names.get_indexer(targets)
    alone = [gene for gene, i in zip(targets, place, strict=True) if i < 0 or degree[i] == 0]
    section.facts(
        [
            ("genes", genes.n_vars), ("edges", int(joined.nnz // 2)), ("genes with edges", int((degree > 0).sum())),
            ("median neighbours", float(np.median(degree))),
            ("perturbed genes", len(targets)), ("without edges", len(alone)),
        ]
    )  # fmt: skip
    if alone:
        section.text(
            f"The network says nothing about {shorten(alone, 20)}. They are predicted like an average gene unless they were "
            "measured alone."
        )


def _accuracy(screen: Screen, section: Section) -> None:
    if screen.effects is None:
        section.missing("Accuracy needs effects, and there are none.")
        return
    options = {
        "network": screen.network, "aliases": screen.options["aliases"], "n_splits": screen.n_splits, "seed": screen.seed,
        "perturbation_key": screen.key,
    }  # fmt: skip
    data = screen.effects if screen.control is None else screen.adata
    if screen.control is None:
        options |= {"control": None, "sep": screen.sep, "layer": Key.layers.LFC}
    else:
        options |= {name: screen.options[name] for name in ("control", "layer", "batch_key", "sep")}
    tasks: list[Task] = []
    held_out = {"combinations": benchmark.doubles, "genes that were not seen": benchmark.unseen_singles}
    if not screen.has_combinations:
        del held_out["combinations"]
        section.text("No combination was measured, so only genes are held out.", soft=True)
    for what, make in held_out.items():
        try:
            tasks.append(make(data, **options))
        except ValueError as error:
            section.missing(f"Predictions of {what} could not be tested. {error}")
    if not tasks:
        return
    with tempfile.TemporaryDirectory() as folder:
        failures = benchmark.run(tasks, ["core"], folder=folder, progress_bar=False)
        scores = benchmark.score(tasks, folder)
        for task in tasks:
            _accuracy_of(task, scores[scores["task"] == task.name], Path(folder), section)
    for failure in failures:
        section.missing(f"{failure.method} failed on {failure.task}: {failure.error}")
    if screen.network is None:
        section.missing("APP and kernel ridge learn from a network and take no part without one.")


def _accuracy_of(task: Task, scores: pd.DataFrame, folder: Path, section: Section) -> None:
    titles = {"doubles": "Combinations that were held out", "unseen_singles": "Genes that were not seen"}
    section.heading(titles.get(task.name, task.title))
    summary = benchmark.summarise(scores, n_draws=1)
    ceiling = scores.loc[scores["metric"] == "ceiling_l2", "value"].mean()
    bars = [(row.method, float(row.mean), row.method == "APP") for row in summary.itertuples()]
    n = round(float(np.mean([len(split.test) for split in task.splits])))
    caption = (
        f"Mean L2 between predicted and measured log-fold-changes of {n} held-out perturbations in each of {len(task.splits)} split(s), "
        f"over {len(task.scored):,} genes; less is better."
    )
    if np.isfinite(ceiling):
        caption += f" The line is the error of a perfect prediction because of measurement noise ({ceiling:.2f})."
    section.bars(bars, caption, line=float(ceiling) if np.isfinite(ceiling) else None)
    table = summary[["method", "mean", "kept_spread"]].rename(columns={"mean": "L2", "kept_spread": "spread kept"})
    for column, metric in (("Pearson delta", "pearson_delta"), ("changed genes (AUPRC)", "changed_auprc")):
        if scores.loc[scores["metric"] == metric, "value"].notna().any():
            found = benchmark.summarise(
                scores[scores["metric"] == metric].dropna(subset="value"), metric=metric, n_draws=1
            )
            table[column] = table["method"].map(found.set_index("method")["mean"])
    if len(shares := benchmark.ceilings(scores)):
        table["explained"] = table["method"].map(shares.set_index("method")["share_closed"])
    section.table(
        table,
        "Spread kept: share of the measured spread between perturbations; 0 if all are predicted alike. Explained: share of the "
        "explainable effect, where 1 is the noise ceiling.",
    )
    if "explained" in table and (table["explained"] > 1).any():
        section.text(
            "More than 1 can be explained because the error of the control cells is in the training effects as well as in the held-out "
            "ones, and is predicted with them."
        )
    for row in benchmark.check_split(task).query("status == 'warning'").drop_duplicates("check").itertuples():
        section.missing(f"Before you trust these scores: {row.meaning}")
    for sentence in benchmark.verdict(scores):
        section.text(sentence)
    split = task.splits[0]
    files = sorted((folder / "predictions" / task.name / "app").glob("*.npz"))
    if files:
        with np.load(files[0], allow_pickle=False) as file:
            predicted, observed = file["lfc"].ravel(), file["observed"].ravel()
        chosen = np.random.default_rng(0).permutation(len(predicted))[:N_POINTS]
        section.scatter(
            observed[chosen], predicted[chosen], ("measured", "predicted by APP"),
            f"Log-fold-changes of held-out perturbations (split {split.seed}), {len(chosen):,} values drawn at random. On the dashed "
            "line both are the same.",
        )  # fmt: skip


def _how(screen: Screen, section: Section) -> None:
    section.text("To do the same in Python, step by step:")
    options, usual = screen.options, {"sep": SEPARATOR}
    chosen = {name: options[name] for name in ("layer", "batch_key", "sep") if options[name] != usual.get(name)}
    labels, setup = {"perturbation_key": screen.key}, {}
    if screen.control is None:
        labels |= {name: value for name, value in chosen.items() if name == "sep"}
        lines = ["effects = cells.copy()  # which are effects already"]
        setup = {**labels, "control": None, **{name: value for name, value in chosen.items() if name == "layer"}}
    else:
        lines = [
            f"effects = scapp.pp.pseudobulk(cells{_arguments({**labels, 'control': options['control'], **chosen})})"
        ]
    network = str(screen.network) if isinstance(screen.network, str | Path) else "edges.tsv"
    named = {} if options["aliases"] is None else {"aliases": str(options["aliases"])}
    lines += [
        f"effects = scapp.pp.add_unmeasured_genes(effects{_arguments({**labels, 'control': None})})",
        f"scapp.pp.add_network(effects, {network!r}{_arguments({**named, **labels, 'control': None})})",
        f"scapp.model.APP.setup_anndata(effects{_arguments(setup)})",
        "model = scapp.model.APP(effects)",
        "model.train()",
        f"predicted = model.predict([{'GENE1' + screen.sep + 'GENE2'!r}])",
    ]
    section.code(lines)
    section.text(
        "Treat predictions as hypotheses. It has not been shown that what is learned from one screen holds in other cells.",
        soft=True,
    )


def _arguments(options: Mapping[str, object]) -> str:
    return "".join(f", {name}={value!r}" for name, value in options.items())


SECTIONS: tuple[tuple[str, Callable[[Screen, Section], None]], ...] = (
    ("What was read", _what_was_read),
    ("Controls, cells and efficacy", _controls_and_efficacy),
    ("Coverage of the network", _coverage),
    ("Accuracy on held-out perturbations", _accuracy),
    ("Strongest predictions", predictions),
    ("Pairs that interact", interactions),
    ("What to measure next", suggestions),
    ("How this was made", _how),
)
