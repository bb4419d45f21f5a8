"""Run the commands of the tutorial on the photographs of ../shared, and record what they print and show.

    python -m benchmarks.documents.tutorial --work /tmp/tutorial

It writes docs/results/tutorial.txt and the pictures docs/images/tutorial_*.webp, for which it needs Debian's Chromium.
What a command printed is kept in the folder, and the command is not run again while it is there. The page itself is
written by hand; a test compares its output with the record.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.documents.pages import DOCS, ROOT
from benchmarks.record import describe_machine, today

if TYPE_CHECKING:
    from playwright.sync_api import Page

PAGE = (DOCS / "tutorial" / "index.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
RECORD = DOCS / "results" / "tutorial.txt"
ADDRESS = "http://127.0.0.1:8000"
SHOWN = (5, 3)
"""The rows of new.csv whose pictures are dropped on the page."""


def commands_with_output() -> list[tuple[str, str]]:
    """Return the commands of each `sh` block but the installation, and the output that the block after it shows."""
    blocks = BLOCK.findall(PAGE)
    after = [*blocks[1:], ("", "")]
    pairs = zip(blocks, after, strict=True)
    return [
        (block, shown if then == "text" else "")
        for (kind, block), (then, shown) in pairs
        if kind == "sh" and "pip install" not in block
    ]


def settings_file() -> dict[str, Any]:
    """Return quick.yaml of the page."""
    (settings,) = (yaml.safe_load(block) for kind, block in BLOCK.findall(PAGE) if kind == "yaml")
    values: dict[str, Any] = settings
    return values


def prepare(shared: Path, folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """Put the photographs, quick.yaml and a program `lpt` into a folder; return the environment for its commands.

    Args:
        shared: the folder `shared` beside the repository.
        folder: where the commands will run.
        settings: what quick.yaml holds.
    """
    (folder / "clothing").mkdir(parents=True, exist_ok=True)
    images = folder / "clothing" / "images"
    if not images.exists():
        images.symlink_to(shared / "data" / "clothing" / "images")
    (folder / "clothing" / "labels.csv").write_bytes((shared / "data" / "clothing" / "labels.csv").read_bytes())
    (folder / "quick.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    program = folder / "bin" / "lpt"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lpt "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    paths = {"PATH": f"{program.parent}{os.pathsep}{os.environ['PATH']}", "HF_HUB_CACHE": str(shared / "hub")}
    return {**os.environ, **paths, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}


def run(command: str, folder: Path, environment: dict[str, str]) -> str:
    """Run the lines of a block in a shell; return what they print, if all end well."""
    shell = ["sh", "-ec", command]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    done = subprocess.run(shell, cwd=folder, env=environment, encoding="utf-8", check=False, **streams)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}{done.stdout}"
    printed: str = done.stdout
    return printed


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


def record(shared: Path, folder: Path) -> str:
    """Run all commands, draw the pictures, and return what was printed."""
    environment = prepare(shared, folder, settings_file())
    parts = []
    for command, _ in commands_with_output():
        name = next(word for word in re.findall(r"(?:lpt (\w+)|(curl) )", command) if any(word))
        title = "".join(name)
        print(title, flush=True)
        if title == "serve":
            serve = command
            continue
        if title == "curl":
            with server(serve, folder, environment) as (line, address):
                parts.append(("serve", line.replace(address, ADDRESS)))
                parts.append((title, run(command.replace(ADDRESS, address), folder, environment)))
                draw(folder, address)
            continue
        kept = folder / f"{title}.printed"
        if not kept.exists():
            kept.write_text(run(command, folder, environment), encoding="utf-8")
        parts.append((title, kept.read_text(encoding="utf-8")))
    lines = [line.rstrip() for title, text in parts for line in (f"== {title}", *text.rstrip().splitlines())]
    return "\n".join(lines) + "\n"


def draw(folder: Path, address: str) -> None:
    """Draw the head of the report, its first confused pairs, and the page of the server with two pictures."""
    from playwright.sync_api import expect, sync_playwright

    with (folder / "new.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    pictures = []
    for number, row in enumerate(SHOWN, 1):
        picture = folder / f"photo_{number}.jpg"
        shutil.copyfile(folder / "clothing" / rows[row]["image"], picture)
        pictures.append(str(picture))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1000, "height": 450}, reduced_motion="reduce")
        page.goto((folder / "runs" / "clothing" / "report.html").as_uri())
        save(page, "tutorial_report")
        page.set_viewport_size({"width": 1000, "height": 900})
        heading = page.locator("h2", has_text="confused").first
        heading.evaluate("heading => scrollTo(0, heading.getBoundingClientRect().top + scrollY)")
        save(page, "tutorial_pairs")
        page.set_viewport_size({"width": 900, "height": 1280})
        page.goto(address)
        page.wait_for_selector("#about details")
        page.set_input_files("#choose", pictures)
        expect(page.locator("[data-state=done]")).to_have_count(len(pictures), timeout=60_000)
        page.locator("#look label").nth(1).click()
        page.mouse.move(0, 0)
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        page.wait_for_timeout(400)
        save(page, "tutorial_page")
        browser.close()


def save(page: Page, name: str) -> None:
    """Save what the window shows as WebP."""
    from PIL import Image

    with Image.open(io.BytesIO(page.screenshot())) as image:
        image.convert("RGB").save(DOCS / "images" / f"{name}.webp", quality=82, method=6)


def main() -> None:
    """Record the tutorial."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder to work in")
    args = parser.parse_args()
    text = record(ROOT.parent / "shared", args.work.resolve())
    facts = describe_machine("cpu")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    head = f"{versions}; {facts['hardware']}; {today()}. Seed 0. Command: python -m benchmarks.documents.tutorial\n"
    RECORD.write_text(head + text, encoding="utf-8")
    print(RECORD)


if __name__ == "__main__":
    main()
