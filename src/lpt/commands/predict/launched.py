"""The executor of this process, and of the processes that a launcher started."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from rich.console import Console

from lpt.commands.predict.jobs import Output, explain_stop, finish, open_job, predict_shards, tidy
from lpt.commands.predict.listing import Shard, count_images, read_shards
from lpt.commands.predict.outcome import Outcome
from lpt.commands.predict.shards import PartFolder, parts_folder
from lpt.commands.predict.table import Labeller
from lpt.commands.predict.worker import Worker
from lpt.errors import LptError
from lpt.report.bars import image_bar
from lpt.system.claims import Claims
from lpt.system.interrupt import Interrupted, StopRequest, stop_on_signal
from lpt.system.lock import LOCK, WATCH_SECONDS
from lpt.system.processes import Processes

_LOOK_SECONDS = 0.2
_JOIN = "join"


def predict_launched(
    output: Path,
    find: Callable[[], Iterable[Path]],
    prepare: Callable[[], tuple[Labeller, Output]],
    processes: Processes,
    shard_size: int,
    progress: Console,
) -> int:
    """Predict the shards that are not done by the processes of a launcher, or by this one; return the number of rows.

    Once all have started, none waits for another: one that dies stops nobody, and if it was the first, which joins
    the parts, the next one does that.

    Args:
        output: the file to write.
        find: lists the images; called by the first process.
        prepare: loads the pack; called by all.
        processes: the processes.
        shard_size: images of a shard.
        progress: where the bar and messages are shown.

    Raises:
        Interrupted: stop was requested, of any process.
        LptError: the first error of any process.
    """
    folder = parts_folder(output)
    with ExitStack() as stack:

        def open_here() -> None:
            stack.enter_context(open_job(output, find(), shard_size, progress))

        processes.on_main(open_here)
        labeller, values = processes.on_all(prepare)
        shards, parts = read_shards(folder), PartFolder(output, values.job)
        message = processes.on_main(lambda: parts.sort_out(shards, accept_bad=values.skip_bad))
        if message and processes.is_main:
            progress.print(message, markup=False)
        stop = stack.enter_context(stop_on_signal())
        claims = processes.on_all(lambda: stack.enter_context(Claims(folder, _name(processes.rank))))
        with image_bar(progress, "predicting", count_images(shards)) as show:
            process = _Process(processes, shards, parts, claims, values, stop)
            return process.run(partial(predict_shards, labeller), show, progress)


class _Process:
    """A process of the job, after all have started: it exchanges nothing but files."""

    def __init__(
        self,
        processes: Processes,
        shards: list[Shard],
        parts: PartFolder,
        claims: Claims,
        output: Output,
        stop: StopRequest,
    ) -> None:
        self._processes, self._shards, self._parts, self._claims = processes, shards, parts, claims
        self._output, self._stop, self._outcome = output, stop, Outcome(parts.folder)

    def run(self, predict: Callable[..., object], show: Callable[[int], None], progress: Console) -> int:
        """Work, join the parts or wait until another has, and return the number of rows."""
        worker = Worker(self._shards, self._parts, self._claims, self._outcome, self._stop, show)
        try:
            worker.work(predict)  # type: ignore[arg-type]
            if not self._joins():
                return self._outcome.check() or 0
            rows = finish(self._shards, self._parts, self._output, progress)
        except LptError as error:
            self._outcome.fail(error)
            if not self._processes.is_main:
                error.alone = not isinstance(error, Interrupted) and not self._main_lives()
                raise
            self._wait_for_others()
            raise explain_stop(error, self._shards, self._parts, progress) from None
        self._outcome.finish(rows)
        self._wait_for_others()
        self._parts.remove()
        if not self._processes.is_main:
            tidy(self._parts.folder)
            (self._parts.folder / LOCK).unlink(missing_ok=True)  # of the first process, which is gone
            self._parts.tidy()
        return rows

    def _joins(self) -> bool:
        """Return whether this process joins the parts: the first one does, or if it died, who claims it."""
        while not self._processes.is_main:
            if self._outcome.check() is not None or not self._parts.folder.exists():
                return False
            if not self._main_lives() and self._claims.take(_JOIN):
                return self._outcome.check() is None and self._parts.folder.exists()
            if self._stop.requested:
                raise Interrupted
            time.sleep(_LOOK_SECONDS)
        return True

    def _main_lives(self) -> bool:
        return self._processes.is_main or self._claims.lives(_name(0))

    def _wait_for_others(self) -> None:
        """Wait until the others have seen the outcome; one that does not look is not waited for long."""
        end = time.monotonic() + WATCH_SECONDS
        while self._claims.others() and time.monotonic() < end:
            time.sleep(_LOOK_SECONDS / 4)


def _name(rank: int) -> str:
    return f"process-{rank}"
