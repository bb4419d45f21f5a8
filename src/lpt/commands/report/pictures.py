"""Find images of a run by their names, and make thumbnails of them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

import numpy as np

from lpt.commands.report.kept import KeptPredictions
from lpt.config.schema import validate
from lpt.config.values import section
from lpt.data.fingerprint import data_fingerprint
from lpt.data.manifest import LabelledImages
from lpt.data.sources import open_splits
from lpt.data.sources.huggingface import is_on_hub
from lpt.errors import DataError, LptError
from lpt.evaluation.confusion import ConfusedPair
from lpt.report.html.content import PairShown, Picture
from lpt.report.html.thumbnails import thumbnail_data

THUMBNAIL_SIDE = 84
"""Longer side of a thumbnail, pixels."""
_WRONG_SHOWN = 2


class Place(NamedTuple):
    """Where an image is: a split, and its position there."""

    images: LabelledImages
    row: int


def open_data(config: Mapping[str, Any], given: str | None = None) -> list[LabelledImages]:
    """Open the splits of a run again. A config.yaml may be a stranger's: nothing that it names is fetched from the hub.

    Args:
        config: the values of the run's config.yaml.
        given: where the user says that the data is; None: where config.yaml says.

    Raises:
        DataError: the data was given in Python, is not there any more, or is on the hub.
        ConfigError: the values are not those of a run.
    """
    data = {**section(config, "data"), **({} if given is None else {"source": given})}
    checked = validate({"data": data, "runtime": {"seed": _seed(config)}}, origin="config.yaml")
    if checked.data.source is None:
        raise DataError("the images were given in Python, so LPT cannot open them again: name them with --data")
    for source in (checked.data.source, checked.data.validation, checked.data.test):
        if isinstance(source, str) and source != given and is_on_hub(source):
            raise DataError(
                f"{source} is on the hub, and only what you name is fetched from there: add --data {source}"
            )
    splits = open_splits(checked.data, seed=checked.runtime.seed)
    parts = (splits.test, splits.validation, splits.train)
    return [images for images in parts if images is not None]


def find_measured(splits: Sequence[LabelledImages], kept: KeptPredictions, fingerprint: object) -> dict[str, Place]:
    """Return where the images that a run measured are, by name: a config.yaml may name any folder of this machine.

    Args:
        splits: the images that are there.
        kept: the predictions of the run.
        fingerprint: that of the measured split in run.json.

    Raises:
        DataError: names, labels or sizes of some differ.
    """
    for images in splits:  # they may have been moved with their folder, so that their paths are others
        if len(images) == len(kept.images) and data_fingerprint(images) == fingerprint:
            return {name: Place(images, row) for row, name in enumerate(kept.images)}
    # a comparison tests on a part of train; config.yaml names its folder in full, predictions.csv as it was given
    places = find_images(splits, kept.images) or _find_by_ends(splits, kept.images)
    parts = {id(place.images): place.images for place in places.values()}
    if len(parts) == 1 and all(name in places for name in kept.images):
        (images,) = parts.values()
        rows = np.array([places[name].row for name in kept.images], dtype=np.int64)
        if data_fingerprint(images.subset(rows)) == fingerprint:
            return places
    raise DataError(
        "the images that the run measured are not there, with their names, labels and sizes: others are not shown"
    )


def find_images(splits: Iterable[LabelledImages], names: Collection[str]) -> dict[str, Place]:
    """Return where images are, by name; those that are not there are left out."""
    wanted, places = set(names), dict[str, Place]()
    for images in splits:
        if len(places) == len(wanted):
            break
        for index in range(len(images)):
            name = images.name(index)
            if name in wanted and name not in places:
                places[name] = Place(images, index)
    return places


def _find_by_ends(splits: Iterable[LabelledImages], names: Iterable[str]) -> dict[str, Place]:
    """Return where images are whose paths end with these relative ones, by name."""
    wanted = {tuple(part for part in PurePath(name).parts if part != ".."): name for name in names}
    lengths, places = {len(parts) for parts in wanted}, dict[str, Place]()
    for images in splits:
        for index in range(len(images)):
            parts = PurePath(images.name(index)).parts
            for name in (wanted.get(parts[-length:]) for length in lengths):
                if name is not None:
                    places.setdefault(name, Place(images, index))
    return places


class PairImages(NamedTuple):
    """The images that show a confused pair, as rows of the predictions; None: there is no such image.

    Args:
        wrong: images of the true class that were taken for the other one, the surest mistakes first.
        right: an image of the true class that was recognised.
        other: an image of the other class that was recognised.
    """

    wrong: Sequence[int]
    right: int | None
    other: int | None


def choose_images(pairs: Sequence[ConfusedPair], kept: KeptPredictions) -> list[PairImages]:
    """Choose the images of confused pairs: the mistakes and the right predictions of the highest probability."""
    order = np.argsort(-kept.probability, kind="stable")
    best, wrong = dict[int, int](), dict[tuple[int, int], list[int]]()
    for row in order.tolist():
        true, predicted = int(kept.labels[row]), int(kept.predicted[row])
        if true == predicted:
            best.setdefault(true, row)
        elif len(rows := wrong.setdefault((true, predicted), [])) < _WRONG_SHOWN:
            rows.append(row)
    return [
        PairImages(wrong.get((pair.true, pair.predicted), []), best.get(pair.true), best.get(pair.predicted))
        for pair in pairs
    ]


def pairs_with_pictures(
    pairs: Sequence[ConfusedPair], kept: KeptPredictions, places: Mapping[str, Place], names: Sequence[str]
) -> list[PairShown]:
    """Return confused pairs with thumbnails of their images.

    Args:
        pairs: the pairs.
        kept: the predictions.
        places: where the images are, by name.
        names: names of the classes.
    """
    chosen = choose_images(pairs, kept)
    rows = {row for images in chosen for row in (*images.wrong, images.right, images.other) if row is not None}
    thumbnails = {row: thumbnail(places.get(kept.images[row])) for row in sorted(rows)}

    def picture(row: int) -> Picture:
        true, predicted = names[kept.labels[row]], names[kept.predicted[row]]
        right = bool(kept.labels[row] == kept.predicted[row])
        said = f"{true}, recognised" if right else f"{true}, taken for {predicted}"
        return Picture(thumbnails[row], f"{said} ({100 * kept.probability[row]:.0f} %)", right)

    return [
        PairShown(
            pair, [picture(row) for row in (*images.wrong, images.right, images.other) if row is not None]
        )
        for pair, images in zip(pairs, chosen, strict=True)
    ]  # fmt: skip


def thumbnail(place: Place | None) -> str:
    """Return a small WebP as base64; empty where the image is not there, or cannot be read."""
    if place is None:
        return ""
    try:
        image = place.images.read(place.row)
    except (LptError, OSError):
        return ""
    return thumbnail_data(image, THUMBNAIL_SIDE)


def _seed(config: Mapping[str, Any]) -> int:
    runtime = config.get("runtime")
    seed = runtime.get("seed", 0) if isinstance(runtime, Mapping) else 0
    return seed if isinstance(seed, int) else 0
