"""Tables from Excel files, without a package for them: the first sheet, its text, numbers and truth values."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import pandas as pd

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"
# Unpacked, a sheet of a million rows takes about this much; more is no table of effects.
LARGEST_SHEET = 2**31


def read_xlsx(path: Path) -> pd.DataFrame:
    """Read the first sheet of an Excel file, whose first row is the header; ValueError if it is no such file, or the sheet is empty."""
    try:
        with zipfile.ZipFile(path) as archive:
            rows = _rows(archive)
    except (zipfile.BadZipFile, KeyError, ElementTree.ParseError, IndexError) as error:
        raise ValueError(
            f"{str(path)!r} cannot be read as an Excel file (.xlsx): it is truncated, damaged or of another kind ({error}). Save "
            "the sheet as csv, or read it with `pandas.read_excel`."
        ) from error
    if not rows:
        raise ValueError(f"The first sheet of {str(path)!r} is empty.")
    width = max(map(len, rows))
    header, *rest = [row + [None] * (width - len(row)) for row in rows]
    names = [f"Unnamed: {i}" if name is None else str(name) for i, name in enumerate(header)]
    return pd.DataFrame(rest, columns=names).infer_objects()


def _rows(archive: zipfile.ZipFile) -> list[list[object]]:
    def root(name: str) -> ElementTree.Element:
        with archive.open(name) as file:
            return ElementTree.parse(file).getroot()

    sheet = next(root("xl/workbook.xml").iter(f"{_MAIN}sheet"), None)
    if sheet is None:
        raise KeyError("there is no sheet")
    targets = {relation.get("Id"): relation.get("Target", "") for relation in root("xl/_rels/workbook.xml.rels")}
    target = targets[sheet.get(_RELATION)]
    for part in archive.infolist():
        if part.file_size > LARGEST_SHEET:
            raise KeyError(f"its part {part.filename} is larger than {LARGEST_SHEET:,} bytes")
    shared: list[str] = []
    if "xl/sharedStrings.xml" in archive.namelist():
        shared = [_text(item) for item in root("xl/sharedStrings.xml").iter(f"{_MAIN}si")]
    rows: list[list[object]] = []
    with archive.open(target.lstrip("/") if target.startswith("/") else f"xl/{target}") as file:
        for _, element in ElementTree.iterparse(file):
            if element.tag != f"{_MAIN}row":
                continue
            row: list[object] = []
            for cell in element.iter(f"{_MAIN}c"):
                column = _column(cell.get("r", ""), len(row))
                row.extend([None] * (column - len(row)))
                row.append(_value(cell, shared))
            if any(value is not None for value in row):
                rows.append(row)
            element.clear()
    return rows


def _column(reference: str, following: int) -> int:
    letters = re.match(r"[A-Z]+", reference)
    if letters is None:
        return following
    number = 0
    for letter in letters[0]:
        number = 26 * number + ord(letter) - ord("A") + 1
    return number - 1


def _text(element: ElementTree.Element) -> str:
    return "".join(part.text or "" for part in element.iter(f"{_MAIN}t"))


def _value(cell: ElementTree.Element, shared: list[str]) -> object:
    kind = cell.get("t", "n")
    if kind == "inlineStr":
        return _text(cell)
    value = cell.find(f"{_MAIN}v")
    if value is None or value.text is None:
        return None
    if kind == "s":
        return shared[int(value.text)]
    if kind == "b":
        return value.text == "1"
    if kind in ("str", "e", "d"):
        return value.text
    return float(value.text)
