"""What a person sees: consoles and error messages; other libraries are kept quiet."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from lpt.system.drawing import AGG, BACKEND

_QUIET_ENVIRONMENT = {
    "DATASETS_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "PYTHONWARNINGS": "ignore",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
FILE_WIDTH = 110
_WIDE, _NARROWEST = 1000, 8
"""Width to measure tables in, and the width that a column of text can be folded to."""
_CHATTY = ("accelerate", "datasets", "huggingface_hub", "matplotlib", "PIL", "timm", "torch", "torchvision")


def hush() -> None:
    """Keep warnings, logs and progress bars of libraries off the screen; LPT itself says what a person should know."""
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ[BACKEND] = AGG  # a notebook's may not be installed here
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for name in ("stdout", "stderr"):  # a program may be started without them
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    for stream in (sys.stdout, sys.stderr):  # the terminal's encoding may lack characters of file names
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class _Screen(Console):
    """A console for texts of others: names of classes and files never reach the terminal with their control codes.

    Outside of a terminal it never breaks a line of text, so that paths stay whole. A table whose numbers a narrow
    terminal does not hold is printed wider, and the terminal breaks its lines.

    Args:
        lasting: whether the command goes on without the screen when its pipe or terminal is closed, or its disk full.
        options: as Rich has them.
    """

    def __init__(self, *, lasting: bool, **options: Any) -> None:
        super().__init__(**options)
        self._lasting = lasting

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError:
            if not self._lasting:
                raise
            self.on_broken_pipe()

    def on_broken_pipe(self) -> None:
        """Go on without the screen, or end as programs in a pipe do."""
        if not self._lasting:
            super().on_broken_pipe()
        self.quiet = True
        del self._buffer[:]
        with contextlib.suppress(OSError, ValueError):  # what is still in the stream must not fail at the end
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.file.fileno())
            os.close(nowhere)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does."""
        if not self.is_terminal and all(isinstance(part, str | Text) for part in objects):
            options.setdefault("soft_wrap", True)
        needed = max([_needed_width(table, self) for part in objects for table in _tables(part)], default=0)
        if needed <= self.width:
            super().print(*objects, **options)
            return
        before, self._width = self._width, needed
        try:
            super().print(*objects, **{"crop": False, **options})
        finally:
            self._width = before

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Rich does, with control codes written out."""
        from lpt.config.bounds import escaped  # slow to import, for a command that prints no more than its help

        for segment in super().render(renderable, options):
            text = segment.text if segment.control else escaped(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


def _tables(part: object) -> Iterator[Table]:
    """Yield the tables in what is to be printed."""
    if isinstance(part, Table):
        yield part
    elif isinstance(part, Group):
        for inner in part.renderables:
            yield from _tables(inner)
    elif isinstance(part, Padding):
        yield from _tables(part.renderable)


def _needed_width(table: Table, console: Console) -> int:
    """Return the least width that cuts no number; the columns of numbers, at the right, are made to keep theirs."""
    wide = console.options.update(width=_WIDE)
    before = [column.max_width for column in table.columns]
    for column in table.columns:
        if column.no_wrap or column.justify == "right":
            cells = [*column.cells, *([column.header] if column.no_wrap else [])]
            widths = [Measurement.get(console, wide, cell).maximum for cell in cells]
            column.min_width = max([column.min_width or 0, *widths])
        else:
            column.max_width, column.overflow = max(column.min_width or 0, _NARROWEST), "fold"
    needed = Measurement.get(console, wide, table).minimum
    for column, width in zip(table.columns, before, strict=True):
        column.max_width = width
    return needed


def speaks() -> bool:
    """Return whether this process may print: only the first one of a launcher does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def output_console(*, quiet: bool = False, lasting: bool = False) -> Console:
    """Return the console of results: standard output. Only the first process of a run prints.

    Args:
        quiet: print nothing.
        lasting: go on without the screen once it is closed, for commands whose result is files.
    """
    return _Screen(lasting=lasting, highlight=False, quiet=quiet or not speaks(), width=_width(sys.stdout))


def error_console() -> Console:
    """Return the console of progress and messages: standard error. Only the first process of a run prints."""
    return _Screen(lasting=True, stderr=True, highlight=False, quiet=not speaks(), width=_width(sys.stderr))


def _width(stream: TextIO) -> int | None:
    """Return the width to print in: None is the terminal's own; files have a fixed one."""
    return None if stream.isatty() or "COLUMNS" in os.environ else FILE_WIDTH


def print_error(message: str, *, alone: bool = False) -> None:
    """Print a message on standard error, without markup.

    Args:
        message: the text.
        alone: whether only this process has the error; otherwise the first process prints it for all.
    """
    console = error_console()
    console.quiet = console.quiet and not alone
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)
