"""`lpt import`: make a pack of a checkpoint that the authors' code saved."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from lpt.commands.import_checkpoint.classes import Classes, read_classes, read_counts
from lpt.commands.import_checkpoint.layout import (
    Checkpoint,
    architecture_of,
    check_backbone,
    read_checkpoint,
    suit_to_norm,
)
from lpt.commands.results import new_output
from lpt.config.architecture import Architecture
from lpt.config.faults import faults
from lpt.config.schema import ImageConfig
from lpt.data.longtail import ShotGroups
from lpt.data.transforms import Preprocessing
from lpt.errors import ConfigError, DataError
from lpt.model.backbone import FrozenViT
from lpt.model.build import build_model
from lpt.model.consent import needed_options
from lpt.model.pretrained import load_backbone
from lpt.packs.info import PackInfo, Probabilities
from lpt.packs.pack import Pack, encode_tensors, load_pack, write_pack
from lpt.packs.reference import make_reference
from lpt.report.card import model_card
from lpt.system.files import last_part
from lpt.system.text import plural

PUBLISHED_SCALE = 20.0
"""Factor on the cosines in the authors' loss."""
PUBLISHED_TOP_K = 2
"""Group prompts that the authors' code picks for an image; their checkpoints do not say it."""

PUBLISHED_EPS = 1e-5
"""eps of LayerNorm in the authors' code, PyTorch's default; timm's backbones have 1e-6."""


def import_checkpoint(
    file: str | Path,
    output: str | Path,
    *,
    backbone: FrozenViT | str,
    classes: str | Path | Sequence[str],
    counts: str | Path | Sequence[int] | None = None,
    checkpoint: str | Path | None = None,
    top_k: int = PUBLISHED_TOP_K,
    size: int | Sequence[int] | None = None,
    norm_eps: float = PUBLISHED_EPS,
    console: Console | None = None,
) -> Pack:
    """Make a pack of a checkpoint that the authors' code saved: what `lpt import` does, from Python.

    If the file holds a whole model, its backbone must be the given one, tensor by tensor. Prompts are scaled to act on
    it as in the authors' code, whose LayerNorm has another eps; keys and head are taken as they are.

    Args:
        file: the checkpoint, a whole model or the prompts alone, with or without `module.` before the names.
        output: folder of the pack, which must not be there yet.
        backbone: the backbone, or its name.
        classes: a file with a class a line, `name` or `name,count`, in the order of the labels; or the names.
        counts: training images of each class: a file with a number a line, or the numbers. None: those in `classes`;
            if that has none, they are unknown.
        checkpoint: local weights of the backbone, if it is given by name.
        top_k: group prompts that an image picks; a checkpoint does not hold it.
        size: side, or height and width, of the input, pixels; None: that of the backbone's weights.
        norm_eps: eps of LayerNorm in the code that trained the checkpoint.
        console: where to report; None: silent.

    Raises:
        DataError: a file cannot be read, is not of this layout, or names other than as many classes.
        ConfigError: the checkpoint does not fit the backbone, or an argument is wrong.
        RunError: the output is there already, or cannot be written.
    """
    file, output, console = Path(file), Path(output), console or Console(quiet=True)
    if not 0 < norm_eps <= 0.1:
        raise ConfigError(
            f"--norm-eps {norm_eps}: a number above 0, up to 0.1, is accepted; the authors' code has 1e-5"
        )
    with new_output(output, console):
        read = read_checkpoint(file)
        named = _classes(classes, counts, read)
        loaded = _backbone(backbone, checkpoint)
        check_backbone(read, loaded)
        architecture = architecture_of(read, loaded, top_k)
        read = replace(read, trained=suit_to_norm(read.trained, loaded, norm_eps))
        info, content = _packed(read, named, loaded.at_size(_size(size, loaded)), architecture)
        write_pack(output, info, content, model_card(info, {}, len(content)))
    pack = load_pack(output)
    _report(pack, read, console)
    return pack


def _packed(
    read: Checkpoint, classes: Classes, backbone: FrozenViT, architecture: Architecture
) -> tuple[PackInfo, bytes]:
    """Return the description and the tensors of the pack."""
    model = build_model(architecture, backbone, read.classes)
    model.load_state_dict(read.trained)
    model.requires_grad_(False)
    content = encode_tensors(model.state_dict())
    values: dict[str, Any] = {
        "class_names": classes.names,
        "class_counts": classes.counts or [1] * len(classes.names),
        "counts_known": classes.counts is not None,
    }
    try:
        info = PackInfo.of(
            **values,
            backbone=backbone.record,
            preprocessing=_preprocessing(backbone),
            shot_groups=ShotGroups(),
            method="lpt" if read.grouped else "lpt-phase1",
            architecture=architecture,
            phases=[1, 2] if read.grouped else [1],
            probabilities=Probabilities(
                scale=PUBLISHED_SCALE, temperature=1.0, fitted_on="nothing (an imported checkpoint); temperature 1"
            ),
            reference=make_reference(model, group_prompts=read.grouped),
            tensors=content,
            training={"imported": {"file": last_part(read.file), "sha256": _sha256(read.file)}},
        )
    except ValidationError as error:
        raise DataError(f"the classes cannot be stored in a pack: {faults(error)}") from None
    return info, content


def _preprocessing(backbone: FrozenViT) -> Preprocessing:
    """Return the authors' preprocessing: a square of 8/7 of the side, its centre, the backbone's normalisation."""
    image, record = ImageConfig(), backbone.record
    return Preprocessing(
        size=backbone.image_size,
        mean=record.mean,
        std=record.std,
        interpolation=image.interpolation,
        test_crop=image.test_crop,
        crop_area=image.crop_area,
        crop_aspect=image.crop_aspect,
        flip=image.flip,
    )


def _classes(
    classes: str | Path | Sequence[str], counts: str | Path | Sequence[int] | None, read: Checkpoint
) -> Classes:
    """Return as many class names as the checkpoint has classes, with their counts."""
    is_file = isinstance(classes, str | Path)
    named = read_classes(Path(classes)) if is_file else Classes(list(classes), None)  # type: ignore[arg-type]
    where = f"--classes {classes}" if is_file else "--classes"
    if len(named.names) != read.classes:
        raise DataError(
            f"{where}: there are {plural(len(named.names), 'class')}, but the head in {read.file} has {read.classes}. "
            "Name all of them, in the order of the labels in training."
        )
    if counts is None:
        return named
    if named.counts is not None:
        raise ConfigError(f"--counts: {where} has the counts already; give them once")
    numbers = read_counts(Path(counts), read.classes) if isinstance(counts, str | Path) else list(counts)
    if len(numbers) != read.classes:
        raise DataError(f"--counts: there are {plural(len(numbers), 'number')} for {plural(read.classes, 'class')}")
    return named._replace(counts=numbers)


def _backbone(backbone: FrozenViT | str, checkpoint: str | Path | None) -> FrozenViT:
    if isinstance(backbone, FrozenViT):
        return backbone
    return load_backbone(backbone, checkpoint=None if checkpoint is None else Path(checkpoint))


def _size(size: int | Sequence[int] | None, backbone: FrozenViT) -> tuple[int, int]:
    if size is None:
        return backbone.record.native_size
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or any(isinstance(side, bool) or not isinstance(side, int) or side < 1 for side in sides):
        raise ConfigError(f"--size: pixels as 224, or height x width as 160x128, are accepted; got {size!r}")
    return sides[0], sides[1]


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _report(pack: Pack, read: Checkpoint, console: Console) -> None:
    info, method = pack.info, pack.info.method
    compared = (
        f"its backbone is {info.backbone.name}, tensor by tensor ({len(read.backbone)})"
        if read.backbone
        else f"it holds no backbone, so nothing shows whether {info.backbone.name} is the right one: measure the pack"
    )
    picks = f", of which {method.top_k} are picked (--top-k)" if read.grouped else ""
    pool = f"{plural(method.pool_size, 'group prompt')}{picks}" if read.grouped else "no group prompts: phase 1 alone"
    console.print(f"Imported {read.file}: {plural(read.classes, 'class')}, {pool}; {compared}.", markup=False)
    if not info.counts_known:
        console.print(
            "The training images of each class are unknown: shot groups mean nothing until you import again with "
            "name,count lines in --classes, or with --counts.",
            style="yellow",
            markup=False,
        )
    console.print(f"Pack: {pack.path} ({pack.stored_bytes / 2**20:.2f} MiB)", markup=False)
    options = needed_options(info.backbone)
    console.print(f"Next: {shlex.join(['lpt', 'evaluate', str(pack.path), 'DATA', *options])}", markup=False)
