"""Weights run no code, and must fill the model."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from lpt.errors import ConfigError
from lpt.model.pretrained import load_backbone
from strangers import TINY_NAME, TINY_WIDTH, Evil, check_refused, model_folder, program

# --- the user's own weights run no code either


def evil_checkpoint(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    torch.save({"state_dict": evil}, folder / "evil.pth")
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.pth"]


def evil_beside_architecture(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    torch.save(evil, folder / "evil.bin")
    (folder / "evil.json").write_bytes(tiny.with_suffix(".json").read_bytes())
    return ["--checkpoint", folder / "evil.bin"]


def evil_plain_pickle(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    (folder / "evil.pt").write_bytes(pickle.dumps(evil))
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.pt"]


def evil_archive(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    np.savez(folder / "evil.npz", cls=np.array([evil], dtype=object), allow_pickle=True)
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.npz"]


def evil_array(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    np.save(folder / "evil.npy", np.array([evil], dtype=object), allow_pickle=True)
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.npy"]


def evil_folder(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    return ["--backbone", f"local-dir:{model_folder(folder / 'evil', {'model': evil})}"]


def evil_repository(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    snapshot = folder / "hub" / "models--someone--evil" / "snapshots" / ("0" * 40)
    model_folder(snapshot, {"model": evil})
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    return ["--backbone", "hf-hub:someone/evil"]


@pytest.mark.parametrize(
    "make",
    [evil_checkpoint, evil_beside_architecture, evil_plain_pickle, evil_archive, evil_array, evil_folder,
     evil_repository],
)  # fmt: skip
def test_weights_run_no_code(
    make: Callable[[Path, Evil, Path], list[object]],
    photo_folder: Path,
    fitted_run: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    marker: Path,
) -> None:
    """A pickle in a file that the user names, in any way, is refused in one message; no file is left."""
    options = make(tmp_path, Evil(marker), tiny_backbone)
    hub = {"HF_HUB_CACHE": str(tmp_path / "hub")} if make is evil_repository else {}
    arguments = ["fit", photo_folder, "--output", tmp_path / "out", "--preset", "laptop", "--device", "cpu"]
    check_refused(marker, *program(*arguments, *options, folder=tmp_path, **hub), "backbone.", "evil")
    assert not (tmp_path / "out").exists()
    check_refused(marker, *program("predict", fitted_run, photo_folder, *options, folder=tmp_path, **hub), "evil")


@pytest.mark.parametrize("name", ["config.json", "x.safetensors", "x.pth"])
def test_a_pipe_in_a_folder_of_weights_does_not_block(name: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "vit", {})
    for file in (folder / "pytorch_model.bin", *([folder / name] if name == "config.json" else [])):
        file.unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ConfigError, match=r"backbone\.name: .*there is no"):
        load_backbone(f"local-dir:{folder}")


# --- weights must fill the model


def tiny_weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    vit = timm.create_model(TINY_NAME, num_classes=5)
    return {name: 0.02 * torch.randn_like(tensor) for name, tensor in vit.state_dict().items()}


def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda w: w,
    "module": lambda w: {"epoch": 3, "args": argparse.Namespace(lr=1.0), "state_dict": under("module.", w)},
    "vit": lambda w: under("vit.", w),
    "encoder and a decoder": lambda w: under("encoder.", w) | under("decoder.", w),
    "dino": lambda w: {"student": {}, "teacher": under("module.backbone.", w) | {"module.head.x": torch.ones(1)}},
    "model in model": lambda w: {"model": under("model.", w), "optimizer": {}},
    "with a decoder": lambda w: w | under("decoder_", w),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_known_wrappings_fit(form: str, tmp_path: Path) -> None:
    """The prefixes of training programs are removed, and every tensor comes from the file."""
    weights = tiny_weights()
    torch.save(WRAPPED[form](weights), tmp_path / "x.pth")
    state = load_backbone(TINY_NAME, checkpoint=tmp_path / "x.pth").vit.state_dict()
    assert len(state) == len([name for name in weights if not name.startswith("head.")])
    assert all(torch.equal(tensor, weights[name]) for name, tensor in state.items())


def test_timms_conversions_still_hold(tmp_path: Path) -> None:
    """Position embeddings of another grid, and the names of DINOv2, give what timm gives."""
    weights = tiny_weights()
    torch.save(
        weights | {"pos_embed": torch.randn(1, 1 + 49, TINY_WIDTH), "mask_token": torch.zeros(1)}, tmp_path / "x.pth"
    )
    cfg = {"file": str(tmp_path / "x.pth")}
    timms = timm.create_model(TINY_NAME, pretrained=True, num_classes=0, pretrained_cfg_overlay=cfg).state_dict()
    ours = load_backbone(TINY_NAME, checkpoint=tmp_path / "x.pth").vit.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in timms.items())


def drop(*names: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda weights: [weights.pop(name) for name in names] and None


def quantised(weights: dict[str, Tensor]) -> None:
    weights["blocks.1.mlp.fc2.weight"] = (1000 * weights["blocks.1.mlp.fc2.weight"]).to(torch.int8)


def deeper(weights: dict[str, Tensor]) -> None:
    weights.update(
        {name.replace("blocks.0.", "blocks.12."): t.clone() for name, t in weights.items() if "blocks.0." in name}
    )


def rename(weights: dict[str, Tensor]) -> None:
    for name in list(weights):
        weights["layers/" + name] = weights.pop(name)


def wider(weights: dict[str, Tensor]) -> None:
    weights["blocks.3.mlp.fc1.weight"] = torch.ones(7, 7)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (drop("norm.weight"), ["1 of the model's 150 tensors are not in it (norm.weight)"]),
        (drop("blocks.5.attn.qkv.bias", "cls_token"), ["2 of the model's 150", "blocks.5.attn.qkv.bias"]),
        (rename, ["150 of the model's 150", "152 in it are not of the model (layers/", "backbone.name: NAME"]),
        (quantised, ["1 of 150 have another type", "blocks.1.mlp.fc2.weight: torch.int8 in the file, torch.float32"]),
        (deeper, ["12 in it are not of the model (blocks.12."]),
        (wider, ["1 of 150 have another shape (blocks.3.mlp.fc1.weight: [7, 7] in the file, [768, 192] in the model)"]),
        (lambda weights: weights["blocks.2.norm1.bias"].__setitem__(3, torch.nan), ["NaN", "blocks.2.norm1.bias"]),
        (lambda weights: weights["pos_embed"].fill_(torch.inf), ["infinity", "pos_embed"]),
        (lambda weights: weights.clear(), ["150 of the model's 150"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], None], parts: list[str], tmp_path: Path
) -> None:
    """A backbone is never partly random, cut short or NaN: the message has counts and names of both sides."""
    weights = tiny_weights()
    change(weights)
    save_file(weights, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError) as refused:
        load_backbone(TINY_NAME, checkpoint=tmp_path / "x.safetensors")
    for part in ["x.safetensors", *parts]:
        assert part in str(refused.value)


def as_arrays(weights: dict[str, Tensor], heads: int) -> dict[str, np.ndarray]:
    """The names and shapes of the original JAX archives."""
    arrays = {
        "embedding/kernel": weights["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": weights["patch_embed.proj.bias"],
        "cls": weights["cls_token"],
        "Transformer/posembed_input/pos_embedding": weights["pos_embed"],
        "Transformer/encoder_norm/scale": weights["norm.weight"],
        "Transformer/encoder_norm/bias": weights["norm.bias"],
    }
    blocks = {int(match[1]) for match in (re.match(r"blocks\.(\d+)\.", name) for name in weights) if match}
    for block in blocks:
        ours, theirs = f"blocks.{block}.", f"Transformer/encoderblock_{block}/"
        attention = theirs + "MultiHeadDotProductAttention_1/"
        for number, name in enumerate(("query", "key", "value")):
            kernel = weights[ours + "attn.qkv.weight"].chunk(3)[number].T
            arrays[f"{attention}{name}/kernel"] = kernel.reshape(len(kernel), heads, -1)
            arrays[f"{attention}{name}/bias"] = weights[ours + "attn.qkv.bias"].chunk(3)[number].reshape(heads, -1)
        kernel = weights[ours + "attn.proj.weight"].T
        arrays[attention + "out/kernel"] = kernel.reshape(heads, -1, kernel.shape[1])
        arrays[attention + "out/bias"] = weights[ours + "attn.proj.bias"]
        for norm, number in (("norm1", 0), ("norm2", 2)):
            arrays[f"{theirs}LayerNorm_{number}/scale"] = weights[f"{ours}{norm}.weight"]
            arrays[f"{theirs}LayerNorm_{number}/bias"] = weights[f"{ours}{norm}.bias"]
        for layer in (0, 1):
            arrays[f"{theirs}MlpBlock_3/Dense_{layer}/kernel"] = weights[f"{ours}mlp.fc{layer + 1}.weight"].T
            arrays[f"{theirs}MlpBlock_3/Dense_{layer}/bias"] = weights[f"{ours}mlp.fc{layer + 1}.bias"]
    return {name: array.numpy() for name, array in arrays.items()}


def test_numpy_archives(tiny_backbone: Path, tmp_path: Path) -> None:
    """Original JAX archives load whole; with an array missing, one block too many or NaN they are refused."""
    weights = load_file(tiny_backbone)
    arrays = as_arrays(weights, heads=2)
    file = tmp_path / "x.npz"
    facts = json.loads(tiny_backbone.with_suffix(".json").read_text())

    def loaded(content: dict[str, np.ndarray], **architecture: object) -> dict[str, Tensor]:
        np.savez(file, **content)
        described = facts | {"architecture": facts["architecture"] | architecture}
        file.with_suffix(".json").write_text(json.dumps(described))
        return dict(load_backbone("tiny", checkpoint=file).vit.state_dict())

    state = loaded(arrays)
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())
    with pytest.raises(ConfigError, match=r"8 of the model's \d+ tensors are not in it \(blocks.0.ls1.gamma"):
        loaded(arrays, init_values=0.1)
    with pytest.raises(ConfigError, match=r"x\.npz.*encoderblock_3"):
        loaded(arrays, depth=3)
    arrays["cls"] = arrays["cls"] * np.float32(np.nan)
    with pytest.raises(ConfigError, match=r"x\.npz.*NaN or infinity in the array cls"):
        loaded(arrays)
