"""The training mathematics: rates, weights, the objective of each phase, and what a checkpoint keeps."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lpt.config.schema import LossConfig, PhaseConfig, RunConfig
from lpt.data.images import ArrayImages
from lpt.data.loading import StreamBatch
from lpt.data.manifest import LabelledImages
from lpt.errors import RunError
from lpt.losses import draw_cloud
from lpt.model import LPT, FrozenViT
from lpt.model.adapters import Adapters
from lpt.system.processes import ALONE
from lpt.system.randomness import torch_generator
from lpt.training.batches import ImageBatch
from lpt.training.checkpoint import (
    FILE_NAME,
    Position,
    load_checkpoint,
    optimizer_tensors,
    restore_optimizer,
    save_checkpoint,
)
from lpt.training.folder import RunFolder
from lpt.training.loop import PhasePlan, StepRecord, chunks, train_steps
from lpt.training.objective import PhaseObjective, dropout_mask, instance_weight
from lpt.training.phases import build_objective
from lpt.training.schedule import build_optimizer, learning_rate
from oracle import small_vit, textbook_agcl
from samples import PREPROCESSING

COUNTS = (9, 4, 1)
LABELS = torch.tensor([0, 1, 2, 0, 0])
TRAINED = {1: {"shared.tokens", "head.weight"}, 2: {"groups.prompts", "groups.keys", "head.weight"}}


def small_model(dtype: torch.dtype = torch.float32) -> LPT:
    torch.manual_seed(3)
    model = LPT(FrozenViT(small_vit(dtype=dtype)), len(COUNTS), prompt_length=2, pool_size=5, top_k=2).to(dtype)
    with torch.no_grad():
        for tensor in (model.shared.tokens, model.groups.prompts, model.groups.keys):
            tensor.normal_()
    return model


def training_images() -> LabelledImages:
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    pixels = np.zeros((len(labels), 8, 8), dtype=np.uint8)
    return LabelledImages(ArrayImages(pixels), np.arange(len(labels)), labels, ("a", "b", "c"))


def plan_of(phase: int, **changes: Any) -> PhasePlan:
    settings = PhaseConfig(epochs=2, optimizer=changes.pop("optimizer", "sgd"), lr=2.0, warmup_epochs=0)
    values: dict[str, Any] = dict(epoch_steps=3, batch_size=len(LABELS), micro_batch=2, seed=11, loss=LossConfig())
    return PhasePlan(phase=phase, settings=settings, **{**values, **changes})


def stream_batches(steps: int) -> list[dict[str, ImageBatch]]:
    generator = torch.Generator().manual_seed(1)

    def one() -> ImageBatch:
        images = torch.randint(0, 256, (len(LABELS), 3, 24, 24), generator=generator, dtype=torch.uint8)
        return ImageBatch(StreamBatch(images, LABELS), PREPROCESSING)

    return [{"balanced": one(), "instance": one()} for _ in range(steps)]


def train(model: LPT, plan: PhasePlan) -> list[StepRecord]:
    objective = build_objective(model, training_images(), RunConfig(loss=plan.loss), plan.phase)
    optimizer = build_optimizer(objective.trainable(), plan.settings)
    records: list[StepRecord] = []
    train_steps(
        objective,
        optimizer,
        iter(stream_batches(plan.steps)),
        plan,
        first_step=0,
        after_step=lambda record, stopping: records.append(record),
    )
    return records


# --- schedules --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [64, 256, 512])
def test_learning_rate_is_the_published_one(batch_size: int) -> None:
    """SGD at 0.02 * B / 256: 1e-6 in epoch 0, then half a cosine, set once an epoch (DESIGN section 2)."""
    settings, epoch_steps = PhaseConfig(), 43
    peak = 0.02 * batch_size / 256
    for epoch in range(90):
        expected = 1e-6 if epoch == 0 else peak * (1 + math.cos(math.pi * (epoch - 1) / 89)) / 2
        first, last = epoch * epoch_steps, (epoch + 1) * epoch_steps - 1
        assert learning_rate(settings, first, epoch_steps, batch_size) == pytest.approx(expected, rel=1e-12)
        assert learning_rate(settings, first, epoch_steps, batch_size) == learning_rate(
            settings, last, epoch_steps, batch_size
        )


def test_adamw_rate_does_not_follow_the_batch_size() -> None:
    """AdamW's steps do not grow with the gradient, so its rate is taken as it is."""
    settings = PhaseConfig(optimizer="adamw", lr=2e-3, warmup_epochs=0, epochs=4)
    assert learning_rate(settings, 0, 10, 64) == learning_rate(settings, 0, 10, 512) == 2e-3


def test_step_schedule_changes_with_every_step() -> None:
    """Linear from min_lr over the warm-up's steps, then a cosine towards 0 at the end of the phase."""
    settings = PhaseConfig(optimizer="adamw", lr=1.0, warmup_epochs=2, min_lr=0.1, epochs=6, schedule="step")
    rates = [learning_rate(settings, step, 10, 32) for step in range(60)]
    np.testing.assert_allclose(rates[:20], 0.1 + 0.9 * np.arange(20) / 20)
    np.testing.assert_allclose(rates[20:], 0.5 * (1 + np.cos(np.pi * np.arange(40) / 40)))


def test_a_short_phase_warms_up_for_half_of_it() -> None:
    """A single epoch with a preset's warm-up of one still reaches its peak and decays from there."""
    settings = PhaseConfig(optimizer="adamw", lr=1.0, warmup_epochs=1, min_lr=0.0, epochs=1, schedule="step")
    rates = [learning_rate(settings, step, 10, 32) for step in range(10)]
    np.testing.assert_allclose(rates[:5], np.arange(5) / 5)
    np.testing.assert_allclose(rates[5:], 0.5 * (1 + np.cos(np.pi * np.arange(5) / 5)))


def test_instance_weight_falls_linearly() -> None:
    """eta_t = 0.5 (E - t) / E: 0.5 in epoch 0, 0.5 / E in the last (LPT eq. 8)."""
    assert [instance_weight(0.5, epoch, 5) for epoch in range(5)] == pytest.approx([0.5, 0.4, 0.3, 0.2, 0.1])


def test_dropout_keeps_the_mean() -> None:
    """A feature is dropped with the given probability and scaled up otherwise; rate 0 needs no mask."""
    mask = dropout_mask((200, 100), 0.1, torch.Generator().manual_seed(0))
    assert mask is not None
    assert mask.unique().tolist() == pytest.approx([0, 1 / 0.9])
    assert float(mask.mean()) == pytest.approx(1, abs=0.01)
    assert dropout_mask((2, 3), 0.0, torch.Generator()) is None


# --- the objective ----------------------------------------------------------------------------------------------------


def by_hand(model: LPT, plan: PhasePlan, batch: dict[str, ImageBatch], step: int, eta: float) -> Tensor:
    """L_balanced + eta * L_instance over whole batches; in phase 2 with -0.5 S of each batch."""
    losses = {}
    for stream, (gamma_pos, gamma_neg) in {"balanced": (0.0, 4.0), "instance": (0.5, 8.0)}.items():
        images = (batch[stream].stored.images.float() / 255 - 0.5) / 0.5
        cloud = draw_cloud((5, 3), torch_generator(plan.seed, plan.phase, stream, step, "cloud"))
        mask = dropout_mask((5, 24), 0.1, torch_generator(plan.seed, plan.phase, stream, step, "dropout"))
        if plan.phase == 1:
            cosines, similarity = model.forward_shared(images, feature_mask=mask), 0.0
        else:
            cosines, similarity, _ = model(images, feature_mask=mask)
        classification = textbook_agcl(cosines, LABELS, COUNTS, gamma_pos, gamma_neg, noise=cloud)
        losses[stream] = classification - 0.5 * similarity
    return losses["balanced"] + eta * losses["instance"]


@pytest.mark.parametrize("phase", [1, 2])
@pytest.mark.parametrize("micro_batch", [2, 5, 100])
def test_chunks_add_up_to_the_loss_of_the_paper(phase: int, micro_batch: int) -> None:
    """However a step is cut into micro-batches, its loss and gradients are those of L_bal + eta L_ins (- 0.5 S)."""
    model, plan, step, eta = small_model(torch.float64), plan_of(phase), 4, 0.3
    objective = build_objective(model, training_images(), RunConfig(loss=plan.loss), phase)
    batch = stream_batches(1)[0]
    total = torch.zeros((), dtype=torch.float64)
    for chunk in chunks(batch, step, plan, objective, ALONE, micro_batch):
        part = objective(chunk, eta).total
        part.backward()
        total += part.detach()
    gradients = {name: tensor.grad.clone() for name, tensor in objective.trainable().items()}
    model.zero_grad()
    expected = by_hand(model, plan, batch, step, eta)
    expected.backward()
    torch.testing.assert_close(total, expected.detach(), rtol=1e-6, atol=0)
    for name, tensor in objective.trainable().items():
        torch.testing.assert_close(gradients[name], tensor.grad, rtol=1e-5, atol=1e-8, msg=name)


@pytest.mark.parametrize("phase", [1, 2])
def test_chunks_hold_every_position_once(phase: int) -> None:
    """Micro-batches hand out the images, labels and draws of the batch's positions in order, none twice."""
    plan = plan_of(phase)
    objective = build_objective(small_model(), training_images(), RunConfig(loss=plan.loss), phase)
    got = list(chunks(stream_batches(1)[0], 0, plan, objective, ALONE, plan.micro_batch))
    assert [(chunk.stream, len(chunk.labels)) for chunk in got] == [
        (stream, size) for stream in ("balanced", "instance") for size in (2, 2, 1)
    ]
    for stream in ("balanced", "instance"):
        own = [chunk for chunk in got if chunk.stream == stream]
        assert torch.equal(torch.cat([chunk.labels for chunk in own]), LABELS)
        whole = draw_cloud((5, 3), torch_generator(plan.seed, phase, stream, 0, "cloud"))
        assert torch.equal(torch.cat([chunk.cloud for chunk in own]), whole)
        assert sum(chunk.share for chunk in own) == pytest.approx(1)


# --- what each phase trains -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("phase", [1, 2])
def test_each_phase_changes_its_own_tensors_alone(phase: int, optimizer: str) -> None:
    """Phase 1 trains shared prompt and head, phase 2 pool, keys and head; what is frozen stays the same bit for bit."""
    model = small_model()
    tensors = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    backbone = {name: tensor.clone() for name, tensor in model.backbone.state_dict().items()}
    objective = PhaseObjective(model, phase, {}, 0.5)
    assert set(objective.trainable()) == TRAINED[phase]
    train(model, plan_of(phase, optimizer=optimizer))
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, tensors[name])}
    assert changed == TRAINED[phase]
    assert all(torch.equal(tensor, backbone[name]) for name, tensor in model.backbone.state_dict().items())
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())


def test_both_phases_leave_the_shared_prompt_of_phase_1() -> None:
    """Phase 2 builds on the shared prompt as phase 1 left it, weight decay included, and warm-starts from its head."""
    model = small_model()
    train(model, plan_of(1))
    shared, head = model.shared.tokens.detach().clone(), model.head.weight.detach().clone()
    objective = build_objective(model, training_images(), RunConfig(), 2)
    assert torch.equal(model.head.weight, head)
    assert "shared.tokens" not in objective.trainable()
    train(model, plan_of(2))
    assert torch.equal(model.shared.tokens, shared)


def test_adapters_train_with_the_shared_prompt() -> None:
    small = small_model()
    adapters = Adapters(small.backbone.depth, small.backbone.width, 2)
    model = LPT(small.backbone, len(COUNTS), prompt_length=2, pool_size=5, top_k=2, adapters=adapters)
    names = {f"adapters.{name}" for name, _ in adapters.named_parameters()}
    assert set(PhaseObjective(model, 1, {}, 0.5).trainable()) == TRAINED[1] | names
    assert set(PhaseObjective(model, 2, {}, 0.5).trainable()) == TRAINED[2]


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


# --- checkpoints ------------------------------------------------------------------------------------------------------


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
    with pytest.raises(RunError, match=rf"{path} is damaged[\s\S]*--resume"):
        load_checkpoint(tmp_path)


# --- the run folder ---------------------------------------------------------------------------------------------------


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
    with pytest.raises(RunError, match=r"--resume '.*my run'[\s\S]*--overwrite"):
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
    with pytest.raises(RunError, match=r"cannot make the run folder /proc/none: (?!None)[\s\S]*--output"):
        RunFolder.create(Path("/proc/none"), {}, overwrite=False)
