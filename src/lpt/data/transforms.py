"""From a picture to the network's input, for training and for testing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as tvf

from lpt.config.bounds import (
    Areas,
    Aspects,
    CentralCrop,
    Deviations,
    Interpolation,
    Means,
    Side,
)


class Crop(NamedTuple):
    """A part of an image in pixels, and whether it is mirrored left to right."""

    top: int
    left: int
    height: int
    width: int
    mirrored: bool


class Preprocessing(BaseModel):
    """Everything that is done to an image, in full; stored in the pack.

    Args:
        size: input height and width, pixels.
        mean, std: per channel (red, green, blue), for values in 0..1.
        interpolation: how images are resized.
        test_crop: side of the central crop as a share of the resized square, in [0.25, 1].
        test_views: 1, or 5: the corners of the resized square too, whose scores are averaged (five-crop ensembling).
        crop_area, crop_aspect, flip: the random training crop (share of the area, width/height) and mirror.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Side, Side]
    mean: Means
    std: Deviations
    interpolation: Interpolation
    test_crop: CentralCrop
    test_views: Literal[1, 5] = 1
    crop_area: Areas
    crop_aspect: Aspects
    flip: bool

    def train_transform(self) -> TrainTransform:
        """Random crop and mirror: PIL RGB -> uint8 [3, height, width]. Draws from torch's global generator."""
        return TrainTransform(self)

    def test_transform(self) -> v2.Transform:
        """Resize to size / test_crop whatever the aspect, crop the centre: PIL RGB -> uint8 [3, height, width].

        With five views [5, 3, height, width], the centre first.
        """
        box = [round(side / self.test_crop) for side in self.size]
        resize = v2.Resize(box, interpolation=self._mode, antialias=True)
        if self.test_views == 5:
            return v2.Compose([resize, v2.PILToTensor(), v2.FiveCrop(self.size), _centre_first])
        crop = [v2.CenterCrop(self.size)] if tuple(box) != self.size else []
        return v2.Compose([resize, *crop, v2.PILToTensor()])

    def normalize(self, images: Tensor) -> Tensor:
        """uint8 [..., 3, height, width] -> float32, normalised for the backbone."""
        scaled = images.to(torch.float32).div_(255)
        return tvf.normalize(scaled, list(self.mean), list(self.std), inplace=True)

    def test_image(self, image: Image.Image) -> Tensor:
        """One test image, ready for the network: PIL RGB -> float32 [3, height, width], or its five views."""
        return self.normalize(self.test_transform()(image)[None])[0]

    @property
    def _mode(self) -> InterpolationMode:
        return InterpolationMode(self.interpolation)


def _centre_first(crops: Sequence[Tensor]) -> Tensor:
    """Corners and centre as torchvision gives them -> [5, 3, height, width], the centre first."""
    return torch.stack([crops[-1], *crops[:-1]])


class TrainTransform:
    """Random resized crop and mirror, exactly those of torchvision's v2 transforms, without their overhead.

    Args:
        preprocessing: sizes and ranges.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._size, self._flip = preprocessing.size, preprocessing.flip
        self._filter = Image.Resampling[preprocessing.interpolation.upper()]
        self._draw = v2.RandomResizedCrop(self._size, scale=preprocessing.crop_area, ratio=preprocessing.crop_aspect)

    def draw(self, height: int, width: int) -> Crop:
        """The crop of an image of this size, drawn from torch's global generator."""
        box = self._draw.make_params([torch.empty(height, width, device="meta")])
        mirrored = self._flip and bool(torch.rand(1) < 0.5)
        return Crop(box["top"], box["left"], box["height"], box["width"], mirrored)

    def __call__(self, image: Image.Image) -> Tensor:
        """PIL RGB -> uint8 [3, height, width], with a crop drawn from torch's global generator."""
        crop = self.draw(image.height, image.width)
        part = image.crop((crop.left, crop.top, crop.left + crop.width, crop.top + crop.height))
        part = part.resize((self._size[1], self._size[0]), self._filter)
        if crop.mirrored:
            part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return torch.from_numpy(np.array(part)).permute(2, 0, 1).contiguous()
