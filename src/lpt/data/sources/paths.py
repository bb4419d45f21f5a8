"""Find the files that lists and tables name: the readings of a path that people's programs write."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Sequence
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
    """Return the images that a list or table names, read as `find_reading` says.

    Raises:
        DataError: `image_root` is no folder, or the paths are web addresses or pictures themselves.
    """
    refuse_addresses(listing, paths)
    reading = find_reading(listing, paths[:: max(1, len(paths) // _SAMPLED_PATHS)], image_root, notes)
    files = [reading.file(path) for path in paths]
    reading.note_changes(notes)
    return FileImages(reading.root, files)


def stream_files(
    listing: Path, paths: Callable[[], Iterator[str]], image_root: Path | None, notes: list[str]
) -> Iterator[Path]:
    """Yield the files that a list or table names, as `listed_images` finds them, without holding the paths.

    Args:
        listing: the list.
        paths: starts to read its paths; called twice.
        image_root: folder that relative paths start from.
        notes: gets sentences on how paths were read, some of them at the end.

    Raises:
        DataError: as `listed_images`.
    """
    reading = find_reading(listing, _sample(listing, paths()), image_root, notes)
    for path in paths():
        yield Path(os.path.join(reading.root, reading.file(path)))  # noqa: PTH118
    reading.note_changes(notes)


def _sample(listing: Path, paths: Iterable[str]) -> list[str]:
    """Return 50 to 100 paths at even distances, or all of fewer; check all of them on the way."""
    sample, stride = list[str](), 1
    for number, path in enumerate(paths):
        refuse_addresses(listing, [path])
        if number % stride == 0:
            sample.append(path)
            if len(sample) == 2 * _SAMPLED_PATHS:
                del sample[1::2]
                stride *= 2
    return sample


def find_reading(listing: Path, sample: Sequence[str], image_root: Path | None, notes: list[str]) -> PathReading:
    """Find how the paths of a list or table are meant, by a sample of them.

    Relative paths start from `image_root`. Without it they start from the folder of the list or, if more of them exist
    there, from the working directory. Where files are missing on the sample, other readings are tried: Windows paths,
    `file:` addresses, `~`, a leading slash that means the root, names in another case or without ending.

    Raises:
        DataError: `image_root` is no folder.
    """
    if image_root is not None and not image_root.is_dir():
        raise DataError(f"the image root {image_root} is not a folder; relative paths in {listing} start from it")
    roots = [image_root] if image_root is not None else [listing.parent, Path.cwd()]
    readings = _readings(roots, sample)
    hits = [_count(reading, sample, _is_file) for reading in readings]
    best = readings[hits.index(max(hits))] if any(hits) else next(filter(_is_certain, readings), readings[0])
    find = None
    if max(hits) < len(sample):
        folders = _Folders()
        near = [_count(reading, sample, folders.has) for reading in readings]
        if max(near) > max(hits):
            best, find = readings[near.index(max(near))], folders.find
    if best.note:
        notes.append(f"{listing}: {best.note}.")
    if best.root != roots[0]:
        notes.append(f"Relative paths in {listing} start from the working directory, {best.root}.")
    return PathReading(listing, best, find)


class PathReading:
    """How the paths of a list are read.

    Args:
        listing: the list.
        reading: what they start from, and how they are rewritten.
        find: finds the file that a path nearly names; None: paths are exact.
    """

    def __init__(self, listing: Path, reading: _Reading, find: Callable[[Path, str], str | None] | None) -> None:
        self.root = reading.root
        self._listing, self._rewrite, self._find = listing, reading.rewrite, find
        self._count, self._changed = 0, 0
        self._first = ("", "")

    def file(self, path: str) -> str:
        """Return the file that is meant, relative to the root or absolute; a path that names none stays as it is."""
        path = path if self._rewrite is None else self._rewrite(path)
        self._count += 1
        if self._find is None or (file := self._find(self.root, path)) is None or file == path:
            return path
        self._first = self._first if self._changed else (path, file)
        self._changed += 1
        return file

    def note_changes(self, notes: list[str]) -> None:
        """Note how many paths named their file otherwise."""
        if self._changed:  # else a folder lists a name that is no file to open, such as a pipe
            notes.append(
                f"{self._listing}: {self._changed:,} of {self._count:,} paths are read as files of the same name in "
                f"another case or form or with an ending: {self._first[0]} as {self._first[1]}."
            )


def refuse_addresses(listing: Path, paths: Iterable[str]) -> None:
    """Raise `DataError` if a path is a web address or a picture itself."""
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
