"""Narrow terminals cut no number, and what others call their classes and files does not steer the terminal."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from rich import box
from rich.panel import Panel
from rich.table import Table

from lpt.cli import screen
from lpt.cli.screen import error_console, output_console, print_error
from lpt.data.longtail import ShotGroups
from lpt.evaluation.metrics import measure
from lpt.report.tables import metrics_table


def test_control_codes_of_names_are_written_out(capsys: pytest.CaptureFixture[str]) -> None:
    name = "cat\x1b[31m\x9b2J\x07\x1b]0;title\x07"
    table = Table("class")
    table.add_row(name)
    output_console().print(name, table, Panel(name), markup=False)
    error_console().print(f"Left out: {name}", markup=False)
    print_error(name)
    captured = capsys.readouterr()
    text = captured.out + captured.err
    assert text.count("cat\\x1b[31m\\x9b2J") == 5
    assert all(character == "\n" or character.isprintable() for character in text)


def test_colours_stay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    output_console().print("a\x1b[0mb", style="yellow", markup=False)
    assert capsys.readouterr().out == "\x1b[33ma\\x1b[0mb\x1b[0m\n"


def printed(part: object, width: int) -> str:
    console = screen._Screen(
        file=io.StringIO(), width=width, force_terminal=True, color_system=None, highlight=False, lasting=False
    )
    console.print(part)
    assert console.width == width
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.mark.parametrize("width", [10, 20, 30, 40, 50, 60, 80, 200])
def test_accuracies_are_whole(width: int) -> None:
    labels = np.array([0, 1, 2])
    metrics = measure(labels, labels, np.array([500, 50, 5]), ShotGroups())
    output = printed(metrics_table({"a split with a long name": metrics}), width)
    assert re.findall(r"\d+\.\d", output) == ["100.0"] * 5
    assert "…" not in output
    for word in ("overall", "mean per", "class", "medium"):
        assert word in output
    assert "split" in " ".join(output.split())


@pytest.mark.parametrize("width", [10, 25, 40, 80])
def test_numbers_in_any_table_are_whole(width: int) -> None:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("part")
    for column in ("how many of them there are", "each", "time"):
        table.add_column(column, justify="right")
    table.add_row("validation, 20 epochs and at the end", "12,345 images", "1,234.5 ms", "3 h 20 min")
    output = printed(table, width)
    for cell in ("12,345 images", "1,234.5 ms", "3 h 20 min"):
        assert cell in output
    assert "…" not in output


def test_a_table_that_fits_is_printed_as_wide_as_the_terminal() -> None:
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("a")
    table.add_column("b", justify="right")
    table.add_row("words " * 20, "1.0")
    assert max(map(len, printed(table, 40).splitlines())) <= 40
