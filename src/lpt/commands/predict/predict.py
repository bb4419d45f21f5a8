"""`lpt predict`: classify files and folders of images into a table."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from rich.console import Console

from lpt.commands.predict.inputs import find_images
from lpt.commands.predict.jobs import Output, report_bad, report_repaired
from lpt.commands.predict.launched import predict_launched
from lpt.commands.predict.listing import Shard, count_images, cut_shards
from lpt.commands.predict.parquet import PARQUET, check_installed, is_parquet_table
from lpt.commands.predict.request import PredictRequest
from lpt.commands.predict.shards import Job
from lpt.commands.predict.table import Labeller, decode_ahead, is_table
from lpt.commands.prior import shares_of
from lpt.data.decoding import Reading
from lpt.errors import ConfigError, RunError
from lpt.packs.hub import pinned
from lpt.packs.pack import load_pack
from lpt.packs.predictor import load_predictor
from lpt.packs.rejection import check_threshold
from lpt.report.bars import image_bar, teller
from lpt.system.notices import notices_to
from lpt.system.processes import Processes, several_started
from lpt.system.text import output_for_programs

JSON_LINES = (".jsonl", ".ndjson")
_FORMATS = {".csv": "CSV", PARQUET: "Parquet", **dict.fromkeys(JSON_LINES, "JSON lines")}


def predict_files(request: PredictRequest, *, progress: Console) -> int:
    """Classify image files and return the number of rows written.

    An output file is made in shards, which the processes that a launcher started, or the nodes of a Ray cluster, divide
    among themselves. After an interruption the same call goes on from the shards that are done.

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
    if request.ray:
        from lpt.commands.predict.on_ray import predict_on_ray

        return predict_on_ray(request, lambda: _find_images(request, progress), prepare_output, progress)
    if output is None and several_started():
        raise ConfigError("several processes cannot share standard output: give --output FILE.csv or FILE.jsonl")
    processes = Processes.launched(request.device)
    request = replace(request, pack=processes.on_main(lambda: pinned(request.pack)))
    with notices_to(teller(progress)):
        if output is None:
            with tempfile.TemporaryDirectory() as folder:
                shards = cut_shards(_find_images(request, progress), request.shard_size, Path(folder))
                return _to_standard_output(_prepare(request)[0], shards, progress)
        return predict_launched(
            output,
            lambda: _find_images(request, progress),
            lambda: prepare_output(request),
            processes,
            request.shard_size,
            progress,
        )


def _prepare(request: PredictRequest) -> tuple[Labeller, Job]:
    """Load the pack onto its backbone, and list what the rows depend on beside the images."""
    pack = load_pack(request.pack)
    info = pack.info
    if request.reject:
        check_threshold(pack)
    shares = shares_of(request.prior, pack)
    predictor = load_predictor(
        pack,
        backbone=request.backbone,
        checkpoint=request.checkpoint,
        engine=request.engine,
        device=request.device,
        precision=request.precision,
    )
    form = "CSV" if request.output is None else _FORMATS[request.output.suffix.lower()]
    json_lines = form != "CSV"  # parts of a Parquet are JSON lines until they are joined
    top_k = min(request.top_k, len(info.class_names))
    job: Job = {
        "pack": hashlib.sha256(info.model_dump_json().encode("utf-8", "backslashreplace")).hexdigest(),
        "address": pack.address,
        "--engine": predictor.engine.name,
        "precision": predictor.engine.precision,
        "--top-k": top_k,
        "--prior": None if shares is None else hashlib.sha256(repr(sorted(shares.items())).encode()).hexdigest(),
        "format": form,
        "--bad-images": "repair" if request.repair else None,
        "--reject": "yes" if request.reject else None,
        "lpt version": version("lpt"),
    }
    reading = Reading(request.max_pixels, info.preprocessing.white, request.repair)
    labeller = Labeller(predictor, top_k, shares, request.batch_size, request.skip_bad, json_lines, reading)
    return replace(labeller, address=pack.address, reject=request.reject), job


def _to_standard_output(labeller: Labeller, shards: list[Shard], progress: Console) -> int:
    """Predict all images onto standard output and return the number of rows."""
    bad: list[str] = []
    paths = (path for shard in shards for path in shard.paths)
    ahead = decode_ahead(paths, labeller.reading, labeller.repaired)
    with image_bar(progress, "predicting", count_images(shards)) as show, contextlib.closing(ahead) as pictures:
        file = output_for_programs()
        file.write(labeller.header())
        rows = labeller.write_rows(pictures, file, bad, show)
    report_bad(rows, bad, progress)
    if labeller.address is not None:
        progress.print(f"Pack: {labeller.address}", markup=False)
    report_repaired(labeller.repaired, progress)
    return rows


def prepare_output(request: PredictRequest) -> tuple[Labeller, Output]:
    """Load the pack, and say what is written with it."""
    labeller, job = _prepare(request)
    return labeller, Output(job, labeller.header(), labeller.top_k, labeller.address, request.skip_bad)


def _find_images(request: PredictRequest, progress: Console) -> Iterator[Path]:
    """Yield the images of a request, and at the end print what is left out and how tables were read."""
    notes: list[str] = []
    yield from find_images(
        request.images,
        notes,
        skip_bad=request.skip_bad,
        image_root=request.image_root,
        image_column=request.image_column,
    )
    for note in notes:
        progress.print(note, style="yellow", markup=False)


def _check_output(output: Path | None) -> None:
    """Check that the output is a file of a known format, and replaces nothing but an earlier table."""
    if output is None:
        return
    ending = output.suffix.lower()
    if ending not in _FORMATS:
        raise ConfigError(f"--output {output}: the ending must be .csv, .jsonl or .parquet")
    if ending == PARQUET:
        check_installed()
    if output.is_dir():
        raise RunError(f"--output: {output} is a folder; give a file")
    if output.is_file() and not (is_parquet_table(output) if ending == PARQUET else is_table(output)):
        raise RunError(
            f"--output: {output} is there, and is not a table that lpt predict wrote; give another file, or remove it "
            "yourself"
        )
