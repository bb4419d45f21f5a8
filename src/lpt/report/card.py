"""The model card of a pack: its README.md."""

from __future__ import annotations

import json
import shlex

from lpt.config.recipes import METHODS
from lpt.data.longtail import CLASS_SIZE
from lpt.evaluation.metrics import Metrics
from lpt.model.consent import needed_options
from lpt.packs.info import Method, PackInfo


def model_card(info: PackInfo, measured: dict[str, Metrics], pack_bytes: int) -> str:
    """Markdown with what the pack is, how it was made and what was measured.

    Args:
        info: the pack's description.
        measured: metrics by split name (`test`, `validation`); empty when nothing was measured.
        pack_bytes: size of the tensors, bytes.
    """
    method, backbone, height, width = info.method, info.backbone, *info.preprocessing.size
    counts = info.class_counts
    lines = [
        f"# {'LPT prompt pack' if method.grouped else f'Pack of {title_of(method.name)}, written by lpt'}",
        "",
        f"Classifies images into {len(info.class_names)} classes with a frozen `{backbone.name}` "
        f"({backbone.parameters / 1e6:.1f} M parameters, licence {backbone.licence}) at {height}x{width}.",
        "",
        f"- Trained tensors: {method.trainable_parameters:,} numbers, {pack_bytes / 2**20:.2f} MiB, "
        f"{100 * method.share_of_backbone:.1f} % of the backbone's parameters",
        f"- Method: {method_line(method)}",
        f"- Training images: {sum(counts):,}{held_out(info)}, from {max(counts):,} to {min(counts):,} a class",
        f"- Probabilities: softmax({info.probabilities.scale:g} * {score_name(method)} / "
        f"{info.probabilities.temperature:.3g}), temperature fitted on {info.probabilities.fitted_on}; for "
        f"{frequencies(info)}",
        f"- Written by lpt {info.versions.lpt}, timm {info.versions.timm}, torch {info.versions.torch}",
        "",
        "## Measured",
        "",
        *(_table(measured) if measured else ["Nothing: the run had neither a test nor a validation split."]),
        "",
        "## Use",
        "",
        "```sh",
        shlex.join(["lpt", "predict", "THIS_FOLDER", "photo.jpg", *needed_options(backbone)]),
        "```",
        "",
        "```python",
        "import lpt",
        f'lpt.Predictor({_arguments(needed_options(backbone))}).predict(["photo.jpg"])',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _arguments(options: list[str]) -> str:
    """Arguments of `Predictor` that say what these options of the command line say."""
    given = dict(zip(options[::2], options[1::2], strict=True))
    name = json.dumps(given["--backbone"]) if "--backbone" in given else "None"
    weights = f", checkpoint={json.dumps(given['--checkpoint'])}" if "--checkpoint" in given else ""
    return f'{name}, "THIS_FOLDER"{weights}'


def held_out(info: PackInfo) -> str:
    """How many of the training images were not learnt from: those that a share for validation took; empty if none."""
    try:
        float(info.trained_with("data", "validation"))  # of other images, the source
    except (TypeError, ValueError):
        return ""
    held = info.metrics.get("validation", {}).get("images", 0)
    return f" ({held:,} of them held out for validation)" if held else ""


def frequencies(info: PackInfo) -> str:
    """Which class frequencies the probabilities are for, where none are given."""
    return "even classes" if info.probabilities.classes == "even" else "the class frequencies of the training images"


def title_of(name: str) -> str:
    """What tables call a method."""
    return METHODS[name].title if name in METHODS else name


def score_name(method: Method) -> str:
    """What its head gives."""
    return "cosine" if method.head == "cosine" else "logit"


def method_line(method: Method) -> str:
    """What was trained, in a line."""
    if method.grouped:
        phases = "both phases" if 2 in method.phases else "phase 1 only, group prompts unused"
        cheap = ", picked by the class token after the shared-only blocks" if method.query == "prefix" else ""
        return (
            f"Long-tailed Prompt Tuning (Dong et al., ICLR 2023), {phases}; prompt length {method.prompt_length}, "
            f"{method.shared_blocks} shared-only blocks, {method.pool_size} group prompts of which {method.top_k} are "
            f"picked for an image{cheap}"
            + (f"; adapters of {method.adapter_size} numbers beside every MLP" if method.adapter_size else "")
        )
    parts = {
        f"{method.prompts} prompts of {method.prompt_length} tokens": method.prompts != "none",
        f"adapters of {method.adapter_size} numbers beside every MLP": method.adapter_size,
        f"LoRA of rank {method.lora_rank}": method.lora_rank,
        "all weights of the backbone": method.weights == "all",
        "the backbone's biases": method.weights == "biases",
        f"the last {method.last_blocks} blocks": method.weights == "last_blocks",
        f"a {method.head} head": True,
    }
    reference = f" ({METHODS[method.name].reference})" if method.name in METHODS else ""
    return f"{title_of(method.name)}{reference}: {', '.join(part for part, there in parts.items() if there)}"


def _table(measured: dict[str, Metrics]) -> list[str]:
    first = next(iter(measured.values()))
    rows = [
        f"Accuracy in percent; groups by {CLASS_SIZE}: {first.boundaries}.",
        "",
        "| split | images | overall | mean per class | many | medium | few |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, metrics in measured.items():
        values = (metrics.overall, metrics.mean_per_class, metrics.many, metrics.medium, metrics.few)
        shown = " | ".join("–" if value is None else f"{100 * value:.1f}" for value in values)
        rows.append(f"| {name} | {metrics.images} | {shown} |")
    return rows
