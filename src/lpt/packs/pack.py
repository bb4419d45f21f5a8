"""Read and write prompt packs: folders that hold everything a backbone needs for a task.

`pack.json` describes it, `pack.safetensors` holds the trained tensors and nothing else, `README.md` is its model card.
There is no pickle. The folder takes its name only when it is complete. Reading needs no torch; building does.
"""

from __future__ import annotations

import contextlib
import math
import os
import reprlib
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors.numpy import save

from lpt.config.bounds import one_line
from lpt.config.faults import faults
from lpt.data.manifest import Float32Array
from lpt.errors import ConfigError, PackError, RunError
from lpt.model.shapes import Shape, shape_faults, trained_shapes
from lpt.packs.files import number_fault, read_json, read_tensors
from lpt.packs.hub import FORM, Fetched, damage_advice, fetch, is_address
from lpt.packs.info import FORMAT_VERSION, PackInfo, Versions
from lpt.packs.reference_image import REFERENCE_TOLERANCE, ReferenceOutput, largest_difference
from lpt.system.files import write_bytes, write_text
from lpt.system.near import near_folders
from lpt.system.outputs import RUN_KIND, RUN_MARKER
from lpt.system.owned import PACK_FILES, PACK_NAMES, contents, is_marked, remove_names

if TYPE_CHECKING:
    from torch import Tensor

    from lpt.model import Classifier, FrozenViT

JSON_NAME, TENSORS_NAME, CARD_NAME = PACK_FILES
_ACCEPTED = "Give a prompt pack, or a run folder that holds one."
PARTIAL_SUFFIX, FORMER_SUFFIX = ".partial", ".former"


@dataclass(frozen=True)
class Pack:
    """A pack in memory.

    Args:
        info: its description.
        tensors: its tensors by name.
        path: its folder.
        address: its address on the hub with the commit, `hf://OWNER/NAME@COMMIT`; None: it was a folder.
    """

    info: PackInfo
    tensors: dict[str, Float32Array]
    path: Path
    address: str | None = None

    @property
    def origin(self) -> str:
        """What records and messages call it: its address on the hub with the commit, else its folder."""
        return self.address or str(self.path)

    @property
    def stored_bytes(self) -> int:
        """Size of the tensors file, bytes."""
        return (self.path / TENSORS_NAME).stat().st_size

    def build(self, backbone: FrozenViT) -> Classifier:
        """Build the model of this pack on its backbone, at the input size of the pack.

        Raises:
            PackError: the pack was trained on other weights, does not fit them, or gives other outputs.
        """
        import torch

        from lpt.model.build import backbone_shapes, build_model
        from lpt.packs.reference import reference_output

        self.check_backbone(backbone)
        try:
            sized = backbone.at_size(self.info.preprocessing.size)  # its positions may be among the trained weights
            self.check_shapes(backbone.depth, backbone.width, backbone_shapes(self.info.method, sized))
            model = build_model(
                self.info.method, sized, len(self.info.class_names), added=self.info.added_classes
            )  # fmt: skip
            model.load_state_dict(self.torch_tensors())
        except (ConfigError, RuntimeError) as error:
            raise self.misfit(error) from None
        for parameter in model.requires_grad_(False).parameters():  # the backbone is there, and others may use it
            parameter.data = parameter.data.to(backbone.device)
        if backbone.dtype == torch.float32:
            stored, grouped = self.info.reference, self.info.uses_group_prompts
            self.check_reference(reference_output(model, stored.variant, stored.classes, group_prompts=grouped))
        return model

    def torch_tensors(self) -> dict[str, Tensor]:
        """Return the tensors for PyTorch; they share their memory with this pack."""
        import torch

        return {name: torch.from_numpy(array) for name, array in self.tensors.items()}

    def misfit(self, reason: Exception) -> PackError:
        """Return the error for tensors that do not fit the description, or the backbone."""
        return PackError(f"{self.path / TENSORS_NAME} does not fit {JSON_NAME}: {reason}")

    def check_shapes(self, depth: int, width: int, layer_shapes: Mapping[str, Shape]) -> None:
        """Compare the tensors with those of the method on a backbone of L blocks and width D.

        Args:
            depth, width: of the backbone.
            layer_shapes: shapes of the trained tensors that belong to layers of the backbone.

        Raises:
            ConfigError: they differ.
        """
        method, classes = self.info.method, len(self.info.class_names)
        expected = trained_shapes(method, depth, width, classes, layer_shapes, added=self.info.added_classes)
        if fault := shape_faults({name: array.shape for name, array in self.tensors.items()}, expected):
            raise ConfigError(fault)

    def check_backbone(self, backbone: FrozenViT) -> None:
        """Check that the pack was trained on the weights of this backbone.

        Raises:
            PackError: it was trained on others.
        """
        self.check_hash(backbone.weight_hash, backbone.name)

    def check_hash(self, weight_hash: str, name: str) -> None:
        """Check that the pack was trained on weights of this hash, which belong to the backbone of this name.

        Raises:
            PackError: it was trained on others.
        """
        wanted = self.info.backbone
        if weight_hash != wanted.weight_hash:
            raise PackError(
                f"the pack {self.origin} belongs to other backbone weights.\n"
                f"  trained on: {one_line(wanted.name)}, sha256 {wanted.weight_hash}\n"
                f"  given:      {name}, sha256 {weight_hash}\n"
                "Next: give the backbone it was trained on (--backbone NAME or --checkpoint FILE), or train a pack on "
                "this one with lpt fit."
            )

    def check_reference(self, output: ReferenceOutput) -> None:
        """Compare the output for the reference image with the stored one.

        Raises:
            PackError: they differ.
        """
        worst = largest_difference(self.info.reference, output)
        if worst <= REFERENCE_TOLERANCE:
            return
        here, writer = Versions.here(), self.info.versions
        raise PackError(
            f"the pack {self.origin} gives other outputs here than where it was written: scores of the reference image "
            f"differ by up to {worst:.4f} (accepted {REFERENCE_TOLERANCE}).\n"
            f"  written with: {one_line(f'lpt {writer.lpt}, timm {writer.timm}, torch {writer.torch}')}\n"
            f"  here:         lpt {here.lpt}, timm {here.timm}, torch {here.torch}\n"
            "Next: install the versions it was written with, or train it again here."
        )


def encode_tensors(state: Mapping[str, Tensor]) -> bytes:
    """Encode trained tensors as the bytes of a safetensors file; the same tensors give the same bytes.

    Raises:
        RunError: a number in them is not finite, or huge.
    """
    arrays: dict[str, Float32Array] = {
        name: tensor.detach().float().cpu().contiguous().numpy() for name, tensor in sorted(state.items())
    }
    for name, array in arrays.items():
        if fault := number_fault(array):
            raise RunError(
                f"the trained tensor {name} {fault}: it cannot be packed. Train again at a lower rate, or in full "
                "precision (--set runtime.precision=fp32)."
            )
    return save(arrays, metadata={"format": "lpt-prompt-pack"})


def write_pack(path: Path, info: PackInfo, tensors: bytes, card: str) -> Path:
    """Write a pack folder; it replaces an old one only when it is complete, and nothing half-written stays.

    Raises:
        RunError: it cannot be written; the old one is untouched.
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
    finally:
        with contextlib.suppress(OSError):
            remove_names(building, PACK_NAMES)
    with contextlib.suppress(OSError):
        _carry_over(former, path)
        remove_names(former, PACK_NAMES)
    return path


def _carry_over(former: Path, path: Path) -> None:
    """Move files that a user put into the former pack into the new one."""
    if former.is_dir() and not former.is_symlink():
        for name in contents(former, PACK_NAMES).others:
            if not os.path.lexists(path / name):
                os.replace(former / name, path / name)


def load_pack(path: str | Path) -> Pack:
    """Read and verify a pack: its folder, the run folder that holds it, or `hf://OWNER/NAME[@REVISION]` on the hub.

    Raises:
        PackError: the pack is missing, damaged, or has a format that this version cannot read.

    Example:
        >>> pack = lpt.load_pack("runs/photos")
        >>> pack.info.method.name, sorted(pack.tensors)[-1]
        ('lpt', 'shared.tokens')
    """
    fetched = _fetched(path)
    if fetched is None:
        return _read(find_pack(Path(path)))
    with _advised(fetched):
        return replace(_read(fetched.folder), address=str(fetched.address))


def _read(path: Path) -> Pack:
    info = _read_info(path)
    tensors = read_tensors(path / TENSORS_NAME, info.tensors_sha256, lambda shapes: _shape_fault(info, shapes))
    return Pack(info, tensors, path)


def read_info(path: str | Path) -> PackInfo:
    """Read the description of a pack; its tensors are not read and may be missing.

    Raises:
        PackError: the pack is missing, damaged, or has a format that this version cannot read.
    """
    fetched = _fetched(path)
    if fetched is None:
        return _read_info(find_pack(Path(path)))
    with _advised(fetched):
        return _read_info(fetched.folder)


def _read_info(path: Path) -> PackInfo:
    file = path / JSON_NAME
    if not os.path.lexists(file):
        raise PackError(_no_pack(path))
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


def _no_pack(path: Path) -> str:
    """Say why there is no pack in a path, and where there may be one."""
    if not path.exists():
        return f"there is no folder {path}.{near_folders(path, holds_pack, 'Packs and runs')} {_ACCEPTED}"
    if not path.is_dir():
        return f"{path} is a file, not a prompt pack. {_ACCEPTED}"
    inside = near_folders(path / JSON_NAME, holds_pack, "Packs and runs")
    if not inside and is_marked(path / RUN_MARKER, RUN_KIND):
        return (
            f"{path} is a run that has no pack yet: it was not finished. Next: "
            f"lpt fit --resume {shlex.quote(str(path))}"
        )
    more = f".{inside}" if inside else ""
    return f"{path} is not a prompt pack: it has no {JSON_NAME}. A run folder's pack is its folder pack/{more}"


def holds_pack(path: Path) -> bool:
    """Return whether a path is the folder of a pack, or of a run that holds one."""
    return path.is_dir() and (find_pack(path) / JSON_NAME).is_file()


def _shape_fault(info: PackInfo, shapes: Mapping[str, Shape]) -> str:
    """Describe how tensors differ from the sizes in a description, as far as this shows without the backbone."""
    head, method = shapes.get("head.weight", ()), info.method
    if len(head) != 2:
        return f"does not fit {JSON_NAME}: it has no table head.weight of classes and numbers"
    by_block = "shared.tokens" if method.prompts in ("grouped", "deep") else "adapters.down"
    depth = (*shapes.get(by_block, ()), 0)[0]
    prefixes = (*(("weights.",) if method.weights != "none" else ()), *(("lora.",) if method.lora_rank else ()))
    backbone_shapes = {name: shape for name, shape in shapes.items() if name.startswith(prefixes)}
    expected = trained_shapes(
        method, depth, head[1], len(info.class_names), backbone_shapes, added=info.added_classes
    )  # fmt: skip
    if fault := shape_faults(shapes, expected):
        return f"does not fit {JSON_NAME}: {fault}"
    numbers = sum(math.prod(shape) for shape in shapes.values())
    if numbers != method.trainable_parameters:
        return (
            f"does not fit {JSON_NAME}: it holds {numbers:,} numbers, method.trainable_parameters says "
            f"{method.trainable_parameters:,}"
        )
    return ""


def _fetched(path: str | Path) -> Fetched | None:
    """Return a pack of the hub, in the local cache; None for a folder.

    Raises:
        PackError: the hub has no such pack, or an address is written wrong.
    """
    if isinstance(path, str) and is_address(path):
        return fetch(path)
    if str(path).startswith("hf:") and not os.path.lexists(path):
        kept = "; as text, since a Path drops one of the two slashes" if isinstance(path, Path) else ""
        raise PackError(f"{str(path)!r} is no folder. A pack on the hub is given as {FORM}{kept}")
    return None


@contextlib.contextmanager
def _advised(fetched: Fetched) -> Iterator[None]:
    """Say what to do where a pack from the hub cannot be read."""
    try:
        yield
    except PackError as error:
        raise PackError(f"{error.message}\n{damage_advice(fetched)}") from None


def find_pack(path: Path) -> Path:
    """Return a pack's folder, given itself or its run folder; `load_pack` refuses anything else."""
    inside = path / "pack"
    return inside if not (path / JSON_NAME).exists() and inside.is_dir() else path
