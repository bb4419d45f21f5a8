"""Logs as lines of JSON. They hold no picture, no name of a file and no token."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any, TextIO

from lpt.config.bounds import one_line

LOGGERS = ("lpt.serving", "uvicorn.error", "asyncio")
_LONGEST_TEXT = 2000


class JsonLines(logging.Formatter):
    """Formats a record as a line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": one_line(record.getMessage())[:_LONGEST_TEXT],
        }
        line |= getattr(record, "fields", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def log_to(stream: TextIO) -> None:
    """Write the logs of the server to a stream; for the program, not for an app in somebody else's."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "lpt.serving" else logging.WARNING)
