"""Protect the folder of a command's results: replace only files that an earlier call of the command wrote."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lpt.commands.inputs import inputs_of
from lpt.errors import RunError
from lpt.report.bars import teller, warner
from lpt.system.files import atomic_path
from lpt.system.lock import locked_path
from lpt.system.notices import notices_to
from lpt.system.outputs import check_absent
from lpt.system.owned import Input, first_inside, is_marked


class Results(NamedTuple):
    """The files of one kind of results.

    Args:
        kind: the kind in their marker.
        names: their names, the marker first.
        title: what they are, in words.
        option: the option that gives their folder, for messages.
    """

    kind: str
    names: tuple[str, ...]
    title: str
    option: str = "--output"


@contextmanager
def new_output(output: Path, console: Console) -> Iterator[None]:
    """Hold the lock of an output that must not be there yet, such as a pack; downloads are told on the console.

    Raises:
        RunError: it is there, or another command is writing it.
    """
    with locked_path(output, warner(console)), notices_to(teller(console)):
        check_absent(output)
        yield


def check_owned(output: Path, results: Results) -> bool:
    """Return whether a folder holds results of a kind.

    Raises:
        RunError: the folder is a file, or holds something under these names that LPT did not write.
    """
    if output.exists() and not output.is_dir():
        raise RunError(f"{results.option}: {output} is a file; give a folder")
    present = [output / name for name in results.names if os.path.lexists(output / name)]
    if not present:
        return False
    marked = is_marked(output / results.names[0], results.kind)
    foreign = [path for path in present if not marked or not (path.is_symlink() or path.is_file())]
    if foreign:
        why = f"is not that of {results.title} of this version of lpt" if foreign[0].name == results.names[0] else (
            f"was not written by lpt (there is no {results.names[0]} of {results.title} beside it)"
        )  # fmt: skip
        raise RunError(
            f"{results.option}: {foreign[0]} would be replaced, but {why}; give another folder, or remove it yourself"
        )
    return True


def check_inputs(output: Path, inputs: Mapping[str, Any], option: str = "--output") -> None:
    """Raise `RunError` if something that the command reads lies in the folder where it replaces files."""
    if precious := first_precious(output, inputs):
        raise RunError(
            f"{option}: {output} is not overwritten: {precious.what} lies in it ({precious.path}). Give another folder."
        )


def clear(output: Path, results: Results) -> None:
    """Remove earlier results except their marker, so that none is left over beside the new ones.

    Raises:
        RunError: a file cannot be removed.
    """
    _unlink([output / name for name in results.names[1:]])


def drop_links(output: Path, results: Results) -> None:
    """Remove links under the names of results, so that what they point to is not replaced.

    Raises:
        RunError: a file cannot be removed.
    """
    _unlink([path for name in results.names if (path := output / name).is_symlink()])


def write_together(output: Path, results: Results, files: Mapping[str, bytes]) -> None:
    """Write results by their names, all of them or none; what links under these names point to is not replaced.

    Raises:
        RunError: a file cannot be written; earlier results are untouched.
    """
    drop_links(output, results)
    marker_last = sorted(files, key=lambda name: name == results.names[0])
    with ExitStack() as renamed:  # all files are on the disk before one takes its name: the last first, the marker
        for name in marker_last:
            renamed.enter_context(atomic_path(output / name)).write_bytes(files[name])


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise RunError(f"cannot replace {path}: {error.strerror}; give another folder") from None


def first_precious(output: Path, inputs: Mapping[str, Any]) -> Input | None:
    """Return the first input, or place such as the current folder, that lies in a folder; None: there is none."""
    return first_inside(output, inputs_of(inputs, None))
