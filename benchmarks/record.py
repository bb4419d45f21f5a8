"""The beginning of every result file: what was measured, with which command, when, where and with which versions.

It imports nothing large until the machine is asked for.
"""

from __future__ import annotations

import platform
import shlex
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any


def today() -> str:
    """Return the date, in UTC."""
    return f"{datetime.now(UTC):%Y-%m-%d}"


def describe_command(module: str, arguments: Sequence[str] | None = None) -> str:
    """Return the command that runs a module, to be copied into a shell.

    Args:
        module: dotted name of the module.
        arguments: of the command line; None: those of this process.
    """
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)])


def describe_run(what: str, module: str, arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Return what was measured, the command and the date."""
    return {"what": what, "command": describe_command(module, arguments), "date": today()}


def versions() -> dict[str, Any]:
    """Return the versions of lpt, torch, timm and Python."""
    from lpt.packs.info import Versions

    return Versions.here().model_dump() | {"python": platform.python_version()}


def describe_machine(device: str = "auto") -> dict[str, Any]:
    """Return the hardware of a device, and the versions."""
    from lpt.system.hardware import inspect_machine

    return {"hardware": inspect_machine(device).describe(), "versions": versions()}
