"""The engine on ONNX Runtime, which needs no PyTorch: any number of packs on one exported backbone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lpt.data.array_transforms import UInt8Array
from lpt.data.manifest import Float32Array
from lpt.errors import ConfigError, PackError, RunError
from lpt.packs.engine import LoadedPack, Output
from lpt.packs.exported import read_export
from lpt.packs.pack import Pack
from lpt.packs.pack_arrays import Arrays, pack_arrays, unit_length
from lpt.packs.positions import resample
from lpt.packs.reference_image import ReferenceOutput, mixing_weights, reference_array
from lpt.system.hardware import cores_here
from lpt.system.onnx_runtime import onnxruntime

MOST_IMAGES = 4
"""Most images of a run, each view counted: larger batches gain nothing on a CPU and take memory."""
MOST_ENLARGED = 16
"""Largest side of an input, as a multiple of the side that the backbone was trained at."""


class OnnxPack:
    """A pack in the form in which the graph takes it, made once."""

    note = ""

    def __init__(self, pack: Pack, values: Mapping[str, Any], grid: tuple[int, int]) -> None:
        self.pack = pack
        self.values = values
        self.grid = grid


class OnnxEngine:
    """An exported backbone in ONNX Runtime, on the CPU.

    Args:
        folder: what `lpt export --backbone` wrote.
        device: auto or cpu.
        precision: auto or fp32.

    Raises:
        ConfigError: the folder is damaged or holds something else, or an argument is not accepted.
    """

    name, device, precision = "onnx", "cpu", "float32"

    def __init__(self, folder: str | Path, *, device: str = "auto", precision: str = "auto") -> None:
        for argument, given, accepted in (("device", device, "cpu"), ("precision", precision, "fp32")):
            if given not in ("auto", accepted):
                raise ConfigError(f"{argument}: {given!r} is not accepted with engine onnx; choose auto or {accepted}")
        self.folder = Path(folder)
        self._description, graph, self._positions = read_export(self.folder)
        self._resampled: dict[tuple[int, int], Any] = {}
        try:
            self._session = onnxruntime.InferenceSession(graph, _options(), providers=["CPUExecutionProvider"])
        except Exception as error:  # ONNX Runtime raises many kinds of errors
            raise ConfigError(self._failed("load", error)) from None

    @property
    def backbone_hash(self) -> str:
        """sha256 over the weights of the backbone, from before the export."""
        return self._description.backbone.weight_hash

    def load(self, pack: Pack) -> OnnxPack:
        """Verify a pack and make it ready.

        Raises:
            PackError: it belongs to other weights, has trained weights of the backbone, does not fit, or gives other
                outputs.
        """
        description, info = self._description, pack.info
        pack.check_hash(description.backbone.weight_hash, description.backbone.name)
        if info.method.weights != "none" or info.method.lora_rank:
            raise PackError(
                f"the pack {pack.path} has weights of the backbone that were trained too (method {info.method.name}), "
                "which an exported backbone cannot take. Next: export the pack whole (lpt export PACK), or take "
                "engine torch"
            )
        try:
            pack.check_shapes(description.depth, description.width, {})
            _check_blocks(pack, description.depth)
        except ConfigError as error:
            raise PackError(f"the pack {pack.path} does not fit its description: {error}") from None
        arrays = pack_arrays(
            info.method,
            pack.tensors,
            description.depth,
            description.width,
            group_prompts=info.uses_group_prompts,
        )
        loaded = OnnxPack(pack, _values(arrays), self._grid(pack))
        pack.check_reference(self._reference(loaded, arrays))
        return loaded

    def run(self, batch: Sequence[tuple[LoadedPack, UInt8Array]], *, attention: bool = False) -> list[Output]:
        """Classify images, each with its pack; see `Engine.run`."""
        rows: dict[int, list[int]] = {}
        for number, (loaded, _) in enumerate(batch):
            rows.setdefault(id(loaded), []).append(number)
        outputs: dict[int, Output] = {}
        for numbers in rows.values():
            pack = batch[numbers[0]][0]
            assert isinstance(pack, OnnxPack)
            size = max(MOST_IMAGES // pack.pack.info.preprocessing.test_views, 1)
            for start in range(0, len(numbers), size):
                part = numbers[start : start + size]
                given = self._classify(pack, np.stack([batch[number][1] for number in part]), attention)
                outputs.update(zip(part, given, strict=True))
        return [outputs[number] for number in range(len(batch))]

    def _classify(self, loaded: OnnxPack, pixels: UInt8Array, attention: bool) -> list[Output]:
        """Classify images of a pack, uint8 [B, 3, height, width] or [B, V, 3, height, width]."""
        views = pixels.shape[1] if pixels.ndim == 5 else 1
        flat = pixels.reshape(-1, *pixels.shape[-3:])
        images = loaded.pack.info.preprocessing.normalize_array(flat)
        names = ("scores", "groups", "attention") if attention else ("scores", "groups")
        results = self._run(loaded, images, names)
        scores = results[0].reshape(len(pixels), views, -1).mean(axis=1)
        if loaded.pack.info.uses_group_prompts:
            groups = [tuple(row) for row in results[1][::views].tolist()]
        else:
            groups = [()] * len(pixels)
        maps: list[Float32Array | None] = [None] * len(pixels)
        if attention:
            first, (rows, columns) = self._description.prefix_tokens, loaded.grid
            maps = list(results[2][::views, first : first + rows * columns].reshape(-1, rows, columns))
        return [Output(*row) for row in zip(scores, groups, maps, strict=True)]

    def _run(
        self, loaded: OnnxPack, images: Float32Array, names: Sequence[str], changed: Mapping[str, Any] | None = None
    ) -> list[npt.NDArray[Any]]:
        """Run the graph on normalised images with the inputs of a pack, some of which may be changed."""
        positions = self._resampled.get(loaded.grid)
        if positions is None:
            positions = self._resampled[loaded.grid] = _value(resample(self._positions, loaded.grid))
        values = {**loaded.values, **(changed or {}), "images": _value(images), "positions": positions}
        try:
            results = self._session.run_with_ort_values(list(names), values)
        except Exception as error:  # as above: no memory, or a graph that lpt did not write
            raise RunError(self._failed("run", error)) from None
        return [result.numpy() for result in results]

    def _failed(self, verb: str, error: Exception) -> str:
        reason = " ".join(str(error).split())[:300]
        return f"ONNX Runtime {onnxruntime.__version__} cannot {verb} {self.folder}: {reason}"

    def _reference(self, loaded: OnnxPack, arrays: Arrays) -> ReferenceOutput:
        """Return the output for the reference image of a pack; see `lpt.packs.reference.reference_output`."""
        info, stored = loaded.pack.info, loaded.pack.info.reference
        image = reference_array(info.preprocessing.size, stored.variant)
        scores, query = self._run(loaded, image, ("scores", "query"))
        cosines = scores[0, stored.classes].tolist()
        if not info.uses_group_prompts:
            return ReferenceOutput(cosines)
        prompts, keys = arrays["group_prompts"], arrays["keys"]
        mixed = np.tensordot(mixing_weights(len(prompts)).astype(np.float32), prompts, axes=1)[None]
        pool = _values({"group_prompts": mixed, "keys": keys[:1], "picks": np.zeros(1, dtype=np.float32)})
        (under_mixed,) = self._run(loaded, image, ("scores",), pool)
        return ReferenceOutput(
            cosines, under_mixed[0, stored.classes].tolist(), (unit_length(query[0]) @ keys.T).tolist()
        )

    def _grid(self, pack: Pack) -> tuple[int, int]:
        """Return the patches of an image of a pack, rows and columns.

        Raises:
            PackError: its input size does not fit the backbone.
        """
        size, patch = pack.info.preprocessing.size, self._description.patch
        native = self._description.backbone.native_size
        sides = list(zip(size, patch, native, strict=True))
        if any(side < step or side % step or side > MOST_ENLARGED * trained for side, step, trained in sides):
            raise PackError(
                f"the pack {pack.path} takes images of {size[0]}x{size[1]} pixels. This backbone takes multiples of "
                f"its patch, {patch[0]}x{patch[1]}, up to {MOST_ENLARGED} times {native[0]}x{native[1]}"
            )
        return size[0] // patch[0], size[1] // patch[1]


def _check_blocks(pack: Pack, depth: int) -> None:
    """Check that group prompts have a block, and a query of the prefix too, as PyTorch's engine does.

    Raises:
        ConfigError: they have none.
    """
    method = pack.info.method
    shared = depth // 2 if method.shared_blocks is None else method.shared_blocks
    if method.grouped and not (method.query == "prefix") <= shared < depth:
        raise ConfigError(f"shared_blocks {shared} does not fit {depth} blocks with query {method.query}")


def _options() -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores_here()
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or it takes cores from decoding
    options.log_severity_level = 3
    return options


def _values(arrays: Arrays) -> dict[str, Any]:
    return {name: _value(array) for name, array in arrays.items()}


def _value(array: npt.NDArray[Any]) -> Any:
    """Return an array as ONNX Runtime takes it, without copying it again at every run."""
    return onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(array).reshape(array.shape))
