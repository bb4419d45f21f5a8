"""What a report is asked for, and how it is looked at again: the images and the backbone of a run."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lpt.commands.report.kept import KeptRun
from lpt.commands.report.parts import NOT_MEASURED, sample_rows, sharing, sharing_of
from lpt.commands.report.pictures import Place, find_images, find_measured, open_data, pairs_with_pictures
from lpt.config.values import section
from lpt.data.cache import with_white
from lpt.data.manifest import Float32Array, IntArray, LabelledImages
from lpt.errors import ConfigError, DataError, LptError
from lpt.evaluation.arrangement import principal_plane
from lpt.evaluation.confusion import confused_pairs
from lpt.report.html.content import Absent, Pairs, PairShown, QueryMap, Sharing

if TYPE_CHECKING:
    from lpt.evaluation.queries import Queries

MOST_QUERIES = 2000
"""Most images whose queries are computed for the map."""
_FEWEST = 3
NOT_COMPUTED = "This report shows only what the folder keeps. Next, for the map of queries: lpt report {folder}"


@dataclass(frozen=True)
class ReportRequest:
    """A finished run or comparison, and where its report is written.

    Args:
        folder: the folder of the run or the comparison.
        output: the file; None: report.html in the folder.
        quick: draw only what the folder keeps: the backbone is not loaded, and no query computed.
        backbone: name of the backbone, for the queries; None: the one that the pack names, if a pack may name it.
        checkpoint: its weights; None: those that the run was trained with.
        data: where the images of the run are; None: where its config.yaml says, if that is on this machine.
        device: for the queries: auto, cpu, cuda or mps.
    """

    folder: Path
    output: Path | None = None
    quick: bool = False
    backbone: str | None = None
    checkpoint: Path | None = None
    data: str | None = None
    device: str = "auto"


class QuerySample(NamedTuple):
    """Queries of some of the measured images.

    Args:
        vectors: the queries, [n, D].
        groups: picked group prompts by descending cosine, [n, k].
        labels: true classes, [n].
    """

    vectors: Float32Array
    groups: IntArray
    labels: IntArray


@dataclass(frozen=True)
class Sight:
    """What can still be seen of a run: its images, and its queries.

    Args:
        run: the run.
        request: what is asked for.
        given: the splits, if they are open already; None: they are opened as the run's configuration says.
    """

    run: KeptRun
    request: ReportRequest
    given: Sequence[LabelledImages] | None = None

    @cached_property
    def places(self) -> Mapping[str, Place] | Absent:
        """Where the measured images are, by name, or why they cannot be seen."""
        run, kept = self.run, self.run.predictions
        if kept is None:
            return {}
        if self.given is not None:
            return find_images(self.given, kept.images)
        try:
            splits = open_data(run.config, self.request.data)
        except LptError as error:
            return Absent(f"The pictures are left out, because the data cannot be opened: {_first_line(error)}")
        try:
            return find_measured(splits, kept, run.facts.get("measured_images", {}).get(run.split))
        except DataError as error:
            return Absent(f"The pictures are left out: {_first_line(error)}")

    def pairs(self, absent: str) -> Pairs | Absent:
        """Return the most confused pairs, with pictures where the images are there.

        Args:
            absent: the reason where nothing was measured.
        """
        run, kept = self.run, self.run.predictions
        if kept is None:
            return Absent(absent)
        groups = run.info.shot_groups
        pairs = confused_pairs(kept.labels, kept.predicted, run.counts, groups)
        if not pairs.largest:
            return Absent(f"There is no mistake among the {len(kept.labels):,} {run.split} images.")
        places = self.places
        every = [*pairs.largest, *pairs.rare]
        if isinstance(places, Absent):
            shown, reason = [PairShown(pair) for pair in every], places.reason
        else:
            shown, reason = pairs_with_pictures(every, kept, places, run.info.class_names), ""
        middle = len(pairs.largest)
        return Pairs(shown[:middle], shown[middle:], groups.names[pairs.group], reason)

    @cached_property
    def sample(self) -> QuerySample | Absent:
        """The queries of a sample of the measured images, or why there are none."""
        run, kept, request = self.run, self.run.predictions, self.request
        if kept is None:
            return Absent(NOT_MEASURED)
        if request.quick:
            return Absent(NOT_COMPUTED.format(folder=shlex.quote(str(request.folder))))
        if isinstance(self.places, Absent):
            return Absent(self.places.reason.replace("The pictures are", "The map is"))
        rows = {kept.images[row]: row for row in sample_rows(kept, MOST_QUERIES).tolist()}
        places = {name: place for name, place in self.places.items() if name in rows}
        if len(places) < _FEWEST:
            return Absent("The map is left out: the images of the run are not there any more under their names.")
        try:
            queries = compute_queries(run, list(places.values()), request)
        except LptError as error:
            return Absent(f"The map is left out, because the queries cannot be computed: {_first_line(error)}")
        return QuerySample(queries.vectors, queries.groups, kept.labels[[rows[name] for name in places]])

    def queries(self) -> QueryMap | Absent | None:
        """Return the map of queries, or why there is none; None: no group prompt is picked."""
        if not self.run.info.uses_group_prompts:
            return None
        sample, kept = self.sample, self.run.predictions
        if isinstance(sample, Absent) or kept is None:
            return sample if isinstance(sample, Absent) else Absent("")
        plane = principal_plane(sample.vectors)
        return QueryMap(plane.points, sample.groups[:, 0], plane.explained, len(kept.labels))

    def sharing(self) -> Sharing | Absent | None:
        """Return which classes share group prompts, from the picks that the run keeps, else from the sample.

        None: no group prompt is picked.
        """
        run, kept = self.run, self.run.predictions
        if not run.info.uses_group_prompts:
            return None
        if kept is None or kept.groups is not None or isinstance(self.sample, Absent):
            return sharing_of(run)
        return sharing(self.sample.labels, self.sample.groups, len(run.counts), run.info.method.pool_size)


def compute_queries(run: KeptRun, places: Sequence[Place], request: ReportRequest) -> Queries:
    """Compute the queries of images with the pack of a run, in the order of the places.

    Raises:
        LptError: the pack, its backbone or an image cannot be read.
    """
    from lpt.evaluation.queries import query_images
    from lpt.model.lpt import LPT
    from lpt.packs.predictor import load_predictor

    checkpoint = request.checkpoint or section(run.config, "backbone").get("checkpoint")
    if checkpoint is not None and not isinstance(checkpoint, str | Path):
        raise ConfigError(f"{run.folder.config}: backbone.checkpoint is no path: {checkpoint!r}")
    predictor = load_predictor(
        run.folder.path,
        backbone=request.backbone,
        checkpoint=checkpoint,
        device=request.device,
        precision="fp32",
    )
    model, preprocessing = predictor.model().model, run.info.preprocessing
    assert isinstance(model, LPT)
    parts = [
        part.subset(np.array([place.row for place in places if place.images is part], dtype=np.int64))
        for part in {id(place.images): place.images for place in places}.values()
    ]
    return query_images(model, with_white(parts, preprocessing.white), preprocessing)


def _first_line(error: Exception) -> str:
    """Return the first line of an error as a sentence."""
    return f"{str(error).partition(chr(10))[0].rstrip('.')}."
