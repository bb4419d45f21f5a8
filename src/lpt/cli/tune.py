"""`lpt tune`: search the settings of a method, then train with the best."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console


def tune(
    data: options.DataOrConfig = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the search; goes on with one that is there."),
    ] = Path("tuned"),
    budget: Annotated[
        float,
        typer.Option(metavar="MINUTES", help="For everything: trials, and the final runs on all training images."),
    ] = 60.0,
    method: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Method to tune; lpt methods lists them. Default: that of lpt fit."),
    ] = None,
    search: Annotated[
        str,
        typer.Option(
            metavar="all|phase2",
            help="Fields to search: all that the method has, or those of LPT's second phase over one first phase that "
            "all trials share.",
        ),
    ] = "all",
    trials: Annotated[int | None, typer.Option(metavar="N", help="Most trials. Default: as many as fit.")] = None,
    splits: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Validation splits of each trial. Default: as many as the rare classes need and the budget holds.",
        ),
    ] = None,
    preset: options.Preset = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML configuration that the search starts from.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="One field, which is then not searched; may be repeated."),
    ] = None,
    test: options.Test = None,
    val: options.Validation = None,
    long_tail: options.LongTail = None,
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    split_column: options.SplitColumn = None,
    bad_images: options.BadImagesChoice = None,
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    size: options.Size = None,
    device: options.Device = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random draw.", rich_help_panel=options.RUN)] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Throw away the search in --output, with its runs; other files stay.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Train trials on the machines of the Ray cluster at RAY_ADDRESS, several at a time; without it, on "
            "one started here.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Search rates, epochs and sizes on held-out training images, starting from the preset; train with the best.

    The preset is kept unless another trial is better by more than a standard error. Where there are test images, both
    are trained on all training images and tested once. After Ctrl-C or a crash the same command goes on, the trial
    that was running too.

    **Example:** lpt tune photos/ --budget 60 --output tuned

    **Example:** lpt tune photos/ --method lift --budget 30 --trials 10

    **Example:** RAY_ADDRESS=head:6379 lpt tune /shared/photos --output /shared/tuned --ray
    """
    from lpt.commands.tune.request import TuneRequest
    from lpt.commands.tune.tune import run_tuning

    fields = {
        "data.test": test,
        "data.validation": val,
        "data.long_tail": long_tail,
        "data.image_root": image_root,
        "data.image_column": image_column,
        "data.label_column": label_column,
        "data.split_column": split_column,
        "data.bad_images": bad_images,
        "backbone.name": backbone,
        "backbone.checkpoint": checkpoint,
        "image.size": None if size is None else options.parse_size(size),
        "runtime.device": device,
        "runtime.seed": seed,
    }
    request = TuneRequest(
        data=data,
        output=output,
        budget=budget,
        search=search,
        trials=trials,
        splits=splits,
        preset=preset,
        method=method,
        config=config,
        settings=options.settings(fields, set_),
        overwrite=overwrite,
        ray=ray,
    )
    run_tuning(request, output_console(quiet=quiet, lasting=True))
