"""The objective of each phase: its loss, its weights, and the tensors that it trains."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from training_samples import COUNTS, LABELS, TRAINED, plan_of, small_model, stream_batches, train, training_images

from lpt.config.schema import RunConfig
from lpt.losses import draw_cloud
from lpt.model import LPT
from lpt.model.adapters import Adapters
from lpt.system.processes import ALONE
from lpt.system.randomness import torch_generator
from lpt.training.batches import ImageBatch
from lpt.training.loop import PhasePlan, chunks
from lpt.training.objective import PhaseObjective, dropout_mask, instance_weight
from lpt.training.phases import build_objective
from oracle import textbook_agcl


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
