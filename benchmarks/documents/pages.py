"""The documents that people read: README.md and its like, and the pages of docs."""

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PARTS = ("tutorial", "how-to", "reference", "explanation")
"""The folders of docs that hold pages; the others hold pictures and raw results."""
AT_THE_ROOT = ("README.md", "CONTRIBUTING.md", "SECURITY.md")


def _pages() -> list[Path]:
    """Return the documents of the repository, those of its root first."""
    parts = (page for part in PARTS for page in sorted((DOCS / part).rglob("*.md")))
    return [*(ROOT / name for name in AT_THE_ROOT), DOCS / "index.md", *parts]


PAGES = _pages()


def name_of(page: Path) -> str:
    """Return the path of a document as people name it, such as `docs/how-to/tune.md`."""
    return page.relative_to(ROOT).as_posix()
