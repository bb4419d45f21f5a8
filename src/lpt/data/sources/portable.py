"""The name of a source without the folders above it: the same on every machine."""

from __future__ import annotations

from pathlib import Path

from lpt.system.files import last_part


def portable_source(source: str | None) -> str | None:
    """Return a source with the last part of its path, if it is one; `hf:FOLDER:column:column` keeps the rest."""
    if source is None:
        return None
    prefix = "hf:" if source.startswith("hf:") else ""
    path, colon, columns = source.removeprefix(prefix).partition(":") if prefix else (source, "", "")
    local = not prefix or Path(path).is_absolute() or Path(path).exists()
    return f"{prefix}{last_part(path) if local else path}{colon}{columns}"
