"""What every test may use."""

from __future__ import annotations

import compileall
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

# Tiny tensors gain nothing from threads, and spinning threads of several test processes would take each other's cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # the same for runs that take all cores themselves
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.pop("COLUMNS", None)  # pytest-xdist sets it; what is printed to files has a width of its own

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

TESTS = Path(__file__).resolve().parent
if str(TESTS) not in sys.path:  # so that `from oracle import ...` works under every import mode of pytest
    sys.path.insert(0, str(TESTS))

from ray_cluster import (  # noqa: E402
    end_ray_cluster,
    kills_node,
    mortal_node,  # noqa: F401  (a fixture of all tests, as the next)
    needs_ray_cluster,
    ray_cluster,  # noqa: F401
)


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once: with PYTHONDONTWRITEBYTECODE, each of a hundred processes would spend seconds on it."""
    if not hasattr(config, "workerinput"):  # in the first process, before pytest-xdist starts others
        compileall.compile_dir(TESTS.parent / "src", quiet=2)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests that need a Ray cluster first: pytest-xdist gives them to one worker, so that one is started.

    Of these, the tests that kill a node come last.
    """
    items.sort(key=lambda item: (not needs_ray_cluster(item), kills_node(item)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """End the Ray cluster after the last test that needs it."""
    yield
    if needs_ray_cluster(item) and not needs_ray_cluster(nextitem):
        end_ray_cluster()


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


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small JPEGs of three uneven classes, the classes told apart by brightness: train/ and test/. Do not change it."""
    root = tmp_path_factory.mktemp("data") / "photos"
    random = np.random.default_rng(0)
    for split, counts in (("train", (8, 4, 2)), ("test", (2, 2, 2))):
        for label, (name, count) in enumerate(zip(("dark", "grey", "light"), counts, strict=True)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 40, (36 + number, 40, 3)) + 90 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.jpg")
    return root


@pytest.fixture(scope="session")
def _fitted_run(photo_folder: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import lpt
    from samples import tiny_settings

    settings = tiny_settings(tiny_backbone)
    return lpt.fit(photo_folder, tmp_path_factory.mktemp("run") / "run", preset="laptop", settings=settings).folder


@pytest.fixture
def fitted_run(_fitted_run: Path, tmp_path: Path) -> Path:
    """A copy of a finished run on `photo_folder`, to be changed at will."""
    return Path(shutil.copytree(_fitted_run, tmp_path / "runs" / "photos"))
