"""The documents agree with the result files and the code."""

from __future__ import annotations

import re
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks.documents.pages import PAGES, ROOT, name_of
from benchmarks.documents.tables import DOCUMENTS, filled, present_commands

import lpt


@pytest.mark.parametrize("path", DOCUMENTS, ids=name_of)
def test_tables_are_those_of_the_result_files(path: Path) -> None:
    """No number in a table is typed by hand: `python -m benchmarks.documents.tables --write` changes nothing."""
    text = path.read_text(encoding="utf-8")
    assert "<!-- table" in text
    assert filled(text) == text


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path: Path) -> None:
    """Every relative link and picture of a document is in the repository, and every heading it points to there."""
    for target, heading in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        document = path.parent / target if target else path
        assert document.exists(), f"{path.name} links to {target}"
        if heading:
            assert heading in headings(document), f"{path.name} links to {target}#{heading}"


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_name_modules_that_are_here(path: Path) -> None:
    """Or the paragraph names the commit in which the script stands."""
    for paragraph in path.read_text(encoding="utf-8").split("\n\n"):
        for module in re.findall(r"python -m ([a-z][\w.]*\w)", paragraph):
            try:
                here = find_spec(module) is not None
            except ModuleNotFoundError:
                here = False
            assert here or re.search(r"commit [0-9a-f]{7}", paragraph), f"{path.name}: there is no module {module}"


def test_commands_of_older_result_files_are_brought_up_to_date() -> None:
    """Present names stay, and so do words that begin like a module."""
    assert present_commands("`python -m benchmarks.counts --size 9`") == "`python -m benchmarks.speed.counts --size 9`"
    for text in ("python -m benchmarks.speed.counts", "python -m benchmarks.countless", "the counts"):
        assert present_commands(text) == text


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert project["version"] == lpt.__version__
    assert re.search(r"^version: (.*)$", citation, flags=re.MULTILINE)[1] == lpt.__version__  # type: ignore[index]
    assert f"## [{lpt.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def headings(path: Path) -> set[str]:
    """The headings of a document as GitHub writes them into links."""
    lines = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.strip().lower()).replace(" ", "-") for line in lines}
