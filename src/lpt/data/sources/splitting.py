"""Find the column of a table that says for what an image is meant, by its values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lpt.data.sources.columns import plain_name
from lpt.data.sources.raw import SPLIT_WORDS, SplitName, split_name
from lpt.errors import DataError
from lpt.system.text import shorten

Values = Mapping[int, Counter[str]]
"""How often each value occurs in a column, by the number of the column; columns of many values are left out."""

_CERTAIN = "split"
_LIKELY = ("subset", "partition", "set", "data_set", "fold")
_USUAL = (*_LIKELY, "dataset", "phase", "usage", "stage", "purpose", "part", "mode", "group")
_TRUE, _FALSE = ("true", "t", "yes", "y", "1", "1.0"), ("false", "f", "no", "n", "0", "0.0")
FLAG_VALUES = frozenset((*_TRUE, *_FALSE))
_FLAGS: dict[str, SplitName] = {
    **dict.fromkeys(("is_valid", "is_val", "is_validation", "is_dev", "val", "validation"), "validation"),
    **dict.fromkeys(("is_test", "is_testing", "is_holdout", "test"), "test"),
    **dict.fromkeys(("is_train", "is_training", "is_training_image", "is_training_img", "train"), "train"),
}

_BARE = ("train", "val", "validation", "test")


@dataclass(frozen=True)
class SplitReading:
    """The way to tell the split of a row.

    Args:
        word: column whose cells name the split; None: there is none.
        flags: columns of true and false, with the split that true stands for.
        advice: what to do about a cell that names none.
    """

    word: int | None = None
    flags: tuple[tuple[int, SplitName], ...] = ()
    advice: str = ""

    def __bool__(self) -> bool:
        return self.word is not None or bool(self.flags)

    @property
    def columns(self) -> set[int]:
        """The columns it reads."""
        return {index for index, _ in self.flags} | ({self.word} if self.word is not None else set())

    def of(self, values: Sequence[Any]) -> SplitName | None:
        """Return the split of a row; None if it cannot be told."""
        if self.word is not None:
            return split_name(str(values[self.word]))
        marks = {split: flag(values[index]) for index, split in self.flags}
        marked = [split for split, mark in marks.items() if mark]
        if None in marks.values() or len(marked) > 1:
            return None
        if marked:
            return marked[0]
        return "train" if "train" not in marks else "validation" if "test" in marks else "test"

    def cells(self, values: Sequence[Any]) -> str:
        """Show the cells of a row that it reads."""
        return ", ".join(repr(values[index]) for index in sorted(self.columns))


def flag(value: Any) -> bool | None:
    """Return whether a cell says true or false; None if it says neither."""
    text = str(value).strip().lower()
    return True if text in _TRUE else False if text in _FALSE else None


def find_split(
    columns: Sequence[str], values: Values, taken: set[int], given: str | None, origin: str, notes: list[str]
) -> SplitReading:
    """Find the columns that give the split of a row.

    A column called `split`, and the one that is given, counts whatever it holds: a word in it that is no split is a
    fault. Any other column counts if its values are splits: at least half of them, and two splits among them or a usual
    name. Then columns of true and false count, such as `is_valid`.

    Args:
        columns: names of all columns.
        values: their values.
        taken: columns of images and labels.
        given: name of the column, if the user chose it.
        origin: the table, for messages.
        notes: gets a sentence where the choice is not obvious.

    Raises:
        DataError: there is no column of the name given.
    """
    if given is not None:
        return _given(columns, given, origin)
    names = [plain_name(column) for column in columns]
    free = [index for index in range(len(columns)) if index not in taken]
    if _CERTAIN in names and names.index(_CERTAIN) in free:
        return SplitReading(names.index(_CERTAIN), advice=f"The column `split` says one of {SPLIT_WORDS}.")
    usual = [names.index(name) for name in _USUAL if name in names and names.index(name) in free]
    ordered = [*usual, *(index for index in free if index not in usual)]
    accepted = [index for index in ordered if index in values and _says_splits(values[index], index in usual)]
    flags = tuple((index, _FLAGS[names[index]]) for index in free if names[index] in _FLAGS)
    if sum(names[index] in _BARE for index, _ in flags) == 1:  # alone, it may be a class of one-hot columns
        flags = tuple(pair for pair in flags if names[pair[0]] not in _BARE)
    odd_flags = [index for index, _ in flags if _odd(values.get(index), FLAG_VALUES)]
    flags = tuple(pair for pair in flags if pair[0] not in odd_flags)
    likely = [index for index in usual if names[index] in _LIKELY]
    suspects = [index for index in ordered if index in likely or (index in values and _any_split(values[index]))]
    notes += [
        f"{origin}: column {columns[index]!r} is not taken for the split, since many of its values are none, as "
        f"{_example(values.get(index))} (known: {SPLIT_WORDS}); choose it with --split-column (data.split_column) if "
        "it is, and write one of these words in every row."
        for index in suspects
        if index not in accepted and not (accepted and index not in likely)
    ]
    notes += [
        f"{origin}: column {columns[index]!r} is not taken for the split, since it does not say true or false only."
        for index in odd_flags
        if index not in accepted
    ]
    others = [columns[index] for index in (*accepted[1:], *(index for index, _ in flags if accepted))]
    if accepted:
        return _by_words(columns, values, accepted[0], others, origin, notes)
    if flags:
        shown = ", ".join(f"{columns[index]!r} ({split})" for index, split in flags)
        rest = SplitReading(flags=flags).of([False] * len(columns))
        notes.append(f"{origin}: splits are taken from {shown}; where none is true, the image is for {rest}.")
    return SplitReading(flags=flags, advice="These columns say true or false, and true in at most one of them.")


def _given(columns: Sequence[str], given: str, origin: str) -> SplitReading:
    if given not in columns:
        raise DataError(
            f"{origin}: there is no column {given!r} (--split-column, data.split_column). Its columns are: "
            f"{', '.join(columns)}."
        )
    index = columns.index(given)
    meaning = _FLAGS.get(plain_name(given))
    advice = f"Column {given!r} must say one of {SPLIT_WORDS}; columns is_train, is_valid and is_test true or false."
    return SplitReading(index, advice=advice) if meaning is None else SplitReading(None, ((index, meaning),), advice)


def _by_words(
    columns: Sequence[str], values: Values, index: int, others: list[str], origin: str, notes: list[str]
) -> SplitReading:
    name = columns[index]
    if plain_name(name) not in ("subset", "partition") or others:
        words = shorten([word for word, _ in values[index].most_common()])
        too = f"; {', '.join(map(repr, others))} would do too" if others else ""
        notes.append(
            f"{origin}: splits are taken from column {name!r} ({words}){too}; choose another with --split-column."
        )
    return SplitReading(index, advice=f"Column {name!r} says one of {SPLIT_WORDS} elsewhere.")


def _says_splits(values: Counter[str], usual: bool) -> bool:
    """Return whether more than half of the values are splits, and of two kinds where the name is not usual."""
    splits = {split for word in values if (split := split_name(word)) is not None}
    odd = sum(count for word, count in values.items() if split_name(word) is None)
    return 2 * odd < values.total() and len(splits) > (0 if usual else 1)


def _any_split(values: Counter[str]) -> bool:
    return any(split_name(word) is not None for word in values) and not _says_splits(values, usual=True)


def _odd(values: Counter[str] | None, known: frozenset[str]) -> bool:
    return values is None or any(word.strip().lower() not in known for word in values)


def _example(values: Counter[str] | None) -> str:
    odd = next((word for word in values or () if split_name(word) is None), None)
    return "a great many others" if odd is None else repr(odd)
