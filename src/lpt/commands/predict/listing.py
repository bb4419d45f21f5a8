"""The list of the images of a job: a file that is cut into shards by offsets, so that it is never in memory whole.

The file lies in the folder of the parts. So all workers read it, and a worker holds the paths of one shard or two.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from lpt.errors import RunError
from lpt.system.files import atomic_path, write_json

IMAGE_LIST = "images.list"
_INDEX = "images.json"
LISTING_FILES = (IMAGE_LIST, _INDEX)


@dataclass(frozen=True)
class Shard:
    """A run of successive images of a job.

    Args:
        number: place of the shard among all shards, 0-based.
        count: number of images.
        names: hash of their paths.
        offset, size: where their paths stand in the list, in bytes.
        file: the list.
    """

    number: int
    count: int
    names: str
    offset: int
    size: int
    file: Path

    @property
    def paths(self) -> list[Path]:
        """The images, read from the list at each call.

        Raises:
            RunError: the list cannot be read.
        """
        try:
            with self.file.open("rb") as file:
                file.seek(self.offset)
                block = file.read(self.size)
        except OSError as error:
            raise _lost(self.file, error.strerror or "") from None
        if hashlib.sha256(block).hexdigest() != self.names:
            raise _lost(self.file, "it is not what was written")
        return [Path(os.fsdecode(path)) for path in block.split(b"\0")[:-1]]

    @property
    def fingerprint(self) -> str:
        """Hash of the paths, sizes and times of change of the images, as they are now."""
        digest = hashlib.sha256()
        for path in self.paths:
            try:
                status = path.stat()
                facts = f"{status.st_size}|{status.st_mtime_ns}"
            except OSError:  # it went since it was listed: reading it will say so
                facts = "gone"
            digest.update(f"{path}|{facts}\0".encode("utf-8", "backslashreplace"))
        return digest.hexdigest()


def cut_shards(paths: Iterable[Path], size: int, folder: Path) -> list[Shard]:
    """Write images into a list in `folder`, cut into shards of `size` in order, the last one perhaps shorter.

    Raises:
        RunError: the list cannot be written.
    """
    file, shards = folder / IMAGE_LIST, list[Shard]()
    with atomic_path(file) as temp, temp.open("wb") as stream:
        for block, count in _blocks(paths, size):
            names = hashlib.sha256(block).hexdigest()
            shards.append(Shard(len(shards), count, names, stream.tell(), len(block), file))
            stream.write(block)
    write_json(folder / _INDEX, [[shard.count, shard.names, shard.offset, shard.size] for shard in shards])
    return shards


def read_shards(folder: Path) -> list[Shard]:
    """Return the shards that another process cut.

    Raises:
        RunError: they cannot be read.
    """
    try:
        rows = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _lost(folder / _INDEX, getattr(error, "strerror", None) or str(error)) from None
    file = folder / IMAGE_LIST
    return [Shard(number, count, names, offset, size, file) for number, (count, names, offset, size) in enumerate(rows)]


def count_images(shards: Iterable[Shard]) -> int:
    """Return the number of images in shards."""
    return sum(shard.count for shard in shards)


def _blocks(paths: Iterable[Path], size: int) -> Iterator[tuple[bytes, int]]:
    waiting = iter(paths)
    while piece := [os.fsencode(path) + b"\0" for path in islice(waiting, size)]:
        yield b"".join(piece), len(piece)


def _lost(file: Path, reason: str) -> RunError:
    return RunError(
        f"cannot read the list of images {file}: {reason}. Did another lpt predict write to the same --output, or is "
        "it not on a disk that all processes share? The same command goes on from the parts that are there."
    )
