"""Make the tables of performance.md about busy machines and cards, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from benchmarks.documents.performance_tables import RESULTS, Result, from_file, rows_of, source_of
from benchmarks.gpu.stages import METHODS, MODELS, PRECISIONS

OPEN = "not measured"
CASES = ("phase-1 step", "phase-2 step", "phase-2 step, frozen part kept", "inference")
ACCURACIES = ("overall", "many", "medium", "few")


def busy(result: Result) -> list[str]:
    """Return which part of the quiet rate each policy keeps, quiet and beside a companion."""
    aims = result["settings"]["aims"]
    cells = [
        [
            row["part"],
            row["policy"],
            *(text for name in aims for text in _kept(row[name], aims[name])),
            f"{row['beside']['seconds']['median']:.2f} s",
        ]
        for row in result["rows"]
    ]
    heading = ["part", "threads wait", "quiet", "best", "beside", "range", "a turn beside"]
    settings = result["settings"]
    return [
        *rows_of(heading, cells),
        "",
        f"Parts of the quiet rate of `libgomp` (GNU's OpenMP without settings), medians over rounds in turns; aims: "
        f"{aims['quiet']} quiet, {aims['beside']} beside {settings['companions']} process that keeps a core busy. "
        f"`default` is what the program sets: {settings['spin_count']:,} spins. ViT at {settings['size']}, "
        f"batches of {settings['batch']}.",
    ]


def _kept(numbers: dict[str, Any], aim: float) -> list[str]:
    """Return a share, bold where it reaches its aim, and the best one (quiet) or the range (beside)."""
    shown = f"{numbers['kept']:.2f}"
    low, high = numbers["range"]
    spread = f"{numbers['best']:.2f}" if aim > 0.5 else f"{low:.2f} to {high:.2f}"
    return [f"**{shown}**" if numbers["kept"] >= aim else shown, spread]


def stages() -> dict[str, Any]:
    """Return what was measured on a card, by stage."""
    path = RESULTS / "gpu.json"
    if not path.exists():
        return {}
    results = json.loads(path.read_text(encoding="utf-8"))["stages"]
    return {name: stage["result"] for name, stage in results.items() if "result" in stage}


def with_source(lines: list[str]) -> str:
    """Return a table of the card, with what was run, where and when, once there is a result file."""
    path = RESULTS / "gpu.json"
    if not path.exists():
        return "\n".join(lines)
    return "\n".join([*lines, "", source_of(json.loads(path.read_text(encoding="utf-8")), path.name)])


def parity() -> str:
    """Return how far results on a card are from the golden numbers."""
    cells = []
    for precision in PRECISIONS:
        stage = stages().get(f"parity {precision}")
        if stage is None:
            cells.append([precision, *[OPEN] * 4])
            continue
        largest = stage["largest"]
        cells.append(
            [
                precision,
                f"{largest['outputs']:.1e} ({stage['tolerance_of_outputs']:g})",
                f"{largest['gradients']:.1e} ({stage['tolerance_of_gradients']:g})",
                f"{stage['images_with_other_picks']} of {stage['images']}",
                "yes" if stage["agree"] else "; ".join(stage["outside_tolerance"]),
            ]
        )
    heading = ["precision", "outputs differ (tolerance)", "gradients differ (tolerance)", "other picks", "agree"]
    return with_source(rows_of(heading, cells))


def rates() -> str:
    """Return images per second and memory of LPT on a card, with the ratio to the textbook."""
    cells = []
    for model in MODELS:
        for precision in PRECISIONS:
            stage = stages().get(f"rates {model} {precision}")
            for case in CASES:
                cells.append([model, precision, case, *(_rate(stage, case) if stage else [OPEN] * 4)])
    heading = ["backbone at 224", "precision", "what", "LPT, images/s", "textbook, images/s", "ratio", "memory of LPT"]
    return with_source(rows_of(heading, cells))


def _rate(stage: dict[str, Any], case: str) -> list[str]:
    rows = {(row["form"], row["case"]): row for row in stage["rows"]}
    ours = rows["lpt", case]
    textbook = rows["textbook", case if ("textbook", case) in rows else "phase-2 step"]
    return [
        f"{ours['images_per_second']:,.0f}",
        f"{textbook['images_per_second']:,.0f}",
        f"**{stage['ratios'][case]['measured']:.2f}**",
        f"{ours['working_memory_bytes'] / 2**20:,.0f} MiB" if "working_memory_bytes" in ours else OPEN,
    ]


def accuracy() -> str:
    """Return the accuracies of the methods trained on a card."""
    cells = []
    for method in METHODS:
        stage = stages().get(f"accuracy {method}")
        if stage is None:
            cells.append([method, *[OPEN] * 6])
            continue
        values = [stage["test"][name] for name in ACCURACIES]
        shown = ["" if value is None else f"{100 * value:.1f}" for value in values]
        cells.append(
            [method, *shown, f"{stage['train_seconds']:.0f} s", f"{stage['peak_memory_bytes'] / 2**20:,.0f} MiB"]
        )
    return with_source(rows_of(["method", *ACCURACIES, "training", "memory"], cells))


TABLES: dict[str, Callable[[], str]] = {
    "busy": from_file("busy", busy),
    "gpu_parity": parity,
    "gpu_rates": rates,
    "gpu_accuracy": accuracy,
}
