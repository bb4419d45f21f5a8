"""Weights from the hub: a download is told before it begins, and messages name only what is true and can be done."""

from __future__ import annotations

import contextlib
import json
import socket
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from safetensors.torch import save_file

from fake_hub import point_to, running_hub
from lpt.errors import ConfigError
from lpt.model import pretrained
from lpt.model.pretrained import cached_backbones, load_backbone
from lpt.system.notices import notices_to

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
    with pytest.raises(ConfigError, match="HF_HUB_OFFLINE forbids to download") as failure:
        load_backbone(NAME)
    assert "In the local cache" not in str(failure.value)
    assert "choose" not in str(failure.value)


def test_a_download_is_told_before_it_begins(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once, with its size, before anything is asked of the hub; what is in the cache is not downloaded."""
    told: list[tuple[str, int]] = []
    with running_hub() as server:
        server.add(
            f"timm/{NAME}", {"model.safetensors": weights(tmp_path_factory.mktemp("whole"), "model.safetensors")}
        )
        point_to(server.url, tmp_path, monkeypatch)
        for _ in range(2):
            with notices_to(lambda text: told.append((text, len(server.requests)))):
                load_backbone(NAME)
    # with the head of ImageNet-21k, which is stored on the real hub
    assert told == [(f"Downloading the backbone {NAME} from the Hugging Face Hub (about 37.2 MiB) ...", 0)]


@pytest.mark.parametrize("name", [NAME, "hf-hub:somebody/vit"])
def test_a_hub_that_never_answers_is_given_up_soon(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One bounded try of one file, in place of seven for each of five; `HF_HUB_OFFLINE` is not blamed."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        point_to(f"http://127.0.0.1:{silent.getsockname()[1]}", tmp_path, monkeypatch)
        monkeypatch.setattr(pretrained, "HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 0.25)
        with pytest.raises(ConfigError, match=r"cannot be reached: it did not answer within 0\.5 s") as failure:
            load_backbone(name)
        message = str(failure.value)
        assert "check the connection, copy the cache of a machine" in message
        assert "HF_HUB_OFFLINE" not in message
        assert "choose" not in message
        silent.setblocking(False)
        asked = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                asked += 1
        assert 1 <= asked <= 2


def test_local_weights_are_not_to_be_downloaded_again(tmp_path: Path) -> None:
    (tmp_path / "cut.safetensors").write_bytes(weights(tmp_path, "model.safetensors")[:5000])
    with pytest.raises(ConfigError, match=r"cut\.safetensors") as failure:
        load_backbone(NAME, checkpoint=tmp_path / "cut.safetensors")
    assert "downloaded again" not in str(failure.value)
