"""The parts of a long prediction: files of finished shards, so that it can be interrupted and divided over workers.

Shards depend on the list of images alone, never on the number of workers, and batches do not cross them. So the rows
depend neither on that number nor on interruptions. A finished shard is one file, its part, in a folder beside the
output. The first line of a part says which job and images it is of. A part is written whole or not at all, so nothing
else has to be kept.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any

from lpt.commands.predict.listing import Shard, count_images
from lpt.errors import RunError
from lpt.system.files import atomic_path, remove_leftovers, write_bytes
from lpt.system.outputs import PARTS_ENDING

SHARD_SIZE = 1024
"""Images of a shard: the most that an interruption loses for each worker. A multiple of usual batch sizes."""

Job = Mapping[str, str | int | None]
"""What the rows depend on beside the images, each under a name that a user understands."""
_PART = re.compile(r"\d{6,}\.part")


@dataclass(frozen=True)
class PartHeader:
    """The first line of a part.

    Args:
        job: what the rows depend on beside the images.
        names: hash of the paths of the images.
        images: fingerprint of the images when they were read.
        rows: number of predictions in the part.
        size: bytes of the predictions.
        bad: images that cannot be read, with the reason.
        repaired: images that lack their last bytes and were taken as far as they go.
    """

    job: Job
    names: str
    images: str
    rows: int
    size: int
    bad: tuple[str, ...]
    repaired: tuple[str, ...]


@dataclass(frozen=True)
class ShardRows:
    """The predictions of a shard.

    Args:
        content: the rows, as they stand in a CSV or as JSON lines.
        count: number of rows.
        images: fingerprint of the images when they were read.
        bad: images that cannot be read, with the reason.
        repaired: images that lack their last bytes and were taken as far as they go.
    """

    content: bytes
    count: int
    images: str
    bad: Sequence[str] = ()
    repaired: Sequence[str] = ()


class PartFolder:
    """The parts of a job: the files of its finished shards, in a folder beside the output.

    Args:
        output: the file that the parts are joined into.
        job: what the rows depend on beside the images.
    """

    def __init__(self, output: Path, job: Job) -> None:
        self.output = output
        self.job = dict(job)
        self.folder = parts_folder(output)

    def path(self, shard: Shard) -> Path:
        """Return the part of a shard."""
        return self.folder / f"{piece_of(shard)}.part"

    def count(self, shards: Iterable[Shard]) -> int:
        """Return the number of images in shards that are finished."""
        names = self._names()
        return count_images(shard for shard in shards if self.path(shard).name in names)

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
        names = self._names()
        return [shard for shard in shards if self.path(shard).name not in names]

    def write(self, shard: Shard, rows: ShardRows) -> None:
        """Write the part of a finished shard, in the folder that is there.

        Raises:
            RunError: it cannot be written.
        """
        header = PartHeader(
            self.job, shard.names, rows.images, rows.count, len(rows.content), tuple(rows.bad), tuple(rows.repaired)
        )
        content = json.dumps(asdict(header)).encode() + b"\n" + rows.content
        write_bytes(self.path(shard), content, make_parents=False)

    def headers(self, shards: Iterable[Shard]) -> list[PartHeader]:
        """Read the headers of all parts, in the order of the shards.

        Raises:
            RunError: a part is missing, or is of something else.
        """
        headers = []
        for shard in shards:
            header = _read_header(self.path(shard))
            if header is None or header.names != shard.names or header.job != self.job:
                raise RunError(
                    f"{self.path(shard)} is missing or is not what was written. Did another lpt predict write to the "
                    "same --output, or is it not on a disk that all processes share? Then give each its own --output, "
                    "or one on a shared disk. The same command goes on from the parts that are there."
                )
            headers.append(header)
        return headers

    def contents(self, shards: Iterable[Shard]) -> Iterator[BufferedReader]:
        """Open the parts in the order of the shards, each at its first row."""
        for shard in shards:
            with self.path(shard).open("rb") as part:
                part.readline()
                yield part

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

    def _names(self) -> set[str]:
        try:
            with os.scandir(self.folder) as entries:
                return {entry.name for entry in entries}
        except OSError:
            return set()


def parts_folder(output: Path) -> Path:
    """Return the folder of the parts of an output."""
    return output.with_name(output.name + PARTS_ENDING)


def piece_of(shard: Shard) -> str:
    """Return the name of a shard in files: that of its part and of the claim on it."""
    return f"{shard.number:06d}"


def check_writable(output: Path) -> None:
    """Check, before hours of work, that the output can be written.

    Raises:
        RunError: it cannot; the message says what to do.
    """

    class Writable(Exception):  # noqa: N818  (leaves the block before the file is made)
        pass

    with contextlib.suppress(Writable), atomic_path(output):
        raise Writable


def _read_header(path: Path) -> PartHeader | None:
    """Read the header of a part; None if the part is damaged or missing."""
    try:
        with path.open("rb") as file:
            line = file.readline()
            size = path.stat().st_size - len(line)
        values: dict[str, Any] = json.loads(line)
        header = PartHeader(**{**values, **{name: tuple(values[name]) for name in ("bad", "repaired")}})
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return header if header.size == size else None
