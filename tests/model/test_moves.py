"""Models and predictions move between versions of scapp and of other packages."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Written by `python tests/exchange.py write FOLDER` at each release, without the data of the model. That of a version that is
# not released yet may be renewed; those of released versions stay as they are, and are read by every later version.
SAVED = sorted(path for path in (ROOT / "tests" / "saved").iterdir() if path.is_dir())


def test_the_present_version_has_saved_a_model():
    assert SAVED


@pytest.mark.parametrize("folder", SAVED, ids=lambda folder: folder.name)
def test_a_model_saved_by_an_earlier_version_predicts_the_same(folder, tmp_path):
    exchange = runpy.run_path(str(ROOT / "tests" / "exchange.py"))
    shutil.copytree(folder, tmp_path / folder.name)
    exchange["read"](tmp_path / folder.name)
