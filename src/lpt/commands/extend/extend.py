"""`lpt extend`: add classes to a pack from a few pictures of each, without training."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from rich.console import Console

from lpt.commands.extend.features import encode, make_encoder
from lpt.commands.extend.packaging import Added, extended_pack
from lpt.commands.extend.request import ExtendRequest, Task, open_task
from lpt.commands.extend.rows import (
    HeldOut,
    NewClasses,
    fitting_factor,
    known_pictures,
    left_out,
    new_rows,
    shot_scales,
    unit,
)
from lpt.commands.inputs import data_settings
from lpt.commands.results import new_output
from lpt.config.bounds import MAX_PIXELS
from lpt.data.manifest import Float32Array, FloatArray
from lpt.data.sources.raw import SplitName
from lpt.evaluation.extension import OldClasses, measure_old_classes
from lpt.evaluation.predictions import Predictions
from lpt.model.backbone import FrozenViT
from lpt.model.build import Classifier
from lpt.model.consent import permitted_name
from lpt.model.pretrained import load_backbone
from lpt.packs.pack import Pack
from lpt.report.extension import print_extension
from lpt.system.hardware import inspect_machine
from lpt.system.readers import refuse_second_start
from lpt.system.text import plural

LEAST_KNOWN = 50
"""Fewest pictures of the pack's classes that the scale of new ones is chosen on."""
RULE = "by the rule for the number of pictures"


@dataclass(frozen=True)
class Extension:
    """A pack with new classes.

    Args:
        pack: the new pack.
        factor: factor on the scale that a row of so many pictures gets.
        chosen: how the factor was chosen: `on` which pictures, or `by` rule.
        old_classes: what the pack's own classes lose; None: no pictures of them were given.
        new_right: pictures that are right when each is left out of the row of its class; only of classes with several.
        new_judged: number of those pictures.
    """

    pack: Pack
    factor: float
    chosen: str
    old_classes: OldClasses | None
    new_right: int
    new_judged: int


class _Seen(NamedTuple):
    """The pictures as the model sees them; scores of the pack's own classes, [n, C]."""

    new: NewClasses
    of_new: Predictions
    of_known: Predictions | None
    known_scores: Float32Array | None


def extend(
    pack: str | Path,
    data: str | Path,
    output: str | Path,
    *,
    known: str | Path | None = None,
    known_split: SplitName = "validation",
    image_root: str | Path | None = None,
    image_column: str | None = None,
    label_column: str | None = None,
    split_column: str | None = None,
    bad_images: Literal["stop", "skip", "repair"] = "stop",
    max_pixels: int = MAX_PIXELS,
    backbone: FrozenViT | str | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 64,
    console: Console | None = None,
) -> Extension:
    """Add classes to a pack from a few pictures of each, without training: what `lpt extend` does, from Python.

    A new class gets a row of the cosine head, the mean feature of its pictures under the pack's prompts, and a scale.
    All tensors of the pack stay as they are, and so do the scores of its classes.

    Args:
        pack: the pack folder, a run folder that holds one, or `hf://OWNER/NAME[@REVISION]` on the hub.
        data: pictures of the new classes, in any form of `data.source`; if it has several splits, `train` is taken.
        output: folder of the new pack, which must not be there yet.
        known: labelled pictures of the pack's own classes that it was not trained on; or a run folder, for its own
            validation images. The scale is chosen on them, and what these classes lose is measured. None: the scale
            follows from the number of pictures, and nothing is measured.
        known_split: which split of `known` to take if it has several.
        image_root, image_column, label_column, split_column, bad_images, max_pixels: as for `lpt.evaluate`, for both
            sources; a run is opened by its own settings.
        backbone: the backbone, or its name; None: the one that the pack names.
        checkpoint: local weights of the backbone, if it is not given itself.
        device: auto, cpu, cuda or mps; a given `FrozenViT` stays where it is.
        batch_size: images in a forward pass.
        console: where to report; None: silent.

    Raises:
        PackError: the pack cannot be used, has no cosine head, or has trained weights of the backbone.
        DataError: the pictures cannot be used, or the pack has one of their classes already.
        ConfigError: the backbone cannot be loaded, or an argument is wrong.
        RunError: the output is there already, or cannot be written.

    Example:
        >>> extension = lpt.extend("runs/photos", "new_classes/", "packs/more")
        >>> extension.pack.info.class_names
        ['dark', 'grey', 'light', 'red']
    """
    request = ExtendRequest(
        pack=pack,
        data=str(data),
        output=Path(output),
        known=None if known is None else str(known),
        known_split=known_split,
        data_settings=data_settings(image_root, image_column, label_column, split_column, bad_images, max_pixels),
        checkpoint=None if checkpoint is None else Path(checkpoint),
        device=device,
        batch_size=batch_size,
    )
    console = console or Console(quiet=True)
    return extend_pack(request, backbone=backbone, console=console, progress=console)


def extend_pack(
    request: ExtendRequest, *, backbone: FrozenViT | str | None, console: Console, progress: Console
) -> Extension:
    """Add classes to a pack, write it, and print what its own classes lose; arguments and errors as for `extend`."""
    refuse_second_start("lpt.extend")
    with new_output(request.output, progress):
        return _extend_locked(request, backbone, console, progress)


def _extend_locked(
    request: ExtendRequest, backbone: FrozenViT | str | None, console: Console, progress: Console
) -> Extension:
    task = open_task(request)
    on = _backbone(task.pack, backbone, request)
    seen = _look(task, task.pack.build(on), request.batch_size, progress)
    held_out = left_out(seen.new)
    factor, chosen = _factor(task, seen, held_out)
    scales = factor * shot_scales(seen.new.counts)
    old_classes = _measure(task, seen, scales)
    added = Added(
        names=task.new.class_names,
        counts=seen.new.counts,
        rows=new_rows(seen.new),
        scales=scales,
        groups=seen.of_new.groups,
        labels=seen.of_new.labels,
        factor=factor,
        chosen=chosen,
        data=request.data,
        old_classes=old_classes,
    )
    written = extended_pack(task, added, on, request.output)
    right = held_out.own & (factor * held_out.new > held_out.old)
    result = Extension(written, factor, chosen, old_classes, int(right.sum()), len(right))
    print_extension(
        written,
        old_classes,
        new_right=result.new_right,
        new_judged=result.new_judged,
        notes=task.notes,
        skipped=task.skipped,
        lost_threshold=task.pack.info.rejection is not None,
        console=console,
    )
    return result


def _backbone(pack: Pack, given: FrozenViT | str | None, request: ExtendRequest) -> FrozenViT:
    """Return the backbone in float32 on the device of a request; a given one as it is."""
    if isinstance(given, FrozenViT):
        return given
    name = given or permitted_name(pack.info.backbone, pack.origin, checkpoint=request.checkpoint)
    device = inspect_machine(request.device).device
    return load_backbone(name, checkpoint=request.checkpoint).to(torch.device(device))


def _look(task: Task, model: Classifier, batch_size: int, progress: Console) -> _Seen:
    """Encode all pictures, and score them for the classes of the pack."""
    tensors, info = task.pack.tensors, task.pack.info
    rows = unit(tensors["head.weight"])
    if (scale := tensors.get("head.scale")) is not None:
        rows[-len(scale) :] *= scale[:, None]
    make_encoder(model)

    def scores(seen: Predictions) -> Float32Array:
        return (seen.scores @ rows.T).astype(np.float32)

    of_new = encode(model, info, task.new, batch_size=batch_size, what="new classes", progress=progress)
    new = NewClasses(of_new.scores, of_new.labels, scores(of_new))
    if task.known is None:
        return _Seen(new, of_new, None, None)
    of_known = encode(model, info, task.known, batch_size=batch_size, what="known pictures", progress=progress)
    return _Seen(new, of_new, of_known, scores(of_known))


def _factor(task: Task, seen: _Seen, held_out: HeldOut) -> tuple[float, str]:
    """Return the factor on the scales of the new classes, and what it was chosen on."""
    if seen.of_known is None or seen.known_scores is None:
        return 1.0, f"{RULE} (no pictures of the other classes were given)"
    known, labels = len(seen.of_known.labels), seen.of_known.labels
    if known < LEAST_KNOWN:
        return 1.0, f"{RULE} ({plural(known, 'picture')} of the other classes: fewer than {LEAST_KNOWN})"
    if not len(held_out.labels):
        return 1.0, f"{RULE} (no new class has two pictures)"
    pictures = known_pictures(seen.new, seen.of_known.scores, labels, seen.known_scores)
    classes = len(task.pack.info.class_names), len(task.new.class_names)
    chosen = (
        f"on {plural(known, 'picture')} of the other classes and {len(held_out.labels):,} of the new ones, each left "
        "out of its row"
    )
    return fitting_factor(pictures, held_out, *classes), chosen


def _measure(task: Task, seen: _Seen, scales: FloatArray) -> OldClasses | None:
    """Measure what the classes of the pack lose, if there are pictures of them."""
    if seen.of_known is None or seen.known_scores is None:
        return None
    info = task.pack.info
    new_scores = (seen.of_known.scores @ new_rows(seen.new).T * scales).astype(np.float32)
    return measure_old_classes(
        np.concatenate([seen.known_scores, new_scores], axis=1),
        seen.of_known.labels,
        np.array([*info.class_counts, *seen.new.counts.tolist()], dtype=np.int64),
        info.shot_groups,
        [*info.class_names, *task.new.class_names],
        old_classes=len(info.class_names),
        sharpness=info.probabilities.scale / info.probabilities.temperature,
    )
