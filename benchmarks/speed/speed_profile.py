"""Divide the time of a call among kinds of operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

# The first kind of which a word is in the operation's name takes it.
KINDS = {
    "fused attention": ("scaled_dot_product",),
    "batched products": ("bmm",),
    "matrix products": ("addmm", "aten::mm", "aten::linear"),
    "patch embedding": ("conv",),
    "softmax": ("softmax",),
    "GELU": ("gelu",),
    "norms": ("norm",),
    "copies and joins": ("copy", "cat", "clone", "contiguous", "stack", "fill", "zero"),
    "additions and factors": ("add", "mul", "div", "sub", "sum"),
}
REST = "rest"


def kind_of(name: str) -> str:
    """Return the kind of an operation of torch."""
    return next((kind for kind, words in KINDS.items() if any(word in name for word in words)), REST)


def shares(run: Callable[[], Any], *, cuda: bool) -> dict[str, float]:
    """Return the share of each kind in the time of a call that has run before; on CUDA in the time of its kernels.

    On CUDA the kernels of an operation count with the operation that started them.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with profile(activities=activities) as profiler:
        run()
        if cuda:
            torch.cuda.synchronize()
    times = dict.fromkeys((*KINDS, REST), 0.0)
    for event in profiler.key_averages():
        if cuda and not event.key.startswith("aten::"):
            continue  # the kernels themselves, counted with their operations
        times[kind_of(event.key)] += event.self_device_time_total if cuda else event.self_cpu_time_total
    total = sum(times.values())
    return {kind: round(time / total, 4) for kind, time in times.items()}
