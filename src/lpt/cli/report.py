"""`lpt report`: draw a finished run, comparison or search as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console


def report(
    folder: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="Folder of a run, a comparison or a search.", show_default=False),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="HTML file to write. Default: FOLDER/report.html."),
    ] = None,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="Draw only what the folder keeps: the backbone is not loaded, and there is no map of queries.",
        ),
    ] = False,
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the images of the run are, for the pictures. Default: where its config.yaml says, unless that "
            "is on the hub.",
        ),
    ] = None,
    device: options.Device = None,
) -> None:
    """Draw a finished run, comparison or search as one HTML file, to be read in five minutes or printed.

    It needs nothing else: no network, no other file. Pictures of confused classes are shown where the data still is.

    **Example:** lpt report runs/photos
    """
    from lpt.commands.report.report import report_requested
    from lpt.commands.report.request import ReportRequest

    request = ReportRequest(
        folder=folder,
        output=output,
        quick=quick,
        backbone=backbone,
        checkpoint=checkpoint,
        data=data,
        device=device or "auto",
    )
    report_requested(request, console=output_console(lasting=True))
