"""`lpt label-next`: choose which pictures to label next, so that rare classes gain most."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from lpt.commands.label_next.look import Looks, look_at
from lpt.commands.label_next.request import LIST, LabelNextRequest
from lpt.commands.label_next.table import is_list, list_text
from lpt.commands.predict.inputs import find_images
from lpt.commands.predict.shards import check_writable
from lpt.commands.predict.table import decode_ahead
from lpt.config.bounds import MAX_PIXELS, check_positive
from lpt.data.decoding import Reading, read_image
from lpt.errors import ConfigError, DataError, LptError, RunError
from lpt.evaluation.acquisition import Suggestion, choose_next, suggest
from lpt.packs.info import COUNTS_UNKNOWN, PackInfo
from lpt.packs.pack import load_pack
from lpt.packs.predictor import load_predictor
from lpt.report.bars import image_bar, warner
from lpt.report.html.contact_sheet import Sheet, SoughtClass, is_sheet, render_sheet
from lpt.report.html.thumbnails import thumbnail_data
from lpt.system.files import write_text
from lpt.system.lock import locked_path
from lpt.system.text import plural

THUMBNAIL_SIDE = 168
"""Longer side of a picture on the contact sheet, pixels."""
BAD_IMAGES = ("stop", "skip", "repair")
_MOST_SHOWN = 20


def label_next(
    pack: str | Path,
    images: str | Path | Iterable[str | Path],
    output: str | Path = LIST,
    *,
    n: int = 100,
    labelled: str | Path | Iterable[str | Path] = (),
    sheet: bool = True,
    bad_images: str = "skip",
    max_pixels: int = MAX_PIXELS,
    image_root: str | Path | None = None,
    image_column: str | None = None,
    backbone: str | None = None,
    checkpoint: str | Path | None = None,
    device: str = "auto",
    precision: str = "auto",
    batch_size: int = 32,
    console: Console | None = None,
) -> list[Suggestion]:
    """Choose which pictures to label next so that rare classes gain most; write and return the list, best first.

    Args:
        pack: the pack folder, a run folder that holds one, or its address on the hub.
        images: files, folders, tables and lists of pictures without labels, and patterns of them.
        output: the list, a .csv file; the contact sheet is the .html file of the same name beside it.
        n: how many pictures to choose; all, if there are fewer.
        labelled: pictures that are labelled already, in any form of `images`; they are left out.
        sheet: draw the contact sheet.
        bad_images: `stop` at a picture that cannot be read, `skip` it, or `repair` JPEGs that lack their last bytes.
        max_pixels: most pixels of a picture; a larger one counts as one that cannot be read.
        image_root: folder that relative paths of tables and lists start from.
        image_column: column of images in a table; None: found by name.
        backbone, checkpoint, device, precision: as for `lpt.load_predictor`.
        batch_size: pictures in a forward pass.
        console: where to report. None: silent.

    Raises:
        PackError, ConfigError, DataError: the pack, an argument or a picture cannot be used.
        RunError: a file is there that LPT did not write, or cannot be written.
    """
    request = LabelNextRequest(
        pack=pack,
        images=_paths(images),
        number=n,
        output=Path(output),
        labelled=_paths(labelled),
        sheet=sheet,
        bad_images=bad_images,
        max_pixels=max_pixels,
        image_root=None if image_root is None else Path(image_root),
        image_column=image_column,
        backbone=backbone,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        device=device,
        precision=precision,
        batch_size=batch_size,
    )
    return label_requested(request, console=console or Console(quiet=True))


def label_requested(request: LabelNextRequest, *, console: Console) -> list[Suggestion]:
    """Choose what a request asks for, write it, and return it; errors as for `label_next`."""
    check_positive(n=request.number, batch_size=request.batch_size)
    if request.bad_images not in BAD_IMAGES:
        raise ConfigError(f"--bad-images: {request.bad_images!r} is not accepted; choose {', '.join(BAD_IMAGES)}")
    with locked_path(request.output, warner(console)):
        return _label_locked(request, console)


def _label_locked(request: LabelNextRequest, console: Console) -> list[Suggestion]:
    page = request.output.with_suffix(".html")
    check_replaceable(request.output, page if request.sheet else None)
    check_writable(request.output)
    paths = _find_images(request, console)
    pack = load_pack(request.pack)
    if not pack.info.counts_known:
        console.print(COUNTS_UNKNOWN, style="yellow")
    reading = Reading(request.max_pixels, pack.info.preprocessing.white, request.bad_images == "repair")
    predictor = load_predictor(
        pack,
        backbone=request.backbone,
        checkpoint=request.checkpoint,
        engine="torch",
        device=request.device,
        precision=request.precision,
    )
    bad, repaired = list[str](), list[str]()
    ahead = decode_ahead(paths, reading, repaired)
    with image_bar(console, "looking", len(paths)) as show, contextlib.closing(ahead) as pictures:
        looks = look_at(
            predictor,
            pictures,
            batch_size=request.batch_size,
            bad=bad if request.bad_images == "skip" else None,
            show_done=show,
        )
    if not looks.paths:
        raise DataError(f"none of {plural(len(bad), 'picture')} can be read; the first: {bad[0]}")
    suggestions = _choose(looks, pack.info, request.number)
    _report_left_out(len(paths), bad, repaired, console)
    text = None if not request.sheet else render_sheet(_sheet(pack.origin, pack.info, looks, suggestions, reading))
    write_text(request.output, list_text(suggestions))
    if len(suggestions) < min(request.number, len(looks.paths)):
        console.print("There are no more: all others are near-duplicates of a chosen picture", style="yellow")
    console.print(f"{plural(len(suggestions), 'picture')} to label next: {request.output}", markup=False)
    if text is not None:
        write_text(page, text)
        console.print(f"Contact sheet: {page}", markup=False)
    return suggestions


def check_replaceable(output: Path, page: Path | None) -> None:
    """Check, before any picture is read, that the files replace nothing but an earlier list and sheet.

    Args:
        output: the list.
        page: the contact sheet; None: there is none.

    Raises:
        ConfigError: the ending is not .csv.
        RunError: something is there that `lpt label-next` did not write.
    """
    if output.suffix.lower() != ".csv":
        raise ConfigError(f"--output {output}: the ending must be .csv; the contact sheet is the .html beside it")
    for path, what, ours in ((output, "a list", is_list), (page, "a contact sheet", is_sheet)):
        if path is None:
            continue
        if path.is_dir():
            raise RunError(f"--output: {path} is a folder; give a file")
        try:
            replaceable = not path.is_file() or not path.stat().st_size or ours(path)
        except OSError as error:
            raise RunError(f"cannot read {path}: {error.strerror}; give another file with --output") from None
        if not replaceable:
            raise RunError(
                f"--output: {path} is there, and is not {what} that lpt label-next wrote; give another file, or remove "
                "it yourself"
            )


def _paths(given: str | Path | Iterable[str | Path]) -> tuple[Path, ...]:
    return (Path(given),) if isinstance(given, str | Path) else tuple(map(Path, given))


def _find_images(request: LabelNextRequest, console: Console) -> list[Path]:
    """List the pictures, each file once, without those that are labelled already.

    Raises:
        DataError: something does not exist, or no picture is left.
    """
    notes: list[str] = []

    def listed(given: Sequence[Path], *, skip_bad: bool) -> Iterator[Path]:
        return find_images(
            given, notes, skip_bad=skip_bad, image_root=request.image_root, image_column=request.image_column
        )

    files: dict[str, Path] = {}  # the first path of each file
    count = 0
    for path in listed(request.images, skip_bad=request.bad_images == "skip"):
        files.setdefault(os.path.realpath(path), path)
        count += 1
    known = {os.path.realpath(path) for path in listed(request.labelled, skip_bad=True)}
    paths = [path for file, path in files.items() if file not in known]
    for note in notes:
        console.print(note, style="yellow", markup=False)
    twice = count - len(files)
    if twice:
        console.print(f"Left out: {plural(twice, 'picture')} that are listed more than once", style="yellow")
    if request.labelled:
        here = len(known & files.keys())
        console.print(
            f"Left out: {plural(here, 'picture')} labelled already, of {len(known):,} that --labelled names",
            style="" if here else "yellow",
        )
    if not paths:
        raise DataError("no picture is left to choose from: all are labelled already (--labelled)")
    return paths


def _choose(looks: Looks, info: PackInfo, number: int) -> list[Suggestion]:
    """Return the chosen pictures, best first."""
    counts = np.asarray(info.class_counts, dtype=np.int64)
    chosen = choose_next(looks.guesses, looks.features, counts, number)
    names = [str(path) for path in looks.paths]
    return suggest(chosen, looks.guesses, names, info.class_names, counts, info.shot_groups)


def _report_left_out(total: int, bad: Sequence[str], repaired: Sequence[str], console: Console) -> None:
    """Print which pictures could not be read, or were cut short."""
    for title, lines in (
        (f"Left out: {len(bad):,} of {plural(total, 'picture')} that cannot be read", bad),
        (f"Repaired: {plural(len(repaired), 'picture')} cut short, taken as far as they go", repaired),
    ):
        if lines:
            console.print(title, style="yellow", markup=False)
            for line in lines[:_MOST_SHOWN]:
                console.print(f"  {line}", style="yellow", markup=False)


def _sheet(
    origin: str, info: PackInfo, looks: Looks, suggestions: Sequence[Suggestion], reading: Reading
) -> Sheet:  # fmt: skip
    """Return what the contact sheet shows."""
    counts = dict(zip(info.class_names, info.class_counts, strict=True))
    sought = Counter(each.chosen_for for each in suggestions).most_common()
    return Sheet(
        pack=origin,
        looked_at=len(looks.paths),
        rare=f"fewer than {info.shot_groups.few_below} training images",
        sought=[SoughtClass(name, counts[name], chosen) for name, chosen in sought],
        suggestions=suggestions,
        thumbnails=[_thumbnail(Path(each.image), reading) for each in suggestions],
    )


def _thumbnail(path: Path, reading: Reading) -> str:
    """Return a picture as the sheet shows it; empty if it cannot be read any more."""
    try:
        return thumbnail_data(read_image(path, str(path), reading), THUMBNAIL_SIDE)
    except (LptError, OSError):
        return ""
