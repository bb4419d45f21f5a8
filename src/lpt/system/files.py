"""Write files so that a crash, a full disk or a kill never leaves half of one.

Every file is written under a temporary name in the same folder and flushed to the disk. Then it takes its own name in
one step.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

from lpt.errors import RunError

TEMP_SUFFIX = ".lpt-tmp"

_NEXT_STEP = {
    errno.ENOSPC: "Free some space on that disk, or choose a folder on another one.",
    errno.EDQUOT: "Your disk quota is used up: free some space, or choose a folder on another disk.",
    errno.EFBIG: "The file-size limit of this process is too low: raise it (ulimit -f unlimited).",
    errno.EACCES: "Choose a folder you may write to, or change the permissions of this one.",
    errno.EPERM: "Choose a folder you may write to, or change the permissions of this one.",
    errno.EROFS: "That file system is read-only: choose a folder on another one.",
    errno.ENAMETOOLONG: "Choose a shorter name.",
    errno.ENOTDIR: "A part of that path is a file, not a folder: choose another path.",
    errno.EEXIST: "A part of that path is a file, not a folder: choose another path.",
    errno.EISDIR: "There is a folder of that name: choose another path, or move it away.",
}


def open_regular(path: Path) -> BufferedReader:
    """Open a file for reading, through links too; a pipe, a socket or a device in its place is never opened.

    Raises:
        OSError: the file cannot be opened, or is not a regular one; `strerror` says which.
    """
    _check_regular(path, path.stat().st_mode)  # first: to open a device can have effects
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(os.open(path, flags), "rb")  # noqa: SIM115, PTH123
    try:
        _check_regular(path, os.fstat(file.fileno()).st_mode)
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: Path) -> bytes:
    """Read a file whole; it raises what `open_regular` raises."""
    with open_regular(path) as file:
        return file.read()


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder, not a file", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "it is a pipe, a socket or a device, not a regular file", str(path))


@contextlib.contextmanager
def atomic_path(path: Path, *, make_parents: bool = True) -> Iterator[Path]:
    """Give a temporary path to write to; it becomes `path` if the block ends well, and is removed if not.

    The block should only write: an `OSError` in it counts as a failure to write `path`. Missing parent folders are
    made, if `make_parents`. An existing file keeps its permissions. A link stays a link: its target is replaced. If
    `path` is no file, such as `/dev/stdout` or a pipe, the block writes to it directly.

    Raises:
        RunError: the file cannot be written; the message names it and says what to do. An existing file is untouched.
    """
    given = path = Path(path)
    temp: Path | None = None
    try:
        if given.exists() and not (given.is_file() or given.is_dir()):
            yield given
            return
        path = Path(os.path.realpath(given))
        if make_parents:
            path.parent.mkdir(parents=True, exist_ok=True)
        temp = _new_temp(path)
        yield temp
        _sync(temp)
        os.replace(temp, path)
    except OSError as error:
        raise RunError(_explain(given, error)) from error
    finally:
        if temp is not None:
            with contextlib.suppress(OSError):
                temp.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # sync the name too, where the file system can
        _sync(path.parent)


def write_bytes(path: Path, content: bytes, *, make_parents: bool = True) -> None:
    """Write a file whole, or not at all; arguments and errors as `atomic_path`."""
    with atomic_path(path, make_parents=make_parents) as temp:
        temp.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    r"""Write UTF-8 text whole, or not at all; bytes of a name that are not UTF-8 become `\udcXX`."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_json(path: Path, value: Any) -> None:
    """Write strict JSON, indented, whole or not at all. It takes numpy numbers, arrays and paths too.

    Raises:
        RunError: the file cannot be written.
        ValueError: a number is not finite, which JSON cannot hold.
        TypeError: JSON has no such kind of value.
    """
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False, default=_plain) + "\n")


def last_part(path: str | Path) -> str:
    """Return the name of a file or folder without its parents, also for `.`; nothing is opened."""
    return Path(os.path.normpath(Path(path).absolute())).name or str(path)


def remove_leftovers(folder: Path) -> int:
    """Remove the temporary files that killed writers left in a folder; return their number."""
    leftovers = list(Path(folder).glob(f".*{TEMP_SUFFIX}"))
    for leftover in leftovers:
        leftover.unlink(missing_ok=True)
    return len(leftovers)


def _new_temp(path: Path) -> Path:
    """Make an empty file beside `path`, with the permissions that `path` has or would get."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:32]}.", suffix=TEMP_SUFFIX)
    os.close(handle)
    temp = Path(name)
    try:
        mode = path.stat().st_mode & 0o777
    except OSError:
        umask = os.umask(0)
        os.umask(umask)
        mode = 0o666 & ~umask
    with contextlib.suppress(OSError):
        temp.chmod(mode)
    return temp


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)  # Windows syncs only files open for writing
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(path: Path, error: OSError) -> str:
    hint = _NEXT_STEP.get(error.errno or 0, "Check that the folder exists and can be written to.")
    return f"cannot write {path}: {error.strerror or error}. {hint}"


def _plain(value: Any) -> Any:
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if hasattr(value, "tolist"):  # numpy scalars and arrays, tensors
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
