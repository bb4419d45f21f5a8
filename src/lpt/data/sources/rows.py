"""Read the rows of CSV, TSV, JSON and JSONL files, in the forms in which programs write them."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TextIO

from lpt.data.images import IMAGE_SUFFIXES
from lpt.data.sources.parquet import PARQUET, ParquetTable
from lpt.data.sources.raw import split_name
from lpt.data.sources.text import open_text, read_text
from lpt.errors import DataError

Row = tuple[int, list[Any]]
"""Line number (of JSON: number of the entry), counted from 1, and the value of each column."""

JSON_LINES = (".jsonl", ".ndjson")
DELIMITERS = ",;\t|"
_START = 2**16
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
        records = list(_json_lines(path, text.split("\n")))
        return _of_records(lambda: records, "line")
    if ending == ".json":
        entries = list(enumerate(_json_entries(path, text), start=1))
        return _of_records(lambda: entries, "entry")
    return _csv(path, text, lambda: nullcontext(io.StringIO(text, newline="")), "\t" if ending == ".tsv" else None)


def stream_rows(path: Path) -> Rows:
    """Read a table as `read_rows` does, but a row at a time: it is never in memory whole, unless it is one JSON value.

    Raises:
        DataError: the file cannot be read or is no table, also while its rows are read.
    """
    ending = path.suffix.lower()
    if ending == ".json":
        return read_rows(path)
    if ending == PARQUET:
        return parquet_rows(path)
    start = read_start(path)
    if ending in JSON_LINES:
        return _of_records(lambda: _stream_json_lines(path), "line")
    return _csv(path, start, lambda: open_text(path), "\t" if ending == ".tsv" else None)


def read_start(path: Path) -> str:
    """Read the start of a text file, with its first line that is not empty.

    Raises:
        DataError: it cannot be read, or is empty.
    """
    with open_text(path) as file:
        start = file.read(_START)
        while not start.strip():
            more = file.read(_START)
            if not more:
                raise DataError(f"{path} is empty: it must list one image per line")
            start += more
    return start


def parquet_rows(path: Path, column: str | None = None) -> Rows:
    """Read a Parquet table, or its column of paths alone, some rows at a time.

    Raises:
        ConfigError: PyArrow is not installed.
        DataError: the file cannot be read or is no Parquet, or the column cannot hold paths.
    """
    table = ParquetTable(path)
    if column is not None:
        table.check_paths(column)
    columns = table.columns if column is None else [column]
    return Rows(columns, lambda: enumerate(table.rows(columns), start=1), "row")


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]


def _csv(path: Path, text: str, opened: Callable[[], AbstractContextManager[TextIO]], delimiter: str | None) -> Rows:
    """Return the rows of a CSV.

    Args:
        path: the file, for messages.
        text: its text, or the start of it.
        opened: opens all of it.
        delimiter: what stands between fields; None: what its first line has most of.
    """
    declared = _SEPARATOR.match(text)
    passed = 0 if declared is None else declared.end()
    if declared is not None:
        delimiter, text = declared[1], text[passed:]
    if not text.strip():
        raise DataError(f"{path} is empty after its first line: it must list one image per line")
    first = first_line(text)
    if delimiter is None:
        delimiter = max(DELIMITERS, key=first.count)

    def read(skip: int) -> Iterator[Row]:
        with opened() as file:
            lines = chain(["\n"], file) if file.read(passed) else file  # the line counts
            # strict: otherwise a quote that is never closed would take the rows after it into its field
            reader = csv.reader(lines, delimiter=delimiter, strict=True, skipinitialspace=True)
            yield from islice(_numbered(path, reader), skip, None)

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


def _of_records(records: Callable[[], Iterable[tuple[int, Mapping[str, Any]]]], unit: str) -> Rows:
    columns = list(dict.fromkeys(column for _, record in records() for column in record))
    return Rows(
        columns, lambda: ((number, [record.get(column) for column in columns]) for number, record in records()), unit
    )


def _stream_json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open_text(path) as file:
        yield from _json_lines(path, file)


def _json_lines(path: Path, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(lines, start=1):
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
            return [record for _, record in _json_lines(path, text.split("\n"))]
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
