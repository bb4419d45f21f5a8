"""Make the tables of docs/how-to/label_next.md from its result file, for `benchmarks.documents.tables`."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.documents.performance_tables import Result, from_file, rows_of, signed, spread

_TITLES = {"start": "none", "random": "random", "margin": "smallest margin", "label-next": "`lpt label-next`"}
_DATA = {"cifar100": "CIFAR-100-LT", "clothing": "clothing"}
_MEASURES = {"few": "few", "mean_per_class": "mean per class", "overall": "overall"}


def label_next(result: Result) -> list[str]:
    """Return accuracy after the next pictures were labelled, by strategy: mean and deviation over the seeds."""
    cells, notes = [], []
    for data, sizes in result["data"].items():
        runs = {(row["strategy"], row["seed"]): row for row in result["rows"] if row["data"] == data}
        seeds = sorted({seed for _, seed in runs})
        for strategy, title in _TITLES.items():
            rows = [runs[strategy, seed] for seed in seeds]
            gaps = [runs["label-next", seed]["few"] - row["few"] for seed, row in zip(seeds, rows, strict=True)]
            chosen_few = [row["chosen_few"] for row in rows]
            cells.append(
                [
                    _DATA[data],
                    title,
                    *(spread([row[measure] for row in rows]) for measure in _MEASURES),
                    "" if strategy == "label-next" else signed(gaps),
                    "" if strategy == "start" else f"{sum(chosen_few) / len(chosen_few):.0f} of {sizes['chosen']}",
                ]
            )
        notes.append(
            f"{_DATA[data]}: {sizes['labelled']:,} labelled, {sizes['chosen']} chosen of {sizes['pool']:,} "
            f"({sizes['pool_few']:,} of few-shot classes), {sizes['few_classes']} of {sizes['classes']} "
            f"classes few-shot, {sizes['test']:,} test images, seeds {', '.join(map(str, seeds))}"
        )
    heading = ["data", "labelled next by", *_MEASURES.values(), "few: label-next against it", "of few-shot classes"]
    return [
        *rows_of(heading, cells),
        "",
        f"{result['what'].capitalize()}; groups by the images labelled from the start: {result['groups']}. "
        f"{'. '.join(notes)}. {result['size']}x{result['size']} pixels, {12 * result['epoch_steps']} steps a run. "
        "Mean ± standard deviation over the seeds; differences are paired by seed.",
    ]


TABLES: dict[str, Callable[[], str]] = {"label_next": from_file("label_next", label_next)}
