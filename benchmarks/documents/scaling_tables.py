"""Make the tables of docs/how-to/scaling.md from the committed result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

import json
from collections.abc import Callable

from benchmarks.documents.performance_tables import MISSING, RESULTS, Result, from_file, raw_link, rows_of

MILLION = 1_000_000


def million() -> str:
    """Return the machine hours of a million images, estimated from measured rates."""
    rates = []
    for name, title in (("speed_vit_tiny_224", "ViT-Ti/16"), ("speed_vit_base_224", "ViT-B/16")):
        result = _read(name)
        if result is None:
            return MISSING
        rates += [
            (f"{title} at 224, {row['precision']}", "the network alone", row["images_per_second"], name)
            for row in result["rows"]
            if (row["form"], row["case"]) == ("lpt", "inference")
        ]
    load = _read("serving_load")
    if load is not None:
        rate = load["clients"][-1]["predictor_images_per_s"]
        rates.insert(1, ("ViT-Ti/16 at 224, float32", "with decoding of JPEGs of 500x375", rate, "serving_load"))
    cells = [
        [title, what, f"{rate:.1f}", _hours(MILLION / rate / 3600), raw_link(f"{name}.json")]
        for title, what, rate, name in rates
    ]
    heading = ["backbone", "what", "images/s on this machine", "machine hours for a million", "raw"]
    return "\n".join(rows_of(heading, cells))


def served(result: Result) -> list[str]:
    """Return rates and times of replicas and of the server alone, then the answers while a replica was killed."""
    cells = [
        [row["server"], row["clients"], f"{row['images_per_s']:.1f}", f"{row['p50_s']:.3f} s", f"{row['p99_s']:.3f} s"]
        for row in result["turns"]
    ]
    killed, starts = result["killed"], result["start_seconds"]
    statuses = ", ".join(f"{count:,} of status {status}" for status, count in killed["answers_by_status"].items())
    return [
        *rows_of(["server", "clients", "images/s", "median", "p99"], cells),
        "",
        f"A replica killed under load: {statuses}; the longest answer took {killed['longest_s']:.1f} s. The server was "
        f"up after {starts['alone']:.0f} s alone, after {starts['replicated']:.0f} s on Ray.",
    ]


def predicted(result: Result) -> list[str]:
    """Return the seconds of a prediction in one process, on one node and on two, for each kind of work."""
    works = {name: result[name] for name in ("sleep", "classify") if name in result}
    columns = ("one process", "1 node", "2 nodes")
    cells = [[name, *(f"{work[column]:.1f} s" for column in columns)] for name, work in works.items()]
    lines = rows_of(["work", *columns], cells)
    for name, work in works.items():
        rates = work["one node of one process's rate"], work["two nodes of one node's rate"]
        same = "the same" if work["same bytes"] else "other"
        lines += [
            "",
            f"{name}: one node has {rates[0]:.2f} of one process's rate, two {rates[1]:.2f} of one's; {same} bytes.",
        ]
    return lines


def compared(result: Result) -> list[str]:
    """Return the seconds of a comparison in one process, on one node and on two."""
    cells = [[form, f"{seconds:.0f} s"] for form, seconds in result["seconds"].items()]
    same = "every pack is the same to the byte" if result["same_packs"] else "packs differ"
    return [
        *rows_of(["where", f"{result['cells']} cells"], cells),
        "",
        f"Two nodes are {result['two_nodes_against_one']:.2f} times as fast as one; {same}.",
    ]


def cut_lists(result: Result) -> list[str]:
    """Return the seconds and the memory of cutting lists of ten thousand and of ten million images into shards."""
    sizes = sorted({int(size) for sizes in result["results"].values() for size in sizes})
    head = ["list"] + [f"{size:,} images" for size in sizes]
    cells = [
        [kind] + [f"{sizes_of[str(size)]['seconds']:.3g} s, {sizes_of[str(size)]['mib']:.0f} MiB" for size in sizes]
        for kind, sizes_of in result["results"].items()
    ]
    return rows_of(head, cells)


def _hours(hours: float) -> str:
    return f"{hours:.1f}" if hours < 100 else f"{hours:.0f}"


def _read(name: str) -> Result | None:
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return None
    result: Result = json.loads(path.read_text(encoding="utf-8"))
    return result


TABLES: dict[str, Callable[[], str]] = {
    "million": million,
    "cluster_serve": from_file("cluster_serve", served),
    "cluster_predict": from_file("cluster_predict", predicted),
    "cluster_compare": from_file("cluster_compare", compared),
    "lists": from_file("lists", cut_lists),
}
