"""The model card of a pack: its README.md."""

from __future__ import annotations

from lpt.evaluation.metrics import Metrics
from lpt.pack import PackInfo


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
        "# LPT prompt pack",
        "",
        f"Classifies images into {len(info.class_names)} classes with a frozen `{backbone.name}` "
        f"({backbone.parameters / 1e6:.1f} M parameters, licence {backbone.licence}) at {height}x{width}.",
        "",
        f"- Trained tensors: {method.trainable_parameters:,} numbers, {pack_bytes / 2**20:.2f} MiB, "
        f"{100 * method.share_of_backbone:.1f} % of the backbone's parameters",
        f"- Method: Long-tailed Prompt Tuning (Dong et al., ICLR 2023), phases {method.phases}, prompt length "
        f"{method.prompt_length}, {method.shared_blocks} shared-only blocks, {method.pool_size} group prompts, "
        f"{method.top_k} picked per image",
        f"- Training images: {sum(counts):,}, from {max(counts):,} to {min(counts):,} a class",
        f"- Probabilities: softmax({info.probabilities.scale:g} * cosine / {info.probabilities.temperature:.3g}), "
        f"temperature fitted on {info.probabilities.fitted_on}",
        f"- Written by lpt {info.versions.lpt}, timm {info.versions.timm}, torch {info.versions.torch}",
        "",
        "## Measured",
        "",
        *(_table(measured) if measured else ["Nothing: the run had neither a test nor a validation split."]),
        "",
        "## Use",
        "",
        "```sh",
        "lpt predict THIS_FOLDER photo.jpg",
        "```",
        "",
        "```python",
        "import lpt",
        'lpt.Predictor(None, "THIS_FOLDER").predict(["photo.jpg"])',
        "```",
    ]
    return "\n".join(lines) + "\n"


def _table(measured: dict[str, Metrics]) -> list[str]:
    first = next(iter(measured.values()))
    rows = [
        f"Accuracy in percent; groups by training images of a class: {first.boundaries}.",
        "",
        "| split | images | overall | mean per class | many | medium | few |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, metrics in measured.items():
        values = (metrics.overall, metrics.mean_per_class, metrics.many, metrics.medium, metrics.few)
        shown = " | ".join("–" if value is None else f"{100 * value:.1f}" for value in values)
        rows.append(f"| {name} | {metrics.images} | {shown} |")
    return rows
