"""Measure opening, drawing and examining a data set of the full size, and the start of `lpt fit`."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401  # imported here, so that its memory is not counted as the doctor's
import numpy as np
from rich.console import Console

from benchmarks.scale.measure import watched
from benchmarks.scale.simulated import class_counts
from lpt.cli.app import app
from lpt.commands.fit import prepare, start
from lpt.commands.fit.request import RunRequest
from lpt.config.schema import DataConfig
from lpt.data.decoding import read_image
from lpt.data.sampling import ClassBalanced, InstanceBalanced, Sampler
from lpt.data.sources import open_splits

IMAGES_OF_A_CLASS = 4


def opening(source: str, test: str | None = None) -> dict[str, Any]:
    """Measure `open_splits` of a source."""
    splits, cost = watched(lambda: open_splits(DataConfig(source=source, test=test), seed=0))
    assert splits.test is not None
    images = {"train_images": len(splits.train), "test_images": len(splits.test), "classes": len(splits.class_names)}
    return images | cost | {"notes": len(splits.notes)}


def drawing(images: int, classes: int, batch_size: int, steps: int) -> dict[str, Any]:
    """Measure both samplers: making them, and a draw in the first round of the classes and later."""
    labels = np.random.default_rng(0).permutation(np.repeat(np.arange(classes), class_counts(images, classes)))
    result: dict[str, Any] = {"images": images, "classes": classes}
    makers: dict[str, Callable[[], Sampler]] = {
        "balanced": lambda: ClassBalanced(labels, IMAGES_OF_A_CLASS, 0, 1, "balanced"),
        "instance": lambda: InstanceBalanced(len(labels), 0, 1, "instance"),
    }
    round_steps = -(-classes * IMAGES_OF_A_CLASS // batch_size)
    for stream, make in makers.items():
        sampler, cost = watched(make)
        result[stream] = {"making": cost} | _draw_costs(sampler, batch_size, round_steps, steps)
    return result


def _draw_costs(sampler: Sampler, batch_size: int, round_steps: int, steps: int) -> dict[str, float]:
    """Return CPU microseconds of a draw in the first `round_steps` steps and in `steps` later ones, and peak memory."""
    first, first_cost = watched(lambda: _draw_seconds(sampler, batch_size, 0, round_steps))
    later, later_cost = watched(lambda: _draw_seconds(sampler, batch_size, round_steps, round_steps + steps))
    return {
        "first_round_microseconds_a_draw": round(1e6 * first / (round_steps * batch_size), 3),
        "microseconds_a_draw": round(1e6 * later / (steps * batch_size), 3),
        "peak_mib": round(first_cost["peak_mib"] + later_cost["peak_mib"], 1),
    }


def _draw_seconds(sampler: Sampler, batch_size: int, first: int, last: int) -> float:
    start = time.process_time()
    for step in range(first, last):
        sampler.draw(step, batch_size)
    return time.process_time() - start


def doctor(source: str, test: str | None, decode: bool, plot: str) -> dict[str, Any]:
    """Measure `lpt doctor` on a source."""
    arguments = ["doctor", source, "--decode" if decode else "--no-decode", "--plot", plot]
    arguments += [] if test is None else ["--test", test]
    printed = io.StringIO()

    def run() -> int:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            app(arguments, standalone_mode=False)
        return 0

    _, cost = watched(run)
    Path(plot).with_suffix(".txt").write_text(printed.getvalue(), encoding="utf-8")
    lines = printed.getvalue().splitlines()
    return cost | {"lines": len(lines), "longest_line": max(map(len, lines)), "last_line": lines[-2]}


def decoding(width: int, height: int) -> dict[str, float]:
    """Measure the time to decode a JPEG of the size of a photograph, milliseconds."""
    from PIL import Image

    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    stored = io.BytesIO()
    Image.fromarray(noise).resize((width, height)).save(stored, "JPEG", quality=90)
    times = []
    for _ in range(30):
        start = time.perf_counter()
        read_image(stored.getvalue(), "photo")
        times.append(time.perf_counter() - start)
    return {"width": width, "height": height, "milliseconds": round(1e3 * float(np.median(times)), 2)}


def start_of_fit(source: str, test: str | None, checkpoint: str | None) -> dict[str, Any]:
    """Measure what `lpt fit` does before its first step, part by part."""
    settings = {"backbone.checkpoint": checkpoint} if checkpoint else {}
    settings |= {"data.test": test} if test else {}
    request = RunRequest(source, preset="laptop", method="lpt", settings=settings)
    printed = io.StringIO()
    console = Console(file=printed, width=120)
    prepared, preparing = watched(lambda: prepare.prepare(request, read_images=False, console=console))
    splits = prepared.splits
    _, describing = watched(lambda: prepare.describe(prepared, console))
    _, warning = watched(lambda: prepare.warn_of_data(prepared, console))
    _, facts = watched(lambda: start.start_facts(prepared))
    _, readable = watched(lambda: prepare.check_readable(prepared.train, splits, prepared.processes))
    return {
        "prepare_without_reading_images": preparing,
        "describe": describing,
        "warn_of_data": warning,
        "fingerprint": facts,
        "check_readable": readable,
        "lines_printed": len(printed.getvalue().splitlines()),
    }
