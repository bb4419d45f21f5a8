"""Packs changed at random are refused with an error that a user can act on, or give finite predictions."""

from __future__ import annotations

import contextlib
import json
import math
import resource
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console
from safetensors.torch import load, save
from torch import Tensor

import lpt
from lpt.errors import ConfigError, PackError
from lpt.model import FrozenViT
from lpt.packs.files import sha256
from lpt.packs.pack import JSON_NAME, TENSORS_NAME
from lpt.report.pack import print_pack

MOST_MORE_MEMORY = 256 * 2**20
"""Bytes that all of the packs together may take beyond what an untouched one takes."""

QUICK = settings(deadline=None, derandomize=True, max_examples=250, suppress_health_check=[HealthCheck.too_slow])
NUMBERS = st.one_of(
    st.integers(-3, 40),
    st.sampled_from([10**6, 2**31, 2**63, 2**64, 10**30, 10**400, -(10**18)]),
    st.sampled_from([0.0, -1.0, 1e-300, 1e308, -1e308, math.nan, math.inf, -math.inf, 0.5, 1e-7]),
)
TEXTS = st.one_of(
    st.text(max_size=6), st.sampled_from(["", "\ud800", "\x00", "\x1b[2J", "grouped", "deep", "linear", "x" * 20_000])
)
LEAVES = st.one_of(NUMBERS, TEXTS, st.none(), st.booleans())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)


@dataclass(frozen=True)
class Whole:
    """An untouched pack, its parts, and the backbone it belongs to."""

    folder: Path
    values: dict[str, Any]
    tensors: bytes
    backbone: FrozenViT
    image: Image.Image

    def outcome(self, text: bytes, tensors: bytes) -> list[float] | None:
        """Probabilities of an image under a pack with these files; None where it is refused."""
        (self.folder / JSON_NAME).write_bytes(text)
        (self.folder / TENSORS_NAME).write_bytes(tensors)
        refusal = ""
        try:
            pack = lpt.load_pack(self.folder)
            print_pack(pack, Console(quiet=True))
            predictor = lpt.Predictor(self.backbone, pack)
        except (PackError, ConfigError) as error:
            refusal = str(error)
        if refusal:
            assert len(refusal.encode()) < 2500
            assert all(line.isprintable() for line in refusal.splitlines())
            return None
        (prediction,) = predictor.predict([self.image], top_k=len(pack.info.class_names))
        assert set(prediction.classes) == set(pack.info.class_names)
        assert all(0 <= group < pack.info.method.pool_size for group in prediction.groups)
        return list(prediction.probabilities)


@pytest.fixture(scope="module")
def whole(_fitted_run: Path, tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Whole:
    folder = Path(shutil.copytree(_fitted_run / "pack", tmp_path_factory.mktemp("fuzz") / "pack"))
    values = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
    backbone = lpt.load_backbone("tiny", checkpoint=tiny_backbone)
    result = Whole(
        folder, values, (folder / TENSORS_NAME).read_bytes(), backbone, Image.new("RGB", (40, 30), (200, 90, 9))
    )
    assert result.outcome(json.dumps(values).encode(), result.tensors) is not None
    return result


@contextlib.contextmanager
def bounded_memory() -> Iterator[None]:
    """Fail where the process needed much more at any time than before."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MOST_MORE_MEMORY


def check(probabilities: list[float] | None) -> None:
    if probabilities is None:
        return
    assert all(math.isfinite(p) and 0 <= p <= 1 for p in probabilities)
    assert sum(probabilities) == pytest.approx(1, abs=1e-4)


def paths(value: Any, start: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where something stands in nested values."""
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [start, *(path for key, child in children for path in paths(child, (*start, key)))]


def changed(values: Any, path: tuple[Any, ...], change: str, value: Any) -> Any:
    """A copy with the place at a path replaced, deleted, or given a neighbour."""
    if not path:
        return value
    copy = json.loads(json.dumps(values))
    place = copy
    for key in path[:-1]:
        place = place[key]
    if change == "delete":
        del place[path[-1]]
    elif change == "add" and isinstance(place, dict):
        place["unknown"] = value
    elif change == "add":
        place.append(value)
    else:
        place[path[-1]] = value
    return copy


@QUICK
@given(data=st.data())
def test_any_field_of_the_description(whole: Whole, data: st.DataObject) -> None:
    """One to three places of pack.json replaced, deleted or added to, by values of any kind."""
    values = whole.values
    for _ in range(data.draw(st.integers(1, 3))):
        places = paths(values)
        path = data.draw(st.sampled_from(places if data.draw(st.booleans()) else _outside_training(places)))
        values = changed(
            values, path, data.draw(st.sampled_from(["replace", "replace", "delete", "add"])), data.draw(VALUES)
        )
    with bounded_memory():
        check(whole.outcome(json.dumps(values).encode(), whole.tensors))


def _outside_training(places: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Most places are in the training configuration, which nothing is computed from."""
    return [place for place in places if place[:1] != ("training",)]


@pytest.mark.parametrize("size", [0, -1, 10**5, 10**6, 2**31, 2**63, 10**400])
@pytest.mark.parametrize(
    "name",
    [
        "prompt_length",
        "shared_blocks",
        "pool_size",
        "top_k",
        "adapter_size",
        "lora_rank",
        "last_blocks",
        "trainable_parameters",
    ],
)
def test_sizes_are_compared_before_anything_is_made(whole: Whole, name: str, size: int) -> None:
    """A size in the description allocates nothing of that size."""
    values = changed(whole.values, ("method", name), "replace", size)
    with bounded_memory():
        result = whole.outcome(json.dumps(values).encode(), whole.tensors)
    unused = name in ("lora_rank", "prompt_length") and size == 0
    assert result is None or unused or name == "last_blocks"


@pytest.mark.parametrize("size", [[10**6, 10**6], [4096, 4096], [0, 32], [32], [32, 32, 32], [33, 32]])
def test_input_sizes_are_bounded(whole: Whole, size: list[int]) -> None:
    """Positions are only resampled to sizes that fit the backbone."""
    values = changed(whole.values, ("preprocessing", "size"), "replace", size)
    with bounded_memory():
        assert whole.outcome(json.dumps(values).encode(), whole.tensors) is None


def _tensor_change(data: st.DataObject, tensors: dict[str, Tensor]) -> None:
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name]
    flat = tensor.flatten()
    index = data.draw(st.integers(0, max(len(flat) - 1, 0)))
    kind = data.draw(st.sampled_from(["bit", "value", "all", "shape", "dtype", "missing", "extra", "rename", "bigger"]))
    if kind == "bit":
        flat.view(torch.int32)[index] ^= torch.tensor(1 << data.draw(st.integers(0, 30)), dtype=torch.int32)
    elif kind in ("value", "all"):
        value = data.draw(st.sampled_from([math.nan, math.inf, -math.inf, 0.0, 1e38, -1e20, 1e14, 1e-45]))
        flat[index if kind == "value" else slice(None)] = value
    elif kind == "shape":
        tensors[name] = flat.reshape(
            data.draw(st.sampled_from([(-1,), (1, -1), (-1, 1), tensor.shape[::-1]]))
        ).contiguous()
        return
    elif kind == "dtype":
        tensors[name] = tensor.to(data.draw(st.sampled_from([torch.float16, torch.float64, torch.int32, torch.bool])))
        return
    elif kind == "bigger":
        tensors[name] = torch.cat([tensor, tensor])
        return
    elif kind == "extra":
        tensors[data.draw(st.sampled_from(["x", "head.bias", "weights.norm/bias", ""]))] = torch.zeros(2)
        return
    else:
        del tensors[name]
        if kind == "rename":
            tensors[name + "s"] = tensor
        return
    tensors[name] = flat.reshape(tensor.shape)


@QUICK
@given(data=st.data())
def test_any_tensor_with_its_hash_made_to_match(whole: Whole, data: st.DataObject) -> None:
    """Flipped bits, NaN and huge numbers, other shapes, types and names, with a matching sha256."""
    tensors = {name: tensor.clone() for name, tensor in load(whole.tensors).items()}
    _tensor_change(data, tensors)
    content = save(tensors)
    values = changed(whole.values, ("tensors_sha256",), "replace", sha256(content))
    if data.draw(st.booleans()):  # as from before the reference knew all prompts and keys
        values["reference"] = {name: values["reference"][name] for name in ("variant", "classes", "cosines")}
    with bounded_memory():
        check(whole.outcome(json.dumps(values).encode(), content))


@QUICK
@given(data=st.data())
def test_any_bytes_of_either_file(whole: Whole, data: st.DataObject) -> None:
    """Truncated, overwritten and lengthened files; the sha256 of the tensors is made to match."""
    text, tensors = bytearray(json.dumps(whole.values).encode()), bytearray(whole.tensors)
    file = data.draw(st.sampled_from([text, tensors]))
    kind = data.draw(st.sampled_from(["cut", "overwrite", "append", "insert"]))
    place = data.draw(st.integers(0, min(len(file), 600) if data.draw(st.booleans()) else len(file)))
    thrown = data.draw(st.binary(min_size=1, max_size=12))
    if kind == "cut":
        del file[place:]
    elif kind == "overwrite":
        file[place : place + len(thrown)] = thrown
    else:
        position = place if kind == "insert" else len(file)
        file[position:position] = thrown
    whole_hash = str(whole.values["tensors_sha256"]).encode()
    with bounded_memory():
        check(whole.outcome(bytes(text).replace(whole_hash, sha256(bytes(tensors)).encode()), bytes(tensors)))
