"""`lpt evaluate`: a pack measured on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lpt.cli import options
from lpt.cli.screen import error_console, output_console


def evaluate(
    pack: options.PackPath,
    data: options.Data,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Folder to write metrics.json, per_class.csv and plots to."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an evaluation that is in --output.")] = False,
    split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Which split, if DATA has several.")
    ] = "test",
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    bad_images: options.BadImages = "stop",
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    batch_size: options.BatchSize = 64,
) -> None:
    """Measure a pack: overall, mean per class, many-, medium- and few-shot accuracy.

    Labels are matched to the pack's classes by name. Shot groups go by the pack's own training counts.

    **Example:** lpt evaluate runs/photos more_photos/ --output results/more_photos
    """
    from lpt.run.evaluate import evaluate_pack

    values = {
        "image_root": image_root,
        "image_column": image_column,
        "label_column": label_column,
        "bad_images": bad_images,
    }
    evaluate_pack(
        options.find_pack(pack),
        data,
        split=split,
        data_settings=values,
        output=output,
        overwrite=overwrite,
        backbone=backbone,
        checkpoint=checkpoint,
        device=device or "auto",
        batch_size=batch_size,
        console=output_console(),
        progress=error_console(),
    )
