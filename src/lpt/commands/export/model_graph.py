"""A pack and its backbone as one network: from the pixels of a resized picture to probabilities."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lpt.model.inference import InferenceModel
from lpt.model.lpt import LPT
from lpt.packs.info import PackInfo


class ModelGraph(nn.Module):
    """Everything that follows the resizing of a picture: crop, normalisation, network, probabilities.

    Args:
        inference: the model of a pack, in float32.
        info: the description of that pack.
    """

    def __init__(self, inference: InferenceModel, info: PackInfo) -> None:
        super().__init__()
        self.model = inference.model
        self.vit = inference.model.backbone.vit  # registered here: the model holds its backbone as a plain attribute
        self.constants = inference.constants
        self.uses_group_prompts = info.uses_group_prompts
        preprocessing = info.preprocessing
        self.size, self.resized = preprocessing.size, resized_size(info)
        self.views = preprocessing.test_views
        self.sharpness = info.probabilities.scale / info.probabilities.temperature
        self.mean = torch.tensor(preprocessing.mean)[:, None, None]
        self.std = torch.tensor(preprocessing.std)[:, None, None]

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return probabilities [B, C], scores [B, C] and, if the pack uses group prompts, the picked ones [B, k].

        Args:
            images: resized RGB pictures, uint8 [B, height, width, 3].
        """
        views = torch.stack(self._views(images.permute(0, 3, 1, 2)), dim=1).flatten(0, 1)
        inputs = (views.to(torch.float32) / 255 - self.mean) / self.std
        groups: tuple[Tensor, ...] = ()
        if self.uses_group_prompts and isinstance(self.model, LPT):
            output = self.model(inputs, constants=self.constants)
            scores, groups = output.cosines, (output.groups[:: self.views],)
        else:
            scores = self.model.forward_shared(inputs)
        scores = scores.unflatten(0, (-1, self.views)).mean(dim=1)
        return (scores * self.sharpness).softmax(dim=-1), scores, *groups

    def _views(self, pixels: Tensor) -> list[Tensor]:
        """Return the views of the pictures, the centre first."""
        (height, width), (tall, wide) = self.size, self.resized
        below, beside = tall - height, wide - width
        centre = self._crop(pixels, round(below / 2), round(beside / 2))
        match self.views:
            case 1:
                return [centre]
            case 2:
                return [centre, centre.flip(-1)]
        corners = ((0, 0), (0, beside), (below, 0), (below, beside))
        return [centre, *(self._crop(pixels, *corner) for corner in corners)]

    def _crop(self, pixels: Tensor, top: int, left: int) -> Tensor:
        height, width = self.size
        return pixels[:, :, top : top + height, left : left + width]


def resized_size(info: PackInfo) -> tuple[int, int]:
    """Return the height and width to which pictures are resized before the crop, pixels."""
    height, width = (round(side / info.preprocessing.test_crop) for side in info.preprocessing.size)
    return height, width
