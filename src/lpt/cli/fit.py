"""`lpt fit`: from images to a prompt pack."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.errors import ConfigError

_WITH_RESUME = {"resume", "quiet", "data", "test", "val", "image_root", "checkpoint", "device", "set_"}


def fit(
    ctx: typer.Context,
    data: options.DataOrConfig = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FOLDER", help="Run folder to make. Default: runs/DATA-DATE-TIME."),
    ] = None,
    preset: options.Preset = None,
    method: Annotated[
        str | None, typer.Option(metavar="NAME", help="lpt, or one to compare it with: lpt methods lists all.")
    ] = None,
    phases: Annotated[
        int | None,
        typer.Option(
            metavar="1|2",
            help="Phases of LPT: 1 trains the shared prompt, 2 group prompts as well. Default: the preset's.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="YAML configuration; lpt config lists the fields.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="One field of the configuration; may be repeated."),
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
            "--overwrite", help="Replace the run that is in --output; other files stay.", rich_help_panel=options.RUN
        ),
    ] = False,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with the interrupted run of this folder. Beside it: DATA, --test, --val, --image-root and "
            "--checkpoint if files were moved, --device, and --set of what belongs to the machine.",
            rich_help_panel=options.RUN,
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Check everything, run a few real steps, estimate time, memory and disk; write nothing.",
            rich_help_panel=options.RUN,
        ),
    ] = False,
    quiet: options.Quiet = False,
) -> None:
    """Train a prompt pack: the shared prompt, with --phases 2 group prompts as well; then test, plot and pack it.

    Ctrl-C saves and says how to go on. Options of the command win over --config, and --config wins over the preset.
    A preset or method other than that of the file is refused.

    **Example:** lpt fit photos/ --output runs/photos --test 0.2

    **Example:** lpt fit hf:cifar100:img:fine_label --long-tail 100 --preset laptop --set train.phase1.epochs=4
    """
    console = output_console(quiet=quiet, lasting=True)
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
    settings = options.settings(fields, set_)
    if resume is not None:
        _refuse_beside_resume(ctx)
        from lpt.commands.fit.fit import resume as resume_run

        resume_run(resume, data, settings=settings, console=console)
        return
    from lpt.commands.fit.request import RunRequest

    request = RunRequest(
        data=data,
        output=output,
        preset=preset,
        method=method,
        phases=phases,
        config=config,
        settings=settings,
        overwrite=overwrite,
    )
    if dry_run:
        from lpt.commands.fit.estimate import dry_run as estimate

        estimate(request, console=console)
        return
    from lpt.commands.fit.fit import fit_requested

    fit_requested(request, console=console)


def _refuse_beside_resume(ctx: typer.Context) -> None:
    """Raise `ConfigError` if options stand beside `--resume` that would make another run of it."""
    others = [
        "DATA" if parameter.name == "data" else parameter.opts[0]
        for parameter in ctx.command.params
        if parameter.name not in _WITH_RESUME
        and (source := ctx.get_parameter_source(str(parameter.name))) is not None
        and source.name == "COMMANDLINE"
    ]
    if others:
        raise ConfigError(
            f"--resume goes on with the settings of the run; leave out {', '.join(others)}. "
            "For other settings start a new run."
        )
