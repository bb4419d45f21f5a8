"""Fixtures of the tests of packs."""

from __future__ import annotations

from pathlib import Path

import pytest

from lpt.model import LPT
from small_packs import new_model, write


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> LPT:
    return new_model(tiny_backbone)


@pytest.fixture
def folder(model: LPT, tmp_path: Path) -> Path:
    return write(tmp_path / "pack", model)
