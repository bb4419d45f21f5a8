"""The report on a data set: its numbers, and findings with their harm and advice."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lpt.data.longtail import ShotGroups, imbalance_factor
from lpt.data.manifest import IntArray

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One fact that a person should know.

    Args:
        severity: `error` stops a run, `warning` spoils its result, `info` is good to know.
        what: the fact, one sentence.
        harm: its effect on the result, one sentence.
        advice: what to do.
        examples: the first few images or classes that it is about.
    """

    severity: Severity
    what: str
    harm: str = ""
    advice: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitFacts:
    """A split in numbers: its name, its images, and the classes that have images."""

    name: str
    images: int
    classes: int


@dataclass(frozen=True)
class SizeFacts:
    """Image sizes, pixels: smallest, median and largest of each measure.

    Args:
        images: number of images measured.
        width: of the images as stored, before any EXIF rotation where they were not decoded.
        height: of the images, likewise.
        shorter: the shorter side.
    """

    images: int
    width: tuple[int, int, int]
    height: tuple[int, int, int]
    shorter: tuple[int, int, int]


@dataclass(frozen=True)
class Findings:
    """The report of `examine`.

    Args:
        splits: each split in numbers.
        class_names: names of all classes, in label order.
        counts: training images of each class before a validation split was cut, [C].
        groups: boundaries of the shot groups.
        sizes: sizes of the training and test images; None if none could be read.
        findings: facts that a person should know, the worst first.
        notes: what LPT did when it opened the data set, a sentence each.
        decoded: whether every image was decoded.
    """

    splits: tuple[SplitFacts, ...]
    class_names: tuple[str, ...]
    counts: IntArray
    groups: ShotGroups
    sizes: SizeFacts | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    decoded: bool

    @property
    def imbalance(self) -> float | None:
        """Images of the largest class over those of the smallest one with images; None without images."""
        return imbalance_factor(self.counts) if self.counts.any() else None

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def group_sizes(self) -> list[tuple[str, int, int]]:
        """Return name, classes and training images of each shot group; classes without a training image are in none."""
        group = np.where(self.counts > 0, self.groups.of(self.counts), -1)
        return [
            (name, int((group == index).sum()), int(self.counts[group == index].sum()))
            for index, name in enumerate(self.groups.names)
        ]

    def largest(self, most: int = 10) -> list[tuple[str, int]]:
        """Return the classes with the most training images, and their counts."""
        return self._named(np.argsort(-self.counts, kind="stable")[:most])

    def smallest(self, most: int = 10) -> list[tuple[str, int]]:
        """Return the classes with the fewest training images, and their counts, the smallest last."""
        return self._named(np.argsort(-self.counts, kind="stable")[-most:])

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values, for a JSON file."""
        return {
            "usable": not self.count("error"),
            "splits": [asdict(split) for split in self.splits],
            "imbalance_factor": self.imbalance,
            "shot_groups": {
                "boundaries": self.groups.describe(),
                "groups": [
                    {"name": name, "classes": classes, "images": images} for name, classes, images in self.group_sizes()
                ],
            },
            "training_images": dict(zip(self.class_names, self.counts.tolist(), strict=True)),
            "image_sizes": None if self.sizes is None else asdict(self.sizes),
            "findings": [asdict(finding) for finding in self.findings],
            "notes": list(self.notes),
            "decoded": self.decoded,
        }

    def _named(self, classes: IntArray) -> list[tuple[str, int]]:
        return [(self.class_names[c], int(self.counts[c])) for c in classes]
