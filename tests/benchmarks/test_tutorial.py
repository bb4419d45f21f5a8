"""The commands of the tutorial run, and print what the page shows."""

from __future__ import annotations

import csv
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
from benchmarks.documents.tutorial import (
    BLOCK,
    PAGE,
    RECORD,
    commands_with_output,
    prepare,
    run,
    server,
    settings_file,
)

from lpt.config.values import by_path, leaves, merge, nested

SMALL = {"image.size": 16, "train.epoch_steps": 2, "train.phase1.epochs": 2}
"""Values in place of those in quick.yaml, so that the test takes seconds."""
NUMBER, CLASS = re.compile(r"-?\d+(?:[.,]\d+)*|–"), re.compile(r",[A-Z][\w-]*(?=,)")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_commands_run_and_print_what_the_page_shows(shared_dir: Path, tmp_path: Path) -> None:
    """All but the installation. Numbers are those of the page only where nothing is trained, which is doctor.

    A quarter of the pictures is trained on, with small settings, to take less time.
    """
    assert set(SMALL) <= set(dict(leaves(settings_file())))
    environment = prepare(shared_dir, tmp_path / "work", merge(settings_file(), nested(by_path(SMALL))))
    tmp_path = tmp_path / "work"
    commands = commands_with_output()
    served = next(command for command, _ in commands if command.startswith("lpt serve"))
    at = [command for command, _ in commands].index(served)
    before, after = commands[:at], commands[at + 1 :]
    for command, shown in before:
        with fewer_pictures(tmp_path / "clothing" / "labels.csv", of=4 if command.startswith("lpt fit") else 1):
            check_output(shown, run(command, tmp_path, environment), exact=command.startswith("lpt doctor"))
    report = (tmp_path / "runs" / "clothing" / "report.html").read_text(encoding="utf-8")
    assert "Most confused pairs" in report
    with server(served, tmp_path, environment) as (line, address):
        check_output(commands[at][1], line, exact=False)
        assert b"<title>" in urlopen(address, timeout=60).read()
        [(command, shown)] = after
        answer = run(command.replace("http://127.0.0.1:8000", address), tmp_path, environment)
        keys = re.findall(r'"(\w+)":', shown)
        assert re.findall(r'"(\w+)":', answer)[: len(keys)] == keys
        assert re.findall(r'"image":"[^"]+"', answer) == re.findall(r'"image":"[^"]+"', shown)


def test_the_split_of_the_page_keeps_each_sender_on_one_side(tmp_path: Path) -> None:
    """It leaves out what nobody could name, and what has no file."""
    (script,) = (block for kind, block in BLOCK.findall(PAGE) if kind == "python")
    (tmp_path / "clothing" / "images").mkdir(parents=True)
    rows = [("a", 4, "Hat"), ("b", 4, "Shoes"), ("c", 5, "Hat"), ("d", 5, "Not sure"), ("gone", 6, "Hat")]
    for image, _, _ in rows[:-1]:
        (tmp_path / "clothing" / "images" / f"{image}.jpg").touch()
    lines = ["image,sender_id,label,kids", *(f"{image},{sender},{label},False" for image, sender, label in rows)]
    (tmp_path / "clothing" / "images.csv").write_text("\n".join(lines), encoding="utf-8")
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    with (tmp_path / "clothing" / "labels.csv").open(encoding="utf-8", newline="") as file:
        written = [tuple(row.values()) for row in csv.DictReader(file)]
    assert written == [
        ("images/a.jpg", "Hat", "4", "test"),
        ("images/b.jpg", "Shoes", "4", "test"),
        ("images/c.jpg", "Hat", "5", "train"),
    ]


def test_output_on_the_page_is_that_of_the_recorded_run() -> None:
    """No number on the page is typed by hand; lines may be broken elsewhere."""
    recorded = "".join(RECORD.read_text(encoding="utf-8").split())
    for _, shown in commands_with_output():
        for line in shown.splitlines():
            assert line == "..." or "".join(line.split()) in recorded, line


@contextmanager
def fewer_pictures(table: Path, of: int) -> Iterator[None]:
    """Keep every so many of the rows of a table while a command runs."""
    whole = table.read_bytes()
    header, *rows = whole.splitlines(keepends=True)
    table.write_bytes(header + b"".join(rows[::of]))
    yield
    table.write_bytes(whole)


def check_output(shown: str, printed: str, *, exact: bool) -> None:
    """Check that a command prints the lines that the page shows, in this order.

    Args:
        shown: with `...` for what is left out.
        printed: by the command.
        exact: numbers and class names of predictions too.
    """
    lines = iter([comparable(line, exact) for line in printed.splitlines()])
    for line in shown.splitlines():
        if line not in ("", "...") and not line.startswith("Machine: "):
            assert comparable(line, exact) in lines, f"the page shows {line!r}, which is not in\n{printed}"


def comparable(line: str, exact: bool) -> str:
    text = line if exact else CLASS.sub(",CLASS", NUMBER.sub("0", re.sub("─+", "─", line)))
    text = text if exact else re.sub(r"0 (min|h 0 min) left", "0 s left", text)  # a slower machine
    return " ".join(text.split())
