"""Atomic writing, with real faults: a file-size limit, a full file system, missing permissions, a kill."""

from __future__ import annotations

import json
import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lpt.errors import RunError
from lpt.system import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def run_limited(code: str, limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process that may write at most `limit` bytes to a file."""

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, "-c", code, *arguments], preexec_fn=lower, capture_output=True, text=True, timeout=60
    )


def test_writes_and_replaces(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.txt"
    files.write_text(path, "one")
    files.write_text(path, "two\näß漢")
    assert path.read_text(encoding="utf-8") == "two\näß漢"
    assert names(path.parent) == ["a.txt"]


def test_links_and_pipes_stay_what_they_are(tmp_path: Path) -> None:
    target, link, pipe = tmp_path / "disk" / "a", tmp_path / "link", tmp_path / "pipe"
    link.symlink_to(target)
    for text in ("one", "two"):
        files.write_text(link, text)
    assert link.readlink() == target
    assert target.read_text() == "two"
    assert names(target.parent) == ["a"]
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        files.write_text(pipe, "three")
        assert os.read(reader, 100) == b"three"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert names(tmp_path) == ["disk", "link", "pipe"]


def test_new_file_obeys_the_umask_and_an_old_one_keeps_its_mode(tmp_path: Path) -> None:
    path, old_umask = tmp_path / "a", os.umask(0o027)
    try:
        files.write_bytes(path, b"x")
    finally:
        os.umask(old_umask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    files.write_bytes(path, b"y")
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


def test_json_takes_numpy_and_paths_and_names_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"n": np.int64(3), "x": np.float32(0.5), "a": np.arange(2), "p": Path("b/c"), "name": "漢\udcff"}
    files.write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == {
        "n": 3, "x": 0.5, "a": [0, 1], "p": "b/c", "name": "漢\udcff",
    }  # fmt: skip


@pytest.mark.parametrize(("value", "error"), [(float("nan"), ValueError), (object(), TypeError)])
def test_json_refuses_what_it_cannot_say(tmp_path: Path, value: object, error: type[Exception]) -> None:
    path = tmp_path / "a.json"
    files.write_json(path, 1)
    with pytest.raises(error):
        files.write_json(path, value)
    assert path.read_text() == "1\n"
    assert names(tmp_path) == ["a.json"]


def test_a_fault_in_the_block_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_text(path, "old")
    with pytest.raises(KeyError), files.atomic_path(path) as temp:
        temp.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_file_size_limit_leaves_the_old_file_and_no_temporary_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.bin"
    files.write_bytes(path, b"old")
    code = """
import sys
from pathlib import Path
from lpt.errors import RunError
from lpt.system.files import write_bytes
try:
    write_bytes(Path(sys.argv[1]), bytes(1 << 20))
except RunError as error:
    print(error)
    sys.exit(7)
"""
    result = run_limited(code, 4096, str(path))
    assert result.returncode == 7, result.stderr
    assert str(path) in result.stdout
    assert "ulimit" in result.stdout
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["weights.bin"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a file system")
def test_full_disk(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    try:
        files.write_text(disk / "a", "old")
        with pytest.raises(RunError, match=r"No space left.*Free some space"):
            files.write_bytes(disk / "a", bytes(1 << 20))
        assert (disk / "a").read_text() == "old"
        assert names(disk) == ["a"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match="may write to"):
        files.write_text(tmp_path / "a", "x")


def test_a_file_where_a_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(RunError, match="is a file, not a folder"):
        files.write_text(tmp_path / "a" / "b", "y")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RunError, match="folder of that name"):
        files.write_text(tmp_path / "folder", "y")
    assert names(tmp_path) == ["a", "folder"]


def test_a_kill_leaves_the_old_file_and_a_leftover_that_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    files.write_text(path, "old")
    code = """
import sys, time
from pathlib import Path
from lpt.system.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temp:
    temp.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert path.read_text() == "old"
    assert len(names(tmp_path)) == 2
    assert files.remove_leftovers(tmp_path) == 1
    assert names(tmp_path) == ["a"]
