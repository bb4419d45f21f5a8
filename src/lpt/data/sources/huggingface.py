"""Read Hugging Face data sets: `hf:NAME_OR_FOLDER[:image_column[:label_column]]`.

Images stay encoded in the table of the data set, and `lpt.data.decoding` decodes them. So the same picture gives the
same pixels from every source.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lpt.config.bounds import escaped
from lpt.data.images import ColumnImages
from lpt.data.manifest import IntArray
from lpt.data.sources.columns import IMAGE_NAMES, LABEL_NAMES, describe_columns, find_column
from lpt.data.sources.raw import (
    SPLIT_WORDS,
    SPLITS,
    RawData,
    RawSplit,
    SplitName,
    encode_labels,
    label_text,
    split_name,
    whole_numbers,
)
from lpt.data.sources.tree import Walk
from lpt.errors import DataError
from lpt.system.packages import install_command
from lpt.system.text import plural, shorten

PREFIX = "hf:"


def read_hugging_face(spec: str, image_column: str | None, label_column: str | None) -> RawData:
    """Read the splits of a data set, by name; a single split of any name is for training.

    Args:
        spec: the data set with the `hf:` prefix; columns named in it win over the other two arguments.
        image_column: column of images; None: found by type or name.
        label_column: column of labels; None: found by type or name.

    Raises:
        DataError: the `datasets` package is missing, the data set cannot be loaded, no split has a known name, or
            the first split lacks a column or has several that would do.
    """
    name, in_spec_image, in_spec_label = parse_spec(spec)
    tables = _load(name)
    data = RawData({})
    used = _splits_of(name, tables, data.notes)
    first = next(used[split] for split in SPLITS if split in used)
    kinds = {column: type(feature).__name__ for column, feature in first.features.items()}
    image = _image_column(kinds, in_spec_image or image_column, name, data.notes)
    label = _label_column(kinds, in_spec_label or label_column, name, data.notes)
    for split, table in used.items():
        data.add(split, partial(_read_split, table, image, label, f"{name} {split}", data.notes))
    return data


def parse_spec(spec: str) -> tuple[str, str | None, str | None]:
    """Return name or folder, image column and label column of `hf:NAME[:image[:label]]`.

    Raises:
        DataError: there is no name, or there are more than three parts.
    """
    fields = spec.removeprefix(PREFIX).split(":")
    if len(fields) > 1 and len(fields[0]) == 1 and fields[1][:1] in ("\\", "/"):
        fields = [":".join(fields[:2]), *fields[2:]]  # a Windows drive
    if not fields[0] or len(fields) > 3:
        raise DataError(f"{spec!r} must be hf:NAME or hf:FOLDER, with :image_column:label_column after it if needed")
    padded: list[str | None] = [*(field or None for field in fields[1:]), None, None]
    return fields[0], padded[0], padded[1]


def is_on_hub(spec: str) -> bool:
    """Return whether a source is a data set on the hub: neither a file or folder, nor `hf:FOLDER`.

    Raises:
        DataError: as `parse_spec`.
    """
    return spec.startswith(PREFIX) and not Path(parse_spec(spec)[0]).exists()


def _load(name: str) -> Mapping[str, Any]:
    """Load the tables of a data set by split name."""
    try:
        import datasets
    except ImportError:
        raise DataError(
            f"hf:{name} needs the package `datasets`, which is not installed. Next: {install_command('hf')}"
        ) from None
    folder = Path(name)
    if not folder.exists() and (folder.is_absolute() or name.startswith((".", "~"))):
        raise DataError(f"hf:{name}: there is no folder {folder.absolute()}")
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            loaded = datasets.load_from_disk(str(folder))
        else:
            _refuse_outputs(name, folder)
            loaded = datasets.load_dataset(str(folder) if folder.exists() else name)
    except DataError:
        raise
    except Exception as error:  # a loader, a file format or the network may raise anything
        raise DataError(
            f"hf:{name} cannot be loaded: {type(error).__name__}: {error}\nGive the name of a data set on "
            "huggingface.co (with network access) or a local folder of parquet or arrow files."
        ) from None
    return loaded if isinstance(loaded, Mapping) else {"train": loaded}


def _refuse_outputs(name: str, folder: Path) -> None:
    """Raise `DataError` if the loader would take plots of LPT in a folder of image files for data."""
    walk = Walk(folder)
    if folder.is_dir() and walk.images() and walk.left.outputs:
        raise DataError(
            f"hf:{name}: the folder holds output of lpt ({shorten(walk.left.outputs, 3)}), which the loader would take "
            f"for data: move that out of it, or read the folder of classes without hf: as {name}"
        )


def _splits_of(name: str, tables: Mapping[str, Any], notes: list[str]) -> dict[SplitName, Any]:
    if len(tables) == 1:
        return {"train": next(iter(tables.values()))}
    used: dict[SplitName, Any] = {}
    for key, table in tables.items():
        split = split_name(key)
        if split is not None:
            used.setdefault(split, table)
    if not used:
        raise DataError(f"hf:{name} has no training split; its splits are {', '.join(tables)} (known: {SPLIT_WORDS})")
    others = [key for key in tables if all(tables[key] is not table for table in used.values())]
    if others:
        notes.append(f"Splits of hf:{name} that are not used: {shorten(others)}.")
    return used


def _image_column(kinds: dict[str, str], given: str | None, name: str, notes: list[str]) -> str:
    typed = [column for column, kind in kinds.items() if kind == "Image"]
    if given is None and len(typed) == 1:
        return typed[0]
    if given is None and len(typed) > 1:
        raise DataError(
            f"hf:{name} has {len(typed)} image columns: {', '.join(typed)}. Say which with hf:{name}:{typed[0]}"
        )
    return find_column("image", given, IMAGE_NAMES, kinds, f"hf:{name}", notes)


def _label_column(kinds: dict[str, str], given: str | None, name: str, notes: list[str]) -> str:
    typed = [column for column, kind in kinds.items() if kind == "ClassLabel"]
    if given is None and len(typed) == 1:
        return typed[0]
    if given is None and len(typed) > 1:
        raise DataError(
            f"hf:{name} has {len(typed)} label columns: {', '.join(typed)}. Say which with "
            f"--label-column {typed[0]} or hf:{name}:IMAGE_COLUMN:{typed[0]} (its columns: {describe_columns(kinds)})"
        )
    return find_column("label", given, LABEL_NAMES, kinds, f"hf:{name}", notes)


def _read_split(table: Any, image: str, label: str, origin: str, notes: list[str]) -> RawSplit:
    """Read one split.

    Raises:
        DataError: a column is missing or of a kind that LPT cannot use, or no image has a label.
    """
    missing = [column for column in (image, label) if column not in table.features]
    if missing:
        raise DataError(f"{origin}: there is no column {missing[0]!r}; its columns are {', '.join(table.features)}.")
    values = table.select_columns([label]).with_format("arrow")[:][label]
    feature = table.features[label]
    if type(feature).__name__ == "ClassLabel":
        labels = values.fill_null(-1).to_numpy().astype(np.int64)
        names, kind = tuple(map(escaped, feature.names)), "ordered"
    else:
        labels, names, kind = _plain_labels(values.to_pylist(), label, origin, notes)
    rows = np.flatnonzero(labels >= 0).astype(np.int64)
    if not len(rows):
        raise DataError(
            f"{origin}: column {label!r} gives none of its {plural(len(labels), 'image')} a label; another column is "
            "chosen with --label-column."
        )
    if len(rows) < len(labels):
        notes.append(
            f"{origin}: {len(labels) - len(rows):,} of {plural(len(labels), 'image')} without a label, not used."
        )
    return RawSplit(_images(table, image, origin), rows, labels[rows], names, kind, f"hf:{origin}")  # type: ignore[arg-type]


def _plain_labels(
    values: list[Any], column: str, origin: str, notes: list[str]
) -> tuple[IntArray, tuple[str, ...], str]:
    """Return codes (-1 for no label), names and kind of labels in a column without class names."""
    odd = next((row for row, value in enumerate(values) if not _is_label(value)), None)
    if odd is not None:
        raise DataError(
            f"{origin} row {odd}: column {column!r} holds {type(values[odd]).__name__}; a label must be one integer or "
            "one text. Choose another column with --label-column."
        )
    texts = [str(value) if isinstance(value, bool) else label_text(value) for value in values]
    labelled = [row for row, text in enumerate(texts) if text]
    codes, names, kind = encode_labels(whole_numbers([texts[row] for row in labelled], origin, notes))
    labels = np.full(len(values), -1, dtype=np.int64)
    labels[labelled] = codes
    return labels, names, kind


def _is_label(value: Any) -> bool:
    """Return whether a value is a label or a missing one: pandas writes integers with gaps as 1.0 and NaN."""
    return value is None or isinstance(value, str | int) or (isinstance(value, float) and not value % 1 > 0)


def _images(table: Any, column: str, origin: str) -> ColumnImages:
    """Return the image column with its bytes still encoded."""
    import datasets

    narrow = table.select_columns([column])
    if type(table.features[column]).__name__ == "Image":
        narrow = narrow.cast_column(column, datasets.Image(decode=False))
    return ColumnImages(narrow, column, origin)
