"""Plausible calls of the public API with random data, each with an independent calculation of what is right."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import anndata as ad
import networkx as nx
import numpy as np
import pandas as pd
from scipy import sparse, stats

import scapp

Arguments = dict[str, Any]
NAMES = [
    "KLF1",
    "GATA1",
    "HBB",
    "ALAS2",
    "SPI1",
    "MYC",
    "TAL1",
    "CEBPA",
    "HLA-A",
    "C10orf88",
    "NT5E",
    "MT-ND1",
    "A+B"[:1],
    "7SK",
]


@dataclass(frozen=True)
class Call:
    """One function, arguments for it, and a check of its result against a calculation of its own."""

    name: str
    function: Callable[..., Any]
    arguments: Callable[[np.random.Generator, Path], Arguments]
    check: Callable[[Arguments, Any], None]


def _genes(rng: np.random.Generator, least: int = 5) -> list[str]:
    return [str(name) for name in rng.permutation(NAMES)[: rng.integers(least, len(NAMES) + 1)]]


# Metrics


def _tables(rng: np.random.Generator, _: Path) -> Arguments:
    genes, rows = _genes(rng), [f"p{i}" for i in range(rng.integers(2, 6))]
    first = pd.DataFrame(rng.normal(size=(len(rows), len(genes))), rows, genes)
    second = pd.DataFrame(rng.normal(size=first.shape), rows, genes)
    if rng.random() < 0.5:
        second = second.iloc[rng.permutation(len(rows)), rng.permutation(len(genes))]
    elif rng.random() < 0.5:
        first, second = first.to_numpy(), second.to_numpy()
    return {"predicted": first, "observed": second}


def _aligned(arguments: Arguments) -> tuple[np.ndarray, np.ndarray]:
    first, second = arguments["predicted"], arguments["observed"]
    if isinstance(first, pd.DataFrame):
        second = second.reindex(index=first.index, columns=first.columns)
    return np.asarray(first), np.asarray(second)


def _metric(calculate: Callable[[np.ndarray, np.ndarray], float]) -> Callable[[Arguments, Any], None]:
    def check(arguments: Arguments, found: Any) -> None:
        expected = [calculate(a, b) for a, b in zip(*_aligned(arguments), strict=True)]
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)

    return check


# Networks


def _network(rng: np.random.Generator, folder: Path) -> Arguments:
    genes = _genes(rng)
    n = int(rng.integers(1, 12))
    pairs = {tuple(map(str, rng.choice(genes, size=2, replace=False))) for _ in range(n)}
    edges = [(a, b, float(rng.choice([-2, -1, 0.5, 1, 3]))) for a, b in sorted(pairs)]
    table = pd.DataFrame(edges, columns=["source", "target", "weight"])
    form = rng.choice(["table", "tf", "list", "dict", "csv", "tsv", "matrix"])
    given: Any = table
    if form == "tf":
        given = table.set_axis(["TF", "target", "weight"], axis=1)
    elif form == "list":
        given = edges
    elif form == "dict":
        given = {(a, b): w for a, b, w in edges}
    elif form in ("csv", "tsv"):
        given = folder / f"edges.{form}"
        table.to_csv(given, sep="," if form == "csv" else "\t", index=False)
    elif form == "matrix":
        place = {gene: i for i, gene in enumerate(genes)}
        ends = [place[a] for a, _, _ in edges], [place[b] for _, b, _ in edges]
        given = sparse.csr_matrix((table["weight"], ends), shape=(len(genes),) * 2)
    adata = ad.AnnData(np.zeros((1, len(genes)), dtype=np.float32), var=pd.DataFrame(index=genes))
    adata.uns["expected"] = {"edges": np.array([[a, b, str(w)] for a, b, w in edges], dtype=object)}
    return {"adata": adata, "edges": given, "directed": True, "scale": False}


def _check_network(arguments: Arguments, _: Any) -> None:
    adata = arguments["adata"]
    expected = pd.DataFrame(0.0, adata.var_names, adata.var_names)
    for a, b, w in adata.uns["expected"]["edges"]:
        expected.loc[a, b] = float(w)
    np.testing.assert_allclose(adata.varp["network"].toarray(), expected, rtol=1e-6)


# Effects


def _cells(rng: np.random.Generator, _: Path) -> Arguments:
    genes = [*_genes(rng), *[f"G{i}" for i in range(20)]]
    perturbed = [str(gene) for gene in rng.choice(genes, size=rng.integers(2, 5), replace=False)]
    control = str(rng.choice(["control", "NTC", "non-targeting", "ctrl"]))
    labels = [control] * int(rng.integers(8, 20))
    for gene in [*perturbed, "+".join(perturbed[:2])]:
        labels += [gene] * int(rng.integers(5, 12))
    counts = rng.poisson(rng.uniform(0.5, 8, size=len(genes)), size=(len(labels), len(genes))).astype(np.float32)
    counts[:, 0] += 1
    order = rng.permutation(len(labels))
    matrix = sparse.csr_matrix(counts[order]) if rng.random() < 0.5 else counts[order]
    obs = pd.DataFrame({"perturbation": np.array(labels, dtype=object)[order]}, [f"c{i}" for i in range(len(labels))])
    return {"adata": ad.AnnData(matrix, obs=obs, var=pd.DataFrame(index=genes)), "control": control}


def _check_effects(arguments: Arguments, found: ad.AnnData) -> None:
    adata = arguments["adata"]
    counts = adata.X.toarray() if sparse.issparse(adata.X) else np.asarray(adata.X)
    logged = pd.DataFrame(np.log1p(counts / counts.sum(axis=1, keepdims=True) * 1e4), columns=adata.var_names)
    means = logged.groupby(adata.obs["perturbation"].to_numpy()).mean()
    means.index = ["+".join(sorted(label.split("+"))) for label in means.index]
    expected = means - means.loc[arguments["control"]]
    np.testing.assert_allclose(found.to_df("lfc"), expected.loc[found.obs_names, found.var_names], rtol=1e-4, atol=1e-4)
    assert len(found) == len(expected) - 1


def _effects_table(rng: np.random.Generator, folder: Path) -> Arguments:
    genes = _genes(rng)
    rows = [str(name) for name in rng.choice(genes, size=rng.integers(2, 4), replace=False)]
    wide = pd.DataFrame(rng.normal(size=(len(rows), len(genes))).round(4), pd.Index(rows, name="perturbation"), genes)
    form = rng.choice(["wide", "long", "csv"])
    given: Any = wide.reset_index()
    if form == "long":
        given = wide.stack().rename("lfc").rename_axis(["perturbation", "gene"]).reset_index()
        given = given.sample(frac=1, random_state=int(rng.integers(1000)))
    elif form == "csv":
        given = folder / "effects.csv"
        wide.to_csv(given)
    base = [2, "e", 10][rng.integers(3)]
    _effects_table.expected = wide * {2: np.log(2), "e": 1, 10: np.log(10)}[base]  # type: ignore[attr-defined]
    return {"effects": given, "base": base}


def _check_read(_: Arguments, found: ad.AnnData) -> None:
    expected = _effects_table.expected  # type: ignore[attr-defined]
    assert set(found.obs_names) == set(expected.index)
    np.testing.assert_allclose(found.to_df("lfc"), expected.loc[found.obs_names, found.var_names], rtol=1e-5, atol=1e-6)


def _predictions(rng: np.random.Generator, _: Path) -> Arguments:
    genes = _genes(rng)
    names = [str(name) for name in rng.choice(genes, size=3, replace=False)]
    layers = {
        "attention": rng.dirichlet(np.ones(len(genes)), size=3),
        "predicted_lfc": rng.normal(size=(3, len(genes))),
    }
    obs = pd.DataFrame({"perturbation": pd.Categorical(names, categories=names)}, names)
    return {"adata": ad.AnnData(obs=obs, var=pd.DataFrame(index=genes), layers=layers)}


def _check_ranked(arguments: Arguments, _: Any) -> None:
    adata = arguments["adata"]
    for row, name in enumerate(adata.obs_names):
        order = np.argsort(-adata.layers["attention"][row], kind="stable")
        assert list(adata.uns["attention_genes"]["names"][name]) == [adata.var_names[i] for i in order]


def _renamed(rng: np.random.Generator, _: Path) -> Arguments:
    genes = _genes(rng)
    old = {f"OLD{i}": gene for i, gene in enumerate(genes)}
    there = [f"OLD{i}" if rng.random() < 0.5 else gene for i, gene in enumerate(genes)]
    there[0] = "OLD0"
    adata = ad.AnnData(np.zeros((1, len(there)), dtype=np.float32), var=pd.DataFrame(index=there))
    return {"data": adata, "aliases": old}


def _check_renamed(arguments: Arguments, _: Any) -> None:
    assert arguments["data"].var_names.tolist() == list(arguments["aliases"].values())


# Features, annotations, guides, paths


def _features(rng: np.random.Generator, folder: Path) -> Arguments:
    genes = _genes(rng)
    known = [str(gene) for gene in rng.choice(genes, size=rng.integers(3, len(genes) + 1), replace=False)]
    table = pd.DataFrame(rng.normal(size=(len(known), 3)), pd.Index(known, name="gene"), ["a", "b", "c"])
    given: Any = table
    if rng.random() < 0.5:
        given = folder / "features.csv"
        table.to_csv(given)
    adata = ad.AnnData(np.zeros((1, len(genes)), dtype=np.float32), var=pd.DataFrame(index=genes))
    adata.uns["expected"] = table
    return {"adata": adata, "features": given, "key_added": "x", "kind": "table"}


def _check_features(arguments: Arguments, _: Any) -> None:
    adata = arguments["adata"]
    expected = adata.uns["expected"].reindex(adata.var_names)
    np.testing.assert_allclose(adata.varm["x"], expected, rtol=1e-6)


def _annotations(rng: np.random.Generator, _: Path) -> Arguments:
    genes = _genes(rng, 8)
    sets = {f"t{i}": [str(g) for g in rng.choice(genes, size=rng.integers(2, 5), replace=False)] for i in range(6)}
    adata = ad.AnnData(np.zeros((1, len(genes)), dtype=np.float32), var=pd.DataFrame(index=genes))
    return {"adata": adata, "annotations": sets, "key_added": "x", "n_neighbors": 100, "min_similarity": 1e-6}


def _check_annotations(arguments: Arguments, _: Any) -> None:
    adata, sets = arguments["adata"], arguments["annotations"]
    member = pd.DataFrame(0.0, adata.var_names, list(sets))
    for term, names in sets.items():
        member.loc[names, term] = 1
    n = (member.sum(axis=1) > 0).sum()
    weights = (member * np.log(n / member.sum())).to_numpy()
    length = np.linalg.norm(weights, axis=1, keepdims=True)
    unit = np.divide(weights, length, out=np.zeros_like(weights), where=length > 0)
    expected = unit @ unit.T
    np.fill_diagonal(expected, 0)
    found = adata.varp["x"].toarray()
    assert ((found > 0) <= (expected > 1e-9)).all() and ((expected > 1e-5) <= (found > 0)).all()


def _guides(rng: np.random.Generator, _: Path) -> Arguments:
    genes = [gene for gene in _genes(rng) if "-" not in gene]
    calls = []
    for _i in range(int(rng.integers(20, 40))):
        gene = str(rng.choice([*genes, "non-targeting"]))
        calls.append(f"{gene}_{rng.integers(1, 4)}")
    calls += ["non-targeting_1", f"{genes[0]}_1"]
    obs = pd.DataFrame({"call": calls}, [f"c{i}" for i in range(len(calls))])
    adata = ad.AnnData(np.ones((len(calls), len(genes)), dtype=np.float32), obs=obs, var=pd.DataFrame(index=genes))
    return {"adata": adata, "calls_key": "call", "targets": r"(.+)_\d+", "key_added": "label", "min_cells": 1}


def _check_guides(arguments: Arguments, _: Any) -> None:
    obs = arguments["adata"].obs
    expected = obs["call"].str.rsplit("_", n=1).str[0].replace("non-targeting", "control")
    assert obs["label"].astype(str).tolist() == expected.tolist()


def _paths(rng: np.random.Generator, folder: Path) -> Arguments:
    arguments = _predictions(rng, folder)
    adata = arguments["adata"]
    n = adata.n_vars
    adata.varp["network"] = sparse.csr_matrix(np.triu(rng.random((n, n)) < 0.4, 1).astype(float))
    adata.varp["network"][0, 1] = 1.0
    return {
        "adata": adata,
        "perturbation": str(adata.obs_names[0]),
        "by": "hops",
        "max_length": int(rng.integers(1, 5)),
    }


def _check_paths(arguments: Arguments, found: nx.DiGraph) -> None:
    adata, start = arguments["adata"], arguments["perturbation"]
    whole = nx.from_scipy_sparse_array(adata.varp["network"], create_using=nx.DiGraph)
    place = {name: i for i, name in enumerate(adata.var_names)}
    steps = nx.single_source_shortest_path_length(whole, place[start], cutoff=arguments["max_length"])
    for name, node in found.nodes(data=True):
        assert node["step"] == steps.get(place[name], -1), name


def _chosen(rng: np.random.Generator, folder: Path) -> Arguments:
    return {**_cells(rng, folder), "n_top_genes": int(rng.integers(1, 15))}


def _check_chosen(arguments: Arguments, found: ad.AnnData) -> None:
    adata = arguments["adata"]
    perturbed = {g for label in adata.obs["perturbation"] for g in label.split("+")} - {arguments["control"]}
    assert perturbed <= set(found.var_names) <= set(adata.var_names)
    # scanpy keeps all that tie at the last place, and bins of means decide by the last digits: so no exact set is asked.
    assert found.var["highly_variable"].sum() >= min(arguments["n_top_genes"], adata.n_vars)
    assert set(found.var_names) == perturbed | set(found.var_names[found.var["highly_variable"]])
    np.testing.assert_array_equal(found[:, list(perturbed)].to_df(), adata[:, list(perturbed)].to_df())


# Pictures, embeddings, baselines, the model


def _picture(rng: np.random.Generator, folder: Path) -> Arguments:
    arguments = _predictions(rng, folder)
    names = list(arguments["adata"].obs_names)
    return {
        **arguments,
        "perturbations": names[: rng.integers(1, 4)],
        "n_genes": int(rng.integers(1, 5)),
        "show": False,
    }


def _check_picture(arguments: Arguments, found: Any) -> None:
    adata, n = arguments["adata"], arguments["n_genes"]
    chosen = adata[arguments["perturbations"]].layers["attention"]
    top = {adata.var_names[i] for row in chosen for i in np.argsort(-row, kind="stable")[:n]}
    assert {label.get_text() for label in found.get_yticklabels()} == top
    assert [label.get_text() for label in found.get_xticklabels()] == arguments["perturbations"]


def _embedding(rng: np.random.Generator, folder: Path) -> Arguments:
    genes = _genes(rng)
    table = pd.DataFrame(rng.normal(size=(len(genes), 4)).astype(np.float32), genes, [f"d{i}" for i in range(4)])
    form = str(rng.choice(["csv", "npz", "parquet", "json"]))
    path = folder / f"vectors.{form}"
    if form == "csv":
        table.rename_axis("gene").to_csv(path)
    elif form == "npz":
        np.savez(path, names=np.array(genes), values=table.to_numpy())
    elif form == "parquet":
        table.to_parquet(path)
    else:
        path.write_text(json.dumps({gene: row.tolist() for gene, row in zip(genes, table.to_numpy(), strict=True)}))
    _embedding.expected = table  # type: ignore[attr-defined]
    return {"path": path, "format": "table" if rng.random() < 0.5 else None}


def _check_embedding(_: Arguments, found: pd.DataFrame) -> None:
    expected = _embedding.expected  # type: ignore[attr-defined]
    assert found.index.tolist() == expected.index.tolist()
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def _additive(effects: ad.AnnData, perturbations: Any, layer: str = "lfc", sep: str = "+") -> ad.AnnData:
    return scapp.baselines.Additive().fit(effects, layer=layer, sep=sep).predict(perturbations)


def _effects(rng: np.random.Generator, _: Path) -> Arguments:
    genes = _genes(rng)
    labels = [str(gene) for gene in rng.permutation(genes)[: rng.integers(3, len(genes))]]
    obs = pd.DataFrame({"perturbation": labels}, labels)
    lfc = rng.normal(size=(len(labels), len(genes)))
    effects = ad.AnnData(obs=obs, var=pd.DataFrame(index=genes), layers={"lfc": lfc})
    pairs = ["+".join(map(str, rng.choice(labels, size=2, replace=False))) for _i in range(3)]
    return {"effects": effects, "perturbations": [*dict.fromkeys(pairs), labels[0]]}


def _check_additive(arguments: Arguments, found: ad.AnnData) -> None:
    lfc = arguments["effects"].to_df("lfc")
    expected = [lfc.loc[label.split("+")].sum() for label in arguments["perturbations"]]
    np.testing.assert_allclose(found.layers["predicted_lfc"], expected, rtol=1e-5, atol=1e-6)


@cache
def _model() -> scapp.model.APP:
    """Train a model on simulated effects, once."""
    cells, truth = scapp.datasets.simulated_perturb_seq(n_genes=80, n_regulators=24, n_singles=20, n_doubles=30, seed=0)
    effects = scapp.pp.pseudobulk(cells)
    scapp.pp.add_network(effects, truth.network)
    scapp.model.APP.setup_anndata(effects)
    model = scapp.model.APP(effects)
    model.train(max_epochs=2, enable_progress_bar=False)
    return model


def _predict(
    perturbations: Any, control_mean: Any = None, kind: Any = None, change_threshold: Any = None, per_cell: Any = False
) -> ad.AnnData:
    options = {"control_mean": control_mean, "kind": kind, "change_threshold": change_threshold, "per_cell": per_cell}
    return _model().predict(perturbations, **options)


def _asked(rng: np.random.Generator, _: Path) -> Arguments:
    genes = _model().informed_genes
    labels = {"+".join(sorted(map(str, rng.choice(genes, size=rng.integers(1, 4), replace=False)))) for _i in range(5)}
    return {"perturbations": sorted(labels)}


def _check_predicted(arguments: Arguments, found: ad.AnnData) -> None:
    label, gene = arguments["perturbations"][0], _model().measured_genes[3]
    alone = _model().predict([label]).to_df("predicted_lfc").loc[label]
    np.testing.assert_allclose(found.to_df("predicted_lfc").loc[label], alone, atol=1e-5)
    parts = scapp.tl.explain(_model(), label, gene)
    np.testing.assert_allclose(alone[gene], parts["contribution"].sum(), atol=1e-5)
    assert (found.layers["predicted_lfc_std"] > 0).all()


CALLS = [
    Call("attention_heatmap", scapp.pl.attention_heatmap, _picture, _check_picture),
    Call("read_embedding", scapp.resources.read_embedding, _embedding, _check_embedding),
    Call("Additive", _additive, _effects, _check_additive),
    Call("APP.predict", _predict, _asked, _check_predicted),
    Call("l2", scapp.metrics.l2, _tables, _metric(lambda a, b: float(np.linalg.norm(a - b)))),
    Call("rmse", scapp.metrics.rmse, _tables, _metric(lambda a, b: float(np.sqrt(np.mean((a - b) ** 2))))),
    Call("mae", scapp.metrics.mae, _tables, _metric(lambda a, b: float(np.abs(a - b).mean()))),
    Call("pearson_delta", scapp.metrics.pearson_delta, _tables, _metric(lambda a, b: stats.pearsonr(a, b)[0])),
    Call("cosine", scapp.metrics.cosine, _tables, _metric(lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b))),
    Call("add_network", scapp.pp.add_network, _network, _check_network),
    Call("pseudobulk", scapp.pp.pseudobulk, _cells, _check_effects),
    Call("read_effects", scapp.pp.read_effects, _effects_table, _check_read),
    Call("rank_attention_genes", scapp.tl.rank_attention_genes, _predictions, _check_ranked),
    Call("add_gene_features", scapp.pp.add_gene_features, _features, _check_features),
    Call("similarity_network", scapp.pp.similarity_network, _annotations, _check_annotations),
    Call("guides_to_perturbations", scapp.pp.guides_to_perturbations, _guides, _check_guides),
    Call("attention_subnetwork", scapp.tl.attention_subnetwork, _paths, _check_paths),
    Call("select_genes", scapp.pp.select_genes, _chosen, _check_chosen),
    Call("harmonize_genes", scapp.pp.harmonize_genes, _renamed, _check_renamed),
]
