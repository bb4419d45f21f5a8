"""Claims: a piece has one owner, and that of a dead or stalled owner is taken over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lpt.system import claims as module
from lpt.system.claims import Claims, remove_claims

OTHER = """
import os, sys
from pathlib import Path
from lpt.system.claims import Claims
claims = Claims(Path(sys.argv[1]), "other").__enter__()
print(claims.take("000001"), flush=True)
sys.stdin.read()
"""


def test_a_piece_has_one_owner_until_it_is_released(tmp_path: Path) -> None:
    with Claims(tmp_path, "a") as first, Claims(tmp_path, "b") as second:
        assert first.take("000000")
        assert not first.take("000000")
        assert not second.take("000000")
        assert second.others() == ["a"]
        first.release("000000")
        assert second.take("000000")
        first.release("000000")  # not its own any more
        assert not first.take("000000")
    assert list(tmp_path.iterdir()) == []


def test_the_claim_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    command = [sys.executable, "-c", OTHER, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with Claims(tmp_path, "here") as claims:
            assert claims.lives("other")
            assert not claims.take("000001")
            other.kill()
            other.wait()
            assert not claims.lives("other")
            assert claims.take("000001")
    remove_claims(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other", ["host", "pids"])
def test_another_machine_is_told_by_the_clock_of_the_disk(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose beat rests is dead, also in another container; one that beats but gets nowhere loses its claim."""
    with Claims(tmp_path, "far") as far, Claims(tmp_path, "here") as claims:
        beat = tmp_path / "far.beat"
        beat.write_text(json.dumps({**json.loads(beat.read_text()), other: "elsewhere", "pid": 1}))
        assert far.take("000000")
        assert not claims.take("000000")
        monkeypatch.setattr(module, "STALL_SECONDS", -1.0)
        os.utime(tmp_path / "000000.claim", ns=(0, beat.stat().st_mtime_ns - 10**10))
        assert claims.take("000000")
        monkeypatch.undo()
        claims.release("000000")
        assert far.take("000000") or far.take("000000")  # the first finds its old claim gone
        old = beat.stat().st_mtime_ns - int(1e9 * module.DEAD_SECONDS) - 10**10
        os.utime(beat, ns=(old, old))
        assert not claims.lives("far")
        assert claims.take("000000")
