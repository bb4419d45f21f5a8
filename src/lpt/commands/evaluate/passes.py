"""The passes over images that a measurement under domain shift makes, each made once and then kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.markup import escape
from rich.progress import Progress, TaskID

from lpt.commands.evaluate.kept import digest, write_cells
from lpt.commands.evaluate.request import Subject, loading_workers
from lpt.data.cache import fill_cache
from lpt.data.manifest import LabelledImages
from lpt.evaluation.corruptions import CorruptedImages
from lpt.evaluation.metrics import Metrics
from lpt.evaluation.shift import Measure
from lpt.system.processes import Processes

_LONGEST_NAME = 40


class Passes:
    """Passes over images by name: what was measured before is not measured again.

    Args:
        subject: the pack and its images.
        processes: the processes that share the images.
        bar: shows the progress.
        output: folder where each result is kept as soon as it is known; None: keep nothing.
        settings: what all results depend on.
        cells: results of earlier commands, by name and images.
    """

    def __init__(
        self,
        subject: Subject,
        processes: Processes,
        bar: Progress,
        output: Path | None,
        settings: dict[str, Any],
        cells: dict[str, Any],
    ) -> None:
        self._subject, self._processes, self._bar = subject, processes, bar
        self._output, self._settings, self._cells = output, settings, cells
        self._task: TaskID | None = None
        self._done = 0
        self.count = self.kept = 0

    def measure(self, known_as: str | None = None, total: int | None = None) -> Measure:
        """Return a function that measures images by name.

        Args:
            known_as: tells these images, and the seed of what is done to them, from others of the same name. It is for
                calls that are all with views of the same images. None: take the digest of the images, in each call.
            total: how often the function will be called, for the bar.
        """

        def measure(name: str, images: LabelledImages) -> Metrics:
            key = f"{name} {known_as or self._processes.on_all(lambda: digest(images))}"
            local = images.subset(np.array(self._processes.share(len(images)), dtype=np.int64))
            self.count += 1
            self._begin(name, len(local), total or 1)
            if key in self._cells:
                self.kept += 1
                self._end(len(local))
                return Metrics.from_dict(self._cells[key])
            metrics = self.measure_images(images, local)
            self._end(len(local))
            self._cells[key] = metrics.to_dict()
            self._processes.on_main(self._keep)
            return metrics

        return measure

    def measure_images(self, images: LabelledImages, local: LabelledImages) -> Metrics:
        """Measure images, of which this process predicts those in `local`."""
        if loading_workers(len(local)) and isinstance(local.source, CorruptedImages):
            fill_cache(replace(local, source=local.source.source))  # workers keep no decoded images themselves
        return self._subject.measure(images, self._processes, self._show_from(self._done)).metrics

    def _keep(self) -> None:
        if self._output is not None:
            write_cells(self._output, self._settings, self._cells)

    def _begin(self, name: str, images: int, total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task("", total=total * images, info="images")
        self._bar.update(self._task, description=_describe(name))
        if self._done + images > (self._bar.tasks[0].total or 0):  # other sets come on top
            self._bar.update(self._task, total=self._done + images)

    def _show_from(self, start: int) -> Callable[[int], None]:
        return lambda done: self._show(start + done)

    def _show(self, done: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done)

    def _end(self, images: int) -> None:
        self._done += images
        self._show(self._done)


def _describe(name: str) -> str:
    """Return the name of a pass for the bar."""
    if name.startswith("corrupted/"):
        _, kind, severity = name.split("/")
        return f"{kind.replace('_', ' ')}, severity {severity}"
    return escape(name if len(name) < _LONGEST_NAME else f"…{name[2 - _LONGEST_NAME :]}")
