"""`lpt predict`: classify files and folders of images into a table."""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path

from rich.console import Console

from lpt.commands.predict.inputs import find_images, read_prior
from lpt.commands.predict.request import PredictRequest
from lpt.commands.predict.shards import (
    Job,
    PartFolder,
    Shard,
    ShardRows,
    check_writable,
    count_images,
    cut_shards,
    shards_of,
    work_through,
)
from lpt.commands.predict.table import Labeller, decode_ahead, is_table
from lpt.data.decoding import Reading
from lpt.errors import ConfigError, DataError, LptError, RunError
from lpt.packs.hub import pinned
from lpt.packs.pack import load_pack
from lpt.packs.predictor import load_predictor
from lpt.packs.rejection import check_threshold
from lpt.report.progress import image_bar
from lpt.system.interrupt import Interrupted, stop_on_signal
from lpt.system.processes import Processes, several_started
from lpt.system.text import output_for_programs, plural

JSON_LINES = (".jsonl", ".ndjson")
_MOST_SHOWN = 20


def predict_files(request: PredictRequest, *, progress: Console) -> int:
    """Classify image files and return the number of rows written.

    An output file is made in shards, which the processes that a launcher started divide among themselves. After an
    interruption the same call goes on from the shards that are done.

    Args:
        request: the pack, the images and where the rows go.
        progress: where the bar and messages are shown.

    Raises:
        PackError, ConfigError, DataError: the pack, an option or an image cannot be used.
        RunError: the output cannot be written.
        Interrupted: the user stopped it.
    """
    output = request.output
    _check_output(output)
    if output is None and several_started():
        raise ConfigError("several processes cannot share standard output: give --output FILE.csv or FILE.jsonl")
    processes = Processes.launched(request.device)
    request = replace(request, pack=processes.on_main(lambda: pinned(request.pack)))
    if output is None:
        paths = _find_images(request, progress)
        return _to_standard_output(_prepare(request)[0], paths, progress)
    shards = processes.on_main(lambda: _find_shards(request, output, progress))
    labeller, job = processes.on_all(lambda: _prepare(request))
    return _to_file(labeller, shards, PartFolder(output, job), processes, progress)


def _prepare(request: PredictRequest) -> tuple[Labeller, Job]:
    """Load the pack onto its backbone, and list what the rows depend on beside the images."""
    pack = load_pack(request.pack)
    info = pack.info
    if request.reject:
        check_threshold(pack)
    shares = None if request.prior is None else read_prior(request.prior, info.class_names)
    predictor = load_predictor(
        pack,
        backbone=request.backbone,
        checkpoint=request.checkpoint,
        device=request.device,
        precision=request.precision,
    )
    json_lines = request.output is not None and request.output.suffix.lower() in JSON_LINES
    top_k = min(request.top_k, len(info.class_names))
    job: Job = {
        "pack": hashlib.sha256(info.model_dump_json().encode("utf-8", "backslashreplace")).hexdigest(),
        "address": pack.address,
        "precision": predictor.engine.precision,
        "--top-k": top_k,
        "--prior": None if shares is None else hashlib.sha256(repr(sorted(shares.items())).encode()).hexdigest(),
        "format": "JSON lines" if json_lines else "CSV",
        "--bad-images": "repair" if request.repair else None,
        "--reject": "yes" if request.reject else None,
        "lpt version": version("lpt"),
    }
    reading = Reading(request.max_pixels, info.preprocessing.white, request.repair)
    labeller = Labeller(predictor, top_k, shares, request.batch_size, request.skip_bad, json_lines, reading)
    return replace(labeller, address=pack.address, reject=request.reject), job


def _to_standard_output(labeller: Labeller, paths: list[Path], progress: Console) -> int:
    """Predict all images onto standard output and return the number of rows."""
    bad: list[str] = []
    ahead = decode_ahead(paths, labeller.reading, labeller.repaired)
    with image_bar(progress, "predicting", len(paths)) as show, contextlib.closing(ahead) as pictures:
        file = output_for_programs()
        file.write(labeller.header())
        rows = labeller.write_rows(pictures, file, bad, show)
    _report(rows, bad, None, progress)
    if labeller.address is not None:
        progress.print(f"Pack: {labeller.address}", markup=False)
    _report_repaired(labeller, progress)
    return rows


def _to_file(
    labeller: Labeller, shards: list[Shard], parts: PartFolder, processes: Processes, progress: Console
) -> int:
    """Predict the shards that are not done, join all of them and return the number of rows."""
    message = processes.on_main(lambda: parts.sort_out(shards, accept_bad=labeller.skip_bad))
    if message and processes.is_main:
        progress.print(message, markup=False)
    waiting = processes.on_main(lambda: parts.missing(shards))
    total, left = count_images(shards), count_images(waiting)
    paths = [path for shard in shards_of(processes, waiting) for path in shard.paths]

    def predict_shard(shard: Shard, show_done: Callable[[int], None]) -> ShardRows:
        file, bad = io.StringIO(newline=""), list[str]()
        count = labeller.write_rows(islice(pictures, len(shard.paths)), file, bad, show_done)
        return ShardRows(file.getvalue().encode("utf-8", "backslashreplace"), count, bad)

    with (
        stop_on_signal() as stop,
        image_bar(progress, "predicting", total) as show,
        contextlib.closing(decode_ahead(paths, labeller.reading, labeller.repaired)) as pictures,
    ):
        try:
            work_through(
                waiting,
                predict_shard,
                parts,
                processes,
                stop=stop,
                show_done=lambda images: show(total - left + images),
            )
        except LptError as error:
            kept = _describe_kept(shards, parts) if processes.is_main else ""
            if isinstance(error, Interrupted):
                raise Interrupted(f"interrupted; {kept or 'no file is left, the same command starts over'}") from None
            if kept:
                progress.print(kept, markup=False)
            raise
        return processes.on_main(lambda: _finish(labeller, shards, parts, progress))


def _describe_kept(shards: list[Shard], parts: PartFolder) -> str:
    """Say what is left of a job that was stopped; empty if nothing is."""
    parts.tidy()
    done = parts.count(shards)
    if not done:
        return ""
    return (
        f"{done:,} of {count_images(shards):,} images are done, in {parts.folder}: the same command goes on from there"
    )


def _finish(labeller: Labeller, shards: list[Shard], parts: PartFolder, progress: Console) -> int:
    """Join the parts, report, and return the number of rows."""
    headers = parts.headers(shards)
    rows, bad = sum(header.rows for header in headers), [line for header in headers for line in header.bad]
    if bad and not rows:
        parts.remove()
    _check_any(rows, bad)
    parts.join(shards, labeller.header().encode())
    parts.remove()
    _report(rows, bad, parts.output, progress)
    if labeller.address is not None:
        progress.print(f"Pack: {labeller.address}", markup=False)
    _report_repaired(labeller, progress)
    return rows


def _check_any(rows: int, bad: list[str]) -> None:
    """Raise `DataError` if no image could be read."""
    if bad and not rows:
        raise DataError(f"none of {plural(len(bad), 'image')} can be read; the first: {bad[0]}")


def _report(rows: int, bad: list[str], output: Path | None, progress: Console) -> None:
    """Print the images that were left out, and where the rows are."""
    _check_any(rows, bad)
    if bad:
        progress.print(f"Left out: {len(bad)} of {rows + len(bad)} images that cannot be read", style="yellow")
        for line in bad[:_MOST_SHOWN]:
            progress.print(f"  {line}", style="yellow", markup=False)
    if output is not None:
        progress.print(f"{plural(rows, 'prediction')}: {output}", markup=False)


def _report_repaired(labeller: Labeller, progress: Console) -> None:
    """Print which images of this command were cut short."""
    if labeller.repaired:
        count = plural(len(labeller.repaired), "image")
        progress.print(f"Repaired: {count} cut short, taken as far as they go and grey below", style="yellow")
        for path in labeller.repaired[:_MOST_SHOWN]:
            progress.print(f"  {path}", style="yellow", markup=False)


def _find_shards(request: PredictRequest, output: Path, progress: Console) -> list[Shard]:
    """List the images and cut them into shards; check on the way that the output can be written."""
    paths = _find_images(request, progress)
    check_writable(output)
    return cut_shards(paths, request.shard_size)


def _find_images(request: PredictRequest, progress: Console) -> list[Path]:
    """List the images of a request, and print what is left out and how tables were read."""
    notes: list[str] = []
    paths = find_images(
        request.images,
        notes,
        skip_bad=request.skip_bad,
        image_root=request.image_root,
        image_column=request.image_column,
    )
    for note in notes:
        progress.print(note, style="yellow", markup=False)
    return paths


def _check_output(output: Path | None) -> None:
    """Check that the output is a file of a known format, and replaces nothing but an earlier table."""
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
