"""Share memory between threads by bytes, first come, first served."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

DECODING_BYTES = 2**30
"""Most bytes of pictures that are being decoded in a process together; a larger picture is decoded alone."""


class Turn:
    """The place of a picture in the queue of a budget; as a context it ends with it."""

    def __init__(self, budget: ByteBudget, number: int) -> None:
        self._budget, self.number, self.size = budget, number, 0
        self.passed = self.ended = False

    def take(self, size: int) -> None:
        """Wait until all turns before have taken their bytes and there is room for these; or nothing else is held."""
        self._budget.take(self, size)

    def step_aside(self) -> None:
        """Let the next turn go on, if this one took nothing."""
        self._budget.step_aside(self)

    def end(self) -> None:
        """Give the bytes back."""
        self._budget.end(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()


class ByteBudget:
    """Bytes that threads hold together: at most `limit`, or those of a single turn that alone takes more.

    Turns are served in the order in which they were queued.
    """

    def __init__(self, limit: int = DECODING_BYTES) -> None:
        self.limit = limit
        self._start_anew()

    def _start_anew(self) -> None:
        self._changed = threading.Condition()
        self._queued = self._served = self.held = 0
        self._aside: set[int] = set()
        self._closed = False

    @classmethod
    def for_process(cls, limit: int = DECODING_BYTES) -> ByteBudget:
        """Return a budget that a forked process starts anew, where no thread of its parent goes on."""
        budget = cls(limit)
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=budget._start_anew)
        return budget

    def queue(self) -> Turn:
        """Return the next turn."""
        with self._changed:
            self._queued += 1
            return Turn(self, self._queued - 1)

    def close(self) -> None:
        """Let everybody go on who waits, when nobody is served any more."""
        self._change(lambda: setattr(self, "_closed", True))

    def take(self, turn: Turn, size: int) -> None:
        """Serve a turn; see `Turn.take`."""

        def is_next() -> bool:
            room = not self.held or self.held + size <= self.limit
            return self._closed or (self._served == turn.number and room)

        with self._changed:
            if turn.passed:  # a second attempt at the same picture
                return
            self._changed.wait_for(is_next)
            self.held += size
            turn.size = size
            self._pass_by(turn)

    def step_aside(self, turn: Turn) -> None:
        """Serve a turn that takes nothing; see `Turn.step_aside`."""
        self._change(lambda: self._pass_by(turn))

    def end(self, turn: Turn) -> None:
        """Take back the bytes of a turn; see `Turn.end`."""

        def end() -> None:
            self._pass_by(turn)
            if not turn.ended:
                self.held -= turn.size
                turn.ended = True

        self._change(end)

    def _change(self, change: Callable[[], None]) -> None:
        with self._changed:
            change()
            self._changed.notify_all()

    def _pass_by(self, turn: Turn) -> None:
        """Go on to the first turn that has not been served."""
        if not turn.passed:
            turn.passed = True
            self._aside.add(turn.number)
        while self._served in self._aside:
            self._aside.remove(self._served)
            self._served += 1
        self._changed.notify_all()
