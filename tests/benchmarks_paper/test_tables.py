"""Tables for readers say what the numbers are, in Markdown that can be parsed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from benchmarks.paper.tables import (
    Table,
    calibration_table,
    decimals,
    interval,
    methods_table,
    metrics_table,
    number,
    over_splits,
    p_value,
    percent,
    split_table,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.8276, "0.828"),
        (12.94, "12.9"),
        (780000, "780,000"),
        (0, "0"),
        (np.nan, ""),
        (0.00016, "0.00016"),
        (-3.14159, "-3.14"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


def test_shares_p_values_and_intervals():
    assert percent(0.985) == "98 %"
    assert p_value(0.0004) == "< 0.001"
    assert p_value(0.0123) == "0.012"
    assert p_value(float("nan")) == ""
    assert interval(0.8, 0.9) == "0.800 to 0.900"
    assert interval(float("nan"), 1.0) == ""


def test_best_is_bold_also_where_two_read_the_same():
    frame = pd.DataFrame({"method": ["a", "b", "c"], "L2": [0.80001, 0.80004, 0.9], "r": [0.1, 0.5, np.nan]})
    table = Table("t", "T", frame, formats={"L2": decimals(3)}, best={"L2": "low", "r": "high"})
    lines = table.markdown().splitlines()
    assert lines[:2] == ["| method | L2 | r |", "|---|---:|---:|"]
    assert lines[2:] == ["| a | **0.800** | 0.100 |", "| b | **0.800** | **0.500** |", "| c | 0.900 |  |"]


def test_a_single_method_is_not_called_best():
    table = Table("t", "T", pd.DataFrame({"method": ["a"], "L2": [1.0]}), best={"L2": "low"})
    assert "**" not in table.markdown()


def test_names_cannot_break_the_markup():
    table = Table("t", "A & B", pd.DataFrame({"a|b": ["x|y", "<script>", "*n*"], "v": [1.0, 2.0, 3.0]}), note="1 < 2")
    assert all(line.replace("\\|", "").count("|") == 3 for line in table.markdown().splitlines())
    assert "\\<script>" in table.markdown()


def test_numbers_of_a_column_have_the_same_decimals():
    text = Table("t", "T", pd.DataFrame({"m": list("abc"), "L2": [9.96, 10.04, 14.5]})).markdown()
    assert [line.split("|")[2].strip() for line in text.splitlines()[2:]] == ["10.0", "10.0", "14.5"]


def test_methods_table_is_in_order_with_intervals_and_wins(planted):
    frame = methods_table(planted, "norman_doubles", "additive").frame.set_index("method")
    assert frame["ratio to additive"].is_monotonic_increasing
    assert frame.loc["APP", "better on"] == 1
    assert np.isnan(frame.loc["additive", "better on"])
    assert len(frame.loc["APP", "ratio by split"].split()) == 3


def test_metrics_table_says_what_is_not_defined(planted):
    table = metrics_table(planted, "norman_doubles")
    assert np.isnan(table.frame.set_index("method").loc["no change", "Pearson delta"])
    assert "Pearson delta: not defined" in table.note
    assert "coverage" not in " ".join(table.frame.columns)  # neither way is better


def test_tables_of_what_was_not_measured_are_none(planted):
    only = planted[planted["metric"] == "l2"]
    assert split_table(only, ("gi_auprc",), "gi", "GI") is None
    assert calibration_table(pd.DataFrame()) is None


def test_costs_are_means_over_splits_with_their_range(planted):
    row = over_splits(planted, ["fit_seconds"]).set_index(["task", "method"]).loc[("norman_doubles", "APP")]
    assert (row["mean"], row["low"], row["high"], row["n_seeds"]) == (6, 3, 9, 3)
