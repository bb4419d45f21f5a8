"""The folder of a comparison: its plan, which is its marker, and how it is thrown away."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lpt.config.recipes import METHODS
from lpt.errors import RunError
from lpt.report.comparison import WRITTEN
from lpt.system.files import remove_leftovers, write_json
from lpt.system.owned import (
    Contents,
    Names,
    contents,
    exactly,
    first_inside,
    is_marked,
    is_temporary,
    marker,
    marker_fields,
    remove,
)
from lpt.training.folder import FACTS, RUN_NAMES, Inputs, RunFolder, no_inputs

PLAN = "plan.json"
KIND = "lpt-comparison"
_METHOD = "|".join(map(re.escape, METHODS))
NAMES: Names = {
    **exactly(PLAN, "inference.json", *WRITTEN),
    "errors": {rf"({_METHOD})_seed\d+\.txt": None},
    "runs": {f"({_METHOD})": {r"seed\d+": RUN_NAMES}},
}
"""Every name that a comparison writes into its folder; nothing else in it is ever removed."""


def stored_plan(folder: Path) -> dict[str, Any] | None:
    """What an earlier command wrote down in a folder; None where nothing is there.

    Raises:
        RunError: what is there is no comparison, or a damaged one.
    """
    if folder.exists() and not folder.is_dir():
        raise RunError(f"--output: {folder} is a file; give a folder")
    before = marker_fields(folder / PLAN)
    if {"values", "holdout", "budget_minutes", "own", "machine", "share"} <= set(before):
        remove_leftovers(folder)
        return before
    inside = contents(folder, exactly(PLAN)) if folder.is_dir() else Contents()
    if inside.others or inside.blocking or inside.folders or not all(map(is_temporary, inside.files)):
        raise RunError(
            f"{folder} holds files and is no comparison of lpt: {PLAN} is missing, damaged or of something else. "
            "Choose another folder with --output."
        )
    return None


def write_plan(folder: Path, plan: Mapping[str, Any]) -> None:
    """Write down a comparison.

    Raises:
        RunError: the file cannot be written.
    """
    write_json(folder / PLAN, {**marker(KIND), **plan})


def why_kept(folder: Path, inputs: Inputs = no_inputs) -> str:
    """Why the comparison in a folder may not be thrown away by LPT, a clause; empty if it may.

    Raises:
        RunError: there is something, and it is no comparison.
    """
    if stored_plan(folder) is None:
        return ""
    if not is_marked(folder / PLAN, KIND):
        return f"its {PLAN} is not marked as that of a comparison of this version. Remove it yourself if it may go"
    inside = contents(folder, NAMES)
    if inside.blocking:
        return f"{inside.blocking[0]} lies where a comparison would write and is nothing that one wrote"
    for run in _cells(inside):
        if not run.unused and (reason := run.why_kept()):
            return f"in {run.path}, {reason}"
    precious = first_inside(folder, inputs())
    return f"{precious.what} lies in it ({precious.path})" if precious else ""


def check_overwritable(folder: Path, inputs: Inputs = no_inputs) -> None:
    """Raise `RunError` if a folder holds anything but a comparison that may be thrown away."""
    if reason := why_kept(folder, inputs):
        raise RunError(f"{folder} is not overwritten: {reason}. Choose another folder with --output.")


def throw_away(folder: Path) -> str:
    """Remove the runs and results of a comparison, all but its plan; what to tell of things that stay.

    A run's marker goes after everything else, and stays where something else lies in its folder.

    Raises:
        RunError: something cannot be removed.
    """
    if not folder.is_dir():
        return ""
    inside = contents(folder, NAMES)
    held = [run.facts for run in _cells(inside) if contents(run.path, RUN_NAMES).others]
    try:
        remove(inside, keep=[folder / PLAN, *held], last=FACTS)
    except OSError as error:
        raise RunError(
            f"cannot remove {error.filename}: {error.strerror}. Remove it yourself, or choose another folder with "
            "--output."
        ) from None
    return inside.others_message(folder)


def _cells(inside: Contents) -> Iterator[RunFolder]:
    """The runs in a comparison."""
    for path in inside.folders:
        if path.parent.parent.name == "runs" and re.fullmatch(r"seed\d+", path.name):
            yield RunFolder(path)
