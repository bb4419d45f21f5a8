"""`lpt doctor`: what is in a data set, what will hurt, and what to do about it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lpt.cli import options
from lpt.cli.screen import output_console
from lpt.errors import RunError

if TYPE_CHECKING:
    from lpt.data.doctor.findings import Findings

NOT_USABLE = 1
KIND = "lpt-findings"


def doctor(
    data: options.Data,
    image_root: options.ImageRoot = None,
    image_column: options.ImageColumn = None,
    label_column: options.LabelColumn = None,
    test: options.Test = None,
    val: options.Validation = None,
    long_tail: options.LongTail = None,
    bad_images: options.BadImages = "stop",
    few_below: Annotated[int, typer.Option(min=1, help="A class with fewer training images is few-shot.")] = 20,
    many_above: Annotated[int, typer.Option(min=1, help="A class with more training images is many-shot.")] = 100,
    decode: Annotated[
        bool,
        typer.Option("--decode/--no-decode", help="Decode every image and search duplicates; or read headers only."),
    ] = True,
    plot: Annotated[Path, typer.Option(metavar="FILE.png", help="Plot of the class distribution to write.")] = Path(
        "lpt-doctor.png"
    ),
    no_plot: Annotated[bool, typer.Option("--no-plot", help="Write no plot.")] = False,
    json: Annotated[Path | None, typer.Option(metavar="FILE", help="Write everything found as JSON as well.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the long-tailed cut and the validation split.")] = 0,
) -> None:
    """Look a data set over: counts, imbalance, shot groups, image sizes, broken files, duplicates; what to do.

    Exits with 1 if a run would stop on what was found. Nothing is written but the plot and the JSON.

    **Example:** lpt doctor photos/ --test more_photos/ --json findings.json
    """
    from lpt.config.schema import validate
    from lpt.data.doctor.examine import examine
    from lpt.data.longtail import ShotGroups
    from lpt.data.sources import open_splits
    from lpt.report.doctor import print_findings
    from lpt.system.files import write_json

    values = {
        "source": data,
        "test": test,
        "validation": None if val is None else options.parse_validation(val),
        "image_root": image_root,
        "image_column": image_column,
        "label_column": label_column,
        "long_tail": long_tail,
        "bad_images": bad_images,
        "few_below": few_below,
        "many_above": many_above,
    }
    _check_outputs(None if no_plot else plot, json)
    settings = validate({"data": values, "runtime": {"seed": seed}}, origin="the options")
    groups = ShotGroups(few_below, many_above)
    findings = examine(open_splits(settings.data, seed=seed), decode=decode, compare=decode, groups=groups)
    console = output_console()
    print_findings(findings, console)
    if json is not None:
        write_json(json, as_dict(findings))
    if not no_plot:
        from lpt.report.plots import plot_distribution

        plot_distribution(plot, findings.counts, groups)
    for path in [*([] if no_plot else [plot]), *([] if json is None else [json])]:
        console.print(f"Written: {path}", markup=False)
    if findings.count("error"):
        raise typer.Exit(NOT_USABLE)


def _check_outputs(plot: Path | None, json: Path | None) -> None:
    """Raise `RunError` if a file would be replaced that `lpt doctor` did not write."""
    from lpt.report.style import is_plot
    from lpt.system.owned import is_marked

    outputs = (
        ("--plot", plot, "a plot of lpt", is_plot),
        ("--json", json, "findings of lpt", lambda path: is_marked(path.resolve(), KIND)),
    )
    for option, path, what, written_by_lpt in outputs:
        if path is None or not path.is_file():
            continue
        try:
            replaceable = not path.stat().st_size or written_by_lpt(path)
        except OSError as error:
            raise RunError(f"{option}: cannot read {path}: {error.strerror}; give another file") from None
        if not replaceable:
            raise RunError(f"{option}: {path} is there, and is not {what}; give another file, or remove it yourself")


def as_dict(findings: Findings) -> dict[str, Any]:
    """Findings as plain values."""
    from dataclasses import asdict

    from lpt.system.owned import marker

    return {
        **marker(KIND),
        "usable": not findings.count("error"),
        "splits": [asdict(split) for split in findings.splits],
        "imbalance_factor": findings.imbalance,
        "shot_groups": {
            "boundaries": findings.groups.describe(),
            "groups": [
                {"name": name, "classes": classes, "images": images} for name, classes, images in findings.group_sizes()
            ],
        },
        "training_images": dict(zip(findings.class_names, findings.counts.tolist(), strict=True)),
        "image_sizes": None if findings.sizes is None else asdict(findings.sizes),
        "findings": [asdict(finding) for finding in findings.findings],
        "notes": list(findings.notes),
        "decoded": findings.decoded,
    }
