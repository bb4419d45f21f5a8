"""The kept frozen part of phase 2 is what would be computed anew, whatever keeps it, and survives being cut short."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lpt.data.images import ArrayImages
from lpt.data.loading import view_batches
from lpt.data.manifest import LabelledImages
from lpt.data.sampling import ClassBalanced, InstanceBalanced
from lpt.errors import RunError
from lpt.model import LPT, Encoded, FrozenViT
from lpt.system.processes import Processes
from lpt.training.prefix_cache import Draws, PrefixCache, Shape, cached_batches
from oracle import small_vit
from samples import PREPROCESSING

VIEWS, BATCH, STEPS = 3, 7, 5
CPU = torch.device("cpu")


def images() -> LabelledImages:
    labels = np.repeat(np.arange(3), (9, 4, 1))
    pixels = np.random.default_rng(0).integers(0, 256, (len(labels), 20, 20, 3)).astype(np.uint8)
    return LabelledImages(ArrayImages(pixels), np.arange(len(labels)), labels, ("a", "b", "c"))


def model(dtype: torch.dtype = torch.float32) -> LPT:
    torch.manual_seed(0)
    made = LPT(FrozenViT(small_vit(dtype=dtype)), 3, 2, 2, 5, 2)
    with torch.no_grad():
        for tensor in made.parameters():
            tensor.normal_()
    return made


def draws(processes: Processes = Processes(), views: int = VIEWS) -> Draws:  # noqa: B008
    labels = images().labels
    samplers = {
        "balanced": ClassBalanced(labels, 2, 11, 2, "balanced"),
        "instance": InstanceBalanced(len(labels), 11, 2, "instance"),
    }
    return Draws(samplers, views, BATCH, processes.share(BATCH), (11, 2))


def cache(lpt: LPT, drawn: Draws, file: Path | None = None, dtype: torch.dtype = torch.float32) -> PrefixCache:
    numbers = drawn.distinct(len(images()), STEPS)
    return PrefixCache(numbers, len(images()) * VIEWS, Shape(10, 24, dtype), 4, file=file, identity="weights 1")


def fill(kept: PrefixCache, lpt: LPT, stop_after: int | None = None) -> None:
    def progress(done: int) -> None:
        if stop_after is not None and done >= stop_after:
            raise KeyboardInterrupt

    kept.fill(lpt, images(), PREPROCESSING, views=VIEWS, seed=11, workers=0, progress=progress)


@pytest.mark.parametrize("store", ["memory", "disk"])
def test_cached_batches_give_what_the_images_would(store: str, tmp_path: Path) -> None:
    """For every draw: outputs and gradients from the cache are those from the augmented view itself."""
    lpt, drawn, data = model(), draws(), images()
    kept = cache(lpt, drawn, None if store == "memory" else tmp_path / "run" / "kept.rows")
    fill(kept, lpt)
    for step, batches in enumerate(cached_batches(kept, drawn, data.labels, 0, STEPS)):
        for stream, batch in batches.items():
            numbers = drawn.step(stream, step)
            assert torch.equal(batch.labels, torch.from_numpy(data.labels[numbers // VIEWS]))
            pixels = torch.cat(
                list(
                    view_batches(
                        data, numbers, views=VIEWS, batch_size=BATCH, preprocessing=PREPROCESSING, seed=11, workers=0
                    )
                )
            )
            inputs = batch.inputs(slice(2, 6), CPU)
            assert isinstance(inputs, Encoded)
            outputs = [lpt(PREPROCESSING.normalize(pixels[2:6])), lpt.classify(inputs)]
            gradients = [torch.autograd.grad(out.cosines.square().sum(), lpt.groups.prompts)[0] for out in outputs]
            torch.testing.assert_close(outputs[1].cosines, outputs[0].cosines, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(outputs[1].similarity, outputs[0].similarity, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4)


def test_memory_and_disk_keep_the_same_bits(tmp_path: Path) -> None:
    """Where the cache lies changes nothing, in bfloat16 either."""
    lpt, drawn = model(), draws()
    for dtype in (torch.float32, torch.bfloat16):
        both = [cache(lpt, drawn, file, dtype) for file in (None, tmp_path / f"{dtype}.rows")]
        for kept in both:
            fill(kept, lpt)
        size = len(both[0].numbers) * both[0].shape.stored_bytes
        assert (tmp_path / f"{dtype}.rows").stat().st_size == size
        slots = both[0].numbers, np.zeros(len(both[0].numbers), dtype=np.int64)
        in_memory, on_disk = (kept.batch(*slots).inputs(slice(None), CPU) for kept in both)
        assert torch.equal(in_memory.tokens, on_disk.tokens)
        assert torch.equal(in_memory.query, on_disk.query)
        assert on_disk.tokens.dtype == dtype
        assert on_disk.query.dtype == torch.float32


def test_an_interrupted_file_is_gone_on_with(tmp_path: Path) -> None:
    """After a stop, and a last row cut in half, whole batches are kept; the rest gives the file of one go."""
    lpt, drawn, file = model(), draws(), tmp_path / "kept.rows"
    whole = cache(lpt, drawn, tmp_path / "whole.rows")
    fill(whole, lpt)
    with pytest.raises(KeyboardInterrupt):
        fill(cache(lpt, drawn, file), lpt, stop_after=12)
    with file.open("rb+") as stream:
        stream.truncate(12 * whole.shape.stored_bytes - 5)
    again = cache(lpt, drawn, file)
    assert again.done == 8
    fill(again, lpt)
    assert file.read_bytes() == (tmp_path / "whole.rows").read_bytes()
    other = PrefixCache(whole.numbers, len(images()) * VIEWS, whole.shape, 4, file=file, identity="weights 2")
    assert other.done == 0  # what other weights gave is not used
    again.remove()
    assert not file.exists()


def test_a_full_disk_is_told_and_what_fits_is_kept(tmp_path: Path) -> None:
    """Writing beyond the limit of a file's size ends with what to do; more room, and it goes on from there."""
    lpt, drawn, file = model(), draws(), tmp_path / "kept.rows"
    kept = cache(lpt, drawn, file)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10 * kept.shape.stored_bytes, limit[1]))
    try:
        with pytest.raises(RunError, match=r"kept\.rows[\s\S]*lpt\.resume"):
            fill(kept, lpt)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    again = cache(lpt, drawn, file)
    assert again.done == 8
    fill(again, lpt)
    assert again.done == len(again.numbers)


@given(count=st.integers(1, 9), views=st.integers(1, 5), step=st.integers(0, 30))
def test_processes_together_draw_what_one_draws(count: int, views: int, step: int) -> None:
    """The views of a step do not depend on how many processes share it, nor on what was drawn before."""
    for stream in ("balanced", "instance"):
        whole = draws(views=views).step(stream, step)
        parts = [draws(Processes(index, count), views).step(stream, step) for index in range(count)]
        assert np.array_equal(np.concatenate(parts), whole)
        assert np.array_equal(whole // views, draws().samplers[stream].draw(step, BATCH))


def test_only_drawn_views_are_computed_and_all_views_are_used() -> None:
    """A view that no step shows is not computed; over many steps each view of an image has its turn."""
    drawn = draws()
    numbers = drawn.distinct(len(images()), STEPS)
    shown = {int(number) for stream in drawn.samplers for step in range(STEPS) for number in drawn.step(stream, step)}
    assert set(numbers.tolist()) == shown
    assert len(drawn.distinct(len(images()), 60)) == len(images()) * VIEWS
