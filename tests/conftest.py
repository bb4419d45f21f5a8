"""What every test may use."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

TESTS = Path(__file__).resolve().parent
if str(TESTS) not in sys.path:  # so that `from oracle import ...` works under every import mode of pytest
    sys.path.insert(0, str(TESTS))


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder `shared` beside the repository: golden numbers, weights and images that are not part of it."""
    path = TESTS.parent.parent / "shared"
    if not path.is_dir():
        pytest.skip(f"needs the folder shared beside the repository, and {path} does not exist")
    return path


@pytest.fixture(scope="session")
def tiny_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small random backbone (32x32 images, patch 8, D = 32, L = 4), its architecture beside it."""
    folder = tmp_path_factory.mktemp("backbone")
    architecture = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2, "weight_init": "jax"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vit = VisionTransformer(**architecture, num_classes=0)
    save_file(vit.state_dict(), folder / "tiny.safetensors")
    facts = {"name": "tiny", "architecture": architecture, "mean": [0.5] * 3, "std": [0.5] * 3, "license": "apache-2.0"}
    (folder / "tiny.json").write_text(json.dumps(facts), encoding="utf-8")
    return folder / "tiny.safetensors"
