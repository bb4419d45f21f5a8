"""The pictures that `Predictor.predict` takes: files, encoded bytes, and pixels in memory."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, TypeGuard

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpt.data.decoding import AS_USUAL, ImageError, Reading, as_rgb, read_image
from lpt.errors import ConfigError, DataError

if TYPE_CHECKING:
    from torch import Tensor

Picture: TypeAlias = (
    "str | os.PathLike[str] | Image.Image | bytes | bytearray | memoryview | BinaryIO | npt.NDArray[Any] | Tensor"
)
ACCEPTED = (
    "a path, a Pillow image, the bytes of an image file, a file opened for reading bytes, a uint8 array [H, W, 3] or a "
    "tensor [3, H, W] (uint8, or float in 0..1)"
)


def each_picture(images: Any) -> Iterator[Picture]:
    """Return the pictures of an argument that is one or holds several.

    Raises:
        ConfigError: it is neither.
    """
    holds_pixels = _is_tensor(images) or (isinstance(images, np.ndarray) and images.dtype.kind in "biufc")
    if holds_pixels and images.ndim != 4:
        return iter([images])
    if isinstance(images, str | os.PathLike | Image.Image | bytes | bytearray | memoryview) or _is_file(images):
        return iter([images])
    try:
        return iter(images)
    except TypeError:
        raise ConfigError(f"images: {_refusal(images)}, or several of these") from None


def read_picture(picture: Picture, number: int, reading: Reading = AS_USUAL) -> tuple[str, Image.Image]:
    """Return the name of a picture, its path or else its number, and its pixels as upright RGB.

    Args:
        picture: in any accepted form.
        number: its place in the call.
        reading: what an image file may be, and its white.

    Raises:
        ConfigError: it is nothing that is accepted.
        DataError: it cannot be read.
    """
    is_path = isinstance(picture, str | os.PathLike)
    name = os.fsdecode(os.fspath(picture)) if is_path else f"images[{number}]"  # type: ignore[arg-type]
    try:
        pixels = _pixels(picture, name, reading)
    except ImageError as error:
        raise DataError(
            f"{error.name}: cannot be read as an image: {error.reason}. Replace it, or leave it out of the call."
        ) from None
    return (name if is_path else str(number)), pixels


def _pixels(picture: Any, name: str, reading: Reading) -> Image.Image:
    if isinstance(picture, str | os.PathLike):
        return read_image(Path(name), name, reading)
    if isinstance(picture, Image.Image):
        return _tried(lambda: _loaded(picture, reading), name)
    if isinstance(picture, bytes | bytearray | memoryview):
        return read_image(bytes(picture), name, reading)
    if isinstance(picture, np.ndarray):
        return _of_array(picture, name)
    if _is_tensor(picture):
        return _of_tensor(picture, name)
    if _is_file(picture):
        return read_image(_content(picture, name), name, reading)
    raise ConfigError(f"{name}: {_refusal(picture)}")


def _loaded(picture: Image.Image, reading: Reading) -> Image.Image:
    picture.load()  # Pillow reads pixels only here
    return as_rgb(picture, reading.white)


def _of_array(array: npt.NDArray[Any], name: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise ConfigError(
            f"{name}: an array of {array.dtype} {list(array.shape)} is not accepted. Give uint8 [H, W, 3]: values "
            "0..255, rows first, the colours red, green and blue last; or a Pillow image, which may be grey or deep"
        )
    return Image.fromarray(np.ascontiguousarray(array))


def _of_tensor(tensor: Tensor, name: str) -> Image.Image:
    import torch

    shape = list(tensor.shape)
    is_float = tensor.is_floating_point()
    if not (is_float or tensor.dtype == torch.uint8) or len(shape) != 3 or shape[0] != 3 or not tensor.numel():
        raise ConfigError(
            f"{name}: a tensor of {str(tensor.dtype).removeprefix('torch.')} {shape} is not accepted. Give [3, H, W]: "
            "red, green and blue first, uint8 in 0..255 or float in 0..1"
        )
    plain = tensor.detach().cpu()
    if is_float:
        low, high = float(plain.min()), float(plain.max())  # NaN if one value is NaN
        if not (low >= 0 and high <= 1):
            raise ConfigError(
                f"{name}: a float tensor with values {low:g} to {high:g} is not accepted. Give values in 0..1, before "
                "any normalisation: the predictor normalises as the pack says"
            )
        plain = plain.double().mul(255).round().to(torch.uint8)
    return Image.fromarray(plain.permute(1, 2, 0).contiguous().numpy())


def _is_tensor(picture: object) -> TypeGuard[Tensor]:
    """Return whether a picture is a tensor of PyTorch, which only a program that has imported it can have."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(picture, torch.Tensor)


def _is_file(picture: object) -> bool:
    return callable(getattr(picture, "read", None))


def _content(file: Any, name: str) -> bytes:
    """Return what is in an open file, from its start where it can be rewound."""

    def read() -> Any:
        with contextlib.suppress(AttributeError, OSError):  # a stream gives what is still to come
            file.seek(0)
        return file.read()

    content = _tried(read, name)
    if not isinstance(content, bytes | bytearray | memoryview):
        raise ConfigError(
            f"{name}: a {type(file).__name__} that reads {type(content).__name__} is not accepted. Open the file for "
            'bytes: open(path, "rb")'
        )
    return bytes(content)


def _tried(read: Callable[[], Any], name: str) -> Any:
    try:
        return read()
    except Exception as error:  # Pillow and files raise many kinds of errors
        raise ImageError(name, str(error).strip().rstrip(".") or type(error).__name__) from None


def _refusal(given: object) -> str:
    return f"{type(given).__name__} is not accepted. Give {ACCEPTED}"
