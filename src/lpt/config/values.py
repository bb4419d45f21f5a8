"""Read, merge and write the values of a configuration, before they are checked and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lpt.config.schema import RunConfig
from lpt.errors import ConfigError
from lpt.system.files import read_regular

Settings = Mapping[str, Any] | Sequence[str]
"""Single values: by dotted path, or as `section.field=value` texts."""

_FORM = "write it as section.field=value, e.g. train.batch_size=64"


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds no mapping.
    """
    try:
        values = yaml.safe_load(read_regular(path).decode("utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of sections ({', '.join(RunConfig.model_fields)})")
    return values


def by_path(settings: Settings) -> dict[str, Any]:
    """Return settings by dotted path. In `section.field=value` texts the value is read as YAML; the last one counts.

    Raises:
        ConfigError: a text is not of this form.
    """
    return dict(settings) if isinstance(settings, Mapping) else dict(map(_parse_assignment, settings))


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Return the nested values of `--set section.field=value` options."""
    return nested(by_path(assignments))


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values by dotted path as sections within sections.

    Raises:
        ConfigError: a path has an empty part, or goes on below a field that has a value.
    """
    sections: dict[str, Any] = {}
    for path, value in values.items():
        *parents, field = path.split(".")
        if not all((*parents, field)):
            raise ConfigError(f"--set {path!r}: {_FORM}")
        section = sections
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {path!r}: {parent} was set to a value before")
        section[field] = _plain(value)
    return sections


def section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return a section of values that are not checked yet; empty when it is missing or no mapping."""
    fields = values.get(name)
    return fields if isinstance(fields, dict) else {}


def merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the values of `over` in place of its own, section by section."""
    merged = dict(base)
    for key, value in over.items():
        sections = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if sections else value
    return merged


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted path and the value of every entry that is not itself a mapping."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_yaml(config: RunConfig) -> str:
    """Return the configuration as YAML; `read_yaml` and `validate` make the same configuration of it."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _parse_assignment(text: str) -> tuple[str, Any]:
    path, equals, value = text.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(f"--set {text!r}: {_FORM}")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {text!r}: the value is not YAML: {error}") from None


def _plain(value: Any) -> Any:
    """Return a value as a YAML file would give it: paths and other objects as text."""
    if isinstance(value, Mapping):
        return {str(name): _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float) else str(value)
