"""Look a data set over before a run: counts, imbalance, image sizes, broken files, duplicates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from rich.console import Console

from lpt.config.bounds import MAX_PIXELS
from lpt.config.schema import validate
from lpt.data.doctor.examine import examine
from lpt.data.doctor.findings import Findings
from lpt.data.longtail import ShotGroups
from lpt.data.sources import open_splits
from lpt.errors import ConfigError, RunError
from lpt.report.doctor import print_findings
from lpt.system.files import write_json
from lpt.system.outputs import is_plot
from lpt.system.owned import is_marked, marker
from lpt.system.packages import explain_missing_packages

KIND = "lpt-findings"


def doctor(
    data: str | Path,
    *,
    test: str | float | Path | None = None,
    validation: str | float | None = None,
    long_tail: float | None = None,
    image_root: Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    bad_images: Literal["stop", "skip", "repair"] = "stop",
    max_pixels: int = MAX_PIXELS,
    few_below: int = 20,
    many_above: int = 100,
    decode: bool = True,
    plot: Path | None = None,
    json: Path | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> Findings:
    """Look a data set over and return what is in it, what will hurt, and what to do about it.

    Args:
        data: images with labels, in any form that `lpt fit` takes.
        test: test images, in any form of `data`, or the share of each class to hold out of train for them.
        validation: validation images, or the share of each class to cut from train for them.
        long_tail: imbalance factor to cut a balanced set to.
        image_root: folder that relative image paths start from.
        image_column: column of images in a table; None: found by name.
        label_column: column of labels in a table; None: found by name.
        split_column: column of splits in a table; None: found by its values.
        bad_images: `stop` at an image that does not exist, `skip` all that cannot be read, or
            `repair` JPEGs that lack their last bytes.
        max_pixels: most pixels of an image; a larger one counts as one that cannot be read.
        few_below: a class with fewer training images than this is few-shot.
        many_above: a class with more training images than this is many-shot.
        decode: decode every image and search duplicates; or read headers only.
        plot: PNG to write with the distribution of the classes.
        json: file to write with everything found.
        seed: seed of the long-tailed cut and the validation split.
        console: where to print; None: silent.

    Raises:
        ConfigError: an option is wrong, or a plot is asked for without Matplotlib.
        DataError: the data cannot be opened.
        RunError: a file cannot be written, or is there and not of LPT.

    Example:
        >>> findings = lpt.doctor("photos/")
        >>> findings.smallest(1)
        [('light', 2)]
        >>> findings.count("error")  # 0: `lpt fit` will start
        0
    """
    values = {
        "source": str(data),
        "test": None if test is None else str(test),
        "validation": validation,
        "image_root": image_root,
        "image_column": image_column,
        "label_column": label_column,
        "split_column": split_column,
        "long_tail": long_tail,
        "bad_images": bad_images,
        "max_pixels": max_pixels,
        "few_below": few_below,
        "many_above": many_above,
    }
    console = console or Console(quiet=True)
    _check_outputs(plot, json)
    settings = validate({"data": values, "runtime": {"seed": seed}}, origin="the options")
    groups = ShotGroups(few_below, many_above)
    findings = examine(open_splits(settings.data, seed=seed), decode=decode, compare=decode, groups=groups)
    print_findings(findings, console)
    _write(findings, plot, json, console)
    return findings


def _check_outputs(plot: Path | None, json: Path | None) -> None:
    """Check, before the images are read, that the files can be drawn and that `lpt doctor` may replace them."""
    if plot is not None and json is not None and plot.resolve() == json.resolve():
        raise ConfigError(f"--plot and --json: both name {plot}; give each a file of its own")
    if plot is not None:
        with explain_missing_packages("lpt doctor --plot"):
            import lpt.report.style  # noqa: F401
        _check_replaceable("--plot", plot, "a plot of lpt", is_plot)
    if json is not None:
        _check_replaceable("--json", json, "findings of lpt", lambda path: is_marked(path.resolve(), KIND))


def _check_replaceable(option: str, path: Path, what: str, written_by_lpt: Callable[[Path], bool]) -> None:
    """Raise `RunError` if the file is there and `lpt doctor` did not write it; an empty file may be replaced."""
    if not path.is_file():
        return
    try:
        replaceable = not path.stat().st_size or written_by_lpt(path)
    except OSError as error:
        raise RunError(f"{option}: cannot read {path}: {error.strerror}; give another file") from None
    if not replaceable:
        raise RunError(f"{option}: {path} is there, and is not {what}; give another file, or remove it yourself")


def _write(findings: Findings, plot: Path | None, json: Path | None, console: Console) -> None:
    """Write the files that are asked for, and print where they are."""
    if json is not None:
        write_json(json, {**marker(KIND), **findings.as_dict()})
    if plot is not None:
        from lpt.report.plots import plot_distribution

        plot_distribution(plot, findings.counts, findings.groups)
    for path in (plot, json):
        if path is not None:
            console.print(f"Written: {path}", markup=False)
