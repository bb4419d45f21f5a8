"""Make the tables of performance.md from the committed result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.scale.table import cost_table, growth_table

RESULTS = Path(__file__).parent.parent.parent / "docs" / "results"
MEASURES = ("overall", "many", "medium", "few")
MISSING = "Not measured yet."

Result = dict[str, Any]


def raw_link(name: str, file: str | None = None) -> str:
    """Return the link from a document in a folder of docs to a raw result, or to a file in its folder."""
    return f"[results/{name}](../results/{file or name})"


def from_file(name: str, table: Callable[[Result], list[str]]) -> Callable[[], str]:
    """Return a maker of a table of a result file, with what was run, where and when below it."""

    def make() -> str:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            return MISSING
        result: Result = json.loads(path.read_text(encoding="utf-8"))
        return "\n".join([*table(result), "", source_of(result, path.name)])

    return make


def source_of(result: Result, file: str) -> str:
    """Return the line below a table: command, hardware, versions, date and the raw file.

    A script that is no longer here is in the commit that the result names.
    """
    versions = result["versions"]
    command = f"Command: `{result['command']}`" + (f" of commit {result['commit']}" if "commit" in result else "")
    hardware = f"{result['hardware']}; " if "hardware" in result else ""
    return (
        f"{command}. {hardware}torch {versions['torch']}, timm {versions['timm']}; "
        f"{result['date']}. Raw: {raw_link(file)}."
    )


def rows_of(heading: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a Markdown table."""
    names = list(heading)
    lines = [names, ["---"] * len(names), *([str(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def kept_views(result: Result) -> list[str]:
    """Return accuracy and cost of phase 2 against the number of kept views, of the first seed."""
    seed = min(trial["seed"] for trial in result["trials"])
    rows = [trial for trial in result["trials"] if trial["seed"] == seed and trial["query"] == "exact"]
    cells = []
    for trial in sorted(rows, key=lambda row: row["views"] or 10**9):
        whole = trial["filling_seconds"] + trial["steps_seconds"]
        cells.append(
            [
                trial["trial"],
                *(f"{100 * trial['metrics'][name]:.1f}" for name in MEASURES),
                f"{trial['kept_views']:,}" if trial["views"] else "",
                f"{trial['kept_bytes'] / 2**20:,.0f} MiB" if trial["views"] else "",
                f"{trial['filling_seconds']:.0f} s" if trial["views"] else "",
                f"{trial['steps_seconds']:.0f} s",
                f"{whole:.0f} s",
            ]
        )
    heading = ["views", *MEASURES, "kept", "size", "filling", "steps", "whole phase"]
    first = rows[0]
    return [
        *rows_of(heading, cells),
        "",
        f"{result['what']}; groups: {result['boundaries']}. Seed {seed}, {first['steps']} steps, "
        f"{first['draws']:,} draws.",
    ]


def queries(result: Result) -> list[str]:
    """Return the cheap queries against the exact one, over all seeds."""
    seeds = sorted({trial["seed"] for trial in result["trials"]})
    trials = {(trial["seed"], trial["trial"]): trial for trial in result["trials"]}
    views = next(trial["views"] for trial in result["trials"] if trial["query"] != "exact")
    base = f"views {views}"
    complete = [seed for seed in seeds if all((seed, name) in trials for name in (base, "class token", "projection"))]
    cells = []
    for name, title in ((base, "exact"), ("class token", "class token"), ("projection", "linear projection of it")):
        runs = [trials[seed, name] for seed in complete]
        gaps = {
            key: [100 * (trials[seed, name]["metrics"][key] - trials[seed, base]["metrics"][key]) for seed in complete]
            for key in ("overall", "few")
        }
        cells.append(
            [
                title,
                *(spread([100 * run["metrics"][key] for run in runs]) for key in MEASURES),
                *("" if name == base else signed(gaps[key]) for key in ("overall", "few")),
                "" if name == base else f"{mean(run['query_cosine'] for run in runs):.3f}",
                "" if name == base else f"{100 * mean(run['same_best_key'] for run in runs):.0f} %",
            ]
        )
    heading = ["query", *MEASURES, "overall against exact", "few against exact", "cosine to exact", "same best key"]
    return [
        *rows_of(heading, cells),
        "",
        f"{result['what']}; groups: {result['boundaries']}. Seeds {', '.join(map(str, complete))} (mean ± standard "
        "deviation; differences are paired by seed).",
    ]


def counts(result: Result) -> list[str]:
    """Return counted GFLOP for each image, and the ratios that follow."""
    rows = [(row["form"], row["case"], f"{row['gflop']:.2f}") for row in result["gflop_per_image"]]
    ratios = ", ".join(f"{name} {value:.2f}" for name, value in result["ratios"].items())
    return [*rows_of(["form", "what", "GFLOP"], rows), "", f"Counted ratios of textbook to LPT: {ratios}."]


def rates(result: Result) -> list[str]:
    """Return images per second of every form, and the share of the measured matrix rate."""
    memory = any("working_memory_bytes" in row for row in result["rows"])
    cells = [
        [
            row["precision"],
            row["form"],
            row["case"],
            f"{row['images_per_second']:,.1f}",
            f"{row['gflop_per_second']:,.0f}",
            f"{100 * row['share_of_matrix_rate']:.0f} %",
            *([f"{row['working_memory_bytes'] / 2**20:,.0f} MiB"] if memory else []),
        ]
        for row in result["rows"]
    ]
    heading = [
        "precision",
        "form",
        "what",
        "images/s",
        "GFLOP/s",
        "of the matrix rate",
        *(["memory"] if memory else []),
    ]
    matrix = "; ".join(f"{name} {row['median']:,.0f}" for name, row in result["matrix_gflop_per_second"].items())
    why = "".join(f" {precision}: not measured ({reason})." for precision, reason in result["not_measured"].items())
    return [
        *rows_of(heading, cells),
        "",
        f"{result['what']}, {result['threads']} threads, {result['repeats']} interleaved repeats, medians; measured "
        f"matrix rate, GFLOP/s: {matrix}.{why}",
    ]


def shares(result: Result) -> list[str]:
    """Return how the time of each case divides among kinds of operations."""
    kinds = list(result["profile"][0]["shares"])
    cells = [
        [row["precision"], row["form"], row["case"], *(f"{100 * row['shares'][kind]:.0f} %" for kind in kinds)]
        for row in result["profile"]
    ]
    return rows_of(["precision", "form", "what", *kinds], cells)


def ratios(results: Iterable[str], targets: dict[str, str]) -> Callable[[], str]:
    """Return a maker of measured beside counted and wanted ratios, for several result files."""

    def make() -> str:
        cells, commands = [], []
        for name in results:
            path = RESULTS / f"{name}.json"
            if not path.exists():
                cells.append([name, *["not measured"] * 6])
                continue
            result: Result = json.loads(path.read_text(encoding="utf-8"))
            commands.append(source_of(result, path.name))
            for row in result["ratios"]:
                low, high = row["range"]
                counted = f"{row['counted']:.2f}" if "counted" in row else ""
                share = f"{100 * row['share_of_counted']:.0f} %" if "share_of_counted" in row else ""
                backbone = f"{result['model']} at {result['size']}"
                wanted = targets.get(row["name"], "")
                spread_of = f"{low:.2f} to {high:.2f}"
                cells.append(
                    [
                        backbone,
                        row["precision"],
                        row["name"],
                        wanted,
                        f"**{row['measured']:.2f}**",
                        spread_of,
                        counted,
                        share,
                    ]
                )
        heading = ["backbone", "precision", "ratio", "aim", "measured", "range", "counted", "of counted"]
        return "\n".join([*rows_of(heading, cells), "", *commands])

    return make


def pipeline(result: Result) -> list[str]:
    """Return loader, step and joint rates."""
    cells = [
        [
            row["case"],
            row["workers"],
            f"{row['loader']:,.0f}",
            *(f"{row[rate][phase]:,.1f}" for phase in ("1", "2") for rate in ("step", "joint")),
            f"{100 * row['kept_up']:.0f} %",
        ]
        for row in result["rows"]
    ]
    heading = ["data and size", "workers", "loader", "step 1", "joint 1", "step 2", "joint 2", "joint of step"]
    return [
        *rows_of(heading, cells),
        "",
        f"Images per second, two batches of {result['batch']}, seed {result['seed']}.",
    ]


def crops(result: Result) -> list[str]:
    """Return the rates of two ways to crop thumbnails, on one core."""
    cells = [
        [f"{row['side']} to {row['size']}", f"{row['pillow']:,}", f"{row['products']:,}",
         f"{row['products'] / row['pillow']:.2f}"] for row in result["crops_one_core"]
    ]  # fmt: skip
    return rows_of(["pixels", "Pillow, images/s", "matrix products, images/s", "ratio"], cells)


def spread(values: Iterable[float]) -> str:
    """Return the mean, or of several values the mean and deviation: `66.8`, `66.8 ± 0.4`."""
    numbers = list(values)
    return f"{mean(numbers):.1f}" if len(numbers) == 1 else f"{mean(numbers):.1f} ± {stdev(numbers):.1f}"


def signed(values: list[float]) -> str:
    """Return the mean with its sign, and the deviation: `+0.2 ± 0.1`."""
    return f"{mean(values):+.1f}" if len(values) == 1 else f"{mean(values):+.1f} ± {stdev(values):.1f}"


AIMS = {
    "phase-2 step": "1.4",
    "phase-2 step, frozen part kept": "3.06 counted (4 in bfloat16)",
    "phase-1 step": "1.1",
    "inference": "1.45",
    "inference in plain forwards": "at most 1.45",
}
"""The ratios to reach in float32 on two CPU cores."""

TABLES: dict[str, Callable[[], str]] = {
    "counts": from_file("counts_vit_tiny_224", counts),
    "speed_ratios": ratios(["speed_vit_tiny_224", "speed_vit_base_224"], AIMS),
    "speed_rates_tiny": from_file("speed_vit_tiny_224", rates),
    "speed_rates_base": from_file("speed_vit_base_224", rates),
    "speed_shares": from_file("speed_vit_tiny_224", shares),
    "pipeline": from_file("pipeline_cpu", pipeline),
    "crops": from_file("pipeline_cpu", crops),
    "scale_cost": from_file("scale_inaturalist", lambda record: cost_table(record).splitlines()),
    "scale_growth": from_file("scale_inaturalist", lambda record: growth_table(record).splitlines()),
    "kept_views": from_file("frozen_prefix", kept_views),
    "queries": from_file("frozen_prefix", queries),
}
