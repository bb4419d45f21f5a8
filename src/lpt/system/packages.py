"""The packages that only some installs have, and the extra of LPT that brings each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lpt.errors import ConfigError

_TRAIN = {
    "accelerate": "Accelerate",
    "matplotlib": "Matplotlib",
    "timm": "timm",
    "torch": "PyTorch",
    "torchvision": "torchvision",
}
"""Packages of the extra `train`, by the name that Python imports, with the name that people know."""


def install_command(extra: str) -> str:
    """Return the command that installs an extra of LPT, for messages."""
    return f"pip install '.[{extra}]' in the folder of LPT"


def missing_package(error: ModuleNotFoundError, user: str) -> ConfigError | None:
    """Return the error that says which install `user` needs; None where no extra of LPT brings the package.

    Args:
        error: the failed import.
        user: what needs the package: a command such as `lpt fit`, or a Python name such as `lpt.fit`.
    """
    package = (error.name or "").partition(".")[0]
    if package not in _TRAIN:
        return None
    return ConfigError(f"{user} needs {_TRAIN[package]}, which is not installed. Next: {install_command('train')}")


@contextmanager
def explain_missing_packages(user: str) -> Iterator[None]:
    """Raise `missing_package` in place of a failed import in the block."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise (missing_package(error, user) or error) from None
