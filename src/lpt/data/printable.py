"""Class names that can be stored and shown."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from lpt.config.bounds import escaped
from lpt.data.manifest import LabelledImages, Splits
from lpt.errors import DataError
from lpt.system.text import shorten


def printable(splits: Splits) -> Splits:
    """Return the splits with class names that JSON, fonts and terminals can hold; other characters are escaped.

    Raises:
        DataError: a name is empty, or two are the same.
    """
    names = tuple(escaped(name) for name in splits.class_names)
    if "" in names or len(set(names)) < len(names):
        repeated = [name for name, times in Counter(names).items() if times > 1]
        raise DataError(
            f"class names must differ and none may be empty; given more than once: {shorten(repeated) or 'none'}; "
            f"empty: {names.count('')}. Rename these classes."
        )
    if names == splits.class_names:
        return splits

    def renamed(images: LabelledImages | None) -> LabelledImages | None:
        return None if images is None else replace(images, class_names=names)

    return replace(
        splits,
        train=replace(splits.train, class_names=names),
        validation=renamed(splits.validation),
        test=renamed(splits.test),
    )
