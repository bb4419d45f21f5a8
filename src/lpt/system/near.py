"""Name folders near one that is missing, so that a wrong path is easy to mend."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable
from pathlib import Path

from lpt.system.text import shorten

_MOST_LOOKED_AT = 1000
_MOST_NAMED = 5


def near_folders(path: Path, is_wanted: Callable[[Path], bool], what: str) -> str:
    """Return a sentence with a space before it on the folders beside a missing one; empty if there is none.

    Args:
        path: the missing folder.
        is_wanted: whether a folder beside it may be meant.
        what: what these folders are, in words.
    """
    try:
        beside = sorted(other for other in itertools.islice(path.parent.iterdir(), _MOST_LOOKED_AT) if is_wanted(other))
    except OSError:
        return ""
    by_name = {other.name.casefold(): other for other in beside}
    close = [by_name[name] for name in difflib.get_close_matches(path.name.casefold(), by_name, n=3)]
    if close:
        return f" Did you mean {shorten([str(other) for other in close])}?"
    names = shorten([other.name for other in beside], _MOST_NAMED)
    return f" {what} in {path.parent}: {names}." if names else ""
