"""`lpt doctor`: what is in a data set, what will hurt, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.config.bounds import MAX_PIXELS

NOT_USABLE = 1


def doctor(
    data: options.Data,
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    test: options.Test = None,
    val: options.Validation = None,
    long_tail: options.LongTail = None,
    bad_images: options.BadImages = "stop",
    max_pixels: options.MaxPixels = MAX_PIXELS,
    few_below: Annotated[int, typer.Option(min=1, help="A class with fewer training images is few-shot.")] = 20,
    many_above: Annotated[int, typer.Option(min=1, help="A class with more training images is many-shot.")] = 100,
    decode: Annotated[
        bool,
        typer.Option("--decode/--no-decode", help="Decode every image and search duplicates; or read headers only."),
    ] = True,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE.png", help="Draw a plot of the class distribution there.")
    ] = None,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything found as JSON as well.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the long-tailed cut and the validation split.")] = 0,
) -> None:
    """Look a data set over: counts, imbalance, shot groups, image sizes, broken files, duplicates; what to do.

    Exits with 1 if a run would stop on what was found. Nothing is written but the plot and the JSON you ask for.

    **Example:** lpt doctor photos/ --test more_photos/ --plot classes.png --json findings.json
    """
    from lpt.commands.doctor import doctor as look_over

    findings = look_over(
        data,
        test=test,
        validation=val,
        long_tail=long_tail,
        image_root=image_root,
        image_column=image_column,
        label_column=label_column,
        split_column=split_column,
        bad_images=bad_images,
        max_pixels=max_pixels,
        few_below=few_below,
        many_above=many_above,
        decode=decode,
        plot=plot,
        json=json,
        seed=seed,
        console=output_console(),
    )
    if findings.count("error"):
        raise typer.Exit(NOT_USABLE)
