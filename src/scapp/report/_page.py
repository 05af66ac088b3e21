"""The page: plain HTML with inline style, legible on phones and desktops, in light and dark mode."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

STYLE = """
:root { color-scheme: light dark; --text: #1d2330; --soft: #5b6473; --page: #ffffff; --card: #f4f6f9; --line: #d9dee6;
  --mark: #0072b2; --mark-soft: #9cc7e3; --other: #b4bbc6; --warn: #a35200; --warn-page: #fff4e5; }
@media (prefers-color-scheme: dark) { :root { --text: #e6e9ef; --soft: #9aa4b5; --page: #14171c; --card: #1e232b;
  --line: #353d49; --mark: #56b4e9; --mark-soft: #2b5a78; --other: #5d6776; --warn: #ffb867; --warn-page: #33261a; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.2rem 1rem 4rem; max-width: 62rem; background: var(--page); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .5rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.3rem 0 .3rem; }
p { margin: .5rem 0; }
.soft, figcaption { color: var(--soft); font-size: .9rem; }
.missing { background: var(--warn-page); border-left: 4px solid var(--warn); padding: .6rem .8rem; margin: .7rem 0;
  border-radius: 0 .3rem .3rem 0; }
nav { margin: .8rem 0 0; display: flex; flex-wrap: wrap; gap: .3rem .9rem; font-size: .9rem; }
a { color: var(--mark); }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: .6rem; margin: 1rem 0; padding: 0; }
.facts div { background: var(--card); border-radius: .4rem; padding: .6rem .7rem; }
.facts dt { color: var(--soft); font-size: .8rem; } .facts dd { margin: 0; font-size: 1.2rem; font-weight: 600; }
.scroll { overflow-x: auto; margin: .7rem 0; }
table { border-collapse: collapse; font-size: .9rem; min-width: 100%; }
th, td { text-align: left; padding: .32rem .7rem .32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 600; } td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
td, th { overflow-wrap: normal; } td.number { white-space: nowrap; }
figure { margin: .9rem 0; } figcaption { margin-top: .5rem; }
summary { cursor: pointer; color: var(--mark); font-size: .9rem; }
.bars { display: grid; grid-template-columns: minmax(6rem, auto) 1fr auto; gap: .25rem .6rem; align-items: center;
  font-size: .9rem; }
.bars .track { position: relative; height: 1rem; background: var(--card); border-radius: .2rem; }
.bars .fill { position: absolute; inset: 0 auto 0 0; background: var(--other); border-radius: .2rem; }
.bars .own .fill, .bars .fill.own { background: var(--mark); }
.bars .line { position: absolute; top: -.15rem; bottom: -.15rem; width: 2px; background: var(--warn); }
.bars .value { font-variant-numeric: tabular-nums; text-align: right; }
svg { max-width: 100%; height: auto; display: block; } svg text { fill: var(--soft); font-size: 11px; }
svg .axis { stroke: var(--line); } svg .dot { fill: var(--mark); fill-opacity: .45; } svg .ideal { stroke: var(--warn); }
code, pre { font: .85rem/1.45 ui-monospace, Consolas, monospace; background: var(--card); border-radius: .3rem; }
code { padding: .1rem .3rem; } pre { padding: .6rem .8rem; overflow-x: auto; white-space: pre-wrap; }
@media (max-width: 34rem) { table { font-size: .82rem; } th, td { padding-right: .45rem; } }
@media print { nav { display: none; } body { max-width: none; } }
"""
N_ROWS, MOST_ROWS = 12, 500


@dataclass
class Section:
    """Hold one section of the page: its blocks of HTML, and notes on missing data."""

    title: str
    blocks: list[str] = field(default_factory=list)

    def text(self, sentence: str, *, soft: bool = False) -> None:
        """Add a paragraph."""
        self.blocks.append(f"<p{' class=soft' if soft else ''}>{html.escape(sentence)}</p>")

    def missing(self, sentence: str) -> None:
        """Say what cannot be shown, and how to fix it."""
        lines = "<br>".join(html.escape(line) for line in sentence.splitlines())
        self.blocks.append(f"<div class=missing>{lines}</div>")

    def code(self, lines: Sequence[str]) -> None:
        """Add lines of code."""
        self.blocks.append(f"<pre>{html.escape(chr(10).join(lines))}</pre>")

    def heading(self, title: str) -> None:
        """Add a heading below that of the section."""
        self.blocks.append(f"<h3>{html.escape(title)}</h3>")

    def facts(self, facts: Iterable[tuple[str, object]]) -> None:
        """Add a row of numbers with their names."""
        cells = "".join(f"<div><dt>{html.escape(name)}</dt><dd>{html.escape(_show(x))}</dd></div>" for name, x in facts)
        self.blocks.append(f"<dl class=facts>{cells}</dl>")

    def table(self, table: pd.DataFrame, caption: str = "") -> None:
        """Add a table with right-aligned numbers, whose further rows can be unfolded."""
        shown = {column: _column(table[column]) for column in table}
        head = "".join(f"<th{right}>{html.escape(str(column))}</th>" for column, (_, right) in shown.items())
        rows = [
            "<tr>" + "".join(f"<td{right}>{html.escape(texts[i])}</td>" for texts, right in shown.values()) + "</tr>"
            for i in range(len(table))
        ]
        below = f"<p class=soft>{html.escape(caption)}</p>" if caption else ""
        self.blocks.append(_table(head, rows[:N_ROWS]) + below)
        if rest := rows[N_ROWS:MOST_ROWS]:
            left_out = f", of {len(rows) - N_ROWS:,}" if len(rows) > MOST_ROWS else ""
            self.blocks.append(
                f"<details><summary>{len(rest):,} more{left_out}</summary>{_table(head, rest)}</details>"
            )

    def bars(
        self, values: Sequence[tuple[str, float, bool]], caption: str, *, line: float | None = None, digits: int = 2
    ) -> None:
        """Add horizontal bars with name, value and whether to highlight them, and a line across all bars."""
        longest = max([value for _, value, _ in values] + ([] if line is None else [line])) or 1.0
        mark = "" if line is None else f'<span class=line style="left:{100 * line / longest:.1f}%"></span>'
        rows = "".join(
            f"<span>{html.escape(name)}</span><span class=track><span class='fill{' own' if own else ''}' "
            f'style="width:{100 * max(value, 0) / longest:.1f}%"></span>{mark}</span>'
            f"<span class=value>{value:.{digits}f}</span>"
            for name, value, own in values
        )
        self.blocks.append(
            f"<figure><div class=bars>{rows}</div><figcaption>{html.escape(caption)}</figcaption></figure>"
        )

    def scatter(self, x: np.ndarray, y: np.ndarray, names: tuple[str, str], caption: str) -> None:
        """Add a scatter plot of two arrays, with the line of equality."""
        self.blocks.append(f"<figure>{_scatter(x, y, names)}<figcaption>{html.escape(caption)}</figcaption></figure>")


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the page."""
    links = "".join(f'<a href="#s{i}">{html.escape(section.title)}</a>' for i, section in enumerate(sections))
    body = "".join(
        f'<section id="s{i}"><h2>{html.escape(section.title)}</h2>{"".join(section.blocks)}</section>'
        for i, section in enumerate(sections)
    )
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title)}</title><style>{STYLE}</style></head><body>"
        f"<header><h1>{html.escape(title)}</h1><p class=soft>{html.escape(subtitle)}</p><nav>{links}</nav></header>"
        f"<main>{body}</main></body></html>\n"
    )


def _table(head: str, rows: Sequence[str]) -> str:
    return f"<div class=scroll><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _column(values: pd.Series) -> tuple[list[str], str]:
    """Return the texts of a column, with the same number of digits in each row, and the attribute of its cells."""
    if not pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        return [_show(value) for value in values], ""
    if pd.api.types.is_float_dtype(values.dtype):
        largest = values.abs().max()
        digits = 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 1 else 3
        texts = [f"{value:,.{digits}f}" if np.isfinite(value) else "–" for value in values]
    else:
        texts = [f"{value:,}" for value in values]
    return texts, " class=number"


def _show(value: object) -> str:
    """Format a value for reading: three digits, thousands separated, empty if missing."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return "–"
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    if isinstance(value, float | np.floating):
        number = float(value)
        return f"{number:.3g}" if abs(number) < 1000 else f"{number:,.0f}"
    return str(value)


def _scatter(x: np.ndarray, y: np.ndarray, names: tuple[str, str], size: int = 340, margin: int = 44) -> str:
    low, high = float(min(x.min(), y.min())), float(max(x.max(), y.max()))
    span = (high - low) or 1.0
    low, high = low - 0.03 * span, high + 0.03 * span

    def place(value: float) -> float:
        return margin + (size - margin - 8) * (value - low) / (high - low)

    dots = "".join(
        f'<circle class=dot cx="{place(a):.1f}" cy="{size - place(b):.1f}" r="2"/>' for a, b in zip(x, y, strict=True)
    )
    ticks = [tick for tick in _ticks(low, high) if low <= tick <= high]
    marks = "".join(
        f'<line class=axis x1="{place(t):.1f}" x2="{place(t):.1f}" y1="8" y2="{size - margin}"/>'
        f'<line class=axis x1="{margin}" x2="{size - 8}" y1="{size - place(t):.1f}" y2="{size - place(t):.1f}"/>'
        f'<text x="{place(t):.1f}" y="{size - margin + 14}" text-anchor="middle">{t:g}</text>'
        f'<text x="{margin - 5}" y="{size - place(t) + 4:.1f}" text-anchor="end">{t:g}</text>'
        for t in ticks
    )
    ideal = f'<line class=ideal x1="{margin}" y1="{size - margin}" x2="{size - 8}" y2="8" stroke-dasharray="4 3"/>'
    label_x = f'<text x="{(size + margin) / 2}" y="{size - 8}" text-anchor="middle">{html.escape(names[0])}</text>'
    middle = (size - margin) / 2
    label_y = (
        f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{html.escape(names[1])}</text>'
    )
    said = html.escape(f"{names[1]} against {names[0]}")
    return f'<svg viewBox="0 0 {size} {size}" width="{size}" role="img" aria-label="{said}">{marks}{ideal}{dots}{label_x}{label_y}</svg>'


def _ticks(low: float, high: float) -> list[float]:
    """Return four to eight round numbers."""
    step = float(10 ** np.floor(np.log10((high - low) / 4)))
    step *= next((factor for factor in (1.0, 2.0, 5.0) if (high - low) / (step * factor) <= 8), 10.0)
    return [float(round(step * i, 10)) for i in range(int(np.ceil(low / step)), int(np.floor(high / step)) + 1)]
