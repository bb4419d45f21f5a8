"""The site builds, and works without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from benchmarks.documents.pages import DOCS, PAGES


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sphinx") is None, reason="Sphinx is not installed: pip install '.[dev]'")
def test_site_builds_without_warnings_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    options = ["-W", "--keep-going", "-n", "-q", "-d", tmp_path / "doctrees"]
    command = [sys.executable, "-m", "sphinx", *options, DOCS, tmp_path / "site"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = [page for page in PAGES if DOCS in page.parents]
    for page in pages:
        html = (tmp_path / "site" / page.relative_to(DOCS)).with_suffix(".html").read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|source)[^>]* src=\"([^\"]+)|<link[^>]* href=\"([^\"]+)", html)
        assert loaded
        assert not [address for both in loaded for address in both if re.match(r"[a-z]+:|//", address)]
        assert "<!-- generated" not in html
    reference = tmp_path / "site" / "reference"
    assert "--preset" in (reference / "commands.html").read_text(encoding="utf-8")
    assert 'id="lpt.load_predictor"' in (reference / "python" / "lpt.html").read_text(encoding="utf-8")
    assert '"imbal"' in (tmp_path / "site" / "searchindex.js").read_text(encoding="utf-8")  # stems of all words
