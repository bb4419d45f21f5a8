"""The run folder: its log, and what is never replaced."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpt.errors import RunError
from lpt.training.checkpoint import (
    Position,
)
from lpt.training.folder import RunFolder


def test_log_is_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    """Steps after the checkpoint, and a last line that a kill cut short, are dropped: no step is logged twice."""
    folder = RunFolder(tmp_path)
    lines = [f'{{"phase": {phase}, "step": {step}}}\n' for phase in (1, 2) for step in range(3)]
    folder.log.write_text("".join(lines) + '{"phase": 2, "st')
    folder.rewind_log(Position(2, 1, None))
    assert folder.log.read_text() == "".join(lines[:4])
    folder.rewind_log(Position(1, 0, None))
    assert folder.log.read_text() == ""


def test_a_run_folder_is_never_replaced_unasked(tmp_path: Path) -> None:
    """What is not a run is left alone always, a run unless `overwrite` says so; a dead start is no obstacle."""
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "chapter.txt").write_text("work of years")
    for overwrite in (False, True):
        with pytest.raises(RunError, match="not a run folder"):
            RunFolder.create(other, {}, overwrite=overwrite)
    assert (other / "chapter.txt").read_text() == "work of years"
    run = RunFolder.create(tmp_path / "my run", {}, overwrite=False)
    again = RunFolder.create(tmp_path / "my run", {}, overwrite=False)  # killed before it had a configuration
    assert again.checkpoints.is_dir()
    run.config.write_text("preset: laptop")
    with pytest.raises(RunError, match=r"lpt\.resume\('.*my run'\)[\s\S]*overwrite=True"):
        RunFolder.create(tmp_path / "my run", {}, overwrite=False)
    RunFolder.create(tmp_path / "my run", {}, overwrite=True)
    assert not run.config.exists()


def test_the_folder_itself_is_kept(tmp_path: Path) -> None:
    """What a run replaces is in the folder: it may be a mount point, the current folder, or a link to another disk."""
    disk, link = tmp_path / "disk", tmp_path / "link"
    disk.mkdir()
    link.symlink_to(disk)
    before = disk.stat().st_ino
    run = RunFolder.create(link, {}, overwrite=False)
    run.config.write_text("preset: laptop")
    (run.path / "pack").mkdir()
    (run.path / "per_class.csv").symlink_to(tmp_path / "nowhere")
    RunFolder.create(link, {}, overwrite=True)
    assert link.is_symlink()
    assert disk.stat().st_ino == before
    assert sorted(item.name for item in disk.iterdir()) == ["checkpoints", "run.json"]
    with pytest.raises(RunError, match=r"cannot make the run folder /proc/none: (?!None)[\s\S]*`output`"):
        RunFolder.create(Path("/proc/none"), {}, overwrite=False)
