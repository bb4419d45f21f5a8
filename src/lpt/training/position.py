"""The position of a run, as its checkpoint holds it. It is read without PyTorch: a command that waits asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from lpt.errors import RunError

FILE_NAME = "latest.safetensors"
"""Name of the checkpoint in its folder."""


class Position(NamedTuple):
    """The position of a run: steps done of a phase, and the micro-batch of the last one (None: as configured)."""

    phase: int
    step: int
    micro_batch: int | None


def saved_position(folder: Path) -> Position | None:
    """Read the position alone; None if there is no checkpoint yet.

    Raises:
        RunError: the file is damaged.
    """
    path = folder / FILE_NAME
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="np") as file:
            return Position(**json.loads(file.metadata()["position"]))
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_checkpoint(path, error) from None


def damaged_checkpoint(path: Path, error: Exception) -> RunError:
    """Return the error for a checkpoint that cannot be read."""
    return RunError(
        f"the checkpoint {path} is damaged ({error}). Remove the folder {path.parent} and run the same command with "
        "--resume: the run starts again from its first step with the same settings."
    )
