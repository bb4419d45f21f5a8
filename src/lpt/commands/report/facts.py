"""Say in words what was trained on what, what it cost, and how to do it again."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lpt.commands.report.kept import KeptRun
from lpt.config.values import section
from lpt.data.longtail import imbalance_factor
from lpt.evaluation.comparison import Cost
from lpt.report.card import held_out, method_line
from lpt.report.html.content import Facts
from lpt.system.files import last_part
from lpt.system.text import duration, plural, size_of

COST_COLUMNS = ("trained numbers", "stored", "training time", "peak memory", "image draws")
INFERENCE_COLUMN = "per image"
_UNKNOWN = "–"


def data_title(run: KeptRun) -> str:
    """Return the name of the data: the last part of its source, with its folder if it is a table."""
    source = section(run.config, "data").get("source")
    if not source:
        return plural(len(run.counts), "class")
    path = Path(str(source))
    return f"{last_part(path.parent)}/{path.name}" if path.suffix else last_part(path)


def trained_facts(run: KeptRun) -> Facts:
    """Return what was trained on what."""
    info, counts = run.info, run.counts
    present = counts[counts > 0]
    backbone, (height, width) = info.backbone, info.preprocessing.size
    facts = [
        ("Data", str(section(run.config, "data").get("source") or "given in Python")),
        (
            "Training images",
            f"{int(counts.sum()):,}{held_out(info)} of {plural(len(present), 'class')}, {present.max():,} to "
            f"{present.min():,} a class (imbalance factor {imbalance_factor(present):.1f})",
        ),
    ]
    if run.metrics is not None:
        facts.append(("Measured on", f"{run.metrics.images:,} {run.split} images"))
    return [
        *facts,
        ("Method", method_line(info.method)),
        (
            "Backbone",
            f"{backbone.name} ({backbone.parameters / 1e6:.1f} M parameters, licence {backbone.licence}) "
            f"at {height}×{width} pixels",
        ),
        (
            "Pack",
            f"{info.method.trainable_parameters:,} numbers, {size_of(int(run.results['pack_bytes']))}, "
            f"{100 * info.method.share_of_backbone:.1f} % of the backbone",
        ),
    ]


def cost_of(run: KeptRun) -> list[str]:
    """Return the columns of the cost table of a run."""
    named = {"trained_parameters": "trainable_parameters", "stored_bytes": "pack_bytes"}  # as metrics.json has them
    return cost_texts({field.name: run.results.get(named.get(field.name, field.name)) for field in fields(Cost)})


def cost_texts(costs: Mapping[str, float | None]) -> list[str]:
    """Return costs in the order of `COST_COLUMNS`, by the names that `Cost` has."""

    def text(name: str, show: Any) -> str:
        value = costs.get(name)
        return _UNKNOWN if value is None else str(show(value))

    return [
        text("trained_parameters", lambda value: f"{value:,.0f}"),
        text("stored_bytes", lambda value: size_of(round(value))),
        text("train_seconds", duration),
        text("peak_memory_bytes", lambda value: size_of(round(value))),
        text("image_draws", lambda value: f"{value:,.0f}"),
    ]


def inference_text(milliseconds: float | None, ratio: float | None) -> str:
    """Return what an image costs: `1.9 ms, 1.5 passes of the backbone`."""
    if milliseconds is None:
        return _UNKNOWN
    passes = "" if ratio is None else f", {ratio:.2f}× the backbone"
    return f"{milliseconds:.2f} ms{passes}"


def record_of(run: KeptRun) -> Facts:
    """Return how to do a run again: command, seed, versions, machine, fingerprints."""
    facts, folder = run.facts, run.folder
    again = ["lpt", "fit", "--config", str(folder.config), "--output", "NEW_FOLDER"]
    measured = facts.get("measured_images") or {}
    rows = [
        ("Command", facts.get("command", "")),
        ("The same run again", shlex.join(again)),
        ("Seed", str(run.seed)),
        ("Preset", run.results["preset"]),
        ("Versions", _versions(facts.get("versions") or {})),
        ("Machine", str(facts.get("machine", ""))),
        ("Date", run.results["date"]),
        ("Training images, SHA-256", str(facts.get("data_sha256", ""))),
        *((f"{str(name).capitalize()} images, SHA-256", str(value)) for name, value in measured.items()),
        ("Backbone, SHA-256", run.info.backbone.weight_hash),
        ("Pack, SHA-256", run.info.tensors_sha256),
        ("Folder", str(folder.path.absolute())),
    ]
    return [(name, value) for name, value in rows if value]


def comparison_facts(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the facts that comparison.json has of itself, under names for a reader."""
    return [(str(name).replace("_", " ").capitalize(), _plain(value)) for name, value in facts.items() if value]


def written_line() -> str:
    """Return the date and the program of the report."""
    return f"Written on {datetime.now(UTC):%Y-%m-%d} by lpt {version('lpt')}."


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return _versions(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return shlex.join(map(str, value))
    return str(value)


def _versions(versions: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items())
