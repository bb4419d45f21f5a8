"""The common parts of lists and tables in text files: decoding, and faults by line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lpt.errors import DataError
from lpt.system.files import open_regular, read_regular
from lpt.system.text import plural

_SHOWN_FAULTS = 5


def read_text(path: Path) -> str:
    """Read a text file in UTF-8 (with or without byte-order mark) or in UTF-16 with one.

    Raises:
        DataError: the file cannot be read, is empty, or is in another encoding (the message names the line).
    """
    try:
        data = read_regular(path)
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None
    try:
        text = data.decode(_encoding(data[:2]))
    except UnicodeDecodeError as error:
        raise _undecodable(path, data.count(b"\n", 0, error.start) + 1, data[error.start]) from None
    if not text.strip():
        raise DataError(f"{path} is empty: it must list one image per line")
    return text


@contextmanager
def open_text(path: Path) -> Iterator[TextIO]:
    """Open a text file as `read_text` reads it, to go through it line by line; line ends stay as they are.

    Raises:
        DataError: the file cannot be read, or is in another encoding, also where the block reads on.
    """
    try:
        with open_regular(path) as file:
            encoding = _encoding(file.peek(2)[:2])
            with io.TextIOWrapper(file, encoding=encoding, newline="") as text:
                yield text
    except UnicodeDecodeError:
        raise _find_undecodable(path) from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from None


def _encoding(start: bytes) -> str:
    return "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"


def _undecodable(path: Path, line: int, byte: int) -> DataError:
    return DataError(
        f"{path} line {line}: byte 0x{byte:02x} is not UTF-8. Save the file as UTF-8, or convert "
        f"it: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
    )


def _find_undecodable(path: Path) -> DataError:
    """Return the error that names the first line that is not UTF-8."""
    with open_regular(path) as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                return _undecodable(path, number, line[error.start])
    return DataError(f"cannot read {path}: it is cut off in the middle of a character")


class Faults:
    """The faulty lines of a file, reported together.

    Args:
        path: the file.
        unit: what is numbered: its lines, or the entries of a JSON list.
    """

    def __init__(self, path: Path, unit: str = "line") -> None:
        self._path = path
        self._unit = unit
        self._lines: list[str] = []
        self._count = 0

    def add(self, line: int, text: str) -> None:
        """Note the fault of a line; lines count from 1."""
        self._count += 1
        if len(self._lines) < _SHOWN_FAULTS:
            self._lines.append(f"  {self._unit} {line}: {text}")

    def raise_any(self, advice: str) -> None:
        """Raise an error if there is any fault.

        Raises:
            DataError: with the number of faults, the first few by line, and `advice`.
        """
        if self._count:
            more = [f"  and {self._count - _SHOWN_FAULTS} more"] if self._count > _SHOWN_FAULTS else []
            lines = "\n".join(self._lines + more)
            raise DataError(f"{self._path}: {plural(self._count, f'faulty {self._unit}')}:\n{lines}\n{advice}")
