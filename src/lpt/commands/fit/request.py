"""What a run is asked to do, and the user's values from all places."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lpt.config.values import assignments_of, merge, parse_assignments, read_yaml
from lpt.data.manifest import Splits
from lpt.errors import ConfigError

_SETTINGS_OF = {"method": "method, model, loss and train", "preset": "preset, backbone, image, model, loss and train"}


Data = str | Path | Splits


Settings = Mapping[str, Any] | list[str]


def gather_values(
    data: Data | None,
    named: Mapping[str, str | None],
    config: str | Path | Mapping[str, Any] | None,
    settings: Settings | None,
    *,
    needs_source: bool = True,
) -> dict[str, Any]:
    """The user's values from all places, the more particular over the more general.

    Args:
        data, config, settings: as for `lpt.fit`.
        named: preset and method; None leaves what the configuration says.
        needs_source: whether it must be said where the images are.

    Raises:
        ConfigError: a file or setting cannot be read, or there is no data.
    """
    values = dict(config) if isinstance(config, Mapping) else {} if config is None else read_yaml(Path(config))
    if isinstance(settings, Mapping):
        settings = assignments_of(settings)
    values = merge(values, parse_assignments(settings or []))
    if data is not None and not isinstance(data, Splits):
        values = merge(values, {"data": {"source": str(data)}})
    for field, value in named.items():
        if value is not None and values.get(field, value) not in (value, "auto"):
            raise ConfigError(
                f"--{field} {value}: the configuration says {field}: {values[field]}, with that {field}'s settings. "
                f"Take one of the two, or leave {_SETTINGS_OF[field]} out of the configuration."
            )
    values = merge(values, {field: value for field, value in named.items() if value is not None})
    if needs_source and not section(values, "data").get("source"):
        raise ConfigError(
            "no data was given. Accepted: a folder of class folders, a CSV or JSONL table, a `path label` list or "
            "hf:NAME. Example: lpt fit photos/"
        )
    return values


def section(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A section of values that are not checked yet; empty when it is missing or no mapping."""
    section = values.get(name)
    return section if isinstance(section, dict) else {}
