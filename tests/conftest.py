"""What every test may use."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

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
