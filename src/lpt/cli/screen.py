"""What a person sees: consoles, error messages, and silence from the libraries below."""

from __future__ import annotations

import logging
import os
import sys
import warnings

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


def output_console(*, quiet: bool = False) -> Console:
    """Where results go: standard output. Lines are wrapped on a terminal only, so that paths in a log stay whole."""
    return Console(highlight=False, soft_wrap=not sys.stdout.isatty(), quiet=quiet)


def error_console() -> Console:
    """Where progress and messages go when standard output carries data."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_error(message: str) -> None:
    """A message on standard error, taken literally."""
    error_console().print(Text.assemble(("Error: ", "bold red"), message))
