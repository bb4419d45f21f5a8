"""Rows of CSV: a spreadsheet does not run what people call their classes and files."""

from __future__ import annotations

import csv
import io

import pytest

from lpt.system.text import csv_text, plain_cell

RISKY = [
    '=HYPERLINK("http://x.org","y")',
    "+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(A1)",
    "\t=1",
    "\r=1",
    "'=1",
    "''-x",
    "-",
    "-x",
]
HARMLESS = ["cat", "-1", "+0.5", "-1e-3", "a=b", "'quoted'", "it's", "", "1-2"]


@pytest.mark.parametrize("cell", [*RISKY, *HARMLESS])
def test_cells_are_harmless_and_read_back_as_they_were(cell: str) -> None:
    ((first, number),) = csv.reader(io.StringIO(csv_text([(cell, -3)]), newline=""))
    assert first == (f"'{cell}" if cell in RISKY else cell)
    assert plain_cell(first) == cell
    assert number == "-3"
