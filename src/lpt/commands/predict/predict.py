"""`lpt predict`: files and folders of images into a table of their classes."""

from __future__ import annotations

import contextlib
import hashlib
import io
import sys
from collections.abc import Callable, Iterable
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from rich.console import Console

from lpt.commands.predict.inputs import find_images, read_prior
from lpt.commands.predict.shards import (
    SHARD_SIZE,
    Job,
    Parts,
    Rows,
    Shard,
    check_writable,
    cut,
    images_of,
    own,
    work_through,
)
from lpt.commands.predict.table import Classifier, decoded, is_table
from lpt.errors import ConfigError, DataError, LptError, RunError
from lpt.packs.pack import load_pack
from lpt.packs.predictor import load_predictor
from lpt.report.progress import image_bar
from lpt.system.interrupt import Interrupted, stop_on_signal
from lpt.system.processes import Processes, several_started

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
    shard_size: int = SHARD_SIZE,
) -> int:
    """Classify image files; the number of rows written.

    An output file is made in shards, divided over the processes that a launcher started. Interrupted, the same call
    goes on after the shards that are done.

    Args:
        pack: the pack folder.
        images: files and folders.
        output: a .csv or .jsonl file, which appears when complete, in place of one that an earlier call wrote; None:
            CSV on standard output.
        top_k: classes for an image.
        prior: CSV file of class and share.
        skip_bad: leave out images that cannot be read, instead of stopping.
        backbone, checkpoint, device: as for `load_predictor`.
        batch_size: images in a forward pass.
        progress: for the bar and messages.
        shard_size: images of a shard.
    """
    _check_output(output)
    if output is None and several_started():
        raise ConfigError("several processes cannot share standard output: give --output FILE.csv or FILE.jsonl")
    processes = Processes.launched(device)

    def prepare() -> tuple[Classifier, Job]:
        loaded = load_pack(pack)
        shares = None if prior is None else read_prior(prior, loaded.info.class_names)
        predictor = load_predictor(loaded, backbone=backbone, checkpoint=checkpoint, device=device)
        as_lines = output is not None and output.suffix.lower() in JSON_LINES
        most = min(top_k, len(loaded.info.class_names))
        job: Job = {
            "pack": hashlib.sha256(loaded.info.model_dump_json().encode("utf-8", "backslashreplace")).hexdigest(),
            "precision": str(predictor.dtype).removeprefix("torch."),
            "--top-k": most,
            "--prior": None if shares is None else hashlib.sha256(repr(sorted(shares.items())).encode()).hexdigest(),
            "format": "JSON lines" if as_lines else "CSV",
            "lpt version": version("lpt"),
        }
        return Classifier(predictor, most, shares, batch_size, skip_bad, as_lines), job

    if output is None:
        paths = find_images(images)
        return _to_standard_output(prepare()[0], paths, progress)
    shards = processes.on_main(lambda: _find_shards(images, output, shard_size))
    classifier, job = processes.on_all(prepare)
    return _to_file(classifier, shards, Parts(output, job), processes, progress)


def _to_standard_output(classifier: Classifier, paths: list[Path], progress: Console) -> int:
    bad: list[str] = []
    with image_bar(progress, "predicting", len(paths)) as done, contextlib.closing(decoded(paths)) as pictures:
        sys.stdout.write(classifier.header())
        rows = classifier.classify(pictures, sys.stdout, bad, done)
    _report(rows, bad, None, progress)
    return rows


def _to_file(classifier: Classifier, shards: list[Shard], parts: Parts, processes: Processes, progress: Console) -> int:
    """Predict the shards that are not done, then put all together; the number of rows."""
    said = processes.on_main(lambda: parts.sort_out(shards, accept_bad=classifier.skip_bad))
    if said and processes.is_main:
        progress.print(said, markup=False)
    waiting = processes.on_main(lambda: parts.missing(shards))
    total, left = images_of(shards), images_of(waiting)
    paths = [path for shard in own(waiting, processes) for path in shard.paths]

    def work(shard: Shard, done: Callable[[int], None]) -> Rows:
        file, bad = io.StringIO(newline=""), list[str]()
        count = classifier.classify(islice(pictures, len(shard.paths)), file, bad, done)
        return Rows(file.getvalue().encode("utf-8", "backslashreplace"), count, bad)

    with (
        stop_on_signal() as stop,
        image_bar(progress, "predicting", total) as show,
        contextlib.closing(decoded(paths)) as pictures,
    ):
        try:
            work_through(waiting, work, parts, processes, stop=stop, done=lambda images: show(total - left + images))
        except LptError as error:
            kept = _kept(shards, parts) if processes.is_main else ""
            if isinstance(error, Interrupted):
                raise Interrupted(f"interrupted; {kept or 'no file is left, the same command starts over'}") from None
            if kept:
                progress.print(kept, markup=False)
            raise
        return processes.on_main(lambda: _finish(classifier, shards, parts, progress))


def _kept(shards: list[Shard], parts: Parts) -> str:
    """What is left of a job that was stopped; empty if nothing is."""
    parts.tidy()
    done = parts.count(shards)
    total = images_of(shards)
    if not done:
        return ""
    return f"{done:,} of {total:,} images are done, in {parts.folder}: the same command goes on from there"


def _finish(classifier: Classifier, shards: list[Shard], parts: Parts, progress: Console) -> int:
    """Join the parts and report; the number of rows."""
    heads = parts.heads(shards)
    rows, bad = sum(part.rows for part in heads), [line for part in heads for line in part.bad]
    if bad and not rows:
        parts.remove()
    _check_any(rows, bad)
    parts.join(shards, classifier.header().encode())
    parts.remove()
    _report(rows, bad, parts.output, progress)
    return rows


def _check_any(rows: int, bad: list[str]) -> None:
    if bad and not rows:
        raise DataError(f"none of the {len(bad)} images can be read; the first: {bad[0]}")


def _report(rows: int, bad: list[str], output: Path | None, progress: Console) -> None:
    _check_any(rows, bad)
    if bad:
        progress.print(f"Left out: {len(bad)} of {rows + len(bad)} images that cannot be read", style="yellow")
        for line in bad[:20]:
            progress.print(f"  {line}", style="yellow", markup=False)
    if output is not None:
        progress.print(f"{rows:,} predictions: {output}", markup=False)


def _find_shards(images: Iterable[Path], output: Path, size: int) -> list[Shard]:
    paths = find_images(images)
    check_writable(output)
    return cut(paths, size)


def _check_output(output: Path | None) -> None:
    if output is None:
        return
    if output.suffix.lower() not in (".csv", *JSON_LINES):
        raise ConfigError(f"--output {output}: the ending must be .csv or .jsonl")
    if output.is_dir():
        raise RunError(f"--output: {output} is a folder; give a file")
    if output.is_file() and not is_table(output):
        raise RunError(
            f"--output: {output} is there, and is not a table that lpt predict wrote; give another file, or remove it "
            "yourself"
        )
