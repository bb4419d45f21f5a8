"""The tensors of a pack in the form in which an exported backbone takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from lpt.config.architecture import Architecture
from lpt.data.manifest import Float32Array

Arrays = dict[str, npt.NDArray[Any]]
_SHORTEST = np.float32(1e-12)


def pack_arrays(
    method: Architecture, tensors: Mapping[str, Float32Array], depth: int, width: int, *, group_prompts: bool
) -> Arrays:
    """Return the inputs of `backbone.onnx` that a pack gives, by name.

    Args:
        method: the sizes of a method that leaves the backbone's own weights as they are.
        tensors: the tensors of the pack.
        depth, width: blocks L and token width D of the backbone.
        group_prompts: whether the pack uses its group prompts.
    """
    arrays = _prompts(method, tensors, depth, width) | _adapters(method, tensors, depth, width)
    arrays |= _groups(method, tensors, depth, width) if group_prompts else _one_pass(method, depth, width)
    cosine = method.head == "cosine"
    head = tensors["head.weight"]
    bias = np.zeros(len(head), dtype=np.float32) if cosine else tensors["head.bias"]
    if cosine:
        head = unit_length(head)
        if (scale := tensors.get("head.scale")) is not None:
            head[-len(scale) :] *= scale[:, None]
    arrays |= {"head": head.T, "head_bias": bias, "cosine": np.array(cosine)}
    return {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in arrays.items()}


def unit_length(vectors: Float32Array) -> Float32Array:
    """Scale vectors to length 1, [..., D]; a vector of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, _SHORTEST), dtype=np.float32)


def _prompts(method: Architecture, tensors: Mapping[str, Float32Array], depth: int, width: int) -> Arrays:
    """Return prompts for every block, and those that enter before the first block."""
    shared, extra = _zeros(depth, 0, width), _zeros(1, 0, width)
    if method.prompts in ("grouped", "deep"):
        shared = tensors["shared.tokens"]
    elif method.prompts == "shallow":
        extra = tensors["shared.tokens"]
    return {"shared": shared, "extra": extra}


def _groups(method: Architecture, tensors: Mapping[str, Float32Array], depth: int, width: int) -> Arrays:
    """Return the pool and its keys, and which blocks the two passes run."""
    prompts = tensors["groups.prompts"]
    shared_blocks = depth - prompts.shape[1]
    return {
        "group_prompts": prompts,
        "keys": unit_length(tensors["groups.keys"]),
        "picks": _zeros(method.top_k),
        "shared_blocks": np.array(shared_blocks),
        "query_blocks": np.array(shared_blocks if method.query == "prefix" else depth),
    }


def _one_pass(method: Architecture, depth: int, width: int) -> Arrays:
    """Return a pool of nothing, and that the first pass runs all blocks and the second none."""
    length = method.prompt_length if method.prompts in ("grouped", "deep") else 0
    pool: Arrays = {"group_prompts": _zeros(1, 1, length, width), "keys": _zeros(1, width), "picks": _zeros(1)}
    return pool | {"shared_blocks": np.array(depth), "query_blocks": np.array(depth)}


def _adapters(method: Architecture, tensors: Mapping[str, Float32Array], depth: int, width: int) -> Arrays:
    """Return the adapters, with the weights of their norm in the first matrix and their scale in the second."""
    flags = {"adapters": np.array(bool(method.adapter_size)), "adapter_norm": np.array(method.adapter_norm)}
    if not method.adapter_size:
        arrays = {"down": _zeros(depth, width, 0), "down_bias": _zeros(depth, 0)}
        return arrays | {"up": _zeros(depth, 0, width), "up_bias": _zeros(depth, width)} | flags
    down, down_bias = tensors["adapters.down"], tensors["adapters.down_bias"]
    if method.adapter_norm:
        weight, bias = tensors["adapters.norm"]
        down_bias = down_bias + np.einsum("lrd,ld->lr", down, bias)
        down = down * weight[:, None]
    fixed = np.full(depth, method.adapter_scale, dtype=np.float32) if method.adapter_scale is not None else None
    scale = tensors["adapters.scale"] if fixed is None else fixed
    return {
        "down": down.transpose(0, 2, 1),
        "down_bias": down_bias,
        "up": tensors["adapters.up"].transpose(0, 2, 1) * scale[:, None, None],
        "up_bias": tensors["adapters.up_bias"] * scale[:, None],
        **flags,
    }


def _zeros(*shape: int) -> Float32Array:
    return np.zeros(shape, dtype=np.float32)
