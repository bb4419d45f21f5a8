"""Small inputs that several tests share."""

from __future__ import annotations

from lpt.data.transforms import Preprocessing

PREPROCESSING = Preprocessing(
    size=(24, 24),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
    interpolation="bicubic",
    test_crop=0.875,
    crop_area=(0.2, 1.0),
    crop_aspect=(0.75, 1.33),
    flip=True,
)
"""What small backbones of `oracle.small_vit` take: 24x24 pixels."""
