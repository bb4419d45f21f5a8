"""Every form of a picture gives the same prediction; anything else is refused with what is accepted."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lpt
from lpt.errors import ConfigError, DataError
from lpt.model import LPT
from lpt.packs.prediction import Prediction
from lpt.packs.predictor import Predictor
from small_packs import NAMES, write

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor(model: LPT, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    pack = write(tmp_path_factory.mktemp("packs") / "pack", model)
    return Predictor(lpt.load_backbone("tiny", checkpoint=tiny_backbone), pack)


@pytest.fixture(scope="module")
def expected(predictor: Predictor) -> Prediction:
    (prediction,) = predictor.predict(Image.fromarray(PIXELS), top_k=3)
    return prediction


class Unseekable(io.BytesIO):
    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation("seek")


def png() -> bytes:
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    return stream.getvalue()


def used_up() -> io.BytesIO:
    """A file that somebody read before."""
    stream = io.BytesIO(png())
    stream.read()
    return stream


CHANNELS_FIRST = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)
FORMS: dict[str, Any] = {
    "picture": Image.fromarray(PIXELS),
    "bytes": png(),
    "bytearray": bytearray(png()),
    "memoryview": memoryview(png()),
    "file in memory": io.BytesIO(png()),
    "file at its end": used_up(),
    "stream": Unseekable(png()),
    "array": PIXELS,
    "array of strides": np.asfortranarray(PIXELS),
    "tensor": CHANNELS_FIRST,
    "float tensor": CHANNELS_FIRST / 255,
    "half tensor": (CHANNELS_FIRST.double() / 255).requires_grad_(),
}


def same(got: Prediction, expected: Prediction) -> None:
    assert got.classes == expected.classes
    assert got.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert got.groups == expected.groups


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same(form: str, predictor: Predictor, expected: Prediction) -> None:
    """Alone and in a list, each is classified as the Pillow image of the same pixels, and named by its number."""
    (alone,) = predictor.predict(FORMS[form], top_k=3)
    same(alone, expected)
    assert alone.name == "0"
    if form != "stream":  # that can be read once
        first, second = predictor.predict([Image.fromarray(255 - PIXELS), FORMS[form]], top_k=3)
        assert first.probabilities != expected.probabilities
        same(second, expected)
        assert second.name == "1"


def test_open_files_and_paths_give_the_same(predictor: Predictor, expected: Prediction, tmp_path: Path) -> None:
    path = tmp_path / "ü.png"
    path.write_bytes(png())

    class Given:
        def __fspath__(self) -> str:
            return str(path)

    with path.open("rb") as file:
        for given, name in ((path, str(path)), (str(path), str(path)), (Given(), str(path)), (file, "0")):
            (got,) = predictor.predict(given, top_k=3)
            same(got, expected)
            assert got.name == name


def test_a_batch_holds_several(predictor: Predictor, expected: Prediction) -> None:
    """An array or tensor with one dimension more, an array of paths and any iterable of pictures."""
    for batch in (
        np.stack([PIXELS, PIXELS]),
        torch.stack([CHANNELS_FIRST, CHANNELS_FIRST]),
        (picture for picture in (PIXELS, png())),
    ):
        got = predictor.predict(batch, top_k=3)
        assert [prediction.name for prediction in got] == ["0", "1"]
        for prediction in got:
            same(prediction, expected)
    assert predictor.predict(np.empty((0, 24, 40, 3), np.uint8)) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, r"images: int is not accepted\. Give a path, .*uint8 array \[H, W, 3\].*tensor \[3, H, W\]"),
        (None, r"images: NoneType is not accepted"),
        ([None], r"images\[0\]: NoneType is not accepted\. Give a path, a Pillow image, the bytes"),
        ([PIXELS, {"path": "a.png"}], r"images\[1\]: dict is not accepted"),
        ([[1, 2, 3]], r"images\[0\]: list is not accepted"),
        (PIXELS / 255.0, r"images\[0\]: an array of float64 \[24, 40, 3\] is not accepted\. Give uint8 \[H, W, 3\]"),
        (PIXELS[:, :, 0], r"array of uint8 \[24, 40\] is not"),
        (np.moveaxis(PIXELS, 2, 0), r"array of uint8 \[3, 24, 40\] is not"),
        (np.dstack([PIXELS, PIXELS]), r"array of uint8 \[24, 40, 6\] is not"),
        (PIXELS.astype(np.uint16), r"array of uint16 \[24, 40, 3\] is not"),
        (PIXELS[:0], r"array of uint8 \[0, 40, 3\] is not"),
        (np.array(7), r"array of int64 \[\] is not"),
        (np.array("a.png"), r"images: ndarray is not accepted"),
        (np.stack([PIXELS[..., 0]] * 2)[None], r"array of uint8 \[2, 24, 40\] is not"),
        (torch.from_numpy(PIXELS.copy()), r"tensor of uint8 \[24, 40, 3\] is not accepted\. Give \[3, H, W\]"),
        (CHANNELS_FIRST.long(), r"tensor of int64 \[3, 24, 40\] is not"),
        (torch.zeros(3, 0, 4), r"tensor of float32 \[3, 0, 4\] is not"),
        (torch.zeros(1, 24, 40), r"tensor of float32 \[1, 24, 40\] is not"),
        (CHANNELS_FIRST.float(), r"float tensor with values 0 to 255 is not accepted\. Give values in 0\.\.1, before"),
        (CHANNELS_FIRST / 127.5 - 1, r"with values -1 to 1 is not"),
        (torch.full((3, 4, 4), float("nan")), r"with values nan to nan is not"),
        (io.StringIO("text"), r"images\[0\]: a StringIO that reads str is not accepted.*open\(path, \"rb\"\)"),
    ],
)
def test_anything_else_is_refused(given: Any, message: str, predictor: Predictor) -> None:
    """The message says which of the images it is, what was given, and what is accepted."""
    with pytest.raises(ConfigError, match=message):
        predictor.predict(given)


def closed() -> io.BytesIO:
    stream = io.BytesIO(png())
    stream.close()
    return stream


def truncated() -> Image.Image:
    return Image.open(io.BytesIO(png()[:-200]))


@pytest.mark.parametrize("given", [b"", b"no image", io.BytesIO(b"no image"), closed(), truncated(), "nowhere.png"])
def test_what_cannot_be_read_is_named(given: Any, predictor: Predictor) -> None:
    """The message advises nothing that this call does not know, such as an option of the command line."""
    name = r"nowhere\.png" if isinstance(given, str) else r"images\[1\]"
    with pytest.raises(
        DataError, match=rf"^{name}: cannot be read as an image: .*Replace it, or leave it out"
    ) as caught:
        predictor.predict([PIXELS, given])
    assert "--" not in str(caught.value)


@pytest.mark.parametrize("wrong", [0, -1, 2.5, True, "3", None])
@pytest.mark.parametrize("argument", ["top_k", "batch_size"])
def test_numbers_below_one_are_refused(argument: str, wrong: Any, predictor: Predictor) -> None:
    """Before anything is read, also by `iterate`; numpy's whole numbers are numbers."""
    for call in (predictor.predict, predictor.iterate):
        with pytest.raises(ConfigError, match=f"{argument}: a whole number of at least 1 is accepted, not {wrong!r}"):
            call([], **{argument: wrong})
    (got,) = predictor.predict(PIXELS, top_k=np.int64(2), batch_size=np.int32(1))  # type: ignore[arg-type]
    assert len(got.classes) == 2


@pytest.mark.parametrize("share", [float("nan"), float("inf"), -1.0, "much", None])
def test_a_share_that_is_no_share_is_refused(share: Any, predictor: Predictor) -> None:
    """Also beside good ones, where NaN would reach the probabilities, and where there is no image."""
    with pytest.raises(ConfigError, match="prior: give a finite share of at least 0"):
        predictor.predict([], prior={NAMES[0]: 1.0, NAMES[1]: share})
