"""What every result file begins with."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from benchmarks.record import describe_command, describe_machine, describe_run, versions


def test_a_record_says_what_was_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command can be copied into a shell; without arguments it is that of this process."""
    record = describe_run("speed", "benchmarks.speed", ["--tag", "two words"])
    assert record.keys() == {"what", "command", "date"}
    assert record["what"] == "speed"
    assert record["command"] == "python -m benchmarks.speed --tag 'two words'"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", record["date"])
    monkeypatch.setattr(sys, "argv", ["file.py", "--quick"])
    assert describe_command("benchmarks.scale") == "python -m benchmarks.scale --quick"


def test_a_record_says_where() -> None:
    """With the versions that tables name."""
    machine = describe_machine("cpu")
    assert machine["hardware"].startswith("cpu (")
    assert machine["versions"] == versions()
    assert {"lpt", "torch", "timm", "python"} <= versions().keys()


def test_the_command_is_described_without_torch() -> None:
    """`benchmarks.scale` measures memory in fresh processes, and imports nothing large itself."""
    code = (
        "import sys; from benchmarks.record import describe_run as run; run('a', 'b'); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
