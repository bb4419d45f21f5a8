"""Which images of a split can be read: by their existence (fast), or by decoding every one."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lpt.data.images import FileImages, ImageError
from lpt.data.manifest import IntArray, LabelledImages
from lpt.errors import DataError
from lpt.system.limits import usable_cores

BadImage = tuple[int, str, str]
"""Position in the split, name, and reason of an image that cannot be read."""

Seen = TypeVar("Seen")
_CHUNK = 64


def missing_files(images: LabelledImages) -> IntArray:
    """Positions of the images whose file does not exist, ascending; empty for sources that are not files.

    Each folder is listed once, which is much faster than asking for every file.
    """
    source = images.source
    if not isinstance(source, FileImages):
        return np.zeros(0, dtype=np.int64)
    listings: dict[str, frozenset[str]] = {}
    missing = []
    for index, row in enumerate(images.rows.tolist()):
        path = source.path(row)
        folder, file = os.path.split(path)
        if folder not in listings:
            listings[folder] = _listing(folder)
        # File systems that fold case or Unicode forms know files under other names than they list.
        if file not in listings[folder] and not os.path.isfile(path):  # noqa: PTH113
            missing.append(index)
    return np.array(missing, dtype=np.int64)


def check_images(
    images: LabelledImages, workers: int | None = None, *, title: str = "Reading images", stop: bool = False
) -> list[BadImage]:
    """Decode every image once.

    Args:
        images: what to read.
        workers: threads; None: one for each core this process may use.
        title: what the progress bar (shown on a terminal only) says.
        stop: stop at the first image that cannot be read.

    Returns:
        Position, name and reason of every image that cannot be read, by position.

    Raises:
        DataError: an image cannot be read and `stop` is set.
    """

    def look(index: int) -> str | None:
        try:
            images.read(index)
        except DataError as error:
            if stop:
                raise
            return failure_reason(error)
        return None

    reasons = scan(len(images), look, workers, title)
    return [(index, images.name(index), reason) for index, reason in enumerate(reasons) if reason is not None]


def scan(count: int, look: Callable[[int], Seen], workers: int | None, title: str) -> list[Seen]:
    """What `look` returns for 0..count-1, found by several threads, with a progress bar on a terminal.

    An exception of `look` ends the scan.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: list[Seen] = []
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(workers or usable_cores()) as pool,
    ):
        task = progress.add_task(title, total=count)
        try:
            for seen in pool.map(lambda start: _look_at(look, start, count), range(0, count, _CHUNK)):
                found += seen
                progress.update(task, completed=len(found))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def failure_reason(error: DataError) -> str:
    """Why an image cannot be read, without its name where that can be told apart."""
    return error.reason if isinstance(error, ImageError) else str(error)


def _listing(folder: str) -> frozenset[str]:
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()


def _look_at(look: Callable[[int], Seen], start: int, count: int) -> list[Seen]:
    return [look(index) for index in range(start, min(start + _CHUNK, count))]
