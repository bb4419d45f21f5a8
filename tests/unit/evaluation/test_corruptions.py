"""The corruptions of pictures: deterministic, stronger with severity, for pictures of any size."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from PIL import Image

from lpt.data.images import ArrayImages
from lpt.data.loading import evaluation_batches
from lpt.data.manifest import LabelledImages
from lpt.data.transforms import Preprocessing
from lpt.errors import ConfigError
from lpt.evaluation.corruptions import (
    CORRUPTIONS,
    FAMILIES,
    SEVERITIES,
    CorruptedImages,
    ReducedImages,
    corrupt,
    find_kinds,
    find_severities,
)
from lpt.evaluation.corruptions.fields import convolve, disc_kernel, gaussian_kernel, line_kernel, smooth_field

KINDS = list(CORRUPTIONS)
PREPROCESSING = Preprocessing(
    size=(16, 16), mean=(0.5,) * 3, std=(0.5,) * 3, interpolation="bilinear", test_crop=1.0, crop_area=(0.3, 1.0),
    crop_aspect=(0.75, 1.33), flip=True,
)  # fmt: skip


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth coloured shapes with some texture, of middle brightness."""
    rng = np.random.default_rng(seed)
    deviation = max(min(width, height) / 12, 0.5)
    smooth = np.stack([smooth_field((height, width), deviation, rng) for _ in range(3)], axis=2)
    pixels = 0.5 + 0.16 * smooth + 0.03 * rng.standard_normal(smooth.shape)
    return Image.fromarray((pixels.clip(0, 1) * 255).astype(np.uint8))


def split_of(number: int) -> LabelledImages:
    array = np.stack([np.asarray(picture(20, 18, seed)) for seed in range(number)])
    return LabelledImages(ArrayImages(array), np.arange(number), np.zeros(number, dtype=np.int64), ("a",))


def seen(split: LabelledImages, kind: str, positions: np.ndarray, seed: int = 0, severity: int = 3) -> LabelledImages:
    source = CorruptedImages(split, kind, severity, seed)
    return LabelledImages(source, positions, split.labels[positions], split.class_names)


def test_there_are_kinds_of_every_family() -> None:
    assert len(CORRUPTIONS) >= 15
    assert {corruption.family for corruption in CORRUPTIONS.values()} == set(FAMILIES)
    for corruption in CORRUPTIONS.values():
        assert list(corruption.strengths) == sorted(set(corruption.strengths))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (8, 8), (32, 32), (3, 60), (500, 333)])
def test_any_size(kind: str, size: tuple[int, int]) -> None:
    """RGB and size are kept, and a picture never becomes one flat colour."""
    original = picture(*size)
    for severity in (1, 5) if size[0] > 100 else SEVERITIES:
        changed = corrupt(original, kind, severity, seed=0, position=0)
        assert (changed.mode, changed.size) == ("RGB", size)
        if min(size) >= 8:
            pixels = np.asarray(changed)
            assert pixels.std() > 2
            assert (pixels != np.asarray(original)).any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("side", "number"), [(32, 16), (224, 3)])
def test_stronger_with_severity(kind: str, side: int, number: int) -> None:
    """The mean change of a pixel grows from severity to severity, and is neither nothing nor everything."""
    pictures = [picture(side, side, seed) for seed in range(number)]
    changes = []
    for severity in SEVERITIES:
        pairs = [
            (np.asarray(image, dtype=float), corrupt(image, kind, severity, seed=0, position=i))
            for i, image in enumerate(pictures)
        ]
        changes.append(np.mean([np.abs(before - np.asarray(after)).mean() for before, after in pairs]))
    assert (np.diff(changes) > 0).all(), changes
    assert 0.4 < changes[0] < changes[-1] < 128


@pytest.mark.parametrize("kind", KINDS)
def test_random_numbers_belong_to_seed_kind_severity_and_position(kind: str) -> None:
    """Not to the order, the subset, or the process: a copy that was pickled gives the same."""
    split = split_of(4)
    whole = seen(split, kind, np.arange(4))
    first = [np.asarray(whole.read(index)) for index in range(4)]
    subset = pickle.loads(pickle.dumps(seen(split, kind, np.array([3, 1]))))
    np.testing.assert_array_equal(np.asarray(subset.read(0)), first[3])
    np.testing.assert_array_equal(np.asarray(subset.read(1)), first[1])
    np.testing.assert_array_equal(np.asarray(whole.read(3)), first[3])


def test_other_seeds_and_positions_draw_others() -> None:
    image = picture(32, 32)
    draws = {
        np.asarray(corrupt(image, "gaussian_noise", 2, seed=seed, position=position)).tobytes()
        for seed in (0, 1)
        for position in (0, 1)
    }
    assert len(draws) == 4


def test_numpy_integers_draw_as_python_ones() -> None:
    image, number = picture(16, 16), np.int64(1)
    drawn = corrupt(image, "gaussian_noise", number, seed=number, position=number)  # type: ignore[arg-type]
    assert drawn.tobytes() == corrupt(image, "gaussian_noise", 1, seed=1, position=1).tobytes()


def test_batches_do_not_depend_on_workers() -> None:
    images = seen(split_of(6), "snow", np.array([5, 0, 2, 4]))
    read = [
        [
            batch.images
            for batch in evaluation_batches(images, batch_size=size, preprocessing=PREPROCESSING, workers=workers)
        ]
        for size, workers in ((4, 0), (1, 2))
    ]
    assert (read[0][0] == np.concatenate(read[1])).all()


def test_large_pictures_are_corrupted_as_small_ones() -> None:
    """What a network sees of a large picture is as noisy and as blurred as of a picture of 224 pixels."""
    large, small = picture(448, 448), picture(448, 448).resize((224, 224), Image.Resampling.BOX)
    for kind in ("gaussian_noise", "impulse_noise", "gaussian_blur", "pixelate", "fog"):
        changes = []
        for image in (large, small):
            after = corrupt(image, kind, 4, seed=0, position=0).resize((224, 224), Image.Resampling.BOX)
            changes.append(np.abs(np.asarray(after, dtype=float) - np.asarray(small)).mean())
        assert changes[0] == pytest.approx(changes[1], rel=0.2), kind


def test_kernels() -> None:
    for kernel in (disc_kernel(0.3), disc_kernel(5.2), line_kernel(7, 0.4), gaussian_kernel(0.2), gaussian_kernel(3)):
        assert kernel.sum() == pytest.approx(1)
        assert len(kernel) % 2 == 1
        np.testing.assert_allclose(kernel, kernel[::-1, ::-1], atol=1e-12)
    places = np.arange(len(gaussian_kernel(3))) - len(gaussian_kernel(3)) // 2
    assert (gaussian_kernel(3).sum(axis=0) * places**2).sum() == pytest.approx(9, rel=0.05)
    assert (np.diff([disc_kernel(radius).max() for radius in (0.3, 0.6, 1.2, 2.4)]) < 0).all()


def test_convolution_against_its_sum() -> None:
    rng = np.random.default_rng(0)
    values, kernel = rng.random((5, 4)).astype(np.float32), rng.random((3, 3))
    padded = np.pad(values, 1, mode="symmetric")
    expected = [[(padded[y : y + 3, x : x + 3] * kernel[::-1, ::-1]).sum() for x in range(4)] for y in range(5)]
    np.testing.assert_allclose(convolve(values, kernel), expected, rtol=1e-5)


def test_reduced_images() -> None:
    source = ReducedImages(split_of(2), 9)
    assert source.read(1).size == (10, 9)
    assert source.name(1) == "image 1"
    assert len(source) == 2
    assert ReducedImages(split_of(2), 18).read(0).size == (20, 18)


def test_names_and_families() -> None:
    assert find_kinds([]) == tuple(CORRUPTIONS)
    assert find_kinds(["JPEG", "fog", "gaussian-noise"]) == ("gaussian_noise", "fog", "jpeg")
    assert find_kinds(["blur", "zoom blur"]) == ("defocus_blur", "motion_blur", "zoom_blur", "gaussian_blur")
    assert find_severities([5, 1, 5]) == (1, 5)


def test_wrong_names_say_what_there_is() -> None:
    with pytest.raises(ConfigError, match=r"'frog' is not known. Kinds: gaussian_noise.*Families.*noise, blur"):
        find_kinds(["fog", "frog"])
    for wrong, given in (([0], "0"), ([6, 2], "6"), ([], "none"), ([3.0], "3.0")):
        with pytest.raises(ConfigError, match=f"from 1 .* got {given}"):
            find_severities(wrong)
    with pytest.raises(ConfigError, match="frog"):
        CorruptedImages(split_of(1), "frog", 1, 0)
