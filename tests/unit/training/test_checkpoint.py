"""Checkpoints hold all that training goes on from, and survive failed writes."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from training_samples import small_model

from lpt.config.schema import PhaseConfig
from lpt.errors import RunError
from lpt.model import LPT
from lpt.training.checkpoint import (
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from lpt.training.objective import PhaseObjective
from lpt.training.position import FILE_NAME, Position
from lpt.training.schedule import build_optimizer


def after_some_steps(optimizer_name: str) -> tuple[LPT, torch.optim.Optimizer, dict[str, torch.nn.Parameter]]:
    model = small_model()
    parameters = PhaseObjective(model, 2, {}, 0.5).trainable()
    optimizer = build_optimizer(parameters, PhaseConfig(optimizer=optimizer_name, lr=0.1))
    for _ in range(3):
        take_step(optimizer, parameters)
    return model, optimizer, parameters


def take_step(optimizer: torch.optim.Optimizer, parameters: dict[str, torch.nn.Parameter]) -> None:
    for parameter in parameters.values():
        parameter.grad = parameter.detach().sin()
    optimizer.step()


@pytest.mark.parametrize("optimizer_name", ["sgd", "adamw"])
def test_checkpoint_keeps_all_that_training_goes_on_from(optimizer_name: str, tmp_path: Path) -> None:
    """Restored weights, optimiser state and position lead to the same next steps, bit for bit."""
    model, optimizer, parameters = after_some_steps(optimizer_name)
    save_checkpoint(tmp_path, model, optimizer_tensors(optimizer, parameters), Position(2, 17, None))
    saved = load_checkpoint(tmp_path)
    assert saved is not None
    position, tensors, state = saved
    assert position == Position(2, 17, None)
    assert tensors.keys() == model.state_dict().keys()
    again = small_model()
    again.load_state_dict(tensors)
    restored = PhaseObjective(again, 2, {}, 0.5).trainable()
    follower = build_optimizer(restored, PhaseConfig(optimizer=optimizer_name, lr=0.1))
    restore_optimizer(follower, restored, state)
    assert optimizer_tensors(follower, restored).keys() == optimizer_tensors(optimizer, parameters).keys()
    for _ in range(2):
        take_step(optimizer, parameters)
        take_step(follower, restored)
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor), name


def test_no_checkpoint_is_no_error(tmp_path: Path) -> None:
    """A run that was killed before its first checkpoint starts from its first step."""
    assert load_checkpoint(tmp_path) is None


@pytest.mark.parametrize("failing", ["replace", "fsync"])
def test_a_failed_write_leaves_the_checkpoint_before(
    failing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk costs the steps since the last checkpoint, never the checkpoint; no half file is left behind."""
    model, optimizer, parameters = after_some_steps("sgd")
    save_checkpoint(tmp_path, model, optimizer_tensors(optimizer, parameters), Position(1, 3, None))
    before = (tmp_path / FILE_NAME).read_bytes()

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(RunError, match=r"cannot write .*No space left"):
        save_checkpoint(tmp_path, model, {}, Position(1, 4, None))
    monkeypatch.undo()
    assert (tmp_path / FILE_NAME).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


@pytest.mark.parametrize("damage", [lambda content: content[:50], lambda content: b"", lambda content: b"x" * 200])
def test_a_damaged_checkpoint_is_named(damage: Any, tmp_path: Path) -> None:
    """A file that is cut short or overwritten is an error with its path and the way out."""
    save_checkpoint(tmp_path, small_model(), {}, Position(1, 3, None))
    path = tmp_path / FILE_NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(RunError, match=rf"{path} is damaged[\s\S]*lpt\.resume"):
        load_checkpoint(tmp_path)


def test_any_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """Whichever byte of a checkpoint changes, it is not gone on from."""
    model, optimizer, parameters = after_some_steps("adamw")
    path = save_checkpoint(tmp_path, model, optimizer_tensors(optimizer, parameters), Position(1, 3, 2))
    content = path.read_bytes()
    for place in range(9, len(content), max(len(content) // 60, 1)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        if content[place : place + 1] != b" ":  # the header is filled up with spaces
            with pytest.raises(RunError, match=r"is damaged[\s\S]*lpt\.resume"):
                load_checkpoint(tmp_path)
    path.write_bytes(content.replace(b'\\"step\\": 3', b'\\"step\\": 4'))
    with pytest.raises(RunError, match="SHA-256"):
        load_checkpoint(tmp_path)
