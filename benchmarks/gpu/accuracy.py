"""Train a method on CIFAR-100-LT at 224 with ViT-Ti by the preset `laptop` (8 + 4 epochs); a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lpt
from benchmarks.gpu.stages import Given
from benchmarks.speed.pipeline import write_photos
from lpt.training.folder import RunFolder

_FACTS = ("train_seconds", "peak_memory_bytes", "image_draws", "trainable_parameters", "machine", "seed")


def measure_accuracy(method: str, given: Given) -> dict[str, Any]:
    """Train, and return accuracies on the test images and what training took."""
    folder = Path(given.runs) / method
    if RunFolder(folder).is_run:
        lpt.resume(folder)
    else:
        data, settings = _tiny(Path(given.runs), method) if given.tiny else _full(given)
        settings |= {"runtime.device": given.device}
        lpt.fit(data, folder, preset="laptop", method=method, settings=settings, overwrite=folder.exists())
    stored = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {"test": stored["test"], **{name: stored[name] for name in _FACTS}}


def _full(given: Given) -> tuple[str, dict[str, Any]]:
    data = f"hf:{Path(given.shared).resolve() / 'data' / 'cifar100'}:img:fine_label"
    return data, {"data.long_tail": 100, "image.size": 224}


def _tiny(runs: Path, method: str) -> tuple[str, dict[str, Any]]:
    data = runs / "pictures"
    for split, seed in (("train", 0), ("test", 1)):
        write_photos(data / split, 8, seed=seed, small=True)
    second = {"train.phase2.epochs": 1} if method == "lpt" else {}
    return str(data), {
        "backbone.name": "lpt-demo-glyphs",
        "image.size": 32,
        "train.batch_size": 4,
        "train.epoch_steps": 2,
        "train.phase1.epochs": 2,
        **second,
    }
