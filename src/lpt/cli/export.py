"""`lpt export`: write a pack, or a backbone, for ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console


def export(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the ONNX file and its JSON description."),
    ],
    pack: Annotated[
        Path | None,
        typer.Argument(
            metavar="[PACK]",
            help="Prompt pack, or run folder that holds one: write it whole, backbone included, as model.onnx.",
            show_default=False,
        ),
    ] = None,
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|PACK",
            help="The backbone, as for lpt fit, or a pack that names it. Without PACK: write it alone, as a "
            "backbone.onnx that runs any number of packs.",
        ),
    ] = None,
    checkpoint: options.Checkpoint = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the export that is in --output; other files stay.")
    ] = False,
) -> None:
    """Write a pack, or a backbone, for ONNX Runtime, which predicts without PyTorch.

    **One pack:** lpt export runs/photos --output exported/photos

    **A backbone for all packs on it:** lpt export --backbone runs/photos --output exported/backbone
    """
    from lpt.commands.export.export import export_files
    from lpt.commands.export.request import ExportRequest

    request = ExportRequest(
        output=output, pack=pack, backbone=backbone, checkpoint=checkpoint, overwrite=overwrite
    )  # fmt: skip
    export_files(request, console=output_console(lasting=True))
