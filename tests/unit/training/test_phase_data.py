"""PhaseData: processes share the batches, a resumed run gets the later ones, and the cache fits in its bound."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from training_samples import COUNTS, small_model

from lpt.config.schema import RunConfig
from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages
from lpt.model import Encoded
from lpt.system.processes import Processes
from lpt.training.phase_data import PhaseData, images_at_once, phase_plan, prefix_cache_size
from samples import PREPROCESSING

CPU = torch.device("cpu")


def phase_data(views: int = 0) -> PhaseData:
    """Photographs of three classes, for three steps of 5 images in each phase."""
    labels = np.repeat(np.arange(len(COUNTS)), COUNTS)
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 30, 30, 3), dtype=np.uint8)
    images = LabelledImages(ArrayImages(pixels), np.arange(len(labels)), labels, ("a", "b", "c"))
    phase = {"epochs": 1, "warmup_epochs": 0}
    train = {"batch_size": 5, "epoch_steps": 3, "micro_batch": 4, "phase1": phase, "phase2": phase}
    config = RunConfig.model_validate({
        "train": train,
        "runtime": {"workers": 0, "device": "cpu", "precision": "fp32", "seed": 7},
        "prefix_cache": {"views": views, "dtype": "fp32"},
    })  # fmt: skip
    return PhaseData(images, config, PREPROCESSING)


def pixels(batches: Iterator[dict[str, object]]) -> list[dict[str, Tensor]]:
    return [
        {stream: batch.inputs(slice(None), CPU) for stream, batch in step.items()}  # type: ignore[attr-defined]
        for step in batches
    ]


def test_a_plan_is_what_is_configured() -> None:
    data = phase_data()
    assert data.plan(2) == phase_plan(data.config, 2)
    assert (data.plan(2).phase, data.plan(2).steps, data.plan(2).batch_size, data.plan(2).seed) == (2, 3, 5, 7)


@pytest.mark.parametrize("phase", [1, 2])
def test_processes_share_the_batches_of_one(phase: int) -> None:
    data = phase_data()
    whole = pixels(data.batches(data.plan(phase)))
    parts = [pixels(replace(data, processes=Processes(rank, 2)).batches(data.plan(phase))) for rank in range(2)]
    assert len(whole) == 3
    for step, batches in enumerate(whole):
        for stream, images in batches.items():
            assert len(images) == 5
            assert torch.equal(torch.cat([part[step][stream] for part in parts]), images)


def test_batches_from_a_step_on_are_those_of_a_run_from_the_start() -> None:
    data = phase_data()
    whole, later = pixels(data.batches(data.plan(1))), pixels(data.batches(data.plan(1), first_step=2))
    assert len(later) == 1
    assert all(torch.equal(later[0][stream], whole[2][stream]) for stream in data.plan(1).streams)


def test_the_cache_holds_what_the_plan_draws_and_no_more_than_its_bound() -> None:
    """A resumed run gets the same cached batch as one from the start."""
    data, model, totals, done = phase_data(views=3), small_model(), list[int](), list[int]()
    plan = data.plan(2)

    def show(total: int) -> Callable[[int], None]:
        totals.append(total)
        return done.append

    cache = data.filled_cache(model, plan, show=show)
    assert totals == done[-1:] == [len(cache.numbers)]
    bound = prefix_cache_size(data.images, model.backbone, data.config)
    assert len(cache.numbers) <= bound.views == min(14 * 3, 3 * 10)
    assert bound.bytes == bound.views * cache.shape.stored_bytes
    steps = list(data.cached_batches(plan, cache))
    assert len(steps) == 3
    resumed = next(data.cached_batches(plan, cache, first_step=2))
    for stream in plan.streams:
        expected, inputs = (step[stream].inputs(slice(None), CPU) for step in (steps[2], resumed))
        assert isinstance(expected, Encoded)
        assert isinstance(inputs, Encoded)
        assert torch.equal(inputs.tokens, expected.tokens)
        drawn_images = data.draws(plan).step(stream, 2) // 3
        assert torch.equal(resumed[stream].labels, torch.from_numpy(data.images.labels[drawn_images]))


@pytest.mark.parametrize(("views", "expected"), [(1, 4), (2, 2), (5, 1)])
def test_no_more_crops_at_once_than_a_step_holds(views: int, expected: int) -> None:
    assert images_at_once(phase_data().config, views) == expected
