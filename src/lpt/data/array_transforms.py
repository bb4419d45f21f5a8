"""The transform of a test image without PyTorch: Pillow and numpy, bit for bit what `tensor_transforms` gives."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpt.data.manifest import Float32Array

UInt8Array = npt.NDArray[np.uint8]


def evaluation_array(
    image: Image.Image, size: tuple[int, int], interpolation: str, *, crop: float, views: int
) -> UInt8Array:
    """Resize an RGB image to size / crop, then cut out the centre or several views.

    Args:
        image: the picture.
        size: height and width of the result, pixels.
        interpolation: bicubic or bilinear.
        crop: side of the crop as a share of the resized picture.
        views: 1, the centre; 2, also its mirror image; 5, the centre and the four corners.

    Returns:
        [3, height, width], or [views, 3, height, width] with the centre first.
    """
    height, width = size
    tall, wide = (round(side / crop) for side in size)
    if image.size != (wide, tall):
        image = image.resize((wide, tall), Image.Resampling[interpolation.upper()])
    pixels = np.asarray(image).transpose(2, 0, 1)
    top, left = round((tall - height) / 2.0), round((wide - width) / 2.0)
    corners = [(top, left)]
    if views == 5:
        bottom, right = tall - height, wide - width
        corners += [(0, 0), (0, right), (bottom, 0), (bottom, right)]
    crops = [pixels[:, row : row + height, column : column + width] for row, column in corners]
    if views == 2:
        crops.append(crops[0][:, :, ::-1])
    return np.ascontiguousarray(crops[0] if views == 1 else np.stack(crops))


def normalized_array(images: UInt8Array, mean: Sequence[float], std: Sequence[float]) -> Float32Array:
    """Scale uint8 images [..., 3, height, width] to 0..1 and normalise each channel, float32."""
    scaled = images.astype(np.float32)
    scaled /= np.float32(255)
    scaled -= np.asarray(mean, dtype=np.float32)[:, None, None]
    scaled /= np.asarray(std, dtype=np.float32)[:, None, None]
    return scaled
