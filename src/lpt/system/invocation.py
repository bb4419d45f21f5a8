"""The command that started this program."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

_HIDDEN = "***"
_SECRET_NAME = re.compile(r"(?i)(?:^|[-_.])(?:token|password|passwd|secret|credentials?|(?:api|access)[-_]?key)$")
_SECRET_PART = re.compile(r"(?<=://)[^/@\s]+(?=@)|\bhf_[A-Za-z0-9]{20,}")


_started_by = ""


def started_by(command: str) -> None:
    """Let `typed_command` return the command of the process for which this one works."""
    global _started_by
    _started_by = command


def typed_command() -> str:
    """Return what was typed, without the paths of this machine's Python, and without passwords and tokens."""
    if _started_by:
        return _started_by
    arguments = list(_without_secrets(sys.orig_argv[1:]))  # empty where Python is a part of another program
    if arguments and Path(arguments[0]).name == "lpt":
        return shlex.join(["lpt", *arguments[1:]])
    if arguments[:2] == ["-m", "lpt"]:
        return shlex.join(["lpt", *arguments[2:]])
    return shlex.join(["python", *arguments])


def _without_secrets(arguments: Iterable[str]) -> Iterator[str]:
    """Hide what a program of the user may be given: values of options such as `--api-key`, and tokens of the hub."""
    hide = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        secret = _SECRET_NAME.search(name) is not None
        if hide and not argument.startswith("--"):
            yield _HIDDEN
        elif secret and equals:
            yield f"{name}={_HIDDEN}"
        else:
            yield _SECRET_PART.sub(_HIDDEN, argument)
        hide = secret and not equals and argument.startswith("-")
