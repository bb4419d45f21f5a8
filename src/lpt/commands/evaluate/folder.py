"""Protect the folder of an evaluation: replace only files that an earlier evaluation wrote."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.results import Results, check_inputs, check_owned, first_precious
from lpt.errors import RunError
from lpt.report.bars import warner
from lpt.system.lock import locked_output
from lpt.system.outputs import (
    COMPARISON_KIND,
    COMPARISON_MARKER,
    EVALUATION_KIND,
    EVALUATION_MARKER,
    SHIFT_KIND,
)
from lpt.system.owned import is_marked
from lpt.system.processes import Processes
from lpt.training.folder import SHIFT_NAMES, RunFolder

EVALUATION = Results(
    EVALUATION_KIND,
    (EVALUATION_MARKER, "per_class.csv", "predictions.csv", "skipped_images.csv", "accuracy_by_count.png",
     "group_use.png"),
    "an evaluation",
)  # fmt: skip
SHIFT = Results(SHIFT_KIND, SHIFT_NAMES, "measurements under domain shift")


def output_locked(output: Path | None, processes: Processes, console: Console) -> AbstractContextManager[None]:
    """Hold the lock of the folder of the results in the first process; without a folder there is none.

    Raises:
        RunError: another process holds it, or it cannot be made.
    """
    return nullcontext() if output is None else processes.held_by_main(locked_output(output, warner(console)))


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
