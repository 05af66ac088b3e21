"""Tables are compared by the names of their rows and columns, not by position."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from scapp import metrics

PERTURBATIONS = ["KLF1", "GATA1", "CEBPA", "KLF1+CEBPA"]
GENES = ["HBB", "ALAS2", "SPI1", "MYC", "TAL1"]
rng = np.random.default_rng(0)


def table(values: np.ndarray | None = None) -> pd.DataFrame:
    values = rng.normal(size=(4, 5)) if values is None else values
    return pd.DataFrame(values, index=PERTURBATIONS, columns=GENES)


PREDICTED, OBSERVED, ADDITIVE, OTHERS = table(), table(), table(), table()
STD, CHANCE, CHANGED = table(rng.random((4, 5)) + 0.1), table(rng.random((4, 5))), table(rng.random((4, 5)) < 0.5)
MEAN, MASK = OTHERS.mean(), pd.Series([True, False, True, True, True], index=GENES)
CALLS = {
    "l2": ((PREDICTED, OBSERVED), {}),
    "rmse": ((PREDICTED, OBSERVED), {"genes": MASK}),
    "mae": ((PREDICTED, OBSERVED), {}),
    "pearson_delta": ((PREDICTED, OBSERVED), {"reference": MEAN, "genes": MASK}),
    "cosine": ((PREDICTED, OBSERVED), {}),
    "perturbation_discrimination": (
        (PREDICTED, OBSERVED),
        {"candidates": OTHERS.set_axis(list("abcd")), "exclude": CHANGED, "genes": MASK},
    ),
    "rank": ((PREDICTED, OBSERVED), {"exclude": CHANGED}),
    "kept_spread": ((PREDICTED, OBSERVED), {}),
    "energy_distance": ((PREDICTED, OTHERS.set_axis(list("abcd"))), {"genes": MASK}),
    "effect_weights": ((OBSERVED, STD), {"reference": MEAN}),
    "weighted_mse": ((PREDICTED, OBSERVED, CHANCE), {}),
    "weighted_r2": ((PREDICTED, OBSERVED, CHANCE.iloc[0]), {"reference": MEAN}),
    "top_k_overlap": ((PREDICTED, OBSERVED, 2), {}),
    "direction_match": ((PREDICTED, OBSERVED), {"k": 3}),
    "hit_discovery_recall": ((CHANCE, OBSERVED), {"threshold": 0.5, "budget": 0.5}),
    "changed_genes_auprc": ((CHANCE, CHANGED), {}),
    "changed_genes_precision_recall": ((CHANCE, CHANGED), {"threshold": 0.4}),
    "interaction_auprc": ((PREDICTED, OBSERVED, ADDITIVE), {"singles": (OTHERS, STD), "share": 0.3}),
    "interaction_classes": ((OBSERVED, ADDITIVE), {"singles": (OTHERS, STD), "share": 0.3}),
    "interaction_sign_match": ((PREDICTED, OBSERVED, ADDITIVE), {"share": 0.5}),
    "interaction_tpr_at_fdp": ((PREDICTED, OBSERVED, ADDITIVE), {"share": 0.3}),
    "interval_coverage": ((PREDICTED, STD, OBSERVED), {}),
    "spread_error_spearman": ((STD, PREDICTED, OBSERVED), {}),
    "reliability": ((CHANCE, CHANGED), {"n_bins": 3}),
    "expected_calibration_error": ((CHANCE, CHANGED), {"n_bins": 3}),
    "noise_ceiling": ((PREDICTED, OBSERVED), {}),
    "calibrated_score": ((STD["HBB"], STD["ALAS2"] + 3, pd.Series(0.0, PERTURBATIONS)), {}),
    "explained_gap": ((pd.Series(1.5, PERTURBATIONS), STD["HBB"] + 3, STD["ALAS2"]), {}),
}


def reordered(value: object) -> object:
    """The same table with its rows and columns the other way round."""
    if isinstance(value, pd.DataFrame):
        return value.iloc[::-1, [3, 0, 4, 1, 2]]
    if isinstance(value, pd.Series):
        return value.iloc[::-1]
    return tuple(map(reordered, value)) if isinstance(value, tuple) else value


def test_every_metric_of_several_arrays_is_asked():
    assert set(CALLS) == set(metrics.__all__) - {"top_expressed_genes"}


@pytest.mark.parametrize("name", CALLS)
def test_another_order_of_rows_and_columns_gives_the_same_numbers(name):
    metric, (args, options) = getattr(metrics, name), CALLS[name]
    plain = [
        {k: v.to_numpy() if hasattr(v, "to_numpy") else v for k, v in options.items()},
        [v.to_numpy() if hasattr(v, "to_numpy") else v for v in args],
    ]
    if "singles" in options:
        plain[0]["singles"] = tuple(single.to_numpy() for single in options["singles"])
    expected = metric(*plain[1], **plain[0])
    first, *others = args
    found = metric(first, *map(reordered, others), **{k: reordered(v) for k, v in options.items()})
    if isinstance(expected, pd.DataFrame):
        pd.testing.assert_frame_equal(found, expected)
    elif np.asarray(expected).dtype.kind == "U":
        np.testing.assert_array_equal(found, expected)
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (OBSERVED.rename(columns={"HBB": "HBG1"}), r"1 genes are in predicted only \(HBB\), 1 in observed only \(HBG1\)"),
        (OBSERVED.drop(index="GATA1"), r"1 perturbations are in predicted only \(GATA1\)"),
        (OBSERVED.T, "labels of predicted and observed differ"),
        (OBSERVED.reset_index(drop=True), r"4 perturbations are in predicted only.*\.to_numpy\(\)"),
    ],
)  # fmt: skip
def test_tables_of_other_names_are_refused_and_not_compared_by_position(second, message):
    for name in ("l2", "pearson_delta", "rank"):
        with pytest.raises(ValueError, match=f"(?s){message}") as raised:
            getattr(metrics, name)(PREDICTED, second)
        assert str(raised.value).count("\n") <= 2


def test_names_that_occur_twice_are_taken_in_the_same_order_only():
    twice = [*GENES[:4], "HBB"]
    first, second = PREDICTED.set_axis(twice, axis=1), OBSERVED.set_axis(twice, axis=1)
    np.testing.assert_array_equal(metrics.l2(first, second), metrics.l2(PREDICTED, OBSERVED))
    with pytest.raises(ValueError, match="more than once.*HBB"):
        metrics.l2(first, second.iloc[:, ::-1])


def test_a_table_beside_an_array_is_taken_by_position_and_tables_are_not_changed():
    before = OBSERVED.copy()
    expected = metrics.l2(PREDICTED.to_numpy(), OBSERVED.to_numpy())
    np.testing.assert_array_equal(metrics.l2(PREDICTED.to_numpy(), OBSERVED), expected)
    np.testing.assert_allclose(metrics.l2(predicted=PREDICTED, observed=OBSERVED.iloc[::-1]), expected)
    pd.testing.assert_frame_equal(OBSERVED, before)


def test_one_profile_is_aligned_by_gene():
    first, second = PREDICTED.loc["KLF1"], OBSERVED.loc["KLF1"]
    assert metrics.l2(first, second.iloc[::-1]) == pytest.approx(metrics.l2(first.to_numpy(), second.to_numpy()))
    with pytest.raises(ValueError, match="genes are in predicted only"):
        metrics.l2(first, second.rename({"HBB": "HBG1"}))
