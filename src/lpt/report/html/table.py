"""The table of all classes as compressed JSON, which the page unpacks, sorts and searches."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from lpt.config.bounds import escaped
from lpt.data.manifest import FloatArray
from lpt.report.html.content import Classes, Probe


def packed_table(classes: Classes, probe: Probe | None) -> str:
    """Return the columns of the table as JSON, compressed with zlib and written in base64.

    A column has a `name`, a `kind` and the `values` of all classes in label order. Kinds are `text`, `group`, `count`,
    `percent`, `points` (a difference of two percents), and `class` (the index of a class). A missing value is null.
    """
    text = json.dumps({"columns": _columns(classes, probe)}, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode("ascii")


def _columns(classes: Classes, probe: Probe | None) -> list[dict[str, Any]]:
    names = [*classes.groups.names, "none"]
    groups = np.where(classes.counts > 0, classes.groups.of(classes.counts), 3)
    columns = [
        _column("class", "text", [escaped(name) for name in classes.names]),
        _column("training images", "count", classes.counts.tolist()),
        _column("group", "group", [names[group] for group in groups]),
    ]
    if classes.tested is not None and classes.accuracy is not None:
        columns += [
            _column("measured images", "count", classes.tested.tolist()),
            _column("accuracy", "percent", _percents(classes.accuracy)),
        ]
    if probe is not None:
        columns += [
            _column("linear probe", "percent", _percents(probe.accuracy)),
            _column("gain", "points", _percents(probe.gain)),
        ]
    if classes.confused_with is not None and classes.confused_images is not None:
        others = [None if c < 0 else c for c in classes.confused_with.tolist()]
        columns += [
            _column("most confused with", "class", others),
            _column("times", "count", [count or None for count in classes.confused_images.tolist()]),
        ]
    return columns


def _column(name: str, kind: str, values: Sequence[Any]) -> dict[str, Any]:
    return {"name": name, "kind": kind, "values": values}


def _percents(fractions: FloatArray) -> list[float | None]:
    return [None if np.isnan(value) else round(100 * float(value), 1) for value in fractions]
