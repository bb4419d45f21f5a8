"""What a report shows, as plain data. A part that a run does not have is `Absent`, with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lpt.data.longtail import ShotGroups
from lpt.data.manifest import FloatArray, IntArray
from lpt.evaluation.confusion import ConfusedPair
from lpt.evaluation.curves import PhaseCurves
from lpt.evaluation.paired import Difference
from lpt.evaluation.reliability import ReliabilityBin

Facts = Sequence[tuple[str, str]]
"""Names and values, in the order in which they are shown."""


@dataclass(frozen=True)
class Absent:
    """A part that is left out.

    Args:
        reason: one sentence that says why, and how to get the part if there is a way.
    """

    reason: str


@dataclass(frozen=True)
class Classes:
    """All classes, in label order.

    Args:
        names: C of them.
        counts: training images, held-out ones included, [C].
        groups: boundaries of the shot groups.
        tested: measured images, [C]; None where nothing was measured, as for the next ones.
        accuracy: share of them that is recognised, [C]; NaN for a class without images.
        confused_with: the wrong class that is predicted most often, [C]; -1 without a mistake.
        confused_images: how often it is, [C].
    """

    names: Sequence[str]
    counts: IntArray
    groups: ShotGroups
    tested: IntArray | None = None
    accuracy: FloatArray | None = None
    confused_with: IntArray | None = None
    confused_images: IntArray | None = None


@dataclass(frozen=True)
class Probe:
    """The linear probe beside the method.

    Args:
        accuracy: accuracy of the probe in each class, [C]; NaN for a class without images.
        gain: accuracy of the method less that of the probe, [C]; a mean over the seeds of both.
        seeds: number of those seeds.
        order: classes from the largest gain to the largest loss; without those that stayed the same, [G].
    """

    accuracy: FloatArray
    gain: FloatArray
    seeds: int
    order: IntArray


@dataclass(frozen=True)
class MethodRow:
    """A method of a comparison, or the only method of a run.

    Args:
        name: its name, for `--method`.
        title: its name in tables.
        seeds: the seeds that it was trained with.
        accuracies: mean and interval of the accuracies that are defined, by name.
        less: the method shown less this one, likewise; empty for the method shown.
        cost: the columns of the cost table, as texts.
        shown: whether the rest of the report is about it.
    """

    name: str
    title: str
    seeds: Sequence[int]
    accuracies: Mapping[str, Difference]
    less: Mapping[str, Difference]
    cost: Sequence[str]
    shown: bool


@dataclass(frozen=True)
class Picture:
    """A thumbnail.

    Args:
        data: a WebP as base64; empty where the image could not be read.
        caption: what it shows.
        right: whether the prediction is right.
    """

    data: str
    caption: str
    right: bool


@dataclass(frozen=True)
class PairShown:
    """A confused pair with its pictures; none where the images are not there."""

    pair: ConfusedPair
    pictures: Sequence[Picture] = ()


@dataclass(frozen=True)
class Pairs:
    """The most confused pairs, in two lists.

    Args:
        largest: the pairs with most mistakes, with their pictures.
        rare: others of the rarest classes; empty if there are none, or all classes are in one shot group.
        group: name of the shot group of those classes.
        without_pictures: why there are no pictures; empty where there are.
    """

    largest: Sequence[PairShown]
    rare: Sequence[PairShown]
    group: str
    without_pictures: str = ""


@dataclass(frozen=True)
class Sharing:
    """Which classes pick which group prompts.

    Args:
        use: share of a class's picks that each prompt has, [C, M].
        classes: the classes with picks, neighbours alike, [U].
        prompts: the prompts, neighbours alike, [M].
        top_k: prompts that an image picks.
    """

    use: FloatArray
    classes: IntArray
    prompts: IntArray
    top_k: int


@dataclass(frozen=True)
class QueryMap:
    """The queries of images in the plane.

    Args:
        points: coordinates, [n, 2].
        groups: the group prompt that each image picks first, [n].
        explained: share of the variance that each axis explains.
        of: number of images that the sample was drawn from.
    """

    points: FloatArray
    groups: IntArray
    explained: tuple[float, float]
    of: int


@dataclass(frozen=True)
class Calibration:
    """How far probabilities can be trusted.

    Args:
        bins: the bins that have images.
        error: the expected calibration error.
        temperature: a sentence on the temperature, and what it was fitted on.
    """

    bins: Sequence[ReliabilityBin]
    error: float | None
    temperature: str


@dataclass(frozen=True)
class Content:
    """Everything that a report shows.

    Args:
        title: the data.
        subtitle: one line: what was done with it.
        split: the split that was measured, test or validation; empty where nothing was measured.
        images: number of its images.
        trained: what was trained on what.
        classes: all classes.
        methods: one row for a run, without accuracies where nothing was measured; several for a comparison.
        shown: title of the method that the report is about.
        of_shown: a sentence, with a space before it, on the seed that single images are of; empty where there is one.
        probe: the linear probe.
        pairs: the most confused pairs.
        sharing: which classes share group prompts; None: the method has none, or did not train them.
        queries: the map of queries; likewise.
        calibration: how far probabilities can be trusted.
        cost_columns: names of the columns of the cost table.
        curves: the losses of each phase.
        record: how to do it again: command, versions, fingerprints.
        written: date and program of the report.
    """

    title: str
    subtitle: str
    split: str
    images: int
    trained: Facts
    classes: Classes
    methods: Sequence[MethodRow]
    shown: str
    of_shown: str
    probe: Probe | Absent
    pairs: Pairs | Absent
    sharing: Sharing | Absent | None
    queries: QueryMap | Absent | None
    calibration: Calibration | Absent
    cost_columns: Sequence[str]
    curves: Sequence[PhaseCurves] | Absent
    record: Facts
    written: str
