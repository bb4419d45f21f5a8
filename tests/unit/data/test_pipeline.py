"""Workers and the memory they share: the same batches however they are started, and nothing kept twice."""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from lpt.commands.fit import prepare
from lpt.config.schema import DataConfig
from lpt.data import cache
from lpt.data.cache import CachedImages, fill_cache
from lpt.data.device_crops import resampled_crops
from lpt.data.images import ArrayImages
from lpt.data.loading import StreamBatch, evaluation_batches, train_batches, view_batches
from lpt.data.manifest import ImageSource, LabelledImages, Splits
from lpt.data.sampling import ClassBalanced, InstanceBalanced
from lpt.data.sources import open_splits
from lpt.data.transforms import Preprocessing
from lpt.system.processes import ALONE

PREPROCESSING = Preprocessing(
    size=(16, 16),
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
    interpolation="bicubic",
    test_crop=0.875,
    crop_area=(0.2, 1.0),
    crop_aspect=(0.75, 1.33),
    flip=True,
)
PIXELS = np.random.default_rng(0).integers(0, 256, (8, 20, 24, 3), dtype=np.uint8)
LABELS = np.array([0, 0, 0, 0, 0, 1, 1, 1])


def arrays() -> LabelledImages:
    return LabelledImages(ArrayImages(PIXELS), np.arange(8), LABELS, ("a", "b"))


def files(folder: Path) -> LabelledImages:
    for number, (pixels, label) in enumerate(zip(PIXELS, LABELS, strict=True)):
        path = folder / "ab"[label] / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(path)
    return open_splits(DataConfig(source=str(folder)), seed=0).train


def table(folder: Path) -> LabelledImages:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])})
    rows = {"image": [Image.fromarray(pixels) for pixels in PIXELS], "label": LABELS.tolist()}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(folder / "table"))
    return open_splits(DataConfig(source=f"hf:{folder / 'table'}"), seed=0).train


class Together:
    """Several sources, one after the other, so that one worker is enough to try them all."""

    def __init__(self, *sources: ImageSource) -> None:
        self._places = [(source, row) for source in sources for row in range(len(source))]

    def __len__(self) -> int:
        return len(self._places)

    def name(self, row: int) -> str:
        source, place = self._places[row]
        return source.name(place)

    def read(self, row: int) -> Image.Image:
        source, place = self._places[row]
        return source.read(place)


def kept(images: LabelledImages, limit: int = 2**20) -> LabelledImages:
    return LabelledImages(CachedImages(images.source, limit), images.rows, images.labels, images.class_names)


def train(images: LabelledImages, **changes: Any) -> list[dict[str, StreamBatch]]:
    samplers = {"balanced": ClassBalanced(images.labels, 4, 0), "instance": InstanceBalanced(len(images), 0)}
    options: dict[str, Any] = dict(
        batch_size=4, preprocessing=PREPROCESSING, seed=(0, 1), first_step=0, last_step=3, workers=0
    )
    return list(train_batches(images, samplers, **{**options, **changes}))


def evaluation(images: LabelledImages, workers: int) -> Iterator[StreamBatch]:
    return evaluation_batches(images, batch_size=5, preprocessing=PREPROCESSING, workers=workers)


def assert_same(item: list[dict[str, StreamBatch]], other: list[dict[str, StreamBatch]]) -> None:
    assert len(item) == len(other) == 3
    for mine, yours in zip(item, other, strict=True):
        for stream in mine:
            for tensor, same in zip(mine[stream], yours[stream], strict=True):
                assert (tensor is None and same is None) or torch.equal(tensor, same)


@contextmanager
def workers_started_by(method: str) -> Iterator[None]:
    """`spawn` and `forkserver` workers inherit nothing: what they know has been pickled."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} here")
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        yield
    finally:
        multiprocessing.set_start_method(before, force=True)


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_started_anew_give_the_same_batches(tmp_path: Path) -> None:
    """As where workers are not forked (macOS, Windows, Python 3.14): every kind of source can be sent to them."""
    parts = [files(tmp_path), table(tmp_path), arrays()]
    rows = np.arange(24)
    images = LabelledImages(Together(*(part.source for part in parts)), rows, np.tile(LABELS, 3), ("a", "b"))
    alone = train(images)
    evaluated = torch.cat([batch.images for batch in evaluation(images, workers=0)])
    with workers_started_by("forkserver"):
        assert_same(train(images, workers=1), alone)
        assert torch.equal(torch.cat([batch.images for batch in evaluation(images, workers=1)]), evaluated)


@pytest.mark.parametrize(
    ("method", "platform"),
    [
        ("fork", "linux"),
        ("fork", "another"),
        pytest.param("forkserver", "another", marks=pytest.mark.slow),
        pytest.param("spawn", "linux", marks=pytest.mark.slow),  # slower: it imports everything once for each worker
        pytest.param("forkserver", "linux", marks=pytest.mark.slow),
    ],
)
def test_workers_look_into_the_memory_of_their_parent(
    method: str, platform: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images are decoded once: workers give batches after the files are gone."""
    if platform == "another":
        monkeypatch.setattr(cache, "sys", SimpleNamespace(platform="another"))
    images = files(tmp_path)
    alone = train(images, whole=True)
    keeping = kept(images)
    assert fill_cache(keeping)
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    with workers_started_by(method):
        assert_same(train(keeping, whole=True, workers=1), alone)


def test_workers_keep_nothing_themselves(tmp_path: Path) -> None:
    """Beyond the limit workers read again; their batches are right, and the block of the parent is not written to."""
    images = kept(files(tmp_path), limit=3 * 20 * 24 * 3)
    assert not fill_cache(images)
    source = images.source
    assert isinstance(source, CachedImages)
    block = source._block.pixels.copy()
    assert_same(train(images, workers=2), train(arrays()))
    views = list(
        view_batches(images, np.arange(16), views=2, batch_size=4, preprocessing=PREPROCESSING, seed=0, workers=2)
    )
    assert sum(map(len, views)) == 16
    np.testing.assert_array_equal(source._block.pixels, block)


def test_an_ordinary_copy_does_not_take_the_pixels_along() -> None:
    """A pickle made for anything but a worker holds no image, and its copy reads from the source."""
    images = kept(arrays())
    assert fill_cache(images)
    text = pickle.dumps(images.source)
    assert len(text) < PIXELS.nbytes + 1000  # the source itself is an array here
    np.testing.assert_array_equal(np.asarray(pickle.loads(text).read(3)), PIXELS[3])


@pytest.mark.parametrize("make", [files, table])
def test_images_are_cached_as_they_are_checked(make: Callable[[Path], LabelledImages], tmp_path: Path) -> None:
    """Looking for images that cannot be read decodes all of them: what is to be kept is kept then."""
    images = kept(make(tmp_path))
    splits = Splits(make(tmp_path), None, None, images.class_counts)
    prepare.check_readable(images, splits, ALONE)
    assert isinstance(images.source, CachedImages)
    for index, row in enumerate(images.rows):
        held = images.source.cached(int(row))
        assert held is not None
        np.testing.assert_array_equal(held, np.asarray(splits.train.read(index)))


def test_many_threads_cache_each_image_once(tmp_path: Path) -> None:
    """What several threads decode at a time does not overlap in memory."""
    pixels = np.random.default_rng(1).integers(0, 256, (500, 9, 7, 3), dtype=np.uint8)
    many = LabelledImages(ArrayImages(pixels), np.arange(500), np.zeros(500, dtype=np.int64), ("a",))
    exact = kept(many, limit=pixels.nbytes)
    assert fill_cache(exact)
    for row in range(500):
        np.testing.assert_array_equal(np.asarray(exact.read(row)), pixels[row])


# --- whole images -----------------------------------------------------------------------------------------------------


def test_whole_batches_show_what_cut_ones_do() -> None:
    """The same images, boxes, mirrors and labels: cut out of the whole images, they differ by rounding alone."""
    images = kept(arrays())
    for cut, whole in zip(train(images), train(images, whole=True), strict=True):
        for stream, batch in whole.items():
            assert batch.crops is not None
            made = resampled_crops(batch.images, batch.crops, PREPROCESSING.size, PREPROCESSING.interpolation)
            difference = (made - cut[stream].images).abs()
            assert difference.median() == 0
            assert difference.quantile(0.99) <= 2
            assert torch.equal(batch.labels, cut[stream].labels)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("workers", [0, 2])
def test_pinned_batches_arrive_whole(workers: int) -> None:
    """Page-locked batches copied without waiting are those of the CPU, whole images and cut ones."""
    for whole in (False, True):
        pinned = train(kept(arrays()), whole=whole, workers=workers, pin_memory=True)
        for batch, expected in zip(pinned, train(arrays(), whole=whole), strict=True):
            for stream, parts in batch.items():
                for tensor, same in zip(parts, expected[stream], strict=True):
                    if tensor is not None:
                        assert tensor.is_pinned()
                        assert torch.equal(tensor.to("cuda", non_blocking=True).cpu(), same)
