"""`lpt extend`: add classes to a pack from a few pictures of each, without training."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from lpt.cli import options
from lpt.cli.screen import error_console, output_console
from lpt.config.bounds import MAX_PIXELS


def extend(
    pack: options.PackPath,
    data: options.Data,
    output: options.NewPack,
    known: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE|RUN",
            help="Labelled pictures of the pack's own classes that it was not trained on, in any form of DATA; or a "
            "run folder, for its own validation images. The scale of the new classes is chosen on them, and what the "
            "old ones lose is measured.",
        ),
    ] = None,
    known_split: Annotated[
        Literal["train", "validation", "test"], typer.Option(help="Split of --known to take if it has several.")
    ] = "validation",
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    bad_images: options.BadImages = "stop",
    max_pixels: options.MaxPixels = MAX_PIXELS,
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    batch_size: options.BatchSize = 64,
) -> None:
    """Add classes to a pack from a few pictures of each, in seconds and without training.

    DATA holds the new classes alone; one picture of each is enough. Everything that the pack learnt stays as it is.

    **Example:** lpt extend runs/photos new_classes/ --known runs/photos --output packs/photos_extended
    """
    from lpt.commands.extend.extend import extend_pack
    from lpt.commands.extend.request import ExtendRequest
    from lpt.commands.inputs import data_settings

    request = ExtendRequest(
        pack=pack,
        data=data,
        output=output,
        known=known,
        known_split=known_split,
        data_settings=data_settings(image_root, image_column, label_column, split_column, bad_images, max_pixels),
        checkpoint=checkpoint,
        device=device or "auto",
        batch_size=batch_size,
    )
    extend_pack(request, backbone=backbone, console=output_console(lasting=True), progress=error_console())
