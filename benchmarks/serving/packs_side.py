"""The measurements of `benchmarks.serving packs`; each runs in a process of its own."""

from __future__ import annotations

import copy
import gc
import json
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import nn

import lpt
from benchmarks.serving.random_packs import write_random_pack
from benchmarks.speed.speed import ratio
from lpt.config.architecture import Architecture
from lpt.data.array_transforms import UInt8Array
from lpt.model import FrozenViT
from lpt.packs.prediction import Prediction
from lpt.packs.predictor import Predictor, load_predictor
from lpt.packs.torch_engine import TorchEngine, TorchPack
from lpt.system.limits import usable_cores

BATCH = 32
CLASSES = 100
LAPTOP_ADAPTER = {"adapter_size": 1, "adapter_norm": True, "adapter_scale": None}
KINDS: list[tuple[dict[str, Any], int]] = [
    ({}, CLASSES),
    ({"prompt_length": 4, "pool_size": 10, "top_k": 1}, 20),
    ({"prompt_length": 16, "pool_size": 40, "top_k": 3, "shared_blocks": 8}, 365),
    ({"query": "prefix"}, CLASSES),
    ({"shared_blocks": 3, **LAPTOP_ADAPTER}, 50),
    ({"prompts": "none", **LAPTOP_ADAPTER, "adapter_size": 8}, 200),
    ({"prompts": "deep", "prompt_length": 20, "head": "linear"}, 10),
    ({"prompts": "none", "head": "linear"}, 1000),
]
"""What the packs of differing sizes are, in turn: settings of the method and classes. The first is the default LPT."""


def small_backbone(folder: str) -> dict[str, Any]:
    """Write the checkpoint of a small random backbone, and return how it is loaded."""
    architecture = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 12, "num_heads": 2}
    facts = {"name": "tiny", "architecture": architecture, "mean": [0.5] * 3, "std": [0.5] * 3}
    path = Path(folder) / "tiny.safetensors"
    save_file(VisionTransformer(**architecture, num_classes=0).state_dict(), path)
    path.with_suffix(".json").write_text(json.dumps(facts), encoding="utf-8")
    return {"backbone": "tiny", "checkpoint": str(path)}


def write(
    folder: str, count: int, differing: bool, size: int, backbone: str, checkpoint: str | None, threads: int
) -> list[dict[str, Any]]:
    """Write packs of random tensors, and return what kinds they are of."""
    vit = _backbone(backbone, checkpoint, threads)
    kinds = KINDS if differing else KINDS[:1]
    for number in range(count):
        settings, classes = kinds[number % len(kinds)]
        architecture = Architecture(**settings)
        phases = [1, 2] if architecture.grouped else []
        write_random_pack(
            Path(folder) / f"{number:04}", vit, architecture, classes=classes, phases=phases, seed=number,
            preprocessing={"size": (size, size)},
        )  # fmt: skip
    return [{"settings": settings, "classes": classes} for settings, classes in kinds]


def memory(folder: str, count: int, models: int, backbone: str, checkpoint: str | None, threads: int) -> dict[str, Any]:
    """Measure the resident memory of packs of the default sizes, and of fine-tuned models.

    Counted for a pack are its float32 tensors, and keys and values of the shared prompt.
    """
    vit = _backbone(backbone, checkpoint, threads)
    paths = _paths(folder, count)
    predictor = Predictor(vit, paths[:1])
    predictor.predict(_picture())
    before = _resident()
    loaded = [predictor.engine.load(lpt.load_pack(path)) for path in paths[1:]]
    taken = max(_resident() - before, 1) / len(loaded)  # a few small packs fit into memory that was freed before
    pack = predictor.pack()
    tensors = sum(array.nbytes for array in pack.tensors.values())
    counted = tensors + 2 * pack.tensors["shared.tokens"].nbytes
    before = _resident()
    tuned = [nn.ModuleList([copy.deepcopy(vit.vit), nn.Linear(vit.width, CLASSES)]) for _ in range(models)]
    tuned_taken = max(_resident() - before, 1) / len(tuned)
    return {
        "packs": len(loaded),
        "bytes_a_pack": {"resident": round(taken), "counted": counted, "tensors": tensors},
        "packs_a_gib": {"measured": round(2**30 / taken), "counted": round(2**30 / counted)},
        "share_of_counted_packs": round(counted / taken, 4),
        "bytes_a_tuned_model": round(tuned_taken),
        "tuned_models_a_gib": round(2**30 / tuned_taken),
    }


def start(folder: str, count: int, backbone: str, checkpoint: str | None, threads: int) -> dict[str, Any]:
    """Measure the start of a predictor, and what loading and verifying a pack takes."""
    begin = time.perf_counter()
    vit = _backbone(backbone, checkpoint, threads)
    paths = _paths(folder, count)
    with_backbone = time.perf_counter() - begin
    predictor = Predictor(vit, paths)
    with_packs = time.perf_counter() - begin
    predictor.predict(_picture())
    ready = time.perf_counter() - begin
    times = [_seconds(lambda path=path: predictor.engine.load(lpt.load_pack(path))) for path in paths[:100]]  # type: ignore[misc]
    kinds = [times[place :: len(KINDS)] for place in range(len(KINDS))]
    milliseconds = {"median": round(1e3 * median(times), 2), "best": round(1e3 * min(times), 2)}
    return {
        "seconds": {"backbone": round(with_backbone, 3), "packs": round(with_packs, 3), "predicted": round(ready, 3)},
        "load_milliseconds": {**milliseconds, "best_by_kind": [round(1e3 * min(kind), 2) for kind in kinds if kind]},
    }


def rates(folder: str, count: int, rounds: int, backbone: str, checkpoint: str | None, threads: int) -> dict[str, Any]:
    """Compare mixed batches with batches of one pack and with the pack's own model, in turns.

    A round runs one batch of a pack of each kind alone, and as many mixed batches, which hold each kind equally often.
    So both sides compute the same. A mixed batch draws its packs from all.
    """
    engine = TorchEngine(_backbone(backbone, checkpoint, threads))
    loaded = [engine.load(lpt.load_pack(path)) for path in _paths(folder, count)]
    kinds = [loaded[place :: len(KINDS)] for place in range(min(len(KINDS), count))]
    draw = random.Random(0)
    pixels = _pixels(loaded[0], BATCH)
    jobs: dict[str, list[float]] = {"alone": [], "model": [], "mixed": []}
    used = []
    for turn in range(rounds + 1):
        spent = dict.fromkeys(jobs, 0.0)
        for kind in kinds:
            pack = draw.choice(kind)
            model = kind[0].model  # built before the clock starts
            drawn = [draw.choice(kinds[place % len(kinds)]) for place in range(BATCH)]
            draw.shuffle(drawn)
            used.append(len({id(each) for each in drawn}))
            batch = [(pack, image) for image in pixels]
            mixed = list(zip(drawn, pixels, strict=True))
            spent["alone"] += _seconds(lambda batch=batch: engine.run(batch))  # type: ignore[misc]
            spent["mixed"] += _seconds(lambda mixed=mixed: engine.run(mixed))  # type: ignore[misc]
            spent["model"] += _seconds(lambda model=model: model.classify(torch.from_numpy(np.stack(pixels))))  # type: ignore[misc]
        for name, seconds in spent.items() if turn else ():
            jobs[name].append(seconds)
    images = BATCH * len(kinds)
    return {
        "batch": BATCH,
        "packs_in_a_mixed_batch": round(sum(used) / len(used), 1),
        "images_per_second": {name: round(images / median(seconds), 2) for name, seconds in jobs.items()},
        "mixed_over_alone": ratio(jobs["alone"], jobs["mixed"]),
        "mixed_over_model": ratio(jobs["model"], jobs["mixed"]),
    }


def changing(
    folder: str, count: int, batches: int, backbone: str, checkpoint: str | None, threads: int
) -> dict[str, Any]:
    """Predict while another thread adds, replaces and removes packs, and compare with before."""
    paths = _paths(folder, count)
    predictor = load_predictor(paths, backbone=_backbone(backbone, checkpoint, threads))
    names = [predictor.pack_names[number % count] for number in range(8)]
    pictures = [image.transpose(1, 2, 0) for image in _pixels(predictor._loaded[names[0]], len(names))]

    def predict() -> list[Prediction]:
        return predictor.predict(pictures, pack=names)

    expected = predict()
    quiet = [_seconds(predict) for _ in range(batches)]
    done, changes = threading.Event(), 0

    def change() -> None:
        nonlocal changes
        while not done.is_set():
            predictor.add(paths[changes % count], "guest")
            predictor.add(paths[changes % count], "guest", replace=True)
            predictor.remove("guest")
            changes += 1

    thread = threading.Thread(target=change)
    thread.start()
    busy, wrong, failed = [], 0, 0
    for _ in range(batches):
        begin = time.perf_counter()
        try:
            got = predict()
            wrong += sum(not _same(now, before) for now, before in zip(got, expected, strict=True))
        except Exception:
            failed += 1
        busy.append(time.perf_counter() - begin)
    done.set()
    thread.join()
    shown = {"quiet": quiet, "while_packs_change": busy}
    return {
        "packs": count,
        "images": batches * len(names),
        "packs_added": 2 * changes,
        "failed_calls": failed,
        "wrong_predictions": wrong,
        "seconds_a_call": {
            name: {"median": round(median(times), 4), "longest": round(max(times), 4)} for name, times in shown.items()
        },
    }


def _same(now: Prediction, before: Prediction) -> bool:
    near = np.allclose(now.probabilities, before.probabilities, rtol=0, atol=1e-4)
    return now.pack == before.pack and now.groups == before.groups and near


def _backbone(name: str, checkpoint: str | None, threads: int) -> FrozenViT:
    torch.set_num_threads(threads or usable_cores())
    return lpt.load_backbone(name, checkpoint=None if checkpoint is None else Path(checkpoint))


def _paths(folder: str, count: int) -> list[Path]:
    return sorted(Path(folder).iterdir())[:count]


def _pixels(loaded: object, count: int) -> list[UInt8Array]:
    assert isinstance(loaded, TorchPack)
    height, width = loaded.pack.info.preprocessing.size
    return list(np.random.default_rng(0).integers(0, 256, (count, 3, height, width), dtype=np.uint8))


def _picture() -> UInt8Array:
    return np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


def _seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def _resident() -> int:
    """Return the resident memory of this process, bytes (Linux)."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
