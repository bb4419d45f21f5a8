"""A user's values on their way to a checked configuration: read, merged and written."""

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
    """The mapping in a YAML file.

    Raises:
        ConfigError: the file is missing, is not YAML, or is not a mapping.
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
    """Nested values of `--set a.b=c` options; `c` is read as YAML."""
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
    """`base` with the values of `over` on top, section by section."""
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is no mapping, with its dotted path."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_yaml(config: RunConfig) -> str:
    """The configuration as YAML that `read_yaml` and `validate` take back unchanged."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
