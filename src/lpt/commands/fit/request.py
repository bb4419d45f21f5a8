"""The request of a run, and the configuration values that it gathers from all places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpt.config.presets import PHASES
from lpt.config.values import Settings, by_path, merge, nested, read_yaml, section
from lpt.data.manifest import Splits
from lpt.errors import ConfigError

_SETTINGS_OF = {"method": "method, model, loss and train", "preset": "preset, backbone, image, model, loss and train"}

Data = str | Path | Splits
Config = str | Path | Mapping[str, Any]


@dataclass(frozen=True)
class RunRequest:
    """A run that a user asks for: with `lpt fit`, its dry run or `lpt.fit`.

    Args:
        data: where the images are, in any form of `data.source`, or opened splits. None: as the configuration says.
        output: run folder to make. None: `runs/<data>-<date and time>`.
        preset: `laptop`, `paper` or `auto` (what suits the machine). None: the configuration's, else `auto`.
        method: a name of `lpt.config.recipes.METHODS`. None: the configuration's, else the preset's.
        phases: of LPT, 1 or 2, in place of `method`.
        config: a YAML file, or nested values.
        settings: single values by dotted path, such as `{"train.batch_size": 32}`; or `["train.batch_size=32"]`.
        overwrite: replace the run in `output`; files that no run wrote stay.
    """

    data: Data | None = None
    output: str | Path | None = None
    preset: str | None = None
    method: str | None = None
    config: Config | None = None
    settings: Settings | None = None
    overwrite: bool = False
    phases: int | None = None

    @property
    def folder(self) -> Path | None:
        """The run folder to make, if the user named one."""
        return None if self.output is None else Path(self.output)

    @property
    def splits(self) -> Splits | None:
        """The splits, if the data is opened already."""
        return self.data if isinstance(self.data, Splits) else None

    @property
    def origin(self) -> str:
        """Where the values come from, for error messages."""
        if self.config is None:
            return "the settings"
        return "the configuration" if isinstance(self.config, Mapping) else str(self.config)


def gather_values(request: RunRequest, *, needs_source: bool = True) -> dict[str, Any]:
    """Return the user's values from all places: the settings win over the configuration.

    Args:
        request: what the user asked for.
        needs_source: whether the values must name the images.

    Raises:
        ConfigError: a file or setting cannot be read, or no data is given.
    """
    values = merge(_configured(request.config), nested(by_path(request.settings or {})))
    if request.data is not None and request.splits is None:
        values = merge(values, {"data": {"source": str(request.data)}})
    choices = {"preset": request.preset, "method": _method(request)}
    chosen = {field: name for field, name in choices.items() if name is not None}
    for field, name in chosen.items():
        if values.get(field, name) not in (name, "auto"):
            option = (
                f"--{field} {name}" if field == "preset" or request.phases is None else f"--phases {request.phases}"
            )
            raise ConfigError(
                f"{option}: the configuration says {field}: {values[field]}, with that {field}'s settings. "
                f"Take one of the two, or leave {_SETTINGS_OF[field]} out of the configuration."
            )
    values = merge(values, chosen)
    if needs_source and not section(values, "data").get("source"):
        raise ConfigError(
            "no data was given. Accepted: a folder of class folders, a CSV or JSONL table, a `path label` list or "
            "hf:NAME. Example: lpt fit photos/"
        )
    return values


def _method(request: RunRequest) -> str | None:
    """Return the method that is asked for, by its name or by the phases of LPT."""
    if request.phases is None:
        return request.method
    if request.phases not in PHASES:
        raise ConfigError(f"--phases {request.phases}: LPT has two. Accepted: {', '.join(map(str, PHASES))}")
    method = PHASES[request.phases]
    if request.method not in (None, method):
        raise ConfigError(
            f"--phases {request.phases} is method {method}, not {request.method}; leave one of the two out"
        )
    return method


def _configured(config: Config | None) -> dict[str, Any]:
    """Return the values of a configuration."""
    if config is None:
        return {}
    return dict(config) if isinstance(config, Mapping) else read_yaml(Path(config))
