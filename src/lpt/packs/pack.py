"""The prompt pack: a folder that holds everything a backbone needs to solve a task.

`pack.json` describes it, `pack.safetensors` holds the trained tensors and nothing else, `README.md` is its model card.
There is no pickle anywhere. The folder appears under its name only when it is complete.
"""

from __future__ import annotations

import contextlib
import math
import os
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors.torch import save
from torch import Tensor

from lpt.errors import ConfigError, PackError, RunError
from lpt.model import Classifier, FrozenViT, build_model
from lpt.model.shapes import Shape, backbone_shapes, shape_faults, trained_shapes
from lpt.packs.files import number_fault, read_json, read_tensors
from lpt.packs.info import FORMAT_VERSION, PackInfo, Versions, faults, uses_group_prompts
from lpt.packs.reference import REFERENCE_TOLERANCE, largest_difference, reference_output
from lpt.system.files import write_bytes, write_text
from lpt.system.owned import PACK_FILES, PACK_NAMES, contents, remove_names

JSON_NAME, TENSORS_NAME, CARD_NAME = PACK_FILES
PARTIAL_SUFFIX, FORMER_SUFFIX = ".partial", ".former"


@dataclass(frozen=True)
class Pack:
    """A pack in memory: its description, its tensors by name, and where it came from."""

    info: PackInfo
    tensors: dict[str, Tensor]
    path: Path

    @property
    def stored_bytes(self) -> int:
        """Size of the tensors file, bytes."""
        return (self.path / TENSORS_NAME).stat().st_size

    def build(self, backbone: FrozenViT) -> Classifier:
        """The model of this pack on a backbone of the same weights, at the pack's input size.

        Raises:
            PackError: the backbone's weights are not those the pack was trained on, or it gives other outputs.
        """
        self.check_backbone(backbone)
        try:
            self._check_shapes(backbone)
            sized = backbone.at_size(self.info.preprocessing.size)
            model = build_model(self.info.method, sized, len(self.info.class_names))
            model.load_state_dict(self.tensors)
        except (ConfigError, RuntimeError) as error:
            raise PackError(f"{self.path / TENSORS_NAME} does not fit {JSON_NAME}: {error}") from None
        model.requires_grad_(False)
        model.to(backbone.device)
        if backbone.dtype == torch.float32:
            self._check_reference(model)
        return model

    def _check_shapes(self, backbone: FrozenViT) -> None:
        """Compare the tensors with those of the method on this backbone, before any of them is made again."""
        method, classes = self.info.method, len(self.info.class_names)
        of_backbone = backbone_shapes(method, backbone)
        expected = trained_shapes(method, backbone.depth, backbone.width, classes, of_backbone)
        if wrong := shape_faults({name: tuple(t.shape) for name, t in self.tensors.items()}, expected):
            raise ConfigError(wrong)

    def check_backbone(self, backbone: FrozenViT) -> None:
        """Check that a backbone's weights are those the pack was trained on.

        Raises:
            PackError: they are others.
        """
        wanted = self.info.backbone
        if backbone.weight_hash != wanted.weight_hash:
            raise PackError(
                f"the pack {self.path} belongs to other backbone weights.\n"
                f"  trained on: {wanted.name}, sha256 {wanted.weight_hash}\n"
                f"  given:      {backbone.name}, sha256 {backbone.weight_hash}\n"
                "Next: give the backbone it was trained on (--backbone NAME or --checkpoint FILE), or train a pack on "
                "this one with lpt fit."
            )

    def _check_reference(self, model: Classifier) -> None:
        stored = self.info.reference
        now = reference_output(model, stored.variant, stored.classes, group_prompts=uses_group_prompts(self.info))
        worst = largest_difference(stored, now)
        if worst <= REFERENCE_TOLERANCE:
            return
        here, there = Versions.here(), self.info.versions
        raise PackError(
            f"the pack {self.path} gives other outputs here than where it was written: scores of the reference image "
            f"differ by up to {worst:.4f} (accepted {REFERENCE_TOLERANCE}).\n"
            f"  written with: lpt {there.lpt}, timm {there.timm}, torch {there.torch}\n"
            f"  here:         lpt {here.lpt}, timm {here.timm}, torch {here.torch}\n"
            "Next: install the versions it was written with, or train it again here."
        )


def encode_tensors(state: dict[str, Tensor]) -> bytes:
    """The trained tensors as the bytes of a safetensors file: the same tensors give the same bytes.

    Raises:
        RunError: a number in them is not finite.
    """
    for name, tensor in state.items():
        if fault := number_fault(tensor.detach()):
            raise RunError(
                f"the trained tensor {name} {fault}: it cannot be packed. Train again at a lower rate, or in full "
                "precision (--set runtime.precision=fp32)."
            )
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in sorted(state.items())}
    return save(tensors, metadata={"format": "lpt-prompt-pack"})


def write_pack(path: Path, info: PackInfo, tensors: bytes, card: str) -> Path:
    """Write a pack folder; it takes its name only when complete, in place of one that was there.

    Raises:
        RunError: it cannot be written; what was there is untouched.
    """
    building, former = (path.with_name(path.name + suffix) for suffix in (PARTIAL_SUFFIX, FORMER_SUFFIX))
    try:
        remove_names(building, PACK_NAMES)
        building.mkdir(parents=True, exist_ok=True)
        write_bytes(building / TENSORS_NAME, tensors)
        write_text(building / CARD_NAME, card)
        write_text(building / JSON_NAME, info.model_dump_json(indent=2) + "\n")
        if os.path.lexists(path):
            remove_names(former, PACK_NAMES)
            if os.path.lexists(former):
                raise RunError(f"cannot write the pack {path}: {former} is in the way; move away what is in it")
            os.replace(path, former)
        os.replace(building, path)
    except OSError as error:
        if former.exists() and not path.exists():
            os.replace(former, path)
        raise RunError(f"cannot write the pack {path}: {error.strerror or error}") from error
    with contextlib.suppress(OSError):
        _carry_over(former, path)
        remove_names(former, PACK_NAMES)
    return path


def _carry_over(former: Path, path: Path) -> None:
    """Move what a user put into a pack into the one that took its place."""
    if former.is_dir() and not former.is_symlink():
        for name in contents(former, PACK_NAMES).others:
            if not os.path.lexists(path / name):
                os.replace(former / name, path / name)


def load_pack(path: str | Path) -> Pack:
    """Read and verify a pack: its folder, or the run folder that holds it.

    Raises:
        PackError: it is not there, damaged, or of a format this version cannot read.
    """
    path = find_pack(Path(path))
    info = read_info(path)
    tensors = read_tensors(path / TENSORS_NAME, info.tensors_sha256, lambda shapes: _shape_fault(info, shapes))
    return Pack(info, tensors, path)


def read_info(path: str | Path) -> PackInfo:
    """What stands in a pack's `pack.json`; its tensors are not looked at, and need not be there.

    Raises:
        PackError: it is not there, damaged, or of a format this version cannot read.
    """
    path = find_pack(Path(path))
    file = path / JSON_NAME
    if not os.path.lexists(file):
        raise PackError(f"{path} is not a prompt pack: it has no {JSON_NAME}. A run folder's pack is its folder pack/")
    content, values = read_json(file)
    format_version = values.get("format_version") if isinstance(values, dict) else None
    if type(format_version) is not int or format_version != FORMAT_VERSION:
        raise PackError(
            f"{path}: pack format {reprlib.repr(format_version)}; this lpt reads format {FORMAT_VERSION}. "
            "Install a newer lpt."
        )
    try:
        return PackInfo.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise PackError(f"{file} is damaged: {faults(error)}") from None


def _shape_fault(info: PackInfo, shapes: Mapping[str, Shape]) -> str:
    """How tensors differ from the sizes in a description, as far as it can be told without the backbone."""
    head, method = shapes.get("head.weight", ()), info.method
    if len(head) != 2:
        return f"does not fit {JSON_NAME}: it has no table head.weight of classes and numbers"
    by_block = "shared.tokens" if method.prompts in ("grouped", "deep") else "adapters.down"
    depth = (*shapes.get(by_block, ()), 0)[0]
    prefixes = (*(("weights.",) if method.weights != "none" else ()), *(("lora.",) if method.lora_rank else ()))
    of_backbone = {name: shape for name, shape in shapes.items() if name.startswith(prefixes)}
    expected = trained_shapes(method, depth, head[1], len(info.class_names), of_backbone)
    if wrong := shape_faults(shapes, expected):
        return f"does not fit {JSON_NAME}: {wrong}"
    numbers = sum(math.prod(shape) for shape in shapes.values())
    if numbers != method.trainable_parameters:
        return (
            f"does not fit {JSON_NAME}: it holds {numbers:,} numbers, method.trainable_parameters says "
            f"{method.trainable_parameters:,}"
        )
    return ""


def find_pack(path: Path) -> Path:
    """Return the pack itself, or that of a run folder. What is neither is left for `load_pack` to refuse."""
    inside = path / "pack"
    return inside if not (path / "pack.json").exists() and inside.is_dir() else path
