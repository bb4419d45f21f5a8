"""`lpt compare --dry-run`: check everything, try a few steps of each method, tell time, memory and disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.table import Table

from lpt.commands.compare.inference_cost import inference_seconds
from lpt.commands.compare.plan import CellKey
from lpt.commands.compare.runs import CellRuns
from lpt.commands.compare.store import ComparisonFolder
from lpt.commands.fit.disk import free_bytes
from lpt.commands.fit.estimate import Estimate, estimate_run
from lpt.config.recipes import METHODS
from lpt.system.hardware import host_memory_total
from lpt.system.text import duration, size_of


@dataclass(frozen=True)
class MethodEstimate:
    """What the runs of a method take that are not finished.

    Args:
        method: its name.
        runs: how many are not finished. One that was begun counts as a whole one.
        stepping: seconds of a run's training steps.
        fixed: seconds of the rest of a run.
        measuring: seconds to measure once what a prediction costs.
        memory: most bytes of a run; the card's, if one is used.
        disk: bytes of a run's folder.
    """

    method: str
    runs: int
    stepping: float
    fixed: float
    measuring: float
    memory: int
    disk: int

    @classmethod
    def of(cls, method: str, runs: int, estimate: Estimate, share: float = 1.0) -> MethodEstimate:
        """Return what is left of a method, with a share of the steps that the estimate is of."""
        stepping = sum(part.seconds for part in estimate.parts if part.name.startswith("phase"))
        measuring = inference_seconds(estimate.image_seconds)
        fixed = estimate.seconds - stepping
        return cls(method, runs, share * stepping, fixed, measuring, estimate.memory, estimate.disk.total)

    @property
    def run_seconds(self) -> float:
        """Seconds of a run."""
        return self.stepping + self.fixed

    @property
    def seconds(self) -> float:
        """Seconds of all that is left."""
        return self.runs * self.run_seconds + self.measuring * (self.runs > 0)


def try_methods(runs: CellRuns, console: Console) -> dict[str, Estimate]:
    """Time a few real steps of each method, with all steps of the preset."""
    first, estimates = runs.plan.seeds[0], {}
    for method in runs.plan.methods:
        with console.status(f"trying a few steps: {METHODS[method].title}"):
            estimates[method] = estimate_run(runs.prepare(CellKey(method, first)))
    return estimates


def print_estimate(
    estimates: Mapping[str, Estimate], share: float, runs: CellRuns, folder: ComparisonFolder, console: Console
) -> list[MethodEstimate]:
    """Print and return what the runs that are not finished take.

    Args:
        estimates: of a run of each method, with all steps of the preset.
        share: the part of these steps that is trained.
        runs: of the comparison; those that are kept and finished are not counted.
        folder: of the comparison.
        console: where to print.
    """
    finished = {key for key, run in runs.kept.items() if run.finished}
    left = Counter(key.method for key in runs.plan.cells if key not in finished)
    methods = [MethodEstimate.of(method, left[method], each, share) for method, each in estimates.items()]
    console.print()
    console.print(_table(methods))
    on_card = runs.reference.machine.device == "cuda"
    free = runs.reference.machine.memory_bytes if on_card else host_memory_total()
    console.print(
        f"Memory: {size_of(max(method.memory for method in methods))} at most in the tried steps, of {size_of(free)} "
        f"{'free on the card' if on_card else 'in the machine'}"
    )
    disk = sum(method.runs * method.disk for method in methods)
    console.print(
        f"Disk: {size_of(disk)} at most, of {size_of(free_bytes(folder.path))} free for {folder.path}", markup=False
    )
    console.print("Nothing was written. The times hold for a machine that is as busy as it was just now.")
    return methods


def _table(methods: list[MethodEstimate]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    for column in ("method", "runs left", "each", "all", "disk of each"):
        table.add_column(column, justify="left" if column == "method" else "right")
    for each in methods:
        table.add_row(
            METHODS[each.method].title,
            str(each.runs),
            duration(each.run_seconds),
            duration(each.seconds),
            size_of(each.disk),
        )
    runs, seconds = sum(each.runs for each in methods), sum(each.seconds for each in methods)
    table.add_row("all, one after another", str(runs), "", duration(seconds), "", style="bold")
    return table
