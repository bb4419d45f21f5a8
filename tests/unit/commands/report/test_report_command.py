"""`lpt report`: the numbers are those of the run, what is missing is said, and nothing else is replaced."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.compare.cells import read_cell
from lpt.commands.compare.plan import CellKey
from lpt.commands.report import report as command
from lpt.commands.report.kept import read_run
from lpt.commands.report.parts import probe_of
from lpt.commands.report.pictures import find_images, find_measured, open_data
from lpt.commands.report.report import gather_content
from lpt.commands.report.request import ReportRequest
from lpt.config.recipes import METHODS
from lpt.config.values import read_yaml
from lpt.data.fingerprint import data_fingerprint
from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages
from lpt.errors import ConfigError, DataError, LptError, PackError, RunError
from lpt.evaluation.comparison import Comparison, summarise
from lpt.evaluation.metrics import Metrics
from lpt.packs.pack import read_info
from lpt.report.html.content import Absent, Content, Pairs, QueryMap, Sharing
from lpt.training.folder import RunFolder
from samples import tiny_settings


def contents(folder: Path, **options: Any) -> Content:
    return gather_content(ReportRequest(folder, **options))


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def rewrite(run: Path, change: Callable[[dict[str, str]], Any]) -> None:
    """Change the rows of predictions.csv in place."""
    rows = rows_of(run)
    for row in rows:
        change(row)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (run / "predictions.csv").write_text(text.getvalue(), encoding="utf-8")


@pytest.fixture
def comparison(fitted_run: Path, tmp_path: Path) -> Path:
    """The folder of a comparison of two runs; the linear probe is wrong wherever LPT is said to be right."""
    folder = tmp_path / "compared"
    names = read_info(fitted_run / "pack").class_names
    cells, counts = [], np.asarray(read_info(fitted_run / "pack").class_counts)
    for method in ("linear-probe", "lpt"):
        run = Path(shutil.copytree(fitted_run, folder / "runs" / method / "seed0"))
        rewrite(run, lambda row: row.update(predicted=row["class"]))
        if method == "linear-probe":
            rewrite(run, lambda row: row.update(predicted=names[(names.index(row["class"]) + 1) % 3]))
        cells.append(read_cell(RunFolder(run), CellKey(method, 0), None).cell)
    groups = read_info(fitted_run / "pack").shot_groups
    titles = {name: METHODS[name].title for name in ("linear-probe", "lpt")}
    compared = Comparison(
        cells, list(titles), titles, {0: counts}, {0: 14}, names, groups, facts={"command": "lpt compare photos"}
    )
    (folder / "comparison.json").write_text(json.dumps(summarise(compared, resamples=50)), encoding="utf-8")
    return folder


def test_its_numbers_are_those_of_the_run(fitted_run: Path) -> None:
    shown, info = contents(fitted_run), read_info(fitted_run / "pack")
    metrics = Metrics.from_dict(json.loads((fitted_run / "metrics.json").read_text())["test"])
    with (fitted_run / "per_class.csv").open(encoding="utf-8", newline="") as lines:
        per_class = list(csv.DictReader(lines))
    classes = shown.classes
    assert list(classes.names) == [row["class"] for row in per_class] == ["dark", "grey", "light"]
    assert np.asarray(classes.accuracy).tolist() == [float(row["accuracy"]) for row in per_class]
    assert classes.counts.tolist() == info.class_counts
    for name, value in shown.methods[0].accuracies.items():
        assert value.mean == pytest.approx(getattr(metrics, name))
    record, facts = dict(shown.record), json.loads((fitted_run / "run.json").read_text())
    assert record["Training images, SHA-256"] == facts["data_sha256"]
    assert record["Command"] == facts["command"]
    assert record["Pack, SHA-256"] == info.tensors_sha256
    assert sum(phase.steps for phase in shown.curves) == 12  # type: ignore[union-attr]


def test_mistakes_have_pictures(fitted_run: Path) -> None:
    rewrite(fitted_run, lambda row: row["class"] == "light" and row.update(predicted="grey"))
    shown = contents(fitted_run, quick=True)
    assert np.asarray(shown.classes.accuracy).tolist() == [1, 1, 0]
    assert np.asarray(shown.classes.confused_with).tolist() == [-1, -1, 1]
    assert isinstance(shown.pairs, Pairs)
    (item,) = shown.pairs.largest
    assert (item.pair.true, item.pair.predicted, item.pair.images, item.pair.tested) == (2, 1, 2, 2)
    assert [picture.right for picture in item.pictures] == [False, False, True]  # no light image was recognised
    assert [picture.caption.partition(" (")[0] for picture in item.pictures] == [
        "light, taken for grey", "light, taken for grey", "grey, recognised",
    ]  # fmt: skip
    brightness = [np.asarray(Image.open(io.BytesIO(base64.b64decode(p.data)))).mean() for p in item.pictures]
    assert brightness[0] > brightness[2] + 50  # light and grey, as their names say


def test_queries_pick_the_groups_that_the_run_kept(fitted_run: Path) -> None:
    shown = contents(fitted_run)
    kept = [int(row["groups"].split()[0]) for row in rows_of(fitted_run)]
    assert isinstance(shown.queries, QueryMap)
    assert shown.queries.groups.tolist() == kept
    assert isinstance(shown.sharing, Sharing)
    before = shown.sharing.use.copy()
    rewrite(fitted_run, lambda row: row.pop("groups") and row)  # a run of an earlier version
    shown = contents(fitted_run)
    assert isinstance(shown.sharing, Sharing)
    np.testing.assert_allclose(shown.sharing.use, before)
    quick = contents(fitted_run, quick=True)
    assert isinstance(quick.sharing, Absent)
    assert isinstance(quick.queries, Absent)
    assert "lpt report" in quick.queries.reason  # how to get the map


def test_fit_names_its_report_and_a_failure_to_draw_loses_nothing(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("no ink")

    printed = Console(file=io.StringIO(), width=300)
    settings = tiny_settings(tiny_backbone, epochs=(1, 0), epoch_steps=1)
    folder = lpt.fit(photo_folder, tmp_path / "run", preset="laptop", settings=settings, console=printed).folder
    assert f"Report: {folder / 'report.html'}" in printed.file.getvalue()  # type: ignore[attr-defined]
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "phase 1 only" in page
    assert "roup prompt" not in page
    monkeypatch.setattr(command, "render_page", broken)
    (folder / "metrics.json").unlink()
    (folder / "report.html").unlink()
    result = lpt.resume(folder, console=printed)
    assert result.metrics["test"].images == 6
    assert "The report was not drawn: ZeroDivisionError: no ink" in printed.file.getvalue()  # type: ignore[attr-defined]
    assert not (folder / "report.html").exists()


def test_a_comparison_has_the_gains_over_the_linear_probe(comparison: Path) -> None:
    shown = contents(comparison, quick=True)
    assert [(row.title, row.shown) for row in shown.methods] == [("linear probe", False), ("LPT", True)]
    assert shown.methods[1].accuracies["overall"].mean == 1
    assert shown.methods[0].less["overall"].mean == 1
    assert not isinstance(shown.probe, Absent)
    assert shown.probe.gain.tolist() == [1, 1, 1]
    assert isinstance(shown.pairs, Absent)
    assert "no mistake" in shown.pairs.reason
    assert dict(shown.record)["Command"] == "lpt compare photos"
    later = comparison / "runs" / "linear-probe" / "seed1"  # of a command that was killed before it wrote its tables
    shutil.copytree(later.with_name("seed0"), later)
    assert contents(comparison, quick=True).methods[0].seeds == [0]
    shutil.rmtree(comparison / "runs" / "linear-probe")
    assert isinstance(contents(comparison, quick=True).probe, Absent)
    shutil.copytree(comparison / "runs" / "lpt", comparison / "runs" / "linear-probe")
    shutil.rmtree(comparison / "runs" / "lpt")
    (row,) = contents(comparison, quick=True).methods  # the differences in the file are of LPT, not of the method shown
    assert (row.name, row.shown, row.less) == ("linear-probe", True, {})
    file = lpt.write_report(comparison, quick=True)
    assert file == comparison / "report.html"


def test_a_damaged_comparison_is_refused_in_one_message(comparison: Path) -> None:
    """Each field that is missing or of another kind is named, never met as a traceback; so is a foreign file."""
    file = comparison / "comparison.json"
    before = file.read_text(encoding="utf-8")
    summary = json.loads(before)
    row, difference = summary["methods"][0], summary["differences"][0]
    broken = [(name, value) for name in ("methods", "differences", "seeds", "reference") for value in (..., 3, [{}])]
    broken += [("methods", [row | {name: None}]) for name in ("method", "title", "seeds", "cost")]
    broken += [("methods", [row | {"method": "../lpt"}]), ("methods", [row | {"cost": {"inference_ms": {}}}])]
    broken += [("differences", [difference | {"measures": {"few": {"mean": "much"}}}]), ("seeds", [])]
    for name, value in broken:
        file.write_text(before, encoding="utf-8")
        edit(file, name, value)
        with pytest.raises(RunError, match=rf"comparison\.json is damaged, or of something else \({name}"):
            lpt.write_report(comparison, quick=True)
    result = CliRunner().invoke(app, ["report", str(comparison), "--quick"])
    assert (result.exit_code, result.output.count("\n")) == (2, 1)
    for text in (before[: len(before) // 2], "[]", '"runs"'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(RunError, match="Give the same lpt compare command again"):
            lpt.write_report(comparison, quick=True)
    assert not (comparison / "report.html").exists()


def test_a_class_that_gains_as_much_as_it_loses_stayed_the_same() -> None:
    shown = probe_of([np.array([1.0, 1.0]), np.array([1 / 3, 0.0])], [np.array([2 / 3, 0.0]), np.array([2 / 3, 0.0])])
    assert shown.gain.tolist() == [0, 0.5]
    assert shown.order.tolist() == [1]


def test_what_is_not_there_any_more_is_said(fitted_run: Path, tmp_path: Path) -> None:
    rewrite(fitted_run, lambda row: row["class"] == "light" and row.update(predicted="grey"))
    text = (fitted_run / "config.yaml").read_text(encoding="utf-8")
    source = read_yaml(fitted_run / "config.yaml")["data"]["source"]
    (fitted_run / "config.yaml").write_text(text.replace(source, str(tmp_path / "gone")), encoding="utf-8")
    shown = contents(fitted_run)
    assert isinstance(shown.pairs, Pairs)
    assert "cannot be opened" in shown.pairs.without_pictures
    assert str(tmp_path / "gone") in shown.pairs.without_pictures
    assert isinstance(shown.queries, Absent)
    (fitted_run / "config.yaml").write_text(text, encoding="utf-8")
    (fitted_run / "pack" / "pack.safetensors").unlink()
    (fitted_run / "log.jsonl").unlink()
    shown = contents(fitted_run)
    assert isinstance(shown.queries, Absent)
    assert "pack.safetensors" in shown.queries.reason
    assert isinstance(shown.curves, Absent)
    page = lpt.write_report(fitted_run).read_text(encoding="utf-8")
    assert "data:image/webp" in page


def test_only_pictures_that_the_run_measured_are_shown(fitted_run: Path, tmp_path: Path) -> None:
    """A stranger's config.yaml that names a folder of mine shows nothing of it; nor is anything fetched for it."""
    rewrite(fitted_run, lambda row: row["class"] == "light" and row.update(predicted="grey"))
    text = (fitted_run / "config.yaml").read_text(encoding="utf-8")
    source = read_yaml(fitted_run / "config.yaml")["data"]["source"]
    mine = Path(shutil.copytree(source, tmp_path / "mine"))

    def pictures(**options: Any) -> str | None:
        pairs = contents(fitted_run, quick=True, **options).pairs
        assert isinstance(pairs, Pairs)
        assert bool(pairs.largest[0].pictures) != bool(pairs.without_pictures)
        return pairs.without_pictures

    assert not pictures(data=str(mine))  # moved with its folder
    secret = next((mine / "test" / "light").iterdir())
    secret.write_bytes(secret.read_bytes() + b"more")  # another picture under that name
    (fitted_run / "config.yaml").write_text(text.replace(source, str(mine)), encoding="utf-8")
    assert "others are not shown" in str(pictures())
    (fitted_run / "config.yaml").write_text(text.replace(source, "hf:someone/pictures"), encoding="utf-8")
    assert "hf:someone/pictures is on the hub" in str(pictures())


def test_images_are_found_by_name_in_any_split(fitted_run: Path) -> None:
    splits = open_data(read_yaml(fitted_run / "config.yaml"))
    names = [row["image"] for row in rows_of(fitted_run)]
    assert list(find_images(splits, names)) == names
    array = ArrayImages(np.zeros((2, 4, 4, 3), dtype=np.uint8), ["a", "b"])
    others = LabelledImages(array, np.arange(2), np.zeros(2, dtype=np.int64), ("x",))
    places = find_images([others, *splits], [*names[:1], "b", "nowhere"])
    assert {name: place.row for name, place in places.items()} == {"b": 1, names[0]: 0}


def test_a_part_of_a_split_is_found_by_relative_names(fitted_run: Path) -> None:
    """As of a comparison that held its test images out of a folder given as `photos/`."""
    splits, kept = open_data(read_yaml(fitted_run / "config.yaml")), read_run(fitted_run).predictions
    assert kept is not None
    part = splits[0].subset(np.array([0, 2, 3]))
    names = [Path(part.name(row)) for row in range(3)]
    relative = replace(kept, images=["/".join(("..", *name.parts[-3:])) for name in names])
    places = find_measured(splits, relative, data_fingerprint(part))
    assert [places[name].row for name in relative.images] == [0, 2, 3]
    with pytest.raises(DataError, match="others are not shown"):
        find_measured(splits, relative, data_fingerprint(splits[0]))


LOG_LINE = '{"phase": 1, "epoch": 0, "step": 0, "loss": 1.0, "seconds": 1.0}\n'


def edit(file: Path, name: str, value: object) -> None:
    """Change a field of a JSON file in place; `...` removes it."""
    fields = json.loads(file.read_text(encoding="utf-8"))
    kept = {key: inner for key, inner in fields.items() if key != name}
    file.write_text(json.dumps(kept if value is ... else kept | {name: value}), encoding="utf-8")


def damage(run: Path, file: str, text: str) -> None:
    (run / file).write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda run: (run / "metrics.json").unlink(), RunError, "not finished"),
        (lambda run: damage(run, "metrics.json", "{"), RunError, "metrics.json is damaged"),
        (lambda run: damage(run, "metrics.json", '{"test": {}}'), RunError, "metrics.json is damaged"),
        (lambda run: edit(run / "metrics.json", "seed", "first"), RunError, r"metrics.json is damaged.*\(seed: "),
        (lambda run: edit(run / "metrics.json", "test", {"overall": "all"}), RunError, "test.mean_per_class: "),
        (lambda run: damage(run, "run.json", "[]"), RunError, "run.json is damaged"),
        (lambda run: damage(run, "log.jsonl", LOG_LINE.replace('"epoch": 0', '"epoch": []')), RunError, "line 1 of"),
        (lambda run: damage(run, "predictions.csv", "image,class\na,b\n"), RunError, "predictions.csv is damaged"),
        (lambda run: rewrite(run, lambda row: row.update(groups="99 1")), RunError, "group prompts are not in 0..3"),
        (lambda run: rewrite(run, lambda row: row.update({"class": "owl"})), RunError, "owl"),
        (lambda run: rewrite(run, lambda row: row.update(groups="9" * 30)), RunError, "predictions.csv is damaged"),
        (lambda run: rewrite(run, lambda row: row.update(image="a" * 200_000)), RunError, "predictions.csv is damaged"),
        (lambda run: (run / "predictions.csv").unlink(), RunError, "predictions.csv is damaged"),
        (lambda run: damage(run, "pack/pack.json", "{}"), PackError, "pack"),
        (lambda run: shutil.rmtree(run / "pack") or (run / "run.json").unlink(), ConfigError, "neither the folder"),
    ],
)
def test_a_damaged_run_is_refused(
    fitted_run: Path, change: Callable[[Path], Any], error: type[LptError], says: str
) -> None:
    (fitted_run / "report.html").unlink()
    change(fitted_run)
    with pytest.raises(error, match=says):
        lpt.write_report(fitted_run, quick=True)
    assert not (fitted_run / "report.html").exists()


def test_only_a_report_is_replaced(fitted_run: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.html"
    mine.write_text("<p>mine")
    for output, says in ((mine, "not a report"), (tmp_path, "is a folder")):
        result = CliRunner().invoke(app, ["report", str(fitted_run), "--quick", "--output", str(output)])
        assert result.exit_code == 2
        assert says in result.output
    assert mine.read_text() == "<p>mine"
    mine.write_text("")
    for _ in range(2):
        result = CliRunner().invoke(app, ["report", str(fitted_run), "--quick", "-o", str(mine)])
        assert result.exit_code == 0, result.output
        assert f"Report: {mine}" in result.output
    assert lpt.write_report(fitted_run, tmp_path / "new" / "page.html", quick=True).is_file()
