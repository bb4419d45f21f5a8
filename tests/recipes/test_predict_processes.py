"""`lpt predict` killed, and by several processes: the bytes are those of one process that nothing disturbed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from lpt.commands.predict.predict import predict_files
from lpt.commands.predict.request import PredictRequest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork, signals, and cores given to a process")
IMAGES, SIZE = 320, 8
SHARDS = IMAGES // SIZE
SMALL_SHARDS = f"""
import functools
import lpt.commands.predict.request as module
module.PredictRequest = functools.partial(module.PredictRequest, shard_size={SIZE})
from lpt.cli import main
"""
LAUNCHER = f"""
import json, os, sys
{SMALL_SHARDS}
for line in sys.stdin:
    arguments, said, count, port = json.loads(line)
    started = []
    for rank in range(count):
        started.append(os.fork())
        if not started[-1]:
            file = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(file, 1)
            os.dup2(file, 2)
            size = str(count)
            if count > 1:
                os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=size, LOCAL_WORLD_SIZE=size)
                os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
            sys.argv = ["lpt", *arguments]
            main()
            sys.exit(0)
    print(json.dumps(started), flush=True)
    print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in started]), flush=True)
"""
"""Starts `lpt` several times without importing everything each time; it does not end what is left when one dies."""


def of_two_cores() -> None:
    """One thread for each of two processes, as one process has under pytest: threads change rounding."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])


@pytest.fixture(scope="module")
def launcher() -> Iterator[subprocess.Popen[str]]:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", LAUNCHER]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=of_two_cores) as process:
        yield process
        process.kill()


class Work:
    """A job of 320 images in 40 shards, one of them in the second shard unreadable."""

    def __init__(self, run: Path, photos: Path, backbone: Path, folder: Path, launcher: subprocess.Popen[str]) -> None:
        self.folder, self.launcher, self.pack, self.backbone = folder, launcher, run / "pack", backbone
        self.output, self.parts, self.said = folder / "found.csv", folder / "found.csv.parts", folder / "said.txt"
        self.photos = folder / "new"
        self.photos.mkdir()
        for number in range(IMAGES):
            name = ("dark/0.jpg", "grey/1.jpg", "light/1.jpg")[number % 3]
            shutil.copy(photos / "test" / name, self.photos / f"{number:03d}.jpg")
        self.bad = self.photos / f"{SIZE + 2:03d}.jpg"
        self.bad.write_bytes(b"broken")
        options = ["--checkpoint", str(backbone), "--device", "cpu", "--batch-size", "4", "--top-k", "3"]
        self.arguments = ["predict", str(run), str(self.photos), "--output", str(self.output), *options]

    def whole(self) -> bytes:
        """What one process that nothing disturbs writes."""
        output = self.folder / "whole.csv"
        request = PredictRequest(
            self.pack,
            (self.photos,),
            output,
            top_k=3,
            skip_bad=True,
            checkpoint=self.backbone,
            device="cpu",
            batch_size=4,
            shard_size=SIZE,
        )
        predict_files(request, progress=Console(quiet=True))
        return output.read_bytes()

    def start(self, *more: str, processes: int) -> list[int]:
        """Their process numbers."""
        self.said.unlink(missing_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        assert self.launcher.stdin is not None
        self.launcher.stdin.write(json.dumps([[*self.arguments, *more], str(self.said), processes, port]) + "\n")
        self.launcher.stdin.flush()
        return self._answer()

    def end(self) -> tuple[list[int], str]:
        """Exit codes, and what was said by all of them."""
        codes = self._answer()
        words = self.said.read_text()
        assert "Traceback" not in words
        return codes, words

    def _answer(self) -> list[int]:
        assert self.launcher.stdout is not None
        return list(json.loads(self.launcher.stdout.readline()))

    def is_whole(self) -> None:
        """Check that the output is what one process writes, and that nothing is left beside it."""
        assert not self.parts.exists()
        assert not list(self.folder.glob(".*"))
        assert self.output.read_bytes() == self.whole()

    def finished(self) -> dict[Path, int]:
        """Files of finished shards, and when they were written."""
        return {path: path.stat().st_mtime_ns for path in self.parts.glob("[0-9]*.part")}

    def wait_for(self, shards: int) -> None:
        deadline = time.monotonic() + 240
        while len(self.finished()) < shards:
            assert time.monotonic() < deadline, self.said.read_text()
            time.sleep(0.001)


@pytest.fixture
def work(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path, launcher: subprocess.Popen[str]
) -> Work:
    return Work(fitted_run, photo_folder, tiny_backbone, tmp_path, launcher)


def contains(new: dict[Path, int], old: dict[Path, int]) -> bool:
    return {path: new.get(path) for path in old} == old


@pytest.mark.slow
def test_killed_jobs_go_on_to_the_same_bytes(work: Work) -> None:
    """`kill -9`; torchrun's two finish it: no shard twice, and no byte differs."""
    (alone,) = work.start("--bad-images", "skip", processes=1)
    work.wait_for(4)
    os.kill(alone, signal.SIGKILL)
    assert work.end()[0] == [-signal.SIGKILL]
    first = work.finished()
    assert 4 <= len(first) < SHARDS

    second, message = by_torchrun(work, len(first) + 1)
    assert contains(second, first)
    assert f"Going on: {SIZE * len(first)} of {IMAGES} images are done" in message
    assert [message.count(part) for part in ("Left out: 1 of 320", str(work.bad), "319 predictions")] == [1, 1, 1]
    work.is_whole()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_stops_nobody(work: Work, rank: int) -> None:
    """The other does its shard too, and joins all of them, whichever dies."""
    two = work.start("--bad-images", "skip", processes=2)
    work.wait_for(2)
    os.kill(two[rank], signal.SIGKILL)
    codes, words = work.end()
    assert codes == [-signal.SIGKILL if number == rank else 0 for number in range(2)], words
    assert "Error" not in words
    work.is_whole()


def by_torchrun(work: Work, shards: int) -> tuple[dict[Path, int], str]:
    """Finish the job; the files of finished shards when there were so many, and what was said."""
    program = work.folder / "program.py"
    program.write_text(SMALL_SHARDS + "main()\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(program)]
    process = subprocess.Popen(
        [*command, *work.arguments, "--bad-images", "skip"], stderr=subprocess.PIPE, text=True, preexec_fn=of_two_cores
    )
    work.wait_for(shards)
    seen = work.finished()
    _, message = process.communicate(timeout=240)
    assert process.returncode == 0, message
    return seen, message


@pytest.mark.parametrize("who", [[0, 1], [1]])
def test_ctrl_c_stops_two_processes(work: Work, who: list[int]) -> None:
    """Whichever is told to stop, all do; one message says how to go on, and finished shards stay."""
    two = work.start("--bad-images", "skip", processes=2)
    work.wait_for(2)
    before = work.finished()
    for rank in who:
        os.kill(two[rank], signal.SIGINT)
    codes, words = work.end()
    after = work.finished()
    assert codes == [130, 130]
    assert words.count("Error: interrupted; ") == words.count("Error") == 1
    assert f"{SIZE * len(after)} of {IMAGES} images are done" in words
    assert contains(after, before)
    assert not list(work.parts.glob(".*"))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], "010.jpg: cannot be read"),  # found by the second process alone
        (["--checkpoint", "nowhere.pt"], "nowhere.pt"),  # by both
        (["--output", "/dev/null/found.csv"], "/dev/null/found.csv"),  # by the first
    ],
)
def test_two_processes_say_what_is_wrong_once(work: Work, more: list[str], expected: str) -> None:
    """Whichever finds it; both end with code 2."""
    work.start(*more, processes=2)
    codes, words = work.end()
    assert codes == [2, 2]
    assert words.count(expected) == 1
    assert words.count("Error") == 1
