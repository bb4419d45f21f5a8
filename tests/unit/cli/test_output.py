"""What other programs read from standard output, and in which precision it was computed."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from lpt.cli.app import app

ENCODINGS = ("ascii", "cp1252", "latin-1", "utf-16", "cp932", "utf-8")
NAME = "фото 斑马 é"


def printed(*arguments: object, encoding: str = "utf-8") -> bytes:
    """What `lpt` writes to a standard output of an encoding."""
    result = CliRunner(charset=encoding).invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout_bytes


@pytest.fixture
def picture(photo_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copyfile(photo_folder / "test" / "dark" / "0.jpg", tmp_path / f"{NAME}.jpg"))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_predictions_are_utf8(encoding: str, picture: Path, fitted_run: Path, tiny_backbone: Path) -> None:
    output = printed("predict", "--checkpoint", tiny_backbone, fitted_run, picture, encoding=encoding)
    rows = list(csv.DictReader(output.decode("utf-8").splitlines()))
    assert [row["image"] for row in rows] == [str(picture)]
    assert b"\r" not in output


@pytest.mark.parametrize("encoding", ENCODINGS[:4])
def test_description_of_a_pack_is_utf8(encoding: str, fitted_run: Path, tmp_path: Path) -> None:
    pack = Path(shutil.copytree(fitted_run / "pack", tmp_path / NAME))
    facts = json.loads(printed("inspect", pack, "--json", encoding=encoding).decode("utf-8"))
    assert facts["path"] == str(pack)


@pytest.mark.parametrize("encoding", ["utf-16", "cp1252"])
def test_the_program_itself_writes_utf8(encoding: str, fitted_run: Path, tmp_path: Path) -> None:
    """In a process whose console has an encoding."""
    pack = Path(shutil.copytree(fitted_run / "pack", tmp_path / NAME))
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "lpt", "inspect", str(pack), "--json"]
    done = subprocess.run(command, capture_output=True, timeout=120, env=environment)
    assert json.loads(done.stdout.decode("utf-8"))["path"] == str(pack), done.stderr
    assert printed("config", "--preset", "laptop", encoding=encoding) == printed("config", "--preset", "laptop")


def test_precision_is_an_option_of_predict_and_evaluate(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    images, options = photo_folder / "test", ("--checkpoint", tiny_backbone, "--device", "cpu")
    tables = {
        precision: printed("predict", *options, fitted_run, images, "--precision", precision)
        for precision in ("auto", "fp32", "bf16")
    }
    assert tables["auto"] == tables["fp32"]
    assert tables["bf16"] != tables["fp32"]
    for precision, expected in (("auto", "float32"), ("bf16", "bfloat16")):
        output = tmp_path / precision
        printed("evaluate", *options, fitted_run, photo_folder, "--precision", precision, "--output", output)
        assert json.loads((output / "metrics.json").read_text())["precision"] == expected
