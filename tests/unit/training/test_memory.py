"""Memory that runs out halves the micro-batch, and the result stays the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from training_samples import plan_of, small_model, stream_batches, training_images

from lpt.config.schema import RunConfig
from lpt.errors import RunError
from lpt.model import LPT
from lpt.training.loop import PhasePlan, StepRecord, train_steps
from lpt.training.objective import Chunk
from lpt.training.phases import build_objective
from lpt.training.schedule import build_optimizer


class SmallMemory(torch.nn.Module):
    """An objective that asks the allocator for more than any machine has when a chunk is larger than `room`."""

    def __init__(self, model: LPT, plan: PhasePlan, room: int) -> None:
        super().__init__()
        self.objective = build_objective(model, training_images(), RunConfig(loss=plan.loss), plan.phase)
        self.model = model
        self.room = room
        self.tried: list[int] = []

    def trainable(self) -> dict[str, torch.nn.Parameter]:
        return self.objective.trainable()

    @property
    def streams(self) -> tuple[str, ...]:
        return self.objective.streams

    @property
    def takes_noise(self) -> bool:
        return self.objective.takes_noise

    def reweight(self, now: bool) -> None:
        self.objective.reweight(now)

    def forward(self, chunk: Chunk, eta: float) -> Any:
        self.tried.append(len(chunk.labels))
        part = self.objective(chunk, eta)
        if len(chunk.labels) > self.room:
            torch.empty(2**50, dtype=torch.uint8)  # a real failure, after part of the work is done
        return part


def train(model: LPT, plan: PhasePlan, room: int) -> tuple[list[StepRecord], list[int]]:
    objective = SmallMemory(model, plan, room)
    optimizer = build_optimizer(objective.trainable(), plan.settings)
    records: list[StepRecord] = []
    train_steps(
        objective,  # type: ignore[arg-type]
        optimizer,
        iter(stream_batches(plan.steps)),
        plan,
        first_step=0,
        after_step=lambda record, stopping: records.append(record),
    )
    return records, objective.tried


@pytest.mark.parametrize("phase", [1, 2])
def test_lack_of_memory_halves_the_micro_batch_and_changes_nothing_else(phase: int) -> None:
    """5 images do not fit, 3 neither, 2 do: same bits as with 2 from the start, and the log tells it."""
    short, given = small_model(), small_model()
    records, tried = train(short, plan_of(phase, micro_batch=5), room=2)
    expected, _ = train(given, plan_of(phase, micro_batch=2), room=2)
    assert tried[:5] == [5, 3, 2, 2, 1]
    assert 3 not in tried[3:]  # once halved, it stays
    assert [record.micro_batch for record in records] == [2] * len(records)
    assert [record.loss for record in records] == [record.loss for record in expected]
    for name, tensor in short.state_dict().items():
        assert torch.equal(tensor, given.state_dict()[name]), name


def test_memory_for_not_even_one_image_is_told() -> None:
    """Down to a single image, then an error that says what to do; the weights are untouched."""
    model = small_model()
    before = model.head.weight.detach().clone()
    with pytest.raises(RunError, match=r"step 0: the memory does not hold[\s\S]*image\.size"):
        train(model, plan_of(2, micro_batch=5), room=0)
    assert torch.equal(model.head.weight, before)


def test_other_errors_are_not_taken_for_a_lack_of_memory() -> None:
    """A shape that does not fit is a defect and stays one."""
    model, plan = small_model(), plan_of(1)
    batches = stream_batches(1)[0]
    wrong = {name: type(batch)(batch.stored._replace(images=batch.stored.images[:, :1]), batch.preprocessing)
             for name, batch in batches.items()}  # fmt: skip
    objective = build_objective(model, training_images(), RunConfig(loss=plan.loss), 1)
    optimizer = build_optimizer(objective.trainable(), plan.settings)
    with pytest.raises(RuntimeError, match="shape"):
        train_steps(
            objective, optimizer, iter([wrong]), plan, first_step=0,
            after_step=lambda record, stopping: None,
        )  # fmt: skip
