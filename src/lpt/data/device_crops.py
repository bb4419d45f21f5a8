"""Random resized crops of a whole batch as matrix products, on the training device.

`TrainTransform.draw` draws the crops; only the resampling differs: out = R_y @ (image @ R_x^T). A row of R holds the
filter weights of one output pixel, as Pillow computes them (the bicubic or bilinear filter, widened when shrinking).
Each of the two products is rounded to whole grey levels in 0..255, as in Pillow, so the result equals Pillow's to
within 2 levels. Pillow 13 shrinks some images along their height first; in saturated images the clipping in between
makes a larger difference.

R is dense, though most of its weights are zero. This pays on a graphics processor, which also saves the transfer of
enlarged crops. On a CPU it would pay for thumbnails only, where cropping is a small part of a step.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lpt.data.cache import CachedImages, fill_cache
from lpt.data.manifest import LabelledImages
from lpt.data.transforms import Preprocessing

_LARGEST_AREA = 2.0
"""Most pixels of a whole image, as a multiple of those of the input."""


def suits_device_crops(images: LabelledImages, preprocessing: Preprocessing, device: torch.device) -> bool:
    """Return whether to pass images whole and crop them on the training device; it depends on data and settings only.

    The device must not be a CPU. All images must be in the cache, which this call fills, and have at most twice the
    pixels of the network's input.
    """
    if device.type == "cpu" or not len(images) or not isinstance(images.source, CachedImages) or not fill_cache(images):
        return False
    sizes = images.source.sizes(images.rows)
    height, width = sizes.max(axis=0).tolist()
    return bool(height * width <= _LARGEST_AREA * preprocessing.size[0] * preprocessing.size[1])


def stacked_whole(images: list[Tensor]) -> Tensor:
    """Stack images of any sizes [H, W, 3] in a batch of the largest height and width, each in the upper left corner."""
    height, width = (max(image.shape[axis] for image in images) for axis in (0, 1))
    if all(image.shape[:2] == (height, width) for image in images):
        return torch.stack(images)
    batch = images[0].new_zeros(len(images), height, width, 3)
    for padded, image in zip(batch, images, strict=True):
        padded[: image.shape[0], : image.shape[1]] = image
    return batch


def resampled_crops(images: Tensor, crops: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Cut out, resize and mirror, all on the device of the tensors.

    Args:
        images: uint8 [B, H, W, 3].
        crops: [B, 5], rows of `Crop`.
        size: height and width of the result, pixels.
        interpolation: `bicubic` or `bilinear`.

    Returns:
        Whole numbers in 0..255 as float32, [B, 3, height, width].
    """
    top, left, height, width, mirrored = crops.unbind(dim=1)
    down = _weights(top, height, images.shape[1], size[0], interpolation)
    along = _weights(left, width, images.shape[2], size[1], interpolation)
    along = torch.where(mirrored[:, None, None] > 0, along.flip(1), along)
    with torch.autocast(images.device.type, enabled=False):
        rows = images.permute(0, 3, 1, 2).to(torch.float32).flatten(1, 2)  # [B, 3 H, W]
        narrow = _whole(torch.bmm(rows, along.mT)).unflatten(1, (3, -1))
        return _whole(torch.matmul(down[:, None], narrow))


def _weights(start: Tensor, length: Tensor, whole: int, size: int, interpolation: str) -> Tensor:
    """Return the weight of each of `whole` pixels in each of `size` output pixels, [B, size, whole].

    The output is made of `length` pixels from `start` on, both [B]; pixels outside have weight 0.
    """
    pixels = torch.arange(whole, device=start.device)
    inside = (pixels >= start[:, None]) & (pixels < (start + length)[:, None])
    scale = (length / size)[:, None]
    centres = start[:, None] + (torch.arange(size, device=start.device) + 0.5) * scale
    distance = (pixels + 0.5 - centres[..., None]).abs() / scale.clamp_min(1)[..., None]
    weights = _cubic(distance) if interpolation == "bicubic" else (1 - distance).clamp_min(0)
    weights = weights * inside[:, None]
    return weights / weights.sum(dim=-1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    """Compute the cubic convolution filter with a = -0.5 at distances x >= 0."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _whole(values: Tensor) -> Tensor:
    """Clip and round values to the grey levels of an 8-bit image, in place."""
    return values.clamp_(0, 255).add_(0.5).floor_()
