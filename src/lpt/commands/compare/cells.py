"""Finished runs of a comparison: read back as cells, and checked to be of the images of now."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lpt.commands.compare.inference_cost import InferenceCost
from lpt.commands.fit.prepare import Prepared
from lpt.config.values import leaves, read_yaml
from lpt.data.manifest import IntArray, LabelledImages
from lpt.errors import RunError
from lpt.evaluation.comparison import Cell, Cost
from lpt.evaluation.metrics import Metrics
from lpt.model.record import BackboneRecord
from lpt.packs.pack import read_info
from lpt.training.folder import RunFolder


class FinishedCell(NamedTuple):
    """A finished run: the cell, images of each class before anything was held out [C], metrics.json and precision."""

    cell: Cell
    counts: IntArray
    facts: dict[str, Any]


def read_cell(run: RunFolder, method: str, seed: int, inference: InferenceCost | None) -> FinishedCell:
    """A finished run as a cell."""
    facts = json.loads(run.metrics.read_text(encoding="utf-8"))
    facts["precision"] = read_yaml(run.config)["runtime"]["precision"]
    info = read_info(run.pack)
    index = {name: number for number, name in enumerate(info.class_names)}
    with run.predictions.open(encoding="utf-8", newline="") as lines:
        rows = [(row["image"], index[row["class"]], index[row["predicted"]]) for row in csv.DictReader(lines)]
    images, labels, predicted = zip(*rows, strict=True)
    cost = Cost(
        trained_parameters=facts["trainable_parameters"],
        stored_bytes=facts["pack_bytes"],
        train_seconds=facts["train_seconds"],
        peak_memory_bytes=facts["peak_memory_bytes"],
        image_draws=facts["image_draws"],
        inference_ratio=None if inference is None else inference.ratio,
        inference_ms=None if inference is None else inference.milliseconds,
    )
    cell = Cell(
        method=method,
        seed=seed,
        metrics=Metrics.from_dict(facts["test"]),
        images=tuple(os.path.basename(image) for image in images),  # noqa: PTH119
        labels=np.array(labels, dtype=np.int64),
        predicted=np.array(predicted, dtype=np.int64),
        cost=cost,
    )
    return FinishedCell(cell, np.asarray(info.class_counts, dtype=np.int64), facts)


def check_same_images(run: RunFolder, fingerprint: str, test: LabelledImages) -> None:
    """Stop where a run that was begun before is of other images than those of now.

    Args:
        run: its folder.
        fingerprint: of the training images of now, as run.json has it.
        test: the test images of now.

    Raises:
        RunError: training or test images were added, removed or renamed.
    """
    changed = []
    if json.loads(run.facts.read_text(encoding="utf-8"))["data_sha256"] != fingerprint:
        changed.append("training images")
    if run.finished:
        with run.predictions.open(encoding="utf-8", newline="") as lines:
            before = [(os.path.basename(row["image"]), row["class"]) for row in csv.DictReader(lines)]  # noqa: PTH119
        now = [os.path.basename(test.name(index)) for index in range(len(test))]  # noqa: PTH119
        if before != [(name, test.class_names[label]) for name, label in zip(now, test.labels, strict=True)]:
            changed.append("test images")
    if changed:
        raise RunError(
            f"{run.path} is of other {' and '.join(changed)} than there are now: some were added, removed or renamed. "
            "Restore them, or choose another folder with --output."
        )


def check_same_weights(run: RunFolder, weights: BackboneRecord) -> None:
    """Stop where a run that was begun before has another backbone than that of now.

    Raises:
        RunError: the sha256 over its tensors is another.
    """
    if run.finished:
        before = read_info(run.pack).backbone.weight_hash
    else:
        before = json.loads(run.facts.read_text(encoding="utf-8"))["backbone_sha256"]
    if before != weights.weight_hash:
        raise RunError(
            f"{run.path} was trained on other weights (sha256 {before[:12]}) than those of {weights.name} now "
            f"({weights.weight_hash[:12]}{f', from {weights.checkpoint}' if weights.checkpoint else ''}). Give those "
            "with --checkpoint, or choose another folder with --output."
        )


def comparison_facts(
    base: Prepared, own: Mapping[str, Mapping[str, Any]], cells: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """What the tables say of how a comparison was made.

    Args:
        base: LPT's run, for data and backbone.
        own: settings of single methods, by name.
        cells: facts of each finished cell, for draws, machine, precision, versions and dates.
    """
    record, config = base.backbone.record, base.config
    height, width = base.preprocessing.size
    single = [f"{method}: {path}={value}" for method, values in own.items() for path, value in leaves(values)]

    def each(show: Callable[[Mapping[str, Any]], str]) -> str:
        return "; ".join(dict.fromkeys(show(facts) for facts in cells))

    return {
        "command": _command(),
        "data": str(config.data.source or "given in Python"),
        **({"notes": " ".join(base.splits.notes)} if base.splits.notes else {}),
        "backbone": f"{record.name} at {height}x{width}",
        "preset": config.preset,
        **({"settings of single methods": "; ".join(single)} if single else {}),
        "image_draws": " and ".join(sorted({f"{facts['image_draws']:,}" for facts in cells if facts["image_draws"]})),
        "machine": each(lambda facts: re.sub(r", [\d.]+ GiB free", "", facts["machine"]) + f", {facts['precision']}"),
        "versions": each(lambda facts: ", ".join(f"{name} {version}" for name, version in facts["versions"].items())),
        "date": each(lambda facts: facts["date"]),
    }


def _command() -> str:
    """What was typed, without the paths of this machine's Python."""
    _, *rest = sys.orig_argv
    if rest and Path(rest[0]).name == "lpt":
        return shlex.join(["lpt", *rest[1:]])
    return shlex.join(["python", *rest])
