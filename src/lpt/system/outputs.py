"""Tell what LPT wrote from a user's data: runs, comparisons, searches, packs, evaluations, parts of predictions, plots.

LPT's own output is never data. A folder is known by its marker, a plot by the software that it names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from lpt.errors import RunError
from lpt.system.owned import PACK_FILES, marker_fields

RUN_MARKER = "run.json"
RUN_KIND = "lpt-run"
COMPARISON_MARKER = "plan.json"
COMPARISON_KIND = "lpt-comparison"
TUNE_MARKER = "tune.json"
TUNE_KIND = "lpt-tune"
SHIFT_MARKER = "shift_cells.json"
SHIFT_KIND = "lpt-shift"
EVALUATION_MARKER = "metrics.json"
EVALUATION_KIND = "lpt-evaluation"
PARTS_ENDING = ".parts"
"""Ending of the folder in which `lpt predict` keeps finished parts."""

REPORT = "report.html"
"""Name of the report in the folder of a run, a comparison or a search."""
PLOT_SOFTWARE = "lpt"
"""The software that a plot of LPT names in its PNG."""
_PART = re.compile(r"\d{6,}\.(part|claim)|join\.claim|[\w-]+\.beat|images\.(list|json)|outcome\.json|run\.lock|\..*")
_UNMARKED_RUN = {"data_sha256", "backbone_sha256"}
_WHOLE = {
    RUN_MARKER: (RUN_KIND, "a run"),
    COMPARISON_MARKER: (COMPARISON_KIND, "a comparison"),
    TUNE_MARKER: (TUNE_KIND, "a search for settings"),
}
_AMONG_OTHERS = {
    EVALUATION_MARKER: (EVALUATION_KIND, "an evaluation"),
    SHIFT_MARKER: (SHIFT_KIND, "measurements under domain shift"),
}


def check_absent(output: Path) -> None:
    """Raise `RunError` if there is something under the path of a new output, also a broken link."""
    if os.path.lexists(output):
        raise RunError(f"--output: {output} is there already; give another folder, or remove it yourself")


class Output(NamedTuple):
    """What LPT wrote into a folder.

    Args:
        title: what it is, such as `a run`; empty if LPT wrote nothing there.
        whole: whether the folder is LPT's; otherwise only its plots are, beside what others put there.
    """

    title: str = ""
    whole: bool = False


def output_in(folder: Path, names: Collection[str]) -> Output:
    """Return what LPT wrote into a folder.

    Args:
        folder: the folder.
        names: the names in it; no file is opened unless a marker is among them.
    """
    for name, (kind, title) in _WHOLE.items():
        if name in names:
            fields = marker_fields(folder / name)
            unmarked = name == RUN_MARKER and "kind" not in fields and set(fields) >= _UNMARKED_RUN
            if fields.get("kind") == kind or unmarked:
                return Output(title, whole=True)
    if all(name in names for name in PACK_FILES[:2]):
        return Output("a pack", whole=True)
    if folder.name.endswith(PARTS_ENDING) and names and all(map(_PART.fullmatch, names)):
        return Output("parts of predictions", whole=True)
    for name, (kind, title) in _AMONG_OTHERS.items():
        if name in names and marker_fields(folder / name).get("kind") == kind:
            return Output(title)
    return Output()


def is_plot(path: Path) -> bool:
    """Return whether a file is a plot that LPT drew.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4096)
    return start.startswith(b"\x89PNG") and f"tEXtSoftware\0{PLOT_SOFTWARE}".encode() in start
