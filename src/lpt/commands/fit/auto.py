"""Replace `auto` in a configuration by what suits the data and the hardware, with a reason for each choice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lpt.config.lint import unused_fields
from lpt.config.presets import Resolved
from lpt.config.schema import RunConfig
from lpt.data.longtail import imbalance_factor
from lpt.data.manifest import IntArray
from lpt.system.hardware import Machine

LAPTOP_EPOCH_DRAWS = 50_000
"""Most images that an epoch of a CPU-sized preset draws: a larger set is seen in more than one epoch."""
LEAST_EPOCH_STEPS = 100
"""Fewest steps of an epoch of a CPU-sized preset: a small set needs its steps (emoji, docs/explanation/trials.md)."""
PUBLISHED_NOISE = 0.5
"""Strength of A-GCL's cloud, as published."""
PUBLISHED_IMBALANCE = 100.0
"""Imbalance factor (n_max / n_min) from which on `auto` takes the published strength."""
CACHE_BYTES = 2**30
"""Most memory that decoded images may take."""
MEMORY_SHARE = 0.6
"""Share of the free memory that `auto` plans with."""


@dataclass(frozen=True)
class AutoFacts:
    """The facts that `auto` depends on, beside the configuration and the machine.

    Args:
        train_images: images in the training split.
        class_counts: training images of each class before any are held out, [C].
        blocks: blocks L of the backbone.
        native_size: input size that the backbone was trained at, pixels.
        activation_bytes: memory of training one image, from the input size and the bytes of a number.
        cached_bytes: memory of all decoded training images.
        prefix_cache_bytes: most memory of the prefix cache, from a configuration that is resolved otherwise.
        decoded: whether images are decoded as they are read; several readers pay off only then.
        processes: how many processes share a batch.
        largest_value: the largest value of the training images of more than 8 bits, and how many these are.
    """

    train_images: int
    class_counts: IntArray
    blocks: int
    native_size: tuple[int, int]
    activation_bytes: Callable[[tuple[int, int], int], int]
    cached_bytes: int
    prefix_cache_bytes: Callable[[RunConfig], int]
    decoded: bool
    processes: int = 1
    largest_value: Callable[[], tuple[float | None, int]] = lambda: (None, 0)


class _Choices:
    """The values chosen for fields at `auto`, each with its reason."""

    def __init__(self, reasons: list[str]) -> None:
        self.reasons = reasons

    def choose(self, section: Any, field: str, value: Any, why: str) -> None:
        """Set a field that is at `auto`."""
        if getattr(section, field) == "auto":
            setattr(section, field, value)
            self.reasons.append(f"{field} {value}: {why}")


def resolve_auto(config: RunConfig, machine: Machine, facts: AutoFacts) -> Resolved:
    """Replace every `auto` by what suits the data and the machine.

    Args:
        config: checked configuration; it stays as it is.
        machine: where it will run.
        facts: of the data and the backbone.
    """
    config, reasons, _ = suit_to_counts(config, facts.class_counts, facts.blocks)
    choices, runtime = _Choices(reasons), config.runtime
    choices.choose(runtime, "device", machine.device, machine.name)
    precision = "bf16" if machine.fast_bf16 else "fp32"
    choices.choose(runtime, "precision", precision, "what the hardware multiplies fastest")
    choices.choose(runtime, "threads", machine.cores, "the cores that are there for this process")
    choices.choose(config.image, "size", facts.native_size, "the size the backbone was trained at")
    _choose_white(config, facts, choices)
    _choose_reading(config, machine, facts, choices)
    _choose_steps(config, machine, facts, choices)
    _choose_prefix_cache(config, machine, facts, choices)
    return Resolved(config, choices.reasons)


def _choose_white(config: RunConfig, facts: AutoFacts, choices: _Choices) -> None:
    """Choose the value of white in images of more than 8 bits; they are read for it."""
    if config.image.white != "auto":
        return
    largest, images = facts.largest_value()
    why = f"the largest value of {images:,} training images of more than 8 bits"
    if largest is None:
        why = "no training image has more than 8 bits"
    choices.choose(config.image, "white", largest, why)


def _choose_reading(config: RunConfig, machine: Machine, facts: AutoFacts, choices: _Choices) -> None:
    """Choose whether decoded images stay in memory, and how many workers read them."""
    fits = facts.cached_bytes <= CACHE_BYTES
    size = f"decoded images take about {facts.cached_bytes / 2**20:.0f} MiB (limit {CACHE_BYTES / 2**20:.0f} MiB)"
    choices.choose(config.data, "cache", fits, size)
    in_memory = not facts.decoded or (bool(config.data.cache) and fits)
    readers = 0 if in_memory else min(machine.cores - 1, 8)
    if machine.device != "cpu":
        readers = max(readers, min(machine.cores - 1, 4))
    unread = "images are in memory" if in_memory else "the only core trains and reads in turn"
    choices.choose(config.runtime, "workers", readers, "reading must not hold up the model" if readers else unread)


def _choose_steps(config: RunConfig, machine: Machine, facts: AutoFacts, choices: _Choices) -> None:
    """Choose the steps of an epoch, and how many images of a step are in memory together."""
    train = config.train
    if train.epoch_steps == "auto":
        published = train.batch_size if config.model.grouped else config.step_draws // 2
        steps, why = epoch_steps(config.preset, facts.train_images, config.step_draws, published)
        choices.choose(train, "epoch_steps", steps, why)
    size = config.image.size if isinstance(config.image.size, tuple) else (int(config.image.size),) * 2
    per_image = facts.activation_bytes(size, 2 if config.runtime.precision == "bf16" else 4)
    room = max(1, int(machine.memory_bytes * MEMORY_SHARE / per_image))
    micro = -(-train.batch_size // facts.processes)
    while micro > room and micro > 1:
        micro = -(-micro // 2)
    choices.choose(train, "micro_batch", micro, f"about {per_image * micro / 2**20:.0f} MiB of activations at a time")


def _choose_prefix_cache(config: RunConfig, machine: Machine, facts: AutoFacts, choices: _Choices) -> None:
    """Choose the number format and the place of the prefix cache; there are reasons only if it keeps anything."""
    cache = config.prefix_cache
    if not cache.views:
        choices = _Choices([])
    dtype = "bf16" if config.runtime.precision == "bf16" else "fp32"
    choices.choose(cache, "dtype", dtype, "the prefix cache keeps what it gets as it is computed")
    if cache.store == "auto":
        size, room = facts.prefix_cache_bytes(config), int(machine.host_bytes * MEMORY_SHARE)
        why = f"the prefix cache takes at most {size / 2**20:,.0f} MiB, of memory {room / 2**20:,.0f} may be used"
        choices.choose(cache, "store", "memory" if size <= room else "disk", why)


def suit_to_counts(config: RunConfig, class_counts: IntArray, blocks: int) -> Resolved:
    """Replace `auto` where the class counts alone decide: A-GCL's cloud and LIFT's adapters.

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
        loss.noise = PUBLISHED_NOISE  # this loss does not use it: no reason is given
    if model.adapter_size == "auto":
        model.adapter_size, why = lift_bottleneck(len(class_counts), blocks)
        reasons.append(f"adapter_size {model.adapter_size}: {why}")
    return Resolved(config, reasons)


def epoch_steps(preset: str, train_images: int, step_draws: int, published_batch: int) -> tuple[int, str]:
    """Return the steps of an epoch, and why.

    Args:
        preset: name of the preset.
        train_images: images in the training split.
        step_draws: images drawn in a step, over all streams.
        published_batch: images of one stream of LPT in a step.
    """
    if preset == "paper":
        return train_images // published_batch + 1, "floor(n / B) + 1, as published for two streams of B images"
    if train_images > LAPTOP_EPOCH_DRAWS:
        return LAPTOP_EPOCH_DRAWS // step_draws, f"an epoch draws {LAPTOP_EPOCH_DRAWS:,} images at most"
    steps = train_images // step_draws
    if steps < LEAST_EPOCH_STEPS:
        return LEAST_EPOCH_STEPS, f"n / {step_draws} is {steps}: a small set needs its steps all the same"
    return steps, f"n / {step_draws}: an epoch draws n images, over all streams"


def cloud_noise(imbalance: float) -> tuple[float, str]:
    """Return the strength of the Gaussian cloud for an imbalance factor, and why.

    delta of A-GCL (eq. 7) is 1 for the rarest class, however mild the imbalance. Times log(imbalance) / log(100) it
    follows log n_c, so that even classes are not balanced twice (measured in docs/explanation/trials.md).
    """
    share = min(math.log(imbalance) / math.log(PUBLISHED_IMBALANCE), 1.0)
    noise = round(PUBLISHED_NOISE * share, 3)
    return noise, f"the imbalance factor is {imbalance:.4g}; {PUBLISHED_NOISE:g} from {PUBLISHED_IMBALANCE:g} on"


def lift_bottleneck(classes: int, blocks: int) -> tuple[int, str]:
    """Return the numbers in the bottleneck of LIFT's adapters (Shi et al., ICML 2024), and why."""
    size = 2 ** max(int(math.log2(max(classes / (2 * blocks), 1))), 0)
    return size, "2 ** floor(log2(classes / (2 * blocks))), as LIFT has it"
