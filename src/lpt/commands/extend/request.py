"""What an extension is asked for, and the pack and pictures that it then works on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lpt.commands.run_images import is_run, open_validation
from lpt.config.bounds import check_positive
from lpt.config.schema import DataConfig, validate
from lpt.data.cache import with_white
from lpt.data.manifest import LabelledImages
from lpt.data.sample import SAMPLE, count_known
from lpt.data.sources import OpenedImages, open_images
from lpt.data.sources.raw import SplitName
from lpt.errors import DataError, PackError
from lpt.evaluation.shift import known_images, match_classes
from lpt.packs.info import PackInfo
from lpt.packs.pack import Pack, load_pack
from lpt.system.text import plural, shorten


@dataclass(frozen=True)
class ExtendRequest:
    """A pack, the pictures of new classes, and where the new pack goes.

    Args:
        pack: the pack folder, a run folder that holds one, or an address on the hub.
        data: the source of the pictures of the new classes.
        output: folder of the new pack.
        known: source of labelled pictures of the pack's own classes, or a run folder, for its validation images; None:
            none.
        known_split: which split to take if that source has several.
        data_settings: fields of the `data` section, such as the image root, for both sources.
        checkpoint: local weights of the backbone, if it is given by name.
        device: as for `Predictor`.
        batch_size: images in a forward pass.
    """

    pack: str | Path
    data: str
    output: Path
    known: str | None = None
    known_split: SplitName = "validation"
    data_settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: Path | None = None
    device: str = "auto"
    batch_size: int = 64


class Task(NamedTuple):
    """The pack to extend and the pictures to do it with.

    Args:
        pack: the pack.
        new: pictures of the new classes, labelled 0..K-1.
        known: pictures of the pack's classes, labelled as in the pack; None: none were given.
        notes: what a user should know about the pictures.
        skipped: pictures that cannot be read, as (name, reason).
    """

    pack: Pack
    new: LabelledImages
    known: LabelledImages | None
    notes: Sequence[str]
    skipped: Sequence[tuple[str, str]]


def open_task(request: ExtendRequest) -> Task:
    """Load the pack of a request and open the pictures; no network runs.

    Raises:
        PackError, ConfigError, DataError: one of them cannot be used.
    """
    check_positive(batch_size=request.batch_size)
    pack = load_pack(request.pack)
    check_method(pack)
    config = validate({"data": {**request.data_settings, "source": request.data}}, origin="the options").data
    opened = open_images(request.data, config, split="train")
    check_classes(opened.images, pack.info, request.data)
    notes, skipped, known = list(opened.notes), list(opened.skipped), None
    if request.known is not None:
        others = _open_known(request.known, request.known_split, config)
        known, more = _known(others, pack.info, request.known)
        notes += [*others.notes, *more]
        skipped += others.skipped
    new, *rest = with_white([opened.images, *([] if known is None else [known])], pack.info.preprocessing.white)
    return Task(pack, new, rest[0] if rest else None, notes, skipped)


def _open_known(source: str, split: SplitName, config: DataConfig) -> OpenedImages:
    if is_run(source):
        return open_validation(source, split=split, option="--known-split")
    return open_images(source, config, split=split, split_option="--known-split")


def check_method(pack: Pack) -> None:
    """Check that a pack classifies by cosines with features of the frozen backbone.

    Raises:
        PackError: it does not.
    """
    method = pack.info.method
    advice = "Next: train one with a cosine head on the frozen backbone, such as lpt fit DATA --method lpt."
    if method.head != "cosine":
        raise PackError(
            f"the pack {pack.origin} has a {method.head} head (method {method.name}). lpt extend adds rows to a cosine "
            f"head only. {advice}"
        )
    if method.weights != "none" or method.lora_rank:
        raise PackError(
            f"the pack {pack.origin} has trained weights of the backbone (method {method.name}), so its features know "
            f"its own classes only. lpt extend takes packs on the frozen backbone. {advice}"
        )


def check_classes(images: LabelledImages, info: PackInfo, source: str) -> None:
    """Check that the classes of a source are new, and that each has a picture.

    Raises:
        DataError: the pack has one of them already, or one has no picture.
    """
    matching = match_classes(images, info.class_names)
    pairs = [
        (theirs, info.class_names[target])
        for theirs, target in zip(images.class_names, matching.target.tolist(), strict=True)
        if target >= 0
    ]
    if pairs:
        named = [ours if theirs == ours else f"{ours} (here {theirs})" for theirs, ours in pairs]
        raise DataError(
            f"{source}: the pack has {plural(len(pairs), 'class')} of it already: {shorten(named)}. lpt extend adds "
            "classes and leaves those of the pack as they are. Next: take these out, or give a class that is another "
            "one another name; to learn from more pictures of a class, train again with lpt fit."
        )
    empty = [images.class_names[label] for label in np.flatnonzero(images.class_counts == 0)]
    if empty:
        raise DataError(
            f"{source}: {plural(len(empty), 'class')} without a picture that can be read: {shorten(empty)}. Give each "
            "new class at least one picture, or leave it out."
        )


def _known(opened: OpenedImages, info: PackInfo, source: str) -> tuple[LabelledImages, list[str]]:
    """Return the pictures of the pack's classes, and what to know about them."""
    images, matching = known_images(opened.images, info.class_names, source)
    notes = []
    if matching.left_out:
        notes.append(
            f"Left out of {source}: {plural(matching.left_out_images, 'image')} of "
            f"{plural(len(matching.left_out), 'class')} the pack does not have: {shorten(matching.left_out)}."
        )
    sample = info.training.get(SAMPLE)
    sample = [entry for entry in sample if isinstance(entry, str)] if isinstance(sample, list) else []
    if trained := count_known(images, sample):
        notes.append(
            f"The pack was trained on some of these images ({trained:,} of {plural(len(sample), 'training image')} "
            f"looked for are in {source}): the scale then favours old classes, and what they lose looks too small."
        )
    return images, notes
