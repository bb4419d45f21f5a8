"""What a person sees: consoles and error messages; other libraries are kept quiet."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any, TextIO

from rich.console import Console
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
_CHATTY = ("accelerate", "datasets", "huggingface_hub", "matplotlib", "PIL", "timm", "torch", "torchvision")


def hush() -> None:
    """Keep warnings, logs and progress bars of libraries off the screen; LPT itself says what a person should know."""
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ[BACKEND] = AGG  # a notebook's may not be installed here
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):  # the terminal's encoding may lack characters of file names
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class _Screen(Console):
    """A console that never breaks a line of text outside of a terminal, so that paths stay whole."""

    def print(self, *objects: Any, **options: Any) -> None:
        """Print as Rich does."""
        if not self.is_terminal and all(isinstance(part, str | Text) for part in objects):
            options.setdefault("soft_wrap", True)
        super().print(*objects, **options)


def speaks() -> bool:
    """Return whether this process may print: only the first one of a launcher does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def output_console(*, quiet: bool = False) -> Console:
    """Return the console of results: standard output. Only the first process of a run prints."""
    return _Screen(highlight=False, quiet=quiet or not speaks(), width=_width(sys.stdout))


def error_console() -> Console:
    """Return the console of progress and messages: standard error. Only the first process of a run prints."""
    return _Screen(stderr=True, highlight=False, quiet=not speaks(), width=_width(sys.stderr))


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
