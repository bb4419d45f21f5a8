"""Read the files of a pack without trusting them: their size is bounded, and all is checked before it is used."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from lpt.data.manifest import Float32Array
from lpt.errors import PackError
from lpt.model.shapes import Shape
from lpt.system.files import open_regular

MOST_JSON_BYTES = 16 * 2**20
MOST_HEADER_BYTES = 2**20
MOST_DEPTH = 20
MOST_KEYS = 10_000
MOST_CONTAINERS = 200_000
LARGEST_NUMBER = 1e15
"""Largest number in a trained tensor: a sum of some thousand squares of it still fits float32."""
_AGAIN = "Copy the pack again."


def open_file(path: Path) -> BufferedReader:
    """Open a file for reading; a pipe in its place does not block.

    Raises:
        PackError: the file is missing, cannot be read, or is not a regular file.
    """
    try:
        return open_regular(path)
    except (OSError, ValueError) as error:
        raise PackError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}. {_AGAIN}") from None


def read_json(path: Path) -> tuple[bytes, Any]:
    """Return the bytes and the values of a JSON file; its size and depth are bounded.

    Raises:
        PackError: the file cannot be read, is not strict JSON, or holds a key twice.
    """
    content = _read(path, MOST_JSON_BYTES)
    if content.count(b"[") + content.count(b"{") > MOST_CONTAINERS:
        raise PackError(f"{path} is damaged: it holds more than {MOST_CONTAINERS:,} lists and objects. {_AGAIN}")
    try:
        return content, _strict_json(content)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)[:300]
        raise PackError(f"{path} is damaged: {reason}. {_AGAIN}") from None


def read_tensors(
    path: Path, expected_hash: str, fault_of: Callable[[Mapping[str, Shape]], str]
) -> dict[str, Float32Array]:
    """Read a safetensors file; its header is checked before any tensor is made.

    Args:
        path: the file.
        expected_hash: its sha256.
        fault_of: describes what is wrong with names and shapes; empty if nothing is.

    Raises:
        PackError: the file cannot be read, is damaged, does not fit, or holds NaN, infinity or huge numbers.
    """
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            try:
                shapes = _header(file, size)
                fault = fault_of(shapes)
            except (ValueError, RecursionError) as error:
                fault = f"is damaged: {str(error)[:300]}"
            file.seek(0)
            content = b"" if fault else file.read(size + 1)
            digest = hashlib.file_digest(file, "sha256").hexdigest() if fault else sha256(content)
        except OSError as error:
            raise PackError(f"cannot read {path}: {error.strerror}. {_AGAIN}") from None
    if digest != expected_hash:
        raise PackError(
            f"{path} is damaged ({size} bytes): its sha256 is {digest}, pack.json says {expected_hash}. {_AGAIN}"
        )
    if fault:
        raise PackError(f"{path} {fault}")
    try:
        tensors: dict[str, Float32Array] = load(content)
    except (SafetensorError, ValueError) as error:
        raise PackError(f"{path} is damaged: {error}. {_AGAIN}") from None
    for name, array in tensors.items():
        if fault := number_fault(array):
            raise PackError(f"{path} is damaged: the tensor {name} {fault}. {_AGAIN}")
    return tensors


def number_fault(array: Float32Array) -> str:
    """Describe what is wrong with the numbers of a trained tensor; empty if nothing is."""
    if not array.size:
        return ""
    low, high = float(array.min()), float(array.max())  # NaN if one number is NaN
    if not (math.isfinite(low) and math.isfinite(high)):
        return f"holds {int((~np.isfinite(array)).sum()):,} numbers that are not finite, of {array.size:,}"
    if max(-low, high) > LARGEST_NUMBER:
        return f"holds the number {max(high, low, key=abs):g}; at most {LARGEST_NUMBER:g} is accepted"
    return ""


def sha256(content: bytes) -> str:
    """Return the hexadecimal sha256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def count_numbers(content: bytes) -> int:
    """Return how many float32 numbers the bytes of a safetensors file hold."""
    return (len(content) - 8 - int.from_bytes(content[:8], "little")) // 4


def _header(file: BufferedReader, size: int) -> dict[str, Shape]:
    """Return the shapes that the header of a safetensors file lists; float32 numbers must fill the rest of the file."""
    length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= min(MOST_HEADER_BYTES, size - 8):
        raise ValueError(f"its header cannot have {length} bytes, of {size}")
    header = _strict_json(file.read(length))
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    header.pop("__metadata__", None)
    shapes = {name: _shape(name, entry) for name, entry in header.items()}
    numbers = sum(math.prod(shape) for shape in shapes.values())
    if 8 + length + 4 * numbers != size:
        raise ValueError(f"its header lists {numbers:,} numbers of float32, but {size - 8 - length} bytes follow it")
    return shapes


def _shape(name: str, entry: Any) -> Shape:
    shape = entry.get("shape") if isinstance(entry, dict) else None
    if not isinstance(shape, list) or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"its tensor {name[:80]!a} has no shape")
    if entry.get("dtype") != "F32":
        raise ValueError(f"its tensor {name[:80]!a} is of {str(entry.get('dtype'))[:20]}; F32 is accepted")
    return tuple(shape)


def _read(path: Path, most: int) -> bytes:
    with open_file(path) as file:
        try:
            content = file.read(min(os.fstat(file.fileno()).st_size, most) + 1)
        except OSError as error:
            raise PackError(f"cannot read {path}: {error.strerror}. {_AGAIN}") from None
    if len(content) > most:
        raise PackError(f"{path} is damaged: it is larger than {most / 2**20:.0f} MiB. {_AGAIN}")
    return content


def _strict_json(content: bytes) -> Any:
    values = json.loads(content.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant)
    level = [values]
    for _ in range(MOST_DEPTH):
        if not level:
            return values
        level = [
            child
            for value in level
            if isinstance(value, dict | list)
            for child in (value.values() if isinstance(value, dict) else value)
        ]
    if level:
        raise ValueError(f"it is nested more than {MOST_DEPTH} deep")
    return values


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MOST_KEYS:
        raise ValueError(f"an object has {len(pairs):,} keys; at most {MOST_KEYS:,} are accepted")
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ValueError(f"the key {key[:40]!a} occurs more than once")
        values[key] = value
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number that JSON knows")
