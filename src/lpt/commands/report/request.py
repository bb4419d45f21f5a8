"""What a report is asked for, and how it is looked at again: the images and the backbone of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lpt.commands.report.kept import KeptRun
from lpt.commands.report.parts import sample_rows
from lpt.commands.report.pictures import Place, find_images, open_data, pairs_with_pictures
from lpt.config.values import section
from lpt.data.cache import with_white
from lpt.data.manifest import LabelledImages
from lpt.errors import DataError, LptError
from lpt.evaluation.arrangement import principal_plane
from lpt.evaluation.confusion import confused_pairs
from lpt.report.html.content import Absent, Pairs, PairShown, QueryMap

MOST_QUERIES = 2000
"""Most images whose queries are computed for the map."""
NOT_COMPUTED = "This report shows only what the folder keeps. Next, for the map of queries: lpt report {folder}"


@dataclass(frozen=True)
class ReportRequest:
    """A finished run or comparison, and where its report is written.

    Args:
        folder: the folder of the run or the comparison.
        output: the file; None: report.html in the folder.
        quick: draw only what the folder keeps: the backbone is not loaded, and no query computed.
        device: for the queries: auto, cpu, cuda or mps.
    """

    folder: Path
    output: Path | None = None
    quick: bool = False
    device: str = "auto"


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
    def splits(self) -> Sequence[LabelledImages] | Absent:
        """The images of the run, or why they cannot be seen."""
        if self.given is not None:
            return self.given
        try:
            return open_data(self.run.config)
        except LptError as error:
            return Absent(f"The pictures are left out, because the data cannot be opened: {_first_line(error)}")

    def pairs(self, absent: str) -> Pairs | Absent:
        """Return the most confused pairs, with pictures where the images are there.

        Args:
            absent: the reason where nothing was measured.
        """
        run, kept = self.run, self.run.predictions
        if kept is None:
            return Absent(absent)
        pairs = confused_pairs(kept.labels, kept.predicted, run.counts, run.info.shot_groups)
        if not pairs:
            return Absent(f"There is no mistake among the {len(kept.labels):,} {run.split} images.")
        splits = self.splits
        if isinstance(splits, Absent):
            return Pairs([PairShown(pair) for pair in pairs], splits.reason)
        try:
            return Pairs(pairs_with_pictures(pairs, kept, splits, run.info.class_names))
        except DataError as error:
            return Pairs([PairShown(pair) for pair in pairs], f"The pictures are left out: {_first_line(error)}.")

    def queries(self) -> QueryMap | Absent:
        """Return the map of queries of a sample of the measured images, or why there is none."""
        run, kept, request = self.run, self.run.predictions, self.request
        if not run.info.uses_group_prompts or kept is None:
            return Absent("There are no queries: no group prompt is picked, or nothing was measured.")
        if request.quick:
            return Absent(NOT_COMPUTED.format(folder=request.folder))
        splits = self.splits
        if isinstance(splits, Absent):
            return Absent(splits.reason.replace("The pictures are", "The map is"))
        places = find_images(splits, [kept.images[row] for row in sample_rows(kept, MOST_QUERIES)])
        if len(places) < 3:
            return Absent("The map is left out: the images of the run are not there any more under their names.")
        try:
            return _query_map(run, list(places.values()), len(kept.labels), request.device)
        except LptError as error:
            return Absent(f"The map is left out, because the queries cannot be computed: {_first_line(error)}")


def _query_map(run: KeptRun, places: Sequence[Place], of: int, device: str) -> QueryMap:
    """Compute the queries of images with the pack of a run.

    Raises:
        LptError: the pack, its backbone or an image cannot be read.
    """
    from lpt.evaluation.queries import query_images
    from lpt.model.lpt import LPT
    from lpt.packs.predictor import load_predictor

    backbone: dict[str, Any] = section(run.config, "backbone")
    predictor = load_predictor(
        run.folder.path,
        backbone=backbone.get("name"),
        checkpoint=backbone.get("checkpoint"),
        device=device,
        precision="fp32",
    )
    model, preprocessing = predictor.model().model, run.info.preprocessing
    assert isinstance(model, LPT)
    parts = [
        part.subset(np.array([place.index for place in places if place.images is part], dtype=np.int64))
        for part in {id(place.images): place.images for place in places}.values()
    ]
    parts = with_white(parts, preprocessing.white)
    queries = [query_images(model, part, preprocessing) for part in parts]
    plane = principal_plane(np.concatenate([query.vectors for query in queries]))
    groups = np.concatenate([query.groups[:, 0] for query in queries])
    return QueryMap(plane.points, groups, plane.explained, of)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0].rstrip(".")
