"""Examine a data set before training: what is in it, what will hurt, and what to do about it."""

from __future__ import annotations

import contextlib
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple, cast

import numpy as np

from lpt.data.doctor.depth import depth_findings
from lpt.data.doctor.duplicates import Place, find_duplicates, listed_again
from lpt.data.doctor.findings import SEVERITIES, Finding, Findings, Severity, SizeFacts, SplitFacts
from lpt.data.images import InspectableSource
from lpt.data.longtail import ShotGroups, imbalance_factor
from lpt.data.manifest import IntArray, LabelledImages, Splits
from lpt.data.scan import failure_reason, scan
from lpt.errors import DataError
from lpt.system.text import plural

_EXAMPLES = 5
_PLACES = 3
_SIZED_WITHOUT_DECODING = 20_000
_MOST_NAMES_COMPARED = 100_000
_HUGE_IMBALANCE, _BALANCED = 1000, 5
_LARGE_SIDE = 2000
_FEW_IMAGES, _FEW_TESTED = 100, 5


def examine(
    splits: Splits,
    *,
    decode: bool = True,
    compare: bool = True,
    groups: ShotGroups | None = None,
    input_size: int = 224,
    workers: int | None = None,
) -> Findings:
    """Examine a data set.

    It always reports images that are listed twice, since that needs no reading.

    Args:
        splits: the data set, as `open_splits` returns it.
        decode: decode every image; otherwise read at most 20,000 headers.
        compare: search for files with the same bytes.
        groups: boundaries of the shot groups; None: many > 100, medium 20-100, few < 20.
        input_size: shorter side of the network's input, pixels.
        workers: threads; None: one for each core this process may use.
    """
    parts = _parts(splits)
    sizes, bad = _read_images(parts, decode, workers)
    findings = [
        *_unreadable(bad, splits.skipped, decode),
        *_class_findings(splits, parts),
        *_name_findings(splits.class_names),
        *_balance_findings(splits.counts_before_cut),
        *_size_findings(sizes, input_size),
        *depth_findings(list(parts.values()), decode=decode, workers=workers),
        *_measuring_findings(splits),
    ]
    listed = listed_again(parts)
    findings += _twice_findings(parts, listed, _LISTED)
    if compare:
        later = [place for group in listed for place in group[1:]]
        findings += _twice_findings(parts, find_duplicates(parts, workers, without=later), _STORED)
    return Findings(
        splits=tuple(
            SplitFacts(name, len(images), int((images.class_counts > 0).sum())) for name, images in parts.items()
        ),
        class_names=splits.class_names,
        counts=splits.counts_before_cut,
        groups=groups or ShotGroups(),
        sizes=sizes,
        findings=tuple(sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))),
        notes=tuple(splits.notes),
        decoded=decode,
    )


def _parts(splits: Splits) -> dict[str, LabelledImages]:
    parts = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: images for name, images in parts.items() if images is not None}


# --- images


def _read_images(
    parts: dict[str, LabelledImages], decode: bool, workers: int | None
) -> tuple[SizeFacts | None, list[tuple[str, str]]]:
    """Return the sizes, and the name and reason of every image that cannot be read."""
    places = [Place(name, index) for name, images in parts.items() for index in range(len(images))]
    if not decode:
        places = places[:: max(1, -(-len(places) // _SIZED_WITHOUT_DECODING))]

    def size_or_fault(number: int) -> tuple[int, int] | str:
        split, index = places[number]
        images = parts[split]
        try:
            if decode or not hasattr(images.source, "size"):
                return images.read(index).size
            return cast(InspectableSource, images.source).size(int(images.rows[index]))
        except DataError as error:
            return failure_reason(error)

    results = scan(len(places), size_or_fault, workers, "Reading images" if decode else "Reading headers")
    bad = [
        (parts[place.split].name(place.position), result)
        for place, result in zip(places, results, strict=True)
        if isinstance(result, str)
    ]
    return _size_facts([result for result in results if not isinstance(result, str)]), bad


def _size_facts(sizes: Sequence[tuple[int, int]]) -> SizeFacts | None:
    if not sizes:
        return None
    sides = np.array(sizes)

    def summary(values: IntArray) -> tuple[int, int, int]:
        return int(values.min()), int(np.median(values)), int(values.max())

    return SizeFacts(len(sides), summary(sides[:, 0]), summary(sides[:, 1]), summary(sides.min(axis=1)))


def _unreadable(bad: Sequence[tuple[str, str]], skipped: Sequence[tuple[str, str]], decode: bool) -> Iterable[Finding]:
    if bad:
        yield Finding(
            "error",
            f"{plural(len(bad), 'image')} that cannot be read" + ("." if decode else " (only headers were looked at)."),
            "A run stops there.",
            "Replace or remove them, or leave them out with --bad-images skip.",
            _first([f"{name}: {reason}" for name, reason in bad]),
        )
    if skipped:
        yield Finding(
            "warning",
            f"{plural(len(skipped), 'image')} that cannot be read, left out.",
            "Their classes have fewer images than it seems.",
            "Replace them if they matter.",
            _first([f"{name}: {reason}" for name, reason in skipped]),
        )


def _size_findings(sizes: SizeFacts | None, input_size: int) -> Iterable[Finding]:
    if sizes is None:
        return
    smallest, median, _ = sizes.shorter
    if median < input_size:
        yield Finding(
            "info",
            f"Half of the images have a shorter side of {median} pixels or less.",
            "A run whose image.size is larger enlarges them. That is right for the network but adds no detail.",
            "If you have larger originals, use those.",
        )
    elif smallest < input_size / 4:
        yield Finding(
            "info",
            f"Some images are very small, down to {smallest} pixels.",
            "Enlarged to the image.size of a run they show little.",
            "Look at the smallest ones; they may be thumbnails or crops gone wrong.",
        )
    if median > _LARGE_SIDE:
        yield Finding(
            "info",
            f"The images are large: half of them have a shorter side of {median} pixels or more.",
            "Most of the time of a run will go into decoding them.",
            "Train on copies whose shorter side is twice the image.size of the run "
            f"({2 * input_size} pixels for {input_size}): the result is the same.",
        )


class _Twice(NamedTuple):
    """The words for images that occur twice."""

    severity: Severity
    leak: str
    contradiction: str
    repeat: str
    repeat_advice: str


_LISTED = _Twice(
    "warning",
    "listed among the training images too",
    "listed several times, under different classes",
    "listed before in the same class",
    "List each once: rare classes are drawn as often as others without that.",
)
_STORED = _Twice(
    "info",
    "found among the training images too, byte for byte",
    "found several times, under different classes",
    "stored before in the same class",
    "Remove the copies.",
)


def _twice_findings(
    parts: dict[str, LabelledImages], groups: Sequence[list[Place]], words: _Twice
) -> Iterable[Finding]:
    leaks: list[list[Place]] = []
    contradictions: list[list[Place]] = []
    repeats: list[list[Place]] = []
    for group in groups:
        train = [place for place in group if place.split == "train"]
        labels = {int(parts["train"].labels[place.position]) for place in train}
        if train and len(train) < len(group):
            leaks.append([train[0], *(place for place in group if place.split != "train")])
        if len(labels) > 1:
            contradictions.append(train)
        elif len(train) > 1:
            repeats.append(train)
    if leaks:
        others = sum(len(group) - 1 for group in leaks)
        yield Finding(
            "warning",
            f"{plural(others, 'validation or test image')} {words.leak}.",
            "The measured accuracy will be better than the real one.",
            "Remove them from one of the two splits.",
            _first([_described(parts, group) for group in leaks[:_EXAMPLES]], len(leaks)),
        )
    if contradictions:
        yield Finding(
            "warning",
            f"{plural(len(contradictions), 'training image')} {words.contradiction}.",
            "The classes teach each other's images; rare classes suffer most.",
            "Keep the right one of each.",
            _first([_described(parts, group) for group in contradictions[:_EXAMPLES]], len(contradictions)),
        )
    if repeats:
        extra = sum(len(group) - 1 for group in repeats)
        yield Finding(
            words.severity,
            f"{plural(extra, 'training image')} {words.repeat}.",
            "Their classes look larger than they are; a validation split cut from train may hold copies.",
            words.repeat_advice,
            _first([_described(parts, group) for group in repeats[:_EXAMPLES]], len(repeats)),
        )


def _described(parts: dict[str, LabelledImages], group: Sequence[Place]) -> str:
    """Name the first places of an image with their classes; where the name repeats, give the split in its place."""
    descriptions, before = [], None
    for place in group[:_PLACES]:
        images = parts[place.split]
        name = images.name(place.position)
        label = images.class_names[images.labels[place.position]]
        repeated = f"({label})" if place.split == "train" else f"({place.split}: {label})"
        descriptions.append(repeated if name == before else f"{name} ({label})")
        before = name
    more = f" and {len(group) - _PLACES:,} more" if len(group) > _PLACES else ""
    return " = ".join(descriptions) + more


# --- classes


def _class_findings(splits: Splits, parts: dict[str, LabelledImages]) -> Iterable[Finding]:
    counts, names = splits.counts_before_cut, splits.class_names
    held = sum((images.class_counts for name, images in parts.items() if name != "train"), np.zeros_like(counts))
    filled = int((counts > 0).sum())
    if filled < 2:
        yield Finding(
            "error",
            f"Training images of {plural(filled, 'class')} only.",
            "There is nothing to tell apart.",
            "Give images of at least two classes.",
        )
    if unseen := _names_where(names, (counts == 0) & (held > 0)):
        yield Finding(
            "warning",
            f"{plural(len(unseen), 'class')} tested but without a training image.",
            "Every image of theirs will be classified wrongly.",
            "Add training images, or check whether the class is spelt differently in the two splits.",
            _first(unseen),
        )
    if empty := _names_where(names, (counts == 0) & (held == 0)):
        yield Finding(
            "info",
            f"{plural(len(empty), 'class')} without any image.",
            "They keep their place in the list of classes and are never predicted on purpose.",
            "Nothing, if that is meant: class indices stay as they are.",
            _first(empty),
        )
    if single := _names_where(names, counts == 1):
        yield Finding(
            "info",
            f"{plural(len(single), 'class')} with a single training image.",
            "What is learnt of them hangs on that one picture.",
            "A second and third image help more here than a hundred in a large class.",
            _first(single),
        )
    if 0 < counts.sum() < _FEW_IMAGES:
        yield Finding(
            "warning",
            f"Only {plural(int(counts.sum()), 'training image')}.",
            "The result will vary a lot with the seed.",
            "Compare several seeds before you trust a number.",
        )


def _name_findings(names: Sequence[str]) -> Iterable[Finding]:
    alike: dict[str, list[str]] = defaultdict(list)
    for name in names[:_MOST_NAMES_COMPARED]:
        alike[_spelling(name)].append(name)
    pairs = [" / ".join(repr(name) for name in group) for group in alike.values() if len(group) > 1]
    if pairs:
        yield Finding(
            "warning",
            f"{plural(len(pairs), 'group')} of class names that differ only in case, spaces, dashes or zeros.",
            "If they mean the same class, its images compete with each other.",
            "Merge them, or rename them if they are different things.",
            _first(pairs),
        )


def _spelling(name: str) -> str:
    """Return the form in which names are compared. Signs are no dashes: -1 and 1, A- and A are different names."""
    with contextlib.suppress(ValueError):
        return f"{float(name)}"
    return re.sub(r"(?<=\w)(?!\s+-\d)[\s_-]+(?=\w)", " ", name).strip().casefold()


def _balance_findings(counts: IntArray) -> Iterable[Finding]:
    if (counts > 0).sum() < 2:
        return
    factor = imbalance_factor(counts)
    if factor < _BALANCED:
        yield Finding(
            "info",
            f"The classes are nearly balanced: imbalance factor {factor:.3g}.",
            "What LPT does for rare classes has little to work on; it is still a small and quick way to adapt a model.",
            "Compare with full fine-tuning before you settle.",
        )
    elif factor > _HUGE_IMBALANCE:
        yield Finding(
            "info",
            f"The imbalance is extreme: the largest class has {factor:,.0f} times the images of the smallest.",
            "Accuracy over all images says next to nothing about the rare classes.",
            "Go by the mean per class and the few-shot group.",
        )


def _measuring_findings(splits: Splits) -> Iterable[Finding]:
    if splits.test is None:
        yield Finding(
            "info" if splits.validation is not None else "warning",
            "There are no test images.",
            "How good the result is for rare classes cannot be measured"
            + (" other than on the validation images." if splits.validation is not None else "."),
            "Give some with --test, the same number of each class if you can.",
        )
        return
    tested = splits.test.class_counts
    if untested := _names_where(splits.class_names, (tested == 0) & (splits.counts_before_cut > 0)):
        yield Finding(
            "info",
            f"{plural(len(untested), 'class')} without a test image.",
            "Their accuracy is not measured and no mean contains it.",
            "Add test images of them.",
            _first(untested),
        )
    if few := _names_where(splits.class_names, (tested > 0) & (tested < _FEW_TESTED)):
        yield Finding(
            "info",
            f"{plural(len(few), 'class')} with fewer than {_FEW_TESTED} test images.",
            "One picture moves the accuracy of such a class by more than 20 points.",
            "Do not rank classes by it, or add test images of them.",
            _first(few),
        )
    if (tested > 0).sum() > 1 and imbalance_factor(tested) > _BALANCED:
        yield Finding(
            "info",
            f"The test images are unbalanced as well: imbalance factor {imbalance_factor(tested):.3g}.",
            "The overall accuracy is mostly that of the large classes.",
            "Go by the mean per class.",
        )


def _names_where(names: Sequence[str], mask: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[str]:
    return [names[c] for c in np.flatnonzero(mask).tolist()]


def _first(items: Sequence[str], total: int | None = None) -> tuple[str, ...]:
    """Return the first few items, and how many more there are of `total` (None: of the items)."""
    total = len(items) if total is None else total
    more = (f"and {total - _EXAMPLES:,} more",) if total > _EXAMPLES else ()
    return (*items[:_EXAMPLES], *more)
