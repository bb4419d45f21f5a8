"""How the threads of OpenMP wait in the program, and that the library leaves that alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lpt.system.openmp import SPIN_COUNT, WAITING, limit_spinning

ROOT = Path(__file__).parents[3]


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """An environment in which nobody said how threads wait; what a test sets in it is undone."""
    for name in WAITING:
        monkeypatch.setenv(name, "")  # so that it is as before at the end, whatever sets it
        monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.skipif(sys.platform != "linux", reason="PyTorch comes with GNU's OpenMP on Linux only")
def test_openmp_itself_says_that_the_program_has_set_it(unset: pytest.MonkeyPatch) -> None:
    """It reads the environment when PyTorch is loaded: had anything of `lpt` loaded that before, it would be late."""
    unset.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    command = [sys.executable, "-m", "lpt", "config", "--preset", "auto"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert f"GOMP_SPINCOUNT = '{SPIN_COUNT}'" in done.stderr


@pytest.mark.parametrize("name", WAITING)
def test_what_the_user_set_stays(unset: pytest.MonkeyPatch, name: str) -> None:
    unset.setenv(name, "0")
    before = dict(os.environ)
    limit_spinning()
    assert dict(os.environ) == before


def test_the_number_of_threads_is_another_matter(unset: pytest.MonkeyPatch) -> None:
    """A launcher such as torchrun sets it, and the threads of its processes must not spin either."""
    unset.setenv("OMP_NUM_THREADS", "3")
    before = dict(os.environ)
    limit_spinning()
    assert dict(os.environ) == {**before, "GOMP_SPINCOUNT": str(SPIN_COUNT)}


def test_importing_the_library_changes_no_environment(unset: pytest.MonkeyPatch) -> None:
    code = "import json, os; before = dict(os.environ); import lpt, lpt.cli, lpt.packs; \
print(json.dumps(dict(os.environ) == before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert json.loads(done.stdout)


@pytest.mark.parametrize(
    "document", ["docs/explanation/limits.md", "docs/explanation/performance.md", "docs/how-to/scaling.md"]
)
def test_the_documents_name_the_number_of_the_program(document: str) -> None:
    assert f"GOMP_SPINCOUNT={SPIN_COUNT}" in (ROOT / document).read_text(encoding="utf-8")
