"""A finished pack measured under domain shift: corrupted images, or other sets of the same classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, TaskID

from lpt.commands.evaluate.evaluate import (
    EvaluationRequest,
    Opened,
    open_pack_and_images,
    print_notes,
)
from lpt.commands.evaluate.folder import SHIFT, drop_links
from lpt.commands.evaluate.kept import cell_settings, digest, kept_cells, write_cells
from lpt.data.cache import fill_cache
from lpt.data.longtail import stratified_subset
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.sources import OpenedImages, open_images
from lpt.data.sources.raw import SplitName
from lpt.errors import ConfigError
from lpt.evaluation.corruptions import SEVERITIES, CorruptedImages, find_kinds, find_severities
from lpt.evaluation.measured import measure_predictions
from lpt.evaluation.metrics import Metrics
from lpt.evaluation.shift import (
    CorruptionShift,
    DataShift,
    Measure,
    SetPair,
    evaluate_data_shift,
    evaluate_shift,
    pair_sets,
    pass_names,
)
from lpt.packs.info import Versions
from lpt.packs.pack import Pack
from lpt.report.progress import progress_bar
from lpt.report.run_files import write_skipped
from lpt.report.shift import corruption_tables, data_shift_table, write_shift_csv
from lpt.report.shift_plot import plot_shift
from lpt.system.files import write_json
from lpt.system.hardware import cores_here
from lpt.system.processes import Processes

DEFAULT_IMAGES = 1000
_CHOSEN = "chosen by the seed, the same share of every class"


@dataclass(frozen=True)
class ShiftRequest:
    """What is to be measured.

    Args:
        kinds: names of corruptions; None: no corruptions.
        sources: other sets of images, in any form of DATA.
        severities: from 1 to 5.
        images: a stratified subset of so many images; 0: all; None: 1000 for corruptions, all for other sets.
        seed: seed of the subset and of the corruptions.
    """

    kinds: tuple[str, ...] | None
    sources: tuple[str, ...]
    severities: tuple[int, ...] = SEVERITIES
    images: int | None = None
    seed: int = 0


@dataclass(frozen=True)
class ShiftResult:
    """What was measured: under corruptions, and on each other set."""

    corruptions: CorruptionShift | None
    data: tuple[DataShift, ...]


def parse_shift(
    shifts: Iterable[str], *, severities: Iterable[str] = (), images: int | None = None, seed: int | None = None
) -> ShiftRequest:
    """What `--shift corruptions[:fog,blur]`, `--shift DATA2`, `--severities 1,3,5` and the other options ask for.

    Raises:
        ConfigError: an unknown corruption, a severity that is not in 1..5, or an option that would do nothing.
    """
    kinds: set[str] | None = None
    sources = []
    for shift in shifts:
        word, _, names = shift.partition(":")
        if word.strip().lower() == "corruptions":
            kinds = (kinds or set()) | set(find_kinds(name for name in names.split(",") if name.strip()))
        else:
            sources.append(shift)
    given = [part for text in severities for part in text.replace(",", " ").split()]
    wrong = [part for part in given if not part.isdecimal()]
    if wrong:
        raise ConfigError(f"--severities: {wrong[0]!r} is not a whole number from 1 to 5; write them as 1,3,5")
    if given and kinds is None:
        raise ConfigError("--severities are those of corruptions: add --shift corruptions, or leave them out")
    if seed is not None and kinds is None and not images:
        raise ConfigError(
            "--shift-seed chooses images and corrupts them, but all are taken as they are: add --shift-images N or "
            "--shift corruptions, or leave it out"
        )
    levels = find_severities(map(int, given)) if given else SEVERITIES
    return ShiftRequest(None if kinds is None else find_kinds(kinds), tuple(sources), levels, images, seed or 0)


def evaluate_pack_shift(
    asked: EvaluationRequest, request: ShiftRequest, *, console: Console, progress: Console
) -> ShiftResult:
    """Measure a pack under domain shift, print the tables, and write the files if a folder is given.

    Args:
        asked: the pack and images of its own kind; its settings of the data are for all sources. Into its folder go
            shift.json, shift.csv and shift.png, and shift_skipped_images.csv where some were. Finished measurements are
            kept there and are not made again for the same pack and images, unless it says to overwrite them.
        request: the shifts.
        console: for the tables.
        progress: for the bar.

    Raises:
        RunError: the folder holds measurements of another pack or in another precision.
        DataError: a source cannot be used, shares no class with the pack, or an image cannot be read.
    """
    processes, output = Processes.launched(asked.device), asked.output
    opened = processes.on_all(lambda: open_pack_and_images(asked))
    others = processes.on_all(lambda: _open_others(request, opened, asked.split))
    settings = cell_settings(opened)
    inputs = [replace(asked, data=data).inputs for data in (asked.data, *request.sources)]
    cells = processes.on_main(lambda: kept_cells(output, settings, inputs, overwrite=asked.overwrite))
    print_notes(opened.notes, opened.skipped, console)
    for other in others:
        print_notes([f"{other.pair.source}: {note}" for note in other.opened.notes], other.opened.skipped, console)
    for line in _announcements(opened, request, others):
        console.print(line, markup=False)
    with progress_bar(progress) as bar:
        passes = _Passes(opened, asked.batch_size, processes, bar, output, settings, cells)
        corruptions = _measure_corruptions(passes, opened, request)
        found = [evaluate_data_shift(passes.measure(), other.pair) for other in others]
    result = ShiftResult(corruptions, tuple(found))
    for table in ([] if corruptions is None else [corruption_tables(corruptions)]) + list(map(data_shift_table, found)):
        console.print(table)
    if passes.kept:
        console.print(f"{passes.kept} of {passes.count} measurements were there already.", markup=False)
    if output is not None:
        processes.on_main(lambda: _write(output, result, opened, others, asked, request))
        console.print(f"shift.json, shift.csv and shift.png: {output}", markup=False)
    return result


class _Passes:
    """Measures images by name; what was measured before is not measured again.

    Args:
        opened: pack, predictor and images.
        batch_size: images in a forward pass.
        processes: those that share the images.
        bar: shows how far it is.
        output: folder where each result is kept as soon as it is there, if any.
        settings: what all results rest on.
        cells: results kept before, by name and images.
    """

    def __init__(
        self,
        opened: Opened,
        batch_size: int,
        processes: Processes,
        bar: Progress,
        output: Path | None,
        settings: dict[str, Any],
        cells: dict[str, Any],
    ) -> None:
        self._opened, self._batch_size, self._processes = opened, batch_size, processes
        self._bar, self._output, self._settings, self._cells = bar, output, settings, cells
        self._task: TaskID | None = None
        self._done = 0
        self.count = self.kept = 0

    def measure(self, known_as: str | None = None, total: int | None = None) -> Measure:
        """A function that measures images.

        Args:
            known_as: what tells the images, and the seed of what is done to them, from others with the same name,
                where all it is called with are views of the same ones; None: their digest, found each time.
            total: how often it will be called, for the bar.
        """

        def measured(name: str, images: LabelledImages) -> Metrics:
            of_images = known_as or self._processes.on_all(lambda: digest(images))
            self.count += 1
            key = f"{name} {of_images}"
            own = images.subset(np.array(self._processes.share(len(images)), dtype=np.int64))
            self._begin(name, len(own), total or 1)
            if key in self._cells:
                self.kept += 1
                self._end(len(own))
                return Metrics.from_dict(self._cells[key])
            metrics = self._measured(images, own)
            self._end(len(own))
            self._cells[key] = metrics.to_dict()
            self._processes.on_main(self._keep)
            return metrics

        return measured

    def _measured(self, images: LabelledImages, own: LabelledImages) -> Metrics:
        workers = 0 if len(own) < 1000 else min(cores_here() - 1, 4)
        if workers and isinstance(own.source, CorruptedImages):  # workers keep no decoded images themselves
            fill_cache(replace(own, source=own.source.source))
        start = self._done
        predictions = self._opened.predictor.split(
            images,
            batch_size=self._batch_size,
            workers=workers,
            progress=lambda done: self._show(start + done),
            processes=self._processes,
        )
        info = self._opened.pack.info
        return measure_predictions(
            predictions,
            np.asarray(info.class_counts, dtype=np.int64),
            info.shot_groups,
            scale=info.probabilities.scale,
            temperature=info.probabilities.temperature,
        ).metrics

    def _keep(self) -> None:
        if self._output is not None:
            write_cells(self._output, self._settings, self._cells)

    def _begin(self, name: str, images: int, total: int) -> None:
        if self._task is None:
            self._task = self._bar.add_task("", total=total * images, info="images")
        self._bar.update(self._task, description=_described(name))
        if self._done + images > (self._bar.tasks[0].total or 0):  # other sets come on top
            self._bar.update(self._task, total=self._done + images)

    def _show(self, done: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, completed=done)

    def _end(self, images: int) -> None:
        self._done += images
        self._show(self._done)


def _described(name: str) -> str:
    """The name of a pass for the bar."""
    if name.startswith("corrupted/"):
        _, kind, severity = name.split("/")
        return f"{kind.replace('_', ' ')}, severity {severity}"
    return escape(name if len(name) < 40 else f"…{name[-38:]}")


def _measure_corruptions(passes: _Passes, opened: Opened, request: ShiftRequest) -> CorruptionShift | None:
    if request.kinds is None:
        return None
    subset = _corruption_subset(opened.images, request)
    return evaluate_shift(
        passes.measure(f"{digest(opened.images.subset(subset))} seed {request.seed}", _pass_count(request)),
        opened.images,
        kinds=request.kinds,
        severities=request.severities,
        seed=request.seed,
        subset=subset,
        shorter_side=_working_side(opened.pack),
    )


def _announcements(opened: Opened, request: ShiftRequest, others: Sequence[_Other]) -> Iterator[str]:
    """What is going to be measured, on how many images."""
    if request.kinds is not None:
        images = _how_many(len(_corruption_subset(opened.images, request)), len(opened.images))
        takes = "--shift-images N takes another number, 0 all"
        yield f"Corruptions: {_pass_count(request)} passes over {images}; {takes}."
    chosen = f", {_CHOSEN}" if request.images else ""
    for other in others:
        clean, shifted = other.pair.clean, other.pair.shifted
        own = f"{0 if clean is None else len(clean):,} of the {len(opened.images):,} of DATA"
        theirs = f"{len(shifted):,} of the {len(other.opened.images):,} images of {other.pair.source}"
        yield f"Another set: {theirs}, compared with {own}: those of the classes that both have{chosen}."


def _pass_count(request: ShiftRequest) -> int:
    return len(list(pass_names(request.kinds or (), request.severities)))


def _corruption_subset(images: LabelledImages, request: ShiftRequest) -> IntArray:
    number = DEFAULT_IMAGES if request.images is None else request.images
    return stratified_subset(images.labels, number, request.seed)


def _how_many(chosen: int, images: int) -> str:
    return f"all {images:,} images" if chosen == images else f"{chosen:,} of {images:,} images ({_CHOSEN})"


def _working_side(pack: Pack) -> int:
    """Pictures with a longer shorter side are reduced to this before: 1.5 times what the test transform makes."""
    preprocessing = pack.info.preprocessing
    return round(1.5 * max(preprocessing.size) / preprocessing.test_crop)


@dataclass(frozen=True)
class _Other:
    """Another set as it was opened, and paired with DATA."""

    opened: OpenedImages
    pair: SetPair


def _open_others(request: ShiftRequest, opened: Opened, split: SplitName) -> list[_Other]:
    names, size, seed = tuple(opened.pack.info.class_names), request.images or 0, request.seed
    others = []
    for source in request.sources:
        other = open_images(source, opened.data_config, split=split)
        others.append(_Other(other, pair_sets(opened.images, other.images, names, source, size=size, seed=seed)))
    return others


def _write(
    output: Path,
    result: ShiftResult,
    opened: Opened,
    others: Sequence[_Other],
    asked: EvaluationRequest,
    request: ShiftRequest,
) -> None:
    corruptions = result.corruptions
    facts = {
        "pack": str(opened.pack.path),
        "pack_sha256": opened.pack.info.tensors_sha256,
        "data": asked.data,
        "split": asked.split,
        "seed": request.seed,
        "shift_images": request.images,
        "largest_shorter_side": _working_side(opened.pack),
        "skipped_images": len(opened.skipped),
        "versions": Versions.here().model_dump(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    measured = {} if corruptions is None else {"corruptions": corruptions.to_dict()}
    skipped = [other.opened.skipped for other in others]
    sets = [{**one.to_dict(), "skipped_images": len(of)} for one, of in zip(result.data, skipped, strict=True)]
    drop_links(output, SHIFT)
    write_json(output / "shift.json", {**facts, **measured, "data_sets": sets})
    write_skipped(output / "shift_skipped_images.csv", [line for of in (opened.skipped, *skipped) for line in of])
    write_shift_csv(output / "shift.csv", corruptions, result.data)
    plot_shift(output / "shift.png", corruptions, result.data)
