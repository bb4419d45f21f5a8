"""What the documents say is what the result files and the code say."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from benchmarks.documents.tables import DOCUMENTS, filled

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_result_files(path: Path) -> None:
    """No number in a table is typed by hand: `python -m benchmarks.documents.tables --write` changes nothing."""
    text = path.read_text(encoding="utf-8")
    assert "<!-- table" in text
    assert filled(text) == text


@pytest.mark.parametrize("path", [ROOT / "README.md", *sorted(ROOT.glob("docs/*.md"))], ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link and picture of a document is in the repository, and every heading it points to there."""
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        document = path.parent / target if target else path
        assert document.exists(), f"{path.name} links to {target}"
        if heading:
            assert heading in headings(document), f"{path.name} links to {target}#{heading}"


def headings(path: Path) -> set[str]:
    """The headings of a document as GitHub writes them into links."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in lines}
