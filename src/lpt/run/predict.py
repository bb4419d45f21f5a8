"""Images classified one after the other, into CSV or JSON lines."""

from __future__ import annotations

import contextlib
import csv
import json
import math
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

from PIL import Image
from rich.console import Console

from lpt.data.images import IMAGE_SUFFIXES, read_image
from lpt.data.sources import usable_cores
from lpt.errors import ConfigError, DataError, RunError
from lpt.files import atomic_path
from lpt.pack import load_pack
from lpt.predictor import Prediction, Predictor
from lpt.report.progress import counted

Writer = Callable[[Prediction], None]
JSON_LINES = (".jsonl", ".ndjson")


def predict_files(
    pack: Path,
    images: Iterable[Path],
    output: Path | None,
    *,
    top_k: int,
    prior: Path | None,
    skip_bad: bool,
    backbone: str | None,
    checkpoint: Path | None,
    device: str,
    batch_size: int,
    progress: Console,
) -> int:
    """Classify image files; the number of rows written.

    Args:
        pack: the pack folder.
        images: files and folders.
        output: a .csv or .jsonl file, which appears when complete; None: CSV on standard output.
        top_k: classes for an image.
        prior: CSV file of class and share.
        skip_bad: leave out images that cannot be read, instead of stopping.
        backbone, checkpoint, device: as for `Predictor`.
        batch_size: images in a forward pass.
        progress: for the bar and messages.
    """
    _check_output(output)
    paths = find_images(images)
    loaded = load_pack(pack)
    shares = None if prior is None else read_prior(prior, loaded.info.class_names)
    predictor = Predictor(backbone, loaded, checkpoint=checkpoint, device=device)
    top_k = min(top_k, len(loaded.info.class_names))
    bad: list[str] = []
    with _opened(output) as file, counted(progress, "predicting", len(paths)) as done:
        write = _writer(file, output, top_k)
        names: deque[str] = deque()
        readable = _decoded(paths, names, bad if skip_bad else None)
        rows = 0
        for found in predictor.iterate(readable, top_k=top_k, batch_size=batch_size, prior=shares):
            write(Prediction(names.popleft(), found.classes, found.probabilities, found.groups))
            rows += 1
            done(rows + len(bad))
        if bad and not rows:
            raise DataError(f"none of the {len(bad)} images can be read; the first: {bad[0]}")
    if bad:
        progress.print(f"Left out: {len(bad)} of {len(paths)} images that cannot be read", style="yellow")
        for line in bad[:20]:
            progress.print(f"  {line}", style="yellow", markup=False)
    if output is not None:
        progress.print(f"{rows:,} predictions: {output}", markup=False)
    return rows


def find_images(given: Iterable[Path]) -> list[Path]:
    """Files as given, and all image files in folders and the folders in them, sorted.

    Raises:
        DataError: something does not exist, or a folder holds no image.
    """
    found: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(_images_in(path))
            if not inside:
                raise DataError(f"there is no image in the folder {path}; endings: {' '.join(sorted(IMAGE_SUFFIXES))}")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"there is no file or folder {path}")
    return found


def read_prior(path: Path, class_names: list[str]) -> dict[str, float]:
    """Shares by class from a CSV file with columns class and share; classes left out count 0.

    Raises:
        ConfigError: the file cannot be read, or a row is not a known class and a share; the row is named.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"--prior: cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    known, shares = set(class_names), dict[str, float]()
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and [cell.strip().lower() for cell in row] == ["class", "share"]):
            continue
        where = f"--prior: {path}, row {number}"
        if len(row) != 2:
            raise ConfigError(f"{where}: {len(row)} columns instead of class,share: {','.join(row)}")
        name, text = row
        if name not in known:
            raise ConfigError(f"{where}: the pack has no class {name!r}; its classes: lpt inspect PACK")
        if name in shares:
            raise ConfigError(f"{where}: the class {name!r} stands there twice")
        shares[name] = _share(text, where)
    if not any(shares.values()):
        raise ConfigError(f"--prior: {path} gives no class a positive share; write rows of class,share")
    return shares


def _share(text: str, where: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = math.nan
    if not 0 <= share < math.inf:
        raise ConfigError(f"{where}: the share must be a number of at least 0, got {text!r}")
    return share


def _images_in(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
            yield path


def _decoded(paths: list[Path], names: deque[str], bad: list[str] | None) -> Iterator[Image.Image]:
    """Pictures in order, read ahead by threads; their names are appended to `names`, failures to `bad` if given."""
    workers = usable_cores()
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
                    image = reading.result()
                except DataError as error:
                    if bad is None:
                        raise
                    bad.append(f"{path}: {getattr(error, 'reason', error)}")
                    continue
                names.append(str(path))
                yield image
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _check_output(output: Path | None) -> None:
    if output is None:
        return
    if output.suffix.lower() not in (".csv", *JSON_LINES):
        raise ConfigError(f"--output {output}: the ending must be .csv or .jsonl")
    if output.is_dir():
        raise RunError(f"--output: {output} is a folder; give a file")


@contextlib.contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with (
        atomic_path(output) as temp,
        temp.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file,
    ):
        yield file


def _writer(file: TextIO, output: Path | None, top_k: int) -> Writer:
    if output is not None and output.suffix.lower() in JSON_LINES:

        def write_line(found: Prediction) -> None:
            classes = [
                {"class": name, "probability": round(share, 6)}
                for name, share in zip(found.classes, found.probabilities, strict=True)
            ]
            line = {"image": found.name, "classes": classes, "groups": list(found.groups)}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")

        return write_line
    rows = csv.writer(file, lineterminator="\n")
    rows.writerow(
        ["image", *(f"{column}_{rank}" for rank in range(1, top_k + 1) for column in ("class", "probability"))]
    )

    def write_row(found: Prediction) -> None:
        pairs = zip(found.classes, found.probabilities, strict=True)
        rows.writerow([found.name, *(cell for name, share in pairs for cell in (name, f"{share:.6f}"))])

    return write_row
