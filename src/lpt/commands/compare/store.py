"""The folder of a comparison: its plan, the run of every cell, reports of errors, and the rules for removing it."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from lpt.commands.compare.plan import CellKey, StoredPlan
from lpt.config.recipes import METHODS
from lpt.errors import RunError
from lpt.report.comparison import WRITTEN
from lpt.system.files import remove_leftovers, write_json, write_text
from lpt.system.lock import LOCK, locked_output
from lpt.system.outputs import COMPARISON_KIND as KIND
from lpt.system.outputs import COMPARISON_MARKER as PLAN
from lpt.system.outputs import REPORT
from lpt.system.owned import (
    Contents,
    Names,
    check_no_others,
    contents,
    exactly,
    first_inside,
    is_marked,
    marker,
    marker_fields,
)
from lpt.training.folder import RUN_NAMES, Inputs, RunFolder, clear_runs, no_inputs

INFERENCE = "inference.json"
_METHOD = "|".join(map(re.escape, METHODS))
NAMES: Names = {
    **exactly(PLAN, LOCK, INFERENCE, REPORT, *WRITTEN),
    "errors": {rf"({_METHOD})_seed\d+\.txt": None},
    "runs": {f"({_METHOD})": {r"seed\d+": RUN_NAMES}},
}
"""Every name that a comparison writes into its folder; nothing else in it is ever removed."""


class ComparisonFolder:
    """The folder of a comparison: what is in it, and what may be removed from it.

    `plan.json` (the marker), `runs/METHOD/seedN/` (the run folder of a cell), `errors/METHOD_seedN.txt` (the traceback
    of a cell that failed unexpectedly), `inference.json`, tables and plots. Nothing is cached: every method looks at
    the disk.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.plan = path / PLAN
        self.inference = path / INFERENCE

    @contextlib.contextmanager
    def locked(self, tell: Callable[[str], None]) -> Iterator[None]:
        """Hold the lock of the folder, which is made if it is missing, and removed again if nothing comes into it.

        Raises:
            RunError: another comparison goes on in it, or it holds something else.
        """
        self.stored_plan()
        with locked_output(self.path, tell):
            yield

    def run(self, key: CellKey) -> RunFolder:
        """Return the run folder of a cell; it need not exist yet."""
        return RunFolder(self.path / "runs" / key.method / f"seed{key.seed}")

    def error_file(self, key: CellKey) -> Path:
        """Return where the traceback of a failed cell is written."""
        return self.path / "errors" / f"{key.method}_seed{key.seed}.txt"

    def begun(self) -> list[CellKey]:
        """List the cells that were begun, finished or not, by method and seed."""
        runs = [run for run in self.path.glob("runs/*/seed*") if RunFolder(run).begun]
        keys = [CellKey(run.parent.name, int(run.name[4:])) for run in runs if re.fullmatch(r"seed\d+", run.name)]
        return sorted(key for key in keys if key.method in METHODS)

    def finished(self) -> list[CellKey]:
        """List the cells that are finished, by method and seed."""
        return [key for key in self.begun() if self.run(key).finished]

    def failed(self) -> list[CellKey]:
        """List the cells that failed unexpectedly and have not been finished since, by method and seed."""
        names = [re.fullmatch(rf"({_METHOD})_seed(\d+)\.txt", path.name) for path in self.path.glob("errors/*")]
        return sorted(CellKey(name[1], int(name[2])) for name in names if name)

    def write_error(self, key: CellKey, traceback: str) -> Path:
        """Write the traceback of a failed cell, and return its file."""
        path = self.error_file(key)
        path.parent.mkdir(exist_ok=True)
        write_text(path, traceback)
        return path

    def remove_error(self, key: CellKey) -> None:
        """Remove the traceback of a cell, if there is one."""
        self.error_file(key).unlink(missing_ok=True)

    def stored_plan(self) -> StoredPlan | None:
        """Read the plan of an earlier command; None where the folder is missing or empty.

        Raises:
            RunError: the folder holds something else, or a damaged comparison.
        """
        if self.path.exists() and not self.path.is_dir():
            raise RunError(f"--output: {self.path} is a file; give a folder")
        stored = StoredPlan.from_dict(marker_fields(self.plan))
        if stored is not None:
            remove_leftovers(self.path)
            return stored
        check_no_others(self.path, PLAN, (LOCK,), "comparison")
        return None

    def write_plan(self, plan: StoredPlan) -> None:
        """Write the plan, which marks the folder as a comparison.

        Raises:
            RunError: the file cannot be written.
        """
        write_json(self.plan, {**marker(KIND), **plan.to_dict()})

    def why_kept(self, inputs: Inputs = no_inputs) -> str:
        """Say in a clause why LPT may not remove the comparison; empty if it may.

        Raises:
            RunError: the folder holds something that is no comparison.
        """
        if self.stored_plan() is None:
            return ""
        if not is_marked(self.plan, KIND):
            return f"its {PLAN} is not marked as that of a comparison of this version. Remove it yourself if it may go"
        inside = contents(self.path, NAMES)
        if inside.blocking:
            return f"{inside.blocking[0]} lies where a comparison would write and is nothing that one wrote"
        for run in _runs(inside):
            if not run.unused and (reason := run.why_kept()):
                return f"in {run.path}, {reason}"
        precious = first_inside(self.path, inputs())
        return f"{precious.what} lies in it ({precious.path})" if precious else ""

    def check_removable(self, inputs: Inputs = no_inputs) -> None:
        """Raise `RunError` if the folder holds anything but a comparison that may be removed."""
        if reason := self.why_kept(inputs):
            raise RunError(f"{self.path} is not overwritten: {reason}. Choose another folder with --output.")

    def clear(self) -> str:
        """Remove runs and results, all but the plan; return what to tell the user of things that stay.

        The marker of a run is removed last, and stays where something else lies in the run's folder.

        Raises:
            RunError: a file cannot be removed.
        """
        if not self.path.is_dir():
            return ""
        inside = contents(self.path, NAMES)
        return clear_runs(self.path, inside, _runs(inside), keep=[self.plan, self.path / LOCK])


def _runs(inside: Contents) -> Iterator[RunFolder]:
    """Yield the runs among the contents of a comparison."""
    for path in inside.folders:
        if path.parent.parent.name == "runs" and re.fullmatch(r"seed\d+", path.name):
            yield RunFolder(path)
