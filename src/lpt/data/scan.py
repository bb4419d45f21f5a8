"""Find the images of a split that cannot be read: by looking for the files (fast), or by decoding every image."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from lpt.data.decoding import ImageError
from lpt.data.faulty import REPAIRED
from lpt.data.images import FileImages
from lpt.data.manifest import IntArray, LabelledImages
from lpt.errors import DataError
from lpt.system.limits import usable_cores

BadImage = tuple[int, str, str]
"""Position in the split, name, and reason of an image that cannot be read."""

Result = TypeVar("Result")
_CHUNK = 64


def missing_files(images: LabelledImages) -> IntArray:
    """Return the positions of images whose file does not exist, ascending; empty for sources that are not files.

    It lists each folder once, which is much faster than a question for every file.
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
        # A file system that folds case or Unicode forms knows a file under other names than it lists.
        if file not in listings[folder] and not os.path.isfile(path):  # noqa: PTH113
            missing.append(index)
    return np.array(missing, dtype=np.int64)


def check_images(
    images: LabelledImages, workers: int | None = None, *, title: str = "Reading images"
) -> list[BadImage]:
    """Decode every image once and return those that cannot be read.

    Args:
        images: what to read.
        workers: threads; None: one for each core this process may use.
        title: text of the progress bar, which appears on a terminal only.

    Returns:
        Position, name and reason of every image that cannot be read, by position.
    """

    def fault(index: int) -> str | None:
        try:
            images.read(index)
        except DataError as error:
            return failure_reason(error)
        return None

    reasons = scan(len(images), fault, workers, title)
    return [(index, images.name(index), reason) for index, reason in enumerate(reasons) if reason is not None]


def find_repaired(images: LabelledImages, workers: int | None = None, *, title: str = "Reading images") -> list[int]:
    """Decode every image once and return the positions of those that lack their last bytes and were read all the same.

    Images that cannot be read are passed over: reading them again reports them.
    """

    def is_repaired(index: int) -> bool:
        try:
            return REPAIRED in images.read(index).info
        except DataError:
            return False

    return [index for index, repaired in enumerate(scan(len(images), is_repaired, workers, title)) if repaired]


def scan(count: int, inspect: Callable[[int], Result], workers: int | None, title: str) -> list[Result]:
    """Call `inspect` for 0..count-1 on several threads, with a progress bar on a terminal, and return the results.

    An exception of `inspect` ends the scan.
    """
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results: list[Result] = []
    with (
        Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(workers or usable_cores()) as pool,
    ):
        task = progress.add_task(title, total=count)
        try:
            for chunk in pool.map(lambda start: _inspect_chunk(inspect, start, count), range(0, count, _CHUNK)):
                results += chunk
                progress.update(task, completed=len(results))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return results


def failure_reason(error: DataError) -> str:
    """Say why an image cannot be read, without its name where the error holds both apart."""
    return error.reason if isinstance(error, ImageError) else str(error)


def _listing(folder: str) -> frozenset[str]:
    """Return the names in a folder; none where it cannot be listed."""
    try:
        with os.scandir(folder or ".") as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()


def _inspect_chunk(inspect: Callable[[int], Result], start: int, count: int) -> list[Result]:
    return [inspect(index) for index in range(start, min(start + _CHUNK, count))]
