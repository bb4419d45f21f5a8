"""A worker of a long prediction: claim a shard, predict it, write its part, until all parts are there.

It knows no engine. One process, those of a launcher and the tasks of a cluster all run this loop. No worker waits for
another but at the end, when all shards are claimed: if an owner dies then, its shard is taken over.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from lpt.commands.predict.listing import Shard, count_images
from lpt.commands.predict.outcome import Outcome
from lpt.commands.predict.shards import PartFolder, ShardRows, piece_of
from lpt.system.claims import Claims
from lpt.system.interrupt import Interrupted, StopRequest

PredictShards = Callable[[Iterator[Shard], Callable[[int], None]], Iterator[tuple[Shard, ShardRows]]]
"""(shards, show_done) -> each shard with its rows. A shard is claimed when it is taken from the iterator, so as late as
reading ahead allows. `show_done` is called with the number of images done of the shard at hand."""

_LOOK_SECONDS = 0.2
"""How often a worker looks whether another has stopped the job."""
_COUNT_SECONDS = 2.0
"""How often it counts the parts of all workers, to show how far the job is."""


class Worker:
    """A worker among those that share a job.

    Args:
        shards: all shards of the job.
        parts: where the parts go.
        claims: the claims of this worker.
        outcome: how the job ended, if another worker ended it.
        stop: the request to stop; shards in progress are then lost.
        show_done: called with the number of images that all workers have done.
    """

    def __init__(
        self,
        shards: Sequence[Shard],
        parts: PartFolder,
        claims: Claims,
        outcome: Outcome,
        stop: StopRequest,
        show_done: Callable[[int], None] = lambda images: None,
    ) -> None:
        self._shards, self._parts, self._claims, self._outcome = shards, parts, claims, outcome
        self._stop, self._show = stop, show_done
        self._done, self._looked, self._counted = 0, time.monotonic(), time.monotonic()
        self._over = False

    def work(self, predict_shards: PredictShards) -> None:
        """Predict shards until all of the job are done, by whichever worker.

        Raises:
            Interrupted: stop was requested, of any worker.
            LptError: the error of any worker.
        """
        while not self._over and (waiting := self._parts.missing(self._shards)):
            self._done, idle = count_images(self._shards) - count_images(waiting), True
            for shard, rows in predict_shards(self._claimed(waiting), self._tick):
                self._parts.write(shard, rows)
                self._claims.release(piece_of(shard))
                self._done, idle = self._done + shard.count, False
                self._tick(0)
            if idle:
                time.sleep(_LOOK_SECONDS / 2)
                self._tick(0)
        self._show(count_images(self._shards))

    def _claimed(self, waiting: Sequence[Shard]) -> Iterator[Shard]:
        """Yield the shards that this worker gets, each as soon as it is claimed."""
        self._tick(0)
        for shard in waiting:
            part, piece = self._parts.path(shard), piece_of(shard)
            if self._over:
                return
            if part.is_file() or not self._claims.take(piece):
                continue
            if part.is_file():  # its owner finished between the two
                self._claims.release(piece)
            else:
                yield shard

    def _tick(self, images: int) -> None:
        """Show the progress, `images` into the shard at hand; stop if the user or another worker wants it."""
        if self._stop.requested:
            raise Interrupted
        now = time.monotonic()
        if now - self._looked > _LOOK_SECONDS:
            self._looked = now
            self._over = self._outcome.check() is not None
            self._claims.touch()
        if now - self._counted > _COUNT_SECONDS:
            self._counted = now
            self._done = max(self._done, self._parts.count(self._shards))
        self._show(self._done + images)
