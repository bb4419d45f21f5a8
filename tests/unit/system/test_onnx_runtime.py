"""ONNX Runtime is imported without its telemetry."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import lpt

HIDDEN_IN_CI = ("CI", "TF_BUILD", "GITHUB_ACTIONS", "ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME")
"""Variables that would keep ONNX Runtime silent here though it speaks at a user's."""


def test_it_is_imported_in_one_place_only() -> None:
    """The variable that silences it must be set before the first import of a process."""
    source = Path(lpt.__file__).parent
    importing = re.compile(r"^\s*(import|from) onnxruntime\b", re.MULTILINE)
    files = [file.relative_to(source).as_posix() for file in source.rglob("*.py")
             if importing.search(file.read_text(encoding="utf-8"))]  # fmt: skip
    assert files == ["system/onnx_runtime.py"]


def test_it_leaves_no_identifier_of_the_machine(tmp_path: Path) -> None:
    """Its telemetry begins with a file in the user's home."""
    environment = {name: value for name, value in os.environ.items() if name not in HIDDEN_IN_CI}
    command = [sys.executable, "-c", "import lpt.packs.onnx"]
    subprocess.run(command, check=True, env={**environment, "HOME": str(tmp_path)})
    assert not [file for file in tmp_path.rglob("*") if file.is_file()]
