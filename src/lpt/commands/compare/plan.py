"""What a comparison is asked for, and what it consists of: methods, seeds, settings and test images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

from lpt.commands.fit.request import RunRequest, gather_values
from lpt.config.recipes import METHODS, method_named
from lpt.config.stored import checked
from lpt.config.values import Settings, by_path, merge, nested
from lpt.data.manifest import Splits
from lpt.data.sources.cuts import hold_out_for_testing
from lpt.errors import ConfigError, DataError

REFERENCE = "lpt"
DEFAULT_METHODS = ("linear-probe", "linear-probe-la", "fine-tuning-la", "vpt-deep", "lift", "lpt-phase1", "lpt")
HOLDOUT = 0.2
"""Share of each class that is held out for testing where there are no test images."""

_SHARED = ("data", "backbone", "image", "runtime", "preset", "method", "train.epoch_steps")
"""Settings that all methods must have in common."""
_MAY_DIFFER = ("image.test_views",)
"""Exceptions: scores of several crops are a part of LIFT, so their number may differ."""
_JSON_NAMES = {"method_values": "own"}
"""Fields of `StoredPlan` that have another name in plan.json."""

Opener = Callable[[int], Splits]
"""Opens the splits of a seed."""


class CellKey(NamedTuple):
    """The name of a cell: its method and its seed."""

    method: str
    seed: int


@dataclass(frozen=True)
class ComparisonRequest:
    """What `lpt compare` is asked for.

    Args:
        data: the source of the images, as for `lpt.fit`; or a function that opens the splits of a seed.
        output: the folder of the comparison.
        methods: names of `lpt.config.recipes.METHODS`.
        seeds: each method is trained once for each.
        budget: minutes for the whole comparison; None: no limit.
        holdout: share of each class to test on, where the data has no test images.
        preset, config: as for `lpt.fit`. They describe LPT, and what the other methods share with it.
        settings: `section.field=value`, over the configuration; or `METHOD:section.field=value` for one method alone;
            or a mapping.
        overwrite: remove the comparison that is in `output`.
        ray: train the cells on the machines of a Ray cluster.
    """

    data: str | Path | Opener | None = None
    output: Path = Path("comparison")
    methods: Sequence[str] = DEFAULT_METHODS
    seeds: Sequence[int] = (0,)
    budget: float | None = None
    holdout: float = HOLDOUT
    preset: str | None = None
    config: str | Path | Mapping[str, Any] | None = None
    settings: Settings = ()
    overwrite: bool = False
    ray: bool = False

    @property
    def opener(self) -> Opener | None:
        """The function that opens the data, if the data is one."""
        return self.data if callable(self.data) else None

    @property
    def source(self) -> str | Path | None:
        """The source of the images, if the data is no function."""
        return None if callable(self.data) else self.data


@dataclass(frozen=True)
class Plan:
    """A comparison whose names and settings are checked.

    Args:
        methods: names, rows of the table.
        seeds: seeds of all random draws.
        values: the user's configuration, which LPT is trained with.
        method_values: further values of single methods, by name.
        holdout: share of each class to test on where there are no test images.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, Any]
    method_values: dict[str, dict[str, Any]]
    holdout: float

    @property
    def reference_values(self) -> dict[str, Any]:
        """The user's configuration for the method that the others are compared with, whatever the preset would take."""
        return merge(self.values, {"method": REFERENCE})

    @property
    def cells(self) -> list[CellKey]:
        """The cells to train, in order: all methods of the first seed, then of the next."""
        return [CellKey(method, seed) for seed in self.seeds for method in self.methods]


@dataclass(frozen=True)
class StoredPlan:
    """What plan.json keeps of a comparison, for the commands that go on with it.

    Args:
        values: the user's configuration, as it was given.
        holdout: as in `Plan`.
        budget_minutes: minutes for the whole comparison; None: no limit.
        method_values: further values of single methods, of all commands so far.
        machine: device and precision.
        share: the part of the preset's steps that fits into the budget; None: no budget, or no method has steps.
    """

    values: dict[str, Any]
    holdout: float
    budget_minutes: float | None
    method_values: dict[str, dict[str, Any]]
    machine: dict[str, str]
    share: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for plan.json; paths become text."""
        values = {_JSON_NAMES.get(name, name): value for name, value in asdict(self).items()}
        plain: dict[str, Any] = json.loads(json.dumps(values, default=str))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> StoredPlan | None:
        """Read what `to_dict` returned; None where a value is missing, or of another kind."""
        names = {field.name: _JSON_NAMES.get(field.name, field.name) for field in fields(cls)}
        try:
            return checked(cls, {name: values[json_name] for name, json_name in names.items()})
        except (KeyError, ValueError):
            return None


def plan_of(request: ComparisonRequest) -> Plan:
    """Check the names and settings of a request, and return its plan.

    Raises:
        ConfigError: a method or setting is unknown, or a comparison cannot have it.
    """
    methods, seeds = tuple(request.methods), tuple(request.seeds)
    if not methods or not seeds:
        raise ConfigError("compare: give at least one method and one seed")
    for method in methods:
        method_named(method)
    for name, given in (("method", methods), ("seed", seeds)):
        if len(set(given)) < len(given):
            raise ConfigError(f"compare: a {name} is given twice: {', '.join(map(str, given))}")
    if not 0 < request.holdout < 1:
        raise ConfigError(f"holdout: a share between 0 and 1 is needed, got {request.holdout:g}")
    common, of_methods = _split_settings(request.settings)
    values = gather_values(
        RunRequest(request.source, preset=request.preset, config=request.config, settings=common),
        needs_source=request.opener is None,
    )
    if values.get("method", REFERENCE) not in (REFERENCE, "auto"):
        raise ConfigError("compare: methods are given by --methods, not in the configuration")
    if "seed" in (values.get("runtime") or {}):
        raise ConfigError("compare: seeds are given by --seeds, not as runtime.seed")
    return Plan(methods, seeds, values, _method_values(of_methods, methods), request.holdout)


def continued(plan: Plan, before: StoredPlan) -> Plan:
    """Return a plan that keeps the device and precision of the comparison it goes on with, unless others are given."""
    runtime = {**before.machine, **plan.values.get("runtime", {})}
    return replace(plan, values=merge(plan.values, {"runtime": runtime}))


def _split_settings(settings: Settings) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Separate the settings of all methods from those of single ones; LPT's own are those of all."""
    common, of_methods = dict[str, Any](), dict[str, dict[str, Any]]()
    for setting, value in by_path(settings).items():
        method, colon, path = setting.partition(":")
        if colon and method in METHODS and method != REFERENCE:
            of_methods.setdefault(method, {})[path] = value
        else:
            common[setting.removeprefix(f"{REFERENCE}:")] = value
    return common, of_methods


def _method_values(settings: Mapping[str, Mapping[str, Any]], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Nest the settings of single methods; refuse one that all methods must have in common."""
    values = {}
    for method, fields_given in settings.items():
        for path in fields_given:
            shared = any(path == name or path.startswith(f"{name}.") for name in _SHARED)
            if shared and path not in _MAY_DIFFER:
                raise ConfigError(f"--set {method}:{path}: {path} must be the same for all methods")
        if method not in methods:
            raise ConfigError(
                f"--set {method}:{next(iter(fields_given))}: {method} is not among the methods to compare"
            )
        values[method] = nested(fields_given)
    return values


def with_test_images(splits: Splits, holdout: float) -> Splits:
    """Return splits that have test images; without any, a share of each class is cut out of train.

    The cut is the same for all seeds, so that seeds differ in training alone, unless the training images themselves
    depend on the seed (a long tail, a share for validation). Shot groups go by the counts before the cut.

    Raises:
        DataError: every class is too small to give a test image.
    """
    if splits.test is not None and len(splits.test):
        return splits
    notes = [*splits.notes, "No test images were given."]
    try:
        train, test = hold_out_for_testing(splits.train, holdout, notes)
    except DataError as error:
        raise DataError(f"there are no test images, and {error} or --holdout") from None
    return replace(splits, train=train, test=test, notes=notes)
