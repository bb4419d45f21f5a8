"""Describe the faults that pydantic finds in a configuration, or in a file that LPT wrote."""

from __future__ import annotations

import reprlib
from typing import Any

from pydantic import BaseModel, ValidationError

_FAULTS_SHOWN = 5


def fault_lines(error: ValidationError, schema: type[BaseModel]) -> list[str]:
    """Return a line for each fault: its dotted path, what is wrong, and the value.

    Args:
        error: the faults.
        schema: the class of the whole configuration, which names the accepted fields.
    """
    return [_fault_line(fault, schema) for fault in error.errors(include_url=False)]


def _fault_line(fault: Any, schema: type[BaseModel]) -> str:
    path = ".".join(str(part) for part in fault["loc"]) or "(whole)"
    if fault["type"] == "extra_forbidden":
        return f"  {path}: no such field (accepted: {', '.join(_accepted_fields(fault['loc'], schema))})"
    line = f"  {path}: {fault['msg'].removeprefix('Value error, ')}"
    of_a_section = isinstance(fault["input"], dict | BaseModel)  # the sentence names the fields that do not go together
    return line if of_a_section else f"{line} (got {fault['input']!r})"


def _accepted_fields(location: tuple[int | str, ...], schema: type[BaseModel]) -> list[str]:
    section: Any = schema
    for part in location[:-1]:
        field = section.model_fields.get(str(part))
        if field is None:
            break
        section = field.annotation
    return list(section.model_fields)


def faults(error: ValidationError) -> str:
    """Describe the first faults: dotted path, accepted values and the value."""
    listed = error.errors(include_url=False, include_context=False)
    shown = "; ".join(_fault(fault) for fault in listed[:_FAULTS_SHOWN])
    return shown + (f"; and {len(listed) - _FAULTS_SHOWN} more" if len(listed) > _FAULTS_SHOWN else "")


def _fault(fault: Any) -> str:
    path = ".".join(_short(part) for part in fault["loc"])
    accepted = fault["msg"].removeprefix("Value error, ")
    if fault["type"] in ("missing", "json_invalid") or isinstance(fault["input"], dict | BaseModel):
        got = ""
    else:
        got = f" (got {reprlib.repr(fault['input'])})"
    return (f"{path}: " if path else "") + accepted + got


def _short(part: int | str) -> str:
    text = str(part)
    return text if len(text) <= 40 and text.isprintable() else reprlib.repr(text)
