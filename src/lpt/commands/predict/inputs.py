"""Find the images to classify."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from glob import glob, has_magic
from pathlib import Path

from lpt.config.bounds import escaped
from lpt.data.images import IMAGE_SUFFIXES
from lpt.data.sources.opening import is_listing, stream_listing
from lpt.data.sources.tree import Walk
from lpt.errors import DataError
from lpt.system.files import open_regular
from lpt.system.text import shorten

_FIRST_BYTES = (
    b"\xff\xd8\xff",  # JPEG and MPO
    b"\x89PNG\r\n\x1a\n",
    b"GIF87a",
    b"GIF89a",
    b"II*\0",  # TIFF
    b"MM\0*",
    b"\0\0\0\x0cjP  \r\n\x87\n",  # JPEG 2000
)
_RAW_PHOTOS = frozenset(
    {".dng", ".nef", ".nrw", ".cr2", ".cr3", ".arw", ".sr2", ".srf", ".orf", ".rw2", ".pef", ".srw", ".raf"}
    | {".3fr", ".iiq", ".dcr", ".kdc", ".erf", ".mrw", ".mef", ".mos"}
)
"""Endings of what cameras record before it is developed; a picture in such a file is its thumbnail."""


def find_images(
    given: Iterable[Path],
    notes: list[str],
    *,
    skip_bad: bool = False,
    image_root: Path | None = None,
    image_column: str | None = None,
) -> Iterator[Path]:
    """Yield files as given, all images in folders at any depth, sorted, and those that tables and lists name.

    Links are followed, and each file of a folder counts once. An image in a folder is known by its ending or by its
    first bytes. A path that is not there and has `*`, `?` or `[` in it is a pattern: `**` is any depth. Tables and
    lists are read as a stream; only the names in a folder are in memory together, because they are sorted.

    Args:
        given: files, folders, tables and lists, and patterns of them.
        notes: gets sentences on what is left out of each folder, by kind of reason, and on how tables were read.
        skip_bad: leave out folders that cannot be listed.
        image_root: folder that relative paths of tables and lists start from.
        image_column: column of images in a table; None: found by name.

    Raises:
        DataError: something does not exist, a folder holds no image or cannot be listed, or a table cannot be used.
    """
    count, refusals = 0, list[str]()
    for path in _matched(given):
        for image in _images_of(path, notes, refusals, skip_bad, image_root, image_column):
            count += 1
            yield image
    if refusals and not count:
        raise DataError(refusals[0])


def _images_of(
    path: Path,
    notes: list[str],
    refusals: list[str],
    skip_bad: bool,
    image_root: Path | None,
    image_column: str | None,
) -> Iterable[Path]:
    """Return the images of a file, folder, table or list; add to `refusals` a folder that is output of LPT."""
    if not path.exists():
        raise DataError(f"there is no file or folder {path}")
    if not path.is_dir():
        return _listed(path, notes, skip_bad, image_root, image_column) if is_listing(path) else [path]
    walk = Walk(path, _is_image)
    inside = sorted(walk.images(), key=lambda image: image.replace(os.sep, "\0").replace("/", "\0"))  # folder by folder
    _check_faults(walk, notes, skip_bad)
    reasons = walk.left.reasons("that are no images by ending or content")
    if reasons:
        notes.append(f"Left out of {path}: {'; '.join(reasons)}.")
    if not inside:
        refusals.append(_no_image(path, walk, reasons))
        if not walk.left.outputs:
            raise DataError(refusals[-1])
    return (path / image for image in inside)


def _listed(
    listing: Path, notes: list[str], skip_bad: bool, image_root: Path | None, image_column: str | None
) -> Iterator[Path]:
    """Yield the images of a table or list.

    Raises:
        DataError: the first does not exist, and `skip_bad` is not set: its paths start from another folder, probably.
    """
    images = stream_listing(listing, image_root, image_column, notes)
    first = next(images, None)
    if first is None:
        return
    if not (skip_bad or first.exists()):
        start = image_root or "the folder of the list, or the working directory"
        raise DataError(
            f"{listing}: its first image {first} does not exist. Relative paths start from {start}. Next: name another "
            "folder with --image-root, or leave out images that cannot be read with --bad-images skip."
        )
    yield first
    yield from images


def _matched(given: Iterable[Path]) -> Iterator[Path]:
    """Yield paths, with patterns replaced by what they match, sorted.

    Raises:
        DataError: a pattern matches nothing.
    """
    for path in given:
        if path.exists() or not has_magic(str(path)):
            yield path
            continue
        matches = sorted(glob(str(path.expanduser()), recursive=True))  # noqa: PTH207  # absolute patterns too
        if not matches:
            raise DataError(f"no file or folder matches the pattern {path}")
        yield from (Path(match) for match in matches if "**" not in path.parts or not Path(match).is_dir())


def _no_image(folder: Path, walk: Walk, reasons: list[str]) -> str:
    if "." in walk.left.outputs:
        return f"{folder} is output of lpt, a run or the like, and holds no image to classify; give your own images"
    left = f" (left out: {'; '.join(reasons)})" if reasons else ""
    return f"there is no image in the folder {folder}{left}; endings: {' '.join(sorted(IMAGE_SUFFIXES))}"


def _check_faults(walk: Walk, notes: list[str], skip_bad: bool) -> None:
    """Add notes about links that lead nowhere and folders that cannot be listed.

    Raises:
        DataError: a folder cannot be listed, and `skip_bad` is not set.
    """
    faults = [(walk.root / path, reason) for path, reason in walk.left.faults]
    links = [str(path) for path, _ in faults if path.is_symlink()]
    folders = [(path, reason) for path, reason in faults if not path.is_symlink()]
    if folders and not skip_bad:
        path, reason = folders[0]
        raise DataError(
            f"cannot look into {path}: {reason}. Change its permissions, name the folders and files to be read instead "
            "of one above it, or leave out what cannot be read with --bad-images skip."
        )
    for paths, noun in ((links, "link that leads nowhere"), ([str(path) for path, _ in folders], "unreadable folder")):
        if paths:
            several = noun.replace("link that leads", "links that lead").replace("folder", "folders")
            notes.append(
                f"Left out of {walk.root}: {len(paths):,} {noun if len(paths) == 1 else several} "
                f"({shorten(sorted(map(escaped, paths)), 3)})."
            )


def _is_image(path: str, ending: str) -> bool:
    """Return whether a regular file is an image by its first bytes. Raw photos are TIFF files inside."""
    if ending in _RAW_PHOTOS:
        return False
    try:
        with open_regular(Path(path)) as file:
            start = file.read(16)
    except OSError:
        return False
    return start.startswith(_FIRST_BYTES) or (start[:4] == b"RIFF" and start[8:12] == b"WEBP")
