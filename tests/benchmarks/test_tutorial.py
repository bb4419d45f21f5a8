"""The commands of the tutorial run, and print what the page shows."""

from __future__ import annotations

import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml
from benchmarks.documents.pages import DOCS

PAGE = (DOCS / "tutorial" / "index.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
SMALL = {"image.size": 16, "train.epoch_steps": 2, "train.phase1.epochs": 2, "train.phase2.epochs": 2}
"""Values in place of those in quick.yaml, so that the test takes seconds."""
NUMBER, CLASS = re.compile(r"-?\d+(?:[.,]\d+)*|–"), re.compile(r",[A-Z][\w-]*(?=,)")


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_commands_run_and_print_what_the_page_shows(shared_dir: Path, tmp_path: Path) -> None:
    """All but the installation. Numbers are those of the page only where nothing is trained, which is doctor.

    A quarter of the pictures is trained on, with small settings, to take less time.
    """
    environment = prepare(shared_dir, tmp_path)
    commands = [pair for pair in blocks_with_output() if "pip install" not in pair[0]]
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
    recorded = "".join((DOCS / "results" / "tutorial.txt").read_text(encoding="utf-8").split())
    for _, shown in blocks_with_output():
        for line in shown.splitlines():
            assert line == "..." or "".join(line.split()) in recorded, line


def blocks_with_output() -> list[tuple[str, str]]:
    """Return the commands of each `sh` block, and the output that the block after it shows."""
    blocks = BLOCK.findall(PAGE)
    after = [*blocks[1:], ("", "")]
    pairs = zip(blocks, after, strict=True)
    return [(block, shown if then == "text" else "") for (kind, block), (then, shown) in pairs if kind == "sh"]


def prepare(shared: Path, folder: Path) -> dict[str, str]:
    """Put the photographs, quick.yaml with small values and a program `lpt` into a folder; return its environment."""
    (folder / "clothing").mkdir()
    (folder / "clothing" / "images").symlink_to(shared / "data" / "clothing" / "images")
    (folder / "clothing" / "labels.csv").write_bytes((shared / "data" / "clothing" / "labels.csv").read_bytes())
    (settings,) = (yaml.safe_load(block) for kind, block in BLOCK.findall(PAGE) if kind == "yaml")
    for path, value in SMALL.items():
        *sections, field = path.split(".")
        section = settings
        for name in sections:
            section = section[name]
        assert field in section, f"quick.yaml of the page has no {path}"
        section[field] = value
    (folder / "quick.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    program = folder / "bin" / "lpt"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lpt "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    paths = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "HF_HUB_CACHE": str(shared / "hub")}
    return {**os.environ, **paths, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


@contextmanager
def fewer_pictures(table: Path, of: int) -> Iterator[None]:
    """Keep every so many of the rows of a table while a command runs."""
    whole = table.read_bytes()
    header, *rows = whole.splitlines(keepends=True)
    table.write_bytes(header + b"".join(rows[::of]))
    yield
    table.write_bytes(whole)


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run the lines of a block in a shell; return what they print, if all end well."""
    shell = ["sh", "-ec", command]
    done = subprocess.run(
        shell,
        cwd=folder,
        env=environment,
        encoding="utf-8",
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, f"{command}{done.stdout}"
    return done.stdout


@contextmanager
def server(command: str, folder: Path, environment: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Run the server of the page on a free port; yield its line and its address, and check that it ends well."""
    arguments = [*command.split(), "--port", "0"]
    process = subprocess.Popen(
        arguments, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        yield line, line.split()[0]
        process.terminate()
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()


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
    return " ".join(text.split())
