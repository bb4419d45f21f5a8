"""The folder of a comparison on its own: its plan, what is begun, finished and failed, and what may be removed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lpt.commands.compare.plan import CellKey, StoredPlan
from lpt.commands.compare.store import ComparisonFolder
from lpt.errors import RunError
from lpt.system.owned import Input
from lpt.training.folder import RunFolder

PLAN = StoredPlan(
    values={"data": {"source": Path("photos")}},
    holdout=0.2,
    budget_minutes=None,
    method_values={"lift": {"loss": {"scale": 3.0}}},
    machine={"device": "cpu", "precision": "fp32"},
    share=0.5,
)
BEGUN, FINISHED = CellKey("lpt", 10), CellKey("lift", 2)


@pytest.fixture
def folder(tmp_path: Path) -> ComparisonFolder:
    """A comparison with a cell that was begun and one that is finished."""
    folder = ComparisonFolder(tmp_path / "compared")
    folder.path.mkdir()
    folder.write_plan(PLAN)
    for key in (BEGUN, FINISHED):
        run = RunFolder.create(folder.run(key).path, {}, overwrite=False)
        run.config.write_text("{}\n", encoding="utf-8")
    run = folder.run(FINISHED)
    run.metrics.write_text("{}", encoding="utf-8")
    run.pack.mkdir()
    (run.pack / "pack.json").write_text("{}", encoding="utf-8")
    return folder


def test_a_plan_is_read_back_and_keeps_its_names(folder: ComparisonFolder) -> None:
    stored = json.loads(folder.plan.read_text(encoding="utf-8"))
    assert stored["own"] == {"lift": {"loss": {"scale": 3.0}}}  # as earlier versions wrote it
    assert (stored["kind"], stored["values"]) == ("lpt-comparison", {"data": {"source": "photos"}})
    plan = folder.stored_plan()
    assert plan is not None
    assert plan.to_dict() == PLAN.to_dict()
    assert ComparisonFolder(folder.path / "runs" / "none").stored_plan() is None


def test_a_plan_with_a_field_of_another_kind_is_refused(folder: ComparisonFolder) -> None:
    stored = json.loads(folder.plan.read_text(encoding="utf-8"))
    for field in ({"values": 3}, {"machine": {"device": 1}}, {"share": "half"}):
        folder.plan.write_text(json.dumps(stored | field), encoding="utf-8")
        with pytest.raises(RunError, match=r"plan\.json is missing, damaged or of something else"):
            folder.stored_plan()


def test_what_is_begun_finished_and_failed(folder: ComparisonFolder) -> None:
    (folder.path / "runs" / "lpt" / "seed3").mkdir()  # an empty folder is no cell
    (folder.path / "runs" / "unknown" / "seed1").mkdir(parents=True)
    assert folder.begun() == [FINISHED, BEGUN]
    assert folder.finished() == [FINISHED]
    assert folder.failed() == []
    path = folder.write_error(BEGUN, "ValueError: a cable came loose")
    assert "a cable came loose" in path.read_text(encoding="utf-8")
    (path.parent / "notes.txt").write_text("mine", encoding="utf-8")
    assert folder.failed() == [BEGUN]
    folder.remove_error(BEGUN)
    folder.remove_error(BEGUN)  # one that is not there is none
    assert folder.failed() == []


def test_only_what_a_comparison_wrote_is_removed(folder: ComparisonFolder) -> None:
    mine = folder.run(BEGUN).path / "thesis.tex"
    mine.write_text("mine", encoding="utf-8")
    inputs = [Input("the backbone's file", mine)]
    assert "the backbone's file lies in it" in folder.why_kept(lambda: inputs)
    with pytest.raises(RunError, match="not overwritten: the backbone's file lies in it"):
        folder.check_removable(lambda: inputs)
    folder.check_removable()
    assert "thesis.tex" in folder.clear()
    assert mine.is_file()
    assert folder.plan.is_file()
    assert folder.begun() == []
    assert not folder.run(FINISHED).path.exists()


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for read in (ComparisonFolder(tmp_path).stored_plan, ComparisonFolder(tmp_path).why_kept):
        with pytest.raises(RunError, match="is no comparison of lpt"):
            read()
    with pytest.raises(RunError, match="is a file"):
        ComparisonFolder(tmp_path / "notes.txt").stored_plan()
