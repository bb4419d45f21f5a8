"""Read, merge and write the values of a configuration, before they are checked and after."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from lpt.config.schema import RunConfig
from lpt.errors import ConfigError


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; an empty file is an empty mapping.

    Raises:
        ConfigError: the file cannot be read, is not YAML, or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read the configuration {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of sections ({', '.join(RunConfig.model_fields)})")
    return values


def parse_assignments(assignments: list[str]) -> dict[str, Any]:
    """Return the nested values of `--set a.b=c` options; `c` is read as YAML.

    Raises:
        ConfigError: an option has another form.
    """
    values: dict[str, Any] = {}
    for assignment in assignments:
        path, equals, text = assignment.partition("=")
        if not equals or not all(path.split(".")):
            raise ConfigError(f"--set {assignment!r}: write it as section.field=value, e.g. train.batch_size=64")
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ConfigError(f"--set {assignment!r}: the value is not YAML: {error}") from None
        *parents, leaf = path.split(".")
        section = values
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise ConfigError(f"--set {assignment!r}: {parent} was set to a value before")
        section[leaf] = value
    return values


def assignments_of(values: Mapping[str, Any]) -> list[str]:
    """What `parse_assignments` reads back, of values by dotted path; what YAML does not know is written as text."""

    def written(value: Any) -> str:
        plain = json.loads(json.dumps(value, default=str))
        return yaml.safe_dump(plain, default_flow_style=True, width=math.inf).removesuffix("\n...\n").rstrip("\n")

    return [f"{path}={written(value)}" for path, value in values.items()]


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
