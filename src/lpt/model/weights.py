"""Weights of a backbone: found, read without running any code of the file, and fitted to a model they must fill.

timm can read weights too, but it has unpickled files of some sources, and it leaves out without a word what does not
fit. So timm builds the model here, and its own conversion of foreign checkpoints is applied; the rest is done here.
"""

from __future__ import annotations

import argparse
import inspect
import pickle
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file
from timm.models import vision_transformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from lpt.errors import ConfigError

_HUB_NAMES = (
    "model.safetensors",
    "pytorch_model.bin",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_FOLDER_NAMES = (*_HUB_NAMES, "pytorch_model.pth", "model.pth", "open_clip_pytorch_model.pth")
_ARRAYS = (".npz", ".npy")
_INSIDE = ("state_dict_ema", "model_ema", "state_dict", "model", "teacher", "student")
_PREFIXES = ("module.", "_orig_mod.", "model.", "vit.", "backbone.", "encoder.", "teacher.", "student.")
_PARTS = ("blocks.", "cls_token", "reg_token", "pos_embed", "patch_embed.", "norm_pre.", "norm.")
_HEAD = "head."

Convert = Callable[[dict[str, Any], VisionTransformer], dict[str, Any]]


def hub_file(vit: VisionTransformer, repository: str) -> Path:
    """The file of a model's weights in a repository of the hub, from the cache or downloaded.

    Args:
        vit: the model, whose `pretrained_cfg` may name the file.
        repository: `owner/name`, with `@revision` if it is not the newest.

    Raises:
        OSError, ValueError: of huggingface_hub, where there is no file or no way to it.
    """
    name, _, revision = repository.partition("@")
    given = vit.pretrained_cfg.get("hf_hub_filename")
    names = [str(given)] if given else [*_HUB_NAMES]
    if given and not str(given).endswith((".safetensors", *_ARRAYS)):
        names.insert(0, str(Path(given).with_suffix(".safetensors")))
    absent: EntryNotFoundError | LocalEntryNotFoundError | None = None
    for file in names:
        try:
            return Path(hf_hub_download(name, file, revision=revision or None))
        except (EntryNotFoundError, LocalEntryNotFoundError) as error:
            absent = absent or error
    assert absent is not None
    raise absent


def folder_file(folder: Path) -> Path:
    """The file of weights in a folder that timm's `local-dir:` names.

    Raises:
        FileNotFoundError: there is none.
    """
    for name in _FOLDER_NAMES:
        if (folder / name).is_file():
            return folder / name
    for ending in (".safetensors", ".pth", ".bin"):
        for file in sorted(folder.glob(f"*{ending}")):
            return file
    raise FileNotFoundError(f"there is no .safetensors, .pth or .bin file in {folder}")


def fill(vit: VisionTransformer, file: Path, where: str) -> None:
    """Load a model's weights from a file that must hold all of them but the classifier head's.

    Read are safetensors, PyTorch files of tensors alone, and NumPy archives of the original JAX weights.

    Args:
        vit: the model.
        file: the file.
        where: what messages begin with, such as the setting that named the file.

    Raises:
        ConfigError: the file cannot be read without running code from it, does not fit the model, or holds numbers
            that are not finite.
    """
    try:
        missing = _fill_from_arrays(vit, file) if file.suffix.lower() in _ARRAYS else _fill_from_tensors(vit, file)
    except pickle.UnpicklingError:
        raise ConfigError(
            f"{where}: {file} holds Python objects besides tensors, or is no file of weights. Such objects can run "
            "code when they are read, so lpt never reads them. Next: save the tensors alone, as safetensors."
        ) from None
    except Exception as error:  # the file formats raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{where}: {file} does not load as {_name(vit)}: {type(error).__name__}: {reason}") from error
    if missing is not None:
        raise ConfigError(f"{where}: {file} does not fit {_name(vit)}: {missing}")
    for name, tensor in vit.state_dict().items():
        if not name.startswith(_HEAD) and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(
                f"{where}: {file} holds NaN or infinity in the tensor {name}. Get the file again, or take others."
            )


def read_weights(file: Path) -> dict[str, Any]:
    """What a file of tensors holds, by name; nothing in it is run."""
    if file.suffix.lower() == ".safetensors":
        return dict(load_file(file))
    with torch.serialization.safe_globals([argparse.Namespace]):  # the options beside many published weights
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise TypeError(f"it holds a {type(content).__name__}, not tensors by name")
    return dict(content)


@dataclass
class _Match:
    """How a file's tensors and a model's agree: those that fit, and the names of the others by what is wrong."""

    fitting: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.missing or self.other_shape or any(name.startswith(_PARTS) for name in self.left_over))

    def describe(self) -> str:
        """What does not agree, with numbers and examples of both sides."""
        total = len(self.fitting) + len(self.missing) + len(self.other_shape)
        parts = {
            f"{len(self.missing)} of the model's {total} tensors are not in it": self.missing,
            f"{len(self.other_shape)} of {total} have another shape": self.other_shape,
            f"{len(self.left_over)} in it are not of the model": self.left_over,
        }
        return "; ".join(f"{text} ({', '.join(names[:3])})" for text, names in parts.items() if names) + (
            ". Next: name the architecture of these weights (--backbone NAME), or give the weights of this one."
        )


def _fill_from_tensors(vit: VisionTransformer, file: Path) -> str | None:
    """Load tensors by name; what does not agree, or None."""
    best: _Match | None = None
    failure: Exception | None = None
    convert = _conversion(vit)
    for weights in _readings(read_weights(file)):
        try:
            match = _compare(vit, convert(dict(weights), vit))
        except Exception as error:  # timm's conversion meets names and shapes it was not made for
            failure = failure or error
            continue
        if match.complete:
            vit.load_state_dict(match.fitting, strict=False)
            return None
        if best is None or len(match.fitting) > len(best.fitting):
            best = match
    if best is None:
        raise failure or ValueError("it holds no tensors")
    return best.describe()


def _compare(vit: VisionTransformer, weights: Mapping[str, Any]) -> _Match:
    match = _Match()
    for name, tensor in vit.state_dict().items():
        given = weights.get(name)
        if name.startswith(_HEAD):
            continue
        if not isinstance(given, Tensor):
            match.missing.append(name)
        elif given.shape != tensor.shape:
            match.other_shape.append(f"{name}: {list(given.shape)} in the file, {list(tensor.shape)} in the model")
        else:
            match.fitting[name] = given
    known = vit.state_dict()
    match.left_over = [str(name) for name in weights if name not in known and not str(name).startswith(_HEAD)]
    return match


def _readings(weights: Mapping[str, Any], depth: int = 3) -> Iterator[dict[str, Any]]:
    """A file's content, then what lies under a known name or prefix in it, such as `model` or `module.`."""
    yield {name: value for name, value in weights.items() if isinstance(name, str)}
    if not depth:
        return
    for name in _INSIDE:
        if isinstance(weights.get(name), Mapping):
            yield from _readings(weights[name], depth - 1)
    for prefix in _PREFIXES:
        inside = {str(name)[len(prefix) :]: value for name, value in weights.items() if str(name).startswith(prefix)}
        if inside:
            yield from _readings(inside, depth - 1)


def _conversion(vit: VisionTransformer) -> Convert:
    """Timm's conversion of checkpoints for a model: names of other projects, position embeddings of another size."""
    architecture = _architecture(vit)
    module: Any = vision_transformer
    if architecture is not None:
        module = sys.modules[timm.models.model_entrypoint(architecture).__module__]
    convert = getattr(module, "checkpoint_filter_fn", vision_transformer.checkpoint_filter_fn)
    options: dict[str, Any] = {"adapt_layer_scale": True}
    if architecture is not None and "flexi" in architecture:  # as timm: these were trained to be resized so
        options |= {"interpolation": "bilinear", "antialias": False}
    accepted = inspect.signature(convert).parameters
    return partial(convert, **{name: value for name, value in options.items() if name in accepted})


def _fill_from_arrays(vit: VisionTransformer, file: Path) -> str | None:
    """Load the arrays of a NumPy archive by timm's names for them; what is missing, or None."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except ValueError:  # what numpy calls an object in it; refused here, before timm opens the file
        raise pickle.UnpicklingError from None
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"it holds NaN or infinity in the array {name}")
    deeper = next((name for name in arrays if f"/encoderblock_{len(vit.blocks)}/" in f"/{name}"), None)
    del arrays
    if deeper is not None:
        return _Match(missing=[], left_over=[deeper]).describe()
    own = {name: tensor for name, tensor in vit.state_dict().items() if not name.startswith(_HEAD)}
    for tensor in own.values():
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)  # what is still so afterwards was not in the file
    vit.load_pretrained(str(file))
    missing = [name for name, tensor in own.items() if bool(torch.isnan(tensor).all())]
    return _Match({name: own[name] for name in own if name not in missing}, missing).describe() if missing else None


def _architecture(vit: VisionTransformer) -> str | None:
    """Timm's name of a model's architecture; None for one that was built from an architecture file."""
    return (getattr(vit, "pretrained_cfg", None) or {}).get("architecture")


def _name(vit: VisionTransformer) -> str:
    return _architecture(vit) or "the architecture in the JSON file beside it"
