"""Images of more than 8 bits: read with a white, found, and warned of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lpt.config.schema import DataConfig
from lpt.data.cache import CachedImages, with_white
from lpt.data.decoding import Reading, read_image
from lpt.data.depth import find_deep, largest_value
from lpt.data.doctor.examine import examine
from lpt.data.images import ColumnImages, FileImages
from lpt.data.manifest import LabelledImages
from lpt.data.sources import open_splits
from picture_files import png16, tiff

WHITE_1000 = Reading(white=1000.0)


def in_8bit(values: np.ndarray, white: float) -> np.ndarray:
    return np.round(np.clip(values / white, 0, 1) * 255).astype(np.uint8)


GREY = np.random.default_rng(0).integers(0, 1001, (40, 30)).astype(np.uint16)
COLOUR = np.random.default_rng(1).integers(0, 1001, (40, 30, 3)).astype(np.uint16)
OPAQUE = np.concatenate([COLOUR, np.full((40, 30, 1), 65535, np.uint16)], axis=2)


@pytest.mark.parametrize(
    ("stored", "values"),
    [
        (png16(GREY, 0), GREY),
        (tiff(GREY), GREY),
        (tiff(GREY, order=">"), GREY),
        (tiff(GREY.astype(np.int32), 2), GREY),
        (tiff(GREY.astype(np.uint32), 1), GREY),
        (tiff(GREY.astype(np.float32), 3), GREY),
        (png16(COLOUR, 2), COLOUR),
        (png16(OPAQUE, 6), COLOUR),
        (tiff(COLOUR), COLOUR),
        (tiff(COLOUR, order=">"), COLOUR),
    ],
)
def test_with_a_white_all_grey_levels_are_there(stored: bytes, values: np.ndarray) -> None:
    seen = np.asarray(read_image(stored, "it", WHITE_1000))
    assert (seen == in_8bit(values if values.ndim == 3 else values[..., None], 1000)).all()
    assert len(np.unique(np.asarray(read_image(stored, "it")))) <= 5


def test_unsigned_integers_of_32_bits_do_not_turn_negative() -> None:
    values = np.array([[0, 2**31, 2**32 - 1]], dtype=np.uint32)
    assert np.asarray(read_image(tiff(values), "it"))[0, :, 0].tolist() == [0, 128, 255]


def test_negative_values_keep_their_own_black() -> None:
    values = np.array([[-1000.0, 0.0, 1000.0, 3000.0]], dtype=np.float32)
    assert np.asarray(read_image(tiff(values, 3), "it", WHITE_1000))[0, :, 0].tolist() == [0, 128, 255, 255]


def test_images_of_8_bits_stay_as_they_are() -> None:
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert (np.asarray(read_image(tiff(values), "it", WHITE_1000))[..., 0] == values).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four deep images, of which three use part of their range, a constant one and one of 8 bits."""
    for name, content in {
        "a/depth.png": png16(GREY, 0),
        "a/colour.png": png16(COLOUR, 2),
        "b/float.tif": tiff(GREY.astype(np.float32) * 3, 3),
        "b/full.png": png16(GREY * 60, 0),
        "b/black.png": png16(GREY * 0, 0),
        "b/narrow.tif": tiff((GREY // 4).astype(np.uint8)),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_deep_images_are_found_and_warned_of_with_counts(folder: Path) -> None:
    splits = open_splits(DataConfig(source=str(folder)), seed=0)
    result = find_deep([splits.train])
    assert len(result.ranges) == 5
    assert [(Path(name).name, used.levels) for name, used in result.shallow] == [
        ("colour.png", 5),
        ("depth.png", 5),
        ("float.tif", 13),
    ]
    assert largest_value(splits.train) == (60000.0, 5)
    for decode in (True, False):
        (warning,) = [f for f in examine(splits, decode=decode).findings if "more than 8 bits" in f.what]
        assert warning.severity == "warning"
        assert "3 of the 5 images" in warning.what
        assert "image.white=auto" in warning.advice
    (whitened,) = with_white([splits.train], 1000.0)
    assert not find_deep([whitened]).shallow


def test_a_sample_is_said_to_be_one(folder: Path) -> None:
    splits = open_splits(DataConfig(source=str(folder)), seed=0)
    assert find_deep([splits.train], headers=3).sampled
    assert len(find_deep([splits.train], decoded=2).ranges) == 2
    assert not find_deep([splits.train], headers=6, decoded=5).sampled


def test_the_white_reaches_files_columns_and_caches(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png16(GREY, 0))
    files = FileImages(tmp_path, ["a.png"])
    column = ColumnImages([{"image": png16(GREY, 0)}], "image", "table")
    for source in (files, column, CachedImages(files)):
        images = LabelledImages(source, np.zeros(1, np.int64), np.zeros(1, np.int64), ("a",))
        assert len(np.unique(np.asarray(images.read(0)))) == 5
        first, second = with_white([images, images], 1000.0)
        assert first.source is second.source
        assert len(np.unique(np.asarray(first.read(0)))) > 240
        assert with_white([first], 1000.0)[0].source is first.source
        assert len(np.unique(np.asarray(images.read(0)))) == 5


def test_pictures_opened_by_others_take_the_white_too() -> None:
    from lpt.data.decoding import as_rgb

    assert (np.asarray(as_rgb(Image.fromarray(GREY), 1000.0))[..., 0] == in_8bit(GREY, 1000)).all()
