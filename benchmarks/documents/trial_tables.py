"""Make the tables of trials from their result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection

from benchmarks.accuracy.cifar100_compare import WITHOUT_ADAPTERS, rows_in
from benchmarks.accuracy.cifar100_cuts import LARGEST
from benchmarks.accuracy.uncut_sets import FACTORS, RATES, grid
from benchmarks.documents.performance_tables import MEASURES, MISSING, RESULTS, raw_link, rows_of
from lpt.config.recipes import METHODS
from lpt.system.text import plural


def posthoc(name: str) -> Callable[[], str]:
    """Return a maker of accuracies with log frequencies added to the logits, on held-out and training images."""

    def make() -> str:
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
                cells = [f"{100 * row[measure]:.1f}" for row in (held_out, training) for measure in measures]
                lines.append([title, strength, *cells])
        columns = [
            f"{images}: {measure}" for images in ("held out", "training") for measure in ("overall", *measures[1:])
        ]
        first = results[0]
        source = (
            f"Development cut, IF 100, {first['size']}x{first['size']}, {first['draws']:,} draws, "
            f"seed {first['seed']}. Overall: mean over classes. "
            f"{first['machine']}; {first['date']}. Raw: {raw_link(name)}."
        )
        return "\n".join([*rows_of(["method", "strength", *columns], lines), "", source])

    return make


def trials(name: str, size: int, methods: Collection[str] = tuple(METHODS)) -> Callable[[], str]:
    """Return a maker of the settings tried on the development cut at an input size, the best of each method in bold."""

    def make() -> str:
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
        sizes = f"{size}x{size}, {' or '.join(f'{count:,}' for count in draws)} draws"
        seeds = ", ".join(sorted({row["seed"] for row in rows}))
        return "\n".join(
            [
                *rows_of(["method", "settings", *MEASURES, "mean of overall and few", "s"], shown),
                "",
                f"Development cut, {_imbalance(first)}, {sizes}, seed {seeds}; {_machines(rows)}; "
                f"{_dates(rows)}. Raw: {raw_link(f'{name}.csv')}.",
            ]
        )

    return make


def adapters(name: str) -> Callable[[], str]:
    """Return a maker of trials with adapters, each below the one without of the same method, cut and size."""

    def make() -> str:
        rows = rows_in(RESULTS / f"{name}.csv")
        if not rows:
            return MISSING
        trial = ("imbalance", "size", "draws", "seed", "method")
        plain = {tuple(row[key] for key in trial): row for row in rows if row["settings"] == WITHOUT_ADAPTERS}
        order = list(METHODS)
        shown = []
        for row in sorted(rows, key=lambda row: (_cut_order(row), int(row["size"]), order.index(row["method"]))):
            beside = plain.get(tuple(row[key] for key in trial))
            cells = _accuracies(row) + [_change(row, beside, measure) for measure in MEASURES]
            what = [_imbalance(row), f"{row['size']}x{row['size']}, {int(row['draws']):,}", row["seed"]]
            shown.append([*what, METHODS[row["method"]].title, _adapter(row), *cells])
        heading = ["cut", "pixels, draws", "seed", "method", "adapters", *MEASURES]
        heading += [f"{measure}: change" for measure in MEASURES]
        source = (
            f"Development cuts, n_max {LARGEST} unless said; {_machines(rows)}; "
            f"{_dates(rows)}. Raw: {raw_link(f'{name}.csv')}."
        )
        return "\n".join([*rows_of(heading, shown), "", source])

    return make


def _cut_order(row: dict[str, str]) -> tuple[int, float]:
    """Sort long tails first, and cuts with a small largest class last."""
    imbalance, _, largest = row["imbalance"].partition(", n_max ")
    return -int(largest or LARGEST), -float(imbalance)


def _change(row: dict[str, str], other: dict[str, str] | None, measure: str) -> str:
    """Return the points that a row gains over another; a dash without another row, or without such classes."""
    if other is None or other is row or not row[measure]:
        return "–"
    return f"{100 * (float(row[measure]) - float(other[measure])):+.1f}".replace("-", "−")


def _adapter(row: dict[str, str]) -> str:
    """Return the size of the adapters in a row of `adapter-trials`."""
    if row["settings"] == WITHOUT_ADAPTERS:
        return "none"
    return plural(int(row["settings"].partition("model.adapter_size=")[2].split()[0]), "number")


def ablations(name: str) -> Callable[[], str]:
    """Return a maker of LPT with a part changed, and its gain or loss against the first row, the preset."""

    def make() -> str:
        rows = rows_in(RESULTS / f"{name}.csv")
        if not rows:
            return MISSING
        first, shown = rows[0], []
        for row in rows:
            changed = row["settings"].replace("train.", "").replace("model.", "")
            changed = f"{METHODS[row['method']].title}: " * (row["method"] != first["method"]) + f"`{changed}`"
            cells = _accuracies(row) + [_change(row, first, measure) for measure in MEASURES]
            shown.append(["as the preset" if row is first else changed, *cells])
        heading = ["changed", *MEASURES, *(f"{measure}: change" for measure in MEASURES)]
        draws, seed = int(first["draws"]), first["seed"]
        source = (
            f"Development cut, {_imbalance(first)}, {first['size']}x{first['size']}, {draws:,} draws, seed {seed}; "
            f"{_machines(rows)}; {first['date']}. Raw: {raw_link(f'{name}.csv')}."
        )
        return "\n".join([*rows_of(heading, shown), "", source])

    return make


def first_trials() -> str:
    """Return the first trials of LPT's rate, batch and keys, which were measured after phase 1 or after both."""
    rows = rows_in(RESULTS / "laptop_trials.csv")
    if not rows:
        return MISSING
    columns = {
        "trial": "trial",
        "batch of each stream": "batch_size",
        "lr phase 1": "phase1_lr",
        "lr phase 2": "phase2_lr",
        "keys": "key_init",
        "after": "measured_after",
    }
    lines = [[*(row[key] for key in columns.values()), *(row[measure] for measure in MEASURES)] for row in rows]
    return "\n".join(
        [*rows_of([*columns, *MEASURES], lines), "", f"{_FIRST} Raw: {raw_link('laptop_trials.csv')}."],
    )


def uncut_rates() -> str:
    """Return the mean per class on validation images of each method at each of its rates, the best in bold."""
    rows = rows_in(RATES)
    if not rows:
        return MISSING
    means = {(row["imbalance"], row["method"], row["settings"]): 100 * float(row["mean_per_class"]) for row in rows}
    names = sorted({row["imbalance"] for row in rows})
    lines = []
    for method, settings in grid().items():
        cells = [METHODS[method].title]
        for name in names:
            tried = [means.get((name, method, setting)) for setting in settings]
            best = max((mean for mean in tried if mean is not None), default=None)
            cells += ["–" if mean is None else f"**{mean:.1f}**" if mean == best else f"{mean:.1f}" for mean in tried]
        lines.append(cells)
    heading = [f"{name}, {_times(factor)}" for name in names for factor in FACTORS]
    first = rows[0]
    source = (
        f"Mean per class, %, on validation images; {first['size']}x{first['size']}, {int(first['draws']):,} draws, "
        f"seed {first['seed']}. Command: `python -m benchmarks.accuracy.uncut_sets rates`. "
        f"{_machines(rows)}; {_dates(rows)}. Raw: {raw_link(RATES.name)}."
    )
    return "\n".join([*rows_of(["method", *heading], lines), "", source])


def _times(factor: float) -> str:
    return "as it is" if factor == 1 else f"x {factor:g}" if factor > 1 else f"/ {1 / factor:g}"


def counts(name: str) -> Callable[[], str]:
    """Return a maker of the number of settings tried of each method, at each size."""

    def make() -> str:
        rows = rows_in(RESULTS / f"{name}.csv")
        if not rows:
            return MISSING
        sizes = sorted({int(row["size"]) for row in rows})
        lines = [
            [METHODS[method].title, *(str(sum(_is_of(row, method, size) for row in rows)) for size in sizes)]
            for method in METHODS
            if method in _methods(rows)
        ]
        heading = ["method", *(f"settings tried at {size}x{size}" for size in sizes)]
        return "\n".join([*rows_of(heading, lines), "", f"Raw: {raw_link(f'{name}.csv')}."])

    return make


def _is_of(row: dict[str, str], method: str, size: int) -> bool:
    return row["method"] == method and row["size"] == str(size)


def _imbalance(row: dict[str, str]) -> str:
    return f"IF {row['imbalance']}" if row["imbalance"] != "natural" else "uneven by itself"


def _machines(rows: list[dict[str, str]]) -> str:
    """Return the machines and precisions that rows were measured with."""
    used = {f"{row['machine'].rsplit(',', 1)[0]}, {row['precision']}": None for row in rows}
    return " or ".join(used)


def _dates(rows: list[dict[str, str]]) -> str:
    """Return the day that rows were measured on, or the first and the last."""
    dates = sorted(row["date"] for row in rows)
    return " to ".join(dict.fromkeys((dates[0], dates[-1])))


def _methods(rows: list[dict[str, str]]) -> set[str]:
    return {row["method"] for row in rows}


def _accuracies(row: dict[str, str]) -> list[str]:
    """Return accuracies in percent; a dash without classes of the kind."""
    return [f"{100 * float(row[measure]):.1f}" if row[measure] else "–" for measure in MEASURES]


def _chosen_by(row: dict[str, str]) -> float:
    """Return the number to choose settings by: the mean of overall and few-shot accuracy; overall without few."""
    return (float(row["overall"]) + float(row["few"] or row["overall"])) / 2


_LPT = {"lpt", "lpt-phase1"}
_FIRST = (
    "Development cut, IF 100, 9,754 images, 96x96, 129,024 draws for both phases (86,016 for phase 1 alone), seed 0; "
    "2026-11-21. With the library calls of `python -m benchmarks.cifar100_lt --development --size 96`, a script that "
    "is last in commit d6e3e68; two cores of an Intel Xeon shared with other work, the row with adapters an AMD EPYC "
    "in float32, with `--set train.epoch_steps=168 --set model.adapter_size=64 --set model.adapter_norm=true --set "
    "model.adapter_scale=null`; torch 2.15.0, timm 1.0.31."
)
TABLES: dict[str, Callable[[], str]] = {
    "emoji_trials": trials("emoji_trials", 96),
    "posthoc_96": posthoc("posthoc_cifar100_if100_96"),
    "first_trials": first_trials,
    "trial_counts": counts("compare_trials"),
    "compare_trials": trials("compare_trials", 64),
    "compare_long_trials": trials("compare_trials", 96, _LPT),
    "compare_long_trials_others": trials("compare_trials", 96, METHODS.keys() - _LPT),
    "compare_mild_trials": trials("compare_mild_trials", 96),
    "compare_adapter_trials": adapters("compare_adapter_trials"),
    "compare_ablations": ablations("compare_ablations"),
    "compare_phase2": ablations("compare_phase2"),
    "uncut_rates": uncut_rates,
}
