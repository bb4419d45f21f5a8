"""What looking a data set over brings to light: numbers, and findings with what they do and what to do about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lpt.data.longtail import ShotGroups, imbalance_factor
from lpt.data.manifest import IntArray

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that a person should know.

    Args:
        severity: `error` stops a run, `warning` spoils its result, `info` is good to know.
        what: what was found, one sentence.
        harm: what it does to the result, one sentence.
        advice: what to do.
        examples: the first few images or classes concerned.
    """

    severity: Severity
    what: str
    harm: str = ""
    advice: str = ""
    examples: tuple[str, ...] = ()


@dataclass(frozen=True)
class SplitFacts:
    """A split in numbers: its name, its images, and the classes that have some."""

    name: str
    images: int
    classes: int


@dataclass(frozen=True)
class SizeFacts:
    """Image sizes, pixels: smallest, median and largest of each measure.

    Args:
        images: how many images were looked at.
        width: of the images as stored, before any EXIF rotation where they were not decoded.
        height: likewise.
        shorter: the shorter side.
    """

    images: int
    width: tuple[int, int, int]
    height: tuple[int, int, int]
    shorter: tuple[int, int, int]


@dataclass(frozen=True)
class Findings:
    """What `examine` saw.

    Args:
        splits: each split in numbers.
        class_names: names of all classes, in label order.
        counts: training images of each class before a validation split was cut, [C].
        groups: boundaries of the shot groups.
        sizes: sizes of the training and test images; None if none could be read.
        findings: what a person should know, the worst first.
        notes: what was done when the data set was opened.
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
        """Images of the largest class over those of the smallest that has some."""
        return imbalance_factor(self.counts) if self.counts.any() else None

    def count(self, severity: Severity) -> int:
        """Number of findings of a severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def group_sizes(self) -> list[tuple[str, int, int]]:
        """Name, classes and training images of each shot group; classes without a training image are in none."""
        group = np.where(self.counts > 0, self.groups.of(self.counts), -1)
        return [
            (name, int((group == index).sum()), int(self.counts[group == index].sum()))
            for index, name in enumerate(self.groups.names)
        ]

    def largest(self, most: int = 10) -> list[tuple[str, int]]:
        """The classes with the most training images, and how many."""
        return self._named(np.argsort(-self.counts, kind="stable")[:most])

    def smallest(self, most: int = 10) -> list[tuple[str, int]]:
        """The classes with the fewest training images, and how many, the smallest last."""
        return self._named(np.argsort(-self.counts, kind="stable")[-most:])

    def _named(self, classes: IntArray) -> list[tuple[str, int]]:
        return [(self.class_names[c], int(self.counts[c])) for c in classes]
