"""Prediction in shards: every image exactly once, and finished shards are used again only where they still fit."""

from __future__ import annotations

import errno
import io
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from lpt.commands.predict.inputs import find_images
from lpt.commands.predict.listing import Shard, cut_shards, read_shards
from lpt.commands.predict.outcome import Outcome
from lpt.commands.predict.predict import predict_files
from lpt.commands.predict.request import PredictRequest
from lpt.commands.predict.shards import PartFolder, ShardRows
from lpt.commands.predict.table import Labeller
from lpt.commands.predict.worker import Worker
from lpt.errors import ConfigError, DataError, RunError
from lpt.system.claims import Claims
from lpt.system.interrupt import Interrupted, StopRequest
from warm_process import run_lpt, run_warm, warm_ranks

OPTIONS: dict[str, Any] = {"top_k": 2, "device": "cpu", "batch_size": 2, "shard_size": 4}


@pytest.fixture
def photos(photo_folder: Path, tmp_path: Path) -> Path:
    """A copy of 14 photographs: shards of 4, 4, 4 and 2."""
    return Path(shutil.copytree(photo_folder / "train", tmp_path / "new"))


class Job:
    """`predict_files` on the photographs into `output`, and what it said."""

    def __init__(self, run: Path, photos: Path, output: Path, backbone: Path) -> None:
        self.pack, self.photos, self.output, self.backbone = run / "pack", photos, output, backbone
        self.parts = output.with_name(output.name + ".parts")

    def run(self, **options: Any) -> str:
        message = io.StringIO()
        values = {**OPTIONS, "checkpoint": self.backbone, **options}
        request = PredictRequest(self.pack, (self.photos,), self.output, **values)
        predict_files(request, progress=Console(file=message, width=1000))
        return message.getvalue()

    def whole(self, **options: Any) -> bytes:
        """What a job that nothing disturbed writes."""
        other = Job(self.pack.parent, self.photos, self.output.with_name("whole" + self.output.suffix), self.backbone)
        other.run(**options)
        assert not other.parts.exists()
        return other.output.read_bytes()

    def stop_after(self, shards: int, monkeypatch: pytest.MonkeyPatch, **options: Any) -> dict[Path, int]:
        """Let it run until so many shards are done, then as if the power failed; their files and times of change."""
        write = PartFolder.write

        def fail(parts: PartFolder, shard: Shard, rows: ShardRows) -> None:
            if shard.number == shards:
                raise SystemError("power failure")
            write(parts, shard, rows)

        with monkeypatch.context() as patch, pytest.raises(SystemError):
            patch.setattr(PartFolder, "write", fail)
            self.run(**options)
        assert not self.output.exists()
        return self.times()

    def times(self) -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in self.parts.iterdir()}

    def rerun(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[str, list[int]]:
        """Start it again; what it said, and the shards it predicted."""
        write, again = PartFolder.write, list[int]()

        def note(parts: PartFolder, shard: Shard, rows: ShardRows) -> None:
            again.append(shard.number)
            write(parts, shard, rows)

        with monkeypatch.context() as patch:
            patch.setattr(PartFolder, "write", note)
            message = self.run(**options)
        assert not self.parts.exists()
        return message, again


@pytest.fixture
def job(fitted_run: Path, photos: Path, tiny_backbone: Path, tmp_path: Path) -> Job:
    return Job(fitted_run, photos, tmp_path / "found.csv", tiny_backbone)


# --- shards -----------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(images=st.integers(0, 300), size=st.integers(1, 70))
def test_every_image_is_in_one_shard(images: int, size: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """In order; another process reads the same shards from the folder."""
    folder = tmp_path_factory.getbasetemp()
    paths = [Path(f"{number}\n\udcff.jpg") for number in range(images)]
    shards = cut_shards(iter(paths), size, folder)
    assert [path for shard in shards for path in shard.paths] == paths
    assert all(shard.count == size for shard in shards[:-1])
    assert read_shards(folder) == shards


def test_linked_folders_are_looked_into_and_unreadable_ones_told(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a folder is left out silently; a link back up ends there, and the order is that of the paths."""
    (photos.parent / "elsewhere").mkdir()
    (photos / "dark").rename(tmp_path / "elsewhere" / "dark")
    (photos / "dark").symlink_to(tmp_path / "elsewhere" / "dark")
    (photos / "grey" / "all").symlink_to(photos)
    (photos / "circle.jpg").symlink_to(photos / "circle.jpg")
    names = [f"{name}/{number}.jpg" for name, count in (("dark", 8), ("grey", 4), ("light", 2))
             for number in range(count)]  # fmt: skip
    notes = list[str]()
    assert list(find_images([photos], notes)) == [photos / name for name in names]
    assert "1 link to what is read already (grey/all)" in "".join(notes)
    assert "1 link that leads nowhere" in "".join(notes)
    scandir = os.scandir  # root may list everything

    def refuse(folder: Path) -> Any:
        if Path(folder).name == "light":
            raise PermissionError(errno.EACCES, "Permission denied", str(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"new/light: .*Permission denied\. Change"):
        list(find_images([photos], []))
    notes.clear()
    assert len(list(find_images([photos], notes, skip_bad=True))) == 12
    assert "1 unreadable folder" in "".join(notes)


def test_a_fingerprint_is_of_names_sizes_and_times(tmp_path: Path) -> None:
    """Each of them changes it; that an image is gone does too."""
    path = tmp_path / "a.jpg"
    path.write_bytes(b"12")
    os.utime(path, ns=(0, 10))
    prints = [cut_shards([path], 4, tmp_path)[0].fingerprint]
    os.utime(path, ns=(0, 11))
    prints.append(cut_shards([path], 4, tmp_path)[0].fingerprint)
    path.write_bytes(b"123")
    os.utime(path, ns=(0, 11))
    prints.append(cut_shards([path], 4, tmp_path)[0].fingerprint)
    moved = path.rename(tmp_path / "b.jpg")
    prints += [cut_shards([image], 4, tmp_path)[0].fingerprint for image in (moved, path)]
    assert len(set(prints)) == len(prints)


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
@pytest.mark.parametrize("skip_bad", [False, True])
def test_shards_change_no_byte(job: Job, ending: str, skip_bad: bool) -> None:
    """The same file as from one shard for all, and no folder is left."""
    job.output = job.output.with_suffix(f".{ending}")
    message = job.run(skip_bad=skip_bad)
    assert "14 predictions" in message
    assert job.output.read_bytes() == job.whole(skip_bad=skip_bad, shard_size=1024)
    assert sorted(path.name for path in job.output.parent.iterdir()) == sorted(
        [job.output.name, f"whole.{ending}", "new", "runs"]
    )


@pytest.mark.parametrize("finished", [0, 1, 3])
def test_finished_shards_are_not_done_again(job: Job, finished: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rerun keeps their files and gives the bytes of an undisturbed run."""
    before = job.stop_after(finished, monkeypatch) if finished else {}
    assert len(before) == finished
    (job.parts / ".000000.part.x.lpt-tmp").parent.mkdir(exist_ok=True)
    (job.parts / ".000000.part.x.lpt-tmp").write_bytes(b"half of one, from a killed writer")
    kept: dict[Path, int] = {}
    headers = PartFolder.headers

    def look(parts: PartFolder, shards: list[Shard]) -> Any:
        kept.update(job.times())
        return headers(parts, shards)

    with monkeypatch.context() as patch:
        patch.setattr(PartFolder, "headers", look)
        message, again = job.rerun(monkeypatch)
    assert again == [0, 1, 2, 3][finished:]
    assert (f"Going on: {4 * finished} of 14 images are done" in message) == (finished > 0)
    assert {path: kept[path] for path in before} == before
    assert job.output.read_bytes() == job.whole()


def change_pack(job: Job) -> dict[str, Any]:
    text = (job.pack / "pack.json").read_text()
    (job.pack / "pack.json").write_text(text.replace('"temperature": 1.0', '"temperature": 1.5', 1))
    assert (job.pack / "pack.json").read_text() != text
    return {}


def add_prior(job: Job) -> dict[str, Any]:
    (job.output.parent / "prior.csv").write_text("dark,1\ngrey,2\n")
    return {"prior": job.output.parent / "prior.csv"}


def add_first_image(job: Job) -> dict[str, Any]:
    shutil.copy(job.photos / "dark" / "0.jpg", job.photos / "dark" / "!.jpg")
    return {}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (change_pack, "pack"),
        (add_prior, "--prior"),
        (lambda job: {"top_k": 1}, "--top-k"),
        (lambda job: {"shard_size": 5}, "images"),
        (add_first_image, "images"),
    ],
)
def test_what_belongs_to_another_job_is_done_again(
    job: Job, change: Callable[[Job], dict[str, Any]], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another pack, other options, another list of images: it says so in one line and starts over."""
    job.stop_after(2, monkeypatch)
    options = change(job)
    message, again = job.rerun(monkeypatch, **options)
    (line,) = [line for line in message.splitlines() if line.startswith("Starting over")]
    assert f"(different: {named})" in line
    assert again[0] == 0
    assert job.output.read_bytes() == job.whole(**options)


def test_only_the_shards_of_changed_images_are_done_again(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long job that an image stopped goes on once that image is replaced."""
    job.stop_after(3, monkeypatch)
    Image.new("RGB", (30, 30), "white").save(job.photos / "dark" / "5.jpg")
    message, again = job.rerun(monkeypatch)
    assert again == [1, 3]
    assert "Going on: 8 of 14 images are done" in message
    assert "changed" in message
    assert job.output.read_bytes() == job.whole()


@pytest.mark.parametrize("damage", [lambda part: part[:-9], lambda part: part[9:], lambda part: b"", lambda part: b"3"])
def test_a_damaged_part_is_done_again(
    job: Job, damage: Callable[[bytes], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is cut off or no part at all is never joined."""
    job.stop_after(3, monkeypatch)
    part = sorted(job.parts.iterdir())[1]
    part.write_bytes(damage(part.read_bytes()))
    message, again = job.rerun(monkeypatch)
    assert again == [1, 3]
    assert "damaged" in message
    assert job.output.read_bytes() == job.whole()


def test_foreign_files_in_the_folder_stay(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was not written by lpt is not removed."""
    job.stop_after(2, monkeypatch)
    (job.parts / "notes.part").write_text("mine")
    job.run()
    assert [path.name for path in job.parts.iterdir()] == ["notes.part"]


def test_parts_that_vanish_are_named(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs that write to one output do not make a mixed file."""
    headers = PartFolder.headers

    def without_one(parts: PartFolder, shards: list[Shard]) -> Any:
        parts.path(shards[1]).unlink()
        return headers(parts, shards)

    monkeypatch.setattr(PartFolder, "headers", without_one)
    with pytest.raises(RunError, match=r"000001.part is missing[\s\S]*same command goes on"):
        job.run()
    assert not job.output.exists()
    monkeypatch.undo()
    assert job.rerun(monkeypatch)[1] == [1]


# --- images that cannot be read ---------------------------------------------------------------------------------------


def test_bad_images_are_reported_once_for_all_shards(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those of shards that were done before."""
    for name in ("dark/1.jpg", "dark/2.jpg", "light/0.jpg"):
        (job.photos / name).write_bytes(b"broken")
    job.stop_after(2, monkeypatch, skip_bad=True)
    message, again = job.rerun(monkeypatch, skip_bad=True)
    assert again == [2, 3]
    assert "Left out: 3 of 14 images" in message
    assert [message.count(name) for name in ("dark/1.jpg", "dark/2.jpg", "light/0.jpg")] == [1, 1, 1]
    assert "11 predictions" in message


def test_stop_and_skip_take_over_from_each_other(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a stop at a bad image `skip` goes on; `stop` does not accept what `skip` left out."""
    (job.photos / "grey" / "0.jpg").write_bytes(b"broken")
    with pytest.raises(DataError, match=r"grey/0\.jpg"):
        job.run()
    assert len(list(job.parts.iterdir())) == 2
    job.stop_after(3, monkeypatch, skip_bad=True)
    with pytest.raises(DataError, match=r"grey/0\.jpg"):
        job.run()
    message, again = job.rerun(monkeypatch, skip_bad=True)
    assert again == [2, 3]
    assert "Left out: 1 of 14" in message


def test_no_image_at_all_can_be_read(job: Job) -> None:
    """An error, and nothing is left."""
    for path in job.photos.rglob("*.jpg"):
        path.write_bytes(b"broken")
    with pytest.raises(DataError, match="none of 14 images"):
        job.run(skip_bad=True)
    assert not job.output.exists()
    assert not job.parts.exists()


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("finished", [0, 2])
def test_a_signal_stops_between_images(
    job: Job, finished: int, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit code 130 and how to go on; the finished shards are kept, and without any no folder is left."""
    real = Labeller.write_rows

    def classify(self: Any, pictures: Any, file: Any, bad: Any, done: Any) -> int:
        if len(list(job.parts.glob("*.part"))) == finished:
            os.kill(os.getpid(), number)
        return real(self, pictures, file, bad, done)

    with monkeypatch.context() as patch, pytest.raises(Interrupted) as stopped:
        patch.setattr(Labeller, "write_rows", classify)
        job.run()
    assert stopped.value.exit_code == 130
    assert not job.output.exists()
    assert job.parts.exists() == (finished > 0)
    if finished:
        assert "8 of 14 images are done" in str(stopped.value)
        assert "same command goes on" in str(stopped.value)
    assert job.rerun(monkeypatch)[1] == [0, 1, 2, 3][finished:]


def test_several_processes_do_not_share_standard_output(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their rows would be mixed."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="give output"):
        predict_files(PredictRequest(job.pack, (job.photos,)), progress=Console(quiet=True))


@pytest.mark.parametrize("arguments", [["predict", "--top-k", "0"], ["nothing"], ["inspect", "nowhere"]])
def test_of_several_processes_one_says_what_is_wrong(arguments: list[str]) -> None:
    """All end with the same code."""
    done = [run_warm(process) for process in warm_ranks(2, run_lpt, arguments)]
    outcomes = [(process.returncode, bool(process.stderr), process.stdout) for process in done]
    assert outcomes == [(2, True, ""), (2, False, "")]


def test_an_unwritable_output_is_told_before_the_work(job: Job) -> None:
    """Not after the first shard."""
    (job.output.parent / "file").write_text("")
    job.output = job.output.parent / "file" / "found.csv"
    job.pack = Path("/nowhere")
    with pytest.raises(RunError, match=r"file/found\.csv"):
        job.run()


def test_progress_counts_what_was_done(tmp_path: Path) -> None:
    """Images within a shard and of finished ones; the last number is all of them."""
    parts = PartFolder(tmp_path / "a.csv", {})
    parts.folder.mkdir()
    shards = cut_shards([tmp_path / str(number) for number in range(5)], 2, parts.folder)
    lines: list[int] = []

    def work(shards: Iterator[Shard], done: Callable[[int], None]) -> Iterator[tuple[Shard, ShardRows]]:
        for shard in shards:
            for number, _ in enumerate(shard.paths, start=1):
                done(number)
            yield shard, ShardRows(b"", shard.count, "")

    with Claims(parts.folder, "alone") as claims:
        Worker(shards, parts, claims, Outcome(parts.folder), StopRequest(), lines.append).work(work)
    assert lines == sorted(lines)
    assert set(lines) == set(range(6))
