"""`lpt calibrate`: fit the temperature of a pack, and its threshold for `--reject`."""

from __future__ import annotations

from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import error_console, output_console
from lpt.config.bounds import MAX_PIXELS


def calibrate(
    pack: options.PackPath,
    data: options.Data,
    output: options.NewPack,
    keep: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Share of the images of known classes that the threshold is to keep."),
    ] = 0.95,
    split: options.Split = "validation",
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    bad_images: options.BadImages = "stop",
    max_pixels: options.MaxPixels = MAX_PIXELS,
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 64,
) -> None:
    """Fit a pack's temperature, and its threshold for images that show none of its classes (predict --reject).

    DATA holds labelled images of the pack's classes that it was not trained on, or is a run folder, for its validation
    images. The new pack has the same tensors. A pack that was trained with at least 50 validation images (--val) has
    both already.

    **Example:** lpt calibrate runs/photos more_photos/ --output packs/photos
    """
    from lpt.commands.calibrate.calibrate import calibrate_pack
    from lpt.commands.evaluate.request import EvaluationRequest
    from lpt.commands.inputs import data_settings

    request = EvaluationRequest(
        pack=pack,
        data=data,
        split=split,
        data_settings=data_settings(image_root, image_column, label_column, split_column, bad_images, max_pixels),
        output=output,
        backbone=backbone,
        checkpoint=checkpoint,
        device=device or "auto",
        precision=precision,
        batch_size=batch_size,
    )
    calibrate_pack(request, keep=keep, console=output_console(lasting=True), progress=error_console())
