"""How a job ended that several workers share: a file that all of them look at."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

from lpt.errors import ConfigError, DataError, LptError, PackError, RunError
from lpt.system.interrupt import Interrupted

OUTCOME = "outcome.json"
_KINDS: dict[str, type[LptError]] = {
    kind.__name__: kind for kind in (Interrupted, ConfigError, DataError, PackError, RunError)
}
"""Kinds of errors by name, the narrow ones first."""


class Outcome:
    """The outcome of a job; what the first worker writes stays.

    Args:
        folder: the folder that all workers share.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / OUTCOME

    def fail(self, error: LptError) -> None:
        """Stop all workers with this error."""
        kind = next((name for name, kind in _KINDS.items() if isinstance(error, kind)), RunError.__name__)
        self._write({"error": kind, "message": error.message})

    def finish(self, rows: int) -> None:
        """Say that the output is written, with so many rows."""
        self._write({"rows": rows})

    def check(self) -> int | None:
        """Return the number of rows once the output is written; None while the job goes on.

        Raises:
            LptError: the error of the worker that stopped the job.
        """
        try:
            fields = json.loads(self._file.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # there is none, or it is being written
            return None
        if "error" in fields:
            raise _KINDS[fields["error"]](fields["message"])
        return int(fields["rows"])

    def _write(self, fields: dict[str, object]) -> None:
        with contextlib.suppress(OSError), self._file.open("x", encoding="utf-8") as file:
            file.write(json.dumps(fields))
