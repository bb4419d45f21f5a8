"""`lpt predict` killed, and by several processes: the bytes are those of one process that nothing disturbed."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import small_shards
from rich.console import Console
from small_shards import SIZE

from lpt.commands.predict.predict import predict_files
from lpt.commands.predict.request import PredictRequest
from warm_process import WarmProcess, run_warm, warm_ranks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs fork, signals, and cores given to a process")
IMAGES = 320
SHARDS = IMAGES // SIZE


def two_cores() -> list[int]:
    """One thread for each of two processes, as one process has under pytest: threads change rounding."""
    return sorted(os.sched_getaffinity(0))[:2]


class Work:
    """A job of 320 images in 40 shards, one of them in the second shard unreadable."""

    def __init__(self, run: Path, photos: Path, backbone: Path, folder: Path) -> None:
        self.folder, self.pack, self.backbone = folder, run / "pack", backbone
        self.output, self.parts = folder / "found.csv", folder / "found.csv.parts"
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

    def start(self, *more: str, processes: int) -> list[WarmProcess]:
        arguments = [*self.arguments, *more]
        if processes == 1:
            return [WarmProcess(small_shards.run, arguments, cores=two_cores())]
        return warm_ranks(processes, small_shards.run, arguments, cores=two_cores())

    def end(self, processes: list[WarmProcess]) -> tuple[list[int], str]:
        """Wait for them, and return the exit codes and what all of them said."""
        done = [run_warm(process, timeout=240) for process in processes]
        words = "".join(process.stdout + process.stderr for process in done)
        assert "Traceback" not in words
        return [process.returncode for process in done], words

    def is_whole(self) -> None:
        """Check that the output is what one process writes, and that nothing is left beside it."""
        assert not self.parts.exists()
        assert not list(self.folder.glob(".*"))
        assert self.output.read_bytes() == self.whole()

    def finished(self) -> dict[Path, int]:
        """Files of finished shards, and when they were written."""
        return {path: path.stat().st_mtime_ns for path in self.parts.glob("[0-9]*.part")}

    def wait_for(self, shards: int, process: WarmProcess) -> None:
        deadline = time.monotonic() + 240
        while len(self.finished()) < shards:
            assert time.monotonic() < deadline
            assert process.poll() is None, process.communicate()
            time.sleep(0.001)


@pytest.fixture
def work(fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> Work:
    return Work(fitted_run, photo_folder, tiny_backbone, tmp_path)


def contains(new: dict[Path, int], old: dict[Path, int]) -> bool:
    return {path: new.get(path) for path in old} == old


@pytest.mark.slow
def test_killed_jobs_go_on_to_the_same_bytes(work: Work) -> None:
    """`kill -9`; two others finish it: no shard twice, and no byte differs."""
    (alone,) = work.start("--bad-images", "skip", processes=1)
    work.wait_for(4, alone)
    alone.kill()
    assert work.end([alone])[0] == [-signal.SIGKILL]
    first = work.finished()
    assert 4 <= len(first) < SHARDS

    two = work.start("--bad-images", "skip", processes=2)
    work.wait_for(len(first) + 1, two[0])
    second = work.finished()
    codes, message = work.end(two)
    assert codes == [0, 0], message
    assert contains(second, first)
    assert f"Going on: {SIZE * len(first)} of {IMAGES} images are done" in message
    assert [message.count(part) for part in ("Left out: 1 of 320", str(work.bad), "319 predictions")] == [1, 1, 1]
    work.is_whole()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_dies_stops_nobody(work: Work, rank: int) -> None:
    """The other does its shard too, and joins all of them, whichever dies."""
    two = work.start("--bad-images", "skip", processes=2)
    work.wait_for(2, two[0])
    two[rank].kill()
    codes, words = work.end(two)
    assert codes == [-signal.SIGKILL if number == rank else 0 for number in range(2)], words
    assert "Error" not in words
    work.is_whole()


@pytest.mark.parametrize("who", [[0, 1], [1]])
def test_ctrl_c_stops_two_processes(work: Work, who: list[int]) -> None:
    """Whichever is told to stop, all do; one message says how to go on, and finished shards stay."""
    two = work.start("--bad-images", "skip", processes=2)
    work.wait_for(2, two[0])
    before = work.finished()
    for rank in who:
        two[rank].send_signal(signal.SIGINT)
    codes, words = work.end(two)
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
    codes, words = work.end(work.start(*more, processes=2))
    assert codes == [2, 2]
    assert words.count(expected) == 1
    assert words.count("Error") == 1
