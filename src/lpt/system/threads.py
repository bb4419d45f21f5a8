"""Run work in a thread of its own, so that no helper threads of it stay."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")


def in_passing_thread(work: Callable[[], Result], *, seconds: float | None = None) -> Result:
    """Run work in a thread that ends with it, and return its result; errors are raised here.

    OpenMP keeps helper threads for every thread that ever computed in parallel. Where all together are more than there
    are cores, GNU's OpenMP lets them sleep at each barrier instead of spinning. Then PyTorch takes half as long again
    for every image (measured: 41 to 63 ms on two cores). So in a server only the thread of the network may keep some.

    Ctrl-C ends the wait at once, even if the work hangs in a library that does not look for it; then the thread goes on
    alone, and does not keep the process alive.

    Args:
        work: the work; it sees the context variables of the caller.
        seconds: longest wait for it; None: as long as it takes.

    Raises:
        TimeoutError: it took longer; it goes on alone.
    """
    outcome: Future[Result] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(work))
        except BaseException as error:
            outcome.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return outcome.result(seconds)
    finally:
        if outcome.done():
            thread.join()
