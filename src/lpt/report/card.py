"""Write the model card of a pack, its README.md."""

from __future__ import annotations

import json
import shlex

from lpt.config.recipes import METHODS
from lpt.data.longtail import CLASS_SIZE
from lpt.evaluation.metrics import Metrics
from lpt.model.consent import needed_options
from lpt.packs.info import MethodInfo, PackInfo
from lpt.system.text import plural


def model_card(info: PackInfo, measured: dict[str, Metrics], pack_bytes: int) -> str:
    """Return Markdown that says what the pack is, how it was made and what was measured.

    Args:
        info: description of the pack.
        measured: metrics by split name (`test`, `validation`); empty if nothing was measured.
        pack_bytes: size of the tensors file, bytes.
    """
    method, backbone, height, width = info.method, info.backbone, *info.preprocessing.size
    counts = info.class_counts
    lines = [
        f"# {'LPT prompt pack' if method.grouped else f'Pack of {title_of(method.name)}, written by lpt'}",
        "",
        f"Classifies images into {plural(len(info.class_names), 'class')} with a frozen `{backbone.name}` "
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
        f'lpt.load_predictor({_arguments(needed_options(backbone))}).predict(["photo.jpg"])',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _arguments(options: list[str]) -> str:
    """Return the arguments of `load_predictor` that mean the same as these options of the command line."""
    values = dict(zip(options[::2], options[1::2], strict=True))
    arguments = [f"{name.removeprefix('--')}={json.dumps(value)}" for name, value in values.items()]
    return ", ".join(['"THIS_FOLDER"', *arguments])


def held_out(info: PackInfo) -> str:
    """Say how many of the training images were held out as a share for validation; empty if none."""
    try:
        float(info.trained_with("data", "validation"))  # fails if validation is a source of other images
    except (TypeError, ValueError):
        return ""
    images = info.metrics.get("validation", {}).get("images", 0)
    return f" ({images:,} of them held out for validation)" if images else ""


def frequencies(info: PackInfo) -> str:
    """Name the class frequencies that the probabilities assume without a prior."""
    return "even classes" if info.probabilities.classes == "even" else "the class frequencies of the training images"


def title_of(name: str) -> str:
    """Return the name of a method in tables."""
    return METHODS[name].title if name in METHODS else name


def score_name(method: MethodInfo) -> str:
    """Name the output of a method's head."""
    return "cosine" if method.head == "cosine" else "logit"


def method_line(method: MethodInfo) -> str:
    """Describe in one line what was trained."""
    if method.grouped:
        phases = "both phases" if 2 in method.phases else "phase 1 only, group prompts unused"
        cheap = ", picked by the class token after the shared-only blocks" if method.query == "prefix" else ""
        return (
            f"Long-tailed Prompt Tuning (Dong et al., ICLR 2023), {phases}; prompt length {method.prompt_length}, "
            f"{plural(method.shared_blocks or 0, 'shared-only block')}, "
            f"{plural(method.pool_size, 'group prompt')} of which "
            f"{method.top_k} {'is' if method.top_k == 1 else 'are'} picked for an image{cheap}"
            + (f"; adapters of {plural(method.adapter_size, 'number')} beside every MLP" if method.adapter_size else "")
        )
    parts = {
        f"{method.prompts} prompts of {plural(method.prompt_length, 'token')}": method.prompts != "none",
        f"adapters of {plural(method.adapter_size, 'number')} beside every MLP": method.adapter_size,
        f"LoRA of rank {method.lora_rank}": method.lora_rank,
        "all weights of the backbone": method.weights == "all",
        "the backbone's biases": method.weights == "biases",
        f"the last {plural(method.last_blocks, 'block')}": method.weights == "last_blocks",
        f"a {method.head} head": True,
    }
    reference = f" ({METHODS[method.name].reference})" if method.name in METHODS else ""
    return f"{title_of(method.name)}{reference}: {', '.join(part for part, used in parts.items() if used)}"


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
