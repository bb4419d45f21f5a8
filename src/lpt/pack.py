"""The prompt pack: a folder that holds everything a backbone needs to solve a task.

`pack.json` describes it, `pack.safetensors` holds the trained tensors and nothing else, `README.md` is its model card.
There is no pickle anywhere. The folder appears under its name only when it is complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from lpt.architecture import Architecture
from lpt.data.transforms import Preprocessing
from lpt.errors import ConfigError, PackError, RunError
from lpt.files import write_bytes, write_text
from lpt.model import LPT, Classifier, FrozenViT, build_model
from lpt.model.pretrained import BackboneRecord, weight_hash

FORMAT_VERSION = 1
JSON_NAME, TENSORS_NAME, CARD_NAME = "pack.json", "pack.safetensors", "README.md"
REFERENCE_CLASSES = 16
REFERENCE_VARIANTS = 8
REFERENCE_TOLERANCE = 2e-3


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Versions(_Section):
    """Software that wrote the pack."""

    lpt: str
    timm: str
    torch: str

    @classmethod
    def here(cls) -> Versions:
        """The versions installed."""
        return cls(lpt=version("lpt"), timm=timm.__version__, torch=torch.__version__)


class Shots(_Section):
    """Boundaries of the shot groups, in training images of a class."""

    few_below: int
    many_above: int


class Method(Architecture):
    """The method, what of it is trained, and the sizes of that."""

    name: str
    phases: list[int]
    trainable_parameters: int
    share_of_backbone: float


class Probabilities(_Section):
    """softmax(scale * score / temperature); `fitted_on` says what the temperature rests on.

    `classes` says which class frequencies they are for: even ones, or those of the training images.
    """

    scale: float
    temperature: float
    fitted_on: str
    classes: Literal["even", "training"] = "even"


class Reference(_Section):
    """Cosines (or logits) of a `reference_image` with some classes, in float32; loading recomputes them."""

    variant: int
    classes: list[int]
    cosines: list[float]


class PackInfo(_Section):
    """What `pack.json` says."""

    format_version: int
    versions: Versions
    backbone: BackboneRecord
    preprocessing: Preprocessing
    class_names: list[str]
    class_counts: list[int]
    shots: Shots
    method: Method
    probabilities: Probabilities
    metrics: dict[str, Any]
    training: dict[str, Any]
    reference: Reference
    tensors_sha256: str

    @model_validator(mode="after")
    def _check(self) -> PackInfo:
        classes, reference = len(self.class_names), self.reference
        if len(self.class_counts) != classes:
            raise ValueError(f"there are {classes} class_names, but {len(self.class_counts)} class_counts")
        if len(reference.classes) != len(reference.cosines) or not all(0 <= c < classes for c in reference.classes):
            raise ValueError("reference.classes and reference.cosines do not belong together")
        return self


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
            own = backbone.at_size(self.info.preprocessing.size)
            model = build_model(self.info.method, own, len(self.info.class_names))
            model.load_state_dict(self.tensors)
        except (ConfigError, RuntimeError) as error:
            raise PackError(f"{self.path / TENSORS_NAME} does not fit {JSON_NAME}: {error}") from None
        model.requires_grad_(False)
        model.to(backbone.device)
        if backbone.dtype == torch.float32:
            self._check_reference(model)
        return model

    def check_backbone(self, backbone: FrozenViT) -> None:
        """Check that a backbone's weights are those the pack was trained on.

        Raises:
            PackError: they are others.
        """
        wanted = self.info.backbone
        found = backbone.record
        given_name = type(backbone.vit).__name__ if found is None else found.name
        given_hash = weight_hash(backbone.vit) if found is None else found.weight_hash
        if given_hash != wanted.weight_hash:
            raise PackError(
                f"the pack {self.path} belongs to other backbone weights.\n"
                f"  trained on: {wanted.name}, sha256 {wanted.weight_hash}\n"
                f"  given:      {given_name}, sha256 {given_hash}\n"
                "Next: give the backbone it was trained on (--backbone NAME or --checkpoint FILE), or train a pack on "
                "this one with lpt fit."
            )

    def _reference_now(self, model: Classifier) -> Tensor:
        stored = self.info.reference
        return reference_cosines(model, stored.variant, stored.classes, group_prompts=uses_group_prompts(self.info))

    def _check_reference(self, model: Classifier) -> None:
        now = self._reference_now(model)
        stored = torch.tensor(self.info.reference.cosines)
        worst = float((now - stored).abs().max())
        if worst <= REFERENCE_TOLERANCE:
            return
        here, there = Versions.here(), self.info.versions
        raise PackError(
            f"the pack {self.path} gives other outputs here than where it was written: cosines of the reference image "
            f"differ by up to {worst:.4f} (accepted {REFERENCE_TOLERANCE}).\n"
            f"  written with: lpt {there.lpt}, timm {there.timm}, torch {there.torch}\n"
            f"  here:         lpt {here.lpt}, timm {here.timm}, torch {here.torch}\n"
            "Next: install the versions it was written with, or train it again here."
        )


def uses_group_prompts(info: PackInfo) -> bool:
    """Whether the pack went through phase 2; without it, it classifies under the shared prompt alone."""
    return 2 in info.method.phases


def reference_image(size: tuple[int, int], variant: int) -> Tensor:
    """One of several images made by a formula, the same everywhere, [1, 3, height, width], roughly normalised."""
    height, width = size
    rows = torch.linspace(0, 6.283185, height, dtype=torch.float64)[:, None]
    columns = torch.linspace(0, 6.283185, width, dtype=torch.float64)[None]
    waves = [torch.sin((1 + band) * rows + band + variant) * torch.cos((2 + band) * columns) for band in range(3)]
    return torch.stack(waves)[None].float()


@torch.no_grad()
def reference_cosines(model: Classifier, variant: int, classes: list[int], *, group_prompts: bool) -> Tensor:
    """Cosines of a reference image with these classes, float32 on the CPU, [len(classes)]."""
    image = reference_image(model.backbone.image_size, variant).to(model.head.weight.device)
    cosines = model(image).cosines if group_prompts and isinstance(model, LPT) else model.forward_shared(image)
    return cosines[0, classes].float().cpu()


def make_reference(model: Classifier, *, group_prompts: bool) -> Reference:
    """The stored output of a float32 model.

    Of several images the one is taken whose picks are clearest: a near tie between the last group prompt picked and the
    next could fall the other way on another machine.
    """
    count = model.head.weight.shape[0]
    classes = torch.linspace(0, count - 1, min(REFERENCE_CLASSES, count)).long().tolist()
    variant = 0
    if group_prompts and isinstance(model, LPT):
        lpt = model
        variant = max(range(REFERENCE_VARIANTS), key=lambda one: _pick_gap(lpt, one))
    values = reference_cosines(model, variant, classes, group_prompts=group_prompts)
    return Reference(variant=variant, classes=classes, cosines=[round(value, 7) for value in values.tolist()])


@torch.no_grad()
def _pick_gap(model: LPT, variant: int) -> float:
    """Difference between the cosines of the last picked key and of the next, for a reference image."""
    if len(model.groups.keys) == model.top_k:
        return 0.0
    image = reference_image(model.backbone.image_size, variant).to(model.head.weight.device)
    cosines = model.groups.match(model.query(image), model.top_k + 1).cosines[0]
    return float(cosines[-2] - cosines[-1])


def encode_tensors(state: dict[str, Tensor]) -> bytes:
    """The trained tensors as the bytes of a safetensors file: the same tensors give the same bytes."""
    tensors = {name: tensor.detach().float().cpu().contiguous() for name, tensor in sorted(state.items())}
    return save(tensors, metadata={"format": "lpt-prompt-pack"})


def write_pack(path: Path, info: PackInfo, tensors: bytes, card: str) -> Path:
    """Write a pack folder; it takes its name only when complete, in place of one that was there.

    Raises:
        RunError: it cannot be written; what was there is untouched.
    """
    building, former = (path.with_name(path.name + suffix) for suffix in (".partial", ".former"))
    try:
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        write_bytes(building / TENSORS_NAME, tensors)
        write_text(building / CARD_NAME, card)
        write_text(building / JSON_NAME, info.model_dump_json(indent=2) + "\n")
        if path.exists():
            shutil.rmtree(former, ignore_errors=True)
            os.replace(path, former)
        os.replace(building, path)
    except OSError as error:
        if former.exists() and not path.exists():
            os.replace(former, path)
        raise RunError(f"cannot write the pack {path}: {error.strerror or error}") from error
    shutil.rmtree(former, ignore_errors=True)
    return path


def load_pack(path: str | Path) -> Pack:
    """Read and verify a pack folder.

    Raises:
        PackError: it is not there, damaged, or of a format this version cannot read.
    """
    path, info = Path(path), read_info(path)
    return Pack(info, _read_tensors(path / TENSORS_NAME, info.tensors_sha256), path)


def read_info(path: str | Path) -> PackInfo:
    """What stands in a pack's `pack.json`; its tensors are not looked at, and need not be there.

    Raises:
        PackError: it is not there, damaged, or of a format this version cannot read.
    """
    path = Path(path)
    if not (path / JSON_NAME).is_file():
        raise PackError(f"{path} is not a prompt pack: it has no {JSON_NAME}. A run folder's pack is its folder pack/")
    try:
        values = json.loads((path / JSON_NAME).read_text(encoding="utf-8"))
        format_version = values.get("format_version") if isinstance(values, dict) else None
    except (OSError, ValueError) as error:
        raise PackError(f"{path / JSON_NAME} is damaged: {error}. Copy the pack again.") from None
    if format_version != FORMAT_VERSION:
        raise PackError(
            f"{path}: pack format {format_version!r}; this lpt reads format {FORMAT_VERSION}. Install a newer lpt."
        )
    try:
        return PackInfo.model_validate(values)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, f['loc'])) or 'its fields'}: {f['msg']}" for f in error.errors(include_url=False)[:5]
        )
        raise PackError(f"{path / JSON_NAME} is damaged: {faults}") from None


def sha256(content: bytes) -> str:
    """Hexadecimal sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def _read_tensors(path: Path, expected: str) -> dict[str, Tensor]:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackError(f"cannot read {path}: {error.strerror}") from None
    if sha256(content) != expected:
        raise PackError(
            f"{path} is damaged ({len(content)} bytes): its sha256 is {sha256(content)}, {JSON_NAME} says {expected}. "
            "Copy the pack again."
        )
    try:
        return load(content)
    except SafetensorError as error:
        raise PackError(f"{path} is damaged: {error}") from None
