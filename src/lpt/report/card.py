"""Write the model card of a pack, its README.md."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence

from lpt.config.bounds import one_line
from lpt.config.recipes import METHODS
from lpt.data.longtail import CLASS_SIZE
from lpt.evaluation.metrics import Metrics
from lpt.model.consent import needed_options
from lpt.packs.info import MethodInfo, PackInfo
from lpt.report.card_data import card_metadata, data_name, title_of
from lpt.system.text import plural

PLACE = "THIS_FOLDER"
"""The place of the pack in the commands of its card."""
_MANY_NAMES, _FEW_NAMES, _LONGEST_NAME = 20, 3, 60
_MARKUP = re.compile(r"[\\`*_{}\[\]<>()#+!|~&$@:]")


def model_card(info: PackInfo, measured: dict[str, Metrics], pack_bytes: int) -> str:
    """Return Markdown that says what the pack is, how it was made and what was measured, for a stranger too.

    Its head is the metadata that the Hugging Face Hub reads.

    Args:
        info: description of the pack.
        measured: metrics by split name (`test`, `validation`); empty if nothing was measured.
        pack_bytes: size of the tensors file, bytes.
    """
    method, backbone = info.method, info.backbone
    lines = [
        "---",
        card_metadata(info, measured),
        "---",
        "",
        f"# {'LPT prompt pack' if method.grouped else f'Pack of {title_of(method.name)}, written by lpt'}",
        "",
        f"Classifies images into {plural(len(info.class_names), 'class')} with a frozen `{_code(backbone.name)}` "
        f"({backbone.parameters / 1e6:.1f} M parameters, licence {_plain(backbone.licence)}). The pack is "
        f"{pack_bytes / 2**20:.2f} MiB of trained numbers; lpt loads the backbone apart from it.",
        "",
        "## What it sees",
        "",
        *_seen(info),
        "",
        "## What it was trained on",
        "",
        *_trained_on(info),
        "",
        *_added(info),
        "## Where it is weak",
        "",
        *_weaknesses(info, measured),
        "",
        "## Measured",
        "",
        *(_table(measured) if measured else [_not_measured(info)]),
        "",
        "## Use",
        "",
        "```sh",
        shlex.join(["lpt", "predict", PLACE, "photo.jpg", *needed_options(backbone)]),
        "```",
        "",
        "```python",
        "import lpt",
        f'lpt.load_predictor({_arguments(needed_options(backbone))}).predict(["photo.jpg"])',
        "```",
        "",
        "## Details",
        "",
        *_details(info, pack_bytes),
    ]
    return "\n".join(lines) + "\n"


def card_at(card: str, address: str, *, before: str | None = None) -> str:
    """Return a card that says how to use the pack from its address on the hub.

    Args:
        card: the card.
        address: the address.
        before: the address that the pack was read from, without a commit; None: it was a folder.
    """
    if before is not None:
        card = re.sub(rf"{re.escape(before)}(?![\w.@/-])", lambda _: address, card)
    return card.replace(PLACE, address)


def _seen(info: PackInfo) -> list[str]:
    height, width = info.preprocessing.size
    return [
        f"- Classes: {_names(info.class_names)}.",
        f"- Pictures of any size; the network sees {height}x{width} pixels of each, the central "
        f"{100 * info.preprocessing.test_crop:.4g} % of the side.",
        "- It returns the most probable classes with their probabilities"
        + (", and the group prompts that it picked." if info.uses_group_prompts else "."),
    ]


def _trained_on(info: PackInfo) -> list[str]:
    if not info.counts_known:
        file = info.trained_with("imported", "file")
        return [
            f"- Training images: unknown. The pack was imported from {_plain(str(file))}, and nobody gave the number "
            "of training images of each class; shot groups mean nothing here."
        ]
    counts = info.class_counts[: info.trained_classes]
    order = sorted(range(len(counts)), key=lambda label: -counts[label])
    sizes = [info.shot_groups.of(counts).tolist().count(group) for group in range(3)]
    shots = ", ".join(f"{size:,} {name}-shot" for size, name in zip(sizes, info.shot_groups.names, strict=True))
    lines = [
        f"- Data: {_plain(data_name(info))}",
        f"- Training images: {sum(counts):,}{held_out(info)}, from {max(counts):,} to {min(counts):,} a class",
        f"- Shot groups by {CLASS_SIZE}: {shots} ({info.shot_groups.describe()})",
        f"- Most images: {_counted(info, order[:_FEW_NAMES])}",
    ]
    if len(order) > _FEW_NAMES:
        lines.append(f"- Fewest images: {_counted(info, order[-_FEW_NAMES:])}")
    return lines


def _added(info: PackInfo) -> list[str]:
    """Say which classes were added without training, and how."""
    if not info.additions:
        return []
    lines, first = ["## What was added without training", ""], info.trained_classes
    for addition in info.additions:
        labels = range(first, first + addition.classes)
        first += addition.classes
        pictures = sum(info.class_counts[label] for label in labels)
        lines.append(
            f"- {plural(addition.classes, 'class')} from {plural(pictures, 'picture')} of {_plain(addition.data)}, by "
            f"`lpt extend`: {_counted(info, labels[:_MANY_NAMES])}"
            + (f" and {addition.classes - _MANY_NAMES:,} more" if addition.classes > _MANY_NAMES else "")
            + ". The row of a class is the mean feature of its pictures. Scale chosen "
            f"{_plain_long(addition.chosen)}, factor {addition.factor:.3f}."
        )
        if (known := addition.known) is not None:
            lines.append(
                f"- On {plural(known.images, 'picture')} of the other classes {100 * known.before:.1f} % were right "
                f"before that, and {100 * known.after:.1f} % are right with it."
            )
        else:
            lines.append("- What the other classes lost by it was not measured.")
    return [*lines, ""]


def _weaknesses(info: PackInfo, measured: dict[str, Metrics]) -> list[str]:
    lines = [
        "- Every picture gets one of these classes, also a picture of something else"
        + ("." if info.rejection is None else "; `lpt predict --reject` says of which it thinks so."),
        "- Pictures that differ from the training images, in camera, light or place, may do worse than measured here.",
    ]
    if info.counts_known:
        counts = info.class_counts[: info.trained_classes]
        few, empty = sum(count < info.shots.few_below for count in counts), counts.count(0)
        lines.append(
            f"- {few:,} of {plural(len(counts), 'class')} had fewer than {info.shots.few_below} training "
            "images: expect more mistakes there."
        )
        if empty:
            lines.append(f"- {plural(empty, 'class')} had no training image at all: it cannot know them.")
    if info.additions:
        lines.append(
            "- Classes that were added without training are known from a few pictures, and take some pictures of the "
            "others."
        )
    for split, metrics in list(measured.items())[:1]:
        if metrics.few is not None and metrics.many is not None:
            lines.append(
                f"- On {_plain(split)} images the few-shot classes are right {100 * metrics.few:.1f} % of the time, "
                f"the many-shot ones {100 * metrics.many:.1f} %."
            )
        if metrics.worst_decile is not None:
            lines.append(f"- The worst tenth of the classes is right {100 * metrics.worst_decile:.1f} % of the time.")
        if metrics.ece is not None:
            lines.append(f"- Probabilities are off by {100 * metrics.ece:.1f} points on average.")
    return lines


def _not_measured(info: PackInfo) -> str:
    if info.additions:
        return "Nothing since classes were added, and earlier numbers do not hold. Measure it with `lpt evaluate`."
    if info.trained_with("imported") is not None:
        return "Nothing: the pack was imported. Measure it with `lpt evaluate`."
    return "Nothing: the run had neither a test nor a validation split."


def _details(info: PackInfo, pack_bytes: int) -> list[str]:
    method, probabilities = info.method, info.probabilities
    return [
        f"- Trained tensors: {method.trainable_parameters:,} numbers, {pack_bytes / 2**20:.2f} MiB, "
        f"{100 * method.share_of_backbone:.1f} % of the backbone's parameters",
        f"- Backbone weights: sha256 `{info.backbone.weight_hash}` over the tensors; lpt refuses others",
        f"- Method: {method_line(method)}",
        f"- Probabilities: softmax({probabilities.scale:g} * {score_name(method)} / "
        f"{probabilities.temperature:.3g}), {probabilities.fit_in_words}; for {frequencies(info)}",
        f"- Pictures of none of the classes (`--reject`): {rejection_line(info)}",
        f"- Written by lpt {info.versions.lpt}, timm {info.versions.timm}, torch {info.versions.torch}",
    ]


def _names(names: Sequence[str]) -> str:
    """List the first class names, and say how many more there are."""
    first = ", ".join(_plain(name) for name in names[:_MANY_NAMES])
    more = len(names) - _MANY_NAMES
    return f"{first} and {more:,} more (`pack.json` has all)" if more > 0 else first


def _counted(info: PackInfo, labels: Sequence[int]) -> str:
    return ", ".join(f"{_plain(info.class_names[label])} ({info.class_counts[label]:,})" for label in labels)


def _plain(text: str) -> str:
    """Return a text on one line that Markdown shows as it is, shortened."""
    line = " ".join(one_line(text).split())
    line = line if len(line) <= _LONGEST_NAME else line[:_LONGEST_NAME] + "..."
    return _MARKUP.sub(r"\\\g<0>", line)


def _plain_long(text: str) -> str:
    """Return a sentence of lpt's own that Markdown shows as it is."""
    return _MARKUP.sub(r"\\\g<0>", one_line(text))


def _code(text: str) -> str:
    """Return a text for a code span on one line, shortened."""
    return " ".join(one_line(text).replace("`", "'").split())[:_LONGEST_NAME] or "?"


def _arguments(options: list[str]) -> str:
    """Return the arguments of `load_predictor` that mean the same as these options of the command line."""
    values = dict(zip(options[::2], options[1::2], strict=True))
    arguments = [f"{name.removeprefix('--')}={json.dumps(value)}" for name, value in values.items()]
    return ", ".join([f'"{PLACE}"', *arguments])


def held_out(info: PackInfo) -> str:
    """Say how many of the training images were held out as a share for testing and validation; empty if none."""
    cut = {"testing": _cut(info, "test"), "validation": _cut(info, "validation")}
    parts = [f"{images:,} for {purpose}" for purpose, images in cut.items() if images]
    return f" ({' and '.join(parts)} held out)" if parts else ""


def _cut(info: PackInfo, split: str) -> int:
    """Return how many images of a split were cut from the training images; 0 where others were given."""
    try:
        float(info.trained_with("data", split))  # a share; a source of images is no number
    except (TypeError, ValueError):
        return 0
    images = info.metrics.get(split, {}).get("images", 0)
    return int(images)


def frequencies(info: PackInfo) -> str:
    """Name the class frequencies that the probabilities assume without a prior."""
    return "even classes" if info.probabilities.classes == "even" else "the class frequencies of the training images"


def rejection_line(info: PackInfo) -> str:
    """Describe the threshold for images that show none of the classes."""
    rejection = info.rejection
    if rejection is None:
        return "no threshold (lpt calibrate fits one)"
    kept = rejection.kept
    groups = [(name, getattr(kept, name)) for name in info.shot_groups.names]
    shares = ", ".join(f"{name} {100 * share:.1f}" for name, share in groups if share is not None)
    return (
        f"largest {score_name(info.method)} below {rejection.threshold:.4g}, fitted on {rejection.fitted_on} to keep "
        f"{100 * rejection.keep:g} %; of these it keeps {100 * kept.overall:.1f} %"
        + (f" (mean over classes: {shares})" if info.counts_known else "")  # or all of them count as few-shot
    )


def score_name(method: MethodInfo) -> str:
    """Name the output of a method's head."""
    return "cosine" if method.head == "cosine" else "logit"


def method_line(method: MethodInfo) -> str:
    """Describe in one line what was trained."""
    if method.grouped:
        cheap = ", picked by the class token after the shared-only blocks" if method.query == "prefix" else ""
        pool = (
            f", {plural(method.shared_blocks or 0, 'shared-only block')}, "
            f"{plural(method.pool_size, 'group prompt')} of which "
            f"{method.top_k} {'is' if method.top_k == 1 else 'are'} picked for an image{cheap}"
        )
        phases = "both phases" if 2 in method.phases else "phase 1 only"
        return (
            f"Long-tailed Prompt Tuning (Dong et al., ICLR 2023), {phases}; prompt length {method.prompt_length}"
            + (pool if 2 in method.phases else "")
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
