"""Long lists are never in memory whole, and Parquet in and out holds what CSV and JSON lines do."""

from __future__ import annotations

import builtins
import csv
import json
import shutil
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from lpt.commands.predict.inputs import find_images
from lpt.commands.predict.listing import count_images, cut_shards
from lpt.commands.predict.predict import predict_files
from lpt.commands.predict.request import PredictRequest
from lpt.errors import ConfigError, DataError, RunError


def write_list(file: Path, count: int) -> None:
    names = (f"folder/{number:08d}.jpg" for number in range(count))
    if file.suffix == ".parquet":
        table = {"photo": list(names), "width": list(range(count))}
        pq.write_table(pa.table(table), file, row_group_size=1000)
    elif file.suffix == ".jsonl":
        file.write_text("".join(json.dumps({"image": name, "width": 1}) + "\n" for name in names))
    else:
        file.write_text("image,width\n" * (file.suffix == ".csv") + "".join(f"{name},1\n" for name in names))
        if file.suffix == ".txt":
            file.write_text(file.read_text().replace(",1", " 1"))


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet", "txt"])
def test_memory_does_not_grow_with_the_list(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three times the images take no more memory than the index of their shards."""
    monkeypatch.setattr(sys, "intern", str)  # its table grows at times, and is not the list
    peaks = []
    for count in (1500, 4500):
        file = tmp_path / f"{count}.{ending}"
        write_list(file, count)
        for measured in (False, True):
            if measured:
                tracemalloc.start()
            shards = cut_shards(find_images([file], [], skip_bad=True), 500, tmp_path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert count_images(shards) == count
        assert shards[-1].paths[-1] == tmp_path / f"folder/{count - 1:08d}.jpg"
    assert peaks[1] < peaks[0] + 100_000, peaks


def test_parquet_in_and_out(fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """Typed columns with the values of the JSON lines; only a table of lpt is replaced."""
    new = Path(shutil.copytree(photo_folder / "train", tmp_path / "new"))
    images = sorted(new.rglob("*.jpg"))
    names = [str(path.relative_to(new)) for path in images]
    pq.write_table(pa.table({"other": names[::-1], "photo": names}), tmp_path / "list.parquet")

    def run(output: Path) -> None:
        values: dict[str, Any] = {"top_k": 2, "device": "cpu", "batch_size": 2, "shard_size": 4}
        values |= {"checkpoint": tiny_backbone, "image_root": new, "image_column": "photo"}
        request = PredictRequest(fitted_run / "pack", (tmp_path / "list.parquet",), output, **values)
        predict_files(request, progress=Console(quiet=True))

    for ending in ("csv", "jsonl", "parquet", "parquet"):
        run(tmp_path / f"out.{ending}")
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column("image").to_pylist() == [str(path) for path in images]
    assert [str(kind) for kind in table.schema.types] == ["string", *["string", "double"] * 2, "list<element: int32>"]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert table.column("groups").to_pylist() == [line["groups"] for line in lines]
    rows = list(csv.DictReader((tmp_path / "out.csv").open()))
    for row, line, typed in zip(rows, lines, table.to_pylist(), strict=True):
        assert row["class_2"] == line["classes"][1]["class"] == typed["class_2"]
        assert float(row["probability_1"]) == line["classes"][0]["probability"] == typed["probability_1"]
    before = (tmp_path / "list.parquet").read_bytes()
    with pytest.raises(RunError, match="not a table that lpt predict wrote"):
        run(tmp_path / "list.parquet")
    assert (tmp_path / "list.parquet").read_bytes() == before


def test_pictures_inside_a_parquet_are_no_paths(tmp_path: Path) -> None:
    """Data sets of Hugging Face look like this; the message does not print the pictures."""
    file = tmp_path / "pictures.parquet"
    pq.write_table(pa.table({"image": [{"bytes": b"secret" * 1000, "path": "a.jpg"}], "label": [1]}), file)
    with pytest.raises(DataError, match=r"'image' holds struct<bytes: binary, path: string>, not paths") as error:
        list(find_images([file], []))
    assert "secret" not in str(error.value)
    pq.write_table(pa.table({"image": pa.array(["b.jpg", "a.jpg"]).dictionary_encode()}), file)
    assert list(find_images([file], [], skip_bad=True)) == [tmp_path / "b.jpg", tmp_path / "a.jpg"]


def test_without_pyarrow_parquet_is_refused_plainly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"cannot read .*a\.parquet as Parquet"):
        list(find_images([tmp_path / "a.parquet"], []))
    real = builtins.__import__

    def without(name: str, *rest: Any, **named: Any) -> Any:
        if name.partition(".")[0] == "pyarrow":
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return real(name, *rest, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    for given, output in ((tmp_path / "a.parquet", None), (tmp_path, tmp_path / "b.parquet")):
        with pytest.raises(ConfigError, match=r"needs PyArrow.*parquet"):
            list(find_images([given], [])) if output is None else predict_files(
                PredictRequest(tmp_path, (given,), output), progress=Console(quiet=True)
            )
