"""Tables for readers say what the numbers are, in Markdown and HTML that can be parsed."""

from __future__ import annotations

import io
import json
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from scapp.benchmark._folder import read_folder
from scapp.benchmark._report import tables
from scapp.benchmark._tables import (
    Table,
    calibration_table,
    decimals,
    interval,
    methods_table,
    metrics_table,
    number,
    p_value,
    paired_table,
    percent,
    split_table,
)


class Tags(HTMLParser):
    """Counts tags, and checks that each is closed in order."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict]] = []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


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
    page = table.html()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    Tags(page)


def test_html_has_a_caption_and_headers_for_rows_and_columns():
    table = Table("t", "Doubles", pd.DataFrame({"method": ["a", "b"], "L2": [1.0, 2.0]}), best={"L2": "low"})
    seen = Tags(table.html()).seen
    assert [tag for tag, _ in seen].count("caption") == 1
    scopes = [attributes["scope"] for tag, attributes in seen if tag == "th"]
    assert scopes == ["col", "col", "row", "row"]
    assert "<strong>1.00</strong>" in table.html()


def test_csv_holds_the_values_unrounded():
    frame = pd.DataFrame({"method": ["a"], "L2": [1 / 3]})
    assert pd.read_csv(io.StringIO(Table("t", "T", frame).csv()))["L2"][0] == 1 / 3


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


def test_paired_table_names_every_other_method(planted):
    frame = paired_table(planted, "k562_singles", "APP").frame
    assert set(frame["against"]) == set(planted.loc[planted["task"] == "k562_singles", "method"]) - {"APP"}


def test_tables_of_what_was_not_measured_are_none(planted):
    only = planted[planted["metric"] == "l2"]
    assert split_table(only, ("gi_auprc",), "gi", "GI") is None
    assert calibration_table(pd.DataFrame()) is None


def test_tasks_of_the_same_title_are_told_apart_in_a_report(tmp_path, planted, write_folder):
    names = {task: f"mine_{i}" for i, task in enumerate(planted["task"].unique())}
    folder = write_folder(tmp_path / "results", planted)
    planted.assign(task=planted["task"].map(names)).to_parquet(folder / "results.parquet")
    info = json.loads((folder / "run.json").read_text())
    info["tasks"] = {new: info["tasks"][task] | {"title": "Unseen genes"} for task, new in names.items()}
    (folder / "run.json").write_text(json.dumps(info))
    calibration = next(table.frame for table in tables(read_folder(folder)) if table.name == "calibration")
    assert sorted(calibration["task"].unique()) == [f"Unseen genes ({name})" for name in sorted(names.values())]
