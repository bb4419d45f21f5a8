"""The common parts of lists and tables in text files: decoding, and faults by line."""

from __future__ import annotations

from pathlib import Path

from lpt.errors import DataError
from lpt.system.files import read_regular
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
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} line {line}: byte 0x{data[error.start]:02x} is not UTF-8. Save the file as UTF-8, or convert "
            f"it: iconv -f LATIN1 -t UTF-8 {path.name} > utf8-{path.name}"
        ) from None
    if not text.strip():
        raise DataError(f"{path} is empty: it must list one image per line")
    return text


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
