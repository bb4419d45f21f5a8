"""`lpt label-next`: choose which pictures to label next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.config.bounds import MAX_PIXELS


def label_next(
    pack: options.PackPath,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...",
            help="Pictures without labels: files, folders (searched with all folders and links in them), tables and "
            "lists of images, or quoted patterns such as 'new/*.jpg'.",
        ),
    ],
    number: Annotated[int, typer.Option("--n", metavar="N", min=1, help="How many pictures to choose.")] = 100,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE.csv",
            help="The list. The contact sheet is the .html file of the same name beside it.",
        ),
    ] = Path("label_next.csv"),
    labelled: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="PATH",
            help="Pictures that are labelled already, in any form of IMAGES: they are left out. May be given again.",
        ),
    ] = None,
    sheet: Annotated[bool, typer.Option("--sheet/--no-sheet", help="Draw the contact sheet.")] = True,
    bad_images: Annotated[
        Literal["stop", "skip", "repair"],
        typer.Option(
            help="A picture that cannot be read: stop with its path, leave it out and say so, or (repair) take a JPEG "
            "that lacks its last bytes as far as it goes."
        ),
    ] = "skip",
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    max_pixels: options.MaxPixels = MAX_PIXELS,
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 32,
) -> None:
    """Choose which pictures to label next so that rare classes gain most: a list, and a contact sheet to print.

    A picture counts by what its label would add: most if it is probably of a class with few training images, less the
    more of the class are chosen already. Near-duplicates of a chosen picture are passed over.

    **Example:** lpt label-next runs/photos unlabelled/ --n 100

    **Example:** lpt label-next runs/photos archive.csv --labelled labels.csv --output next/round2.csv
    """
    from lpt.commands.label_next.label_next import label_requested
    from lpt.commands.label_next.request import LabelNextRequest

    request = LabelNextRequest(
        pack=pack,
        images=tuple(images),
        number=number,
        output=output,
        labelled=tuple(labelled or ()),
        sheet=sheet,
        bad_images=bad_images,
        max_pixels=max_pixels,
        image_root=image_root,
        image_column=image_column,
        backbone=backbone,
        checkpoint=checkpoint,
        device=device or "auto",
        precision=precision,
        batch_size=batch_size,
    )
    label_requested(request, console=output_console(lasting=True))
