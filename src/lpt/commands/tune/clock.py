"""The time that a search has used, over all commands that went on with it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lpt.errors import RunError
from lpt.system.files import write_json

KEEP_SECONDS = 5.0
"""How often the time is written. A kill loses no more than this."""


class Clock:
    """A clock that goes on where an earlier command left it.

    Args:
        file: where the time is kept.
        goes_on: whether the time in the file counts.
    """

    def __init__(self, file: Path, *, goes_on: bool) -> None:
        self._file = file
        self._before = _read(file) if goes_on else 0.0
        self._started = time.monotonic()
        self._lock = threading.Lock()  # of the file: a thread writes it too

    @property
    def seconds(self) -> float:
        """Seconds used so far."""
        return self._before + time.monotonic() - self._started

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write the time again and again while the block runs, and at its end; a kill then loses little.

        Raises:
            RunError: it cannot be written at the end.
        """
        done = threading.Event()

        def keep() -> None:
            while not done.wait(KEEP_SECONDS):
                with suppress(RunError):  # the block needs the disk too, and says what is wrong
                    self.keep()

        thread = threading.Thread(target=keep, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.keep()

    def keep(self) -> None:
        """Write the time.

        Raises:
            RunError: it cannot be written.
        """
        with self._lock:
            write_json(self._file, {"seconds": round(self.seconds, 1)})


def _read(file: Path) -> float:
    """Return the seconds in a file; 0 where there is none, or a damaged one."""
    try:
        seconds = json.loads(file.read_text(encoding="utf-8"))["seconds"]
        return float(seconds) if seconds >= 0 else 0.0
    except (OSError, ValueError, KeyError, TypeError):
        return 0.0
