"""What the tests of preprocessing share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from scipy import sparse


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
