"""What others call their classes and files does not steer the terminal."""

from __future__ import annotations

import pytest
from rich.panel import Panel
from rich.table import Table

from lpt.cli.screen import error_console, output_console, print_error


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
