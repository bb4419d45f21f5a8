"""Image files read ahead, classified, and written as rows of CSV or JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from PIL import Image

from lpt.data.decoding import read_image
from lpt.data.scan import failure_reason
from lpt.errors import DataError, RunError
from lpt.packs.predictor import Prediction, Predictor
from lpt.system.hardware import cores_here

Picture = tuple[Path, Image.Image | DataError]
"""A file and what was read from it, or why it cannot be read."""

_HEADER = re.compile(rb"image(,class_\d+,probability_\d+)+\r?\n")
_LONGEST_LINE = 2**24


@dataclass(frozen=True)
class Classifier:
    """What turns pictures into rows; arguments as for `lpt.commands.predict.predict.predict_files`."""

    predictor: Predictor
    top_k: int
    prior: Mapping[str, float] | None
    batch_size: int
    skip_bad: bool
    json_lines: bool

    def header(self) -> str:
        """The first line of a CSV."""
        if self.json_lines:
            return ""
        ranks = range(1, self.top_k + 1)
        return (
            ",".join(["image", *(f"{column}_{rank}" for rank in ranks for column in ("class", "probability"))]) + "\n"
        )

    def classify(self, pictures: Iterable[Picture], file: TextIO, bad: list[str], done: Callable[[int], None]) -> int:
        """Write a row for each picture that could be read, add the others to `bad`; the number of rows."""
        write = _write_line if self.json_lines else _write_row
        names: deque[str] = deque()
        readable = _readable(pictures, names, bad if self.skip_bad else None)
        rows = 0
        for found in self.predictor.iterate(readable, top_k=self.top_k, batch_size=self.batch_size, prior=self.prior):
            write(file, Prediction(names.popleft(), found.classes, found.probabilities, found.groups))
            rows += 1
            done(rows + len(bad))
        return rows


def decoded(paths: Iterable[Path]) -> Generator[Picture]:
    """Pictures in order, read ahead by threads."""
    workers = cores_here()
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[Path, Future[Image.Image]]] = deque()
        waiting = iter(paths)
        try:
            while True:
                while len(ahead) < 4 * workers and (path := next(waiting, None)) is not None:
                    ahead.append((path, pool.submit(read_image, path, str(path))))
                if not ahead:
                    return
                path, reading = ahead.popleft()
                try:
                    picture: Image.Image | DataError = reading.result()
                except DataError as error:
                    picture = error
                yield path, picture
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _readable(pictures: Iterable[Picture], names: deque[str], bad: list[str] | None) -> Iterator[Image.Image]:
    """The images; their names are appended to `names`, failures to `bad` if it is given."""
    for path, image in pictures:
        if isinstance(image, Image.Image):
            names.append(str(path))
            yield image
        elif bad is None:
            raise image
        else:
            bad.append(f"{path}: {failure_reason(image)}")


def is_table(file: Path) -> bool:
    """Whether a file starts as those do that `Classifier` writes, CSV or JSON lines, or is empty.

    Raises:
        RunError: it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            start = stream.readline(_LONGEST_LINE)
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}; give another file with --output") from None
    if not start or _HEADER.fullmatch(start):
        return True
    try:
        fields = json.loads(start)
    except (ValueError, RecursionError):
        return False
    return isinstance(fields, dict) and list(fields) == ["image", "classes", "groups"]


def _write_line(file: TextIO, found: Prediction) -> None:
    classes = [
        {"class": name, "probability": round(share, 6)}
        for name, share in zip(found.classes, found.probabilities, strict=True)
    ]
    line = {"image": found.name, "classes": classes, "groups": list(found.groups)}
    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_row(file: TextIO, found: Prediction) -> None:
    pairs = zip(found.classes, found.probabilities, strict=True)
    cells = [found.name, *(cell for name, share in pairs for cell in (name, f"{share:.6f}"))]
    csv.writer(file, lineterminator="\n").writerow(cells)
