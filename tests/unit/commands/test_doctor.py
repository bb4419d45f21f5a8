"""`lpt.commands.doctor.doctor`: the function behind `lpt doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lpt.commands.doctor import doctor
from lpt.errors import ConfigError, RunError


def test_it_returns_its_findings_and_writes_and_prints_nothing(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    findings = doctor(photo_folder)
    assert [(split.name, split.images) for split in findings.splits] == [("train", 14), ("test", 6)]
    assert findings.largest(1) == [("dark", 8)]
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")


def test_it_writes_the_files_that_are_asked_for(photo_folder: Path, tmp_path: Path) -> None:
    plot, report = tmp_path / "plot.png", tmp_path / "findings.json"
    findings = doctor(photo_folder / "train", test=photo_folder / "test", decode=False, plot=plot, json=report)
    assert Image.open(plot).width > 300
    written = json.loads(report.read_text())
    assert written.pop("kind") == "lpt-findings"
    assert written["findings"] == [
        {"severity": f.severity, "what": f.what, "harm": f.harm, "advice": f.advice, "examples": list(f.examples)}
        for f in findings.findings
    ]
    assert (written["usable"], written["decoded"], written["imbalance_factor"]) == (True, False, 4)


def test_options_reach_the_data(photo_folder: Path) -> None:
    findings = doctor(photo_folder, validation=0.5, few_below=3, many_above=6)
    assert [(split.name, split.images) for split in findings.splits] == [("train", 7), ("validation", 7), ("test", 6)]
    assert [size for _, *size in findings.group_sizes()] == [[1, 8], [1, 4], [1, 2]]
    assert doctor(photo_folder, long_tail=8, decode=False).counts.tolist() == [8, 2, 1]


def test_faults_are_seen_before_images_are_read(photo_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="few_below"):
        doctor(tmp_path / "nowhere", few_below=8, many_above=2)
    (tmp_path / "mine.json").write_text("{}")
    with pytest.raises(RunError, match="is not findings of lpt"):
        doctor(tmp_path / "nowhere", json=tmp_path / "mine.json")
    with pytest.raises(ConfigError, match="plot and json: both name"):
        doctor(tmp_path / "nowhere", json=tmp_path / "it.png", plot=tmp_path / "." / "it.png")
