"""Markdown and terminal tables of a comparison, from the content of comparison.json."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from lpt.data.longtail import CLASS_SIZE
from lpt.evaluation.comparison import ranked_rows
from lpt.report.tables import MISSING
from lpt.system.text import plural

ACCURACIES = {
    "overall": "overall",
    "mean_per_class": "mean per class",
    "many": "many",
    "medium": "medium",
    "few": "few",
    "worst_decile": "worst tenth",
    "macro_f1": "macro-F1",
    "harmonic_mean": "harmonic mean",
    "ece": "ECE",
}
LOWER_IS_BETTER = ("ece",)
COSTS = {
    "trained_parameters": "trained parameters",
    "stored_bytes": "stored for the task",
    "train_seconds": "training, s",
    "peak_memory_bytes": "peak memory of the process",
    "image_draws": "image draws",
    "inference_ms": "inference, ms an image",
    "inference_ratio": "× backbone",
}
_QUESTIONS = {
    "overall": "Overall",
    "mean_per_class": "Mean over classes, rare ones counting as much",
    "few": "Few-shot classes",
    "many": "Many-shot classes",
}
DIFFERENCES = {name: ACCURACIES[name] for name in ("overall", "mean_per_class", "many", "medium", "few")}
_SHORT = {"overall": "overall", "mean_per_class": "mean per\nclass", "many": "many", "medium": "medium", "few": "few"}

Row = Mapping[str, Any]


def markdown(summary: Row) -> str:
    """Return comparison.md: accuracies, costs, differences, what is missing, and how it was made."""
    parts = [
        ["# Comparison", "", *_introduction(summary)],
        ["## In short", "", *(f"- {line}" for line in in_short(summary))],
        ["## Accuracy on the test images", "", *_accuracy_notes(summary), "", *_accuracy(summary)],
        ["![Accuracy by shot group](groups.png)", "", "![Accuracy by class size](accuracy_by_count.png)"],
        ["## Cost", "", *_cost(summary), "", "![Accuracy against cost](cost.png)"],
        ["## Differences", "", *_differences(summary)],
        ["## What was not run", "", *not_run(summary, bullet="- ")],
        ["## How it was made", "", *_facts(summary)],
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def comparison_tables(summary: Row) -> list[RenderableType]:
    """Return what the terminal shows: a table of accuracies and costs, one of differences, and notes."""
    rows = [row for row in summary["methods"] if row["seeds"]]
    several, best = _several(rows), _Best(rows, summary["reference"])
    table = _terminal_table("accuracy, %", [*_SHORT.values(), "trained\nparameters", "training,\ns", "seeds"])
    for row in rows:
        cells = [Text(with_std(row["metrics"][name], several), "bold" * best(row, name)) for name in _SHORT]
        costs = [cost_text(name, row["cost"][name]) for name in ("trained_parameters", "train_seconds")]
        title = Text(row["title"], style="bold" * (row["method"] == summary["reference"]))
        table.add_row(title, *cells, *costs, _seeds(row))
    parts: list[RenderableType] = [table]
    if summary["differences"]:
        titles = {row["method"]: row["title"] for row in summary["methods"]}
        name = f"{titles.get(summary['reference'], summary['reference'])} less"
        table = _terminal_table(name, ["overall", "few", "seeds"])
        for difference in summary["differences"]:
            values = [difference_text(difference["measures"].get(measure)) for measure in ("overall", "few")]
            table.add_row(Text(titles[difference["method"]]), *values, str(len(difference["seeds"])))
        parts.append(table)
    parts.append(Padding(Text("\n".join(in_short(summary))), (0, 2, 1, 2)))
    notes = _plain_notes(summary)
    for difference in summary["differences"][:1]:
        notes.append(
            f"Brackets: {100 * difference['confidence']:.0f} % paired bootstrap interval over test images "
            f"({difference['resamples']:,} resamples), in percentage points."
        )
    notes += not_run(summary)
    return [*parts, Padding(Text("\n".join(notes), style="dim"), (0, 2))]


def in_short(summary: Row) -> list[str]:
    """Say which method is highest, a sentence for each of `_QUESTIONS`, and how sure LPT's distance to it is.

    Only `ranked_rows` are compared, as means over other seeds may be of other cuts. The mean over classes is left out
    where it equals the overall accuracy, with as many test images of each class.
    """
    rows = ranked_rows(summary["methods"], summary["reference"])
    if len(rows) < 2:
        finished = [row for row in summary["methods"] if row["seeds"]]
        if len(finished) > 1:
            return [
                "No two methods have the same seeds finished: none is ranked yet. Give all of them the same (--seeds)."
            ]
        return ["One method only has a result; nothing is compared yet." if rows else "No method has a result yet."]
    lines = []
    even = all(_same(row["metrics"]["overall"], row["metrics"]["mean_per_class"]) for row in rows)
    for measure, question in _QUESTIONS.items():
        if measure == "mean_per_class" and even:
            continue
        ranked = [row for row in rows if row["metrics"][measure]["mean"] is not None]
        ranked.sort(key=lambda row: row["metrics"][measure]["mean"], reverse=True)
        if len(ranked) > 1:
            best = f"{ranked[0]['title']} is highest, {100 * ranked[0]['metrics'][measure]['mean']:.1f} %."
            lines.append(" ".join([f"{question}: {best}", *_distance(summary, ranked, measure)]))
    others = [row["title"] for row in summary["methods"] if row["seeds"] and row not in rows]
    if others:
        lines.append(f"Of {_named_seeds(rows[0]['seeds'])}; not ranked, with others or fewer: {', '.join(others)}.")
    if len(rows[0]["seeds"]) == 1:
        lines.append("One seed only: whether small differences last, more seeds say (--seeds 0,1,2).")
    return lines


def _same(first: Row, second: Row) -> bool:
    """Say whether two means are equal up to rounding."""
    return first["mean"] is not None and second["mean"] is not None and abs(first["mean"] - second["mean"]) < 1e-9


def _distance(summary: Row, ranked: Sequence[Row], measure: str) -> list[str]:
    """Say how far the reference is from the best method, or from the next one if it is the best itself.

    The distance is over the seeds that both have, so the reference need not be ranked. Empty without a reference.
    """
    reference = next((row for row in summary["methods"] if row["method"] == summary["reference"]), None)
    if reference is None:
        return []
    other = ranked[1] if reference is ranked[0] else ranked[0]
    leads = {difference["method"]: difference["measures"].get(measure) for difference in summary["differences"]}
    lead = leads.get(other["method"])
    if lead is None:
        return []
    name = f"{other['title']}, the next" if other is ranked[1] else str(other["title"])
    distance = f"{reference['title']} less {name}: {difference_text(lead)}"
    unsure = lead["low"] is None or lead["low"] <= 0 <= lead["high"]
    return [f"{distance}; other test images could turn that round." if unsure else f"{distance}."]


def with_std(value: Row, several: bool) -> str:
    """Write a mean in percent: `66.8 ± 0.4`; `66.8 ± –` if only other rows have several seeds; `–` without a mean."""
    if value["mean"] is None:
        return MISSING
    mean = f"{100 * value['mean']:.1f}"
    if value["std"] is None:
        return f"{mean} ± {MISSING}" if several else mean
    return f"{mean} ± {100 * value['std']:.1f}"


def cost_text(name: str, value: Row) -> str:
    """Write a cost in its unit, the mean over seeds."""
    mean = value["mean"]
    if mean is None:
        return MISSING
    if name.endswith("_bytes"):
        return _bytes(mean)
    if name == "inference_ratio":
        return f"{mean:.2f}"
    if name == "inference_ms":
        return f"{mean:.1f}"
    return f"{mean:.1f}" if name == "train_seconds" and mean < 100 else f"{mean:,.0f}"


def difference_text(value: Row | None) -> str:
    """Write a difference in percentage points with its interval: `+1.3 [+0.6, +2.0]`."""
    if value is None:
        return MISSING
    if value["low"] is None:
        return f"{_points(value['mean'])} [{MISSING}]"
    return f"{_points(value['mean'])} [{_points(value['low'])}, {_points(value['high'])}]"


def not_run(summary: Row, bullet: str = "") -> list[str]:
    """Name the cells that are not finished, a line for each method and reason."""
    titles = {row["method"]: row["title"] for row in summary["methods"]}
    lines = []
    seeds_of = dict[tuple[str, str], list[int]]()
    for cell in summary["missing"]:
        seeds_of.setdefault((cell["method"], cell["reason"]), []).append(cell["seed"])
    for (method, reason), seeds in seeds_of.items():
        name = f"{titles[method]} ({method})" if titles[method] != method else method
        lines.append(f"{bullet}Not finished: {name}, {_named_seeds(sorted(seeds))}: {' '.join(reason.split())}")
    empty = [row for row in summary["methods"] if not row["seeds"] and not row["missing_seeds"]]
    lines += [f"{bullet}Not started: {row['title']}" for row in empty]
    return lines or ["Every method that was asked for has every seed."]


def _introduction(summary: Row) -> list[str]:
    images = _range(list(summary["train_images"].values()))
    tested = _range(summary["test_images"]) if summary["test_images"] else "no"
    finished, wanted = len(summary["cells"]), len(summary["cells"]) + len(summary["missing"])
    return [
        f"{plural(len(summary['methods']), 'method')} on {plural(summary['classes'], 'class')}: {images} training "
        f"images, {tested} test images, {_named_seeds(summary['seeds'])}. "
        f"{finished} of {plural(wanted, 'run')} finished."
    ]


def _named_seeds(seeds: Sequence[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def _accuracy_notes(summary: Row) -> list[str]:
    return [
        " ".join(_plain_notes(summary)),
        "",
        "Worst tenth: mean accuracy of the worst tenth of the classes. Harmonic mean: of the accuracies of the classes "
        "(0 if a class is never recognised). ECE: expected calibration error, 15 bins, less is better. "
        "Bold: best mean among the rows with the most seeds, of the same ones.",
    ]


def _plain_notes(summary: Row) -> list[str]:
    notes = [
        "Accuracies in percent.",
        f"Groups by {CLASS_SIZE}: {summary['boundaries']}; the value of a group is the mean over its classes.",
    ]
    if len(summary["group_classes"]) == 1:
        many, medium, few = summary["group_classes"][0]
        notes.append(f"Tested classes: {many:,} many, {medium:,} medium, {few:,} few.")
    if _several(summary["methods"]):
        notes.append(f"± is the standard deviation over seeds, {MISSING} where there is one seed only.")
    return notes


def _accuracy(summary: Row) -> list[str]:
    rows = summary["methods"]
    several, best = _several(rows), _Best(rows, summary["reference"])
    lines = []
    for row in rows:
        shown = {name: with_std(row["metrics"][name], several) for name in ACCURACIES}
        cells = [f"**{text}**" if best(row, name) else text for name, text in shown.items()]
        lines.append([row["title"], *cells, _seeds(row)])
    return _table(["method", *ACCURACIES.values(), "seeds"], lines)


def _cost(summary: Row) -> list[str]:
    lines = [
        [row["title"], *(cost_text(name, row["cost"][name]) for name in COSTS), _seeds(row)]
        for row in summary["methods"]
    ]
    return [
        "Means over seeds. Stored for the task: beside the frozen backbone, which all tasks share.",
        "",
        *_table(["method", *COSTS.values(), "seeds"], lines),
    ]


def _differences(summary: Row) -> list[str]:
    titles = {row["method"]: row["title"] for row in summary["methods"]}
    reference = titles.get(summary["reference"], summary["reference"])
    if not summary["differences"]:
        return [f"None: {reference} and another method must have finished a seed in common."]
    lines = []
    for difference in summary["differences"]:
        values = [difference["measures"].get(name) for name in DIFFERENCES]
        std = [_std(difference["measures"].get(name)) for name in ("overall", "few")]
        seeds = ", ".join(map(str, difference["seeds"]))
        lines.append([titles[difference["method"]], *map(difference_text, values), " / ".join(std), seeds])
    first = summary["differences"][0]
    apart = "" if all(row["same_images"] for row in summary["differences"]) else (
        " The seeds have different test images, resampled apart; the interval is that of seeds that depend on each "
        "other fully, so rather too wide."
    )  # fmt: skip
    return [
        f"{reference} less each other method, in percentage points, over the seeds that both have, with the "
        f"{100 * first['confidence']:.0f} % interval of a paired bootstrap: {first['resamples']:,} resamples of the "
        "test images within each class, the same for both methods and all seeds. The interval says what other test "
        "images could have given with these very models; how far seeds move the difference is the standard deviation "
        f"beside it, not a part of the interval.{apart}",
        "",
        *_table(["less", *DIFFERENCES.values(), "± over seeds, overall / few", "seeds"], lines),
    ]


def _facts(summary: Row) -> list[str]:
    lines = [f"- seeds: {', '.join(map(str, summary['seeds']))}"]
    return [*lines, *(f"- {_escape(str(name))}: {_fact(name, value)}" for name, value in summary["facts"].items())]


def _fact(name: str, value: Any) -> str:
    if name == "command":
        return f"`{value if isinstance(value, str) else shlex.join(map(str, value))}`"
    if isinstance(value, Mapping):
        return _escape(", ".join(f"{key} {part}" for key, part in value.items()))
    return _escape(", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value))


class _Best:
    """A test for bold print: whether a row's mean, as shown, is the best of the ranked ones and not that of all."""

    def __init__(self, rows: Iterable[Row], reference: str) -> None:
        ranked = ranked_rows(rows, reference)
        self._seeds, self._values = ranked[0]["seeds"] if ranked else [], {}
        for name in ACCURACIES:
            means = [row["metrics"][name]["mean"] for row in ranked]
            shown = [round(100 * mean, 1) for mean in means if mean is not None]
            best = (min if name in LOWER_IS_BETTER else max)(shown, default=None)
            self._values[name] = best if len(shown) < 2 or len(set(shown)) > 1 else None

    def __call__(self, row: Row, name: str) -> bool:
        mean = row["metrics"][name]["mean"]
        return mean is not None and row["seeds"] == self._seeds and round(100 * mean, 1) == self._values[name]


def _several(rows: Iterable[Row]) -> bool:
    return any(len(row["seeds"]) > 1 for row in rows)


def _seeds(row: Row) -> str:
    done, wanted = len(row["seeds"]), len(row["seeds"]) + len(row["missing_seeds"])
    return str(done) if done == wanted else f"{done} of {wanted}"


def _std(value: Row | None) -> str:
    return MISSING if value is None or value["seed_std"] is None else f"{100 * value['seed_std']:.1f}"


def _points(value: float) -> str:
    text = f"{100 * value:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _bytes(number: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= size:
            scaled = number / size
            return f"{scaled:.1f} {unit}" if scaled < 100 else f"{scaled:.0f} {unit}"
    return f"{number:.0f} B"


def _range(values: Sequence[int]) -> str:
    low, high = min(values, default=0), max(values, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _table(header: Sequence[str], lines: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, with numbers to the right."""
    rules = ["---", *(["---:"] * (len(header) - 1))]
    every = [header, rules, *([_escape(line[0]), *line[1:]] for line in lines)]
    return [f"| {' | '.join(line)} |" for line in every]


def _escape(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _terminal_table(first: str, columns: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column(Text(first), min_width=14, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    return table
