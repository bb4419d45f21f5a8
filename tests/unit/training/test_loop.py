"""The training loop: chunks of a step, records, and losses that are not finite."""

from __future__ import annotations

import math

import pytest
import torch
from training_samples import LABELS, plan_of, small_model, stream_batches, train, training_images

from lpt.config.schema import LossConfig, RunConfig
from lpt.errors import RunError
from lpt.losses import draw_cloud
from lpt.system.processes import ALONE
from lpt.system.randomness import torch_generator
from lpt.training.loop import StepRecord, chunks, train_steps
from lpt.training.objective import instance_weight
from lpt.training.phases import build_objective
from lpt.training.schedule import build_optimizer, learning_rate


@pytest.mark.parametrize("phase", [1, 2])
def test_chunks_hold_every_position_once(phase: int) -> None:
    """Micro-batches hand out the images, labels and draws of the batch's positions in order, none twice."""
    plan = plan_of(phase)
    objective = build_objective(small_model(), training_images(), RunConfig(loss=plan.loss), phase)
    pieces = list(chunks(stream_batches(1)[0], 0, plan, objective, ALONE, plan.micro_batch))
    assert [(chunk.stream, len(chunk.labels)) for chunk in pieces] == [
        (stream, size) for stream in ("balanced", "instance") for size in (2, 2, 1)
    ]
    for stream in ("balanced", "instance"):
        stream_chunks = [chunk for chunk in pieces if chunk.stream == stream]
        assert torch.equal(torch.cat([chunk.labels for chunk in stream_chunks]), LABELS)
        whole = draw_cloud((5, 3), torch_generator(plan.seed, phase, stream, 0, "cloud"))
        assert torch.equal(torch.cat([chunk.cloud for chunk in stream_chunks]), whole)
        assert sum(chunk.share for chunk in stream_chunks) == pytest.approx(1)


def test_records_say_what_a_step_did() -> None:
    """The log's loss is L_bal + eta L_ins - the similarity's share, its rate the schedule's, its epochs counted."""
    plan = plan_of(2)
    records = train(small_model(), plan)
    assert [(record.step, record.epoch) for record in records] == [(step, step // 3) for step in range(6)]
    for record in records:
        eta = instance_weight(0.5, record.epoch, 2)
        assert record.lr == learning_rate(plan.settings, record.step, 3, 5)
        assert math.isfinite(record.gradient_norm)
        classification = record.balanced + eta * record.instance
        assert abs(classification - record.loss) <= 0.5 * 2 * (1 + eta) + 1e-6  # |S| is at most k = 2
        assert record.similarity is not None  # only phase 1 has none
        assert -2 <= record.similarity <= 2


def test_similarity_is_logged_whole_without_the_instance_stream() -> None:
    """With one stream the logged similarity is that stream's, not half of it."""
    plan, model = plan_of(2, loss=LossConfig(instance_weight=0.0, dropout=0.0)), small_model()
    objective = build_objective(model, training_images(), RunConfig(loss=plan.loss), 2)
    records: list[StepRecord] = []
    batch = {"balanced": stream_batches(1)[0]["balanced"]}
    expected = float(model(batch["balanced"].inputs(slice(None), torch.device("cpu"))).similarity.detach())
    optimizer = build_optimizer(objective.trainable(), plan.settings)
    steps = iter([batch] * plan.steps)
    train_steps(
        objective,
        optimizer,
        steps,
        plan,
        first_step=0,
        after_step=lambda record, stopping: records.append(record),
    )
    assert records[0].similarity == pytest.approx(expected, rel=1e-4)
    assert records[0].loss == pytest.approx(records[0].balanced - 0.5 * expected, rel=1e-4)
    assert records[0].instance is None


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_not_finite_stops_before_the_weights_change(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A NaN ends the run with phase and step, and the step that made it is not taken."""
    model = small_model()
    before = model.head.weight.detach().clone()
    with torch.no_grad():
        if what == "loss":
            model.shared.tokens.fill_(float("nan"))
    if what == "gradient":
        monkeypatch.setattr(torch.nn.utils, "get_total_norm", lambda tensors: torch.tensor(float("inf")))
    with pytest.raises(RunError, match=rf"phase 1, step 0: the {what} is not finite[\s\S]*train.phase1.lr"):
        train(model, plan_of(1))
    assert torch.equal(model.head.weight, before)
