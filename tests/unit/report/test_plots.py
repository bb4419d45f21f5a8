"""Plots and tables: made, not blank, right for 2 to 8,000 classes, and for input that is nearly nothing."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from lpt.data.longtail import ShotGroups, long_tailed_counts
from lpt.evaluation.measured import measure_predictions
from lpt.evaluation.metrics import class_results, measure
from lpt.evaluation.predictions import Predictions
from lpt.report import plots
from lpt.report.group_plot import plot_group_use
from lpt.report.loss_plot import plot_losses
from lpt.report.plots import plot_accuracy_by_count, plot_distribution
from lpt.report.run_files import write_measured
from lpt.report.style import DPI, spread
from lpt.report.tables import metrics_table, percent, write_per_class

GROUPS = ShotGroups()
MEANS = [0.8, 0.7, 0.6]
# The colours of many, medium and few, as the plots have them.
BLUE, SKY, VERMILION = (11, 83, 148), (77, 163, 212), (212, 85, 28)


def pixels(path: Path) -> np.ndarray:
    """[H, W, 3] of a PNG that must be one, 150 dpi, and not blank."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.info["dpi"][0] == pytest.approx(DPI, abs=0.1)
        values = np.asarray(image.convert("RGB"))
    assert min(values.shape[:2]) > 200
    assert values.std() > 5
    return values


def has_colour(image: np.ndarray, colour: tuple[int, int, int], least: int = 20) -> bool:
    return int((np.abs(image.astype(int) - colour).max(axis=-1) <= 2).sum()) >= least


def log_lines(phases: dict[int, int], steps: int = 10) -> list[dict[str, Any]]:
    return [
        dict(phase=phase, epoch=epoch, step=step, loss=2.0 / (1 + step), balanced=1.5 / (1 + step), instance=1.0,
             similarity=0.1 * step if phase == 2 else None, lr=0.01)
        for phase, epochs in phases.items()
        for epoch in range(epochs)
        for step in range(epoch * steps, (epoch + 1) * steps)
    ]  # fmt: skip


@pytest.mark.parametrize("phases", [{1: 3, 2: 2}, {1: 2}, {2: 2}, {}])
def test_losses_of_any_phases(tmp_path: Path, phases: dict[int, int]) -> None:
    plot_losses(tmp_path / "losses.png", log_lines(phases))
    image = pixels(tmp_path / "losses.png")
    assert has_colour(image, VERMILION) == bool(phases)
    assert has_colour(image, SKY) == (2 in phases)  # the similarity


def test_losses_pass_over_other_lines_and_values_that_are_not_finite(tmp_path: Path) -> None:
    lines = [json.loads(json.dumps(line)) for line in log_lines({1: 1})]
    lines.insert(3, {"event": "validation", "few": 0.5})
    lines[5]["loss"] = float("nan")
    del lines[6]["balanced"]
    plot_losses(tmp_path / "losses.png", lines)
    pixels(tmp_path / "losses.png")


def test_a_step_logged_twice_counts_once_and_the_later_line_wins(tmp_path: Path) -> None:
    lines = log_lines({1: 2, 2: 1})
    plot_losses(tmp_path / "a.png", lines)
    wrong = [line | {"loss": 99.0} for line in lines[8:12]]
    plot_losses(tmp_path / "b.png", wrong + lines)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("classes", [2, 10, 100, 8000])
def test_plots_by_class(tmp_path: Path, classes: int) -> None:
    rng = np.random.default_rng(0)
    counts = long_tailed_counts(classes, 500, 100)
    plot_accuracy_by_count(tmp_path / "accuracy.png", counts, rng.random(classes), GROUPS, MEANS)
    plot_distribution(tmp_path / "classes.png", counts, GROUPS)
    use = rng.dirichlet(np.ones(20), classes)
    plot_group_use(tmp_path / "groups.png", use, counts, GROUPS, [f"class {c}" for c in range(classes)])
    for name in ("accuracy", "classes", "groups"):
        image = pixels(tmp_path / f"{name}.png")
        assert max(image.shape[:2]) < 2200
        assert has_colour(image, VERMILION)
        assert has_colour(image, BLUE)


def test_accuracy_without_test_images_and_without_training_images(tmp_path: Path) -> None:
    plot_accuracy_by_count(tmp_path / "none.png", [5, 500], [np.nan, np.nan], GROUPS, [None] * 3)
    plot_accuracy_by_count(tmp_path / "some.png", [0, 500, 7], [0.2, 0.9, np.nan], GROUPS, [0.9, None, None])
    plot_accuracy_by_count(tmp_path / "equal.png", [50] * 9, np.linspace(0, 1, 9), GROUPS, [None, 0.5, None])
    for name in ("none", "some", "equal"):
        pixels(tmp_path / f"{name}.png")


@pytest.mark.parametrize("prompts", [1, 2, 200])
def test_group_use_of_few_and_many_prompts(tmp_path: Path, prompts: int) -> None:
    use = np.random.default_rng(0).random((30, prompts))
    use[3], use[:, 0] = np.nan, 0  # a class without images, a prompt that nobody picks
    plot_group_use(tmp_path / "use.png", use, np.arange(30) * 7, GROUPS)
    pixels(tmp_path / "use.png")


def test_group_use_puts_frequent_classes_and_their_prompts_first(tmp_path: Path) -> None:
    """Two classes, each with one prompt: whatever their order, the dark cells are on the diagonal from top left."""
    use, counts = np.eye(2), np.array([500, 5])
    plot_group_use(tmp_path / "a.png", use, counts, GROUPS)
    plot_group_use(tmp_path / "b.png", use[::-1], counts[::-1], GROUPS)
    a, b = pixels(tmp_path / "a.png"), pixels(tmp_path / "b.png")
    dark = (np.abs(a.astype(int) - (8, 38, 74)).max(axis=-1) <= 3)[:, : a.shape[1] * 3 // 4]
    rows, columns = np.nonzero(dark)
    assert np.corrcoef(rows, columns)[0, 1] > 0.5
    assert np.array_equal(a, b)


def test_names_that_are_markup_or_in_another_script(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    names = ["$x_1", "$\\frac", "漢字", "a" * 200, "[red]"]
    plot_group_use(tmp_path / "a.png", np.eye(5), [9, 8, 7, 6, 5], GROUPS, names)
    pixels(tmp_path / "a.png")
    assert not [warning for warning in recwarn if "lyph" in str(warning.message)]


def test_the_plot_names_the_means_of_the_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class without training images is in no group: the few-shot mean leaves it out, as the table does."""
    shown: list[str] = []
    monkeypatch.setattr(plots, "label_above", lambda axes, labels, gap: shown.extend(text for _, text, _ in labels))
    labels = np.array([0, 0, 1, 2, 2])
    scores = np.eye(3)[[0, 1, 1, 0, 2]]
    counts = np.array([500, 5, 0])
    measured = measure_predictions(Predictions(scores, labels, None), counts, GROUPS, scale=1.0, temperature=1.0)
    write_measured(tmp_path, measured, ("a", "b", "c"), pool_size=4)
    assert shown == ["many  50.0 %", "few  100.0 %"]
    assert not (tmp_path / "group_use.png").exists()


def test_plots_leave_pyplot_alone() -> None:
    import subprocess

    code = "import sys, lpt.report.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@given(
    st.lists(st.floats(-1e3, 1e3), max_size=8),
    st.floats(0.01, 10),
    st.one_of(st.none(), st.floats(100, 1000)),
)
def test_spread(positions: list[float], gap: float, within: float | None) -> None:
    moved = spread(positions, gap, within)
    order = np.argsort(positions, kind="stable")
    assert np.all(np.diff(np.array(moved)[order]) >= gap * (1 - 1e-6) - 1e-9) or len(positions) < 2
    if within is not None and positions and max(moved) - min(moved) <= within - gap:
        assert gap / 2 - 1e-6 <= min(moved)
        assert max(moved) <= within - gap / 2 + 1e-6
    if within is None and np.all(np.diff(np.sort(positions)) > gap):
        assert moved == pytest.approx(positions)


def printed(table: object) -> str:
    console = Console(width=120, file=io.StringIO(), color_system=None)
    console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_table_has_the_values_and_the_boundaries() -> None:
    metrics = measure([0, 0, 1, 2], [0, 1, 1, 0], [500, 50, 200], GROUPS)
    text = printed(metrics_table({"LPT [both]": metrics}))
    row = next(line for line in text.splitlines() if "LPT [both]" in line)
    assert row.split()[2:] == ["50.0", "50.0", "25.0", "100.0", "–"]
    assert GROUPS.describe() in text
    assert "2 many, 1 medium, 0 few-shot classes" in text


def test_rows_that_were_tested_differently_have_no_note_in_common() -> None:
    first = measure([0, 1], [0, 0], [500, 5], GROUPS)
    second = measure([0, 1, 1], [0, 1, 1], [500, 5], GROUPS)
    text = printed(metrics_table({"test": first, "validation": second}))
    assert "Tested" not in text
    assert "Tested: 2 images; 1 many, 0 medium, 1 few-shot classes." in printed(metrics_table({"test": first}))


def test_percent() -> None:
    assert percent(None) == "–"
    assert percent(0.6684) == "66.8"


def test_per_class_csv(tmp_path: Path) -> None:
    names = ['a,"b"', "漢", "c"]
    rows = class_results([0, 0, 0, 1], [0, 0, 1, 1], [500, 50, 5], GROUPS, names)
    write_per_class(tmp_path / "per_class.csv", rows)
    with (tmp_path / "per_class.csv").open(encoding="utf-8", newline="") as file:
        read = list(csv.reader(file))
    assert read[0] == [
        "class", "train_images", "group", "test_images", "accuracy", "most_confused_with", "confused_images",
    ]  # fmt: skip
    assert read[1:] == [
        ['a,"b"', "500", "many", "3", "0.6667", "漢", "1"],
        ["漢", "50", "medium", "1", "1.0000", "", "0"],
        ["c", "5", "few", "0", "", "", "0"],
    ]
