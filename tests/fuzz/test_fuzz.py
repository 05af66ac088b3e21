"""Random calls: no wrong number, no changed input, no crash or hang, and errors that are ours.

``SCAPP_FUZZ_CALLS`` is the number of calls of each kind (300 by default), ``SCAPP_FUZZ_SEED`` the seed.
"""

from __future__ import annotations

import copy
import importlib.util
import inspect
import linecache
import os
import signal
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

import scapp

_SPEC = importlib.util.spec_from_file_location("scapp_fuzz_calls", Path(__file__).with_name("calls.py"))
assert _SPEC is not None and _SPEC.loader is not None
calls = importlib.util.module_from_spec(_SPEC)
__import__("sys").modules["scapp_fuzz_calls"] = calls
_SPEC.loader.exec_module(calls)

N = int(os.environ.get("SCAPP_FUZZ_CALLS", "300"))
SEED = int(os.environ.get("SCAPP_FUZZ_SEED", "0"))
SECONDS = 30
SOURCE = str(Path(scapp.__file__).parent)
# Shares of calls whose error comes from inside another library, at most.
PLAUSIBLE, WRONG = 0.005, 0.02

WRONG_VALUES: list[Any] = [
    None, True, -1, 0, 10**9, 2.5, np.nan, np.inf, "", "no", "KLF1", "no such file.csv", b"bytes", [], ["KLF1"], [1, 2], {}, {"a": 1},
    {"a": ["b"]}, (), object(), np.zeros(3), np.zeros((2, 2)), np.array(["a", "b"]), pd.DataFrame(), pd.DataFrame({"a": [1.0]}),
    pd.DataFrame({"source": ["x"], "target": ["y"]}), pd.Series([1.0, 2.0]), sparse.csr_matrix((2, 2)), ad.AnnData(np.zeros((2, 2))),
    Path("nowhere"), print, float,
]  # fmt: skip

pytestmark = pytest.mark.slow


class Hang(Exception):
    pass


@contextmanager
def within(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def is_ours(error: BaseException) -> bool:
    """Whether an error was raised on purpose: by a raise statement of scapp, and of a type for the user."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    line = linecache.getline(last.filename, last.lineno or 0).strip()
    named = "argument" in str(error) and isinstance(error, TypeError)  # Python's own, of a missing or unknown argument
    return named or (last.filename.startswith(SOURCE) and line.startswith("raise"))


def same(first: Any, second: Any) -> bool:
    """Whether an argument is as it was."""
    if isinstance(first, ad.AnnData):
        slots = ("obs", "var", "X", "layers", "obsm", "varm", "varp", "uns")
        return all(same(getattr(first, slot), getattr(second, slot)) for slot in slots)
    if isinstance(first, pd.DataFrame | pd.Series):
        return first.equals(second)
    if sparse.issparse(first):
        return first.shape == second.shape and (first != second).nnz == 0
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and (
            first.dtype == object or np.array_equal(first, second, equal_nan=first.dtype.kind == "f")
        )
    if hasattr(first, "keys"):
        return list(first) == list(second) and all(same(first[key], second[key]) for key in first)
    return True


def outcome(call: Any, arguments: dict[str, Any]) -> tuple[str, str]:
    """The class of one call, and what is known of it: right, wrong number, ours, inside, changed, hang."""
    before = copy.deepcopy({name: value for name, value in arguments.items() if name != "path"})
    try:
        with within(SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = call.function(**arguments)
    except Hang as error:
        return "hang", str(error)
    except Exception as error:  # noqa: BLE001  every error is classed
        changed = [name for name, value in before.items() if not same(value, arguments[name])]
        if changed:
            return "changed", f"{changed} after {error!r}"
        return ("ours" if is_ours(error) else "inside"), f"{type(error).__name__}: {str(error)[:200]}"
    finally:
        plt.close("all")
    others = [name for name in before if name not in ("adata", "data")]  # these are written into
    changed = [name for name in others if not same(before[name], arguments[name])]
    if changed:
        return "changed", str(changed)
    return "passed", repr(type(found))


@pytest.mark.parametrize("call", calls.CALLS, ids=lambda call: call.name)
def test_plausible_calls_give_the_right_numbers(call, tmp_path):
    rng = np.random.default_rng([SEED, *call.name.encode()])
    counts: Counter[str] = Counter()
    told = []
    n = max(N // 5, 10)
    for _ in range(n):
        arguments = call.arguments(rng, tmp_path)
        kept = copy.copy(arguments)
        found: list[Any] = []
        wrapped = calls.Call(
            call.name,
            lambda _f=call.function, _k=found, **options: _k.append(_f(**options)),
            call.arguments,
            call.check,
        )
        kind, message = outcome(wrapped, arguments)
        if kind == "passed":
            try:
                call.check(kept, found[0])
            except AssertionError as error:
                kind, message = "wrong number", str(error)[:400]
        counts[kind] += 1
        if kind != "passed":
            told.append(f"{kind}: {message}")
    assert counts["passed"] >= (1 - PLAUSIBLE) * n, told[:5]
    assert not {"wrong number", "changed", "hang"} & set(counts), told[:5]


def test_wrong_arguments_are_errors_of_ours_and_change_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(SEED)
    counts: Counter[str] = Counter()
    told = []
    for _ in range(N):
        call = calls.CALLS[rng.integers(len(calls.CALLS))]
        arguments = call.arguments(rng, tmp_path)
        names = [
            name
            for name, parameter in inspect.signature(call.function).parameters.items()
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        ]
        name, value = names[rng.integers(len(names))], WRONG_VALUES[rng.integers(len(WRONG_VALUES))]
        kind, message = outcome(call, arguments | {name: value})
        counts[kind] += 1
        if kind not in ("passed", "ours"):
            told.append(f"{kind}: {call.name}({name}={value!r:.60}): {message}")
    print(dict(counts), *told, sep="\n")
    assert not {"changed", "hang"} & set(counts), told[:20]
    assert counts["inside"] <= WRONG * N, told[:20]
