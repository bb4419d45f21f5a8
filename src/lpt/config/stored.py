"""Read JSON files that LPT wrote: a kill, a full disk or a stranger may have left something else there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from lpt.config.faults import faults

Shape = TypeVar("Shape")
_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}
"""What checks each shape; to make one takes a millisecond."""


def read_fields(file: Path, shape: type[Any]) -> dict[str, Any]:
    """Return the fields of a JSON object; those that `shape` does not name are not checked.

    Args:
        file: the file.
        shape: a model or dataclass with the fields that must be right.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no JSON object, or a field is missing or of another kind; the text names the fields.
    """
    content = file.read_bytes()
    try:
        _adapter(shape).validate_json(content, strict=True)
    except ValidationError as error:
        raise ValueError(faults(error)) from None
    fields: dict[str, Any] = json.loads(content)
    return fields


def checked(shape: type[Shape], values: Any) -> Shape:
    """Return plain values as an object of a dataclass or model; fields that it does not have are left out.

    Raises:
        ValueError: a field is missing or of another kind; the text names the fields.
    """
    try:
        value: Shape = _adapter(shape).validate_python(values)
    except ValidationError as error:
        raise ValueError(faults(error)) from None
    return value


def _adapter(shape: Any) -> TypeAdapter[Any]:
    if shape not in _ADAPTERS:
        _ADAPTERS[shape] = TypeAdapter(shape)
    return _ADAPTERS[shape]
