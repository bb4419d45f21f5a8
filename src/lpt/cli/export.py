"""`lpt export`: write a pack, or a backbone, for ONNX Runtime, or a page for the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.errors import ConfigError


def export(
    pack: Annotated[
        str | None,
        typer.Argument(
            metavar="[PACK]",
            help="Prompt pack, run folder that holds one, or hf://OWNER/NAME[@REVISION]: write it whole, backbone "
            "included, as model.onnx.",
            show_default=False,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder for the ONNX file and its JSON description."),
    ] = None,
    web: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Folder for a page that classifies with PACK in a browser."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="With --web: unpacked npm package onnxruntime-web. Default: npm fetches it, once."
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
    reject: Annotated[
        bool, typer.Option("--reject", help="With --web: let the page say which pictures show none of the classes.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the export that is in the folder; other files stay.")
    ] = False,
) -> None:
    """Write a pack, or a backbone, for ONNX Runtime, which predicts without PyTorch; or a page that runs it.

    **One pack:** lpt export runs/photos --output exported/photos

    **A backbone for all packs on it:** lpt export --backbone runs/photos --output exported/backbone

    **A page** that runs on the visitor's machine, from any static host: lpt export runs/photos --web site
    """
    from lpt.commands.export.export import export_files
    from lpt.commands.export.request import ExportRequest

    folder = output or web
    if folder is None or (output and web):
        raise ConfigError(
            "lpt export: give a folder: --output FOLDER for ONNX Runtime, or --web FOLDER for a page in the browser"
        )
    request = ExportRequest(
        output=folder,
        pack=pack,
        backbone=backbone,
        checkpoint=checkpoint,
        overwrite=overwrite,
        web=web is not None,
        runtime=runtime,
        reject=reject,
    )
    export_files(request, console=output_console(lasting=True))
