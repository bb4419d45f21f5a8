"""Measure how much accuracy is left when the images change: corrupted images, or another set of the same classes.

The caller measures a model; these functions choose the images and put the results together. The relative drop is
1 - shifted / clean. Under corruptions both accuracies are of the same images; for another set, of the classes that
both sets have.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt

from lpt.data.cache import CachedImages
from lpt.data.longtail import stratified_subset
from lpt.data.manifest import ImageSource, IntArray, LabelledImages
from lpt.errors import ConfigError, DataError
from lpt.evaluation.corruptions import (
    CORRUPTIONS,
    SEVERITIES,
    CorruptedImages,
    ReducedImages,
    find_kinds,
    find_severities,
)
from lpt.evaluation.metrics import ACCURACIES, Metrics
from lpt.system.text import composed, shorten

Measure = Callable[[str, LabelledImages], Metrics]
"""(name, images) -> metrics. The name stands for the images: a caller may cache results by it."""


@dataclass(frozen=True)
class ShiftCell:
    """The result under one corruption.

    Args:
        kind: name of the corruption.
        severity: 1 to 5.
        metrics: metrics under it.
    """

    kind: str
    severity: int
    metrics: Metrics


@dataclass(frozen=True)
class CorruptionShift:
    """Accuracy of one model on clean and corrupted images. Every kind has the same weight in a mean.

    Args:
        clean: metrics on the images as they are.
        cells: a result for each kind and severity, in that order.
    """

    clean: Metrics
    cells: tuple[ShiftCell, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that were measured."""
        return tuple(dict.fromkeys(cell.kind for cell in self.cells))

    @property
    def severities(self) -> tuple[int, ...]:
        """The severities that were measured."""
        return tuple(sorted({cell.severity for cell in self.cells}))

    def mean(self, measure: str, *, kind: str | None = None, severity: int | None = None) -> float | None:
        """Return the mean accuracy over kinds and severities; None if it is not defined.

        Args:
            measure: one of `ACCURACIES`.
            kind: only this kind; None: all.
            severity: only this severity; None: all.
        """
        values = [
            getattr(cell.metrics, measure)
            for cell in self.cells
            if kind in (None, cell.kind) and severity in (None, cell.severity)
        ]
        defined = [value for value in values if value is not None]
        return float(np.mean(defined)) if defined else None

    def drop(self, measure: str, *, kind: str | None = None, severity: int | None = None) -> float | None:
        """Return the relative drop of that mean, 1 - shifted / clean; None if clean is 0 or not defined."""
        return relative_drop(getattr(self.clean, measure), self.mean(measure, kind=kind, severity=severity))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as shift.json holds them."""
        return {
            "clean": self.clean.to_dict(),
            "mean_corruption_accuracy": {name: self.mean(name) for name in ACCURACIES},
            "relative_drop": {name: self.drop(name) for name in ACCURACIES},
            "by_severity": {
                str(severity): {
                    "accuracy": {name: self.mean(name, severity=severity) for name in ACCURACIES},
                    "relative_drop": {name: self.drop(name, severity=severity) for name in ACCURACIES},
                }
                for severity in self.severities
            },
            "by_kind": {
                kind: {
                    "family": CORRUPTIONS[kind].family,
                    "accuracy": {name: self.mean(name, kind=kind) for name in ACCURACIES},
                    "relative_drop": {name: self.drop(name, kind=kind) for name in ACCURACIES},
                }
                for kind in self.kinds
            },
            "cells": [
                {"kind": cell.kind, "severity": cell.severity, **cell.metrics.to_dict()}
                | {"relative_drop": {n: self.drop(n, kind=cell.kind, severity=cell.severity) for n in ACCURACIES}}
                for cell in self.cells
            ],
        }


@dataclass(frozen=True)
class ClassMatching:
    """The match between the classes of another set and those of the pack.

    Args:
        target: class of the pack for each class of the other set, [C2]; -1 if there is none or it is left out.
        left_out: names of classes with images that the pack does not know.
        left_out_images: number of their images.
        uncompared: names of classes that are left out because the pack's own data has no image of them.
        uncompared_images: number of their images.
        by_spelling: pairs (theirs, the pack's) that differ in case or in `_`, `-` and spaces.
        absent: classes of the pack without an image in the other set.
    """

    target: IntArray
    left_out: tuple[str, ...]
    left_out_images: int
    uncompared: tuple[str, ...]
    uncompared_images: int
    by_spelling: tuple[tuple[str, str], ...]
    absent: tuple[str, ...]


@dataclass(frozen=True)
class SetPair:
    """Images of another set and of the pack's own data, with the same classes and the pack's labels.

    Args:
        source: the other set, as it was given.
        shifted: its images.
        clean: images of the pack's own data; None if it has none of the other set's classes.
        matching: the match of the classes.
    """

    source: str
    shifted: LabelledImages
    clean: LabelledImages | None
    matching: ClassMatching


@dataclass(frozen=True)
class DataShift:
    """Accuracy of one model on another set of the same classes.

    Args:
        source: the other set, as it was given.
        shifted: metrics on the classes that both sets have.
        clean: metrics on the same classes of the pack's own data; None if it has no image of them.
        matching: the match of the classes.
    """

    source: str
    shifted: Metrics
    clean: Metrics | None
    matching: ClassMatching

    def drop(self, measure: str) -> float | None:
        """Return the relative drop of a measure, 1 - shifted / clean; None if clean is 0 or not defined."""
        clean = None if self.clean is None else getattr(self.clean, measure)
        return relative_drop(clean, getattr(self.shifted, measure))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, as shift.json holds them."""
        return {
            "source": self.source,
            "clean": None if self.clean is None else self.clean.to_dict(),
            "shifted": self.shifted.to_dict(),
            "relative_drop": {name: self.drop(name) for name in ACCURACIES},
            "left_out_images": self.matching.left_out_images,
            "left_out_classes": list(self.matching.left_out),
            "uncompared_images": self.matching.uncompared_images,
            "uncompared_classes": list(self.matching.uncompared),
            "matched_by_spelling": [list(pair) for pair in self.matching.by_spelling],
            "classes_without_images": list(self.matching.absent),
        }


def relative_drop(clean: float | None, shifted: float | None) -> float | None:
    """Return 1 - shifted / clean; None if one is not defined or clean is 0."""
    return None if not clean or shifted is None else 1 - shifted / clean


def evaluate_shift(
    measure: Measure,
    images: LabelledImages,
    *,
    kinds: Sequence[str] = (),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
    subset: IntArray | None = None,
    shorter_side: int | None = None,
) -> CorruptionShift:
    """Measure a model on images as they are and under every kind and severity of corruption.

    Args:
        measure: measures the model; it is called with `clean` or `corrupted/KIND/SEVERITY` and the images.
        images: the whole test split.
        kinds: names or families of corruptions; empty: all.
        severities: numbers from 1 to 5.
        seed: seed of the corruptions. They depend on it, kind, severity and position in the split, on nothing else.
        subset: positions to measure on, [n]; None: all.
        shorter_side: reduce larger pictures to this shorter side first, pixels; None: do not.

    Raises:
        ConfigError: a kind or severity is unknown.
        DataError: an image cannot be read.
    """
    kinds, severities = find_kinds(kinds), find_severities(severities)
    positions = np.arange(len(images), dtype=np.int64) if subset is None else subset
    reduced: ImageSource = images if shorter_side is None else ReducedImages(images, shorter_side)
    source = CachedImages(reduced)  # decoded once, not for each corruption

    def chosen(view: ImageSource) -> LabelledImages:
        return LabelledImages(view, positions, images.labels[positions], images.class_names)

    clean = measure("clean", chosen(source))
    cells = []
    for kind, severity in product(kinds, severities):
        corrupted = chosen(CorruptedImages(source, kind, severity, seed))
        cells.append(ShiftCell(kind, severity, measure(f"corrupted/{kind}/{severity}", corrupted)))
    return CorruptionShift(clean, tuple(cells))


def evaluate_data_shift(measure: Measure, pair: SetPair) -> DataShift:
    """Measure a model on another set and on the pack's own data; it still chooses among all of its classes.

    Args:
        measure: measures the model; it is called with `SOURCE/clean` and `SOURCE/shifted` and the images.
        pair: the images, from `pair_sets`.

    Raises:
        DataError: an image cannot be read.
    """
    clean = None if pair.clean is None else measure(f"{pair.source}/clean", pair.clean)
    return DataShift(pair.source, measure(f"{pair.source}/shifted", pair.shifted), clean, pair.matching)


def pair_sets(
    images: LabelledImages | None,
    other: LabelledImages,
    class_names: Sequence[str],
    source: str,
    *,
    size: int = 0,
    seed: int = 0,
) -> SetPair:
    """Pair another set, whose class names are the pack's or some of them, with the pack's own data.

    Args:
        images: the pack's own data, to compare with; None: there is none.
        other: the other set, with its own classes.
        class_names: classes of the pack.
        source: name of the other set.
        size: take a stratified subset of this many images of either, of the classes that both have; 0: all.
        seed: seed of the subsets.

    Raises:
        DataError: no image of the other set is of a class that the pack knows.
        ConfigError: a subset of that size cannot have an image of every class that both have.
    """
    theirs, matching = known_images(other, class_names, source, images)
    same = np.zeros(0, np.int64) if images is None else np.flatnonzero(np.isin(images.labels, theirs.labels))
    if images is None or not len(same):
        return SetPair(source, _drawn(theirs, size, seed), None, matching)
    classes = np.count_nonzero(theirs.class_counts)
    if 0 < size < classes:
        raise ConfigError(
            f"{source}: --shift-images {size} is below the {classes} classes that both sets have, so that different "
            f"ones would be compared; give at least {classes}, or 0 for all"
        )
    return SetPair(source, _drawn(theirs, size, seed), _drawn(images.subset(same), size, seed), matching)


def known_images(
    other: LabelledImages, class_names: Sequence[str], source: str, clean: LabelledImages | None = None
) -> tuple[LabelledImages, ClassMatching]:
    """Return the images of classes that the pack knows, with the pack's labels, and how the classes were matched.

    Args:
        other, class_names, clean: as for `match_classes`.
        source: name of the set.

    Raises:
        DataError: no image is of a class that the pack knows.
    """
    matching = match_classes(other, class_names, clean)
    labels = matching.target[other.labels]
    matched = np.flatnonzero(labels >= 0)
    if not len(matched):
        raise DataError(
            f"{source}: none of its classes is one of the pack's {len(class_names)}. It has: "
            f"{shorten(matching.left_out) or 'no image'}. The pack has: {shorten(class_names)}. Names must be equal, "
            "but for case and _, - and spaces; rename the classes, or give them in a table with a label column."
        )
    return LabelledImages(other.source, other.rows[matched], labels[matched], tuple(class_names)), matching


def _drawn(images: LabelledImages, size: int, seed: int) -> LabelledImages:
    return images.subset(stratified_subset(images.labels, size, seed))


def match_classes(
    other: LabelledImages, class_names: Sequence[str], clean: LabelledImages | None = None
) -> ClassMatching:
    """Match the classes of another set with the pack's by name: exactly, or but for case, `_`, `-` and spaces.

    Unicode's ways of writing the same name count as one. A spelling that fits several classes of the pack is not
    matched. Several classes of the other set may be the same class of the pack.

    Args:
        other: the other set, with its own classes.
        class_names: classes of the pack.
        clean: images to compare with. Classes without any of them are left out, unless that leaves none.
    """
    exact: dict[str, list[int]] = defaultdict(list)
    spelled: dict[str, list[int]] = defaultdict(list)
    for index, name in enumerate(class_names):
        exact[composed(name)].append(index)
        spelled[_spelling(name)].append(index)
    target = np.full(len(other.class_names), -1, dtype=np.int64)
    by_spelling = []
    for index, name in enumerate(other.class_names):
        same = exact.get(composed(name), [])
        alike = same or spelled.get(_spelling(name), [])
        if len(alike) == 1:
            target[index] = alike[0]
            if not same:
                by_spelling.append((name, class_names[alike[0]]))
    counts = other.class_counts
    unknown, known = (counts > 0) & (target < 0), (counts > 0) & (target >= 0)
    present = set(target[known].tolist())
    absent = tuple(name for index, name in enumerate(class_names) if index not in present)
    uncompared = np.zeros_like(known) if clean is None else known & (clean.class_counts[target] == 0)
    if (uncompared == known).all():  # there is nothing to compare with
        uncompared[:] = False
    target[uncompared] = -1

    def named(mask: npt.NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(name for name, chosen in zip(other.class_names, mask, strict=True) if chosen)

    return ClassMatching(
        target=target,
        left_out=named(unknown),
        left_out_images=int(counts[unknown].sum()),
        uncompared=named(uncompared),
        uncompared_images=int(counts[uncompared].sum()),
        by_spelling=tuple(by_spelling),
        absent=absent,
    )


def _spelling(name: str) -> str:
    """Return a name without case, `_`, `-` and spaces; a minus sign counts, and two numbers stay apart."""
    signed = re.sub(r"(?<![^\W_])-(?=\d)", "\N{MINUS SIGN}", composed(name.casefold()))
    return re.sub(r"[-_\s]+", "", re.sub(r"(?<=\d)[-_\s]+(?=\d)", "\N{HYPHEN}", signed))


def pass_names(kinds: Sequence[str], severities: Sequence[int]) -> Iterator[str]:
    """Yield the names that `evaluate_shift` gives its measurements, in order."""
    yield "clean"
    for kind in find_kinds(kinds):
        yield from (f"corrupted/{kind}/{severity}" for severity in find_severities(severities))
