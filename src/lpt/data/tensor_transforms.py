"""From a picture to the tensor that the network takes, for training and for testing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tvf


class Crop(NamedTuple):
    """A part of an image in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


class TrainTransform:
    """Random resized crop and mirror, exactly those of torchvision's v2 transforms, without their overhead.

    Args:
        size: height and width of the result, pixels.
        interpolation: `bicubic` or `bilinear`.
        area: share of the image's area that a crop takes, smallest and largest.
        aspect: width / height of a crop, smallest and largest.
        flip: whether half of the crops are mirrored left to right.
    """

    def __init__(
        self,
        size: tuple[int, int],
        interpolation: str,
        *,
        area: tuple[float, float],
        aspect: tuple[float, float],
        flip: bool,
    ) -> None:
        self._size, self._flip = size, flip
        self._filter = Image.Resampling[interpolation.upper()]
        self._crop = v2.RandomResizedCrop(size, scale=area, ratio=aspect)

    def draw(self, height: int, width: int) -> Crop:
        """Draw the crop of an image of this size from torch's global generator."""
        box = self._crop.make_params([torch.empty(height, width, device="meta")])
        mirrored = self._flip and bool(torch.rand(1) < 0.5)
        return Crop(box["top"], box["left"], box["height"], box["width"], mirrored)

    def __call__(self, image: Image.Image) -> Tensor:
        """Cut a random crop out: PIL RGB -> uint8 [3, height, width]. It draws from torch's global generator."""
        crop = self.draw(image.height, image.width)
        part = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        part = part.resize((self._size[1], self._size[0]), self._filter)
        if crop.mirrored:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous()


def evaluation_transform(size: tuple[int, int], interpolation: str, *, crop: float, views: int) -> v2.Transform:
    """Return the transform of a test image: resize to size / crop, then cut out the views."""
    box = [round(side / crop) for side in size]
    resize = v2.Resize(box, interpolation=InterpolationMode(interpolation), antialias=True)
    if views == 5:
        return v2.Compose([resize, v2.PILToTensor(), v2.FiveCrop(size), _centre_first])
    centre = [v2.CenterCrop(size)] if tuple(box) != size else []
    mirror = [_with_mirror_image] if views == 2 else []
    return v2.Compose([resize, *centre, v2.PILToTensor(), *mirror])


def normalized(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Scale uint8 images [..., 3, height, width] to 0..1 and normalise each channel, float32."""
    scaled = images.to(torch.float32).div_(255)
    return tvf.normalize(scaled, list(mean), list(std), inplace=True)


def _with_mirror_image(image: Tensor) -> Tensor:
    """Stack an image [3, height, width] and its mirror image as [2, 3, height, width]."""
    return torch.stack([image, image.flip(-1)])


def _centre_first(crops: Sequence[Tensor]) -> Tensor:
    """Stack torchvision's five crops, whose last is the centre, as [5, 3, height, width] with the centre first."""
    return torch.stack([crops[-1], *crops[:-1]])
