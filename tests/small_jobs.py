"""Jobs for executors, in a module that workers import at once: one that works, and three that fail."""

from __future__ import annotations

import os
import signal

from rich.console import Console

from lpt.errors import DataError


def fine(number: int, console: Console) -> int:
    console.print(f"this is {number}")
    return number * number


def at_fault(console: Console) -> None:
    raise DataError("broken.jpg cannot be read")


def unforeseen(console: Console) -> None:
    raise KeyError("a bug")


def killed(console: Console) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
