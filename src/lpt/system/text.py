"""Small parts of messages and files: numbers with nouns, short lists, durations and sizes, rows of CSV."""

from __future__ import annotations

import csv
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


def csv_text(rows: Iterable[Sequence[Any]]) -> str:
    """Write rows as CSV. A spreadsheet must not run what a class or file is called: see `harmless_cell`."""
    lines, text = [], io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")  # quotes a cell that holds either; the line itself ends in \n
    for row in rows:
        writer.writerow([harmless_cell(cell) for cell in row])
        lines.append(text.getvalue()[:-2] + "\n")
        text.seek(0)
        text.truncate()
    return "".join(lines)


def harmless_cell(cell: Any) -> Any:
    """Return a text that a spreadsheet takes for a formula (`=`, `+`, `-`, `@` in front) with `'` before it.

    Numbers stay as they are. `plain_cell` undoes it.
    """
    risky = isinstance(cell, str) and _FORMULA.match(cell) is not None and _NUMBER.fullmatch(cell) is None
    return f"'{cell}" if risky else cell


def plain_cell(cell: str) -> str:
    """Return what `harmless_cell` was given."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell


def plural(number: int, noun: str) -> str:
    """Write a number with its noun: `1 image`, `1,204 images`, `2 classes`."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def composed(name: str) -> str:
    """Return a name in the one form that Unicode composes it to (NFC), in which names are compared."""
    return unicodedata.normalize("NFC", name)


def shorten(items: Sequence[str], most: int = 5) -> str:
    """List the first items, and say how many more there are."""
    first = ", ".join(str(item) for item in items[:most])
    return first if len(items) <= most else f"{first} and {len(items) - most:,} more"


def duration(seconds: float) -> str:
    """Write a duration as `45 s`, `12 min`, `3 h 20 min`, `2 days 4 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} days {hours % 24} h"


def size_of(count: int) -> str:
    """Write a number of bytes as `1.5 MiB`."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB", "TiB"]
    while size >= 1024 and len(units) > 1:
        size /= 1024
        units.pop(0)
    return f"{size:.0f} {units[0]}" if units[0] == "bytes" else f"{size:.1f} {units[0]}"


def output_for_programs() -> TextIO:
    """Return standard output for CSV, JSON and YAML: UTF-8 and plain line ends, whatever the console has."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors="backslashreplace", newline="\n")
    return sys.stdout
