"""The files that LPT wrote and may therefore remove or replace.

A marker, a JSON file that names the kind of a folder, proves that LPT made it. Only the names that LPT writes are
removed from it; everything else stays. Links are never followed.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from lpt.errors import RunError
from lpt.system.files import TEMP_SUFFIX

Names: TypeAlias = "Mapping[str, Names | None]"
"""Patterns of the names in a folder: None for a file, the inner names for a folder."""

MARKER_VERSION = 1
MOST_MARKER_BYTES = 64 * 2**20
PACK_FILES = ("pack.json", "pack.safetensors", "README.md")
_SHOWN = 5
_TEMP = re.compile(r"\.(.+)\.[a-z0-9_]+" + re.escape(TEMP_SUFFIX))


def exactly(*names: str, inside: Names | None = None) -> Names:
    """Return patterns for exactly these names: of files, or of folders with the names `inside`."""
    return dict.fromkeys(map(re.escape, names), inside)


PACK_NAMES = exactly(*PACK_FILES)


def marker(kind: str) -> dict[str, Any]:
    """Return the fields by which a marker proves the kind of its folder."""
    return {"kind": kind, "format_version": MARKER_VERSION}


def marker_fields(file: Path) -> dict[str, Any]:
    """Read the fields of a marker; none where it is missing, a link, huge, damaged or no JSON object."""
    try:
        status = os.lstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_MARKER_BYTES:
            return {}
        fields = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return fields if isinstance(fields, dict) else {}


def is_marked(file: Path, kind: str) -> bool:
    """Return whether a file is a marker of this kind, in the format of this version."""
    fields = marker_fields(file)
    version = fields.get("format_version")
    return fields.get("kind") == kind and type(version) is int and version == MARKER_VERSION


@dataclass(frozen=True)
class Contents:
    """The contents of a folder, sorted by whether LPT writes them.

    Args:
        files: files and links under names that LPT writes.
        folders: folders under names that LPT writes, the inner ones first.
        others: everything else, relative to the folder, `/` after a folder, whose contents are not listed.
        blocking: entries with a name that LPT writes but of another kind, such as a folder `run.json/`.
    """

    files: tuple[Path, ...] = ()
    folders: tuple[Path, ...] = ()
    others: tuple[str, ...] = ()
    blocking: tuple[str, ...] = ()

    def others_message(self, folder: Path) -> str:
        """Return the message about the others in a folder; empty if there are none."""
        if not self.others:
            return ""
        more = f" and {len(self.others) - _SHOWN:,} more" if len(self.others) > _SHOWN else ""
        return f"Left in {folder}, not written by lpt: {len(self.others):,} ({', '.join(self.others[:_SHOWN])}{more})"


def contents(folder: Path, names: Names) -> Contents:
    """Sort the contents of a folder, and of the folders in it that LPT makes.

    Raises:
        RunError: a folder cannot be listed.
    """
    files, folders, others, blocking = list[Path](), list[Path](), list[str](), list[str]()
    for entry in _entries(folder):
        path, is_folder = folder / entry.name, entry.is_dir(follow_symlinks=False)
        shown = f"{entry.name}/" if is_folder else entry.name
        pattern = _pattern_of(entry.name, names)
        if pattern is None:
            others.append(shown)
            continue
        inner = names.get(pattern)
        if entry.is_symlink() or (inner is None and entry.is_file(follow_symlinks=False)):
            files.append(path)
        elif inner is None or not is_folder:
            blocking.append(shown)
        else:
            inside = contents(path, inner)
            files += inside.files
            folders += [*inside.folders, path]
            others += [f"{entry.name}/{name}" for name in inside.others]
            blocking += [f"{entry.name}/{name}" for name in inside.blocking]
    return Contents(tuple(files), tuple(folders), tuple(others), tuple(blocking))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as listing:
            return sorted(listing, key=lambda entry: entry.name)
    except OSError as error:
        raise RunError(
            f"cannot look into the folder {folder}: {error.strerror}. Change its permissions, or choose another folder."
        ) from None


def check_no_others(folder: Path, marker: str, own: Collection[str], what: str) -> None:
    """Check that a folder without a marker is missing, or holds nothing but what a kill at the start left.

    Args:
        folder: the folder.
        marker: name of the marker.
        own: names of the files that are written before the marker.
        what: what the folder would be, in words: `comparison`.

    Raises:
        RunError: it holds something else.
    """
    inside = contents(folder, exactly(marker, *own)) if folder.is_dir() else Contents()
    files = [file for file in inside.files if file.name not in own and not is_temporary(file)]
    if inside.others or inside.blocking or inside.folders or files:
        raise RunError(
            f"{folder} holds files and is no {what} of lpt: {marker} is missing, damaged or of something else. Choose "
            "another folder with --output."
        )


def is_temporary(path: Path) -> bool:
    """Return whether a file is one that a killed writer of LPT left."""
    return _TEMP.fullmatch(path.name) is not None


def remove(inside: Contents, *, keep: Collection[Path] = (), last: str = "") -> None:
    """Remove what LPT wrote; folders that hold something else, or that are mount points, stay.

    Args:
        inside: the contents of the folder.
        keep: files to leave.
        last: name of the files to remove after all others, the markers.

    Raises:
        OSError: a file cannot be removed.
    """
    for path in sorted((file for file in inside.files if file not in keep), key=lambda file: file.name == last):
        path.unlink(missing_ok=True)
    for path in inside.folders:
        try:
            path.rmdir()
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY, errno.ENOENT):
                raise


def remove_names(folder: Path, names: Names) -> None:
    """Remove what LPT wrote in a folder, and then the folder if it is empty; of a link only the link.

    A folder that does not exist is no error.

    Raises:
        OSError: something cannot be removed.
    """
    if folder.is_symlink():
        folder.unlink()
    elif folder.is_dir():
        remove(contents(folder, names))
        with contextlib.suppress(OSError):  # it holds something else
            folder.rmdir()


class Input(NamedTuple):
    """A path that a command reads, or that must not be lost, and what it is."""

    what: str
    path: Path


def first_inside(folder: Path, inputs: Iterable[Input]) -> Input | None:
    """Return the first input, or protected place, that is this folder or lies in it.

    Protected are the current folder, the home folder and the root of the file system.

    Folders are compared by identity, not by name: through links, `..` and names in another case.
    """
    holder = _Holder(folder)
    return next((item for item in (*_places(), *inputs) if holder.holds(str(item.path))), None)


class _Holder:
    """A folder that may hold given paths. It caches the folders looked up, since many images share one."""

    def __init__(self, folder: Path) -> None:
        self._real = os.path.normcase(os.path.realpath(folder))
        self._stat = os.stat(folder)  # noqa: PTH116
        self._known: dict[str, bool] = {}
        self._real_of = lru_cache(maxsize=100_000)(os.path.realpath)

    def holds(self, path: str) -> bool:
        if os.path.basename(path) in ("", ".", ".."):  # noqa: PTH119  (its parent is not the part before it)
            path = os.path.realpath(path)
        parent = os.path.dirname(path) or "."  # noqa: PTH120
        if self._above(os.path.abspath(parent)) or self._above(str(self._real_of(parent))):  # noqa: PTH100
            return True
        return (os.path.islink(path) or os.path.isdir(path)) and self._above(os.path.realpath(path))  # noqa: PTH112, PTH114

    def _above(self, folder: str) -> bool:
        """Return whether a folder or one of its parents is the holder."""
        if folder not in self._known:
            parent = os.path.dirname(folder)  # noqa: PTH120
            self._known[folder] = self._is(folder) or (parent != folder and self._above(parent))
        return self._known[folder]

    def _is(self, folder: str) -> bool:
        if os.path.normcase(folder) == self._real:
            return True
        with contextlib.suppress(OSError):
            return os.path.samestat(os.stat(folder), self._stat)  # noqa: PTH116
        return False


def _places() -> Iterable[Input]:
    """Return the places that are protected in any case."""
    with contextlib.suppress(OSError):
        yield Input("the current folder", Path.cwd())
    with contextlib.suppress(RuntimeError):
        yield Input("your home folder", Path.home())
    yield Input("the root of the file system", Path(os.path.abspath(os.sep)))  # noqa: PTH100


def _pattern_of(name: str, names: Names) -> str | None:
    """Return the pattern that a name fits; a temporary file counts by its later name. None: LPT writes no such name."""
    temporary = _TEMP.fullmatch(name)
    if temporary is not None:
        name = temporary[1]
        names = {pattern: inner for pattern, inner in names.items() if inner is None}
    return next((pattern for pattern in names if re.fullmatch(pattern, name)), None)
