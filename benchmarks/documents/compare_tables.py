"""Tables of `benchmarks.accuracy.cifar100_compare`'s result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from benchmarks.accuracy.cifar100_compare import WITHOUT_ADAPTERS, rows_in
from benchmarks.accuracy.cifar100_cuts import LARGEST
from benchmarks.documents.performance_tables import MEASURES, MISSING, RESULTS, rows_of
from lpt.config.recipes import METHODS
from lpt.report.comparison_tables import ACCURACIES, COSTS, cost_text, difference_text, with_std
from lpt.system.text import plural

Row = dict[str, Any]
PICTURES = {
    "groups": "Accuracy of every method on many-, medium- and few-shot classes",
    "accuracy_by_count": "Accuracy of every method against the size of a class",
    "cost": "Accuracy of every method against what it costs",
}


OVERVIEW = {
    "compare_cifar100_if100_96": "CIFAR-100-LT, imbalance 100, 96x96",
    "compare_cifar100_if100_128": "the same at 128x128",
    "compare_cifar100_if50_96": "imbalance 50, 96x96",
    "compare_cifar100_if10_96": "imbalance 10, 96x96",
    "compare_emoji": "emoji, a naturally uneven folder, 96x96",
}
"""Result folders of comparisons, and what they are of."""


def accuracies(name: str, uneven: bool = False) -> Callable[[], str]:
    """Accuracies of every method of a comparison's result folder, and LPT's lead over each.

    Args:
        name: the folder.
        uneven: frequent classes have more test images, so that the mean over classes is another number than overall.
    """
    mean = ("mean_per_class",) * uneven
    measures, led = (MEASURES[0], *mean, *MEASURES[1:], "worst_decile"), ("overall", *mean, "few")

    def made(summary: Row) -> list[str]:
        rows = [row for row in summary["methods"] if row["seeds"]]
        leads = {one["method"]: one["measures"] for one in summary["differences"]}
        several = any(len(row["seeds"]) > 1 for row in rows)
        lines = []
        for row in rows:
            lead = leads.get(row["method"], {})
            cells = [with_std(row["metrics"][one], several) for one in measures]
            cells += [difference_text(lead.get(one)) for one in led]
            lines.append([_title(row, summary), *cells, str(len(row["seeds"]))])
        ahead = [ACCURACIES[one] for one in led]
        heading = ["method", *(ACCURACIES[one] for one in measures), f"LPT ahead by: {ahead[0]}", *ahead[1:], "seeds"]
        told = "; ".join(f"{key}: {_shown(value)}" for key, value in summary["facts"].items())
        source = f"{told}. Raw files and plots: [results/{name}](results/{name}/comparison.md)."
        return [*rows_of(heading, lines), "", source, "", *_pictures(name, "groups", "accuracy_by_count")]

    return _of_comparison(name, made)


def costs(name: str) -> Callable[[], str]:
    """What every method of a comparison's result folder took."""

    def made(summary: Row) -> list[str]:
        rows = [row for row in summary["methods"] if row["seeds"]]
        lines = [[_title(row, summary), *(cost_text(one, row["cost"][one]) for one in COSTS)] for row in rows]
        return [*rows_of(["method", *COSTS.values()], lines), "", *_pictures(name, "cost")]

    return _of_comparison(name, made)


def short(name: str) -> Callable[[], str]:
    """Accuracies and the two costs that differ most, of the methods with most seeds, for README."""

    def made(summary: Row) -> list[str]:
        most = max(len(row["seeds"]) for row in summary["methods"])
        rows = [row for row in summary["methods"] if len(row["seeds"]) == most]
        several = most > 1
        told = ("trained_parameters", "train_seconds")
        lines = []
        for row in rows:
            cells = [with_std(row["metrics"][one], several) for one in MEASURES]
            lines.append([_title(row, summary), *cells, *(cost_text(one, row["cost"][one]) for one in told)])
        return rows_of(["method", *MEASURES, *(COSTS[one] for one in told)], lines)

    return _of_comparison(name, made)


def overview() -> str:
    """LPT's overall and few-shot accuracy in every comparison, and its lead over the methods that come near it."""
    lines = []
    if not all((RESULTS / name / "comparison.json").exists() for name in OVERVIEW):
        return MISSING
    for name, images in OVERVIEW.items():
        summary = json.loads((RESULTS / name / "comparison.json").read_text(encoding="utf-8"))
        leads = {one["method"]: one for one in summary["differences"]}
        own = next(row for row in summary["methods"] if row["method"] == summary["reference"])
        cells = [with_std(own["metrics"][one], several=False) for one in ("overall", "few")]
        for rival in ("lpt-phase1", "lift", "fine-tuning-la"):
            lead = leads.get(rival, {"measures": {}, "seeds": []})
            fewer = f" (seeds: {len(lead['seeds'])})" if 0 < len(lead["seeds"]) < len(own["seeds"]) else ""
            cells += [difference_text(lead["measures"].get(one)) + fewer for one in ("overall", "few")]
        lines.append([images, str(len(own["seeds"])), *cells])
    rivals = [
        f"ahead of {one}: {what}" for one in ("its phase 1", "LIFT", "full fine-tuning") for what in ("overall", "few")
    ]
    return "\n".join(rows_of(["images", "seeds", "LPT: overall", "few", *rivals], lines))


def _of_comparison(name: str, table: Callable[[Row], list[str]]) -> Callable[[], str]:
    path = RESULTS / name / "comparison.json"
    return lambda: "\n".join(table(json.loads(path.read_text(encoding="utf-8")))) if path.exists() else MISSING


def _pictures(name: str, *plots: str) -> list[str]:
    """Plots of a comparison's result folder, as docs/results.md shows them."""
    return [f"![{PICTURES[one]}](results/{name}/{one}.png)" for one in plots]


def _title(row: Row, summary: Row) -> str:
    return f"**{row['title']}**" if row["method"] == summary["reference"] else str(row["title"])


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {one}" for key, one in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def shifts(name: str) -> Callable[[], str]:
    """Accuracy under corruption of every method in a result folder, means over its seeds."""

    def made() -> str:
        found = _shift_files(name)
        if not found:
            return MISSING
        first = next(iter(found.values()))[0]
        severities = list(first["corruptions"]["by_severity"])
        accuracy = "mean_corruption_accuracy"
        columns = {
            "clean": ("clean", "overall"),
            "corrupted": (accuracy, "overall"),
            "relative drop, %": ("relative_drop", "overall"),
            **{f"severity {one}": ("by_severity", one, "accuracy", "overall") for one in severities},
            "few, clean": ("clean", "few"),
            "few, corrupted": (accuracy, "few"),
            "few, relative drop, %": ("relative_drop", "few"),
        }
        lines = [
            [
                METHODS[method].title,
                *(f"{_mean(files, ('corruptions', *path)):.1f}" for path in columns.values()),
                str(len(files)),
            ]
            for method, files in found.items()
        ]
        kinds, images = len(first["corruptions"]["by_kind"]), first["corruptions"]["clean"]["images"]
        source = (
            f"Overall accuracy unless few is said; {kinds} kinds of corruption at severities {', '.join(severities)}, "
            f"{images:,} test images; {first['date']}. Raw files and plots: [results/{name}](results/{name})."
        )
        return "\n".join([*rows_of(["method", *columns, "seeds"], lines), "", source])

    return made


def other_sets(name: str) -> Callable[[], str]:
    """Accuracy of every method in a result folder on another set of the same classes, means over its seeds."""

    def made() -> str:
        found = _shift_files(name)
        if not found:
            return MISSING
        columns = {
            f"{said}: {measure}": ("data_sets", 0, key, measure)
            for measure in MEASURES
            for key, said in (("clean", "held out"), ("shifted", "other set"))
        } | {
            f"relative drop, %: {measure}": ("data_sets", 0, "relative_drop", measure) for measure in ("overall", "few")
        }
        lines = [
            [METHODS[method].title, *(f"{_mean(files, path):.1f}" for path in columns.values())]
            for method, files in found.items()
        ]
        files = next(iter(found.values()))
        sizes = [files[0]["data_sets"][0][one]["images"] for one in ("clean", "shifted")]
        source = (
            f"{sizes[0]:,} held-out images, {sizes[1]:,} of the other set; {len(files)} seed{'s' * (len(files) > 1)}; "
            f"{files[0]['date']}. Raw files and plots: [results/{name}](results/{name})."
        )
        return "\n".join([*rows_of(["method", *columns], lines), "", source])

    return made


def _mean(files: list[Row], path: tuple[Any, ...]) -> float:
    """Mean over files of what stands in them under a path of keys, percent."""
    values: list[Any] = list(files)
    for key in path:
        values = [value[key] for value in values]
    return 100 * sum(values) / len(values)


def _shift_files(name: str) -> dict[str, list[Row]]:
    """What was measured of each method in a result folder, a file for each seed; methods without one are left out."""
    paths = {method: sorted((RESULTS / name / method).glob("seed*/shift.json")) for method in METHODS}
    return {
        method: [json.loads(path.read_text(encoding="utf-8")) for path in files]
        for method, files in paths.items()
        if files
    }


def posthoc(name: str) -> Callable[[], str]:
    """Accuracy when log frequencies are added to the logits, on held-out and on training images."""

    def made() -> str:
        results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((RESULTS / name).glob("*/*.json"))]
        if not results:
            return MISSING
        measures = ("mean_per_class", *MEASURES[1:])
        lines = []
        for result in results:
            settings = result["settings"].replace("model.", "").replace("+", " ")
            title = f"{METHODS[result['method']].title}, `{settings}`"
            for held_out, training in zip(result["held_out"], result["training"], strict=True):
                strength = f"{held_out['strength']:g}".replace("-", "−") if held_out["strength"] else "0 (as trained)"
                cells = [f"{100 * row[one]:.1f}" for row in (held_out, training) for one in measures]
                lines.append([title, strength, *cells])
        columns = [f"{images}: {one}" for images in ("held out", "training") for one in ("overall", *measures[1:])]
        first = results[0]
        source = (
            f"Development cut, IF 100, {first['size']}x{first['size']}, {first['draws']:,} draws, "
            f"seed {first['seed']}. Overall: mean over classes. "
            f"{first['machine']}; {first['date']}. Raw: [results/{name}](results/{name})."
        )
        return "\n".join([*rows_of(["method", "strength", *columns], lines), "", source])

    return made


def trials(name: str, size: int, methods: Collection[str] = tuple(METHODS)) -> Callable[[], str]:
    """Rows of settings tried on the development cut at an input size, the best of each method in bold."""

    def made() -> str:
        every = rows_in(RESULTS / f"{name}.csv")
        rows = [row for row in every if row["size"] == str(size) and row["method"] in methods]
        if not rows:
            return MISSING
        best = {method: max(_chosen_by(row) for row in rows if row["method"] == method) for method in _methods(rows)}
        shown, draws = [], sorted({int(row["draws"]) for row in rows})
        mixed = len({row["precision"] for row in rows}) > 1
        for row in sorted(rows, key=lambda row: list(METHODS).index(row["method"])):
            settings = f"`{row['settings'].replace('train.', '').replace('model.', '')}`"
            cells = [*_accuracies(row), f"{100 * _chosen_by(row):.1f}"]
            if _chosen_by(row) == best[row["method"]]:
                settings, cells[-1] = f"**{settings}**", f"**{cells[-1]}**"
            settings += f", {int(row['draws']):,} draws" * (len(draws) > 1) + f", {row['precision']}" * mixed
            shown.append([METHODS[row["method"]].title, settings, *cells, f"{float(row['train_seconds']):.0f}"])
        first = rows[0]
        sizes = f"{size}x{size}, {' or '.join(f'{one:,}' for one in draws)} draws"
        seeds = ", ".join(sorted({row["seed"] for row in rows}))
        return "\n".join(
            [
                *rows_of(["method", "settings", *MEASURES, "mean of overall and few", "s"], shown),
                "",
                f"Development cut, {_imbalance(first)}, {sizes}, seed {seeds}; {_machines(rows)}; "
                f"{_dates(rows)}. Raw: [results/{name}.csv](results/{name}.csv).",
            ]
        )

    return made


def adapters(name: str) -> Callable[[], str]:
    """Rows with adapters beside the prompts, each under the one of the same method, cut and size without."""

    def made() -> str:
        rows = rows_in(RESULTS / f"{name}.csv")
        if not rows:
            return MISSING
        trial = ("imbalance", "size", "draws", "seed", "method")
        plain = {tuple(row[key] for key in trial): row for row in rows if row["settings"] == WITHOUT_ADAPTERS}
        order = list(METHODS)
        shown = []
        for row in sorted(rows, key=lambda row: (_cut_order(row), int(row["size"]), order.index(row["method"]))):
            beside = plain.get(tuple(row[key] for key in trial))
            cells = _accuracies(row) + [_change(row, beside, one) for one in MEASURES]
            what = [_imbalance(row), f"{row['size']}x{row['size']}, {int(row['draws']):,}", row["seed"]]
            shown.append([*what, METHODS[row["method"]].title, _adapter(row), *cells])
        heading = ["cut", "pixels, draws", "seed", "method", "adapters", *MEASURES]
        heading += [f"{one}: change" for one in MEASURES]
        source = (
            f"Development cuts, n_max {LARGEST} unless said; {_machines(rows)}; "
            f"{_dates(rows)}. Raw: [results/{name}.csv](results/{name}.csv)."
        )
        return "\n".join([*rows_of(heading, shown), "", source])

    return made


def _cut_order(row: dict[str, str]) -> tuple[int, float]:
    """Long tails first, cuts with a small largest class last."""
    imbalance, _, largest = row["imbalance"].partition(", n_max ")
    return -int(largest or LARGEST), -float(imbalance)


def _change(row: dict[str, str], other: dict[str, str] | None, measure: str) -> str:
    """Points that a row has more than another; a dash where there is no other, or no class of the kind."""
    if other is None or other is row or not row[measure]:
        return "–"
    return f"{100 * (float(row[measure]) - float(other[measure])):+.1f}".replace("-", "−")


def _adapter(row: dict[str, str]) -> str:
    """What stands beside the MLPs in a row of `adapter-trials`."""
    if row["settings"] == WITHOUT_ADAPTERS:
        return "none"
    return plural(int(row["settings"].partition("model.adapter_size=")[2].split()[0]), "number")


def ablations(name: str) -> Callable[[], str]:
    """Rows of LPT with a part changed, and what each loses or gains by it against the first row, the preset."""

    def made() -> str:
        rows = rows_in(RESULTS / f"{name}.csv")
        if not rows:
            return MISSING
        first, shown = rows[0], []
        for row in rows:
            changed = row["settings"].replace("train.", "").replace("model.", "")
            changed = f"{METHODS[row['method']].title}: " * (row["method"] != first["method"]) + f"`{changed}`"
            cells = _accuracies(row) + [_change(row, first, one) for one in MEASURES]
            shown.append(["as the preset" if row is first else changed, *cells])
        heading = ["changed", *MEASURES, *(f"{one}: change" for one in MEASURES)]
        draws, seed = int(first["draws"]), first["seed"]
        source = (
            f"Development cut, {_imbalance(first)}, {first['size']}x{first['size']}, {draws:,} draws, seed {seed}; "
            f"{_machines(rows)}; {first['date']}. Raw: [results/{name}.csv](results/{name}.csv)."
        )
        return "\n".join([*rows_of(heading, shown), "", source])

    return made


def _imbalance(row: dict[str, str]) -> str:
    return f"IF {row['imbalance']}" if row["imbalance"] != "natural" else "uneven by itself"


def _machines(rows: list[dict[str, str]]) -> str:
    """Where rows were measured, and in which precision."""
    used = {f"{row['machine'].rsplit(',', 1)[0]}, {row['precision']}": None for row in rows}
    return " or ".join(used)


def _dates(rows: list[dict[str, str]]) -> str:
    """The day rows were measured on, or the first and the last."""
    dates = sorted(row["date"] for row in rows)
    return " to ".join(dict.fromkeys((dates[0], dates[-1])))


def _methods(rows: list[dict[str, str]]) -> set[str]:
    return {row["method"] for row in rows}


def _accuracies(row: dict[str, str]) -> list[str]:
    """Percent; a dash where no class is of the kind."""
    return [f"{100 * float(row[one]):.1f}" if row[one] else "–" for one in MEASURES]


def _chosen_by(row: dict[str, str]) -> float:
    """Mean of overall and few-shot accuracy, by which settings are chosen; overall where no class is few-shot."""
    return (float(row["overall"]) + float(row["few"] or row["overall"])) / 2


_LPT = {"lpt", "lpt-phase1"}
TABLES: dict[str, Callable[[], str]] = {
    "overview": overview,
    "compare_96": accuracies("compare_cifar100_if100_96"),
    "compare_96_short": short("compare_cifar100_if100_96"),
    "compare_96_cost": costs("compare_cifar100_if100_96"),
    "compare_128": accuracies("compare_cifar100_if100_128"),
    "compare_128_cost": costs("compare_cifar100_if100_128"),
    "compare_if50": accuracies("compare_cifar100_if50_96"),
    "compare_if10": accuracies("compare_cifar100_if10_96"),
    "compare_emoji": accuracies("compare_emoji", uneven=True),
    "emoji_trials": trials("emoji_trials", 96),
    "shift_emoji": other_sets("shift_emoji"),
    "shift_96": shifts("shift_cifar100_if100_96"),
    "posthoc_96": posthoc("posthoc_cifar100_if100_96"),
    "compare_trials": trials("compare_trials", 64),
    "compare_long_trials": trials("compare_trials", 96, _LPT),
    "compare_long_trials_others": trials("compare_trials", 96, METHODS.keys() - _LPT),
    "compare_mild_trials": trials("compare_mild_trials", 96),
    "compare_adapter_trials": adapters("compare_adapter_trials"),
    "compare_ablations": ablations("compare_ablations"),
    "compare_phase2": ablations("compare_phase2"),
}
