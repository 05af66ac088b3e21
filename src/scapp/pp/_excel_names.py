"""Names of genes that spreadsheets turn into dates and numbers, and back."""

from __future__ import annotations

import re
from collections.abc import Iterator

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
# Symbols that a spreadsheet reads as a month and a day: MARCH1, MARC1, SEPT2, DEC1, OCT4.
_DATED = re.compile(r"(JAN|FEB|MAR(?:CH|C)?|APR|MAY|JUN|JUL|AUG|SEPT?|OCT|NOV|DEC)-?0?(\d{1,2})", re.IGNORECASE)
# Symbols that were renamed for it, by what they were called before.
_BEFORE = {"SEPTIN": "SEPT", "MARCHF": "MARCH", "MTARC": "MARC", "DELEC": "DEC"}
_RENAMED = re.compile(rf"({'|'.join(_BEFORE)})(\d+)", re.IGNORECASE)
# Clones of RIKEN and others: digits, E and digits, which is a power of ten.
_POWER = re.compile(r"(\d+)E(\d+)(?:RIK)?", re.IGNORECASE)
_DAY_MONTH = re.compile(r"0?(\d{1,2})[-/ ]([A-Za-z]{3})[a-z]*")
_MONTH_DAY = re.compile(r"([A-Za-z]{3})[a-z]*[-/ ]0?(\d{1,2})")
_ISO = re.compile(r"\d{4}-(\d{2})-(\d{2})(?:[ T]00:00(?::00(?:\.0+)?)?)?")
_SCIENTIFIC = re.compile(r"(\d(?:[.,]\d+)?)E\+?(\d+)", re.IGNORECASE)


def excel_form(name: str) -> str:
    """Return the date or number that a name is, in one spelling; empty for any other name."""
    if day_month := _DAY_MONTH.fullmatch(name):
        day, month = day_month.groups()
    elif month_day := _MONTH_DAY.fullmatch(name):
        month, day = month_day.groups()
    elif iso := _ISO.fullmatch(name):
        return f"{MONTHS[int(iso[1]) - 1]}-{int(iso[2])}" if 1 <= int(iso[1]) <= 12 else ""
    elif number := _SCIENTIFIC.fullmatch(name):
        return f"{float(number[1].replace(',', '.')):.2f}E{int(number[2])}"
    else:
        return ""
    return f"{month.upper()}-{int(day)}" if month.upper() in MONTHS else ""


def made_by_excel(symbol: str) -> Iterator[str]:
    """Yield what a spreadsheet makes of a symbol, as :func:`excel_form` spells it; nothing for most."""
    renamed = _RENAMED.fullmatch(symbol)
    if renamed:
        symbol = f"{_BEFORE[renamed[1].upper()]}{renamed[2]}"
    dated = _DATED.fullmatch(symbol)
    if dated and 1 <= int(dated[2]) <= 31:
        yield f"{dated[1][:3].upper()}-{int(dated[2])}"
    if (power := _POWER.fullmatch(symbol)) and int(power[1]) and len(power[2]) <= 3:
        digits = power[1].lstrip("0")
        mantissa, shift = f"{float(digits):.2E}".split("E")
        yield f"{float(mantissa):.2f}E{int(shift) + int(power[2])}"
