"""Arguments of another type are refused by name, before anything happens, by every public function."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Sequence
from typing import Literal

import anndata as ad
import mudata as md
import networkx as nx
import numpy as np
import pandas as pd
import pytest

import scapp
from scapp._checked import checked

ROOMS = ["pp", "tl", "pl", "metrics", "resources", "datasets"]
FUNCTIONS = {
    f"{room}.{name}": function
    for room in ROOMS
    for name in importlib.import_module(f"scapp.{room}").__all__
    if inspect.isfunction(function := getattr(importlib.import_module(f"scapp.{room}"), name))
}
SIMPLE = {
    "bool": ["no", "yes", 1, 0.0, [True]],
    "int": [True, "10", 2.5, [3]],
    "float": [True, "0.5", np.nan, [0.5]],
    "str": [3, True, ["a"], {}],
}
TAKE_ADATA = [name for name, f in FUNCTIONS.items() if inspect.signature(f).parameters.get("adata", inspect.Parameter(
    "x", inspect.Parameter.POSITIONAL_ONLY, annotation="")).annotation == "AnnData"]  # fmt: skip


def required(function: Callable) -> dict:
    """Arguments of the right types, so that the one that is wrong is named."""
    right = {
        "AnnData": ad.AnnData(np.ones((2, 2), dtype=np.float32)),
        "AnnData | nx.DiGraph": nx.DiGraph(),
        "AnnData | pd.DataFrame": pd.DataFrame(),
        "pd.DataFrame | PathLike": pd.DataFrame(),
        "pd.DataFrame": pd.DataFrame(),
        "dict[str, pd.DataFrame]": {},
        "str": "x",
        "PathLike": "x",
        "Sequence[str]": ["x"],
        "Iterable[str]": ["x"],
        "int": 1,
        "What": "network",
        "APP": type("APP", (), {})(),
    }
    return {
        name: right.get(str(p.annotation))
        for name, p in inspect.signature(function).parameters.items()
        if p.default is inspect.Parameter.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }


def options() -> list[tuple[str, str, object]]:
    found: list[tuple[str, str, object]] = []
    for name, function in FUNCTIONS.items():
        for argument, parameter in inspect.signature(function).parameters.items():
            kind = str(parameter.annotation).removesuffix(" | None")
            if kind in SIMPLE and parameter.default is not inspect.Parameter.empty:
                found += [(name, argument, value) for value in SIMPLE[kind]]
    return found


# Whole numbers that these read themselves, with a message of their own.
OWN = {("tl.screen", "n_best"), ("resources.string", "min_score"), ("pp.pseudobulk", "batch_key"),
       ("pp.pseudobulk", "context_key")}  # fmt: skip


def test_there_are_options_enough():
    assert len({(name, argument) for name, argument, _ in options()}) > 150


@pytest.mark.parametrize(("name", "argument", "value"), options())
def test_an_option_of_another_type_is_refused_and_not_taken_for_what_it_resembles(name, argument, value):
    if (name, argument) in OWN:
        return
    function = FUNCTIONS[name]
    given = required(function)
    with pytest.raises(
        (TypeError, ValueError), match=rf"^{argument} of scapp\.{name} must be .*found {type(value).__name__}"
    ) as raised:
        function(**given, **{argument: value})
    assert str(raised.value).count("\n") <= 2


@pytest.mark.parametrize("name", TAKE_ADATA)
def test_what_is_often_given_in_place_of_an_anndata_is_named_with_the_mend(name):
    table = pd.DataFrame(np.ones((2, 2)))
    wrong = {
        "str 'cells.h5ad'.*read_h5ad": "cells.h5ad",
        "None.*return None": None,
        "DataFrame.*AnnData\\(table\\)": table,
        "MuData.*mdata\\['rna'\\]": md.MuData({"rna": ad.AnnData(np.ones((2, 2), dtype=np.float32))}),
        "ndarray.*AnnData\\(X": table.to_numpy(),
    }
    for message, value in wrong.items():
        given = required(FUNCTIONS[name]) | {"adata": value}
        with pytest.raises(
            TypeError, match=f"(?s)adata of scapp\\.{name} must be an AnnData, found {message}"
        ) as raised:
            FUNCTIONS[name](**given)
        assert str(raised.value).count("\n") <= 2


def test_a_model_is_not_set_up_with_or_made_of_something_else():
    for value in ("cells.h5ad", None, pd.DataFrame(), md.MuData({})):
        with pytest.raises(TypeError, match="adata of scapp.model.APP.setup_anndata must be an AnnData, found"):
            scapp.model.APP.setup_anndata(value)
    with pytest.raises(TypeError, match="adata of scapp.model.APP must be an AnnData, a MuData or None"):
        scapp.model.APP("cells.h5ad")


def test_numbers_of_numpy_lists_of_any_kind_and_named_choices_pass():
    @checked
    def f(a: int, b: float | None, c: bool, d: str | Sequence[str] | None, e: Literal["x", "y"]):
        return a, b, c, d, e

    for a, b, c, d in (
        (np.int8(3), np.float32(0.5), np.True_, pd.Index(["a"])),
        (3, 1, False, ("a", "b")),
        (0, None, True, None),
    ):
        assert f(a, b, c, d, e="x")[1] is b
    with pytest.raises(TypeError, match=r"e of .*f must be 'x' or 'y', found int 3"):
        f(1, 1, True, "a", 3)
    with pytest.raises(TypeError, match="missing .* required"):
        f(1)  # type: ignore[call-arg]


def effects() -> ad.AnnData:
    lfc = np.array([[0.0, 1.0, -1.0], [0.5, 0.0, 0.2]], dtype=np.float32)
    obs = pd.DataFrame({"perturbation": ["KLF1", "GATA1"]}, index=["KLF1", "GATA1"])
    return ad.AnnData(lfc, obs=obs, var=pd.DataFrame(index=["KLF1", "GATA1", "HBB"]), layers={"lfc": lfc})


@pytest.mark.parametrize("weight", [1e39, -1e300, 3e38])
def test_weights_beyond_single_precision_are_refused_and_do_not_become_infinite(weight, assert_same):
    adata = effects()
    before = adata.copy()
    edges = pd.DataFrame({"source": ["KLF1", "GATA1"], "target": ["HBB", "HBB"], "weight": [weight, 1.0]})
    with pytest.raises(ValueError, match=r"1 of 2 edges have a weight beyond 1e\+30.*KLF1 -> HBB"):
        scapp.pp.add_network(adata, edges)
    assert_same(adata, before)


@pytest.mark.parametrize("value", [1e300, -1e39, 1e20])
def test_features_beyond_single_precision_are_refused_and_do_not_become_nan(value, assert_same):
    adata = effects()
    before = adata.copy()
    for n in (None, 1):
        features = pd.DataFrame({"a": [value, 1.0, 2.0], "b": [1.0, 2.0, 4.0]}, index=["KLF1", "GATA1", "HBB"])
        with pytest.raises(ValueError, match=r"1 values of the feature table are beyond 1e\+15, in the genes KLF1"):
            scapp.pp.add_gene_features(adata, features, key_added="x", n_components=n)
    assert_same(adata, before)
