"""Measure packs that `lpt extend` made on the test images: the stage `extend` of `new_classes`.

The pictures are written to folders and `lpt.extend` reads them there, as a user's are. All test images are encoded
once; a pack's scores are then the product with its rows, which is checked against the pack itself.
"""

from __future__ import annotations

import csv
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import lpt
from benchmarks.accuracy.new_classes import NEW, OLD, new_pictures, only, open_cuts
from lpt.commands.extend.features import encode, make_encoder
from lpt.commands.extend.rows import unit
from lpt.data.manifest import Float32Array, FloatArray, IntArray, LabelledImages
from lpt.packs.pack import Pack, load_pack
from lpt.training.folder import RunFolder

KNOWN_PER_CLASS = 10
"""Validation images of each old class that `--known` gets: what a tenth of the training images would be, evenly."""
_CHECKED = 64
Row = dict[str, Any]


class Encoder:
    """A pack that encodes images once: the features are kept in files.

    Args:
        pack: the pack.
        folder: where the files are kept.
    """

    def __init__(self, pack: Pack, folder: Path) -> None:
        self._pack, self._folder = pack, folder
        folder.mkdir(parents=True, exist_ok=True)

    def features(self, name: str, images: LabelledImages) -> Float32Array:
        """Return the unit features of images by their name, [n, D]."""
        info = self._pack.info
        file = self._folder / f"{name}_{info.tensors_sha256[:8]}.npy"
        if not file.exists():
            model = self._pack.build(lpt.load_backbone(info.backbone.name))
            make_encoder(model)
            seen = encode(model, info, images, batch_size=64, what=name, progress=Console(stderr=True))
            np.save(file, seen.scores)
        features: Float32Array = np.load(file)
        return features


class Encoded:
    """The test images and the means of the old classes, as a pack sees them.

    Args:
        encoder: encodes with the pack of the old classes.
        seed: seed of the cut.
        source: the data set.
    """

    def __init__(self, encoder: Encoder, seed: int, source: str) -> None:
        cuts = open_cuts(seed, source)
        assert cuts.test is not None
        self.test, train = only(cuts.test, OLD + NEW), only(cuts.train, OLD)
        self.features = encoder.features("test", self.test)
        known = encoder.features("train", train)
        self.old_means = unit(np.stack([known[train.labels == label].mean(axis=0) for label in range(len(OLD))]))

    def accuracies(self, names: Sequence[str], scores: FloatArray) -> Row:
        """Return the accuracy on old, new and all classes in percent, of scores for classes by these names."""
        labels = np.array([self.test.class_names.index(name) for name in names])
        right = labels[scores.argmax(axis=1)] == self.test.labels
        return by_part([float(right[self.test.labels == label].mean()) for label in range(len(OLD + NEW))])


def measure_seed(
    seed: int, shots: Sequence[int], *, source: str, runs: Path, work: Path
) -> tuple[list[Row], list[str]]:
    """Return the rows of a seed, and the runs that are missing.

    Args:
        seed: seed of the cut and of the training.
        shots: numbers of pictures of each new class.
        source: the data set.
        runs: the folder of the runs of the stages `train` and `retrain`.
        work: folder for the encoded images.
    """
    run = runs / f"old_seed{seed}"
    if not RunFolder(run).finished:
        return [], [run.name]
    pack, missing = load_pack(run), []
    encoded = Encoded(Encoder(pack, work), seed, source)
    old_only = encoded.accuracies(pack.info.class_names, encoded.features @ unit(pack.tensors["head.weight"]).T)
    rows: list[Row] = [{"seed": seed, "shots": 0, "method": "old pack", **old_only}]
    for count in shots:
        rows += [{"seed": seed, "shots": count, **row} for row in _measure(pack, encoded, seed, count, source, work)]
        retrained = runs / f"all_{count}_seed{seed}"
        if RunFolder(retrained).finished:
            rows.append({"seed": seed, "shots": count, "method": "retrained", **_retrained(retrained)})
        else:
            missing.append(retrained.name)
    return rows, missing


def _measure(pack: Pack, encoded: Encoded, seed: int, count: int, source: str, work: Path) -> list[Row]:
    """Return the rows of packs that are extended by `count` pictures a class, and of class means."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(dir=work) as folder:
        new, known = Path(folder) / "new", Path(folder) / "known"
        _write_pictures(new, new_pictures(seed, count, source))
        validation = open_cuts(seed, source).validation
        assert validation is not None
        _write_pictures(known, _first(only(validation, OLD), KNOWN_PER_CLASS))
        for name, given in (("extended", None), ("extended with known", known)):
            start = time.perf_counter()
            made = lpt.extend(pack.path, new, Path(folder) / name.replace(" ", "_"), known=given, device="cpu")
            seconds = time.perf_counter() - start
            scores = _scores(made.pack, encoded.features)
            _check(made.pack, encoded.test, scores)
            facts: Row = {"factor": made.factor, "seconds": round(seconds, 2)}
            if (old := made.old_classes) is not None:
                facts["on_known"] = {"before": 100 * old.before.overall, "after": 100 * old.after.overall}
            rows.append({"method": name, **encoded.accuracies(made.pack.info.class_names, scores), **facts})
        names, weight = made.pack.info.class_names, unit(made.pack.tensors["head.weight"])
    for name, table in (
        ("not scaled", weight),
        ("class means", np.concatenate([encoded.old_means, weight[len(OLD) :]])),
    ):
        rows.append({"method": name, **encoded.accuracies(names, encoded.features @ table.T)})
    return rows


def _scores(pack: Pack, features: Float32Array) -> FloatArray:
    scores = np.asarray(features @ unit(pack.tensors["head.weight"]).T)
    scale = pack.tensors["head.scale"]
    scores[:, -len(scale) :] *= scale
    return scores


def _check(pack: Pack, images: LabelledImages, scores: FloatArray) -> None:
    """Check that the scores are those that the pack gives itself."""
    some = np.linspace(0, len(images) - 1, _CHECKED).astype(np.int64)
    given = lpt.load_predictor(pack, device="cpu").split(images.subset(some), batch_size=64).scores
    np.testing.assert_allclose(given, scores[some], atol=1e-4)


def _first(images: LabelledImages, count: int) -> LabelledImages:
    """Return the first images of each class."""
    labels: IntArray = images.labels
    return images.subset(np.concatenate([np.flatnonzero(labels == c)[:count] for c in range(len(images.class_names))]))


def _write_pictures(folder: Path, images: LabelledImages) -> None:
    """Write images without loss, a folder for each class."""
    for number, label in enumerate(images.labels.tolist()):
        place = folder / images.class_names[label]
        place.mkdir(parents=True, exist_ok=True)
        images.read(number).save(place / f"{number:05}.png")


def _retrained(run: Path) -> Row:
    """Return the accuracies of a run on all classes, the old ones first."""
    with (run / "per_class.csv").open(encoding="utf-8", newline="") as file:
        return by_part([float(row["accuracy"]) for row in csv.DictReader(file)])


def by_part(accuracies: Sequence[float]) -> Row:
    """Return the mean over the old classes, the new ones and all, in percent, of accuracies in that order."""
    values = 100 * np.asarray(accuracies)
    parts = {"old": values[: len(OLD)], "new": values[len(OLD) :], "all": values}
    return {name: round(float(part.mean()), 2) for name, part in parts.items()}
