"""The engine on PyTorch: images of any packs run together on one frozen backbone."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lpt.data.array_transforms import UInt8Array
from lpt.errors import ConfigError
from lpt.model.backbone import FrozenViT
from lpt.model.build import backbone_shapes, share_bfloat16
from lpt.model.inference import InferenceModel
from lpt.model.mixed import MixedOutput, classify
from lpt.model.pretrained import load_backbone
from lpt.model.tuned import TunedViT
from lpt.model.tuning import Tuning
from lpt.packs.engine import LoadedPack, Output
from lpt.packs.pack import Pack
from lpt.packs.reference import tuned_output
from lpt.system.hardware import inspect_machine
from lpt.system.text import size_of

SHORT_PROMPT = 32
"""Prompts up to this length share a batch; longer ones with those of the same power of two only."""


class TorchPack:
    """A pack on its backbone in PyTorch.

    Args:
        pack: the pack.
        tuning: its tensors and constants; those in float32 on the CPU share their memory with the pack.
        backbone: the backbone at its input size, shared with other packs unless its method trains weights of it.
        note: what to know about how it runs; empty if it shares its backbone and its batches with other packs.
        autocast: compute in bfloat16 by autocast.
        build: builds its model.
    """

    def __init__(
        self,
        pack: Pack,
        tuning: Tuning,
        backbone: FrozenViT,
        *,
        build: Callable[[], InferenceModel],
        note: str = "",
        autocast: bool = False,
    ) -> None:
        self.pack = pack
        self.tuning = tuning
        self.backbone = backbone
        self.note = note
        self.autocast = autocast
        self._build = build
        self._model: InferenceModel | None = None
        self._lock = threading.Lock()

    @property
    def model(self) -> InferenceModel:
        """Its model, which only `Predictor.model` and `Predictor.split` need: built on first use."""
        with self._lock:
            if self._model is None:
                self._model = self._build()
            return self._model

    @property
    def batch_key(self) -> tuple[int, int, int]:
        """What packs share whose images run in one batch: the backbone at its size, and about the prompt length."""
        tokens = self.tuning.tokens
        length = max(self.tuning.prompt_length, SHORT_PROMPT)
        return id(self.backbone), 0 if tokens is None else len(tokens), (length - 1).bit_length()


class _Sizes:
    """A backbone at every input size that packs have asked for; all share its weights."""

    def __init__(self, backbone: FrozenViT) -> None:
        self.backbone = backbone
        self._by_size = {backbone.image_size: backbone}
        self._lock = threading.Lock()

    def at(self, size: tuple[int, int]) -> FrozenViT:
        """Return the backbone at an input size.

        Raises:
            ConfigError: the size does not fit its patches.
        """
        with self._lock:
            if size not in self._by_size:
                self._by_size[size] = self.backbone.at_size(size)
            return self._by_size[size]


class TorchEngine:
    """A backbone in PyTorch that classifies images of any of its packs in one batch.

    A pack whose method trains weights of the backbone gets a backbone of its own, and its images run apart; its `note`
    says so. All others share the backbone. In bfloat16 the backbone is also kept in float32, to verify packs.

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
            backbone.to(self.torch_device)
        else:
            raise ConfigError(
                f"backbone: give a FrozenViT or a name, not {type(backbone).__name__}. "
                "lpt.load_predictor(packs) loads the one that the pack names"
            )
        self._hash = backbone.weight_hash
        self._given = _Sizes(backbone)
        self._used = _Sizes(copy.deepcopy(backbone).to(torch.bfloat16)) if low else self._given
        self.dtype = self._used.backbone.dtype

    @property
    def backbone_hash(self) -> str:
        """sha256 over the weights of the backbone."""
        return self._hash

    @property
    def device(self) -> str:
        """Device that it computes on."""
        return str(self.torch_device)

    @property
    def precision(self) -> str:
        """Data type that the backbone computes in."""
        return str(self.dtype).removeprefix("torch.")

    def load(self, pack: Pack) -> TorchPack:
        """Verify a pack in float32 and make it ready; a backbone that was given in another precision is used in it.

        Raises:
            PackError: it belongs to other weights, does not fit them, or gives other outputs.
        """
        pack.check_hash(self._hash, self._given.backbone.name)
        if pack.info.method.weights != "none" or pack.info.method.lora_rank:
            return self._load_apart(pack)
        size, stored = pack.info.preprocessing.size, pack.info.reference
        try:
            given = self._given.backbone
            pack.check_shapes(given.depth, given.width, backbone_shapes(pack.info.method, given))
            backbone = self._given.at(size)
            tuning = _tuning(pack, backbone)
        except (ConfigError, RuntimeError) as error:
            raise pack.misfit(error) from None
        if backbone.dtype == torch.float32:
            pack.check_reference(tuned_output(backbone, tuning, stored.variant, stored.classes))
        if self._used is not self._given:
            backbone = self._used.at(size)
            tuning = _tuning(pack, backbone)
        return TorchPack(pack, tuning, backbone, build=lambda: _inference(pack, self._used.backbone))

    def _load_apart(self, pack: Pack) -> TorchPack:
        """Verify a pack that trains backbone weights; its trained tensors are those of the pack, not copies."""
        model = pack.build(self._given.backbone)
        assert isinstance(model, TunedViT)
        tensors, low = pack.torch_tensors(), self._used is not self._given
        if self.torch_device.type == "cpu" and not low:
            for name, parameter in model.named_parameters():
                if parameter.dtype == tensors[name].dtype:
                    parameter.data = tensors[name]
        if low:
            share_bfloat16(model, self._used.at(pack.info.preprocessing.size))
        with torch.no_grad(), torch.autocast(self.torch_device.type, dtype=torch.bfloat16, enabled=low):
            tuning = _tuning(pack, model.backbone)
        numbers = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        return TorchPack(
            pack,
            tuning,
            model.backbone,
            build=lambda: InferenceModel(model, pack.info.preprocessing, group_prompts=False),
            note=(
                f"its method trains weights of the backbone, so it has {size_of(numbers)} of its own, and its images "
                "run apart from those of other packs"
            ),
            autocast=low,
        )

    def run(self, batch: Sequence[tuple[LoadedPack, UInt8Array]], *, attention: bool = False) -> list[Output]:
        """Classify images, each with its pack; see `Engine.run`."""
        groups: dict[tuple[int, int, int], list[int]] = {}
        rows: list[tuple[TorchPack, UInt8Array]] = []
        for number, (loaded, pixels) in enumerate(batch):
            assert isinstance(loaded, TorchPack)
            rows.append((loaded, pixels if pixels.ndim == 4 else pixels[None]))
            groups.setdefault(loaded.batch_key, []).append(number)
        outputs: dict[int, Output] = {}
        for numbers in groups.values():
            outputs |= zip(numbers, self._run_together([rows[number] for number in numbers], attention), strict=True)
        return [outputs[number] for number in range(len(rows))]

    def _run_together(self, rows: list[tuple[TorchPack, UInt8Array]], attention: bool) -> list[Output]:
        """Classify images, each with all its views, of packs with the same batch key."""
        first, views = rows[0][0], [len(pixels) for _, pixels in rows]
        tunings = [loaded.tuning for loaded, pixels in rows for _ in pixels]
        with torch.inference_mode(), torch.autocast(
            self.torch_device.type, dtype=torch.bfloat16, enabled=first.autocast
        ):  # fmt: skip
            each = classify(first.backbone, self._normalised(rows), tunings, attention=attention)
        ends = np.cumsum(views)
        return [_output(each[end - count : end]) for end, count in zip(ends, views, strict=True)]

    def _normalised(self, rows: list[tuple[TorchPack, UInt8Array]]) -> Tensor:
        """Normalise images, each as its pack says, [B, 3, height, width]."""
        pixels = torch.from_numpy(np.concatenate([views for _, views in rows])).to(self.torch_device)
        scales = [(p.info.preprocessing.mean, p.info.preprocessing.std) for p in (loaded.pack for loaded, _ in rows)]
        if len(set(scales)) == 1:
            return rows[0][0].pack.info.preprocessing.normalize(pixels)
        parts = pixels.split([len(views) for _, views in rows])
        each = zip(rows, parts, strict=True)
        return torch.cat([loaded.pack.info.preprocessing.normalize(part) for (loaded, _), part in each])


def _tuning(pack: Pack, backbone: FrozenViT) -> Tuning:
    info = pack.info
    return Tuning.of(info.method, pack.torch_tensors(), backbone, group_prompts=info.uses_group_prompts)


def _inference(pack: Pack, backbone: FrozenViT) -> InferenceModel:
    return InferenceModel(pack.build(backbone), pack.info.preprocessing, group_prompts=pack.info.uses_group_prompts)


def _output(views: Sequence[MixedOutput]) -> Output:
    """Average the scores of the views of an image; groups and attention are of the first."""
    scores, attention = [view.scores.float() for view in views], views[0].attention
    mean = scores[0] if len(scores) == 1 else torch.stack(scores).mean(dim=0)
    return Output(mean.numpy(), views[0].groups, None if attention is None else attention.numpy())
