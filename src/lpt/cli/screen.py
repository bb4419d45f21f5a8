"""What a person sees: consoles and error messages; other libraries are kept quiet."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

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
_CHATTY = ("accelerate", "datasets", "huggingface_hub", "matplotlib", "PIL", "timm", "torch", "torchvision")


def hush() -> None:
    """Keep warnings, logs and progress bars of libraries off the screen; LPT itself says what a person should know."""
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
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

    Outside of a terminal it never breaks a line of text, so that paths stay whole.

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
        super().print(*objects, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as Rich does, with control codes written out."""
        from lpt.config.bounds import escaped  # slow to import, for a command that prints no more than its help

        for segment in super().render(renderable, options):
            text = segment.text if segment.control else escaped(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


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
