"""`lpt predict`: classify new images into CSV or JSON lines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lpt.cli import options
from lpt.cli.screen import error_console
from lpt.config.bounds import MAX_PIXELS


def predict(
    pack: options.PackPath,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Image files, folders (searched with all folders and links in them), tables and lists of images, or "
            "quoted patterns such as 'new/*.jpg'.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write: .csv, .jsonl or .parquet. Default: CSV on standard output.",
        ),
    ] = None,
    top_k: Annotated[int, typer.Option(metavar="K", min=1, help="How many classes to give for an image.")] = 5,
    prior: options.Prior = None,
    reject: Annotated[
        bool,
        typer.Option(
            "--reject", help="Also say which images show none of the classes, by the threshold that the pack was given."
        ),
    ] = False,
    bad_images: Annotated[
        Literal["stop", "skip", "repair"],
        typer.Option(
            help="An image that cannot be read: stop with its path, leave it out and say so, or (repair) take a JPEG "
            "that lacks its last bytes as far as it goes."
        ),
    ] = "stop",
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    engine: options.Engine = "auto",
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 32,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Divide the work among the nodes of a Ray cluster, that of RAY_ADDRESS or this machine. Pack, images "
            "and output must lie on a disk that all nodes share.",
        ),
    ] = False,
) -> None:
    """Classify images: a row for each, the most probable classes first. JSON lines also name the group prompts.

    Columns of the CSV: image, class_1, probability_1, class_2, ...; with --reject also rejected and known_score, which
    is below 0 for those rejected. An output file appears when it is complete, in place of one that lpt predict wrote
    before. Until then finished parts are kept beside it; after an interruption the same command goes on from there.
    Lists are read as a stream, however long they are: CSV, JSON lines, Parquet, or a path on each line.

    **Example:** lpt predict runs/photos new_photos/ --output predictions.csv --top-k 3

    **Example:** lpt predict runs/photos new_photos/ --engine onnx --backbone exported/vit

    **Example:** torchrun --nproc_per_node 8 -m lpt predict runs/photos archive/ --output archive.jsonl

    **Example:** RAY_ADDRESS=head:6379 lpt predict runs/photos archive.parquet --output /shared/archive.parquet --ray
    """
    from lpt.commands.predict.predict import predict_files
    from lpt.commands.predict.request import PredictRequest

    request = PredictRequest(
        pack=pack,
        images=tuple(images),
        output=output,
        top_k=top_k,
        prior=prior,
        reject=reject,
        skip_bad=bad_images == "skip",
        image_root=image_root,
        image_column=image_column,
        repair=bad_images == "repair",
        max_pixels=max_pixels,
        engine=engine,
        backbone=backbone,
        checkpoint=checkpoint,
        device=device or "auto",
        precision=precision,
        batch_size=batch_size,
        ray=ray,
    )
    predict_files(request, progress=error_console())
