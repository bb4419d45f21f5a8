"""Tell the user about a wait before it begins, on the console of the command that runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_say: ContextVar[Callable[[str], None] | None] = ContextVar("say", default=None)


@contextmanager
def notices_to(say: Callable[[str], None]) -> Iterator[None]:
    """Let `notice` print with `say` in this block; the innermost block wins."""
    before = _say.set(say)
    try:
        yield
    finally:
        _say.reset(before)


def notice(text: str) -> None:
    """Tell the user something now. Outside of a command nothing is printed."""
    say = _say.get()
    if say is not None:
        say(text)
