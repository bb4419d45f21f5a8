"""The executor of a Ray cluster: a worker for each node, or for each card of a node, loads the pack once.

Ray only starts the workers and says which have died. The shards, the claims on them and how the job ended are files in
the folder of the parts, as for the processes of a launcher. So the disk must be one that all nodes share.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.predict.jobs import Output, explain_stop, finish, open_job, predict_shards
from lpt.commands.predict.listing import Shard, count_images, read_shards
from lpt.commands.predict.outcome import Outcome
from lpt.commands.predict.request import PredictRequest
from lpt.commands.predict.shards import PartFolder
from lpt.commands.predict.table import Labeller
from lpt.commands.predict.worker import Worker
from lpt.commands.prior import is_named
from lpt.errors import ConfigError, LptError, RunError
from lpt.packs.hub import is_address, pinned
from lpt.report.bars import image_bar
from lpt.system.claims import Claims
from lpt.system.cluster import connected, ray
from lpt.system.interrupt import Interrupted, StopRequest, stop_on_signal
from lpt.system.processes import several_started
from lpt.system.text import shorten

Prepare = Callable[[PredictRequest], tuple[Labeller, Output]]

_LOOK_SECONDS = 0.5
_END_SECONDS = 15.0
_SILENT_SECONDS = 60.0
"""How long no worker may have begun until the user is told what it may wait for."""
_MOST_DEATHS = 3
"""How often the worker of a node may die while the node lives; then the node is left alone."""


class _Remote:
    """A worker in a process of its own on a node. Its methods return an `LptError` in place of raising it."""

    def __init__(self, request: PredictRequest, prepare: Prepare, folder: Path) -> None:
        self._request, self._prepare, self._folder = request, prepare, folder
        self._labeller: Labeller | None = None

    def prepare(self) -> Output | LptError:
        """Load the pack, and return what this worker would write."""
        try:
            os.chdir(self._folder)
            self._labeller, output = self._prepare(self._request)
        except LptError as error:
            return error
        except OSError as error:
            return RunError(
                f"a node of the cluster cannot enter {self._folder}: {error.strerror}. Start lpt in a folder on a "
                "disk that all nodes share."
            )
        return output

    def work(self, job: Output) -> LptError | None:
        """Predict shards until all are done."""
        assert self._labeller is not None
        assert self._request.output is not None
        parts = PartFolder(self._request.output, job.job)
        outcome = Outcome(parts.folder)
        try:
            with Claims(parts.folder, f"ray-{uuid.uuid4().hex}") as claims:
                worker = Worker(read_shards(parts.folder), parts, claims, outcome, StopRequest())
                worker.work(partial(predict_shards, self._labeller))
        except LptError as error:
            outcome.fail(error)
            return error
        return None


@dataclass
class _Place:
    """A node, or a card of one, that can have a worker.

    Args:
        node: Ray's name of the node.
        host: its address, for messages.
        resources: what its worker takes of it.
        worker: the worker; None: it has none now.
        deaths: how often its worker died.
    """

    node: str
    host: str
    resources: dict[str, float]
    worker: Any = None
    deaths: int = 0


class _Crew:
    """The workers of a job, on all nodes that the cluster has, also those that come later."""

    def __init__(self, request: PredictRequest, prepare: Prepare, progress: Console) -> None:
        self._new = partial(ray.remote(_Remote).options, max_restarts=0)
        self._arguments = (request, prepare, Path.cwd())
        self._progress = progress
        self._places: dict[tuple[str, int], _Place] = {}
        self._calls: dict[Any, tuple[_Place, str]] = {}
        self._hint_at: float | None = time.monotonic() + _SILENT_SECONDS
        self.output: Output | None = None
        self.last_loss = ""

    def grow(self) -> None:
        """Start a worker in each place that has none."""
        self._places = dict(_places()) | self._places
        alive = {node["NodeID"] for node in ray.nodes() if node["Alive"]}  # type: ignore[no-untyped-call]
        for place in self._places.values():
            if place.worker is None and place.node in alive and place.deaths < _MOST_DEATHS:
                strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(place.node, soft=False)
                place.worker = self._new(scheduling_strategy=strategy, **place.resources).remote(*self._arguments)
                self._calls[place.worker.prepare.remote()] = (place, "prepare")

    @property
    def is_lost(self) -> bool:
        """Whether no worker is left, and none can be started."""
        return all(place.worker is None for place in self._places.values())

    def look(self) -> Iterator[Output | LptError | None]:
        """Wait a moment, and yield what workers returned: what they would write, an error, or None at the end.

        A worker that died is left out.
        """
        if not self._calls:  # all have ended, and a network disk does not show the last part yet
            time.sleep(_LOOK_SECONDS)
            return
        ready, _ = ray.wait(list(self._calls), timeout=_LOOK_SECONDS)
        self._hint()
        for call in ready:
            place, step = self._calls.pop(call)
            try:
                answer = ray.get(call)
            except ray.exceptions.RayTaskError as error:  # a fault of LPT, or a package that the node lacks
                raise RunError(
                    f"a worker on {place.host} failed: {_last_line(error)}. Does the node have the same lpt and its "
                    "packages?"
                ) from error
            except ray.exceptions.RayError as error:
                self._bury(place, _last_line(error))
                continue
            yield answer
            if step == "prepare" and self._fits(answer, place):
                self._calls[place.worker.work.remote(self.output)] = (place, "work")

    def end(self) -> None:
        """Give the workers a moment to end, then end them."""
        with contextlib.suppress(ray.exceptions.RayError):
            working = [call for call, (_, step) in self._calls.items() if step == "work"]
            if working:
                ray.wait(working, num_returns=len(working), timeout=_END_SECONDS)
            for place in self._places.values():
                if place.worker is not None:
                    ray.kill(place.worker)

    def _hint(self) -> None:
        """Say once what the workers may wait for, if none has begun for long: Ray itself says nothing."""
        if self.output is None and self._hint_at is not None and time.monotonic() > self._hint_at:
            self._hint_at = None
            self._progress.print(
                "No worker has begun yet: the nodes still load the pack, or other work has their CPUs or cards (see "
                "`ray status`).",
                style="yellow",
                markup=False,
            )

    def _fits(self, output: Output, place: _Place) -> bool:
        """Check that the rows of a worker are those of the others; the first one decides.

        Raises:
            RunError: they are not.
        """
        self.output = self.output or output
        differing = sorted(name for name in output.job if output.job[name] != self.output.job.get(name))
        if differing:
            raise RunError(
                f"the nodes would not write the same rows: {place.host} differs from the first in "
                f"{shorten(differing)}. Give --precision float32, and the same lpt on all nodes."
            )
        return True

    def _bury(self, place: _Place, reason: str) -> None:
        place.worker, place.deaths = None, place.deaths + 1
        self.last_loss = f"the worker on {place.host} was lost ({reason})"
        self._progress.print(f"{self.last_loss}; its shard is done by another.", style="yellow", markup=False)


def predict_on_ray(
    request: PredictRequest, find: Callable[[], Iterable[Path]], prepare: Prepare, progress: Console
) -> int:
    """Predict the shards that are not done on the nodes of a Ray cluster, join them here and return the number of rows.

    Args:
        request: the pack, the images and where the rows go.
        find: lists the images.
        prepare: loads the pack on a node.
        progress: where the bar and messages are shown.

    Raises:
        ConfigError: there is no output file, or a launcher started several processes.
        Interrupted: stop was requested.
        LptError: the first error of any worker.
    """
    if request.output is None:
        raise ConfigError("--ray needs a file that all nodes can write parts beside: give --output FILE.csv")
    if several_started():
        raise ConfigError("--ray starts its own workers: start lpt once, without torchrun")
    request = replace(_absolute(request), ray=False)
    output = request.output
    assert output is not None
    with open_job(output, find(), request.shard_size, progress) as shards, connected():
        crew = _Crew(request, prepare, progress)
        with stop_on_signal() as stop, image_bar(progress, "predicting", count_images(shards)) as show:
            driver = _Driver(crew, shards, output, stop, show, progress)
            try:
                return driver.run()
            finally:
                crew.end()


class _Driver:
    """The process that follows the workers, and joins the parts."""

    def __init__(
        self,
        crew: _Crew,
        shards: Sequence[Shard],
        output: Path,
        stop: StopRequest,
        show: Callable[[int], None],
        progress: Console,
    ) -> None:
        self._crew, self._shards, self._stop, self._show, self._progress = crew, shards, stop, show, progress
        self._parts = PartFolder(output, {})
        self._outcome = Outcome(self._parts.folder)
        self._output: Output | None = None

    def run(self) -> int:
        """Follow the workers until all parts are there, join them and return the number of rows."""
        try:
            while self._output is None or self._parts.missing(self._shards):
                self._follow()
            rows = finish(self._shards, self._parts, self._output, self._progress)
        except LptError as error:
            self._outcome.fail(error)
            self._crew.end()
            raise explain_stop(error, self._shards, self._parts, self._progress) from None
        self._outcome.finish(rows)
        self._crew.end()
        self._parts.remove()
        return rows

    def _follow(self) -> None:
        if self._stop.requested:
            raise Interrupted
        self._crew.grow()
        if self._crew.is_lost:
            raise RunError(
                f"no node of the cluster can work: {self._crew.last_loss or 'none has a CPU or a card for Ray'}. Look "
                "at the memory of the nodes, and at their logs in the temporary folder of Ray."
            )
        for answer in self._crew.look():
            if isinstance(answer, LptError):
                raise answer
            if isinstance(answer, Output) and self._output is None:
                self._begin(answer)  # before the worker does
        if self._output is not None:
            self._show(self._parts.count(self._shards))

    def _begin(self, output: Output) -> None:
        """Look which parts of an earlier call are of this job, now that the first worker has said what it is."""
        self._output, self._parts = output, PartFolder(self._parts.output, output.job)
        message = self._parts.sort_out(self._shards, accept_bad=output.skip_bad)
        if message:
            self._progress.print(message, markup=False)


def _places() -> list[tuple[tuple[str, int], _Place]]:
    """Return the places of all living nodes: one for each card, or one that takes all cores of a node without."""
    places = []
    for node in ray.nodes():  # type: ignore[no-untyped-call]
        cores, cards = (int(node["Resources"].get(name, 0)) for name in ("CPU", "GPU"))
        if not node["Alive"]:
            continue
        resources: list[dict[str, float]] = [{"num_cpus": cores}] if cores else []
        if cards:
            resources = [{"num_cpus": min(cores // cards, 1), "num_gpus": 1}] * cards
        for number, needs in enumerate(resources):
            places.append(((node["NodeID"], number), _Place(node["NodeID"], node["NodeManagerAddress"], needs)))
    return places


def _absolute(request: PredictRequest) -> PredictRequest:
    """Return a request whose paths mean the same on other nodes."""
    pack, prior = pinned(request.pack), request.prior
    return replace(
        request,
        pack=pack if isinstance(pack, str) and is_address(pack) else Path(pack).absolute(),
        output=None if request.output is None else request.output.absolute(),
        prior=prior if prior is None or is_named(prior) else Path(prior).absolute(),
        checkpoint=None if request.checkpoint is None else Path(request.checkpoint).absolute(),
    )


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
