"""The result of every reader of a data source, and the one list of classes of all its splits."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from lpt.config.bounds import escaped
from lpt.data.manifest import ImageSource, IntArray, LabelledImages
from lpt.errors import DataError
from lpt.system.text import shorten

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")
_SPLIT_WORDS: dict[SplitName, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid", "dev", "eval", "evaluation"),
    "test": ("test", "testing"),
}
SPLIT_WORDS = ", ".join(word for words in _SPLIT_WORDS.values() for word in words)
"""All accepted names of splits, for messages; each may also stand in one like `seg_train` or `training_set`."""
PLAIN_WORDS = ("train", "training", "validation", "val", "valid", "dev", "test", "testing")
"""The names of splits that come before all others."""
_AROUND_SPLIT = re.compile(r"(seg|image|images|img|imgs|data|dataset|set|split|folder|dir|new|final)")
"""Words that stand beside the split in the name of a folder, as in `seg_train`, `test_set`, `val_images`."""

_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9][0-9]*))(?:\.0*)?")
_NO_LABEL = frozenset({"nan", "-nan", "+nan", "nat", "<na>", "#n/a", "#na", "null"})
"""Words (lower case) by which programs write that a label is missing."""


@dataclass(frozen=True)
class RawSplit:
    """One split as it stands in its source.

    Args:
        source: source of the pixels.
        rows: row of each image in `source`, [n].
        codes: position of each image's class in `names`, [n].
        names: class names of this split.
        kind: `indices` if the labels are integers from 0 up, `ordered` if the source fixes the order of its class
            names, `names` otherwise.
        origin: the file, folder or data set, for messages.
    """

    source: ImageSource
    rows: IntArray
    codes: IntArray
    names: tuple[str, ...]
    kind: Literal["indices", "ordered", "names"]
    origin: str


@dataclass
class RawData:
    """The splits of one source, with notes on how they were read.

    Args:
        splits: the splits that can be used.
        notes: facts that a person should know, a sentence each.
        unusable: why other splits of the source cannot be used; an error only if one of these is asked for.
        skipped: what cannot be read and was left out, as (name, reason).
    """

    splits: dict[SplitName, RawSplit]
    notes: list[str] = field(default_factory=list)
    unusable: dict[SplitName, str] = field(default_factory=dict)
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def add(self, split: SplitName, read: Callable[[], RawSplit]) -> None:
        """Read a split; note it as unusable if that fails."""
        try:
            self.splits[split] = read()
        except DataError as error:
            self.unusable[split] = str(error)
            self.notes.append(f"Not used as the {split} split: {error}")


@lru_cache(maxsize=256)
def split_name(text: str) -> SplitName | None:
    """Return the split that a folder, file or cell called `text` stands for, if any."""
    words = re.split(r"[\s_.-]+", text.strip().lower())
    named = [word for word in words if not _AROUND_SPLIT.fullmatch(word)]
    word = named[0].removesuffix("set") if len(named) == 1 else ""
    return next((split for split, known in _SPLIT_WORDS.items() if word in known), None)


def label_text(value: Any) -> str:
    """Return the label in a cell as printable text; empty if there is none, as in `nan`, or if it is no label."""
    if isinstance(value, str):
        text = value.strip()
        return "" if text.lower() in _NO_LABEL else escaped(text)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""


def whole_numbers(labels: list[str], origin: str, notes: list[str]) -> list[str]:
    """Return labels such as 1.0 as 1 if all labels are whole numbers; a note says so."""
    distinct = set(labels)
    numbers = {label: match[1] for label in distinct if (match := _WHOLE_NUMBER.fullmatch(label)) is not None}
    changed = sorted(label for label, number in numbers.items() if label != number)
    if not changed or len(numbers) < len(distinct):
        return labels
    notes.append(f"{origin}: labels are whole numbers; {changed[0]} is read as {numbers[changed[0]]}.")
    return [numbers[label] for label in labels]


def encode_labels(
    values: Sequence[str], classes: Sequence[str] = ()
) -> tuple[IntArray, tuple[str, ...], Literal["indices", "names"]]:
    """Return the codes of labels given as text, [n], their distinct names in order, and their kind.

    Integers come in numeric order, other labels in alphabetic order.

    Args:
        values: the labels.
        classes: classes that are there also if no label names them.
    """
    distinct = set(values).union(classes)
    integers = all(_is_integer(value) for value in distinct)
    names = tuple(sorted(distinct, key=int) if integers else sorted(distinct))
    index = {name: code for code, name in enumerate(names)}
    codes = np.fromiter((index[value] for value in values), dtype=np.int64, count=len(values))
    return codes, names, "indices" if integers and names and int(names[0]) >= 0 else "names"


def merge_classes(splits: Mapping[SplitName, RawSplit], notes: list[str]) -> tuple[str, ...]:
    """Return the classes of a data set in label order.

    Integer labels keep their values: the classes are 0..max, also those without an image, unless most of these numbers
    are unused. If the training source fixes an order (Hugging Face `ClassLabel`), it is kept, and classes of other
    splits come after. Otherwise the names of all splits are sorted.

    Raises:
        DataError: validation or test images share no class with the training images.
    """
    train = splits["train"]
    splits = {split: _with_numbers_as(part, train.names) for split, part in splits.items()}
    for split in ("validation", "test"):
        if split in splits:
            _check_common_class(train, splits[split], split)
    all_names = {name for part in splits.values() for name in part.names}
    if all(part.kind == "indices" for part in splits.values()):
        return _indexed_classes(all_names, notes)
    if train.kind == "ordered":
        return train.names + tuple(sorted(all_names.difference(train.names)))
    return tuple(sorted(all_names))


def label_images(part: RawSplit, class_names: tuple[str, ...]) -> LabelledImages:
    """Return the images of a split with labels that are indices into `class_names`.

    Raises:
        DataError: images have a class that is not among `class_names`.
    """
    part = _with_numbers_as(part, class_names)
    index = {name: code for code, name in enumerate(class_names)}
    unknown = [name for name in part.names if name not in index]
    if unknown:
        raise DataError(
            f"{part.origin}: {len(unknown)} of its {len(part.names)} classes are not among the "
            f"{len(class_names)} known ones: {shorten(unknown)}. Known are: {shorten(class_names)}."
        )
    codes = np.fromiter((index[name] for name in part.names), dtype=np.int64, count=len(part.names))
    return LabelledImages(part.source, part.rows, codes[part.codes], class_names)


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and (digits == "0" == text or not digits.startswith("0"))


def _with_numbers_as(part: RawSplit, names: Sequence[str]) -> RawSplit:
    """Return a split whose classes that are the same numbers are called as in `names`: 1 as 1.0."""
    spelled: dict[str, list[str]] = {}
    for name in names:
        spelled.setdefault(_number(name), []).append(name)
    known = set(names)
    renamed = tuple(
        same[0] if name not in known and len(same := spelled.get(_number(name), [])) == 1 else name
        for name in part.names
    )
    return part if renamed == part.names or len(set(renamed)) < len(renamed) else replace(part, names=renamed)


def _number(name: str) -> str:
    whole = _WHOLE_NUMBER.fullmatch(name)
    return name if whole is None else whole[1]


def _indexed_classes(names: set[str], notes: list[str]) -> tuple[str, ...]:
    top = max(int(name) for name in names)
    if 2 * len(names) < top + 1:
        notes.append(
            f"The integer labels reach {top:,} with only {len(names):,} in use: they are taken for names, "
            "in numeric order, not for class indices."
        )
        return tuple(sorted(names, key=int))
    return tuple(str(label) for label in range(top + 1))


def _check_common_class(train: RawSplit, other: RawSplit, split: str) -> None:
    if other.names and set(train.names).isdisjoint(other.names):
        raise DataError(
            f"the {split} images ({other.origin}) share no class with the training images ({train.origin}): "
            f"{split} has {shorten(other.names)}; train has {shorten(train.names)}. Name the classes the same way "
            "in both."
        )
