"""CSV files that a spreadsheet opens without running what their cells say."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

# a spreadsheet takes a cell that begins with one of these for a formula (OWASP, "CSV Injection")
_FORMULA = tuple("=+-@\t\r\n")


def write_rows(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Write rows as CSV in UTF-8; a text that a spreadsheet would run gets an apostrophe in front."""
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_harmless(cell) for cell in row] for row in rows)


def _harmless(cell: object) -> object:
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
