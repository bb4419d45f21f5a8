"""A file in the cache of the hub that was cut off: the message names it, and how to get it again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from lpt.errors import ConfigError
from lpt.model import pretrained
from lpt.model.pretrained import cached_backbones, load_backbone

NAME = "vit_tiny_patch16_224.augreg_in21k"
OTHER = "vit_small_patch16_224.augreg_in21k"
REVISION = "0" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that is used offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(pretrained, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def store(hub: Path, repository: str, name: str, content: bytes) -> Path:
    """Store a file as the hub does: a link in a snapshot to a blob, whose path is returned."""
    folder = hub / f"models--{repository.replace('/', '--')}"
    blob, link = folder / "blobs" / f"blob-{name}", folder / "snapshots" / REVISION / name
    for path in (blob, link, folder / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    (folder / "refs" / "main").write_text(REVISION)
    return blob


def weights(tmp_path: Path, name: str) -> bytes:
    state = timm.create_model(NAME, num_classes=0).state_dict()
    file = tmp_path / f"whole-{name}"
    if name.endswith(".safetensors"):
        save_file(state, file)
    else:
        torch.save(state, file)
    return file.read_bytes()


@pytest.mark.parametrize("kept", [0, 3, 1000, 0.5, 0.999])
@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_cut_weights(name: str, kept: float, hub: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    whole = weights(tmp_path_factory.mktemp("whole"), name)
    store(hub, f"timm/{OTHER}", "model.safetensors", b"not used")
    blob = store(hub, f"timm/{NAME}", name, whole[: int(kept * len(whole)) if 0 < kept < 1 else int(kept)])
    with pytest.raises(ConfigError) as failure:
        load_backbone(NAME)
    message = str(failure.value)
    assert f"delete {blob}" in message
    assert "downloaded again" in message
    assert "choose one of these" not in message
    blob.write_bytes(whole)  # as the download does
    assert load_backbone(NAME).depth == 12


def test_cut_description(hub: Path) -> None:
    facts = json.dumps({"architecture": "vit_tiny_patch16_224", "num_classes": 0, "pretrained_cfg": {}}).encode()
    blob = store(hub, "somebody/vit", "config.json", facts[:40])
    with pytest.raises(ConfigError, match="somebody/vit") as failure:
        load_backbone("hf-hub:somebody/vit")
    assert f"delete {blob}" in str(failure.value)


def test_a_model_whose_weights_are_gone_is_not_advised(hub: Path) -> None:
    store(hub, f"timm/{OTHER}", "model.safetensors", b"x")
    store(hub, f"timm/{NAME}", "model.safetensors", b"x").unlink()
    assert cached_backbones() == [OTHER]
    with pytest.raises(ConfigError) as failure:
        load_backbone(NAME)
    assert f"In the local cache {hub}: {OTHER}.\n" in str(failure.value)


def test_the_model_that_failed_is_not_advised(hub: Path) -> None:
    """Its weights are there, under a name that is not the one that timm asks for."""
    store(hub, f"timm/{NAME}", "other.safetensors", b"x")
    with pytest.raises(ConfigError, match="no other timm model"):
        load_backbone(NAME)


def test_local_weights_are_not_to_be_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(weights(tmp_path, "model.safetensors")[:5000])
    with pytest.raises(ConfigError, match=r"cut\.safetensors") as failure:
        load_backbone(NAME, checkpoint=tmp_path / "cut.safetensors")
    assert "downloaded again" not in str(failure.value)
