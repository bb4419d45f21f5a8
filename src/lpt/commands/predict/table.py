"""Read image files ahead, classify them, and write rows of CSV or JSON lines."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from PIL import Image

from lpt.data.budget import ByteBudget, Turn
from lpt.data.decoding import AS_USUAL, Reading, read_image
from lpt.data.faulty import REPAIRED
from lpt.data.scan import failure_reason
from lpt.errors import DataError, RunError
from lpt.packs.prediction import Prediction
from lpt.packs.predictor import Predictor
from lpt.system.hardware import cores_here
from lpt.system.text import csv_text

Picture = tuple[Path, Image.Image | DataError]
"""An image file, and what was read from it or why it cannot be read."""

_HEADER = re.compile(rb"image(,class_\d+,probability_\d+)+(,rejected,known_score)?\r?\n")
_REJECTION = ("rejected", "known_score")
_LONGEST_LINE = 2**24


@dataclass(frozen=True)
class Labeller:
    """A predictor that writes a row for each picture.

    Args:
        predictor: classifies the pictures.
        top_k: how many classes to give for a picture.
        prior: share of each class where the pictures come from; None: as the pack's probabilities take it.
        batch_size: pictures in a forward pass.
        skip_bad: leave out pictures that cannot be read, instead of raising.
        json_lines: write JSON lines, not CSV.
        reading: how pictures are read.
        repaired: gets the path of each picture that lacks its last bytes, if `reading` repairs those.
        address: address of the pack on the hub, which JSON lines record; None: it is a folder.
        reject: say for each picture whether it shows none of the classes.
    """

    predictor: Predictor
    top_k: int
    prior: Mapping[str, float] | None
    batch_size: int
    skip_bad: bool
    json_lines: bool
    reading: Reading = AS_USUAL
    repaired: list[str] = field(default_factory=list)
    address: str | None = None
    reject: bool = False

    def header(self) -> str:
        """Return the first line of a CSV; empty for JSON lines."""
        if self.json_lines:
            return ""
        ranks = range(1, self.top_k + 1)
        columns = [f"{column}_{rank}" for rank in ranks for column in ("class", "probability")]
        return ",".join(["image", *columns, *(_REJECTION if self.reject else ())]) + "\n"

    def write_rows(
        self, pictures: Iterable[Picture], file: TextIO, bad: list[str], show_done: Callable[[int], None]
    ) -> int:
        """Classify pictures, write a row for each, and return the number of rows.

        Args:
            pictures: the pictures, in order.
            file: where the rows go.
            bad: gets a line for each picture that cannot be read, if those are skipped.
            show_done: called with the number of pictures done.

        Raises:
            DataError: a picture cannot be read, and is not to be skipped.
        """
        write = partial(_write_line, self.address) if self.json_lines else _write_row
        names: deque[str] = deque()
        readable = _readable(pictures, names, bad if self.skip_bad else None)
        rows = 0
        for prediction in self.predictor.iterate(
            readable, top_k=self.top_k, batch_size=self.batch_size, prior=self.prior, reject=self.reject
        ):
            write(file, replace(prediction, name=names.popleft()))
            rows += 1
            show_done(rows + len(bad))
        return rows


def decode_ahead(
    paths: Iterable[Path], reading: Reading = AS_USUAL, repaired: list[str] | None = None
) -> Generator[Picture]:
    """Read pictures ahead in threads, and yield them in order; those that wait take at most `DECODING_BYTES`.

    Args:
        paths: the files.
        reading: how they are read.
        repaired: gets the path of each picture that lacks its last bytes.
    """
    workers = cores_here()
    budget = ByteBudget()
    with ThreadPoolExecutor(workers) as pool:
        ahead: deque[tuple[Path, Turn, Future[Image.Image]]] = deque()
        waiting = iter(paths)
        try:
            while True:
                while len(ahead) < 4 * workers and (path := next(waiting, None)) is not None:
                    turn = budget.queue()
                    ahead.append((path, turn, pool.submit(_read_in_turn, path, reading, turn)))
                if not ahead:
                    return
                path, turn, decoding = ahead.popleft()
                try:
                    picture: Image.Image | DataError = decoding.result()
                except DataError as error:
                    picture = error
                if repaired is not None and isinstance(picture, Image.Image) and REPAIRED in picture.info:
                    repaired.append(str(path))
                yield path, picture
                del picture, decoding
                turn.end()
        finally:
            budget.close()
            pool.shutdown(wait=False, cancel_futures=True)


def _read_in_turn(path: Path, reading: Reading, turn: Turn) -> Image.Image:
    """Read a picture, which holds its bytes until its turn ends."""
    try:
        return read_image(path, str(path), reading, turn)
    finally:
        turn.step_aside()


def _readable(pictures: Iterable[Picture], names: deque[str], bad: list[str] | None) -> Iterator[Image.Image]:
    """Yield the images that can be read; add their names to `names`, and failures to `bad` if it is given."""
    for path, image in pictures:
        if isinstance(image, Image.Image):
            names.append(str(path))
            yield image
        elif bad is None:
            raise image
        else:
            bad.append(f"{path}: {failure_reason(image)}")


def is_table(file: Path) -> bool:
    """Return whether a file is empty, or starts like a table that `Labeller` writes.

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
    optional = ("pack", *_REJECTION)
    return isinstance(fields, dict) and [name for name in fields if name not in optional] == [
        "image", "classes", "groups"
    ]  # fmt: skip


def _write_line(address: str | None, file: TextIO, prediction: Prediction) -> None:
    classes = [
        {"class": name, "probability": round(share, 6)}
        for name, share in zip(prediction.classes, prediction.probabilities, strict=True)
    ]
    line: dict[str, Any] = {"image": prediction.name, "classes": classes, "groups": list(prediction.groups)}
    if prediction.known_score is not None:
        line |= {"rejected": prediction.rejected, "known_score": round(prediction.known_score, 6)}
    if address is not None:
        line["pack"] = address
    file.write(json.dumps(line, ensure_ascii=False) + "\n")


def _write_row(file: TextIO, prediction: Prediction) -> None:
    pairs = zip(prediction.classes, prediction.probabilities, strict=True)
    cells = [prediction.name, *(cell for name, share in pairs for cell in (name, f"{share:.6f}"))]
    if prediction.known_score is not None:
        cells += [str(prediction.rejected).lower(), f"{prediction.known_score:.6f}"]
    file.write(csv_text([cells]))
