"""Protect the folder of an evaluation: replace only files that an earlier evaluation wrote."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lpt.commands.inputs import inputs_of
from lpt.errors import RunError
from lpt.system.outputs import (
    COMPARISON_KIND,
    COMPARISON_MARKER,
    EVALUATION_KIND,
    EVALUATION_MARKER,
    SHIFT_KIND,
)
from lpt.system.owned import Input, first_inside, is_marked
from lpt.training.folder import SHIFT_NAMES, RunFolder


class Results(NamedTuple):
    """The files of one kind of results: the kind in their marker, their names (the marker first), and a title."""

    kind: str
    names: tuple[str, ...]
    title: str


EVALUATION = Results(
    EVALUATION_KIND,
    (EVALUATION_MARKER, "per_class.csv", "predictions.csv", "skipped_images.csv", "accuracy_by_count.png",
     "group_use.png"),
    "an evaluation",
)  # fmt: skip
SHIFT = Results(SHIFT_KIND, SHIFT_NAMES, "measurements under domain shift")


def check_evaluation(output: Path, inputs: Mapping[str, Any], *, overwrite: bool) -> None:
    """Raise `RunError` if an evaluation cannot be written into a folder.

    Args:
        output: the folder.
        inputs: the configuration of what the evaluation reads, as for `inputs_of`.
        overwrite: replace the evaluation in the folder.
    """
    if (output / "config.yaml").exists() or RunFolder(output).is_run:
        raise RunError(f"--output: {output} is a run folder, whose own metrics.json stays; give another folder")
    if is_marked(output / COMPARISON_MARKER, COMPARISON_KIND):
        raise RunError(f"--output: {output} is the folder of a comparison, whose tables stay; give another folder")
    if not check_owned(output, EVALUATION):
        return
    if overwrite:
        check_inputs(output, inputs)
        return
    replace = "" if first_precious(output, inputs) else "add --overwrite, or "
    raise RunError(f"--output: {output} holds an evaluation already; {replace}give another folder")


def check_owned(output: Path, results: Results) -> bool:
    """Return whether a folder holds results of a kind.

    Raises:
        RunError: the folder is a file, or holds something under these names that LPT did not write.
    """
    if output.exists() and not output.is_dir():
        raise RunError(f"--output: {output} is a file; give a folder")
    present = [output / name for name in results.names if os.path.lexists(output / name)]
    if not present:
        return False
    marked = is_marked(output / results.names[0], results.kind)
    foreign = [path for path in present if not marked or not (path.is_symlink() or path.is_file())]
    if foreign:
        why = f"is not that of {results.title} of this version of lpt" if foreign[0].name == results.names[0] else (
            f"was not written by lpt (there is no {results.names[0]} of {results.title} beside it)"
        )  # fmt: skip
        raise RunError(
            f"--output: {foreign[0]} would be replaced, but {why}; give another folder, or remove it yourself"
        )
    return True


def check_inputs(output: Path, inputs: Mapping[str, Any]) -> None:
    """Raise `RunError` if something that the command reads lies in the folder where it replaces files."""
    if precious := first_precious(output, inputs):
        raise RunError(
            f"--output: {output} is not overwritten: {precious.what} lies in it ({precious.path}). Give another folder."
        )


def clear(output: Path, results: Results) -> None:
    """Remove earlier results except their marker, so that none is left over beside the new ones.

    Raises:
        RunError: a file cannot be removed.
    """
    _unlink([output / name for name in results.names[1:]])


def drop_links(output: Path, results: Results) -> None:
    """Remove links under the names of results, so that what they point to is not replaced.

    Raises:
        RunError: a file cannot be removed.
    """
    _unlink([path for name in results.names if (path := output / name).is_symlink()])


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"cannot replace {path}: {error.strerror}; give another folder with --output") from None


def first_precious(output: Path, inputs: Mapping[str, Any]) -> Input | None:
    """Return the first input, or place such as the current folder, that lies in a folder; None: there is none."""
    return first_inside(output, inputs_of(inputs, None))
