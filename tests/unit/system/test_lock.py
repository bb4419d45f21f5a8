"""The lock of a run folder: with real processes, killed ones among them."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lpt.errors import RunError
from lpt.system import lock
from lpt.system.files import TEMP_SUFFIX
from lpt.system.lock import LOCK, check_free_of_runs, locked, locked_output, locked_path

HOLD = """
import os, sys, time
from pathlib import Path
from lpt.system.lock import locked
with locked(Path(sys.argv[1])):
    if len(sys.argv) > 2 and not os.fork():
        time.sleep(60)
    print("held", flush=True)
    time.sleep(60)
"""


def holder(folder: Path, *extra: str) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder), *extra], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    """The message names process and host; a killed holder is told of, and its lock is taken over."""
    process, message = holder(tmp_path), list[str]()
    try:
        for attempt in (lambda: locked(tmp_path).__enter__(), lambda: check_free_of_runs(tmp_path)):
            with pytest.raises(RunError, match=rf"in use: process {process.pid} on \S+ is running in it"):
                attempt()
    finally:
        process.kill()
        process.wait()
    check_free_of_runs(tmp_path)
    with locked(tmp_path, message.append):
        assert json.loads((tmp_path / LOCK).read_text())["pid"] == os.getpid()
    assert len(message) == 1
    assert f"process {process.pid}" in message[0]
    assert list(tmp_path.iterdir()) == []


def test_a_child_of_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    """Reader processes inherit files; they must not keep the lock of a run that was killed."""
    process = holder(tmp_path, "with a child")
    process.kill()
    process.wait()
    with locked(tmp_path):
        pass


def test_a_child_may_be_slow_to_close_what_it_inherited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine a killed run's child holds the lock until it gets a core; whoever comes waits for it."""
    gone = holder(tmp_path)
    gone.kill()
    gone.wait()
    child = os.open(tmp_path / LOCK, os.O_RDWR)
    fcntl.flock(child, fcntl.LOCK_EX)
    monkeypatch.setattr(lock, "CHILD_SECONDS", 0.05)
    with pytest.raises(RunError, match=f"process {gone.pid}"), locked(tmp_path):
        pass
    monkeypatch.setattr(lock, "CHILD_SECONDS", 60)
    threading.Timer(0.2, os.close, [child]).start()
    with locked(tmp_path):
        pass


def test_one_process_holds_it_once(tmp_path: Path) -> None:
    """Two threads of a program are two runs."""
    with locked(tmp_path), pytest.raises(RunError, match=f"process {os.getpid()}"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("beating", [True, False])
def test_a_lock_of_another_machine_is_watched(beating: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused while somebody touches it, whatever the clocks say, and taken over once it rests."""
    monkeypatch.setattr(lock, "WATCH_SECONDS", 0.6)
    file, done, message = tmp_path / LOCK, threading.Event(), list[str]()
    file.write_text(json.dumps({"kind": "lpt-lock", "format_version": 1, "host": "far", "pid": 1, "started": 1.0}))
    os.utime(file, (1e9, 1e9))

    def touch() -> None:
        while not done.wait(0.02):
            os.utime(file)

    toucher = threading.Thread(target=touch)
    if beating:
        toucher.start()
    try:
        if beating:
            with pytest.raises(RunError, match="process 1 on far"), locked(tmp_path, message.append):
                pass
        else:
            with locked(tmp_path, message.append):
                pass
    finally:
        done.set()
        if beating:
            toucher.join()
    assert "waiting" in message[0]


def test_the_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other machines see that it goes on."""
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.02)
    with locked(tmp_path):
        os.utime(tmp_path / LOCK, (1e9, 1e9))
        deadline = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime < 2e9 and time.monotonic() < deadline:
            if (tmp_path / LOCK).stat().st_mtime > 1.5e9:
                return
            time.sleep(0.01)
    raise AssertionError("the lock was never touched")


@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "lpt-lock", "pid": "x"}'])
def test_a_cut_lock_is_no_obstacle(content: str, tmp_path: Path) -> None:
    """A kill between making and writing it leaves an empty file."""
    (tmp_path / LOCK).write_text(content)
    with locked(tmp_path):
        pass
    assert not (tmp_path / LOCK).exists()


@pytest.mark.parametrize("name", ["report.html", "n" * 250])
def test_an_output_that_appears_in_one_step_is_locked_beside_it(name: str, tmp_path: Path) -> None:
    """Another spelling of the path is the same output; another output is not; what was made for the lock goes again."""
    output = tmp_path / "new" / "folder" / name
    (tmp_path / "link").symlink_to(tmp_path / "new" / "folder")
    with locked_path(output, print):
        for again in (output, tmp_path / "link" / name):
            with pytest.raises(RunError, match=rf"in use: process {os.getpid()} on \S+ is writing it"):
                locked_path(again, print).__enter__()
        with locked_path(output.with_name("other"), print):
            pass
        (left,) = output.parent.iterdir()
        assert left.name.startswith(".")
        assert left.name.endswith(TEMP_SUFFIX)  # a kill leaves it, and what removes temporary files removes it
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_folder_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    with locked_output(tmp_path / "mine", print), locked_output(tmp_path / "mine" / "a" / "b", print):
        assert (tmp_path / "mine" / "a" / "b" / LOCK).is_file()
    assert [*tmp_path.rglob("*")] == [tmp_path / "mine"]
    with locked_path(Path(os.devnull), print):  # nothing lies beside a device
        assert not list(Path(os.devnull).parent.glob(f".*{TEMP_SUFFIX}"))
