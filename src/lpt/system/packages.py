"""The packages that only some installs have, and the extra of LPT that brings each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lpt.errors import ConfigError

_EXTRAS = {
    "accelerate": ("Accelerate", "train"),
    "fastapi": ("FastAPI", "serve"),
    "jinja2": ("Jinja2", "train"),
    "matplotlib": ("Matplotlib", "train"),
    "onnx": ("ONNX", "export"),
    "onnxruntime": ("ONNX Runtime", "onnx"),
    "onnxscript": ("ONNX Script", "export"),
    "optuna": ("Optuna", "tune"),
    "prometheus_client": ("the Prometheus client", "serve"),
    "pyarrow": ("PyArrow", "parquet"),
    "python_multipart": ("python-multipart", "serve"),
    "ray": ("Ray", "ray"),
    "timm": ("timm", "train"),
    "torch": ("PyTorch", "train"),
    "torchvision": ("torchvision", "train"),
    "uvicorn": ("uvicorn", "serve"),
}
"""Packages that an extra of LPT brings, by the name that Python imports: the name that people know, and the extra."""


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
    if package not in _EXTRAS:
        return None
    name, extra = _EXTRAS[package]
    return ConfigError(f"{user} needs {name}, which is not installed. Next: {install_command(extra)}")


@contextmanager
def explain_missing_packages(user: str) -> Iterator[None]:
    """Raise `missing_package` in place of a failed import in the block."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise (missing_package(error, user) or error) from None
