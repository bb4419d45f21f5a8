"""Print a pack for `lpt inspect`."""

from __future__ import annotations

import shlex

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lpt.config.bounds import one_line
from lpt.data.longtail import imbalance_factor
from lpt.evaluation.metrics import Metrics
from lpt.model.consent import options_for, refused_by_form
from lpt.packs.info import PackInfo
from lpt.packs.pack import Pack
from lpt.report.card import frequencies, held_out, method_line, rejection_line, score_name
from lpt.report.tables import metrics_table
from lpt.system.text import plural, shorten

_LISTED = 5
_BESIDE_CENTRE = {1: "", 2: " and its mirror image", 5: " and four corners"}


def print_pack(pack: Pack, console: Console) -> None:
    """Print everything that a person may want to know about a pack."""
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _rows(pack):
        table.add_row(name, Text(one_line(text)))
    console.print(table)
    metrics = {name: Metrics.from_dict(values) for name, values in pack.info.metrics.items()}
    if metrics:
        console.print()
        console.print(metrics_table(metrics))
    elif pack.info.additions:
        console.print("It was not measured since classes were added: what was measured before does not hold.")
    else:
        console.print("It was not measured: there was neither a test nor a validation split.")
    console.print(_tensors(pack))


def _rows(pack: Pack) -> list[tuple[str, str]]:
    info = pack.info
    method, backbone, image = info.method, info.backbone, info.preprocessing
    mirrored = "mirrored" if image.flip else "never mirrored"
    height, width = image.size
    options = options_for(backbone) if refused_by_form(backbone) else []
    return [
        ("pack", pack.origin),
        ("written with", f"lpt {info.versions.lpt}, timm {info.versions.timm}, torch {info.versions.torch}"),
        ("classes", _classes(info)),
        ("trained on", _training_images(info)),
        *(("added", text) for text in _additions(info)),
        ("method", method_line(method)),
        (
            "size",
            f"{method.trainable_parameters:,} numbers, {pack.stored_bytes / 2**20:.2f} MiB: "
            f"{100 * method.share_of_backbone:.2f} % of the backbone's {backbone.parameters / 1e6:.1f} M",
        ),
        ("backbone", f"{backbone.name}, licence {backbone.licence}"),
        (
            "its weights",
            f"sha256 {backbone.weight_hash}"
            + (f", from {backbone.checkpoint}" if backbone.checkpoint else "")
            + (f"; give it with {shlex.join(options)}" if options else ""),
        ),
        (
            "input",
            f"{height}x{width} pixels, {image.interpolation}, central {100 * image.test_crop:.4g} % of the side"
            f"{_BESIDE_CENTRE[image.test_views]}; "
            f"{mirrored} in training",
        ),
        (
            "probabilities",
            f"softmax({info.probabilities.scale:g} x {score_name(method)} / {info.probabilities.temperature:.4g}); "
            f"{info.probabilities.fit_in_words}; for {frequencies(info)}",
        ),
        ("--reject", rejection_line(info)),
        ("training", _training(info)),
        ("tensors", f"verified, sha256 {info.tensors_sha256}"),
    ]


def _classes(info: PackInfo) -> str:
    names = info.class_names
    shown = ", ".join(names[: 2 * _LISTED]) + (
        f", ... and {len(names) - 2 * _LISTED:,} more" if len(names) > 10 else ""
    )
    return f"{len(names):,}: {shown}"


def _training_images(info: PackInfo) -> str:
    if not info.counts_known:
        return "unknown: nobody gave the training images of each class"
    counts = np.asarray(info.class_counts[: info.trained_classes])
    present = counts[counts > 0]
    groups = info.shot_groups
    sizes = np.bincount(groups.of(present), minlength=3)
    shots = ", ".join(f"{size} {name}" for name, size in zip(groups.names, sizes, strict=True))
    return (
        f"{plural(int(counts.sum()), 'image')}{held_out(info)}, {present.max():,} to {present.min():,} a class "
        f"(imbalance factor {imbalance_factor(present):.1f}): {shots}-shot ({groups.describe()})"
    )


def _additions(info: PackInfo) -> list[str]:
    """Describe the classes that were added without training, a text for each time."""
    texts, first = [], info.trained_classes
    for addition in info.additions:
        names = info.class_names[first : first + addition.classes]
        pictures = sum(info.class_counts[first : first + addition.classes])
        first += addition.classes
        texts.append(
            f"{plural(addition.classes, 'class')} without training, from {plural(pictures, 'picture')} of "
            f"{addition.data}: {shorten(names)}; scale chosen {addition.chosen}"
        )
    return texts


def _training(info: PackInfo) -> str:
    setting = info.trained_with
    if (file := setting("imported", "file")) is not None:
        return f"by the authors' code, imported from {file}"
    numbers = (setting("train", phase, "epochs") for phase in ("phase1", "phase2"))
    epochs = " + ".join("?" if number is None else str(number) for number in numbers)
    return (
        f"preset {setting('preset')}, {epochs} epochs of {_steps(setting('train', 'epoch_steps'))}, "
        f"batch size {setting('train', 'batch_size')}, seed {setting('runtime', 'seed')}, "
        f"data {setting('data', 'source') or 'given in Python'}"
    )


def _steps(number: object) -> str:
    return plural(number, "step") if isinstance(number, int) else f"{number} steps"


def _tensors(pack: Pack) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 2, 0, 0))
    table.add_column("tensor")
    table.add_column("shape")
    table.add_column("numbers", justify="right")
    for name, array in pack.tensors.items():
        table.add_row(name, " x ".join(map(str, array.shape)), f"{array.size:,}")
    return table
