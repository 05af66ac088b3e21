"""What all tests share."""

from __future__ import annotations

import importlib.util
import logging
import os
import runpy
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# Pictures are drawn without a screen; must be set before anything imports pyplot.
os.environ.setdefault("MPLBACKEND", "agg")
# Tests run side by side; threads that wait for each other's cores take many times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "NUMBA_NUM_THREADS", "1"
)  # its first parallel loop sets the threads of OpenMP, and so of torch, to this

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import settings
from scipy import sparse

import scapp
from scapp import benchmark

# The first example of a property may load a library, and a busy machine takes its time: neither is a failure.
settings.register_profile("scapp", deadline=None)
settings.load_profile("scapp")

# The default of mudata 0.3 warns that it will change; 0.4 has changed it, and has no such option.
if not hasattr(mudata, "set_options"):
    mudata.set_options = lambda **_: nullcontext()


# One file for each thing that depends on the versions of other packages: `.ci/smoke` runs these with the newest and the lowest.
SMOKE = {
    "metrics/test_cell_eval2.py",
    "metrics/test_scperteval.py",
    "model/test_moves.py",
    "model/test_mudata.py",
    "model/test_setup.py",
    "pl/test_pictures.py",
    "pp/test_guides.py",
    "pp/test_pseudobulk.py",
    "test_pertpy.py",
}
# pertpy is in the newest set only; where `.ci/smoke` names this file and pertpy is missing, pytest fails.
collect_ignore = [] if importlib.util.find_spec("pertpy") else ["test_pertpy.py"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what reads real data, and what is run with the newest and the lowest versions."""
    tests = Path(__file__).parent
    for item in items:
        if item.path.is_relative_to(tests) and item.path.relative_to(tests).as_posix() in SMOKE:
            item.add_marker("smoke")
        if {"shared_data", "shared_cases"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("data")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets: ``$SCAPP_TEST_DATA``, or ``../shared/data`` beside the repository.

    Tests that need it are skipped where it is absent, or fail if ``SCAPP_REQUIRE_DATA`` is set, as it is in CI.
    """
    default = Path(__file__).parents[1] / ".." / "shared" / "data"
    folder = Path(os.environ.get("SCAPP_TEST_DATA") or default).resolve()
    if folder.is_dir():
        return folder
    reason = f"no real data in {folder}: put it there, or name its folder in SCAPP_TEST_DATA"
    if os.environ.get("SCAPP_REQUIRE_DATA"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_cases(shared_data: Path) -> Path:
    """Folder of small inputs in the formats of public files: ``$SCAPP_TEST_CASES``, or ``cases`` beside the real data."""
    folder = Path(os.environ.get("SCAPP_TEST_CASES") or shared_data.parent / "cases").resolve()
    if folder.is_dir():
        return folder
    reason = f"no cases in {folder}: put them there, or name their folder in SCAPP_TEST_CASES"
    if os.environ.get("SCAPP_REQUIRE_DATA"):
        pytest.fail(reason)
    pytest.skip(reason)


@dataclass(frozen=True)
class HeldOut:
    """A split as effects: to train on, held out, and the indices of the scored genes."""

    seed: int
    train: ad.AnnData
    test: ad.AnnData
    scored: np.ndarray


def _held_out(task: benchmark.Task) -> list[HeldOut]:
    return [HeldOut(s.seed, task.training(s), task.effects[list(s.test)].copy(), task.scored) for s in task.splits]


@pytest.fixture(scope="session")
def tasks() -> SimpleNamespace:
    """The measured tasks of `scapp.benchmark`, with their splits as effects."""
    return SimpleNamespace(
        doubles_task=lambda folder: _held_out(benchmark.norman_doubles(folder)),
        singles_task=lambda folder: _held_out(benchmark.k562_singles(folder)),
        norman_effects=lambda folder: benchmark.norman_doubles(folder).effects,
        replogle_effects=lambda folder: benchmark.k562_singles(folder).effects,
    )


@pytest.fixture(autouse=True)
def _messages_reach_caplog(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let `caplog` see what scapp logs, whether or not scapp shows its messages by itself; no test silences those after it."""
    loggers = {logger: logger.level for logger in (logging.getLogger("scapp"), logging.getLogger("scvi"))}
    monkeypatch.setattr(scapp.settings, "_verbosity", scapp.settings._verbosity)
    monkeypatch.setattr(logging.getLogger("scapp"), "propagate", True)
    logging.getLogger("scapp").setLevel(logging.INFO)
    yield
    for logger, level in loggers.items():
        logger.setLevel(level)


def _assert_same(found: Any, expected: Any) -> None:
    if isinstance(expected, ad.AnnData):
        for slot in ("X", "obs", "var", "uns", "obsm", "obsp", "varm", "varp", "layers"):
            _assert_same(getattr(found, slot), getattr(expected, slot))
    elif isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected, check_index_type=False, check_categorical=False)
    elif sparse.issparse(expected):
        assert found.format == expected.format
        np.testing.assert_array_equal(found.toarray(), expected.toarray())
    elif hasattr(expected, "keys"):
        assert set(found) == set(expected)
        for key in expected:
            _assert_same(found[key], expected[key])
    elif expected is not None:
        assert np.asarray(found).dtype == np.asarray(expected).dtype
        np.testing.assert_array_equal(found, expected)
    else:
        assert found is None


@pytest.fixture
def assert_same() -> Callable[[Any, Any], None]:
    """Compare two AnnData, or what they hold, slot by slot and value by value."""
    return _assert_same


@pytest.fixture(scope="session")
def planted() -> pd.DataFrame:
    """Scores of a benchmark with known ratios."""
    return runpy.run_path(str(Path(__file__).with_name("planted_scores.py")))["planted_scores"]()


@pytest.fixture(scope="session")
def planted_ratios() -> dict[str, tuple[str, float | None, float | None]]:
    """Group and ratios of each planted method."""
    return runpy.run_path(str(Path(__file__).with_name("planted_scores.py")))["PLANTED"]
