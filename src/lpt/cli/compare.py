"""`lpt compare`: several methods on the same data, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.errors import ConfigError


def compare(
    data: options.DataOrConfig = None,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", metavar="FOLDER", help="Folder of the comparison; goes on with one that is there."
        ),
    ] = Path("comparison"),
    methods: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,...|all",
            help="Methods, as lpt methods lists them. Default: both linear probes, logit-adjusted fine-tuning, "
            "VPT-deep, LIFT, LPT's phase 1 and LPT.",
        ),
    ] = None,
    seeds: Annotated[str, typer.Option(metavar="0,1,...", help="Seeds; each method is trained once for each.")] = "0",
    budget: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", min=0, help="Cut the steps of all methods so that the whole fits into this."),
    ] = None,
    holdout: Annotated[
        float,
        typer.Option(metavar="SHARE", help="Of each class, held out for testing where there are no test images."),
    ] = 0.2,
    preset: options.Preset = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML configuration of LPT, and of what all methods share.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="[METHOD:]A.B=C", help="One field, of LPT or of the method named; repeatable."),
    ] = None,
    test: options.Test = None,
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
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Throw away the comparison in --output, with its runs; other files stay.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Train on the machines of the Ray cluster at RAY_ADDRESS; without it, on one started here.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything, try a few real steps of each method, estimate time, memory, disk; write nothing.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train several methods on the same images, with as many draws each, and compare them with LPT.

    Writes tables (Markdown, CSV, JSON), plots and a run folder for each method and seed. The same command again goes
    on where it was stopped, and adds methods and seeds that are not there yet.

    **Example:** lpt compare photos/ --output runs/compared --seeds 0,1,2

    **Example:** lpt compare photos/ --methods linear-probe-la,lift,lpt --budget 30

    **Example:** RAY_ADDRESS=head:6379 lpt compare /shared/photos --output /shared/compared --ray
    """
    from lpt.commands.compare.compare import estimate_comparison, run_comparison
    from lpt.commands.compare.plan import DEFAULT_METHODS, ComparisonRequest
    from lpt.config.recipes import METHODS

    given = {
        "data.test": test,
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
    }
    request = ComparisonRequest(
        data=data,
        output=output,
        methods=DEFAULT_METHODS if methods is None else tuple(METHODS) if methods == "all" else _names(methods),
        seeds=_seeds(seeds),
        budget=budget,
        holdout=holdout,
        preset=preset,
        config=config,
        settings=options.settings(given, set_),
        overwrite=overwrite,
        ray=ray,
    )
    console = output_console(quiet=quiet, lasting=True)
    if dry_run:
        estimate_comparison(request, console)
    else:
        run_comparison(request, console)


def _names(text: str) -> tuple[str, ...]:
    """Split `a,b` or `a b` into names."""
    return tuple(part for part in text.replace(",", " ").split() if part)


def _seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as `0,1,2`.

    Raises:
        ConfigError: it is no list of whole numbers from 0 on.
    """
    try:
        numbers = tuple(int(part) for part in _names(text))
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 0:
        raise ConfigError(f"--seeds {text!r}: write whole numbers from 0 on, such as 0,1,2")
    return numbers
