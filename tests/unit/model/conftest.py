"""Fixtures of the tests of models."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from strangers import Evil


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that evil pickles make; the plain unpickler is shown to make it."""
    path = tmp_path / "marker"
    pickle.loads(pickle.dumps(Evil(path)))
    assert path.exists()
    path.unlink()
    return path
