"""Read what a run wrote of itself. After a crash or an edit it may be damaged: an error names file, line and fault."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lpt.errors import RunError

_TEXTS = ("data_sha256", "backbone_sha256", "config_sha256")
_COUNTED, _MEASURED, _PARTS = ("phase", "step"), ("loss", "seconds"), ("balanced", "instance")


def read_facts(file: Path) -> dict[str, Any]:
    """Read the fields of `run.json`.

    Raises:
        RunError: the file is missing, cut short, or a field is of the wrong kind.
    """
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise gone(file.parent) from None
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(file, str(error)) from None
    if not isinstance(facts, dict):
        raise damaged(file, "it holds no fields")
    for name in _TEXTS:
        if not isinstance(facts.get(name, ""), str):
            raise damaged(file, f"{name} is not a text")
    for name in ("versions", "preparing_seconds", "measured_images"):
        if not isinstance(facts.get(name, {}), dict):
            raise damaged(file, f"{name} holds no fields")
    if not all(_is_number(seconds) for seconds in facts.get("preparing_seconds", {}).values()):
        raise damaged(file, "preparing_seconds holds something other than numbers")
    return facts


def read_records(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the records of a log; leave out a last line that a kill cut short.

    Raises:
        RunError: a line is not the record of a step.
    """
    if not file.is_file():
        return
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.endswith(b"\n"):
                yield _record(file, number, line)


def gone(folder: Path) -> RunError:
    """Return the error for a run folder that disappeared while its run was going on."""
    return RunError(
        f"the run folder {folder} was removed or moved while the run was going on (it has no run.json any more), so "
        "nothing can be saved there. If it was moved, go on with lpt fit --resume and its new place; otherwise start "
        "the run again."
    )


def damaged(file: Path, reason: str) -> RunError:
    """Return the error for a `run.json` that cannot be used."""
    return RunError(
        f"{file} is damaged ({reason}). It says which images, weights and settings the run was started with; without "
        "it the run cannot go on. Restore the file, or start a new run in another folder."
    )


def _record(file: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
        fits = isinstance(record, dict) and all(type(record[name]) is int for name in _COUNTED)
        fits = fits and all(_is_number(record[name]) for name in _MEASURED)
        fits = fits and all(record.get(name) is None or _is_number(record[name]) for name in _PARTS)
        fits = fits and type(record.get("epoch", 0)) is int
    except (ValueError, KeyError, RecursionError):
        fits = False
    if not fits:
        shown = ascii(line[:60].decode("utf-8", "backslashreplace").rstrip("\n"))
        raise RunError(
            f"line {number} of {file} is not the record of a step: {shown}. Remove that line, then go on with "
            "--resume: training goes by the checkpoint; only plots and times are made from the log."
        )
    assert isinstance(record, dict)
    return record


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)
