"""Accuracy under domain shift: what is measured, matched, kept and shown."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from typer.testing import CliRunner, Result

from lpt.cli.app import app
from lpt.commands.evaluate.passes import Passes
from lpt.commands.evaluate.shift import parse_shift
from lpt.data.images import ArrayImages
from lpt.data.longtail import ShotGroups, stratified_subset
from lpt.data.manifest import LabelledImages
from lpt.errors import ConfigError, DataError
from lpt.evaluation.corruptions import CORRUPTIONS
from lpt.evaluation.metrics import Metrics, measure
from lpt.evaluation.shift import (
    DataShift,
    evaluate_data_shift,
    evaluate_shift,
    match_classes,
    pair_sets,
    pass_names,
    relative_drop,
)
from lpt.report import shift_plot
from lpt.report.shift import matching_notes
from lpt.report.shift_plot import plot_shift

COUNTS = (200, 50, 5)
NAMES = ("dark", "grey", "light")


def run(*arguments: object) -> Result:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)
    return result


def fails(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 2, (result.output, result.exception)
    return result.output


def images(labels: list[int], names: tuple[str, ...] = NAMES) -> LabelledImages:
    """Each class a grey of its own."""
    of = np.array(labels, dtype=np.int64)
    array = np.repeat(np.repeat((40 + 80 * of)[:, None, None], 12, axis=1), 10, axis=2).astype(np.uint8)
    return LabelledImages(ArrayImages(array), np.arange(len(of)), of, names)


class ByBrightness:
    """A model that knows the greys of `images`; keeps what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, name: str, seen: LabelledImages) -> Metrics:
        self.asked.append((name, len(seen)))
        means = [np.asarray(seen.read(index)).mean() for index in range(len(seen))]
        predicted = np.clip(np.round((np.array(means) - 40) / 80), 0, 2).astype(np.int64)
        return measure(seen.labels, predicted, COUNTS, ShotGroups())


# --- corruptions


def test_every_kind_and_severity_is_measured_on_the_subset() -> None:
    model, subset = ByBrightness(), np.array([0, 1, 4, 5])
    result = evaluate_shift(
        model, images([0, 0, 0, 1, 1, 2]), kinds=["fog", "brightness"], severities=[1, 5], subset=subset
    )
    assert model.asked == [(name, 4) for name in pass_names(["fog", "brightness"], [1, 5])]
    assert (result.kinds, result.severities) == (("fog", "brightness"), (1, 5))
    assert result.clean.overall == 1
    by_name = {(cell.kind, cell.severity): cell.metrics for cell in result.cells}
    assert by_name["brightness", 5].many == 0  # dark images look grey
    assert by_name["brightness", 5].few == 1
    assert result.mean("many", kind="brightness") == (by_name["brightness", 1].many or 0) / 2
    assert result.mean("overall", severity=5) == np.mean([by_name[kind, 5].overall for kind in result.kinds])
    assert result.mean("overall") == np.mean([metrics.overall for metrics in by_name.values()])
    assert result.drop("few", kind="brightness") == 0
    values = result.to_dict()
    assert values["by_kind"]["fog"]["family"] == "weather"
    assert values["by_severity"]["5"]["relative_drop"]["overall"] == pytest.approx(
        1 - (result.mean("overall", severity=5) or 0)
    )
    assert len(json.loads(json.dumps(values))["cells"]) == 4


def test_corruptions_belong_to_the_position_in_the_whole_split() -> None:
    """An image in a subset is corrupted as in the whole."""
    read: list[dict[int, bytes]] = []

    def look(name: str, seen: LabelledImages) -> Metrics:
        if name != "clean":
            read.append({int(seen.rows[i]): seen.read(i).tobytes() for i in range(len(seen))})
        return measure(seen.labels, seen.labels, COUNTS, ShotGroups())

    split = images([0, 0, 1, 1, 2, 2])
    for subset in (None, np.array([1, 5])):
        evaluate_shift(look, split, kinds=["gaussian_noise"], severities=[2], subset=subset)
    assert sorted(read[1]) == [1, 5]
    assert all(read[0][row] == pixels for row, pixels in read[1].items())
    assert len(set(read[0].values())) == 6


def test_relative_drop() -> None:
    assert relative_drop(0.8, 0.6) == pytest.approx(0.25)
    assert relative_drop(0.0, 0.5) is None
    assert relative_drop(None, 0.5) is None
    assert relative_drop(0.5, None) is None


# --- the subset


def test_stratified_subset() -> None:
    labels = np.repeat([0, 1, 2, 4], [600, 300, 98, 2])
    chosen = stratified_subset(labels, 100, 0)
    assert len(set(chosen.tolist())) == len(chosen) == 100
    assert (np.diff(chosen) > 0).all()
    counts = np.bincount(labels[chosen])
    np.testing.assert_allclose(counts, [59, 30, 10, 0, 1], atol=1)
    assert (chosen == stratified_subset(labels, 100, 0)).all()
    assert (chosen != stratified_subset(labels, 100, 1)).any()
    for size in (1, 3, 4, 5, 999):
        few = stratified_subset(labels, size, 0)
        assert len(few) == size
        assert len(set(labels[few].tolist())) >= min(size, 4) - (size < 4)
    for everything in (0, 1000, 5000):
        assert (stratified_subset(labels, everything, 0) == np.arange(1000)).all()
    with pytest.raises(ConfigError, match="-1"):
        stratified_subset(labels, -1, 0)


# --- another set


def test_classes_are_matched_by_name() -> None:
    ours = ("sea lion", "Cat", "cat", "dog", "a_b", "ab")
    other = images([0, 1, 2, 3, 4, 5], ("Sea_Lion", "cat", "DOG", "CAT", "A-B", "fox"))
    matching = match_classes(other, ours)
    assert matching.target.tolist() == [0, 2, 3, -1, -1, -1]  # CAT and A-B could be two classes each
    assert matching.left_out == ("CAT", "A-B", "fox")
    assert matching.by_spelling == (("Sea_Lion", "sea lion"), ("DOG", "dog"))
    assert matching.absent == ("Cat", "a_b", "ab")


@pytest.mark.parametrize(
    ("theirs", "ours", "same"),
    [
        ("cafe\u0301", "caf\xe9", "exactly"),
        ("CAFE\u0301", "caf\xe9", "spelled"),
        ("F-16", "f16", "spelled"),
        ("1_2", "1-2", "spelled"),
        ("1-2", "12", None),
        ("-1", "1", None),
        ("at_-1", "at 1", None),
    ],
)
def test_names_are_the_same_but_for_their_writing(theirs: str, ours: str, same: str | None) -> None:
    """What would make another number of them is kept."""
    matching = match_classes(images([0], (theirs,)), (ours,))
    assert matching.target.tolist() == [-1 if same is None else 0]
    assert matching.by_spelling == (((theirs, ours),) if same == "spelled" else ())


def test_a_class_without_images_is_not_left_out() -> None:
    matching = match_classes(images([0], ("dark", "never")), NAMES)
    assert matching.left_out == ()
    assert matching.absent == ("grey", "light")


def test_another_set_is_compared_on_the_same_classes() -> None:
    model = ByBrightness()
    other = images([0, 1, 2, 2], ("Dark", "light", "fox"))  # what is light here has the grey of `grey`
    result = evaluate_data_shift(model, pair_sets(images([0, 0, 1, 2]), other, NAMES, "sketches"))
    assert sorted(model.asked) == [("sketches/clean", 3), ("sketches/shifted", 2)]
    assert result.clean is not None
    assert (result.clean.overall, result.clean.medium) == (1, None)
    assert [result.drop(name) for name in ("overall", "many", "medium", "few")] == [0.5, 0, None, 1]
    assert result.matching.left_out_images == 2
    assert result.to_dict()["classes_without_images"] == ["grey"]
    for nothing in (None, images([1])):
        alone = evaluate_data_shift(model, pair_sets(nothing, other, NAMES, "sketches"))
        assert (alone.clean, alone.shifted.images, alone.matching.uncompared) == (None, 2, ())
        assert alone.drop("overall") is None
    with pytest.raises(DataError, match=r"none of its classes is one of the pack's 3. It has: fox. The pack has: dark"):
        pair_sets(None, images([0], ("fox",)), NAMES, "sketches")


def test_classes_that_data_lacks_are_not_compared() -> None:
    """Both accuracies are of the same classes, and what was left out is told."""
    other = images([0, 1, 1, 2], ("dark", "grey", "Light"))
    result = evaluate_data_shift(ByBrightness(), pair_sets(images([0, 0, 1]), other, NAMES, "sketches"))
    assert result.clean is not None
    assert result.clean.group_classes == result.shifted.group_classes == (1, 1, 0)
    assert (result.shifted.images, result.shifted.few) == (3, None)
    values = result.to_dict()
    assert (values["uncompared_images"], values["uncompared_classes"]) == (1, ["Light"])
    assert (values["left_out_classes"], values["classes_without_images"]) == ([], [])
    assert matching_notes(result)[-1] == "Left out: 1 image of 1 class that DATA has no image of: Light."


def test_a_subset_is_of_the_classes_that_are_compared() -> None:
    """Drawn after the matching: no class is missed that is there, and unknown ones take no place in it."""
    other = images([0] * 3 + [1] + [2] * 40, ("dark", "light", "fox"))
    pair = pair_sets(images([0] * 20 + [1] * 20 + [2]), other, NAMES, "sketches", size=3)
    assert pair.clean is not None
    assert pair.shifted.class_counts.tolist() == pair.clean.class_counts.tolist() == [2, 0, 1]
    assert (pair.matching.left_out_images, pair.matching.absent) == (40, ("grey",))
    with pytest.raises(ConfigError, match="shift_images 1 is below the 2 classes that both sets have"):
        pair_sets(images([0, 0, 2, 2]), other, NAMES, "sketches", size=1)


# --- the plot


def test_plots_of_little_and_much(tmp_path: Path) -> None:
    model = ByBrightness()
    split = images([0, 1, 2])
    whole = evaluate_shift(model, split)
    item = evaluate_shift(model, images([0]), kinds=["jpeg"], severities=[3])
    data = evaluate_data_shift(model, pair_sets(None, split, NAMES, "a $x$ [set]"))
    for name, parts in (("a", (whole, [data])), ("b", (item, [])), ("c", (None, [data]))):
        plot_shift(tmp_path / f"{name}.png", *parts)
        assert Image.open(tmp_path / f"{name}.png").width > 1000


def test_a_measure_that_one_set_has_not_is_not_drawn() -> None:
    clean, shifted = (ByBrightness()("", images(labels)) for labels in ([0, 1], [0, 2]))
    axes = Figure().subplots()
    shift_plot._draw_data(axes, DataShift("sketches", shifted, clean, match_classes(images([0]), NAMES)))
    assert [label.get_text().split("\n")[0] for label in axes.get_xticklabels()] == [
        "overall",
        "mean per class",
        "many",
    ]
    assert len(axes.patches) == 6


# --- the request


def test_request() -> None:
    both = parse_shift(
        ["corruptions:fog,jpeg", "a/b", "hf:x:img:label", "corruptions:noise"], severities=["1 3", "5,3"]
    )
    assert both.kinds is not None
    assert set(both.kinds) == {"fog", "jpeg", *(kind for kind, item in CORRUPTIONS.items() if item.family == "noise")}
    assert both.sources == ("a/b", "hf:x:img:label")
    assert both.severities == (1, 3, 5)
    assert parse_shift(["corruptions:fog", "Corruptions"]).kinds == tuple(CORRUPTIONS)
    assert parse_shift(["./corruptions"]).kinds is None
    assert parse_shift(["corruptions"], seed=1).seed == parse_shift(["a"], images=9, seed=1).seed == 1


def test_wrong_requests_say_what_to_write(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    base = ["evaluate", "--checkpoint", tiny_backbone, fitted_run, photo_folder]
    assert "'frog' is not known. Kinds: gaussian_noise" in fails(*base, "--shift", "corruptions:frog")
    assert "got 6" in fails(*base, "--shift", "corruptions", "--severities", "1,6")
    assert "'high'" in fails(*base, "--shift", "corruptions", "--severities", "high")
    for unused in ("--severities", "--shift-images", "--shift-seed"):
        assert "add --shift" in fails(*base, unused, 1)
    assert "--severities are those of corruptions" in fails(*base, "--shift", photo_folder, "--severities", 1)
    for every in ((), ("--shift-images", 0)):
        assert "--shift-seed chooses images" in fails(*base, "--shift", photo_folder, "--shift-seed", 0, *every)
    assert "there is no file or folder" in fails(*base, "--shift", tmp_path / "nowhere")
    strange = tmp_path / "strange" / "fox"
    strange.mkdir(parents=True)
    Image.new("RGB", (8, 8)).save(strange / "1.png")
    assert "It has: fox. The pack has: dark, grey, light." in fails(*base, "--shift", strange.parent)
    (strange / "1.png").write_bytes(b"broken")
    strange.rename(strange.parent / "dark")
    assert "1.png: cannot be read as an image" in fails(*base, "--shift", strange.parent)


# --- the whole command


def test_evaluate_shift(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Corruptions and another set in one go; a second time, and with more kinds, only what is new is measured."""
    sketches = Path(shutil.copytree(photo_folder / "test", tmp_path / "sketches"))
    (sketches / "dark").rename(sketches / "DARK")
    (sketches / "light").rename(sketches / "fox")
    folder = tmp_path / "result"
    base = [
        "evaluate",
        "--checkpoint",
        tiny_backbone,
        fitted_run,
        photo_folder,
        "--output",
        folder,
        "--severities",
        "1,5",
    ]
    both = ["--shift", "corruptions:fog,jpeg", "--shift", sketches]
    output = run(*base, *both).output
    for part in ("5 passes over all 6 images", "mean", "relative drop", "Left out: 2 images of 1 class", "DARK = dark"):
        assert part in output
    values = json.loads((folder / "shift.json").read_text())
    assert len(values["corruptions"]["cells"]) == 4
    assert values["data_sets"][0]["left_out_classes"] == ["fox"]
    assert values["data_sets"][0]["clean"]["images"] == 4
    clean = json.loads((fitted_run / "metrics.json").read_text())["test"]["overall"]
    assert values["corruptions"]["clean"]["overall"] == clean
    rows = list(csv.DictReader((folder / "shift.csv").open()))
    assert [(row["kind"], row["severity"]) for row in rows[:3]] == [("clean", "0"), ("fog", "1"), ("fog", "5")]
    assert [row["kind"] for row in rows[5:]] == ["clean", "shifted"]
    assert Image.open(folder / "shift.png").width > 1000

    measured: list[int] = []
    predict = Passes.measure_images

    def counted(self: Passes, item: LabelledImages, local: LabelledImages) -> Metrics:
        measured.append(len(local))
        return predict(self, item, local)

    monkeypatch.setattr(Passes, "measure_images", counted)
    before = (folder / "shift.csv").read_bytes(), (folder / "shift.png").read_bytes()
    assert "7 of 7 measurements were there already" in run(*base, *both).output
    assert measured == []
    assert ((folder / "shift.csv").read_bytes(), (folder / "shift.png").read_bytes()) == before
    run(*base, "--shift", "corruptions:fog,snow")
    assert measured == [6, 6]
    run(*base, "--shift", "corruptions:fog", "--shift-images", 3)
    assert measured == [6, 6, 3, 3, 3]
    run(*base, "--shift", "corruptions:fog", "--shift-seed", 1)
    assert measured == [6, 6, 3, 3, 3, 6, 6, 6]
    assert "7 of 7 measurements were there already" in run(*base, *both).output
    described = fitted_run / "pack" / "pack.json"
    values = json.loads(described.read_text())
    for name, value in (("class_counts", [8, 4, 1]), ("probabilities", values["probabilities"] | {"temperature": 3.0})):
        described.write_text(json.dumps(values | {name: value}))
        assert re.search(rf"pack_{name} was\s+\w+,\s+is\s", fails(*base, *both))
    described.write_text(json.dumps(values | {"class_counts": [8, 4, 1]}))
    run(*base, "--shift", "corruptions:fog", "--overwrite")
    assert measured[8:] == [6, 6, 6]
    (folder / "shift_cells.json").write_text("{")
    before = (folder / "shift.csv").read_bytes()
    for more in ([], ["--overwrite"]):  # whose the others are cannot be told
        assert "is not that of measurements" in fails(*base, *both, *more)
    assert (folder / "shift.csv").read_bytes() == before


def test_images_of_another_set_that_were_skipped_are_told(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    photos, sketches = (Path(shutil.copytree(photo_folder, tmp_path / name)) for name in ("photos", "sketches"))
    (photos / "test" / "dark" / "0.jpg").write_bytes(b"broken")
    for name in ("grey/0.jpg", "light/1.jpg"):
        (sketches / "test" / name).write_bytes(b"broken")
    (sketches / "others").mkdir()
    folder = tmp_path / "result"
    base = ["evaluate", "--checkpoint", tiny_backbone, fitted_run, photos, "--output", folder, "--bad-images", "skip"]
    output = run(*base, "--shift", sketches).output.replace("\n", "")
    assert f"{sketches}: Left out: 2 test images that cannot be read." in output
    assert "since they are not splits" in output
    assert "5 of the 5 of DATA" in output
    values = json.loads((folder / "shift.json").read_text())
    assert (values["skipped_images"], values["data_sets"][0]["skipped_images"]) == (1, 2)
    listed = [row["image"] for row in csv.DictReader((folder / "shift_skipped_images.csv").open())]
    assert [Path(name).relative_to(tmp_path).as_posix() for name in listed] == [
        "photos/test/dark/0.jpg", "sketches/test/grey/0.jpg", "sketches/test/light/1.jpg",
    ]  # fmt: skip
    run(
        "evaluate",
        "--checkpoint",
        tiny_backbone,
        fitted_run,
        photos,
        "--output",
        tmp_path / "plain",
        "--bad-images",
        "skip",
    )
    assert "dark/0.jpg" in (tmp_path / "plain" / "skipped_images.csv").read_text()


def test_an_interrupted_measurement_goes_on(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "result"
    arguments = [
        "evaluate",
        "--checkpoint",
        tiny_backbone,
        fitted_run,
        photo_folder,
        "--output",
        folder,
        "--shift",
        "corruptions:rain",
    ]
    predict = Passes.measure_images
    count = 0

    def interrupted(self: Passes, item: LabelledImages, local: LabelledImages) -> Metrics:
        nonlocal count
        count += 1
        if count == 4:
            raise KeyboardInterrupt
        return predict(self, item, local)

    monkeypatch.setattr(Passes, "measure_images", interrupted)
    assert CliRunner().invoke(app, [str(argument) for argument in arguments]).exit_code == 130
    assert sorted(path.name for path in folder.iterdir()) == ["shift_cells.json"]
    assert "3 of 6 measurements were there already" in run(*arguments).output
    assert count == 7
