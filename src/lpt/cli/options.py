"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from lpt.errors import ConfigError

DATA_HELP = (
    "Images with labels: a folder of class folders (or of train/val/test folders of those), a .csv, .tsv or .jsonl "
    "table, a .txt of `path label` lines, or hf:NAME_OR_FOLDER[:image_column[:label_column]]."
)
_DATA, _MODEL, RUN = "Data", "Backbone and machine", "Run"

Data = Annotated[str, typer.Argument(metavar="DATA", help=DATA_HELP, show_default=False)]
DataOrConfig = Annotated[str | None, typer.Argument(metavar="DATA", help=DATA_HELP + " May stand in --config.")]
Preset = Annotated[str | None, typer.Option(metavar="NAME", help="laptop, paper, or auto: what suits the machine.")]
PackPath = Annotated[  # text: a Path would drop a slash of hf://
    str,
    typer.Argument(
        metavar="PACK",
        help="Prompt pack, run folder that holds one, or hf://OWNER/NAME[@REVISION] on the Hugging Face Hub.",
        show_default=False,
    ),
]
ImageRoot = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="Folder that relative image paths start from.", rich_help_panel=_DATA),
]
ImageColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of images in a table (found by name if unset).", rich_help_panel=_DATA),
]
LabelColumn = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Column of labels in a table (found by name if unset).", rich_help_panel=_DATA),
]
SplitColumn = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Column of a table that says train, validation or test (found by its values if unset).",
        rich_help_panel=_DATA,
    ),
]
Split = Annotated[Literal["train", "validation", "test"], typer.Option(help="Split to take, if DATA has several.")]
NewPack = Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Folder of the new pack.")]
Test = Annotated[
    str | None,
    typer.Option(
        metavar="SHARE|SOURCE",
        help="Share of each class to hold out for testing, such as 0.2 or 20%; or test images, in any form of DATA.",
        rich_help_panel=_DATA,
    ),
]
Validation = Annotated[
    str | None,
    typer.Option(
        "--val",
        metavar="SHARE|SOURCE",
        help="Share of each class to cut from train for validation, such as 0.1 or 10%; or validation images.",
        rich_help_panel=_DATA,
    ),
]
LongTail = Annotated[
    float | None,
    typer.Option(
        metavar="IF", help="Cut a balanced set to this imbalance factor, n_max / n_min.", rich_help_panel=_DATA
    ),
]
BadImages = Annotated[
    Literal["stop", "skip", "repair"],
    typer.Option(
        help="An image that cannot be read: stop with its path, leave it out, or (repair) take a JPEG that lacks its "
        "last bytes as far as it goes.",
        rich_help_panel=_DATA,
    ),
]
MaxPixels = Annotated[
    int,
    typer.Option(metavar="N", min=1, help="Most pixels of an image; a larger one counts as one that cannot be read."),
]
BadImagesChoice = Annotated[
    str | None,
    typer.Option(
        "--bad-images",
        metavar="stop|skip|repair",
        help="An image that cannot be read: stop before training, leave it out, or (repair) take a JPEG that lacks its "
        "last bytes as far as it goes. Default: stop.",
        rich_help_panel=_DATA,
    ),
]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="timm name of the Vision Transformer, hf-hub:OWNER/NAME or local-dir:FOLDER.",
        rich_help_panel=_MODEL,
    ),
]
Checkpoint = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="File of weights to use in place of those of the hub.", rich_help_panel=_MODEL),
]
Engine = Annotated[
    Literal["auto", "torch", "onnx"],
    typer.Option(
        help="What runs the network: PyTorch, or ONNX Runtime on the folder that lpt export --backbone wrote "
        "(--backbone FOLDER).",
        rich_help_panel=_MODEL,
    ),
]
Size = Annotated[
    str | None,
    typer.Option(metavar="PIXELS|HxW", help="Input size: 224, or 160x128.", rich_help_panel=_MODEL),
]
Device = Annotated[str | None, typer.Option(metavar="NAME", help="auto, cpu, cuda or mps.", rich_help_panel=_MODEL)]
Precision = Annotated[
    Literal["auto", "fp32", "bf16"],
    typer.Option(
        help="Number type of the backbone. auto: fp32 on a CPU; bf16 on a card that is fast with it. With bf16, "
        "probabilities change by some hundredths, also with the batch size.",
        rich_help_panel=_MODEL,
    ),
]
Prior = Annotated[
    str | None,
    typer.Option(
        metavar="FILE.csv|training|even",
        help="How frequent classes are where the images come from: columns class,share; or as among the training "
        "images; or all alike. Default: as the pack's probabilities assume (lpt inspect PACK says it).",
    ),
]
BatchSize = Annotated[int, typer.Option(metavar="N", min=1, help="Images in a forward pass.", rich_help_panel=_MODEL)]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.", rich_help_panel=RUN)]


def settings(options: dict[str, Any], assignments: list[str] | None) -> dict[str, Any]:
    """Return the fields that options and `--set` texts give, by dotted path; `--set` wins.

    Args:
        options: values by the field that they set. None: the option was not given.
        assignments: texts such as `train.batch_size=64`.

    Raises:
        ConfigError: a text is not of this form.
    """
    from lpt.config.values import by_path

    return {path: value for path, value in options.items() if value is not None} | by_path(assignments or [])


def parse_size(text: str) -> int | list[int] | str:
    """Return `224` or `160x128` (height x width) as the configuration takes it.

    Raises:
        ConfigError: the text has another form.
    """
    if text == "auto":
        return text
    numbers = re.fullmatch(r"(\d+)(?:\s*[x×,]\s*(\d+))?", text.strip())
    if numbers is None:
        raise ConfigError(f"--size {text!r}: write pixels as 224, or height x width as 160x128")
    height, width = numbers.groups()
    return int(height) if width is None else [int(height), int(width)]
