"""Read the names of classes, and their numbers of training images, which a checkpoint does not hold."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import NamedTuple

from lpt.errors import DataError
from lpt.system.files import read_regular
from lpt.system.text import plain_cell, plural

_HEADERS = ("class", "class_name", "name", "label")
_COUNT_HEADERS = ("count", "images", "training_images", "train_images", "n")
_FORM = "one class a line: its name, or name,count with its number of training images; quote a name with a comma"


class Classes(NamedTuple):
    """The names of classes in the order of their labels, and their numbers of training images; None: unknown."""

    names: list[str]
    counts: list[int] | None


def read_classes(file: Path) -> Classes:
    """Read the classes of a file, a line for each: `name` or `name,count`. Empty lines are skipped.

    Raises:
        DataError: the file cannot be read, or a line has another form.
    """
    rows = [(number, row) for number, row in _rows(file, "--classes") if any(cell.strip() for cell in row)]
    if rows and _is_header(rows[0][1]):
        del rows[0]
    if not rows:
        raise DataError(f"--classes {file}: there is no class in it. Accepted: {_FORM}")
    width = len(rows[0][1])
    for number, row in rows:
        if len(row) != width or width > 2 or not row[0].strip():
            raise DataError(
                f"--classes {file}, line {number}: {','.join(row)[:80]!r} is not accepted: {_FORM}, or none"
            )
    names = [plain_cell(row[0].strip()) for _, row in rows]
    if width == 1:
        return Classes(names, None)
    return Classes(names, [_count(row[1], f"--classes {file}, line {number}") for number, row in rows])


def read_counts(file: Path, classes: int) -> list[int]:
    """Read the number of training images of each class, one a line, in the order of the classes.

    Raises:
        DataError: the file cannot be read, a line is no number, or there are more or fewer than classes.
    """
    rows = [(number, row) for number, row in _rows(file, "--counts") if any(cell.strip() for cell in row)]
    counts = [_count(",".join(row), f"--counts {file}, line {number}") for number, row in rows]
    if len(counts) != classes:
        raise DataError(f"--counts {file}: there are {plural(len(counts), 'number')} for {plural(classes, 'class')}")
    return counts


def _is_header(row: list[str]) -> bool:
    cells = [cell.strip().lower() for cell in row]
    return len(cells) == 2 and cells[0] in _HEADERS and cells[1] in _COUNT_HEADERS


def _count(text: str, where: str) -> int:
    number = text.strip()
    if not (number.isascii() and number.isdecimal()) or len(number) > 12:
        raise DataError(f"{where}: {text[:80]!r} is no number of training images. A whole number from 0 is accepted")
    return int(number)


def _rows(file: Path, option: str) -> list[tuple[int, list[str]]]:
    """Return the cells of each line with its number."""
    try:
        text = read_regular(file).decode("utf-8-sig")
        reader = csv.reader(io.StringIO(text), strict=True)
        return [(reader.line_num, row) for row in reader]
    except OSError as error:
        raise DataError(f"{option}: cannot read {file}: {error.strerror or error}. Give a text file: {_FORM}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{option}: {file} is no UTF-8 text of lines ({error}). Accepted: {_FORM}") from None
