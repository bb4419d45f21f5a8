"""Read CSV, TSV, JSON and JSONL tables: a column of image paths, a column of labels, perhaps one of splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lpt.data.images import IMAGE_SUFFIXES
from lpt.data.sources.columns import ID_NAMES, IMAGE_NAMES, LABEL_NAMES, find_column, plain_name, usual_columns
from lpt.data.sources.onehot import ADVICE, marked_class, one_hot_columns
from lpt.data.sources.parquet import PARQUET
from lpt.data.sources.paths import listed_images, stream_files
from lpt.data.sources.raw import SPLIT_WORDS, SPLITS, RawData, RawSplit, encode_labels, label_text, whole_numbers
from lpt.data.sources.rows import Row, Rows, parquet_rows, read_rows, stream_rows
from lpt.data.sources.splitting import SplitReading, Values, find_split
from lpt.data.sources.text import Faults
from lpt.errors import DataError
from lpt.system.text import shorten

_SAMPLED_ROWS = 50
_MOST_VALUES = 100
_INDEX_NAMES = ("", "index", "unnamed:_0")


class Columns(NamedTuple):
    """The columns of a table that a user chose; None: found by names and values.

    Args:
        image, label, split: their names.
        needs_split: whether the table must have the column of splits that is named.
    """

    image: str | None = None
    label: str | None = None
    split: str | None = None
    needs_split: bool = True


@dataclass(frozen=True)
class _Reading:
    """The columns of a table that are read.

    Args:
        image: number of the column of paths.
        label: number of the column of labels; None: there are one-hot columns.
        one_hot: their numbers.
        split: how the split of a row is told.
    """

    image: int
    label: int | None
    one_hot: list[int]
    split: SplitReading


def read_table(path: Path, image_root: Path | None, chosen: Columns) -> RawData:
    """Read the splits of a table; without a column of splits all rows are training images.

    Raises:
        DataError: a column is missing, or rows are faulty; the message names the first few by line.
    """
    data = RawData({})
    rows = read_rows(path)
    reading = _find_columns(path, rows, chosen, data.notes)
    paths, labels, assigned = _collect(path, rows, reading)
    labels = whole_numbers(labels, str(path), data.notes)
    source = listed_images(path, paths, image_root, data.notes)
    classes = [rows.columns[index] for index in reading.one_hot]
    for name in SPLITS:
        part = np.flatnonzero(assigned == SPLITS.index(name)).astype(np.int64)
        if len(part):
            codes, names, kind = encode_labels([labels[row] for row in part], classes)
            origin = f"{path} ({name})" if reading.split else str(path)
            data.splits[name] = RawSplit(source, part, codes, names, kind, origin)
    return data


def stream_paths(path: Path, image_root: Path | None, image_column: str | None, notes: list[str]) -> Iterator[Path]:
    """Yield the image files that a table lists, whatever its labels and splits say. It is never in memory whole.

    Raises:
        DataError: there is no column of images, or a row names none.
    """
    rows = stream_rows(path)
    column = _image_column(path, rows, image_column, notes)
    if path.suffix.lower() == PARQUET:
        rows = parquet_rows(path, column)
    image = rows.columns.index(column)
    faults, count = Faults(path, rows.unit), 0
    for line, values in rows.read():
        count += 1
        file = _path_text(values[image]) if image < len(values) else ""
        if not file or "\n" in file:
            faults.add(line, f"no usable image path ({values[image : image + 1]!r})")
    faults.raise_any("Every row needs an image path.")
    _check_rows(path, count)
    yield from stream_files(path, lambda: (_path_text(values[image]) for _, values in rows.read()), image_root, notes)


def _find_columns(path: Path, rows: Rows, chosen: Columns, notes: list[str]) -> _Reading:
    """Find the columns of a table by their names, and where these say nothing, by their values."""
    columns, origin = rows.columns, str(path)
    image = columns.index(_image_column(path, rows, chosen.image, notes))
    by_name = chosen.label or next((name for name in usual_columns(LABEL_NAMES, columns) if name != columns[image]), "")
    taken = {image, *([columns.index(by_name)] if by_name in columns else [])}
    values = _values(rows, taken) if len(taken) < len(columns) else {}
    if chosen.split is None or chosen.split in columns or chosen.needs_split:
        split = find_split(columns, values, taken, chosen.split, origin, notes)
    else:
        split = SplitReading()
        notes.append(f"{origin} has no column {chosen.split!r}: all its images are of one split.")
    taken |= split.columns
    if by_name:
        label = columns.index(find_column("label", chosen.label, LABEL_NAMES, columns, origin, notes))
        return _Reading(image, label, [], split)
    others = [index for index in range(len(columns)) if index not in taken | _indices(columns)]
    if len(others) == 1:
        notes.append(f"{origin}: labels are taken from column {columns[others[0]]!r} (choose with --label-column).")
        return _Reading(image, others[0], [], split)
    one_hot = one_hot_columns(len(columns), values, taken)
    if not one_hot:
        find_column("label", None, LABEL_NAMES, columns, origin, notes)  # raises
    names = shorten([columns[index] for index in one_hot])
    notes.append(f"{origin}: read as one-hot columns, one for each class: {names} (else choose with --label-column).")
    return _Reading(image, None, one_hot, split)


def _image_column(path: Path, rows: Rows, given: str | None, notes: list[str]) -> str:
    """Return the column of images: by its name, by the endings in it, or of names without ending."""
    columns = rows.columns
    if given is None and not usual_columns(IMAGE_NAMES, columns):
        sample = [values for _, values in islice(rows.read(), _SAMPLED_ROWS)]
        matches = [column for index, column in enumerate(columns) if _holds_files(sample, index)]
        matches = matches or usual_columns(ID_NAMES, columns)[:1]
        if len(matches) == 1:
            notes.append(f"{path}: images are taken from column {matches[0]!r} (choose with --image-column).")
            return matches[0]
    return find_column("image", given, IMAGE_NAMES, columns, str(path), notes)


def _holds_files(sample: Sequence[Sequence[Any]], index: int) -> bool:
    cells = [str(values[index]).strip() for values in sample if index < len(values)]
    return bool(cells) and all(Path(cell).suffix.lower() in IMAGE_SUFFIXES for cell in cells)


def _indices(columns: Sequence[str]) -> set[int]:
    """Return the columns by which pandas numbers rows."""
    return {index for index, column in enumerate(columns) if plain_name(column) in _INDEX_NAMES}


def _values(rows: Rows, taken: set[int]) -> Values:
    """Count the values of every column that is not taken and has not too many."""
    counters: dict[int, Counter[str]] = {index: Counter() for index in range(len(rows.columns)) if index not in taken}
    for _, values in rows.read():
        if not counters:
            break
        if len(values) != len(rows.columns):
            continue  # `_collect` names it
        for index, counter in list(counters.items()):
            counter[str(values[index]).strip()] += 1
            if len(counter) > _MOST_VALUES:
                del counters[index]
    return counters


def _collect(
    path: Path, rows: Rows, reading: _Reading
) -> tuple[list[str], list[str], np.ndarray[Any, np.dtype[np.int8]]]:
    """Return path, label and split (position in `SPLITS`) of every row."""
    paths: list[str] = []
    labels: list[str] = []
    assigned: list[int] = []
    faults = Faults(path, rows.unit)
    advice = (
        "Every row needs an image path and a label (text or an integer; nan, null and #N/A mean that it is missing)."
    )
    for line, values in rows.read():
        file, name, fault = _read_row(rows.columns, reading, (line, values))
        part = reading.split.of(values) if reading.split and not fault else "train"
        if part is None:
            fault = f"split {reading.split.cells(values)} is none of {SPLIT_WORDS}"
            advice = reading.split.advice
        if fault or part is None:
            faults.add(line, fault)
            continue
        paths.append(file)
        labels.append(name)
        assigned.append(SPLITS.index(part))
    faults.raise_any(ADVICE if reading.one_hot else advice)
    _check_rows(path, len(paths))
    return paths, labels, np.array(assigned, dtype=np.int8)


def _read_row(columns: Sequence[str], reading: _Reading, row: Row) -> tuple[str, str, str]:
    """Return the path and the label of a row, and what is wrong with it."""
    values = row[1]
    if len(values) != len(columns):
        return "", "", f"{len(values)} fields where the header has {len(columns)}"
    file = _path_text(values[reading.image])
    if not file:
        return "", "", f"no usable image path ({values[reading.image]!r})"
    if reading.label is None:
        name, fault = marked_class(columns, reading.one_hot, values)
        return file, name, fault
    name = label_text(values[reading.label])
    if not name:
        return "", "", f"no usable label ({values[reading.label]!r})"
    if "\n" in file + name:
        lines = name if "\n" in name else file
        return "", "", f"a path or label of several lines ({lines[:60]!r}): check the quotes here and below"
    return file, name, ""


def _path_text(value: Any) -> str:
    """Return a cell as a path; empty if it cannot be one. Numbers are names without ending."""
    if isinstance(value, str):
        return value.strip()
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def _check_rows(path: Path, count: int) -> None:
    if not count:
        raise DataError(f"{path} has a header but no rows: it must list one image per line")
