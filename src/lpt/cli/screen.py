"""What a person sees: consoles, error messages, and silence from the libraries below."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from typing import Any, TextIO

from rich.console import Console
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
    """Keep warnings, logs and progress bars of libraries off the screen; what a person should know, LPT says itself."""
    for name, value in _QUIET_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for stream in (sys.stdout, sys.stderr):  # names of files need not be valid in the terminal's encoding
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


class _Screen(Console):
    """A console that, when it does not write to a terminal, never breaks a line of text, so that paths stay whole."""

    def print(self, *objects: Any, **options: Any) -> None:
        """As Rich does."""
        if not self.is_terminal and all(isinstance(one, str | Text) for one in objects):
            options.setdefault("soft_wrap", True)
        super().print(*objects, **options)


def speaks() -> bool:
    """Whether this process may print: of several that a launcher started, the first one does."""
    return os.environ.get("WORLD_SIZE", "1") == "1" or os.environ.get("RANK", "0") == "0"


def output_console(*, quiet: bool = False) -> Console:
    """Where results go: standard output. Silent in all processes of a run but the first."""
    return _Screen(highlight=False, quiet=quiet or not speaks(), width=_width(sys.stdout))


def error_console() -> Console:
    """Where progress and messages go when standard output carries data. Silent in all processes but the first."""
    return _Screen(stderr=True, highlight=False, quiet=not speaks(), width=_width(sys.stderr))


def _width(stream: TextIO) -> int | None:
    """The terminal's own width; of files a fixed one."""
    return None if stream.isatty() or "COLUMNS" in os.environ else FILE_WIDTH


def print_error(message: str, *, alone: bool = False) -> None:
    """A message on standard error, taken literally; once, however many processes there are, unless one is alone."""
    console = error_console()
    console.quiet = console.quiet and not alone
    console.print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)
