"""Show where runs are trained and how far they are, by what stands in their run folders."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from rich.console import Console
from rich.markup import escape

from lpt.commands.jobs.executors import Job
from lpt.system.lock import LOCK, Holder
from lpt.training.folder import RunFolder

_TAIL_BYTES = 4096
"""More than a line of a log has."""


class Whereabouts:
    """Prints a line for each run that begins somewhere; on a terminal, also a line of all that goes on.

    Args:
        console: where to show it.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status = console.status("starting the runs; the first takes some seconds longer")
        self._places: dict[Path, Holder] = {}

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._status.stop()

    def show(self, jobs: Sequence[Job]) -> None:
        """Look where jobs are now, and show it."""
        parts = []
        for job in jobs:
            holder = Holder.of(job.folder / LOCK)
            if holder is not None and holder != self._places.get(job.folder):
                self._places[job.folder] = holder
                self._console.print(f"{job.title}: {holder}", style="dim", markup=False)
            parts.append(f"{job.title}: {'opening its images' if holder is None else _progress(job, holder)}")
        if parts and self._console.is_terminal:
            self._status.update(escape("; ".join(parts)))

    def forget(self, job: Job) -> None:
        """Forget a job that has ended."""
        self._places.pop(job.folder, None)


def _progress(job: Job, holder: Holder) -> str:
    """Return a clause on how far a job is, and where."""
    for number, run in enumerate(job.runs, start=1):
        part = f"run {number} of {len(job.runs)}, " if len(job.runs) > 1 else ""
        try:
            with RunFolder(run).log.open("rb") as log:
                log.seek(0, os.SEEK_END)
                log.seek(max(log.tell() - _TAIL_BYTES, 0))
                lines = log.read().splitlines(keepends=True)
            record = json.loads(next(line for line in reversed(lines) if line.endswith(b"\n")))
            return f"{part}phase {record['phase']}, step {record['step'] + 1}, on {holder.host}"
        except (OSError, ValueError, KeyError, TypeError, StopIteration):  # none yet, or half a line
            continue
    return f"on {holder.host}"
