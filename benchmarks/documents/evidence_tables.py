"""Make the tables that answer the questions of docs/explanation, for `benchmarks.documents.tables`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from zipfile import ZipFile

from benchmarks.documents.compare_tables import OVERVIEW, Row
from benchmarks.documents.performance_tables import MEASURES, MISSING, RESULTS, rows_of
from lpt.config.recipes import METHODS
from lpt.report.comparison_tables import ACCURACIES, COSTS, cost_text, difference_text, with_std

SEVERAL_SEEDS = ("compare_cifar100_if100_96", "compare_cifar100_if100_128")


def leads(*rivals: str) -> Callable[[], str]:
    """Return a maker of LPT's lead over some methods on all images they were compared on, with its interval."""
    measures = (MEASURES[0], "mean_per_class", *MEASURES[1:])

    def make() -> str:
        lines = [
            [images, METHODS[rival].title, str(len(lead["seeds"])), *(_difference(lead, name) for name in measures)]
            for images, lead, rival in _leads(OVERVIEW, rivals)
        ]
        return _table(["images", "LPT ahead of", "seeds", *(ACCURACIES[name] for name in measures)], lines)

    return make


def leads_by_seed(*rivals: str) -> Callable[[], str]:
    """Return a maker of LPT's lead over some methods in each seed, where there are several."""

    def make() -> str:
        lines = [
            [images, METHODS[rival].title, *(_seeds(lead["measures"][name]["by_seed"]) for name in MEASURES)]
            for images, lead, rival in _leads(SEVERAL_SEEDS, rivals)
            if len(lead["seeds"]) > 1
        ]
        return _table(["images", "LPT ahead of, in seeds 0, 1 and 2", *MEASURES], lines)

    return make


def phases() -> str:
    """Return accuracy and cost of LPT beside its first phase alone, on all images."""
    lines = []
    costs = ("trained_parameters", "train_seconds", "inference_ratio")
    for name in OVERVIEW:
        for row in _comparison(name).get("methods", []):
            if row["method"] in ("lpt-phase1", "lpt") and _lead(name, "lpt-phase1"):
                accuracies = [with_std(row["metrics"][measure], several=False) for measure in MEASURES]
                cells = [*accuracies, *(cost_text(cost, row["cost"][cost]) for cost in costs)]
                lines.append([OVERVIEW[name], row["title"], *cells])
    return _table(["images", "method", *MEASURES, *(COSTS[cost] for cost in costs)], lines)


def disagreements() -> str:
    """Return how often the two phases of LPT predict otherwise than the first alone, and which of them is right."""
    lines = []
    for name in OVERVIEW:
        counts = [0, 0, 0, 0]
        for seed in _lead(name, "lpt-phase1").get("seeds", []):
            both, first = (_predictions(name, method, seed) for method in ("lpt", "lpt-phase1"))
            for image, (label, predicted) in both.items():
                alone = first[image][1]
                counts[0] += 1
                counts[1] += predicted != alone
                counts[2] += predicted == label != alone
                counts[3] += alone == label != predicted
        if counts[0]:
            share = f"{counts[1]:,} ({100 * counts[1] / counts[0]:.1f} %)"
            lines.append([OVERVIEW[name], f"{counts[0]:,}", share, f"{counts[2]:,}", f"{counts[3]:,}"])
    heading = ["images", "predictions, all seeds", "the two differ", "both phases right", "phase 1 alone right"]
    return _table(heading, lines)


def sizes(classes: int = 100) -> str:
    """Return the numbers that LPT trains in its published sizes, for two backbones at 224 pixels."""
    prompt, pool, blocks = 10, 20, 12
    lines = []
    for title, width in (("ViT-Ti/16", 192), ("ViT-B/16", 768)):
        backbone = 198 * width + 769 * width + blocks * (12 * width**2 + 13 * width) + 2 * width
        parts = {
            "shared": blocks * prompt * width,
            "groups": pool * (blocks // 2) * prompt * width,
            "keys": pool * width,
        }
        trained = sum(parts.values())
        head = classes * width
        share = f"{100 * trained / backbone:.1f} %"
        stored = f"{4 * (trained + head) / 1e6:.1f} MB"
        lines.append([title, f"{backbone:,}", *(f"{size:,}" for size in parts.values()), share, f"{head:,}", stored])
    heading = ["backbone", "its numbers", "shared prompt", "group prompts", "keys", "prompts and keys, of the backbone"]
    note = (
        f"Prompts of {prompt} tokens, {pool} group prompts in half of the {blocks} blocks, a head of {classes} "
        "classes; float32."
    )
    return "\n".join([_table([*heading, "head", "all stored"], lines), "", note])


def _table(heading: Iterable[str], lines: list[list[str]]) -> str:
    return "\n".join(rows_of(heading, lines)) if lines else MISSING


def _leads(names: Iterable[str], rivals: Iterable[str]) -> list[tuple[str, Row, str]]:
    """Return the images, LPT's lead and the rival wherever both were run."""
    every = [(OVERVIEW[name], _lead(name, rival), rival) for name in names for rival in rivals]
    return [(images, lead, rival) for images, lead, rival in every if lead]


def _lead(name: str, rival: str) -> Row:
    """Return LPT's lead over a method in a result folder; empty if it was not run there."""
    return next((lead for lead in _comparison(name).get("differences", []) if lead["method"] == rival), {})


def _comparison(name: str) -> Row:
    path = RESULTS / name / "comparison.json"
    content: Row = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return content


def _predictions(name: str, method: str, seed: int) -> dict[str, tuple[str, str]]:
    """Return class and prediction of each test image of a cell."""
    with ZipFile(RESULTS / name / "cells" / f"{method}_seed{seed}.zip") as cell:
        rows = csv.DictReader(io.StringIO(cell.read("predictions.csv").decode("utf-8")))
        return {row["image"]: (row["class"], row["predicted"]) for row in rows}


def _difference(lead: Row, measure: str) -> str:
    return difference_text(lead["measures"].get(measure))


def _seeds(values: Iterable[float]) -> str:
    return ", ".join(f"{100 * value:+.1f}".replace("-", "−") for value in values)


TABLES: dict[str, Callable[[], str]] = {
    "leads": leads("fine-tuning-la", "lift"),
    "leads_by_seed": leads_by_seed("fine-tuning-la", "lift", "vpt-gcl-drw"),
    "phases": phases,
    "phase_leads": leads("lpt-phase1"),
    "phase_leads_by_seed": leads_by_seed("lpt-phase1"),
    "disagreements": disagreements,
    "sizes": sizes,
}
