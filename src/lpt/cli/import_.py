"""`lpt import`: make a pack of a checkpoint that the authors' code saved."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.errors import ConfigError


def import_(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="Checkpoint of the authors' code: .pt, .pth, .tar or .safetensors.")
    ],
    classes: Annotated[
        Path,
        typer.Option(metavar="FILE", help="One class a line, in the order of the labels: name, or name,count."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the pack to make.")],
    counts: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Training images of each class, a number a line, if --classes has none."),
    ] = None,
    top_k: Annotated[
        int, typer.Option(metavar="K", min=1, help="Group prompts that an image picks; the checkpoint does not say it.")
    ] = 2,
    norm_eps: Annotated[
        float,
        typer.Option(
            metavar="EPS", help="eps of LayerNorm in the code that trained it; the authors' code has PyTorch's default."
        ),
    ] = 1e-5,
    backbone: options.Backbone = None,
    checkpoint: options.Checkpoint = None,
    size: options.Size = None,
) -> None:
    """Make a pack of a checkpoint that the authors' code saved, a whole model or its prompts alone.

    Shapes are checked, and a backbone inside the file must be the one that you name, tensor by tensor. No code in the
    file runs.

    **Example:** lpt import model_best.pth.tar --backbone vit_base_patch16_224.augreg_in21k --classes names.txt -o pack
    """
    if backbone is None:
        raise ConfigError("--backbone: name the backbone that the checkpoint was trained on")
    sides = None if size is None else options.parse_size(size)
    if isinstance(sides, str):
        raise ConfigError("--size: give pixels as 224, or height x width as 160x128")
    from lpt.commands.import_checkpoint.import_checkpoint import import_checkpoint

    import_checkpoint(
        file,
        output,
        backbone=backbone,
        classes=classes,
        counts=counts,
        checkpoint=checkpoint,
        top_k=top_k,
        size=sides,
        norm_eps=norm_eps,
        console=output_console(),
    )
