"""Find the files that lists and tables name: the readings of a path that people's programs write."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from lpt.data.images import IMAGE_SUFFIXES, FileImages
from lpt.errors import DataError

_SAMPLED_PATHS = 50
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_FILE_URI = re.compile(r"file:(//(localhost)?(?=[/\\]))?", re.IGNORECASE)
_DRIVE = re.compile(r"/[A-Za-z]:[/\\]")

Rewrite = Callable[[str], str]


class _Reading(NamedTuple):
    """A way to read paths: what they start from, how they are rewritten, and the sentence that says so."""

    root: Path
    rewrite: Rewrite | None
    note: str


def listed_images(listing: Path, paths: list[str], image_root: Path | None, notes: list[str]) -> FileImages:
    """Return the images that a list or table names.

    Relative paths start from `image_root`. Without it they start from the folder of the list or, if more of them exist
    there, from the working directory. Where files are missing on a sample, other readings are tried: Windows paths,
    `file:` addresses, `~`, a leading slash that means the root, names in another case or without ending.

    Raises:
        DataError: `image_root` is no folder, or the paths are web addresses or pictures themselves.
    """
    _refuse_addresses(listing, paths)
    if image_root is not None and not image_root.is_dir():
        raise DataError(f"the image root {image_root} is not a folder; relative paths in {listing} start from it")
    roots = [image_root] if image_root is not None else [listing.parent, Path.cwd()]
    sample = paths[:: max(1, len(paths) // _SAMPLED_PATHS)]
    readings = _readings(roots, sample)
    hits = [_count(reading, sample, _is_file) for reading in readings]
    best = readings[hits.index(max(hits))] if any(hits) else next(filter(_is_certain, readings), readings[0])
    find = None
    if max(hits) < len(sample):
        folders = _Folders()
        near = [_count(reading, sample, folders.has) for reading in readings]
        if max(near) > max(hits):
            best, find = readings[near.index(max(near))], folders.find
    chosen = paths if best.rewrite is None else [best.rewrite(path) for path in paths]
    if best.note:
        notes.append(f"{listing}: {best.note}.")
    if best.root != roots[0]:
        notes.append(f"Relative paths in {listing} start from the working directory, {best.root}.")
    if find is not None:
        chosen = _found(listing, best.root, chosen, find, notes)
    return FileImages(best.root, chosen)


def _refuse_addresses(listing: Path, paths: Sequence[str]) -> None:
    for path in paths:
        if path[:5].lower() == "data:":
            raise DataError(
                f"{listing}: {path[:40]}... is a picture written as text; save it to a file and list its path"
            )
        if "://" in path and path[:5].lower() != "file:" and _ADDRESS.match(path):
            raise DataError(f"{listing}: {path} is a web address; download the images and list their local paths")


def _readings(roots: Sequence[Path], sample: Sequence[str]) -> list[_Reading]:
    """List the readings that change a path of the sample, the plain one first."""
    rewrites: list[tuple[Rewrite | None, str]] = [(None, "")]
    if os.sep == "/" and any("\\" in path for path in sample):
        rewrites.append((_with_slashes, ""))
    if any(_FILE_URI.match(path) for path in sample):
        rewrites.append((partial(_without_scheme, decode=True), "paths are read as file: addresses"))
        rewrites.append((partial(_without_scheme, decode=False), "paths are read as file: addresses, `%` as it stands"))
    if any(path.startswith("~") for path in sample):
        rewrites.append((os.path.expanduser, "`~` is read as the home folder"))
    if any(path[:1] in ("/", "\\") for path in sample):
        rewrites.append((_without_slash, "paths are read without their leading slash, from {root}"))
    readings = [_Reading(root, rewrite, note.format(root=root)) for rewrite, note in rewrites for root in roots]
    for root in roots:
        name = root.resolve().name
        if name and any(_with_slashes(path).removeprefix("./").startswith(f"{name}/") for path in sample):
            note = f"paths are read without `{name}/`, which {root} is already"
            readings.append(_Reading(root, partial(_without_folder, name=name), note))
    return readings


def _is_certain(reading: _Reading) -> bool:
    """Return whether paths that call for a reading have no other, so that messages show them read that way."""
    return reading.rewrite is not None and (
        reading.rewrite is os.path.expanduser or getattr(reading.rewrite, "func", None) is _without_scheme
    )


def _with_slashes(path: str) -> str:
    return path.replace("\\", "/")


def _without_scheme(path: str, *, decode: bool) -> str:
    scheme = _FILE_URI.match(path)
    if scheme is None:
        return path
    rest = path[scheme.end() :]
    rest = unquote(rest) if decode else rest
    return rest[1:] if os.sep == "\\" and _DRIVE.match(rest) else rest


def _without_slash(path: str) -> str:
    return _with_slashes(path).lstrip("/")


def _without_folder(path: str, *, name: str) -> str:
    return _with_slashes(path).removeprefix("./").removeprefix(f"{name}/")


def _count(reading: _Reading, sample: Sequence[str], exists: Callable[[Path, str], bool]) -> int:
    rewrite = reading.rewrite
    return sum(exists(reading.root, path if rewrite is None else rewrite(path)) for path in sample)


def _is_file(root: Path, path: str) -> bool:
    return os.path.isfile(root / path)  # noqa: PTH113


def _found(
    listing: Path, root: Path, paths: Sequence[str], find: Callable[[Path, str], str | None], notes: list[str]
) -> list[str]:
    """Return the paths of the files that are meant, and note how many are named otherwise; others stay as they are."""
    files = [path if (file := find(root, path)) is None else file for path in paths]
    changed = [(path, file) for path, file in zip(paths, files, strict=True) if path != file]
    if not changed:  # a folder lists a name that is no file to open, such as a pipe
        return files
    given, file = changed[0]
    notes.append(
        f"{listing}: {len(changed):,} of {len(paths):,} paths are read as files of the same name in another case or "
        f"form or with an ending: {given} as {file}."
    )
    return files


class _Folders:
    """The names in folders, by the form in which they are compared; each folder is listed once."""

    def __init__(self) -> None:
        self._names: dict[str, dict[str, list[str]]] = {}

    def has(self, root: Path, path: str) -> bool:
        """Return whether a path names a file, or nearly names just one."""
        return self.find(root, path) is not None

    def find(self, root: Path, path: str) -> str | None:
        """Return the path of the file that a path names or nearly names; None if there is none or more than one."""
        if _is_file(root, path):
            return path
        *folders, last = _with_slashes(path).split("/")
        place = "/" if path.startswith("/") else ""
        for folder in folders:
            if folder in ("", "."):
                continue
            name = folder if folder == ".." else self._name(str(root / place), folder, folders=True)
            if name is None:
                return None
            place = os.path.join(place, name)  # noqa: PTH118
        name = self._name(str(root / place), last, folders=False)
        return None if name is None else os.path.join(place, name)  # noqa: PTH118

    def _name(self, folder: str, name: str, *, folders: bool) -> str | None:
        """Return the only entry of a folder whose name is nearly this."""
        if folder not in self._names:
            self._names[folder] = _listing(folder)
        listing = self._names[folder]
        wanted = _compared(name)
        same = listing.get(wanted, [])
        if name in same:
            return name
        if not same and not folders:
            same = listing.get(f"{wanted}.", [])
        return same[0] if len(same) == 1 else None


def _listing(folder: str) -> dict[str, list[str]]:
    """Return the entries of a folder by compared name; images also by their name without ending, with a dot for it."""
    names: dict[str, list[str]] = {}
    try:
        entries = os.listdir(folder)  # noqa: PTH208  # half a million `Path`s take seconds
    except OSError:
        return names
    for entry in entries:
        stem, ending = os.path.splitext(entry)  # noqa: PTH122
        names.setdefault(_compared(entry), []).append(entry)
        if ending.lower() in IMAGE_SUFFIXES:
            names.setdefault(f"{_compared(stem)}.", []).append(entry)
    return names


def _compared(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
