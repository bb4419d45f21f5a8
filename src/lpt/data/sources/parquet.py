"""Read columns of a Parquet table a few rows at a time; PyArrow is imported on first use."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lpt.errors import DataError
from lpt.system.packages import explain_missing_packages

PARQUET = ".parquet"
_ROWS_AT_ONCE = 1024


class ParquetTable:
    """A Parquet file.

    Args:
        path: the file.

    Raises:
        ConfigError: PyArrow is not installed.
        DataError: the file cannot be read or is no Parquet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with explain_missing_packages("reading Parquet"):
            import pyarrow.parquet  # noqa: F401
        with self._opened() as file:
            self._schema = file.schema_arrow
        self.columns: list[str] = list(self._schema.names)

    def check_paths(self, column: str) -> None:
        """Check that a column can hold paths: text, or whole numbers, which are names without ending.

        Raises:
            DataError: it holds something else, such as the pictures themselves.
        """
        from pyarrow import types

        kind = self._schema.field(self.columns.index(column)).type
        kind = kind.value_type if types.is_dictionary(kind) else kind
        if not (types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)):
            raise DataError(
                f"{self.path}: the column {column!r} holds {kind}, not paths of images. Choose another with "
                "--image-column. Pictures that stand in the table itself must be saved to files; then list their paths."
            )

    def rows(self, columns: Sequence[str]) -> Iterator[list[Any]]:
        """Yield the values of these columns, row by row."""
        from pyarrow import ArrowException

        with self._opened() as file:
            try:
                for batch in file.iter_batches(_ROWS_AT_ONCE, columns=list(columns)):
                    yield from map(list, zip(*(column.to_pylist() for column in batch.columns), strict=True))
            except (ArrowException, OSError) as error:
                raise self._unreadable(error) from None

    def _opened(self) -> Any:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        try:
            return ParquetFile(self.path)
        except (ArrowException, OSError) as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> DataError:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        return DataError(f"cannot read {self.path} as Parquet: {reason}. Write it again, or give the list as CSV.")
