"""What `auto` becomes for given data and hardware.

Each choice is told with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from lpt.config.lint import unused_fields
from lpt.config.presets import Resolved
from lpt.config.schema import RunConfig
from lpt.data.longtail import imbalance_factor
from lpt.data.manifest import IntArray
from lpt.system.hardware import Machine

LAPTOP_EPOCH_DRAWS = 50_000
"""Most images that an epoch of a CPU-sized preset draws: a larger set is seen in more than one epoch."""


PUBLISHED_NOISE = 0.5


PUBLISHED_IMBALANCE = 100.0
"""The strength of A-GCL's cloud, and the imbalance factor (n_max / n_min) from which on `auto` takes it."""


LEAST_EPOCH_STEPS = 100
"""Fewest steps of an epoch of such a preset: a small set needs its steps all the same (docs/trials.md: emoji)."""


def resolve_auto(
    config: RunConfig,
    machine: Machine,
    *,
    train_images: int,
    class_counts: IntArray,
    blocks: int,
    native_size: tuple[int, int],
    activation_bytes: Callable[[tuple[int, int], int], int],
    cached_bytes: int,
    kept_bytes: Callable[[RunConfig], int],
    decoded: bool,
    processes: int = 1,
) -> Resolved:
    """Replace every `auto` by what suits the data and the machine.

    Args:
        config: checked configuration.
        machine: where it will run.
        train_images: images in the training split.
        class_counts: training images of each class before any are held out, [C].
        blocks: blocks L of the backbone.
        native_size: input size the backbone was trained at, pixels.
        activation_bytes: memory that training takes for one image, as a function of input size and bytes per number.
        cached_bytes: memory that all decoded training images would take.
        kept_bytes: most memory that the prefix cache of an otherwise resolved configuration takes.
        decoded: whether images are decoded as they are read (worth several readers where memory does not hold them).
        processes: how many share a batch.
    """
    config, reasons, _ = suit_to_counts(config, class_counts, blocks)
    image, train, runtime, data = config.image, config.train, config.runtime, config.data

    def choose(section: Any, field: str, value: Any, why: str) -> None:
        if getattr(section, field) == "auto":
            setattr(section, field, value)
            reasons.append(f"{field} {value}: {why}")

    choose(runtime, "device", machine.device, machine.name)
    choose(runtime, "precision", "bf16" if machine.fast_bf16 else "fp32", "what the hardware multiplies fastest")
    choose(runtime, "threads", machine.cores, "the cores that are there for this process")
    choose(image, "size", native_size, "the size the backbone was trained at")
    fits = cached_bytes <= 2**30
    choose(data, "cache", fits, f"decoded images take about {cached_bytes / 2**20:.0f} MiB (limit 1024 MiB)")
    in_memory = not decoded or (bool(data.cache) and fits)
    readers = 0 if in_memory else min(machine.cores - 1, 8)
    if machine.device != "cpu":
        readers = max(readers, min(machine.cores - 1, 4))
    unread = "images are in memory" if in_memory else "the only core trains and reads in turn"
    choose(runtime, "workers", readers, "reading must not hold up the model" if readers else unread)
    if train.epoch_steps == "auto":
        published = train.batch_size if config.model.grouped else config.step_draws // 2
        steps, why = epoch_steps(config.preset, train_images, config.step_draws, published)
        choose(train, "epoch_steps", steps, why)
    size = image.size if isinstance(image.size, tuple) else (int(image.size), int(image.size))
    per_image = activation_bytes(size, 2 if runtime.precision == "bf16" else 4)
    room = max(1, int(machine.memory_bytes * 0.6 / per_image))
    micro = -(-train.batch_size // processes)
    while micro > room and micro > 1:
        micro = -(-micro // 2)
    choose(train, "micro_batch", micro, f"about {per_image * micro / 2**20:.0f} MiB of activations at a time")
    return Resolved(config, reasons + _resolve_prefix_cache(config, machine, kept_bytes))


def suit_to_counts(config: RunConfig, class_counts: IntArray, blocks: int) -> Resolved:
    """Replace the `auto` of what goes by the class counts alone: A-GCL's cloud and LIFT's adapters.

    Args:
        config: checked configuration; it stays as it is.
        class_counts: training images of each class before any are held out, [C].
        blocks: blocks L of the backbone.
    """
    config = config.model_copy(deep=True)
    loss, model = config.loss, config.model
    reasons: list[str] = []
    if loss.noise == "auto" and "loss.noise" not in unused_fields(config):
        loss.noise, why = cloud_noise(imbalance_factor(class_counts))
        reasons.append(f"noise {loss.noise}: {why}")
    elif loss.noise == "auto":
        loss.noise = PUBLISHED_NOISE  # of no use, and so without a word
    if model.adapter_size == "auto":
        model.adapter_size, why = lift_bottleneck(len(class_counts), blocks)
        reasons.append(f"adapter_size {model.adapter_size}: {why}")
    return Resolved(config, reasons)


def _resolve_prefix_cache(config: RunConfig, machine: Machine, kept_bytes: Callable[[RunConfig], int]) -> list[str]:
    """Set how and where the prefix cache is kept; why, if there is one."""
    kept, reasons = config.prefix_cache, []
    if kept.dtype == "auto":
        kept.dtype = "bf16" if config.runtime.precision == "bf16" else "fp32"
        reasons.append(f"dtype {kept.dtype}: the prefix cache keeps what it gets as it is computed")
    if kept.store == "auto":
        size, room = kept_bytes(config), int(machine.host_bytes * 0.6)
        kept.store = "memory" if size <= room else "disk"
        taken = f"the prefix cache takes at most {size / 2**20:,.0f} MiB, of memory {room / 2**20:,.0f} may be used"
        reasons.append(f"store {kept.store}: {taken}")
    return reasons if kept.views else []


def epoch_steps(preset: str, train_images: int, step_draws: int, published_batch: int) -> tuple[int, str]:
    """Steps of an epoch and why, of the images drawn in a step by all streams, and LPT's batch of one stream."""
    if preset == "paper":
        return train_images // published_batch + 1, "floor(n / B) + 1, as published for two streams of B images"
    if train_images > LAPTOP_EPOCH_DRAWS:
        return LAPTOP_EPOCH_DRAWS // step_draws, f"an epoch draws {LAPTOP_EPOCH_DRAWS:,} images at most"
    steps = train_images // step_draws
    if steps < LEAST_EPOCH_STEPS:
        return LEAST_EPOCH_STEPS, f"n / {step_draws} is {steps}: a small set needs its steps all the same"
    return steps, f"n / {step_draws}: an epoch draws n images, over all streams"


def cloud_noise(imbalance: float) -> tuple[float, str]:
    """Strength of the Gaussian cloud for an imbalance factor, and why.

    delta of A-GCL (eq. 7) is 1 for the rarest class however mild the imbalance; times log(imbalance) / log(100) it is
    as log n_c says, so that evenly filled classes are not made up for twice (docs/trials.md has what that gives).
    """
    share = min(math.log(imbalance) / math.log(PUBLISHED_IMBALANCE), 1.0)
    noise = round(PUBLISHED_NOISE * share, 3)
    return noise, f"the imbalance factor is {imbalance:.4g}; {PUBLISHED_NOISE:g} from {PUBLISHED_IMBALANCE:g} on"


def lift_bottleneck(classes: int, blocks: int) -> tuple[int, str]:
    """Numbers in the bottleneck of LIFT's adapters (Shi et al., ICML 2024), and why."""
    size = 2 ** max(int(math.log2(max(classes / (2 * blocks), 1))), 0)
    return size, "2 ** floor(log2(classes / (2 * blocks))), as LIFT has it"
