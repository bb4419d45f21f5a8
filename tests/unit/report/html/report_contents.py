"""Synthetic reports of any number of classes."""

from __future__ import annotations

import base64
import io
from dataclasses import replace

import numpy as np
from PIL import Image

from lpt.data.longtail import ShotGroups, long_tailed_counts
from lpt.evaluation.arrangement import class_order, prompt_order
from lpt.evaluation.confusion import confused_pairs
from lpt.evaluation.curves import loss_curves
from lpt.evaluation.intervals import SeedResult, accuracy_intervals
from lpt.evaluation.measured import picked_shares
from lpt.evaluation.metrics import class_accuracies, most_confused
from lpt.evaluation.reliability import reliability
from lpt.report.html.content import (
    Absent,
    Calibration,
    Classes,
    Content,
    MethodRow,
    Pairs,
    PairShown,
    Picture,
    Probe,
    QueryMap,
    Sharing,
)

GROUPS = ShotGroups()
PROMPTS = 20


def webp(seed: int, side: int = 84) -> str:
    """A thumbnail of noise on a ramp, which takes more bytes than a photograph of its size."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 200, side)[:, None, None] + rng.integers(0, 55, (side, side, 3))
    content = io.BytesIO()
    Image.fromarray(ramp.astype(np.uint8)).save(content, format="WEBP", quality=55)
    return base64.b64encode(content.getvalue()).decode()


def content(classes: int, *, methods: int = 1, per_class: int = 3, names: list[str] | None = None) -> Content:
    """A report with every part."""
    rng = np.random.default_rng(classes)
    counts = long_tailed_counts(classes, 1000, 500 if classes > 2 else 10)
    labels = np.repeat(np.arange(classes), per_class)
    predicted = np.where(rng.random(len(labels)) < 0.7, labels, rng.integers(0, classes, len(labels)))
    names = names or [f"Genus{c % 997} species{c}" for c in range(classes)]
    confused, times = most_confused(labels, predicted, classes)
    accuracy = class_accuracies(labels, predicted, classes)
    table = Classes(names, counts, GROUPS, np.bincount(labels), accuracy, np.where(times > 0, confused, -1), times)
    probe_accuracy = np.clip(accuracy - rng.normal(0.1, 0.2, classes), 0, 1)
    gain = accuracy - probe_accuracy
    picks = (labels[:, None] // max(classes // PROMPTS, 1) + np.array([0, 1])) % PROMPTS
    use = picked_shares(labels, picks, classes, PROMPTS)
    prompts = prompt_order(use)
    probability = rng.uniform(0.2, 1, len(labels))
    images = [str(i) for i in range(len(labels))]
    intervals = accuracy_intervals([SeedResult(0, images, labels, predicted, counts)], GROUPS, resamples=50)
    rows = [
        MethodRow(
            f"m{m}", f"method {m}", [0], intervals, intervals if m else {}, ["1", "2 MiB", "3 s", "4", "5"], not m
        )
        for m in range(methods)
    ]  # fmt: skip
    records = [
        dict(phase=phase, epoch=t // 10, step=t, loss=3 / (1 + t), balanced=1 / (1 + t), instance=0.5)
        for phase in (1, 2) for t in range(300)
    ]  # fmt: skip
    sample = rng.normal(size=(min(2000, len(labels)), 2))
    pairs = confused_pairs(labels, predicted, counts, GROUPS)
    shown = [
        PairShown(pair, [Picture(webp(4 * i + k), f"{names[pair.true]}, taken", k > 1) for k in range(4)])
        for i, pair in enumerate([*pairs.largest, *pairs.rare])
    ]
    return Content(
        title="birds",
        subtitle="LPT, preset laptop, seed 0",
        split="test",
        images=len(labels),
        trained=[("Data", "photos/birds"), ("Training images", f"{counts.sum():,}")],
        classes=table,
        methods=rows,
        shown="method 0",
        of_shown="",
        probe=Probe(probe_accuracy, gain, 1, np.argsort(-gain)),
        pairs=Pairs(shown[: len(pairs.largest)], shown[len(pairs.largest) :], GROUPS.names[pairs.group]),
        sharing=Sharing(use, class_order(use, prompts), prompts, 2),
        queries=QueryMap(sample, rng.integers(0, PROMPTS, len(sample)), (0.3, 0.1), len(labels)),
        calibration=Calibration(reliability(labels == predicted, probability), 0.05, "The temperature is 1."),
        cost_columns=["trained numbers", "stored", "training time", "peak memory", "image draws"],
        curves=loss_curves(records),
        record=[("Command", "lpt fit photos/birds"), ("Training images, SHA-256", "0f" * 32)],
        written="Written on 2026-01-01 by lpt.",
    )  # fmt: skip


def without_parts(reason: str) -> Content:
    """A report of a run that measured nothing and kept nothing."""
    full, absent = content(3), Absent(reason)
    return replace(
        full,
        methods=[replace(full.methods[0], accuracies={})],
        classes=Classes(full.classes.names, full.classes.counts, GROUPS),
        probe=absent,
        pairs=absent,
        sharing=absent,
        queries=absent,
        calibration=absent,
        curves=absent,
    )
