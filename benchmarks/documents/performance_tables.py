"""Tables of docs/performance.md, made from the committed result files, for `benchmarks.documents.tables`."""

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


def from_file(name: str, table: Callable[[Result], list[str]]) -> Callable[[], str]:
    """A table of a result file, with what was run, where and when below it."""

    def made() -> str:
        path = RESULTS / f"{name}.json"
        if not path.exists():
            return MISSING
        result: Result = json.loads(path.read_text(encoding="utf-8"))
        return "\n".join([*table(result), "", source_of(result, path.name)])

    return made


def source_of(result: Result, file: str) -> str:
    """Command, hardware, versions, date and the raw file."""
    versions = result["versions"]
    hardware = f"{result['hardware']}; " if "hardware" in result else ""
    return (
        f"Command: `{result['command']}`. {hardware}torch {versions['torch']}, timm {versions['timm']}; "
        f"{result['date']}. Raw: [results/{file}](results/{file})."
    )


def rows_of(heading: Iterable[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """A Markdown table."""
    names = list(heading)
    lines = [names, ["---"] * len(names), *([str(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def kept_views(result: Result) -> list[str]:
    """Accuracy and cost of phase 2 against the number of kept views, first seed."""
    seed = min(one["seed"] for one in result["trials"])
    rows = [one for one in result["trials"] if one["seed"] == seed and one["query"] == "exact"]
    cells = []
    for one in sorted(rows, key=lambda row: row["views"] or 10**9):
        whole = one["filling_seconds"] + one["steps_seconds"]
        cells.append(
            [
                one["trial"],
                *(f"{100 * one['metrics'][name]:.1f}" for name in MEASURES),
                f"{one['kept_views']:,}" if one["views"] else "",
                f"{one['kept_bytes'] / 2**20:,.0f} MiB" if one["views"] else "",
                f"{one['filling_seconds']:.0f} s" if one["views"] else "",
                f"{one['steps_seconds']:.0f} s",
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
    """The cheap queries against the exact one, all seeds."""
    seeds = sorted({one["seed"] for one in result["trials"]})
    by = {(one["seed"], one["trial"]): one for one in result["trials"]}
    views = next(one["views"] for one in result["trials"] if one["query"] != "exact")
    base = f"views {views}"
    complete = [seed for seed in seeds if all((seed, name) in by for name in (base, "class token", "projection"))]
    cells = []
    for name, said in ((base, "exact"), ("class token", "class token"), ("projection", "linear projection of it")):
        runs = [by[seed, name] for seed in complete]
        gaps = {
            key: [100 * (by[seed, name]["metrics"][key] - by[seed, base]["metrics"][key]) for seed in complete]
            for key in ("overall", "few")
        }
        cells.append(
            [
                said,
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
    """Counted GFLOP for each image, and the ratios that follow."""
    rows = [(one["form"], one["case"], f"{one['gflop']:.2f}") for one in result["gflop_per_image"]]
    ratios = ", ".join(f"{name} {value:.2f}" for name, value in result["ratios"].items())
    return [*rows_of(["form", "what", "GFLOP"], rows), "", f"Counted ratios of textbook to LPT: {ratios}."]


def rates(result: Result) -> list[str]:
    """Images a second of every form, and the share of the measured matrix rate."""
    memory = any("working_memory_bytes" in one for one in result["rows"])
    cells = [
        [
            one["precision"],
            one["form"],
            one["case"],
            f"{one['images_per_second']:,.1f}",
            f"{one['gflop_per_second']:,.0f}",
            f"{100 * one['share_of_matrix_rate']:.0f} %",
            *([f"{one['working_memory_bytes'] / 2**20:,.0f} MiB"] if memory else []),
        ]
        for one in result["rows"]
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
    matrix = "; ".join(f"{name} {one['median']:,.0f}" for name, one in result["matrix_gflop_per_second"].items())
    why = "".join(f" {precision}: not measured ({reason})." for precision, reason in result["not_measured"].items())
    return [
        *rows_of(heading, cells),
        "",
        f"{result['what']}, {result['threads']} threads, {result['repeats']} interleaved repeats, medians; measured "
        f"matrix rate, GFLOP/s: {matrix}.{why}",
    ]


def shares(result: Result) -> list[str]:
    """What the time of each case goes to."""
    kinds = list(result["profile"][0]["shares"])
    cells = [
        [one["precision"], one["form"], one["case"], *(f"{100 * one['shares'][kind]:.0f} %" for kind in kinds)]
        for one in result["profile"]
    ]
    return rows_of(["precision", "form", "what", *kinds], cells)


def ratios(results: Iterable[str], targets: dict[str, str]) -> Callable[[], str]:
    """Measured beside counted and wanted ratios, for several result files."""

    def made() -> str:
        cells, commands = [], []
        for name in results:
            path = RESULTS / f"{name}.json"
            if not path.exists():
                cells.append([name, *["not measured"] * 6])
                continue
            result: Result = json.loads(path.read_text(encoding="utf-8"))
            commands.append(source_of(result, path.name))
            for one in result["ratios"]:
                low, high = one["range"]
                counted = f"{one['counted']:.2f}" if "counted" in one else ""
                share = f"{100 * one['share_of_counted']:.0f} %" if "share_of_counted" in one else ""
                backbone = f"{result['model']} at {result['size']}"
                wanted = targets.get(one["name"], "")
                spread_of = f"{low:.2f} to {high:.2f}"
                cells.append(
                    [
                        backbone,
                        one["precision"],
                        one["name"],
                        wanted,
                        f"**{one['measured']:.2f}**",
                        spread_of,
                        counted,
                        share,
                    ]
                )
        heading = ["backbone", "precision", "ratio", "aim", "measured", "range", "counted", "of counted"]
        return "\n".join([*rows_of(heading, cells), "", *commands])

    return made


def pipeline(result: Result) -> list[str]:
    """Loader, step and joint rates."""
    cells = [
        [
            one["case"],
            one["workers"],
            f"{one['loader']:,.0f}",
            *(f"{one[rate][phase]:,.1f}" for phase in ("1", "2") for rate in ("step", "joint")),
            f"{100 * one['kept_up']:.0f} %",
        ]
        for one in result["rows"]
    ]
    heading = ["data and size", "workers", "loader", "step 1", "joint 1", "step 2", "joint 2", "joint of step"]
    return [
        *rows_of(heading, cells),
        "",
        f"Images per second, two batches of {result['batch']}, seed {result['seed']}.",
    ]


def crops(result: Result) -> list[str]:
    """Two ways to cut thumbnails out, on one core."""
    cells = [
        [f"{one['side']} to {one['size']}", f"{one['pillow']:,}", f"{one['products']:,}",
         f"{one['products'] / one['pillow']:.2f}"] for one in result["crops_one_core"]
    ]  # fmt: skip
    return rows_of(["pixels", "Pillow, images/s", "matrix products, images/s", "ratio"], cells)


def spread(values: Iterable[float]) -> str:
    """`66.8`, or of several `66.8 ± 0.4`."""
    numbers = list(values)
    return f"{mean(numbers):.1f}" if len(numbers) == 1 else f"{mean(numbers):.1f} ± {stdev(numbers):.1f}"


def signed(values: list[float]) -> str:
    """`+0.2 ± 0.1`."""
    return f"{mean(values):+.1f}" if len(values) == 1 else f"{mean(values):+.1f} ± {stdev(values):.1f}"


AIMS = {
    "phase-2 step": "1.4",
    "phase-2 step, frozen part kept": "3.06 counted (4 in bfloat16)",
    "phase-1 step": "1.1",
    "inference": "1.45",
    "inference in plain forwards": "at most 1.45",
}
"""What was asked of float32 on two CPU cores."""

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
