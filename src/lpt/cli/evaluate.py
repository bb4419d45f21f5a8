"""`lpt evaluate`: measure a pack on labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import error_console, output_console
from lpt.config.bounds import MAX_PIXELS
from lpt.errors import ConfigError

_SHIFT = "Domain shift"


def evaluate(
    pack: options.PackPath,
    data: options.Data,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder for metrics.json, per_class.csv and plots; with --shift for shift.json, shift.csv and "
            "shift.png.",
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the evaluation that is in --output; other files stay.")
    ] = False,
    split: options.Split = "test",
    prior: options.Prior = None,
    shift: Annotated[
        list[str] | None,
        typer.Option(
            metavar="corruptions[:NAMES]|DATA2",
            help="Measure under domain shift instead: all corruptions, those named (corruptions:fog,blur), or another "
            "set with the same class names. May be given several times.",
            show_default=False,
            rich_help_panel=_SHIFT,
        ),
    ] = None,
    severities: Annotated[
        list[str] | None,
        typer.Option(metavar="1,3,5", help="Severities of the corruptions; all five if unset.", rich_help_panel=_SHIFT),
    ] = None,
    shift_images: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            help="Number of images, the same share of every class; 0: all. Unset: 1000 for corruptions, all for DATA2.",
            rich_help_panel=_SHIFT,
        ),
    ] = None,
    shift_seed: Annotated[
        int | None,
        typer.Option(
            metavar="N", min=0, help="Seed of that choice and of the corruptions; 0 if unset.", rich_help_panel=_SHIFT
        ),
    ] = None,
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    bad_images: options.BadImages = "stop",
    max_pixels: options.MaxPixels = MAX_PIXELS,
    engine: options.Engine = "auto",
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    device: options.Device = None,
    precision: options.Precision = "auto",
    batch_size: options.BatchSize = 64,
) -> None:
    """Measure a pack: overall, mean per class, many-, medium- and few-shot accuracy.

    Labels are matched to the pack's classes by name. Shot groups go by the pack's own training counts.

    **Example:** lpt evaluate runs/photos more_photos/ --output results/more_photos

    **Example:** lpt evaluate runs/photos more_photos/ --prior training

    **Domain shift:** lpt evaluate runs/photos more_photos/ --shift corruptions --shift sketches/ --output results/shift
    """
    from lpt.commands.evaluate.evaluate import evaluate_pack
    from lpt.commands.evaluate.request import EvaluationRequest
    from lpt.commands.inputs import data_settings

    request = EvaluationRequest(
        pack=pack,
        data=data,
        split=split,
        data_settings=data_settings(image_root, image_column, label_column, split_column, bad_images, max_pixels),
        output=output,
        overwrite=overwrite,
        prior=prior,
        engine=engine,
        backbone=backbone,
        checkpoint=checkpoint,
        device=device or "auto",
        precision=precision,
        batch_size=batch_size,
    )
    if shift:
        from lpt.commands.evaluate.shift import evaluate_pack_shift, parse_shift

        shifts = parse_shift(shift, severities=severities or (), images=shift_images, seed=shift_seed)
        evaluate_pack_shift(
            request, shifts, console=output_console(lasting=request.output is not None), progress=error_console()
        )
    elif severities or shift_images is not None or shift_seed is not None:
        raise ConfigError(
            "--severities, --shift-images and --shift-seed say how --shift is measured: add --shift corruptions"
        )
    else:
        evaluate_pack(request, console=output_console(lasting=request.output is not None), progress=error_console())
