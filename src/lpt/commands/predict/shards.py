"""Cut a long prediction into shards, so that it can be interrupted, and divided over processes.

Shards depend on the list of images alone, never on the number of processes, and batches do not cross them. So the rows
depend neither on that number nor on interruptions. A finished shard is one file, its part, in a folder beside the
output. The first line of a part says which job and images it is of. A part is written whole or not at all, so nothing
else has to be kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lpt.errors import LptError, RunError
from lpt.system.files import atomic_path, remove_leftovers, write_bytes
from lpt.system.interrupt import Interrupted, StopRequest
from lpt.system.outputs import PARTS_ENDING
from lpt.system.processes import Processes

SHARD_SIZE = 1024
"""Images of a shard: the most that an interruption loses for each process. A multiple of usual batch sizes."""

Job = Mapping[str, str | int | None]
"""What the rows depend on beside the images, each under a name that a user understands."""
_PART = re.compile(r"\d{6,}\.part")


@dataclass(frozen=True)
class Shard:
    """A run of successive images of a job.

    Args:
        number: place of the shard among all shards, 0-based.
        paths: the images.
        fingerprint: hash of the paths, sizes and times of change of the images.
    """

    number: int
    paths: tuple[Path, ...]
    fingerprint: str


@dataclass(frozen=True)
class PartHeader:
    """The first line of a part.

    Args:
        job: what the rows depend on beside the images.
        images: fingerprint of the images of the shard.
        rows: number of predictions in the part.
        size: bytes of the predictions.
        bad: images that cannot be read, with the reason.
    """

    job: Job
    images: str
    rows: int
    size: int
    bad: tuple[str, ...]


@dataclass(frozen=True)
class ShardRows:
    """The predictions of a shard.

    Args:
        content: the rows as they stand in the output.
        count: number of rows.
        bad: images that cannot be read, with the reason.
    """

    content: bytes
    count: int
    bad: Sequence[str]


PredictShard = Callable[[Shard, Callable[[int], None]], ShardRows]
"""(shard, show_done) -> its rows. It calls `show_done` with the number of images of the shard that are done."""


def cut_shards(paths: Sequence[Path], size: int) -> list[Shard]:
    """Cut images into shards of `size` in order, the last one perhaps shorter."""
    pieces = [tuple(paths[first : first + size]) for first in range(0, len(paths), size)]
    return [Shard(number, piece, _fingerprint(piece)) for number, piece in enumerate(pieces)]


def _fingerprint(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            status = path.stat()
            facts = f"{status.st_size}|{status.st_mtime_ns}"
        except OSError:  # it went since it was listed: reading it will say so
            facts = "gone"
        digest.update(f"{path}|{facts}\0".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


class PartFolder:
    """The parts of a job: the files of its finished shards, in a folder beside the output.

    Args:
        output: the file that the parts are joined into.
        job: what the rows depend on beside the images.
    """

    def __init__(self, output: Path, job: Job) -> None:
        self.output = output
        self.job = dict(job)
        self.folder = output.with_name(output.name + PARTS_ENDING)

    def path(self, shard: Shard) -> Path:
        """Return the part of a shard."""
        return self.folder / f"{shard.number:06d}.part"

    def count(self, shards: Iterable[Shard]) -> int:
        """Return the number of images in shards that are finished."""
        return count_images(shard for shard in shards if self.path(shard).is_file())

    def sort_out(self, shards: Sequence[Shard], *, accept_bad: bool) -> str:
        """Remove parts of another job or of other images, and return a message for the user; empty if there is no part.

        Args:
            shards: the shards of the job.
            accept_bad: keep parts that left out images. Otherwise they go too: predicting them again names the image.
        """
        self._check_folder()
        by_path = {self.path(shard): shard for shard in shards}
        differing: set[str] = set()
        for path in self._files():
            header = _read_header(path)
            if header is None:
                differing.add("damaged files")
            elif changed := {name for name in {*header.job, *self.job} if header.job.get(name) != self.job.get(name)}:
                differing |= changed
            elif path not in by_path or header.images != by_path[path].fingerprint:
                differing.add("images")
            elif accept_bad or not header.bad:
                continue
            path.unlink(missing_ok=True)
        remove_leftovers(self.folder)
        done, total = self.count(shards), count_images(shards)
        why = f"{self.folder} holds finished parts of another job (different: {', '.join(sorted(differing))})"
        if done:
            again = "; parts whose images were changed or damaged are done again" if differing else ""
            return f"Going on: {done:,} of {total:,} images are done, in {self.folder}{again}"
        return f"Starting over: {why}" if differing else ""

    def _check_folder(self) -> None:
        """Raise `RunError` if the folder holds files with names of parts, and none of them is a part."""
        files = self._files()
        if files and not any(map(_read_header, files)):
            raise RunError(
                f"{files[0]} is not a part that lpt predict wrote; move it away, or give another --output: "
                f"parts of {self.output.name} are kept in {self.folder}"
            )

    def missing(self, shards: Iterable[Shard]) -> list[Shard]:
        """Return the shards that have no part."""
        return [shard for shard in shards if not self.path(shard).is_file()]

    def write(self, shard: Shard, rows: ShardRows) -> None:
        """Write the part of a finished shard.

        Raises:
            RunError: it cannot be written.
        """
        header = PartHeader(self.job, shard.fingerprint, rows.count, len(rows.content), tuple(rows.bad))
        write_bytes(self.path(shard), json.dumps(asdict(header)).encode() + b"\n" + rows.content)

    def headers(self, shards: Iterable[Shard]) -> list[PartHeader]:
        """Read the headers of all parts, in the order of the shards.

        Raises:
            RunError: a part is missing, or is of something else.
        """
        headers = []
        for shard in shards:
            header = _read_header(self.path(shard))
            if header is None or header.images != shard.fingerprint or header.job != self.job:
                raise RunError(
                    f"{self.path(shard)} is missing or is not what was written. Did another lpt predict write to the "
                    "same --output, or is it not on a disk that all processes share? Then give each its own --output, "
                    "or one on a shared disk. The same command goes on from the parts that are there."
                )
            headers.append(header)
        return headers

    def join(self, shards: Iterable[Shard], header: bytes) -> None:
        """Write the output: a header line, and the rows of all shards.

        Raises:
            RunError: it cannot be written; the parts are kept.
        """
        with atomic_path(self.output) as temp, temp.open("wb") as file:
            file.write(header)
            for shard in shards:
                with self.path(shard).open("rb") as part:
                    part.readline()
                    shutil.copyfileobj(part, file)

    def remove(self) -> None:
        """Remove the parts and their folder; files that LPT did not write stay."""
        for path in self._files():
            path.unlink(missing_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder if it is empty."""
        with contextlib.suppress(OSError):  # it is not empty, or does not exist
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.part") if _PART.fullmatch(path.name))


def check_writable(output: Path) -> None:
    """Check, before hours of work, that the output can be written.

    Raises:
        RunError: it cannot; the message says what to do.
    """

    class Writable(Exception):  # noqa: N818  (leaves the block before the file is made)
        pass

    with contextlib.suppress(Writable), atomic_path(output):
        raise Writable


def count_images(shards: Iterable[Shard]) -> int:
    """Return the number of images in shards."""
    return sum(len(shard.paths) for shard in shards)


def shards_of(processes: Processes, waiting: Sequence[Shard]) -> Sequence[Shard]:
    """Return the shards that this process predicts: one in each round, in this order."""
    return waiting[processes.rank :: processes.world_size]


def work_through(
    waiting: Sequence[Shard],
    predict_shard: PredictShard,
    parts: PartFolder,
    processes: Processes,
    *,
    stop: StopRequest,
    show_done: Callable[[int], None],
) -> None:
    """Predict shards in rounds, one for each process in a round, and write their parts.

    After each round the processes exchange how it went. An error in one process, or Ctrl-C, stops all of them with the
    same message, and a process that died is noticed. Shards take equally long, so the processes hardly wait.

    Args:
        waiting: the shards to predict, the same for all processes, which all call this.
        predict_shard: predicts a shard; called with those of `shards_of`.
        parts: where the parts go.
        processes: the processes.
        stop: the request to stop; shards in progress are then lost.
        show_done: called with the number of images done.

    Raises:
        Interrupted: stop was requested, in any process.
        LptError: the first error of any process.
    """
    finished = 0

    def show_within(images: int) -> None:
        if stop.requested:
            raise Interrupted
        show_done(finished + images)

    local_shards = iter(shards_of(processes, waiting))
    for first in range(0, len(waiting), processes.world_size):
        error: LptError | None = None
        try:
            show_within(0)
            if (shard := next(local_shards, None)) is not None:
                parts.write(shard, predict_shard(shard, show_within))
        except LptError as fault:
            error = fault
        raise_first(processes.gather([error]))
        finished += count_images(waiting[first : first + processes.world_size])
        show_done(finished)


def raise_first(errors: Iterable[LptError | None]) -> None:
    """Raise the first error that is no interruption, or else the first interruption; none if there is no error."""
    faults = sorted((error for error in errors if error is not None), key=lambda error: isinstance(error, Interrupted))
    if faults:
        raise faults[0]


def _read_header(path: Path) -> PartHeader | None:
    """Read the header of a part; None if the part is damaged or missing."""
    try:
        with path.open("rb") as file:
            line = file.readline()
            size = path.stat().st_size - len(line)
        values: dict[str, Any] = json.loads(line)
        header = PartHeader(**{**values, "bad": tuple(values["bad"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return header if header.size == size else None
