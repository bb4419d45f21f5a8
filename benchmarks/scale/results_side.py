"""Measure metrics and packs at the full number of classes, from random cosines and untrained tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  # imported here, so that its memory is not counted as a plot's
import numpy as np
import torch

from benchmarks.scale.measure import watched
from benchmarks.scale.simulated import TEST_IMAGES_OF_A_CLASS, class_counts, class_name
from lpt.config.architecture import Architecture
from lpt.data.longtail import ShotGroups
from lpt.data.transforms import Preprocessing
from lpt.evaluation.calibration import fit_temperature
from lpt.evaluation.measured import measure_predictions
from lpt.evaluation.predictions import Predictions
from lpt.model import LPT
from lpt.model.pretrained import load_backbone
from lpt.packs.info import PackInfo, Probabilities
from lpt.packs.pack import encode_tensors, load_pack, write_pack
from lpt.packs.reference import make_reference
from lpt.report.card import model_card
from lpt.report.run_files import write_measured

POOL_SIZE, PICKED, SCALE = 20, 2, 20.0
VIT_B = {"width": 768, "depth": 12}


def evaluation(images: int, classes: int, folder: str) -> dict[str, Any]:
    """Measure metrics, temperature, per_class.csv and plots of random cosines of a test set."""
    random = np.random.default_rng(0)
    counts, groups = class_counts(images, classes), ShotGroups()
    labels = np.repeat(np.arange(classes), TEST_IMAGES_OF_A_CLASS)
    cosines = random.uniform(-0.2, 0.4, (len(labels), classes)).astype(np.float32)
    easy = 0.2 + 0.3 * np.log(counts) / np.log(counts.max())  # frequent classes are recognised more often
    cosines[np.arange(len(labels)), labels] += random.uniform(0, 1, len(labels)) * easy[labels]
    favourite = labels[:, None] // max(classes // POOL_SIZE, 1)
    picked = (favourite + random.integers(0, 4, (len(labels), PICKED))) % POOL_SIZE
    predictions = Predictions(cosines, labels, picked)
    temperature, fitting = watched(lambda: fit_temperature(cosines, labels, SCALE))
    measured, measuring = watched(
        lambda: measure_predictions(predictions, counts, groups, scale=SCALE, temperature=temperature)
    )
    names = tuple(map(class_name, range(classes)))
    _, writing = watched(lambda: write_measured(Path(folder), measured, names, POOL_SIZE))
    return {
        "test_images": len(labels),
        "classes": classes,
        "cosines_mib": round(cosines.nbytes / 2**20, 1),
        "fit_temperature": fitting,
        "metrics": measuring,
        "per_class_csv_and_plots": writing,
        "metrics_found": measured.metrics.to_dict(),
    }


def pack(images: int, classes: int, backbone_name: str, checkpoint: str | None, folder: str) -> dict[str, Any]:
    """Measure writing a pack and reading it again."""
    backbone = load_backbone(backbone_name, checkpoint=None if checkpoint is None else Path(checkpoint))
    model = LPT(backbone, classes, pool_size=POOL_SIZE, top_k=PICKED)
    content, encoding = watched(lambda: encode_tensors(model.state_dict()))
    info = _info(model, content, class_counts(images, classes).tolist())
    card = model_card(info, {}, len(content))
    path, writing = watched(lambda: write_pack(Path(folder) / "pack", info, content, card))
    _, loading = watched(lambda: load_pack(path))
    bytes_of = {file.name: file.stat().st_size for file in sorted(path.iterdir())}
    return {
        "backbone": info.backbone.name,
        "classes": classes,
        "numbers": info.method.trainable_parameters,
        "head_share": round(model.head.weight.numel() / info.method.trainable_parameters, 4),
        "bytes": bytes_of,
        "total_mib": round(sum(bytes_of.values()) / 2**20, 2),
        "backbone_mib": round(4 * info.backbone.parameters / 2**20, 1),
        "model_card_lines": len(card.splitlines()),
        "encoding": encoding,
        "writing": writing,
        "loading": loading,
    }


def vit_b_tensors(classes: int, prompt_length: int = 10) -> dict[str, Any]:
    """Return the size of the tensors of a pack for ViT-B with default sizes, as they are stored."""
    width, depth = VIT_B["width"], VIT_B["depth"]
    state = {
        "shared.tokens": torch.zeros(depth, prompt_length, width),
        "groups.prompts": torch.zeros(POOL_SIZE, depth // 2, prompt_length, width),
        "groups.keys": torch.zeros(POOL_SIZE, width),
        "head.weight": torch.zeros(classes, width),
    }
    numbers = sum(tensor.numel() for tensor in state.values())
    return {"backbone": "ViT-B", "numbers": numbers, "tensors_mib": round(len(encode_tensors(state)) / 2**20, 2)}


def _info(model: LPT, content: bytes, counts: list[int]) -> PackInfo:
    record = model.backbone.record
    return PackInfo.of(
        backbone=record,
        preprocessing=Preprocessing(
            size=model.backbone.image_size,
            mean=record.mean,
            std=record.std,
            interpolation="bicubic",
            test_crop=0.875,
            crop_area=(0.3, 1.0),
            crop_aspect=(0.75, 1.25),
            flip=True,
        ),
        class_names=[class_name(label) for label in range(len(counts))],
        class_counts=counts,
        shot_groups=ShotGroups(),
        method="lpt",
        architecture=Architecture(
            prompt_length=model.shared.tokens.shape[1],
            shared_blocks=model.shared_blocks,
            pool_size=POOL_SIZE,
            top_k=PICKED,
        ),
        phases=[1, 2],
        probabilities=Probabilities(scale=SCALE, temperature=1.0, fitted_on="nothing"),
        reference=make_reference(model, group_prompts=True),
        tensors=content,
    )
