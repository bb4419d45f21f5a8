"""Read the rows of CSV, TSV, JSON and JSONL files, in the forms in which programs write them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lpt.data.images import IMAGE_SUFFIXES
from lpt.data.sources.raw import split_name
from lpt.data.sources.text import read_text
from lpt.errors import DataError

Row = tuple[int, list[Any]]
"""Line number (of JSON: number of the entry), counted from 1, and the value of each column."""

JSON_LINES = (".jsonl", ".ndjson")
DELIMITERS = ",;\t|"
_SEPARATOR = re.compile(r'[\r\n]*"?sep=([^\r\n])"?[,;\t ]*(\r\n|\r|\n)', re.IGNORECASE)
_DETECTION = ("annotations", "categories")


@dataclass(frozen=True)
class Rows:
    """The rows of a table.

    Args:
        columns: names of the columns.
        read: starts to read the rows; it may be called several times.
        unit: what numbers the rows in messages.
    """

    columns: list[str]
    read: Callable[[], Iterator[Row]]
    unit: str = "line"


def read_rows(path: Path) -> Rows:
    """Read a table by its ending; a file of another ending is read as CSV.

    Raises:
        DataError: the file cannot be read or is no table.
    """
    text, ending = read_text(path), path.suffix.lower()
    if ending in JSON_LINES:
        return _of_records(list(_json_lines(path, text)), "line")
    if ending == ".json":
        return _of_records(list(enumerate(_json_entries(path, text), start=1)), "entry")
    return _csv(path, text, "\t" if ending == ".tsv" else None)


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]


def _csv(path: Path, text: str, delimiter: str | None) -> Rows:
    declared = _SEPARATOR.match(text)
    if declared is not None:
        delimiter, text = declared[1], "\n" + text[declared.end() :]  # the line counts
    if not text.strip():
        raise DataError(f"{path} is empty after its first line: it must list one image per line")
    first = first_line(text)
    if delimiter is None:
        delimiter = max(DELIMITERS, key=first.count)

    def read(skip: int) -> Iterator[Row]:
        # strict: otherwise a quote that is never closed would take the rows after it into its field
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True, skipinitialspace=True)
        rows = _numbered(path, reader)
        for _ in range(skip):
            next(rows, None)
        return rows

    header = [str(name).strip() for name in next(read(0))[1]]
    headless = _headless_columns(path, header)
    return Rows(header, partial(read, 1)) if headless is None else Rows(headless, partial(read, 0))


def _numbered(path: Path, reader: Any) -> Iterator[Row]:
    """Yield rows with the line where each starts: quotes can make a row of several lines."""
    start = reader.line_num + 1
    try:
        for values in reader:
            if values:
                yield start, values
            start = reader.line_num + 1
    except csv.Error as error:
        raise DataError(
            f"{path} line {start}: not a readable row: {error}. Check its quotes: a quote that opens a field must be "
            'closed at its end, and one inside it written twice ("").'
        ) from None


def _headless_columns(path: Path, first: list[str]) -> list[str] | None:
    """Return the columns of a table that starts with data: image, label and split; None if it starts with a header.

    Raises:
        DataError: it starts with data of another form.
    """
    files = [index for index, cell in enumerate(first) if Path(cell).suffix.lower() in IMAGE_SUFFIXES]
    if not files:
        return None
    splits = [index for index, cell in enumerate(first) if index not in files and split_name(cell) is not None]
    others = len(first) - len(files) - len(splits)
    if len(files) == 1 and len(first) <= 3 and others <= 1 and len(splits) <= 1:
        return ["image" if index in files else "split" if index in splits and others else "label" for index in
                range(len(first))]  # fmt: skip
    raise DataError(
        f"{path}: its first line is no header but data: {', '.join(first)[:200]}. Write a line with the names of the "
        "columns above it, such as image,label."
    )


def _of_records(records: list[tuple[int, Mapping[str, Any]]], unit: str) -> Rows:
    columns = list(dict.fromkeys(column for _, record in records for column in record))
    return Rows(
        columns, lambda: ((number, [record.get(column) for column in columns]) for number, record in records), unit
    )


def _json_lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        record = _parse(content, f"{path} line {line}", "Each line must be one object.")
        yield line, _object(record, f"{path} line {line}")


def _json_entries(path: Path, text: str) -> Iterable[dict[str, Any]]:
    """Return the objects of a JSON file: a list of them, columns by name, or labels by path.

    Raises:
        DataError: it is none of these.
    """
    try:
        content = _parse(text, str(path), "")
    except DataError:
        if isinstance(_parse(first_line(text), str(path), "It must be one list of objects."), dict):
            return [record for _, record in _json_lines(path, text)]
        raise
    if isinstance(content, list):
        return [_object(record, f"{path} entry {number}") for number, record in enumerate(content, start=1)]
    values = list(content.values()) if isinstance(content, dict) else []
    if isinstance(content, dict) and any(name in content for name in _DETECTION):
        raise DataError(
            f"{path} is an annotation file of COCO's form (it has {', '.join(content)}), which LPT does not read: list "
            "the images in a CSV with columns image,label, one class for each image."
        )
    if values and all(isinstance(value, str | int) for value in values):
        return [{"image": name, "label": label} for name, label in content.items()]
    for kind in (list, dict):
        if values and all(isinstance(value, kind) and len(value) == len(values[0]) for value in values):
            parts = values if kind is list else [list(value.values()) for value in values]
            return [dict(zip(content, row, strict=True)) for row in zip(*parts, strict=True)]
    raise DataError(
        f"{path}: its JSON is no table. Accepted are a list of objects such as "
        '[{"image": "a.jpg", "label": "cat"}], and an object of labels by path, {"a.jpg": "cat"}.'
    )


def _parse(text: str, where: str, form: str) -> Any:
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deeply")
        raise DataError(f"{where}: not JSON: {reason}. {form}".rstrip()) from None


def _object(record: Any, where: str) -> dict[str, Any]:
    if isinstance(record, dict):
        return record
    raise DataError(f'{where}: {type(record).__name__}, not an object such as {{"image": "a.jpg", "label": "cat"}}')
