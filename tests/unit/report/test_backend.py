"""Plots are drawn whatever MPLBACKEND says: a notebook gives it to every process that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = ("module://matplotlib_inline.backend_inline", "module://ipykernel.pylab.backend_inline", "inline")
ANY = (*NOTEBOOKS, "TkAgg", "nonsense", "module://", " ", "svg", "AGG", "")
DRAW = """
import sys
from pathlib import Path
from lpt.data.longtail import ShotGroups
from lpt.report.plots import plot_distribution
plot_distribution(Path(sys.argv[1]), [3, 50, 500], ShotGroups())
import matplotlib, os
print(matplotlib.rcParams._get("backend"), os.environ["MPLBACKEND"], sep="|")
"""


def python(*arguments: str, backend: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "MPLBACKEND": backend}
    return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("backend", ANY)
def test_plot_from_python(backend: str, tmp_path: Path) -> None:
    done = python("-c", DRAW, str(tmp_path / "plot.png"), backend=backend)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert done.stdout.strip("\n").endswith(f"|{backend}")
    if backend in ("TkAgg", "svg"):
        assert done.stdout.lower().startswith(backend.lower())  # pyplot's stays the user's


@pytest.mark.parametrize("backend", [NOTEBOOKS[0], "nonsense"])
def test_plot_of_the_program(backend: str, photo_folder: Path, tmp_path: Path) -> None:
    plot = tmp_path / "plot.png"
    done = python("-m", "lpt", "doctor", str(photo_folder), "--plot", str(plot), backend=backend)
    assert done.returncode == 0, done.stderr
    assert plot.is_file()
