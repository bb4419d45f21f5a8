"""The command that started this program."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def typed_command() -> str:
    """Return what was typed, without the paths of this machine's Python."""
    _, *arguments = sys.orig_argv
    if arguments and Path(arguments[0]).name == "lpt":
        return shlex.join(["lpt", *arguments[1:]])
    if arguments[:2] == ["-m", "lpt"]:
        return shlex.join(["lpt", *arguments[2:]])
    return shlex.join(["python", *arguments])
