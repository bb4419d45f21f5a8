"""A long prediction in shards of its images, so that it can be interrupted, and divided over processes.

Shards are cut from the list of images alone, never by the number of processes, and batches do not cross them: what is
predicted depends neither on that number nor on interruptions. A finished shard is one file in a folder beside the
output, its first line says what it is of, and it is there whole or not at all; so nothing else has to be kept.
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
from lpt.system.processes import Processes

SHARD_SIZE = 1024
"""Images of a shard: what an interruption loses at most, for each process. A multiple of usual batch sizes."""

Job = Mapping[str, str | int | None]
_PART = re.compile(r"\d{6,}\.part")


@dataclass(frozen=True)
class Shard:
    """Successive images of a job.

    Args:
        number: its place among the shards, 0-based.
        paths: the images.
        fingerprint: of their paths, sizes and times of change.
    """

    number: int
    paths: tuple[Path, ...]
    fingerprint: str


@dataclass(frozen=True)
class Part:
    """What the first line of a shard's file says.

    Args:
        job: what the rows depend on beside the images.
        images: fingerprint of the shard's images.
        rows: predictions in it.
        size: bytes of them.
        bad: images that cannot be read, with the reason.
    """

    job: Job
    images: str
    rows: int
    size: int
    bad: tuple[str, ...]


@dataclass(frozen=True)
class Rows:
    """What is predicted of a shard.

    Args:
        content: the rows as the output will have them.
        count: their number.
        bad: images that cannot be read, with the reason.
    """

    content: bytes
    count: int
    bad: Sequence[str]


Work = Callable[[Shard, Callable[[int], None]], Rows]
"""Predicts a shard; calls the function it is given with the number of images it is through with."""


def cut(paths: Sequence[Path], size: int) -> list[Shard]:
    """Shards of `size` images in order, the last one shorter."""
    pieces = [tuple(paths[first : first + size]) for first in range(0, len(paths), size)]
    return [Shard(number, piece, _fingerprint(piece)) for number, piece in enumerate(pieces)]


def _fingerprint(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            found = path.stat()
            facts = f"{found.st_size}|{found.st_mtime_ns}"
        except OSError:  # it went since it was listed: reading it will tell
            facts = "gone"
        digest.update(f"{path}|{facts}\0".encode("utf-8", "backslashreplace"))
    return digest.hexdigest()


class Parts:
    """The files of finished shards, in a folder beside the output.

    Args:
        output: the file they are joined into.
        job: what the rows depend on beside the images, each under a name that a person understands.
    """

    def __init__(self, output: Path, job: Job) -> None:
        self.output = output
        self.job = dict(job)
        self.folder = output.with_name(output.name + ".parts")

    def path(self, shard: Shard) -> Path:
        """The file of a shard."""
        return self.folder / f"{shard.number:06d}.part"

    def count(self, shards: Iterable[Shard]) -> int:
        """Images of the shards whose files are there."""
        return images_of(shard for shard in shards if self.path(shard).is_file())

    def sort_out(self, shards: Sequence[Shard], *, accept_bad: bool) -> str:
        """Remove what is not of this job and these images; what to tell about it, nothing if the folder is new.

        With `accept_bad` off, shards with images that cannot be read go too: predicting them names the image.
        """
        self._check_own()
        by_path = {self.path(shard): shard for shard in shards}
        differing: set[str] = set()
        for path in self._files():
            part = _read_head(path)
            if part is None:
                differing.add("damaged files")
            elif changed := {name for name in {*part.job, *self.job} if part.job.get(name) != self.job.get(name)}:
                differing |= changed
            elif path not in by_path or part.images != by_path[path].fingerprint:
                differing.add("images")
            elif accept_bad or not part.bad:
                continue
            path.unlink(missing_ok=True)
        remove_leftovers(self.folder)
        done, total = self.count(shards), images_of(shards)
        why = f"{self.folder} holds finished parts of another job (different: {', '.join(sorted(differing))})"
        if done:
            again = "; parts whose images were changed or damaged are done again" if differing else ""
            return f"Going on: {done:,} of {total:,} images are done, in {self.folder}{again}"
        return f"Starting over: {why}" if differing else ""

    def _check_own(self) -> None:
        """Raise `RunError` if the folder holds files under the names of parts, and not one that is a part."""
        files = self._files()
        if files and not any(map(_read_head, files)):
            raise RunError(
                f"{files[0]} is not a part that lpt predict wrote; move it away, or give another --output: "
                f"parts of {self.output.name} are kept in {self.folder}"
            )

    def missing(self, shards: Iterable[Shard]) -> list[Shard]:
        """Shards that have no file."""
        return [shard for shard in shards if not self.path(shard).is_file()]

    def write(self, shard: Shard, rows: Rows) -> None:
        """Write the file of a finished shard.

        Raises:
            RunError: it cannot be written.
        """
        head = Part(self.job, shard.fingerprint, rows.count, len(rows.content), tuple(rows.bad))
        write_bytes(self.path(shard), json.dumps(asdict(head)).encode() + b"\n" + rows.content)

    def heads(self, shards: Iterable[Shard]) -> list[Part]:
        """What the files of all shards say, in order.

        Raises:
            RunError: one is not there.
        """
        heads = []
        for shard in shards:
            part = _read_head(self.path(shard))
            if part is None or part.images != shard.fingerprint or part.job != self.job:
                raise RunError(
                    f"{self.path(shard)} is missing or is not what was written. Did another lpt predict write to the "
                    "same --output, or is it not on a disk that all processes share? Then give each its own --output, "
                    "or one on a shared disk. The same command goes on from the parts that are there."
                )
            heads.append(part)
        return heads

    def join(self, shards: Iterable[Shard], header: bytes) -> None:
        """Write the output from a header and all shards' rows.

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
        """Remove the folder; what was not written here stays."""
        for path in self._files():
            path.unlink(missing_ok=True)
        self.tidy()

    def tidy(self) -> None:
        """Remove the folder if no shard was finished."""
        with contextlib.suppress(OSError):  # not empty, or not there
            self.folder.rmdir()

    def _files(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.part") if _PART.fullmatch(path.name))


def check_writable(output: Path) -> None:
    """Find out before hours of work whether the output can be written.

    Raises:
        RunError: it cannot; the message says what to do.
    """

    class Enough(Exception):  # noqa: N818  (leaves the block so that the file is not made)
        pass

    with contextlib.suppress(Enough), atomic_path(output):
        raise Enough


def images_of(shards: Iterable[Shard]) -> int:
    """How many images they have together."""
    return sum(len(shard.paths) for shard in shards)


def own(waiting: Sequence[Shard], processes: Processes) -> Sequence[Shard]:
    """The shards that this process predicts: one in each round, in this order."""
    return waiting[processes.rank :: processes.world_size]


def work_through(
    waiting: Sequence[Shard],
    work: Work,
    parts: Parts,
    processes: Processes,
    *,
    stop: StopRequest,
    done: Callable[[int], None],
) -> None:
    """Predict shards, each process one in a round, and write their files.

    After each round the processes tell each other how it went: an error of one, or Ctrl-C, stops all of them with the
    same message, and one that died is noticed. Shards take equally long, so that they hardly wait for each other.

    Args:
        waiting: the shards to predict, the same for all processes, which all call this.
        work: predicts one; called with those of `own`.
        parts: where their files go.
        processes: the processes.
        stop: asks to stop; the shards that are under way are lost then.
        done: called with the number of images done here.

    Raises:
        Interrupted: stop was requested, in any process.
        LptError: the first error of any process.
    """
    count = 0

    def within(images: int) -> None:
        if stop.requested:
            raise Interrupted
        done(count + images)

    mine = iter(own(waiting, processes))
    for first in range(0, len(waiting), processes.world_size):
        error: LptError | None = None
        try:
            within(0)
            if (shard := next(mine, None)) is not None:
                parts.write(shard, work(shard, within))
        except LptError as fault:
            error = fault
        raise_first(processes.gather([error]))
        count += images_of(waiting[first : first + processes.world_size])
        done(count)


def raise_first(errors: Iterable[LptError | None]) -> None:
    """Raise the first error if there is one, preferably one that is no interruption."""
    found = sorted((error for error in errors if error is not None), key=lambda error: isinstance(error, Interrupted))
    if found:
        raise found[0]


def _read_head(path: Path) -> Part | None:
    """What a shard's file says of itself; None if it is damaged or not there."""
    try:
        with path.open("rb") as file:
            line = file.readline()
            size = path.stat().st_size - len(line)
        values: dict[str, Any] = json.loads(line)
        part = Part(**{**values, "bad": tuple(values["bad"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return part if part.size == size else None
