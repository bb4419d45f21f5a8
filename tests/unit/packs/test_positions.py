"""Position embeddings are resampled as timm resamples them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from timm.layers import resample_abs_pos_embed

from lpt.packs.positions import resample


@pytest.mark.parametrize(
    ("old", "new"),
    [((14, 14), (6, 6)), ((14, 14), (33, 17)), ((3, 5), (5, 3)), ((16, 16), (16, 1)), ((4, 4), (64, 2))],
)
def test_other_grids_get_the_numbers_of_timm(old: tuple[int, int], new: tuple[int, int]) -> None:
    torch.manual_seed(0)
    positions = 0.25 * torch.randn(1, old[0] * old[1], 6)
    expected = resample_abs_pos_embed(positions, list(new), list(old), num_prefix_tokens=0).numpy()
    given = resample(positions.transpose(1, 2).reshape(1, 6, *old).numpy(), new)
    assert given.shape == (1, 6, *new)
    np.testing.assert_allclose(given.reshape(6, -1).T, expected[0], atol=1e-6, rtol=0)
