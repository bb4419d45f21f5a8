"""Open the splits of a run from the `data` section of a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lpt.config.schema import DataConfig
from lpt.data.decoding import Reading
from lpt.data.images import EncodedImages, FileImages
from lpt.data.manifest import LabelledImages, Splits
from lpt.data.scan import check_images, find_repaired, missing_files
from lpt.data.sources.cuts import cut_long_tail, cut_validation, hold_out_for_testing
from lpt.data.sources.folder import read_folder
from lpt.data.sources.huggingface import PREFIX, read_hugging_face
from lpt.data.sources.parquet import PARQUET
from lpt.data.sources.pathlist import is_really_table, read_path_list, stream_listed_paths
from lpt.data.sources.raw import SPLIT_WORDS, SPLITS, RawData, RawSplit, SplitName, label_images, merge_classes
from lpt.data.sources.spelling import find_respelled, unify_classes
from lpt.data.sources.table import Columns, read_table, stream_paths
from lpt.errors import DataError
from lpt.system.text import plural, shorten

_FORMS = (
    "a folder of class folders; a .csv, .tsv, .json or .jsonl with columns of image paths and labels; a .txt of "
    "`path label` "
    "lines; hf:NAME_OR_FOLDER for a Hugging Face data set"
)
_TABLES = (".csv", ".tsv", ".json", ".jsonl", ".ndjson")
_OTHERS = {
    ".xlsx": "save the sheet as CSV (UTF-8) in the spreadsheet program",
    ".xls": "save the sheet as CSV (UTF-8) in the spreadsheet program",
    ".ods": "save the sheet as CSV (UTF-8) in the spreadsheet program",
    ".parquet": "write hf:FOLDER with the folder that holds it",
    ".arrow": "write hf:FOLDER with the folder that holds it",
    ".zip": "unpack it and give the folder",
    ".tar": "unpack it and give the folder",
    ".gz": "unpack it and give what it holds",
    ".npz": "write its images to files, in a folder for each class",
    ".npy": "write its images to files, in a folder for each class",
    ".mat": "write its images to files, in a folder for each class",
    ".xml": "list the images in a CSV with columns image,label",
}
_LISTS = (".txt", ".lst")


class OpenedImages(NamedTuple):
    """The images of one source.

    Args:
        images: the images that can be used.
        split: their split; another than the requested one if the source has only that.
        skipped: images left out because they cannot be read, as (name, reason).
        notes: facts that a person should know, one sentence each.
    """

    images: LabelledImages
    split: SplitName
    skipped: list[tuple[str, str]]
    notes: list[str]


@dataclass
class _Record:
    """The facts that a person should know about how the data was opened."""

    notes: list[str] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def take(self, data: RawData) -> None:
        """Take over what the reader of a source has to say."""
        self.notes += data.notes
        self.skipped += data.skipped


def open_splits(config: DataConfig, *, seed: int) -> Splits:
    """Open a data set as a run uses it: label it, and cut the long tail and the splits that are asked for.

    The test images are cut first, then those for validation. Shot groups go by the counts before both cuts.

    Missing files are noticed here. With `bad_images: skip` every image is decoded once; those that cannot be read are
    left out and recorded. With `stop` no image is decoded here.

    Args:
        config: the `data` section.
        seed: seed of the long-tailed cut and of the validation split.

    Raises:
        DataError: LPT cannot use the data as it is; the message says where and what to do.
    """
    record = _Record()
    parts = _gather(config, record)
    parts = unify_classes(parts, record.notes)
    class_names = merge_classes(parts, record.notes)
    splits = {
        name: _readable(label_images(part, class_names), name, part.origin, config, record)
        for name, part in parts.items()
    }
    train = cut_long_tail(splits["train"], config, seed, record.notes)
    _note_absent_classes(train, splits, record.notes)
    counts = train.class_counts
    validation, test = splits.get("validation"), splits.get("test")
    if isinstance(config.test, float):
        train, test = hold_out_for_testing(train, config.test, record.notes)
    if isinstance(config.validation, float):
        train, validation = cut_validation(train, config.validation, seed, record.notes)
    return Splits(train, validation, test, counts, tuple(record.skipped), tuple(record.notes))


def open_images(
    source: str,
    config: DataConfig,
    class_names: tuple[str, ...] | None = None,
    *,
    split: SplitName = "test",
    split_option: str = "",
) -> OpenedImages:
    """Open the images of one source, such as a test set for a finished pack.

    Args:
        source: the source, in any of the forms of `DataConfig.source`.
        config: gives the image root, the columns and what to do with bad images.
        class_names: classes of the labels, in label order; None: those of the source.
        split: the split to take if the source has several.
        split_option: the option that names the split, for messages; empty if there is none.

    Raises:
        DataError: the source cannot be used, or has classes that are not among `class_names`.
    """
    record = _Record()
    actual_split, part = _one_split(source, split, config, record, needs_split=True, option=split_option)
    part = unify_classes({"train": part}, record.notes, class_names or ())["train"]
    if class_names is None:
        class_names = merge_classes({"train": part}, record.notes)
    images = _readable(label_images(part, class_names), actual_split, part.origin, config, record)
    return OpenedImages(images, actual_split, record.skipped, record.notes)


def read_source(spec: str, config: DataConfig, *, needs_split: bool = True) -> RawData:
    """Read the splits of a source in any of the accepted forms.

    Args:
        spec: the source.
        config: gives the image root and the columns.
        needs_split: whether a table must have the column of splits that the configuration names.

    Raises:
        DataError: the source does not exist or is in no known form, or its reader refuses it.
    """
    data = _read(spec, config, needs_split=needs_split)
    for part in data.splits.values():
        if isinstance(part.source, EncodedImages):
            part.source.reading = Reading(config.max_pixels, repair=config.bad_images == "repair")
    return data


def _read(spec: str, config: DataConfig, *, needs_split: bool) -> RawData:
    if spec.startswith(PREFIX):
        return read_hugging_face(spec, config.image_column, config.label_column)
    path = Path(spec).expanduser()
    ending = path.suffix.lower()
    try:
        if path.is_dir():
            return read_folder(path, skip_faults=config.bad_images == "skip")
        if not path.exists():
            raise DataError(_missing_source(spec, path))
    except OSError as error:
        raise DataError(f"cannot look at {path}: {error.strerror}") from None
    if ending in _TABLES or (ending in _LISTS and is_really_table(path)):
        columns = Columns(config.image_column, config.label_column, config.split_column, needs_split)
        return read_table(path, config.image_root, columns)
    if ending in _LISTS:
        return read_path_list(path, config.image_root)
    advice = f" Next: {_OTHERS[ending]}." if ending in _OTHERS else ""
    raise DataError(f"{path}: files ending in {ending or 'nothing'} are not understood.{advice} Accepted: {_FORMS}.")


def is_listing(path: Path) -> bool:
    """Return whether a path is that of a table or list of images, by its ending."""
    return path.suffix.lower() in (*_TABLES, *_LISTS, PARQUET)


def stream_listing(path: Path, image_root: Path | None, image_column: str | None, notes: list[str]) -> Iterator[Path]:
    """Yield the image files that a table or list names, in its order; labels and splits do not count.

    It is read as a stream, several times, and never in memory whole.

    Raises:
        DataError: it cannot be read, or names no images.
    """
    if path.suffix.lower() in _LISTS and not is_really_table(path):
        return stream_listed_paths(path, image_root, notes)
    return stream_paths(path, image_root, image_column, notes)


def listing_root(config: DataConfig, splits: Splits) -> Path | None:
    """Return the folder that paths in lists and tables start from, if that depends on the working directory.

    None if a root is given, if paths start from the folder of their list, or if the lists differ.
    """
    named = ((config.source, splits.train), (config.validation, splits.validation), (config.test, splits.test))
    lists = [
        (Path(images.source.root).absolute(), Path(spec).expanduser().absolute())
        for spec, images in named
        if isinstance(spec, str) and images is not None and isinstance(images.source, FileImages)
    ]
    lists = [(root, path) for root, path in lists if path.suffix.lower() in _TABLES + _LISTS and path.is_file()]
    roots = {root for root, _ in lists}
    given = config.image_root is not None or all(root == path.parent for root, path in lists)
    return None if given or len(roots) > 1 else roots.pop()


def _gather(config: DataConfig, record: _Record) -> dict[SplitName, RawSplit]:
    """Read train, and validation and test if there are any, from the sources of a configuration."""
    if config.source is None:
        raise DataError(f"no data given (data.source). Accepted: {_FORMS}.")
    data = read_source(config.source, config)
    notes = record.notes
    record.take(data)
    parts = dict(data.splits)
    if "train" not in parts:
        raise DataError(
            data.unusable.get("train")
            or f"{config.source} has no training images; its splits are: {', '.join(parts)} (known: {SPLIT_WORDS})"
        )
    if isinstance(config.validation, float):
        if parts.pop("validation", None) is not None:
            notes.append(f"The validation split of {config.source} is not used: a fraction of train was asked for.")
    elif config.validation is not None:
        _, parts["validation"] = _one_split(str(config.validation), "validation", config, record)
    if isinstance(config.test, float):
        if parts.pop("test", None) is not None:
            notes.append(f"The test split of {config.source} is not used: a share of train was asked for.")
    elif config.test is not None:
        if "test" in parts:
            notes.append(f"The test split of {config.source} is not used: {config.test} was given.")
        _, parts["test"] = _one_split(config.test, "test", config, record)
    return parts


def _one_split(
    source: str,
    split: SplitName,
    config: DataConfig,
    record: _Record,
    *,
    needs_split: bool = False,
    option: str = "",
) -> tuple[SplitName, RawSplit]:
    """Read the requested split of a source, or its only one; return its name too."""
    data = read_source(source, config, needs_split=needs_split)
    record.take(data)
    if split in data.splits:
        return split, data.splits[split]
    if split in data.unusable:
        raise DataError(data.unusable[split])
    if len(data.splits) == 1 and not data.unusable:
        return next(iter(data.splits.items()))
    if not data.splits:
        raise DataError(" ".join(data.unusable.values()))
    there = [name for name in SPLITS if name in data.splits]
    lack = f"{source} has no {split} split; its splits are: {', '.join(there)}."
    if option:
        raise DataError(f"{option} {split}: {lack} Next: {' or '.join(f'{option} {name}' for name in there)}.")
    raise DataError(f"{lack} Next: give the folder or the list of the right images alone.")


def _missing_source(spec: str, path: Path) -> str:
    siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
    close = difflib.get_close_matches(path.name, siblings, n=3)
    hint = f" Did you mean {', '.join(str(path.parent / name) for name in close)}?" if close else ""
    hub = f" For the Hugging Face data set of that name write hf:{spec}." if spec.count("/") == 1 else ""
    return f"there is no file or folder {path.absolute()}.{hint}{hub} Accepted: {_FORMS}."


def _readable(images: LabelledImages, split: str, origin: str, config: DataConfig, record: _Record) -> LabelledImages:
    """Leave out the images that cannot be read, or raise an error for missing files if so configured."""
    missing = missing_files(images)
    if len(missing):
        images = find_respelled(images, missing, origin, record.notes)
        missing = missing_files(images)
    if len(missing) and (config.bad_images != "skip" or len(missing) == len(images)):
        raise DataError(_missing_message(images, missing.tolist(), origin))
    if config.bad_images == "repair" and (repaired := find_repaired(images, title=f"Reading {split} images")):
        record.notes.append(
            f"Repaired: {plural(len(repaired), f'{split} image')} cut short, taken as far as they go and grey below: "
            f"{shorten([images.name(index) for index in repaired], 3)}."
        )
    if config.bad_images != "skip":
        return images
    absent = [(images.name(index), "the file does not exist") for index in missing.tolist()]
    images = images.subset(np.setdiff1d(np.arange(len(images)), missing))
    bad = check_images(images, title=f"Reading {split} images")
    images = images.subset(np.setdiff1d(np.arange(len(images)), [index for index, _, _ in bad]))
    if not len(images):
        raise DataError(
            f"{origin}: none of its {plural(len(bad) + len(absent), 'image')} can be read: {bad[0][1]}: {bad[0][2]}"
        )
    if bad or absent:
        record.skipped += absent + [(name, reason) for _, name, reason in bad]
        record.notes.append(f"Left out: {plural(len(bad) + len(absent), f'{split} image')} that cannot be read.")
    return images


def _missing_message(images: LabelledImages, missing: list[int], origin: str) -> str:
    named = "\n".join(f"  {images.name(index)}" for index in missing[:5])
    more = f"\n  and {len(missing) - 5} more" if len(missing) > 5 else ""
    root = images.source.root if isinstance(images.source, FileImages) else ""
    total = plural(len(images), "image")
    return (
        f"{origin}: {len(missing):,} of its {total} cannot be found:\n{named}{more}\n"
        f"Relative paths start from {root}; another folder is given with --image-root (data.image_root). To leave out "
        "what is missing: --bad-images skip (data.bad_images: skip)."
    )


def _note_absent_classes(train: LabelledImages, splits: Mapping[SplitName, LabelledImages], notes: list[str]) -> None:
    empty = train.class_counts == 0
    if not len(train):
        raise DataError("no training image is left")
    for name in ("validation", "test"):
        if name not in splits:
            continue
        unseen = np.flatnonzero(empty & (splits[name].class_counts > 0))
        if len(unseen):
            names = [train.class_names[c] for c in unseen]
            notes.append(f"{plural(len(names), 'class')} with {name} images but none for training: {shorten(names)}.")
    if empty.any():
        names = [train.class_names[c] for c in np.flatnonzero(empty)]
        notes.append(f"{len(names):,} of {plural(len(empty), 'class')} without a training image: {shorten(names)}.")
