"""Batches of images for the network, made of what waits, of all requests and all packs.

One thread runs the network. It never waits for more images: it takes those that are there, at most so many as a batch
may hold. Images are counted one by one, whichever request they came with.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from lpt.packs.engine import Output
from lpt.packs.prediction import Prepared

LONGEST_RETRY = 60
_SMOOTHING = 0.2
Classified = tuple[Prepared, Output]


class Runner(Protocol):
    """What runs a batch: a predictor."""

    def run(self, batch: Sequence[Prepared], *, attention: bool = False) -> list[Output]:
        """Run the network once on prepared images; in their order."""


class QueueFullError(Exception):
    """There is no room for the images of a request.

    Args:
        waiting: images that wait.
        seconds: after which to try again.
    """

    def __init__(self, waiting: int, seconds: int) -> None:
        super().__init__(f"{waiting} images wait")
        self.waiting, self.seconds = waiting, seconds


class ClosedError(Exception):
    """The batcher has ended: it takes no more images."""


@dataclass(eq=False)
class _Waiting:
    job: Job
    place: int
    runner: Runner
    item: Prepared
    attention: bool


class Job:
    """The images of a request. They count in the queue from here until the network takes them, or nobody wants them.

    Args:
        batcher: that accepted it.
        count: number of images.
    """

    def __init__(self, batcher: MicroBatcher, count: int) -> None:
        self.future: Future[list[Classified]] = Future()
        self.ended = False
        self.untaken = count
        self._batcher = batcher
        self._results: list[Classified | None] = [None] * count
        self._left = count

    def put(self, place: int, runner: Runner, item: Prepared, *, attention: bool = False) -> None:
        """Let a decoded image wait for the network.

        Args:
            place: its number in the job.
            runner: the predictor of its pack.
            item: the image.
            attention: give the attention of the class token too.
        """
        self._batcher.put(_Waiting(self, place, runner, item, attention))

    def fail(self, error: BaseException) -> None:
        """End the job with an error; its images leave the queue."""
        if self._batcher.end(self):
            self.future.set_exception(error)

    def cancel(self) -> None:
        """End the job without an answer, unless it has one; its images leave the queue."""
        if self._batcher.end(self):
            self.future.cancel()

    def give(self, place: int, item: Prepared, output: Output) -> None:
        """Take the output of an image, in the thread of the network; the last one ends the job."""
        self._results[place] = (item, output)
        self._left -= 1
        if not self._left and self._batcher.end(self):
            self.future.set_result([result for result in self._results if result is not None])


class MicroBatcher:
    """A queue of images, and the thread that classifies them.

    Args:
        queue: most images that wait, those that are still being decoded included.
        most: most images of a batch, by their predictor.
        on_batch: called after each batch with its number of images and its seconds.
    """

    def __init__(
        self,
        queue: int,
        most: Callable[[Runner], int],
        on_batch: Callable[[int, float], None] = lambda images, seconds: None,
    ) -> None:
        self.queue = queue
        self._most, self._on_batch = most, on_batch
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._queued = 0
        self._image_seconds = 0.0
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="lpt-network", daemon=True)

    @property
    def queued(self) -> int:
        """Images that wait, those that are still being decoded included."""
        return self._queued

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Classify what waits, then end the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread.is_alive():
            self._thread.join()

    def accept(self, count: int) -> Job:
        """Make room for the images of a request.

        Raises:
            QueueFullError: there is none.
            ClosedError: the batcher has ended.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            if self._queued + count > self.queue:
                raise QueueFullError(self._queued, self._retry_after())
            self._queued += count
        return Job(self, count)

    def put(self, waiting: _Waiting) -> None:
        """Let an image of a job wait; see `Job.put`."""
        with self._changed:
            if not waiting.job.ended:
                self._waiting.append(waiting)
                self._changed.notify_all()

    def end(self, job: Job) -> bool:
        """End a job and return whether it had not ended before; its images leave the queue."""
        with self._changed:
            if job.ended:
                return False
            job.ended = True
            self._queued -= job.untaken
            job.untaken = 0
            if any(waiting.job is job for waiting in self._waiting):
                self._waiting = deque(waiting for waiting in self._waiting if waiting.job is not job)
            return True

    def _retry_after(self) -> int:
        return min(max(math.ceil(self._queued * self._image_seconds), 1), LONGEST_RETRY)

    def _work(self) -> None:
        while batch := self._take():
            self._run(batch)
            del batch  # nothing is held while the thread waits

    def _take(self) -> list[_Waiting]:
        """Wait for an image and take it with all that can go with it; nothing once the batcher is closed and empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            if not self._waiting:
                return []
            first = self._waiting[0]
            most = max(self._most(first.runner), 1)
            batch: list[_Waiting] = []
            rest: deque[_Waiting] = deque()
            for waiting in self._waiting:
                fits = waiting.runner is first.runner and waiting.attention == first.attention
                (batch if fits and len(batch) < most else rest).append(waiting)
            self._waiting = rest
            self._queued -= len(batch)
            for waiting in batch:
                waiting.job.untaken -= 1
            return batch

    def _run(self, batch: list[_Waiting]) -> None:
        """Classify a batch. If it fails, each image is tried alone, so that only the culprit's request fails."""
        first, start = batch[0], time.perf_counter()
        try:
            outputs = first.runner.run([waiting.item for waiting in batch], attention=first.attention)
            given = list(zip(batch, outputs, strict=True))
        except Exception as error:
            if len(batch) == 1:
                first.job.fail(error)
                return
            for waiting in batch:
                self._run([waiting])
            return
        seconds = time.perf_counter() - start
        self._image_seconds += _SMOOTHING * (seconds / len(batch) - self._image_seconds)
        self._on_batch(len(batch), seconds)
        for waiting, output in given:
            waiting.job.give(waiting.place, waiting.item, output)
