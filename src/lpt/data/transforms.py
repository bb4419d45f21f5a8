"""What is done to an image before the network sees it, as numbers; PyTorch is imported where tensors are made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict

from lpt.config.bounds import Areas, Aspects, CentralCrop, Deviations, Interpolation, Means, Side, White

if TYPE_CHECKING:
    from PIL import Image
    from torch import Tensor
    from torchvision.transforms import v2

    from lpt.data.array_transforms import UInt8Array
    from lpt.data.manifest import Float32Array
    from lpt.data.tensor_transforms import TrainTransform


class Preprocessing(BaseModel):
    """The full preprocessing of an image; stored in the pack.

    Args:
        size: input height and width, pixels.
        mean, std: per channel (red, green, blue), for values in 0..1.
        interpolation: how images are resized.
        test_crop: side of the central crop as a share of the resized square, in [0.25, 1].
        test_views: 1, the centre of the resized square; 2, also its mirror image; 5, the centre and the four corners.
            Their scores are averaged.
        crop_area: share of the area that a random training crop takes, smallest and largest.
        crop_aspect: width / height of a random training crop, smallest and largest.
        flip: whether half of the training crops are mirrored left to right.
        white: value of white in images of more than 8 bits; None: that of the file's type.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    size: tuple[Side, Side]
    mean: Means
    std: Deviations
    interpolation: Interpolation
    test_crop: CentralCrop
    test_views: Literal[1, 2, 5] = 1
    crop_area: Areas
    crop_aspect: Aspects
    flip: bool
    white: White | None = None

    def train_transform(self) -> TrainTransform:
        """Return the random crop and mirror: PIL RGB -> uint8 [3, height, width]. It draws from torch's generator."""
        from lpt.data.tensor_transforms import TrainTransform

        return TrainTransform(
            self.size, self.interpolation, area=self.crop_area, aspect=self.crop_aspect, flip=self.flip
        )

    def test_transform(self) -> v2.Transform:
        """Return the transform of a test image: PIL RGB -> uint8 [3, height, width].

        It resizes to size / test_crop, whatever the aspect, and cuts out the centre. With V > 1 views it gives
        [V, 3, height, width], the centre first.
        """
        from lpt.data.tensor_transforms import evaluation_transform

        return evaluation_transform(self.size, self.interpolation, crop=self.test_crop, views=self.test_views)

    def normalize(self, images: Tensor) -> Tensor:
        """Normalise images for the backbone: uint8 [..., 3, height, width] -> float32."""
        from lpt.data.tensor_transforms import normalized

        return normalized(images, self.mean, self.std)

    def test_array(self, image: Image.Image) -> UInt8Array:
        """Transform a test image without PyTorch: the numbers of `test_transform`, bit for bit."""
        from lpt.data.array_transforms import evaluation_array

        return evaluation_array(
            image, self.size, self.interpolation, crop=self.test_crop, views=self.test_views
        )  # fmt: skip

    def normalize_array(self, images: UInt8Array) -> Float32Array:
        """Normalise images without PyTorch: the numbers of `normalize`, bit for bit."""
        from lpt.data.array_transforms import normalized_array

        return normalized_array(images, self.mean, self.std)
