"""Memory and seconds of cutting a long list of images into shards: `python -m benchmarks.cluster lists`.

Each form is cut in a process of its own. The images need not exist.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from benchmarks.record import describe_machine, describe_run
from lpt.system.files import write_json

FORMS = ("csv", "jsonl", "parquet", "txt")


def main(argv: Sequence[str]) -> None:
    """Measure, and write the record."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cluster lists", description=__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 10_000_000], help="lengths of the lists")
    parser.add_argument(
        "--forms", nargs="+", choices=FORMS, default=list(FORMS), help="those of others stay as they are"
    )
    parser.add_argument("--output", type=Path, default=Path("docs/results/lists.json"))
    parser.add_argument("--cut", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.cut is not None:
        print(json.dumps(cut(args.cut)))
        return
    kept = json.loads(args.output.read_text())["results"] if args.output.exists() else {}
    results: dict[str, dict[str, object]] = {**kept, **{form: {} for form in args.forms}}
    with tempfile.TemporaryDirectory(prefix="lpt-lists-") as folder:
        for form in args.forms:
            for rows in args.rows:
                file = Path(folder) / f"list.{form}"
                write_list(file, rows)
                command = [sys.executable, "-m", "benchmarks.cluster", "lists", "--cut", str(file)]
                results[form][str(rows)] = json.loads(subprocess.check_output(command))
                file.unlink()
    record = {
        **describe_run(
            "cutting lists of images into shards: seconds, and the most memory of the process in MiB",
            "benchmarks.cluster",
            ["lists"],
        ),
        **describe_machine("cpu"),
        "results": results,
    }
    write_json(args.output, record)
    print(json.dumps(results, indent=1))


def cut(file: Path) -> dict[str, float]:
    """Cut a list in this process."""
    from lpt.commands.predict.inputs import find_images
    from lpt.commands.predict.listing import count_images, cut_shards
    from lpt.commands.predict.shards import SHARD_SIZE

    start = time.perf_counter()
    shards = cut_shards(find_images([file], [], skip_bad=True), SHARD_SIZE, file.parent)  # its images exist nowhere
    seconds = time.perf_counter() - start
    status = Path("/proc/self/status").read_text(encoding="ascii")  # `getrusage` would count the parent before exec
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) / 1024
    return {"images": count_images(shards), "shards": len(shards), "seconds": round(seconds, 1), "mib": round(peak, 1)}


def write_list(file: Path, rows: int) -> None:
    """Write a list of so many paths."""
    names = (f"/archive/{number // 1000:06d}/{number:09d}.jpg" for number in range(rows))
    if file.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = pa.schema([("image", pa.string())])
        with pq.ParquetWriter(file, schema) as writer:
            while batch := list(islice(names, 100_000)):
                writer.write_table(pa.table({"image": batch}, schema))
        return
    with file.open("w", encoding="utf-8") as stream:
        if file.suffix == ".csv":
            stream.write("image\n")
        for name in names:
            stream.write(json.dumps({"image": name}) + "\n" if file.suffix == ".jsonl" else f"{name}\n")
