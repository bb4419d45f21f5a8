"""The check of the documents' prose."""

from __future__ import annotations

from pathlib import Path

import pytest
from benchmarks.documents.pages import PAGES, name_of
from scripts.check_prose import faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (f"One {'word ' * 45}ends here.", "48 words"),
        (f"{'Short. ' * 110}", "a paragraph of 769 characters"),
        ("Of 3, 4.5 and 6x6 it took −7.", "4 numbers"),
        ("- A list (with this)\n  goes on (with that).", "2 parentheses"),
    ],
)
def test_a_fault_is_named_with_its_line(text: str, fault: str) -> None:
    ((line, message),) = faults(f"# A title\n\nFine.\n\n{text}\n")
    assert line == 5
    assert fault in message


def test_tables_code_and_what_is_no_prose_are_left_out() -> None:
    numbers = "1, 2, 3, 4, 5, 6"
    table, code = f"| a |\n|---|\n| {numbers} |", f"    {numbers}\n\n```sh\n{numbers}\n```\n\n`{numbers}` is code."
    names = "ViT-B/16, CIFAR-100 and [a link](a_(1)_(2).md) are names."
    generated = f"<!-- table a -->\n{numbers}.\n<!-- end -->"
    assert not list(faults("\n\n".join((f"# {numbers}", table, code, names, generated))))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_document_reads_well(page: Path) -> None:
    assert not list(faults(page.read_text(encoding="utf-8")))
