"""Predictions as Parquet: a row group for each shard, with typed columns; PyArrow is imported on first use."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lpt.data.sources.parquet import PARQUET
from lpt.system.packages import explain_missing_packages

__all__ = ["PARQUET", "check_installed", "is_parquet_table", "write_parquet"]

_MARK = {b"lpt": b"predictions"}


def check_installed() -> None:
    """Raise `ConfigError` if PyArrow is not installed."""
    with explain_missing_packages("--output FILE.parquet"):
        import pyarrow.parquet  # noqa: F401


def is_parquet_table(file: Path) -> bool:
    """Return whether a file is a Parquet that `write_parquet` wrote."""
    from pyarrow import ArrowException
    from pyarrow.parquet import read_schema

    try:
        return (read_schema(file).metadata or {}).get(b"lpt") == _MARK[b"lpt"]
    except (ArrowException, OSError):
        return False


def write_parquet(file: Path, shards: Iterable[Iterable[bytes]], top_k: int) -> None:
    """Write the rows of shards, one shard at a time.

    Columns: image, class_1, probability_1, ..., groups, and the other fields of the rows, with the types that they
    have in the first row.

    Args:
        file: the file to write.
        shards: JSON lines of each shard.
        top_k: number of classes of a row.

    Raises:
        OSError: it cannot be written.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    writer: Any = None
    try:
        for lines in shards:
            rows = [_flat(json.loads(line)) for line in lines]
            if not rows:
                continue
            writer = writer or ParquetWriter(file, _schema(rows[0], top_k))
            writer.write_table(pa.Table.from_pylist(rows, writer.schema))
    finally:
        if writer is not None:
            writer.close()


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row with a column for each class and probability in place of the list of them."""
    name = row.pop("image").encode("utf-8", "backslashreplace").decode()  # a name may be no valid Unicode
    columns = {"image": name}
    for rank, pair in enumerate(row.pop("classes"), start=1):
        columns |= {f"class_{rank}": pair["class"], f"probability_{rank}": pair["probability"]}
    return columns | row


def _schema(first: dict[str, Any], top_k: int) -> Any:
    """Return the types of the columns, by name, and of fields beside them by the first row."""
    import pyarrow as pa

    fields = [("image", pa.string())]
    for rank in range(1, top_k + 1):
        fields += [(f"class_{rank}", pa.string()), (f"probability_{rank}", pa.float64())]
    fields.append(("groups", pa.list_(pa.int32())))
    kinds = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}
    known = {name for name, _ in fields}
    fields += [(name, kinds[type(value)]) for name, value in first.items() if name not in known]
    return pa.schema(fields, metadata=_MARK)
