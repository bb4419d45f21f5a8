"""The folder of an exported backbone: what its files are called, and how they are read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load

from lpt.config.bounds import Sha256, Side, Text
from lpt.config.faults import faults
from lpt.data.manifest import Float32Array
from lpt.errors import ConfigError
from lpt.model.record import BackboneRecord
from lpt.packs.files import read_json, sha256
from lpt.system.files import read_regular

DESCRIPTION, POSITIONS, GRAPH = "backbone.json", "positions.safetensors", "backbone.onnx"
KIND = "lpt-onnx-backbone"
Number = Annotated[int, Field(ge=1, le=1_000_000)]


class BackboneExport(BaseModel):
    """The description of an exported backbone, as stored in `backbone.json`.

    Args:
        backbone: record of the weights.
        depth, width: blocks L and token width D.
        patch: height and width of a patch, pixels.
        prefix_tokens: tokens before those of the patches, the class token first.
        graph_sha256, positions_sha256: of the files beside it.
        opset: version of ONNX's operators.
        versions: versions of the software that wrote it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["lpt-onnx-backbone"] = "lpt-onnx-backbone"
    format_version: Literal[1] = 1
    backbone: BackboneRecord
    depth: Number
    width: Number
    patch: tuple[Side, Side]
    prefix_tokens: Number
    graph_sha256: Sha256
    positions_sha256: Sha256
    opset: Number
    versions: dict[Text, Text]


def is_exported(backbone: object) -> bool:
    """Return whether a backbone is given as the folder of an exported one."""
    return isinstance(backbone, str | Path) and (Path(backbone) / DESCRIPTION).is_file()


def read_export(folder: Path) -> tuple[BackboneExport, bytes, Float32Array]:
    """Read the files of an exported backbone: description, graph, and position embeddings [1, D, rows, columns].

    Raises:
        ConfigError: one is missing or damaged.
        PackError: the description is no JSON.
    """
    if not (folder / DESCRIPTION).is_file():
        raise ConfigError(
            f"backbone: {folder} is no exported backbone: it has no {DESCRIPTION}. Give the folder that "
            "lpt export wrote for a backbone"
        )
    content, _ = read_json(folder / DESCRIPTION)
    try:
        description = BackboneExport.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise ConfigError(f"{folder / DESCRIPTION} is not that of an export of this lpt: {faults(error)}") from None
    graph = _verified(folder / GRAPH, description.graph_sha256)
    try:
        positions = load(_verified(folder / POSITIONS, description.positions_sha256))["positions"]
    except (SafetensorError, KeyError) as error:
        raise ConfigError(f"{folder / POSITIONS} is damaged: {error}. Export the backbone again") from None
    if positions.dtype != np.float32 or positions.ndim != 4 or positions.shape[:2] != (1, description.width):
        raise ConfigError(f"{folder / POSITIONS} does not fit {DESCRIPTION}. Export the backbone again")
    return description, graph, positions


def _verified(file: Path, expected: str) -> bytes:
    """Return the bytes of a file with this sha256."""
    try:
        content = read_regular(file)
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror or error}. Export the backbone again") from None
    if (digest := sha256(content)) != expected:
        raise ConfigError(
            f"{file} is damaged ({len(content)} bytes): its sha256 is {digest}, {DESCRIPTION} says {expected}. Copy it "
            "again, or export the backbone again"
        )
    return content
