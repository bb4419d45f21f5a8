"""Measure a finished pack under domain shift: on corrupted images, or on other sets of the same classes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from lpt.commands.evaluate.folder import SHIFT, output_locked
from lpt.commands.evaluate.kept import cell_settings, digest, kept_cells
from lpt.commands.evaluate.passes import Passes
from lpt.commands.evaluate.request import EvaluationRequest, Subject, open_subject, print_notes
from lpt.commands.results import drop_links
from lpt.data.cache import with_white
from lpt.data.longtail import stratified_subset
from lpt.data.manifest import IntArray, LabelledImages
from lpt.data.sources import OpenedImages, open_images
from lpt.data.sources.raw import SplitName
from lpt.errors import ConfigError
from lpt.evaluation.corruptions import SEVERITIES, find_kinds, find_severities
from lpt.evaluation.shift import (
    CorruptionShift,
    DataShift,
    SetPair,
    evaluate_data_shift,
    evaluate_shift,
    pair_sets,
    pass_names,
)
from lpt.packs.hub import pinned
from lpt.packs.info import Versions
from lpt.packs.pack import Pack
from lpt.report.bars import progress_bar
from lpt.report.run_files import write_skipped
from lpt.report.shift import corruption_tables, data_shift_table, write_shift_csv
from lpt.report.shift_plot import plot_shift
from lpt.system.files import write_json
from lpt.system.processes import Processes

DEFAULT_IMAGES = 1000
_CHOSEN = "chosen by the seed, the same share of every class"


@dataclass(frozen=True)
class ShiftRequest:
    """The shifts to measure a pack under.

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
    """The results of a pack under shift: under corruptions, and on each other set."""

    corruptions: CorruptionShift | None
    data: tuple[DataShift, ...]


def parse_shift(
    shifts: Iterable[str], *, severities: Iterable[str] = (), images: int | None = None, seed: int | None = None
) -> ShiftRequest:
    """Turn `--shift corruptions[:fog,blur]`, `--shift DATA2`, `--severities 1,3,5` and the like into a request.

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
    request: EvaluationRequest, shift: ShiftRequest, *, console: Console, progress: Console
) -> ShiftResult:
    """Measure a pack under domain shift, print the tables, and write the files if a folder is given.

    Args:
        request: the pack, and images of its own kind; the settings of the data are for all sources. Its folder gets
            shift.json, shift.csv and shift.png, and shift_skipped_images.csv where images were skipped. Finished
            measurements are kept there, and are not made again for the same pack and images unless `overwrite` is set.
        shift: the shifts.
        console: where the tables go.
        progress: where the bar is shown.

    Raises:
        RunError: the folder holds measurements of another pack or in another precision.
        DataError: a source cannot be used, shares no class with the pack, or an image cannot be read.
    """
    processes = Processes.launched(request.device)
    with output_locked(request.output, processes, console):
        return _evaluate_locked(request, shift, processes, console, progress)


def _evaluate_locked(
    request: EvaluationRequest, shift: ShiftRequest, processes: Processes, console: Console, progress: Console
) -> ShiftResult:
    output = request.output
    request = replace(request, pack=processes.on_main(lambda: pinned(request.pack)))
    subject = processes.on_all(lambda: open_subject(request))
    others = processes.on_all(lambda: _open_others(shift, subject, request.split))
    settings = cell_settings(subject)
    inputs = [replace(request, data=data).inputs for data in (request.data, *shift.sources)]
    cells = processes.on_main(lambda: kept_cells(output, settings, inputs, overwrite=request.overwrite))
    print_notes(subject.notes, subject.skipped, console)
    for other in others:
        print_notes([f"{other.pair.source}: {note}" for note in other.opened.notes], other.opened.skipped, console)
    for line in _announcements(subject, shift, others):
        console.print(line, markup=False)
    with progress_bar(progress) as bar:
        passes = Passes(subject, processes, bar, output, settings, cells)
        corruptions = _measure_corruptions(passes, subject, shift)
        data_shifts = [evaluate_data_shift(passes.measure(), other.pair) for other in others]
    result = ShiftResult(corruptions, tuple(data_shifts))
    if corruptions is not None:
        console.print(corruption_tables(corruptions))
    for data_shift in data_shifts:
        console.print(data_shift_table(data_shift))
    if request.prior is not None:
        console.print(f"Class frequencies: {request.prior}.", markup=False)
    if passes.kept:
        console.print(f"{passes.kept} of {passes.count} measurements were there already.", markup=False)
    if output is not None:
        processes.on_main(lambda: _write(output, result, subject, others, request, shift))
        console.print(f"shift.json, shift.csv and shift.png: {output}", markup=False)
    return result


def _measure_corruptions(passes: Passes, subject: Subject, shift: ShiftRequest) -> CorruptionShift | None:
    if shift.kinds is None:
        return None
    subset = _corruption_subset(subject.images, shift)
    return evaluate_shift(
        passes.measure(f"{digest(subject.images.subset(subset))} seed {shift.seed}", _pass_count(shift)),
        subject.images,
        kinds=shift.kinds,
        severities=shift.severities,
        seed=shift.seed,
        subset=subset,
        shorter_side=_working_side(subject.pack),
    )


def _announcements(subject: Subject, shift: ShiftRequest, others: Sequence[_OtherSet]) -> Iterator[str]:
    """Say what will be measured, and on how many images."""
    if shift.kinds is not None:
        images = _describe_choice(len(_corruption_subset(subject.images, shift)), len(subject.images))
        advice = "--shift-images N takes another number, 0 all"
        yield f"Corruptions: {_pass_count(shift)} passes over {images}; {advice}."
    chosen = f", {_CHOSEN}" if shift.images else ""
    for other in others:
        clean, shifted = other.pair.clean, other.pair.shifted
        ours = f"{0 if clean is None else len(clean):,} of the {len(subject.images):,} of DATA"
        theirs = f"{len(shifted):,} of the {len(other.opened.images):,} images of {other.pair.source}"
        yield f"Another set: {theirs}, compared with {ours}: those of the classes that both have{chosen}."


def _pass_count(shift: ShiftRequest) -> int:
    return len(list(pass_names(shift.kinds or (), shift.severities)))


def _corruption_subset(images: LabelledImages, shift: ShiftRequest) -> IntArray:
    number = DEFAULT_IMAGES if shift.images is None else shift.images
    return stratified_subset(images.labels, number, shift.seed)


def _describe_choice(chosen: int, images: int) -> str:
    return f"all {images:,} images" if chosen == images else f"{chosen:,} of {images:,} images ({_CHOSEN})"


def _working_side(pack: Pack) -> int:
    """Return the largest shorter side of an image to corrupt: 1.5 times what the test transform makes of it."""
    preprocessing = pack.info.preprocessing
    return round(1.5 * max(preprocessing.size) / preprocessing.test_crop)


@dataclass(frozen=True)
class _OtherSet:
    """Another set of images: as it was opened, and its pairing with DATA."""

    opened: OpenedImages
    pair: SetPair


def _open_others(shift: ShiftRequest, subject: Subject, split: SplitName) -> list[_OtherSet]:
    names, size, seed = tuple(subject.pack.info.class_names), shift.images or 0, shift.seed
    others = []
    for source in shift.sources:
        other = open_images(source, subject.data_config, split=split)
        (images,) = with_white([other.images], subject.pack.info.preprocessing.white)
        other = other._replace(images=images)
        others.append(_OtherSet(other, pair_sets(subject.images, other.images, names, source, size=size, seed=seed)))
    return others


def _write(
    output: Path,
    result: ShiftResult,
    subject: Subject,
    others: Sequence[_OtherSet],
    request: EvaluationRequest,
    shift: ShiftRequest,
) -> None:
    """Write shift.json, shift.csv, shift.png and the list of skipped images."""
    corruptions = result.corruptions
    facts = {
        "pack": subject.pack.origin,
        "pack_sha256": subject.pack.info.tensors_sha256,
        "data": request.data,
        "split": request.split,
        **({} if request.prior is None else {"prior": str(request.prior)}),
        "seed": shift.seed,
        "shift_images": shift.images,
        "largest_shorter_side": _working_side(subject.pack),
        "skipped_images": len(subject.skipped),
        "versions": Versions.here().model_dump(),
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    measured = {} if corruptions is None else {"corruptions": corruptions.to_dict()}
    skipped = [other.opened.skipped for other in others]
    sets = [
        {**data_shift.to_dict(), "skipped_images": len(lines)}
        for data_shift, lines in zip(result.data, skipped, strict=True)
    ]
    drop_links(output, SHIFT)
    write_json(output / "shift.json", {**facts, **measured, "data_sets": sets})
    write_skipped(
        output / "shift_skipped_images.csv", [line for lines in (subject.skipped, *skipped) for line in lines]
    )
    write_shift_csv(output / "shift.csv", corruptions, result.data)
    plot_shift(output / "shift.png", corruptions, result.data)
