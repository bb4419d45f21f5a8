"""Make the tables of docs/how-to/extend.md from the committed result files, for `benchmarks.documents.tables`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.documents.performance_tables import Result, from_file, rows_of, spread

PARTS = ("old", "new", "all")
METHODS = {
    "not scaled": "mean rows, not scaled",
    "class means": "nearest class mean, all classes",
    "extended": "`lpt extend`",
    "extended with known": "`lpt extend --known`",
    "retrained": "trained again with all",
}


def new_classes(result: Result) -> list[str]:
    """Return the accuracy on old, new and all classes by number of pictures and method: mean over the seeds."""
    rows = result["rows"]
    before = [row["old"] for row in rows if row["method"] == "old pack"]
    cells = []
    for shots in sorted({row["shots"] for row in rows} - {0}):
        for method, title in METHODS.items():
            if some := [row for row in rows if row["shots"] == shots and row["method"] == method]:
                cells.append([shots, title, *(spread(row[part] for row in some) for part in PARTS), len(some)])
    known = [row for row in rows if row["method"] == "extended"]
    return [
        *rows_of(["pictures a class", "how", *(f"{part} classes" for part in PARTS), "seeds"], cells),
        "",
        f"Accuracy in percent on the test images of {result['old_classes']} old and {result['new_classes']} new "
        "classes of CIFAR-100-LT (IF 100, development cut), ViT-Ti/16 at "
        f"{result['size']}x{result['size']}; mean and deviation over the seeds. The old pack alone: {spread(before)} "
        f"on the old classes. `--known` gets {result['known_per_class']} validation images of each old class. "
        f"`lpt extend` took {_seconds([row['seconds'] for row in known])} without `--known`, on cores shared with "
        "trainings." + (f" Not there yet: {', '.join(result['missing'])}." if result["missing"] else ""),
    ]


def rows(result: Result) -> list[str]:
    """Return accuracy and share of the new classes for kinds of rows and scales, on held-out training images."""
    table = result["rows"]
    kinds = list(dict.fromkeys(row["kind"] for row in table))
    shots = sorted({row["shots"] for row in table})
    cells = []
    for kind in kinds:
        cells.append([kind])
        for count in shots:
            some = [row for row in table if row["kind"] == kind and row["shots"] == count]
            cells[-1].append(" / ".join(f"{sum(row[part] for row in some) / len(some):.1f}" for part in PARTS))
    seeds = sorted({row["seed"] for row in table})
    return [
        *rows_of(["row and scale", *(f"{count} a class" for count in shots)], cells),
        "",
        f"Old / new / all classes, percent of held-out training images, mean over seeds {', '.join(map(str, seeds))}. "
        "All but the last are set so that the new classes get their share of these images; the rule sees none of them.",
    ]


def _seconds(values: Sequence[float]) -> str:
    return f"{min(values):.0f} to {max(values):.0f} s"


TABLES: dict[str, Callable[[], str]] = {
    "new_classes": from_file("new_classes", new_classes),
    "extension_rows": from_file("extension_rows", rows),
}
