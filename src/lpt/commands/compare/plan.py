"""What a comparison consists of: its methods and seeds, what each cell is trained with, and what it is tested on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lpt.commands.fit.request import gather_values
from lpt.config.lint import unused_fields
from lpt.config.recipes import METHODS, method_named
from lpt.config.schema import RunConfig, validate
from lpt.config.values import leaves, merge, parse_assignments, read_yaml
from lpt.data.longtail import stratified_validation
from lpt.data.manifest import Splits
from lpt.errors import ConfigError, DataError
from lpt.system.randomness import seed_of
from lpt.system.text import plural

REFERENCE = "lpt"
DEFAULT_METHODS = ("linear-probe", "linear-probe-la", "fine-tuning-la", "vpt-deep", "lift", "lpt-phase1", "lpt")
HOLDOUT = 0.2
"""Share of each class that is held out for testing where there are no test images."""

_OWN_SECTIONS = ("model", "loss")
_OWN_TRAINING = ("sampling", "batch_size", "phase1", "phase2")
_ALIKE = ("data", "backbone", "image", "runtime", "preset", "method", "train.epoch_steps")
"""What must be the same for all methods; scores of several crops are a part of LIFT, so their number need not be."""
_MAY_DIFFER = ("image.test_views",)
_OF_THE_MACHINE = (
    "runtime.", "train.micro_batch", "prefix_cache.store", "prefix_cache.dtype", "data.cache",
    "data.source", "data.test", "data.image_root", "backbone.checkpoint",
)  # fmt: skip
"""What results do not depend on; whether images and weights are the same is looked up in the images and weights."""

Opener = Callable[[int], Splits]


@dataclass(frozen=True)
class Plan:
    """A comparison as it was asked for.

    Args:
        methods: names, rows of the table.
        seeds: of every random draw.
        values: the user's configuration, which LPT is trained with.
        own: further values of single methods, by name.
        holdout: share of each class to test on where there are no test images.
    """

    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    values: dict[str, Any]
    own: dict[str, dict[str, Any]]
    holdout: float


def plan_of(
    data: str | Path | Opener | None,
    methods: Sequence[str],
    seeds: Sequence[int],
    preset: str | None,
    config: str | Path | Mapping[str, Any] | None,
    settings: Sequence[str],
    holdout: float,
) -> Plan:
    """Return the plan that a command asks for, its names and settings checked; arguments as for `lpt.compare`.

    Raises:
        ConfigError: a method or setting is unknown, or not one that a comparison can have.
    """
    if not methods or not seeds:
        raise ConfigError("compare: give at least one method and one seed")
    for method in methods:
        method_named(method)
    for name, given in (("method", methods), ("seed", seeds)):
        if len(set(given)) < len(given):
            raise ConfigError(f"compare: a {name} is given twice: {', '.join(map(str, given))}")
    if not 0 < holdout < 1:
        raise ConfigError(f"holdout: a share between 0 and 1 is needed, got {holdout:g}")
    common, own = [], dict[str, list[str]]()
    for setting in settings:
        method, colon, rest = setting.partition(":")
        if colon and method in METHODS and method != REFERENCE:
            own.setdefault(method, []).append(rest)
        else:
            common.append(setting.removeprefix(f"{REFERENCE}:"))
    source = None if callable(data) else data
    values = gather_values(source, {"preset": preset}, config, common, needs_source=not callable(data))
    if values.get("method", REFERENCE) != REFERENCE:
        raise ConfigError("compare: methods are given by --methods, not in the configuration")
    if "seed" in (values.get("runtime") or {}):
        raise ConfigError("compare: seeds are given by --seeds, not as runtime.seed")
    return Plan(tuple(methods), tuple(seeds), values, _own_values(own, methods), holdout)


def _own_values(own: Mapping[str, list[str]], methods: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Settings of single methods; what all must have alike cannot be one of them."""
    parsed = {}
    for method, assignments in own.items():
        for assignment in assignments:
            path = assignment.partition("=")[0]
            alike = any(path == one or path.startswith(f"{one}.") for one in _ALIKE)
            if alike and path not in _MAY_DIFFER:
                raise ConfigError(f"--set {method}:{assignment}: {path} must be the same for all methods")
        if method not in methods:
            raise ConfigError(f"--set {method}:{assignments[0]}: {method} is not among the methods to compare")
        parsed[method] = parse_assignments(assignments)
    return parsed


def cell_values(plan: Plan, method: str, base: RunConfig) -> dict[str, Any]:
    """The configuration that a method is trained with, over the preset's.

    LPT has the user's values. The other methods share data, backbone, pictures and machine with it, and take what is
    trained, loss and rates from their recipe, for the same draws.

    Args:
        plan: the comparison.
        method: its name.
        base: LPT's configuration; fields may still be `auto`.
    """
    values = plan.values
    if method != REFERENCE:
        train = {key: value for key, value in values.get("train", {}).items() if key not in _OWN_TRAINING}
        shared = {key: value for key, value in values.items() if key not in _OWN_SECTIONS}
        values = merge({**shared, "train": train}, METHODS[method].values(base))
    return merge(values, {"method": method, **plan.own.get(method, {})})


def with_test_images(splits: Splits, holdout: float) -> Splits:
    """The splits with test images: those there are, else a share of each class, cut out of train.

    The cut is the same for all seeds, so that what differs between them is training alone (unless what it is cut from
    goes by the seed: a long tail, or a share for validation). Shot groups go by the counts before it.

    Raises:
        DataError: every class is too small to give a test image.
    """
    if splits.test is not None and len(splits.test):
        return splits
    try:
        kept, held, small = stratified_validation(splits.train.labels, holdout, seed_of(0, "compare", "holdout"))
    except DataError:
        raise DataError(
            f"there are no test images, and every class is too small to hold {100 * holdout:g} % of it out: the "
            f"largest has {plural(int(splits.train.class_counts.max()), 'image')}. Give test images with --test, or a "
            "larger share with --holdout"
        ) from None
    note = (
        f"No test images were given: {100 * holdout:g} % of each class, {len(held):,} images, are held out for testing"
    )
    note += f"; {len(small):,} classes are too small and are not tested." if len(small) else "."
    train = splits.train
    return replace(splits, train=train.subset(kept), test=train.subset(held), notes=[*splits.notes, note])


def stored_settings(path: Path) -> RunConfig:
    """The settings a cell was begun with; a field that the file does not name has its default, as for a resumed run."""
    return validate(read_yaml(path), origin=str(path))


def changes(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, str]:
    """What is said of each field that differs, by its dotted path; the machine's own fields do not count."""
    first, second = dict(leaves(settings)), dict(leaves(others))
    said = {}
    for path in {**first, **second}:
        before, now = first.get(path), second.get(path)
        places = path == "data.validation" and isinstance(before, str) and isinstance(now, str)
        if before != now and not places and not path.startswith(_OF_THE_MACHINE):
            said[path] = f"{path} was {before!r}, is {now!r}"
    return said


def of_the_machine(values: Mapping[str, Any]) -> dict[str, Any]:
    """What is said of the machine, to hold for a cell that was begun on another one too."""
    said: dict[str, Any] = {"runtime": values.get("runtime") or {}}
    for section, name in (("train", "micro_batch"), ("prefix_cache", "store")):
        if name in (values.get(section) or {}):
            said[section] = {name: values[section][name]}
    return said


def cell_changes(stored: RunConfig, wanted: Mapping[str, Any]) -> list[str]:
    """How the configuration of a trained cell differs from what is wanted now.

    What is still `auto` in `wanted` does not count, nor does what does nothing in the cell.
    """
    now, unused = dict(leaves(wanted)), unused_fields(stored)
    said = changes(stored.model_dump(mode="json"), wanted).items()
    return [text for path, text in said if now.get(path) != "auto" and path not in unused]
