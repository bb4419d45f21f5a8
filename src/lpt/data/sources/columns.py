"""Find the columns of images and labels by the names that people give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lpt.errors import DataError

_FILE_NAMES = ("image", "path", "file", "filename", "file_name", "filepath", "file_path", "image_path", "img_path")
_PLURALS = ("paths", "files", "filenames", "file_names", "filepaths", "file_paths", "image_paths", "img_paths", "imgs")
IMAGE_NAMES = (
    *_FILE_NAMES,
    "image_file",
    "img",
    "image_name",
    "image_filename",
    "images",
    "fname",
    "relative_path",
    *_PLURALS,
)
_CLASS_NAMES = ("label", "class", "category", "target", "class_name", "label_name", "category_name", "classname")
LABEL_NAMES = (*_CLASS_NAMES, "labels", "class_id", "label_id", "category_id", "species", "y")
ID_NAMES = ("image_id", "imageid", "img_id", "id_code", "id")
"""Names of columns of file names without ending; they count if no column has a better name or holds file names."""


def find_column(
    what: str,
    given: str | None,
    usual: Sequence[str],
    columns: Mapping[str, str] | Sequence[str],
    origin: str,
    notes: list[str],
) -> str:
    """Find the column that holds the images or the labels.

    Args:
        what: `image` or `label`.
        given: name of the column, if the user chose it.
        usual: names to look for otherwise, in any case, the best first.
        columns: names of all columns, perhaps with a description of each.
        origin: the table, for messages.
        notes: gets a sentence if several columns would do.

    Raises:
        DataError: there is no such column; the message lists all columns.
    """
    if given is not None and given in columns:
        return given
    if given is None:
        matches = usual_columns(usual, columns)
        if matches:
            if len(matches) > 1:
                notes.append(
                    f"{origin}: {what}s are taken from column {matches[0]!r} ({', '.join(map(repr, matches[1:]))} "
                    f"would do too; choose with --{what}-column)."
                )
            return matches[0]
    wanted = f"column {given!r}" if given is not None else f"column of {what}s (looked for: {', '.join(usual)})"
    raise DataError(
        f"{origin}: there is no {wanted}. Its columns are: {describe_columns(columns)}. "
        f"Say which holds the {what} with --{what}-column (data.{what}_column)."
    )


def usual_columns(usual: Sequence[str], columns: Mapping[str, str] | Sequence[str]) -> list[str]:
    """Return the columns with one of the usual names, the best first."""
    by_name = {plain_name(column): column for column in reversed([*columns])}
    return [by_name[name] for name in usual if name in by_name]


def plain_name(column: str) -> str:
    """Return the name of a column in the form that names are compared in."""
    return column.strip().lower().replace(" ", "_").replace("-", "_")


def describe_columns(columns: Mapping[str, str] | Sequence[str]) -> str:
    """List the names of columns, with their descriptions if they have some."""
    if isinstance(columns, Mapping):
        return ", ".join(f"{name} ({kind})" for name, kind in columns.items()) or "none"
    return ", ".join(columns) or "none"
