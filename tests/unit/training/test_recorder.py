"""StepRecorder: what is on disk, and who is told, after each step."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training_samples import plan_of, small_model

from lpt.system.interrupt import Interrupted
from lpt.training.callbacks import Callback, Callbacks
from lpt.training.checkpoint import load_checkpoint
from lpt.training.folder import RunFolder
from lpt.training.loop import StepRecord
from lpt.training.objective import PhaseObjective
from lpt.training.recorder import StepRecorder
from lpt.training.schedule import build_optimizer


class Calls(Callback):
    """A callback that lists its calls."""

    def __init__(self, folder: RunFolder) -> None:
        self.calls: list[tuple[str, int]] = []
        self.lines_seen: list[int] = []
        self._folder = folder

    def on_step_end(self, record: StepRecord) -> None:
        self.calls.append(("step", record.step))
        self.lines_seen.append(len(list(self._folder.records())))

    def on_epoch_end(self, phase: int, epoch: int) -> None:
        self.calls.append(("epoch", epoch))


def record(step: int) -> StepRecord:
    loss = 1 / 3
    return StepRecord(1, step // 3, step, loss, loss, loss, None, gradient_norm=1.0, lr=0.1, micro_batch=2, seconds=0.5)


def recorder(folder: RunFolder, callback: Callback, **changes: object) -> StepRecorder:
    """A recorder of six steps in two epochs of phase 1."""
    model, plan = small_model(), plan_of(1)
    parameters = PhaseObjective(model, 1, {}, 0.5).trainable()
    optimizer = build_optimizer(parameters, plan.settings)
    settings = {"checkpoint_seconds": 3600.0, "is_main": True, "is_last": False, **changes}
    return StepRecorder(plan, folder, model, optimizer, parameters, callback, **settings)  # type: ignore[arg-type]


def saved_step(folder: RunFolder) -> int | None:
    saved = load_checkpoint(folder.checkpoints)
    return None if saved is None else saved[0].step


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", {}, overwrite=False)


def test_every_step_is_logged_before_the_callback_and_the_last_is_saved(folder: RunFolder) -> None:
    calls = Calls(folder)
    with recorder(folder, calls) as steps:
        for step in range(6):
            assert saved_step(folder) is None
            steps.after_step(record(step), stopping=False)
    assert saved_step(folder) == 6
    assert calls.lines_seen == [1, 2, 3, 4, 5, 6]
    expected = [
        ("step", 0),
        ("step", 1),
        ("step", 2),
        ("epoch", 0),
        ("step", 3),
        ("step", 4),
        ("step", 5),
        ("epoch", 1),
    ]
    assert calls.calls == expected
    line = json.loads(folder.log.read_text().splitlines()[4])
    assert (line["phase"], line["step"], line["loss"], line["similarity"]) == (1, 4, 0.333333, None)


def test_a_checkpoint_that_is_due_is_saved(folder: RunFolder) -> None:
    with recorder(folder, Callback(), checkpoint_seconds=0.0) as steps:
        for step in range(2):
            steps.after_step(record(step), stopping=False)
            assert saved_step(folder) == step + 1


def test_a_stop_saves_the_step_and_ends_the_run(folder: RunFolder) -> None:
    """The callback has seen the step by then; the message says where the run is and how it goes on."""
    calls = Calls(folder)
    with (
        pytest.raises(Interrupted, match=r"phase 1 after step 3[\s\S]*lpt\.resume\('"),
        recorder(folder, calls) as steps,
    ):
        steps.after_step(record(3), stopping=True)
    assert saved_step(folder) == 4
    assert calls.calls == [("step", 3)]


@pytest.mark.parametrize("is_last", [True, False])
def test_a_stop_after_the_last_step_ends_no_run_that_is_done(folder: RunFolder, is_last: bool) -> None:
    with recorder(folder, Callback(), is_last=is_last) as steps:
        if is_last:
            steps.after_step(record(5), stopping=True)
        else:
            with pytest.raises(Interrupted):
                steps.after_step(record(5), stopping=True)
    assert saved_step(folder) == 6


def test_other_processes_write_nothing(folder: RunFolder) -> None:
    first, second = Calls(folder), Calls(folder)
    both = Callbacks([first, second])
    with recorder(folder, both, is_main=False, checkpoint_seconds=0.0) as steps:
        steps.after_step(record(5), stopping=False)
    assert not folder.log.exists()
    assert saved_step(folder) is None
    assert first.calls == second.calls == [("step", 5), ("epoch", 1)]
