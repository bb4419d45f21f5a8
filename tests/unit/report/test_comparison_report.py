"""The report of a comparison: every file is there, all say the same numbers, and what is missing is named."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lpt.data.longtail import ShotGroups, long_tailed_counts
from lpt.evaluation.comparison import Cell, Comparison, Cost, class_means, summarise
from lpt.evaluation.metrics import measure_scores
from lpt.report.comparison import print_comparison, write_comparison
from lpt.report.comparison_plots import Rows
from lpt.report.comparison_tables import ACCURACIES, cost_text, difference_text, in_short, with_std
from lpt.report.label_places import Label, place_labels
from lpt.report.style import new_figure

GROUPS = ShotGroups()
FILES = {
    "comparison.md", "comparison.csv", "comparison.json", "per_class.csv",
    "accuracy_by_count.png", "groups.png", "cost.png",
}  # fmt: skip


def cell(method: str, seed: int, counts: np.ndarray, strength: float, per_class: int | list[int] = 4) -> Cell:
    rng = np.random.default_rng([seed, *method.encode()])
    labels = np.repeat(np.arange(len(counts)), per_class)
    cosines = rng.uniform(-1, 1, (len(labels), len(counts)))
    cosines[np.arange(len(labels)), labels] += strength * rng.random(len(labels))
    metrics = measure_scores(labels, cosines, counts, GROUPS, scale=20, temperature=1.0)
    cost = Cost(0 if strength < 0.5 else int(40_000 * strength), 1234, 10 * strength, 2_500_000_000, 1000, 7.5, 1.25)
    images = [f"{index}.jpg" for index in range(len(labels))]
    return Cell(method, seed, metrics, images, labels, cosines.argmax(axis=1), cost)


def comparison(
    methods: int, seeds: int, classes: int, missing: Mapping[tuple[str, int], str] | None = None
) -> Comparison:
    counts = long_tailed_counts(classes, 500, 100)
    names = [*(f"method{index}" for index in range(methods - 1)), "lpt"]
    cells = [
        cell(name, seed, counts, 0.3 + 0.5 * index)
        for index, name in enumerate(names)
        for seed in range(seeds)
        if (name, seed) not in (missing or {})
    ]
    return Comparison(
        cells[::-1],
        names,
        {"lpt": "LPT", "method0": "nearest | mean"},
        dict.fromkeys(range(seeds), counts),
        dict.fromkeys(range(seeds), 1234),
        [f"class {c}" for c in range(classes)],
        GROUPS,
        missing=missing or {},
        facts={"command": ["lpt", "compare", "my data"], "versions": {"lpt": "1", "torch": "2"}, "date": "2025-01-01"},
    )


def markdown_tables(text: str) -> list[list[list[str]]]:
    """Cells of each table, without the header's rule."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            cells = [part.strip().strip("*") for part in line.replace("\\|", "/").strip("|").split("|")]
            if set(cells[0]) != {"-"}:
                tables[-1].append(cells)
        inside = line.startswith("|")
    return tables


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize(("methods", "seeds", "classes"), [(5, 3, 20), (2, 1, 10), (1, 1, 2)])
def test_every_file_is_written(tmp_path: Path, methods: int, seeds: int, classes: int) -> None:
    returned = write_comparison(tmp_path, comparison(methods, seeds, classes), resamples=50)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(returned))
    for name in ("accuracy_by_count", "groups", "cost"):
        with Image.open(tmp_path / f"{name}.png") as image:
            assert image.format == "PNG"
            pixels = np.asarray(image.convert("RGB")).astype(int)
        assert min(pixels.shape[:2]) > 200
        assert (np.abs(pixels - (11, 83, 148)).max(axis=-1) <= 2).sum() > 20  # the reference, in blue


def test_markdown_says_the_numbers_of_json(tmp_path: Path) -> None:
    missing = dict.fromkeys((("method1", 2), ("method2", 1), ("method2", 2)), "not asked for")
    write_comparison(tmp_path, comparison(4, 3, 20, missing), resamples=50)
    stored = json.loads((tmp_path / "comparison.json").read_text())
    accuracy, cost, differences = markdown_tables((tmp_path / "comparison.md").read_text())
    for row, cells in zip(stored["methods"], accuracy[1:], strict=True):
        assert cells[0] == row["title"].replace("|", "/")
        for name, text in zip(ACCURACIES, cells[1:-1], strict=True):
            value = row["metrics"][name]
            std = "–" if value["std"] is None else f"{100 * value['std']:.1f}"
            assert text == f"{100 * value['mean']:.1f} ± {std}"
    assert [row[-1] for row in accuracy] == ["seeds", "3", "2 of 3", "1 of 3", "3"]
    assert [row[1] for row in cost[1:]] == [
        f"{row['cost']['trained_parameters']['mean']:,.0f}" for row in stored["methods"]
    ]
    assert cost[1][2:] == ["1.2 kB", "3.0", "2.5 GB", "1,000", "7.5", "1.25", "3"]
    for row, cells in zip(stored["differences"], differences[1:], strict=True):
        assert cells[1] == difference_text(row["measures"]["overall"])
        assert cells[5] == difference_text(row["measures"]["few"])
        assert cells[7] == ", ".join(map(str, row["seeds"]))
    assert [row["seeds"] for row in stored["differences"]] == [[0, 1, 2], [0, 1], [0]]


def test_bold_is_the_best_of_the_rows_with_most_seeds(tmp_path: Path) -> None:
    """Of the strongest method one seed is missing: it is not bold, however good."""
    whole = comparison(4, 2, 20, {("lpt", 1): "stopped"})
    write_comparison(tmp_path, whole, resamples=50)
    lines = (tmp_path / "comparison.md").read_text().splitlines()
    rows = {line.split("|")[1].strip(): line for line in lines if line.startswith("|") and "±" in line}
    overall = [row["metrics"]["overall"]["mean"] for row in summarise(whole, resamples=50)["methods"]]
    assert max(overall[:3]) < overall[3]
    assert "**" not in rows["LPT"]
    assert rows["method2"].count("**") >= 10
    ece = [row["metrics"]["ece"]["mean"] for row in summarise(whole, resamples=50)["methods"][:3]]
    assert int(np.argmin(ece)) == 2  # the least, not the most


def test_in_short_names_the_highest_and_the_distance_of_lpt() -> None:
    """Beside LPT stands the next one where LPT is highest, else the highest; what lacks a seed is not ranked."""
    counts = long_tailed_counts(20, 500, 100)
    whole = comparison(3, 2, 20, {("method1", 1): "stopped"})
    summary = summarise(whole, resamples=50)
    first, ahead = in_short(summary)[0], summary["differences"][0]["measures"]["overall"]
    assert first.startswith(
        f"Overall: LPT is highest, {100 * summary['methods'][2]['metrics']['overall']['mean']:.1f} %"
    )
    assert f"LPT less nearest | mean, the next: {difference_text(ahead)}" in first

    better = [*whole.cells, *(cell("better", seed, counts, 9.0) for seed in range(2))]
    other = replace(whole, cells=better, methods=[*whole.methods, "better"])
    first = in_short(summarise(other, resamples=50))[0]
    assert first.startswith("Overall: better is highest")
    assert "LPT less better: −" in first
    assert "turn that round" not in first

    counts_of_three = dict.fromkeys(range(3), counts)
    apart = [
        replace(finished, seed=2) if (finished.method, finished.seed) == ("better", 1) else finished
        for finished in better
    ]
    lines = in_short(summarise(replace(other, cells=apart, train_counts=counts_of_three), resamples=50))
    assert lines[0].startswith("Overall: LPT is highest")  # as many seeds, but not the same
    assert "Of seeds 0, 1; not ranked, with others or fewer: method1, better." in lines

    apart = [
        finished
        for finished in whole.cells
        if (finished.method, finished.seed) in (("method0", 0), ("method0", 1), ("lpt", 0))
    ]
    lines = in_short(summarise(replace(whole, cells=apart), resamples=50))
    assert lines == [
        "No two methods have the same seeds finished: none is ranked yet. Give all of them the same (--seeds)."
    ]

    begun = replace(other, cells=[finished for finished in better if (finished.method, finished.seed) != ("lpt", 1)])
    assert "LPT less better: −" in in_short(summarise(begun, resamples=50))[0]


def test_in_short_says_what_chance_could_turn_round() -> None:
    whole = comparison(2, 1, 10)
    mine = next(cell for cell in whole.cells if cell.method == "lpt")
    twins = replace(whole, cells=[mine, replace(mine, method="method0")])
    lines = in_short(summarise(twins, resamples=50))
    assert "0.0 [0.0, 0.0]; other test images could turn that round." in lines[0]
    assert lines[-1].startswith("One seed only")
    assert "No method" in in_short(summarise(replace(whole, cells=[])))[0]
    apart = replace(
        whole,
        cells=[mine, replace(mine, method="method0", seed=1)],
        train_counts=dict.fromkeys((0, 1), whole.train_counts[0]),
    )
    assert "less" not in in_short(summarise(apart, resamples=50))[0]


def test_an_uneven_test_set_has_the_mean_over_classes_in_short() -> None:
    """Where frequent classes have more test images, overall accuracy is theirs; else the line would say it twice."""
    whole = comparison(2, 1, 10)
    assert not any("over classes" in line for line in in_short(summarise(whole, resamples=50)))
    cells = [cell(old.method, 0, whole.train_counts[0], 0.6, [20, *[3] * 9]) for old in whole.cells]
    summary = summarise(replace(whole, cells=cells), resamples=50)
    lines = [line for line in in_short(summary) if line.startswith("Mean over classes")]
    best = max(row["metrics"]["mean_per_class"]["mean"] for row in summary["methods"])
    assert len(lines) == 1
    assert f"is highest, {100 * best:.1f} %" in lines[0]


def test_a_column_without_a_difference_has_no_best(tmp_path: Path) -> None:
    whole = comparison(2, 1, 10)
    mine = next(cell for cell in whole.cells if cell.method == "lpt")
    write_comparison(tmp_path, replace(whole, cells=[mine, replace(mine, method="method0")]), resamples=50)
    assert "**" not in (tmp_path / "comparison.md").read_text()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    missing = dict.fromkeys((("method1", 2), ("method2", 0), ("method2", 1)), "not asked for")
    missing["method2", 2] = "the memory\ndoes not hold it"
    whole = comparison(4, 3, 20, missing)
    write_comparison(tmp_path, whole, resamples=50)
    text = (tmp_path / "comparison.md").read_text()
    console = Console(width=120, file=io.StringIO(), color_system=None)
    print_comparison(whole, console)
    for shown in (text, console.file.getvalue()):  # type: ignore[attr-defined]
        assert "Not finished: method1, seed 2: not asked for" in shown
        assert "Not finished: method2, seeds 0, 1: not asked for" in shown
        assert "Not finished: method2, seed 2: the memory does not hold it" in shown
    assert "8 of 12 runs finished" in text
    row = next(line for line in text.splitlines() if line.startswith("| method2"))
    assert row == "| method2 |" + " – |" * 9 + " 0 of 3 |"
    assert "lpt compare 'my data'" in text
    assert "lpt 1, torch 2" in text
    assert {line["method2"] for line in read_csv(tmp_path / "per_class.csv")} == {""}


def test_cells_and_classes(tmp_path: Path) -> None:
    whole = comparison(3, 2, 10)
    write_comparison(tmp_path, whole, resamples=50)
    cells = read_csv(tmp_path / "comparison.csv")
    assert [(row["method"], row["seed"]) for row in cells] == [(m, s) for m in whole.methods for s in "01"]
    cells_by_key = {(stored.method, stored.seed): stored for stored in whole.cells}
    for row in cells:
        stored = cells_by_key[row["method"], int(row["seed"])]
        for name in ("overall", "few", "worst_decile", "macro_f1", "harmonic_mean", "ece"):
            assert float(row[name]) == getattr(stored.metrics, name)
        assert int(row["trained_parameters"]) == stored.cost.trained_parameters
        assert (row["many_classes"], row["few_classes"]) == ("4", "3")
    classes = read_csv(tmp_path / "per_class.csv")
    assert list(classes[0]) == ["class", "class_size", "group", "test_images", *whole.methods]
    assert [row["group"] for row in classes] == ["many"] * 4 + ["medium"] * 3 + ["few"] * 3
    hits = [(kept.labels == kept.predicted)[kept.labels == 3].mean() for kept in whole.cells_of("lpt")]
    assert float(classes[3]["lpt"]) == pytest.approx(np.mean(hits), abs=1e-4)
    tested, means = class_means(whole)
    assert tested.tolist() == [4] * 10
    assert means.shape == (3, 10)


def test_counts_that_differ_between_seeds_are_both_named(tmp_path: Path) -> None:
    first, second = np.array([500, 19]), np.array([500, 20])
    cells = [cell("lpt", 0, first, 1.0), cell("lpt", 1, second, 1.0)]
    write_comparison(
        tmp_path, Comparison(cells, ["lpt"], {}, {0: first, 1: second}, {0: 519, 1: 520}, ["a", "b"], GROUPS)
    )
    assert [(row["class_size"], row["group"]) for row in read_csv(tmp_path / "per_class.csv")] == [
        ("500", "many"),
        ("19/20", "few/medium"),
    ]


def test_seeds_with_other_test_images_and_untested_classes(tmp_path: Path) -> None:
    counts = long_tailed_counts(6, 500, 100)
    cells = []
    for method in ("lpt", "other"):
        for seed in (0, 1):
            whole = cell(method, seed, counts, 1.0)
            keep = whole.labels != seed  # each seed lacks another class
            images = [name for name, kept in zip(whole.images, keep, strict=True) if kept]
            cells.append(replace(whole, images=images, labels=whole.labels[keep], predicted=whole.predicted[keep]))
    write_comparison(
        tmp_path, Comparison(cells, ["lpt", "other"], {}, {0: counts, 1: counts}, {0: 9, 1: 9}, list("abcdef"), GROUPS)
    )
    assert "resampled apart" in (tmp_path / "comparison.md").read_text()


def test_nothing_finished_yet(tmp_path: Path) -> None:
    missing = dict.fromkeys((("lpt", 0), ("method0", 0)), "stopped")
    whole = comparison(2, 1, 10, missing)
    write_comparison(tmp_path, whole)
    assert {path.name for path in tmp_path.iterdir()} == FILES
    text = (tmp_path / "comparison.md").read_text()
    assert "0 of 2 runs finished" in text
    assert "must have finished a seed in common" in text
    print_comparison(whole, Console(file=io.StringIO()))


def test_without_the_reference(tmp_path: Path) -> None:
    whole = comparison(3, 2, 10, dict.fromkeys((("lpt", 0), ("lpt", 1)), "stopped"))
    assert write_comparison(tmp_path, whole)["differences"] == []


def test_metrics_that_a_method_has_not(tmp_path: Path) -> None:
    whole = comparison(2, 1, 10)
    free = Cost(0, 0, 0.0, 0, 0, None, None)
    bare = [replace(c, metrics=replace(c.metrics, ece=None, few=None), cost=free) for c in whole.cells]
    write_comparison(
        tmp_path, Comparison(bare, whole.methods, {}, whole.train_counts, whole.train_images, whole.class_names, GROUPS)
    )
    accuracy, cost, _ = markdown_tables((tmp_path / "comparison.md").read_text())
    assert (accuracy[1][5], accuracy[1][9]) == ("–", "–")
    assert cost[1][1:] == ["0", "0 B", "0.0", "0 B", "0", "–", "–", "1"]


def test_terminal_table() -> None:
    whole = comparison(3, 2, 20, {("method1", 1): "stopped"})
    console = Console(width=110, file=io.StringIO(), color_system=None)
    print_comparison(whole, console, summary=summarise(whole, resamples=50))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= 110
    row = next(line for line in text.splitlines() if "LPT" in line and "±" in line)
    assert with_std(summarise(whole)["methods"][2]["metrics"]["overall"], True) in row
    assert "1 of 2" in text
    assert "LPT less" in text
    assert GROUPS.describe() in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"missing": {("lpt", 0): "stopped"}}, "given once"),
        ({"methods": ["method0"]}, "no row"),
        ({"train_counts": {}}, "no class counts"),
        ({"cells": [], "train_counts": {}}, "at least one"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], message: str) -> None:
    whole = comparison(2, 1, 10)
    with pytest.raises(ValueError, match=message):
        Comparison(**{**whole.__dict__, **change})


@pytest.mark.parametrize("field", ["labels", "images"])
def test_other_test_images_at_the_same_seed_are_refused(field: str) -> None:
    whole = comparison(2, 1, 10)
    other = Cell(**{**whole.cells[0].__dict__, field: getattr(whole.cells[0], field)[::-1]})
    with pytest.raises(ValueError, match="other test images at seed 0"):
        summarise(Comparison(**{**whole.__dict__, "cells": [other, *whole.cells[1:]]}))


def test_texts_of_numbers() -> None:
    assert with_std({"mean": 0.6684, "std": 0.004}, True) == "66.8 ± 0.4"
    assert with_std({"mean": 0.6684, "std": None}, True) == "66.8 ± –"
    assert with_std({"mean": 0.6684, "std": None}, False) == "66.8"
    assert difference_text({"mean": 0.013, "low": -0.006, "high": 0.02}) == "+1.3 [−0.6, +2.0]"
    assert difference_text({"mean": -0.0001, "low": None, "high": None}) == "0.0 [–]"
    assert [cost_text("stored_bytes", {"mean": value}) for value in (12, 270_000, 4.2e6, 343e6)] == [
        "12 B", "270 kB", "4.2 MB", "343 MB",
    ]  # fmt: skip


def test_colours_are_those_of_the_reference_and_the_three_strongest() -> None:
    colours = Rows(list("abcdef"), [0.1, 0.9, 0.8, 0.2, 0.7, 0.6], 3, "").colours("grey")
    assert [colour == "grey" for colour in colours] == [True, False, False, False, False, True]
    assert len(set(colours)) == 5


def test_labels_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(0)
    figure = new_figure(7, 5)
    axes = figure.subplots()
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    figure.draw_without_rendering()
    places = np.concatenate([rng.uniform(0.1, 0.9, (9, 2)), [[0.5, 0.5], [0.5, 0.51], [0.99, 0.99], [0.01, 0.01]]])
    place_labels(axes, [Label(f"method {x:.3f}", float(x), float(y), "black") for x, y in places])
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [matplotlib.text.Text.get_window_extent(text, renderer) for text in axes.texts]
    assert len(boxes) == 13
    frame = axes.get_window_extent()
    for index, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[index + 1 :])
        assert frame.x0 - 2 <= box.x0
        assert box.x1 <= frame.x1 + 2
