"""Read CSV, TSV and JSONL tables: a column of image paths, a column of labels, perhaps one of splits."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lpt.data.images import IMAGE_SUFFIXES
from lpt.data.sources.columns import IMAGE_NAMES, LABEL_NAMES, SPLIT_NAMES, find_column, usual_columns
from lpt.data.sources.raw import SPLIT_WORDS, SPLITS, RawData, RawSplit, SplitName, encode_labels, split_name
from lpt.data.sources.text import Faults, listed_images, read_text
from lpt.errors import DataError

Row = tuple[int, list[Any]]
"""Line number, counted from 1, and the value of each column."""


def read_table(path: Path, image_root: Path | None, image_column: str | None, label_column: str | None) -> RawData:
    """Read the splits of a table; without a `split` column all rows are training images.

    Raises:
        DataError: a column is missing, or rows are faulty; the message names the first few by line.
    """
    text = read_text(path)
    is_json = path.suffix.lower() in (".jsonl", ".ndjson")
    columns, rows = _json_rows(path, text) if is_json else _csv_rows(path, text)
    data = RawData({})
    image = columns.index(find_column("image", image_column, IMAGE_NAMES, columns, str(path), data.notes))
    label = columns.index(find_column("label", label_column, LABEL_NAMES, columns, str(path), data.notes))
    split, rows = _split_column(path, columns, rows, {image, label}, data.notes)
    paths, labels, assigned = _collect(path, rows, len(columns), image, label, split)
    source = listed_images(path, paths, image_root, data.notes)
    for name in SPLITS:
        chosen = np.flatnonzero(assigned == SPLITS.index(name)).astype(np.int64)
        if len(chosen):
            codes, names, kind = encode_labels([labels[row] for row in chosen])
            data.splits[name] = RawSplit(
                source, chosen, codes, names, kind, f"{path} ({name})" if split is not None else str(path)
            )
    return data


def _split_column(
    path: Path, columns: list[str], rows: Iterator[Row], taken: set[int], notes: list[str]
) -> tuple[int | None, Iterator[Row]]:
    """Return the number of the column of splits, or None, and the rows.

    A column called `split` counts whatever it holds: a word in it that is no split is a fault. The other usual names
    have other meanings too, so their columns count only if most rows hold splits.
    """
    named = [columns.index(name) for name in usual_columns(SPLIT_NAMES, columns)]
    candidates = [index for index in named if index not in taken]
    if not candidates or usual_columns(SPLIT_NAMES[:1], [columns[candidates[0]]]):
        return next(iter(candidates), None), rows
    all_rows = list(rows)
    for index in candidates:
        values = [_as_text(row[index]) for _, row in all_rows if len(row) == len(columns)]
        odd = [value for value in values if split_name(value) is None]
        if not odd or 2 * len(odd) < len(values):  # `_collect` names a misspelt split by its line
            return index, iter(all_rows)
        notes.append(
            f"{path}: column {columns[index]!r} is not taken for the split, since many of its values are none, "
            f"as {odd[0]!r} (known: {SPLIT_WORDS}); name it `split` if it is."
        )
    return None, iter(all_rows)


def _collect(
    path: Path, rows: Iterator[Row], width: int, image: int, label: int, split: int | None
) -> tuple[list[str], list[str], np.ndarray[Any, np.dtype[np.int8]]]:
    """Return path, label and split (position in `SPLITS`) of every row."""
    paths: list[str] = []
    labels: list[str] = []
    assigned: list[int] = []
    faults = Faults(path)
    for line, values in rows:
        if len(values) != width:
            faults.add(line, f"{len(values)} fields where the header has {width}")
            continue
        file, name = _as_text(values[image]), _as_text(values[label])
        part: SplitName | None = "train" if split is None else split_name(_as_text(values[split]))
        if not file or not name:
            lacking, value = ("label", values[label]) if file else ("image path", values[image])
            faults.add(line, f"no usable {lacking} ({value!r})")
        elif "\n" in file + name:
            lines = name if "\n" in name else file
            faults.add(line, f"a path or label of several lines ({lines[:60]!r}): check the quotes here and below")
        elif part is None:
            faults.add(line, f"split {values[split or 0]!r} is none of {SPLIT_WORDS}")
        else:
            paths.append(file)
            labels.append(name)
            assigned.append(SPLITS.index(part))
    faults.raise_any("Every row needs an image path and a label (text or an integer).")
    if not paths:
        raise DataError(f"{path} has a header but no rows: it must list one image per line")
    return paths, labels, np.array(assigned, dtype=np.int8)


def _as_text(value: Any) -> str:
    """Return a cell as text; empty if it cannot name a file or a class."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _csv_rows(path: Path, text: str) -> tuple[list[str], Iterator[Row]]:
    first = text.lstrip("\r\n").split("\n", 1)[0]
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t|", key=first.count)
    reader = _csv_reader(text, delimiter)
    header = next(row for row in _numbered(path, reader) if row[1])
    columns = [str(name).strip() for name in header[1]]
    headless = _headless_columns(columns)
    if headless is None:
        return columns, _numbered(path, reader)
    return headless, _numbered(path, _csv_reader(text, delimiter))


def _csv_reader(text: str, delimiter: str) -> Any:
    # strict: otherwise a quote that is never closed would take the rows after it into its field
    return csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)


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


def _headless_columns(first: list[str]) -> list[str] | None:
    """Return the columns of a two-column table that starts with data; None if it starts with a header."""
    if len(first) != 2:
        return None
    is_file = [Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in first]
    return {(True, False): ["image", "label"], (False, True): ["label", "image"]}.get((is_file[0], is_file[1]))


def _json_rows(path: Path, text: str) -> tuple[list[str], Iterator[Row]]:
    records = list(_json_records(path, text))
    columns = list(dict.fromkeys(column for _, record in records for column in record))
    return columns, ((line, [record.get(column) for column in columns]) for line, record in records)


def _json_records(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.strip():
            continue
        try:
            record = json.loads(content)
        except json.JSONDecodeError as error:
            raise DataError(f"{path} line {line}: not JSON: {error.msg}. Each line must be one object.") from None
        if not isinstance(record, dict):
            raise DataError(
                f"{path} line {line}: {type(record).__name__}, not an object such as "
                '{"image": "a.jpg", "label": "cat"}'
            )
        yield line, record
