"""What all executors of a long prediction share: the folder of the job, its shards, and how it ends."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain, islice
from operator import attrgetter
from pathlib import Path

from rich.console import Console

from lpt.commands.predict.listing import LISTING_FILES, Shard, count_images, cut_shards
from lpt.commands.predict.outcome import OUTCOME
from lpt.commands.predict.parquet import PARQUET, write_parquet
from lpt.commands.predict.shards import Job, PartFolder, ShardRows, check_writable, parts_folder
from lpt.commands.predict.table import Labeller, decode_ahead
from lpt.errors import DataError, LptError, RunError
from lpt.system.claims import remove_claims
from lpt.system.files import atomic_path, remove_leftovers
from lpt.system.interrupt import Interrupted
from lpt.system.lock import locked
from lpt.system.text import plural

MOST_SHOWN = 20


class NothingReadableError(DataError):
    """No image of a job can be read; what was done is of no use."""


@dataclass(frozen=True)
class Output:
    """What a job writes, as every worker of it must have it.

    Args:
        job: what the rows depend on beside the images.
        header: the first line of a CSV; empty for other formats.
        top_k: number of classes of a row.
        address: address of the pack on the hub; None: it is a folder.
        skip_bad: leave out images that cannot be read.
    """

    job: Job
    header: str
    top_k: int
    address: str | None
    skip_bad: bool


@contextlib.contextmanager
def open_job(output: Path, paths: Iterable[Path], shard_size: int, progress: Console) -> Iterator[list[Shard]]:
    """Hold the folder of the parts, with the list of images in it; at the end only finished parts stay.

    Raises:
        RunError: the output cannot be written, or another job holds the folder.
        DataError: from `paths`.
    """
    check_writable(output)
    folder = parts_folder(output)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot make {folder}: {error.strerror}. Give another --output.") from None
    try:
        with locked(folder, lambda message: progress.print(message, markup=False)):
            try:
                tidy(folder)
                yield cut_shards(paths, shard_size, folder)
            finally:
                tidy(folder)
    finally:
        with contextlib.suppress(OSError):  # parts are in it, or files of others
            folder.rmdir()


def tidy(folder: Path) -> None:
    """Remove the list of images, the outcome, and what workers left; no worker may be at work."""
    remove_claims(folder)
    remove_leftovers(folder)
    for name in (*LISTING_FILES, OUTCOME):
        (folder / name).unlink(missing_ok=True)


def predict_shards(
    labeller: Labeller, shards: Iterator[Shard], show_done: Callable[[int], None]
) -> Iterator[tuple[Shard, ShardRows]]:
    """Yield each shard with its rows. Reading ahead goes on into the next shard, which is taken only then."""
    ahead = deque[tuple[Shard, Future[str]]]()

    def paths() -> Iterator[Path]:
        for shard in shards:
            ahead.append((shard, looking.submit(attrgetter("fingerprint"), shard)))
            yield from shard.paths

    with (
        ThreadPoolExecutor(1) as looking,  # a network disk takes a while for each image, and others can be read
        contextlib.closing(decode_ahead(paths(), labeller.reading, labeller.repaired)) as pictures,
    ):
        for first in pictures:
            shard, images = ahead.popleft()
            file, bad = io.StringIO(newline=""), list[str]()
            of_shard = chain([first], islice(pictures, shard.count - 1))
            del first
            count = labeller.write_rows(of_shard, file, bad, show_done)
            content = file.getvalue().encode("utf-8", "backslashreplace")
            repaired = tuple(labeller.repaired)
            labeller.repaired.clear()
            yield shard, ShardRows(content, count, images.result(), bad, repaired)


def finish(shards: Sequence[Shard], parts: PartFolder, output: Output, progress: Console) -> int:
    """Join the parts into the output, report, and return the number of rows.

    The parts stay: a worker that has not seen yet that the job is done would do missing ones again.

    Raises:
        DataError: no image could be read.
        RunError: a part is missing, or the output cannot be written.
    """
    headers = parts.headers(shards)
    rows, bad = sum(header.rows for header in headers), [line for header in headers for line in header.bad]
    report_bad(rows, bad, progress)
    join(shards, parts, output)
    progress.print(f"{plural(rows, 'prediction')}: {parts.output}", markup=False)
    if output.address is not None:
        progress.print(f"Pack: {output.address}", markup=False)
    report_repaired([path for header in headers for path in header.repaired], progress)
    return rows


def join(shards: Sequence[Shard], parts: PartFolder, output: Output) -> None:
    """Write the output from the parts of all shards, one part at a time.

    Raises:
        RunError: it cannot be written; the parts are kept.
    """
    with atomic_path(parts.output) as temp:
        if parts.output.suffix.lower() == PARQUET:
            write_parquet(temp, parts.contents(shards), output.top_k)
            return
        with temp.open("wb") as file:
            file.write(output.header.encode())
            for part in parts.contents(shards):
                shutil.copyfileobj(part, file)


def explain_stop(error: LptError, shards: Sequence[Shard], parts: PartFolder, progress: Console) -> LptError:
    """Return the error of a job that was stopped; say what is kept: on the console, or in that of an interruption."""
    if isinstance(error, NothingReadableError):
        parts.remove()
        return error
    done = parts.count(shards)
    of_all = f"{done:,} of {count_images(shards):,} images"
    kept = f"{of_all} are done, in {parts.folder}: the same command goes on from there"
    if isinstance(error, Interrupted):
        return Interrupted(f"interrupted; {kept if done else 'no file is left, the same command starts over'}")
    if done:
        progress.print(kept, markup=False)
    return error


def report_bad(rows: int, bad: Sequence[str], progress: Console) -> None:
    """Print the images that were left out.

    Raises:
        DataError: no image could be read.
    """
    if bad and not rows:
        raise NothingReadableError(f"none of {plural(len(bad), 'image')} can be read; the first: {bad[0]}")
    if bad:
        progress.print(f"Left out: {len(bad)} of {rows + len(bad)} images that cannot be read", style="yellow")
        for line in bad[:MOST_SHOWN]:
            progress.print(f"  {line}", style="yellow", markup=False)


def report_repaired(repaired: Sequence[str], progress: Console) -> None:
    """Print which images were cut short."""
    if repaired:
        count = plural(len(repaired), "image")
        progress.print(f"Repaired: {count} cut short, taken as far as they go and grey below", style="yellow")
        for path in repaired[:MOST_SHOWN]:
            progress.print(f"  {path}", style="yellow", markup=False)
