"""The run folder: its log, and what is never replaced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lpt.config.schema import RunConfig
from lpt.errors import RunError
from lpt.training.folder import RunFolder
from lpt.training.position import Position


def test_log_is_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    """Steps after the checkpoint, and a last line that a kill cut short, are dropped: no step is logged twice."""
    folder = RunFolder(tmp_path)
    lines = [
        f'{{"phase": {phase}, "step": {step}, "loss": 0.5, "seconds": 1}}\n' for phase in (1, 2) for step in range(3)
    ]
    folder.log.write_text("".join(lines) + '{"phase": 2, "st')
    folder.rewind_log(Position(2, 1, None))
    assert folder.log.read_text() == "".join(lines[:4])
    folder.rewind_log(Position(1, 0, None))
    assert folder.log.read_text() == ""


@pytest.mark.parametrize(
    "junk",
    [
        b"{",
        b"[1]",
        b"\0" * 40,
        b"\xff\xfe",
        b'{"phase": "1", "step": 2, "loss": 1, "seconds": 1}',
        b'{"phase": 1, "step": 2, "loss": NaN, "seconds": 1}',
        b'{"phase": 1, "step": 2}',
        b"[" * 50,
    ],
)
def test_junk_in_the_log_is_named_by_line(junk: bytes, tmp_path: Path) -> None:
    """A line that is no record of a step is one error with its number and the way on, and nothing is rewritten."""
    folder = RunFolder(tmp_path)
    content = b'{"phase": 1, "step": 0, "loss": 0.5, "seconds": 1}\n' + junk + b"\n"
    folder.log.write_bytes(content)
    with pytest.raises(RunError, match=r"line 2 of .*log\.jsonl is not the record of a step[\s\S]*lpt\.resume"):
        folder.rewind_log(Position(2, 0, None))
    assert folder.log.read_bytes() == content


def started(folder: Path) -> RunFolder:
    facts = {"data_sha256": "d", "backbone_sha256": "b", "versions": {}}
    run = RunFolder.create(folder, facts, overwrite=False)
    run.write_config(RunConfig())
    return run


@pytest.mark.parametrize(
    ("edit", "accepted"),
    [
        (("lr: ", "lr: 1"), False),
        (("seed: 0", "seed: 1"), False),
        (("precision: auto", "precision: bf16"), False),
        (("validation: null", "validation: 0.2"), False),
        (("preset: auto", "# mine\npreset: auto"), True),
        (("validation: null", "validation: /new/place"), False),
        (("workers: auto", "workers: 0"), True),
    ],
)
def test_an_edited_configuration_is_refused(edit: tuple[str, str], accepted: bool, tmp_path: Path) -> None:
    """What decides the numbers may not change under a run; the machine, and comments, may."""
    run = started(tmp_path / "run")
    text = run.config.read_text()
    assert edit[0] in text
    run.config.write_text(text.replace(*edit, 1))
    if accepted:
        assert run.settings()
        return
    with pytest.raises(RunError, match=r"config\.yaml was edited since the run was started[\s\S]*Restore"):
        run.settings()


@pytest.mark.parametrize(
    "content", ["", '{"kind": "lpt-r', "[]", '{"data_sha256": 3}', '{"preparing_seconds": {"head": "x"}}', "\0\0"]
)
def test_a_cut_run_json_is_named(content: str, tmp_path: Path) -> None:
    """Whatever is left of run.json, it is one error that names it; nothing goes on and nothing is written."""
    run = started(tmp_path / "run")
    run.facts.write_text(content)
    with pytest.raises(RunError, match=r"run\.json"):
        RunFolder.existing(run.path)
    with pytest.raises(RunError, match=r"run\.json is damaged"):
        run.start_facts()
    assert run.facts.read_text() == content


def test_a_folder_that_is_gone_is_told_and_not_made_again(tmp_path: Path) -> None:
    """A removed folder does not come back with half a run in it."""
    run = started(tmp_path / "run")
    run.check_there()
    shutil.rmtree(run.path)
    for act in (run.check_there, lambda: run.note_seconds("head", 1.0)):
        with pytest.raises(RunError, match="was removed or moved while the run was going on"):
            act()
    assert not run.path.exists()


def test_seconds_are_added_up(tmp_path: Path) -> None:
    """The parts of an interrupted run are counted together, beside the other facts."""
    run = started(tmp_path / "run")
    run.note_seconds("head", 1.5)
    run.note_seconds("head", 2.0)
    assert run.preparing_seconds() == 3.5
    assert json.loads(run.facts.read_text())["data_sha256"] == "d"


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
