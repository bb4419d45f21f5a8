"""`benchmarks.cluster` at tiny sizes: its files have what the tables of the documents read. No rate is judged."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path

import pytest
from benchmarks.cluster import __main__ as cluster
from benchmarks.cluster import predict
from benchmarks.documents import performance_tables, scaling_tables

from ray_cluster import RayCluster


def test_predict_makes_its_table(ray_cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that sleeps; both numbers of nodes are those of the tests' cluster."""
    monkeypatch.setattr(predict, "cluster", lambda nodes: nullcontext())
    monkeypatch.setattr(performance_tables, "RESULTS", tmp_path)
    output = tmp_path / "cluster_predict.json"
    cluster.main(["predict", "--images", "24", "--sleep", "20", "--shard", "4", "--output", str(output)])
    record = json.loads(output.read_text(encoding="utf-8"))
    assert record["settings"] == {"images": 24, "sleep_ms": 20, "shard": 4}
    assert record["sleep"]["two nodes of one node's rate"] > 0
    heading, _, row, _, sentence, _, source = scaling_tables.TABLES["cluster_predict"]().splitlines()
    assert heading == "| work | one process | 1 node | 2 nodes |"
    assert re.fullmatch(r"\| sleep \|( \d+\.\d s \|){3}", row)
    assert sentence.endswith("; the same bytes.")
    assert "benchmarks.cluster predict --images 24" in source


def test_lists_of_every_form_are_cut(tmp_path: Path) -> None:
    output = tmp_path / "lists.json"
    cluster.main(["lists", "--rows", "1025", "--output", str(output)])
    record = json.loads(output.read_text(encoding="utf-8"))
    assert {"what", "command", "date", "hardware", "versions"} <= record.keys()
    assert record["results"].keys() == {"csv", "jsonl", "parquet", "txt"}
    for form in record["results"].values():
        assert form.keys() == {"1025"}
        assert (form["1025"]["images"], form["1025"]["shards"]) == (1025, 2)
        assert form["1025"]["mib"] > 1
        assert form["1025"]["seconds"] >= 0
