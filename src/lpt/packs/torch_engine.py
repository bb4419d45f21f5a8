"""The engine on PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import torch

from lpt.errors import ConfigError
from lpt.model.backbone import FrozenViT
from lpt.model.build import to_bfloat16
from lpt.model.inference import InferenceModel
from lpt.model.pretrained import load_backbone
from lpt.packs.engine import LoadedPack, Output, UInt8Array
from lpt.packs.pack import Pack
from lpt.system.hardware import inspect_machine


class TorchPack:
    """A pack on its backbone in PyTorch."""

    def __init__(self, pack: Pack, model: InferenceModel) -> None:
        self.pack = pack
        self.model = model


class TorchEngine:
    """A backbone in PyTorch that classifies images with any of its packs.

    Args:
        backbone: a backbone, or its name.
        checkpoint: local weights, if the backbone is given by name.
        device, precision: as for `lpt.load_predictor`, if the backbone is given by name.

    Raises:
        ConfigError: the backbone cannot be loaded, or an argument is wrong.
    """

    name = "torch"

    def __init__(
        self,
        backbone: FrozenViT | str,
        *,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        precision: str = "auto",
    ) -> None:
        low = False
        if isinstance(backbone, FrozenViT):
            self.torch_device = backbone.device
        elif isinstance(backbone, str):
            machine = inspect_machine(device)
            self.torch_device = torch.device(machine.device)
            low = precision == "bf16" or (precision == "auto" and machine.fast_bf16 and machine.device != "cpu")
            backbone = load_backbone(backbone, checkpoint=None if checkpoint is None else Path(checkpoint))
        else:
            raise ConfigError(
                f"backbone: give a FrozenViT or a name, not {type(backbone).__name__}. "
                "lpt.load_predictor(packs) loads the one that the pack names"
            )
        self._backbone = backbone
        self._low = low
        self.dtype = torch.bfloat16 if low else backbone.dtype

    @property
    def backbone_hash(self) -> str:
        """sha256 over the weights of the backbone."""
        return self._backbone.weight_hash

    @property
    def device(self) -> str:
        """Device that it computes on."""
        return str(self.torch_device)

    @property
    def precision(self) -> str:
        """Data type that the backbone computes in."""
        return str(self.dtype).removeprefix("torch.")

    def load(self, pack: Pack) -> TorchPack:
        """Verify a pack in float32 and make it ready.

        Raises:
            PackError: it belongs to other weights, does not fit them, or gives other outputs.
        """
        model = pack.build(self._backbone)
        model.to(self.torch_device)
        if self._low:
            to_bfloat16(model)
        info = pack.info
        return TorchPack(pack, InferenceModel(model, info.preprocessing, group_prompts=info.uses_group_prompts))

    def run(self, batch: Sequence[tuple[LoadedPack, UInt8Array]], *, attention: bool = False) -> list[Output]:
        """Classify images, each with its pack; see `Engine.run`."""
        outputs: list[Output] = []
        for loaded, rows in groupby(batch, key=lambda row: row[0]):
            assert isinstance(loaded, TorchPack)
            pixels = torch.from_numpy(np.stack([row[1] for row in rows]))
            scores, groups = loaded.model.classify(pixels)
            table = scores.cpu().numpy()
            picked = [()] * len(table) if groups is None else [tuple(row) for row in groups.tolist()]
            outputs += [Output(row, chosen, None) for row, chosen in zip(table, picked, strict=True)]
        return outputs
