"""Ctrl-C, termination and a closed terminal: a request to finish the step, save, and say how to go on."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from lpt.errors import RunError

SIGNALS = (signal.SIGINT, signal.SIGTERM)
HANG_UP: signal.Signals | None = getattr(signal, "SIGHUP", None)
"""The terminal or the connection is closed; Windows has no such signal."""


END_SECONDS = 5.0
"""How long a program that was interrupted may take to end."""


class Interrupted(RunError):  # noqa: N818  (nothing went wrong)
    """The user stopped the run; its state is saved."""

    exit_code = 130


class StopRequest:
    """A flag that is set once the user has asked the run to stop."""

    def __init__(self) -> None:
        self.requested = False


def end_soon(code: int) -> None:
    """End this process in some seconds, whatever still hangs, such as a thread of a library that waits for the network.

    Args:
        code: its exit code, which it would have anyway.
    """
    timer = threading.Timer(END_SECONDS, os._exit, [code])
    timer.daemon = True
    timer.start()


@contextmanager
def stop_on_signal() -> Iterator[StopRequest]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a request.

    A second Ctrl-C or SIGTERM takes effect at once, as outside the block. SIGHUP never does: a terminal that is closed
    sends several. A signal that was ignored before (`nohup`) stays ignored.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = SIGNALS if HANG_UP is None else (*SIGNALS, HANG_UP)
    before = {number: signal.getsignal(number) for number in numbers}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        request.requested = True
        if number != HANG_UP:
            signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, ask)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
