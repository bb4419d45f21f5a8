"""The check of the documents' prose."""

from __future__ import annotations

import pytest
from benchmarks.documents.pages import PAGES, name_of
from scripts.check_prose import NOT_YET, faults


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


def test_a_document_that_reads_well_is_off_the_list() -> None:
    texts = {name_of(page): page.read_text(encoding="utf-8") for page in PAGES}
    assert all(list(faults(texts[name])) for name in NOT_YET)
