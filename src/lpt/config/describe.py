"""Types and defaults of the configuration as a person reads them."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def kind_of(annotation: Any) -> str:
    """Return a type as a person reads it, such as `auto | int | int, int`."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return kind_of(inner[0])
    if origin is Literal:
        return " | ".join(map(str, inner))
    if origin in (Union, UnionType):
        return " | ".join(kind_of(choice) for choice in inner if choice is not NoneType)
    if origin in (tuple, list):
        return ", ".join(map(kind_of, inner)) if origin is tuple else f"list of {kind_of(inner[0])}"
    return {"Path": "path", "str": "text"}.get(annotation.__name__, str(annotation.__name__))


def default_text(default: Any) -> str:
    """Return a default as a person reads it; a dash for None."""
    if default is None:
        return "–"
    if isinstance(default, tuple):
        return ", ".join(default_text(value) for value in default)
    return f"{default:.4g}" if isinstance(default, float) else str(default)
