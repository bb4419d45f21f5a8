"""Two small packs, and an app that serves them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI

from lpt.serving import create_app
from small_packs import new_model, write


@pytest.fixture(scope="session")
def _packs(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    for seed, name in enumerate(("birds", "cranes")):
        write(folder / name, new_model(tiny_backbone, seed=seed))
    return folder


@pytest.fixture
def packs(_packs: Path, tmp_path: Path) -> Path:
    """A folder of two packs, to be changed at will."""
    return Path(shutil.copytree(_packs, tmp_path / "packs"))


@pytest.fixture
def new_app(packs: Path, tiny_backbone: Path) -> Callable[..., FastAPI]:
    """Make an app of the two packs; options as for `create_app`."""

    def make(**options: Any) -> FastAPI:
        return create_app(packs, **{"checkpoint": tiny_backbone, "device": "cpu", "hosts": ["testserver"], **options})

    return make


@pytest.fixture
def app(new_app: Callable[..., FastAPI]) -> FastAPI:
    return new_app()
