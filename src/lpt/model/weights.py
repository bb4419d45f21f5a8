"""Find the weights of a backbone, read them without running code from the file, and fill a model with them.

timm reads weights too, but it unpickles files from some sources and silently leaves out tensors that do not fit. So
timm builds the model and converts foreign checkpoints; this module does the rest.
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
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from safetensors.torch import load_file
from timm.models import vision_transformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from lpt.errors import ConfigError
from lpt.model.reach import is_cached, why_unreachable
from lpt.system.notices import notice
from lpt.system.text import size_of
from lpt.system.threads import in_passing_thread

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


def hub_file(vit: VisionTransformer, repository: str, title: str) -> Path:
    """Return the weights file of a model in a repository of the hub, from the cache or downloaded.

    Args:
        vit: the model, whose `pretrained_cfg` may name the file.
        repository: `owner/name`, or `owner/name@revision`.
        title: name of the backbone, which the user is told before a download begins.

    Raises:
        UnreachableError: the file is not in the cache, and the hub cannot be reached.
        OSError, ValueError: from huggingface_hub, if there is no file or it cannot be read.
    """
    name, _, revision = repository.partition("@")
    configured = vit.pretrained_cfg.get("hf_hub_filename")
    names = [str(configured)] if configured else [*_HUB_NAMES]
    if configured and not str(configured).endswith((".safetensors", *_ARRAYS)):
        names.insert(0, str(Path(configured).with_suffix(".safetensors")))
    get = partial(hf_hub_download, name, revision=revision or None)
    failure: Exception | None = None
    if not (constants.HF_HUB_OFFLINE or is_cached(name, names[0], revision)):
        if not any(is_cached(name, file, revision) for file in names):
            notice(
                f"Downloading the backbone {title} from the Hugging Face Hub (about {size_of(_stored_bytes(vit))}) ..."
            )
        failure = why_unreachable(name, names[0], revision)
    cache_only = failure is not None
    for file in names:
        try:
            return Path(in_passing_thread(partial(get, file, local_files_only=cache_only)))
        except (EntryNotFoundError, LocalEntryNotFoundError) as error:
            failure = failure or error
            cache_only = cache_only or isinstance(error, LocalEntryNotFoundError)  # the network is gone
    assert failure is not None
    raise failure


def _stored_bytes(vit: VisionTransformer) -> int:
    """Return about how many bytes the weights of a model have on the hub: float32, with the head."""
    head = int(vit.pretrained_cfg.get("num_classes") or 0) * (vit.num_features + 1)
    return 4 * (head + sum(parameter.numel() for parameter in vit.parameters()))


def folder_file(folder: Path) -> Path:
    """Return the weights file in a folder that timm's `local-dir:` names.

    Raises:
        FileNotFoundError: the folder has none.
    """
    for name in _FOLDER_NAMES:
        if (folder / name).is_file():
            return folder / name
    for ending in (".safetensors", ".pth", ".bin"):
        for file in sorted(folder.glob(f"*{ending}")):
            if file.is_file():  # a pipe would block
                return file
    raise FileNotFoundError(f"there is no .safetensors, .pth or .bin file in {folder}")


def fill(vit: VisionTransformer, file: Path, where: str, *, downloaded: bool = False) -> None:
    """Load the weights of a model from a file that must hold all of them except the classifier head.

    Accepted are safetensors, PyTorch files of tensors, and NumPy archives of the original JAX weights.

    Args:
        vit: the model.
        file: the file.
        where: first words of messages, such as the setting that named the file.
        downloaded: whether the file lies in the cache of the hub, and can be downloaded again.

    Raises:
        ConfigError: the file cannot be read without running code from it, does not fit the model, or holds NaN or
            infinity.
    """
    again = f"\n{download_again(file)}" if downloaded else ""
    try:
        missing = _fill_from_arrays(vit, file) if file.suffix.lower() in _ARRAYS else _fill_from_tensors(vit, file)
    except pickle.UnpicklingError:
        raise objects_inside(where, file, again) from None
    except Exception as error:  # the file formats raise many kinds of errors
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(
            f"{where}: {file} does not load as {_name(vit)}: {type(error).__name__}: {reason}{again}"
        ) from error
    if missing is not None:
        raise ConfigError(f"{where}: {file} does not fit {_name(vit)}: {missing}")
    for name, tensor in vit.state_dict().items():
        if not name.startswith(_HEAD) and not bool(torch.isfinite(tensor).all()):
            raise ConfigError(
                f"{where}: {file} holds NaN or infinity in the tensor {name}. Get the file again, or take "
                f"others.{again}"
            )


def objects_inside(where: str, file: Path, again: str = "") -> ConfigError:
    """Return the error for a file that holds more than tensors; `where` are the first words, `again` the last."""
    return ConfigError(
        f"{where}: {file} holds Python objects besides tensors, or is no file of weights. Such objects can run "
        f"code when they are read, so lpt never reads them. Next: save only the tensors, as safetensors.{again}"
    )


def download_again(file: Path) -> str:
    """Return the advice for a file in the cache of the hub that cannot be used.

    Deleting the link in a snapshot would not do: the content that it points to would be taken again.
    """
    return (
        f"A file in the cache of the hub that was cut off or damaged stays so: delete {file.resolve()} "
        f"({size_of(file.stat().st_size)}), and run the same command again with a connection; it is downloaded again."
    )


def read_weights(file: Path) -> dict[str, Any]:
    """Read the content of a file of tensors by name; no code in it runs."""
    if file.suffix.lower() == ".safetensors":
        return dict(load_file(file))
    with torch.serialization.safe_globals([argparse.Namespace]):  # many published weights come with their options
        content = torch.load(file, map_location="cpu", weights_only=True)
    if not isinstance(content, Mapping):
        raise TypeError(f"it holds a {type(content).__name__}, not tensors by name")
    return dict(content)


@dataclass
class _Match:
    """A comparison of a file's tensors with a model's: those that fit, and the names of the others by fault."""

    fitting: dict[str, Tensor] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    other_shape: list[str] = field(default_factory=list)
    other_type: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (
            self.missing
            or self.other_shape
            or self.other_type
            or any(name.startswith(_PARTS) for name in self.left_over)
        )

    def describe(self) -> str:
        """Describe the faults, with numbers and examples of both sides."""
        total = len(self.fitting) + len(self.missing) + len(self.other_shape) + len(self.other_type)
        parts = {
            f"{len(self.missing)} of the model's {total} tensors are not in it": self.missing,
            f"{len(self.other_shape)} of {total} have another shape": self.other_shape,
            f"{len(self.other_type)} of {total} have another type, as quantised weights have": self.other_type,
            f"{len(self.left_over)} in it are not of the model": self.left_over,
        }
        return "; ".join(f"{text} ({', '.join(names[:3])})" for text, names in parts.items() if names) + (
            ". Next: name the architecture of these weights (--backbone NAME), or give the weights of this one."
        )


def _fill_from_tensors(vit: VisionTransformer, file: Path) -> str | None:
    """Load tensors by name; return what does not fit, or None."""
    best: _Match | None = None
    failure: Exception | None = None
    convert = _conversion(vit)
    for weights in readings(read_weights(file)):
        try:
            match = _compare(vit, convert(dict(weights), vit))
        except Exception as error:  # timm's conversion fails on names and shapes that it does not know
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
        weight = weights.get(name)
        if name.startswith(_HEAD):
            continue
        if not isinstance(weight, Tensor):
            match.missing.append(name)
        elif weight.is_floating_point() != tensor.is_floating_point():
            match.other_type.append(f"{name}: {weight.dtype} in the file, {tensor.dtype} in the model")
        elif weight.shape != tensor.shape:
            match.other_shape.append(f"{name}: {list(weight.shape)} in the file, {list(tensor.shape)} in the model")
        else:
            match.fitting[name] = weight
    known = vit.state_dict()
    match.left_over = [str(name) for name in weights if name not in known and not str(name).startswith(_HEAD)]
    return match


def readings(weights: Mapping[str, Any], depth: int = 3) -> Iterator[dict[str, Any]]:
    """Yield the content of a file, then the parts under known names or prefixes, such as `model` or `module.`."""
    yield {name: value for name, value in weights.items() if isinstance(name, str)}
    if not depth:
        return
    for name in _INSIDE:
        if isinstance(weights.get(name), Mapping):
            yield from readings(weights[name], depth - 1)
    for prefix in _PREFIXES:
        inside = {str(name)[len(prefix) :]: value for name, value in weights.items() if str(name).startswith(prefix)}
        if inside:
            yield from readings(inside, depth - 1)


def _conversion(vit: VisionTransformer) -> Convert:
    """Return timm's conversion of checkpoints for a model: it renames tensors and resizes position embeddings."""
    architecture = _architecture(vit)
    module: Any = vision_transformer
    if architecture is not None:
        module = sys.modules[timm.models.model_entrypoint(architecture).__module__]
    convert = getattr(module, "checkpoint_filter_fn", vision_transformer.checkpoint_filter_fn)
    options: dict[str, Any] = {"adapt_layer_scale": True}
    if architecture is not None and "flexi" in architecture:  # as in timm: trained to be resized so
        options |= {"interpolation": "bilinear", "antialias": False}
    accepted = inspect.signature(convert).parameters
    return partial(convert, **{name: value for name, value in options.items() if name in accepted})


def _fill_from_arrays(vit: VisionTransformer, file: Path) -> str | None:
    """Load the arrays of a NumPy archive by timm's names; return what is missing, or None."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except ValueError:  # numpy refuses an object in it; so it is refused before timm opens the file
        raise pickle.UnpicklingError from None
    for name, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError(f"it holds NaN or infinity in the array {name}")
    deeper = next((name for name in arrays if f"/encoderblock_{len(vit.blocks)}/" in f"/{name}"), None)
    del arrays
    if deeper is not None:
        return _Match(missing=[], left_over=[deeper]).describe()
    tensors = {name: tensor for name, tensor in vit.state_dict().items() if not name.startswith(_HEAD)}
    for tensor in tensors.values():
        if tensor.is_floating_point():
            tensor.fill_(torch.nan)  # a tensor that stays NaN was not in the file
    vit.load_pretrained(str(file))
    missing = [name for name, tensor in tensors.items() if bool(torch.isnan(tensor).all())]
    if not missing:
        return None
    return _Match({name: tensor for name, tensor in tensors.items() if name not in missing}, missing).describe()


def _architecture(vit: VisionTransformer) -> str | None:
    """Return timm's name of a model's architecture; None if an architecture file described it."""
    return (getattr(vit, "pretrained_cfg", None) or {}).get("architecture")


def _name(vit: VisionTransformer) -> str:
    return _architecture(vit) or "the architecture in the JSON file beside it"
