"""`lpt.evaluate`: what `lpt evaluate` measures, from Python."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lpt.cli.app import app
from lpt.commands.evaluate import request as module
from lpt.commands.evaluate.evaluate import evaluate
from lpt.commands.evaluate.request import loading_workers
from lpt.errors import ConfigError, RunError


def test_evaluate_gives_what_the_command_writes(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """A run folder stands for its pack; without a console nothing is printed."""
    command = ["evaluate", fitted_run, photo_folder, "--checkpoint", tiny_backbone, "--output", tmp_path / "command"]
    assert CliRunner().invoke(app, [str(part) for part in command]).exit_code == 0
    measured = evaluate(fitted_run, photo_folder, checkpoint=tiny_backbone, output=tmp_path / "python")
    written = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("command", "python")]
    assert written[0] == written[1]
    assert written[1]["test"]["overall"] == measured.metrics.overall
    assert len(measured.predictions.labels) == 6


def test_evaluate_reports_and_refuses(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """The table goes to the console; files are replaced only on request; options are checked."""
    text = io.StringIO()
    evaluate(
        str(fitted_run / "pack"),
        str(photo_folder),
        checkpoint=str(tiny_backbone),
        output=str(tmp_path / "result"),
        console=Console(file=text, width=200),
    )
    assert "few" in text.getvalue()
    assert f"plots: {tmp_path / 'result'}" in text.getvalue()
    with pytest.raises(RunError, match="add overwrite=True"):
        evaluate(fitted_run, photo_folder, checkpoint=tiny_backbone, output=tmp_path / "result")
    evaluate(fitted_run, photo_folder, checkpoint=tiny_backbone, output=tmp_path / "result", overwrite=True)
    with pytest.raises(ConfigError, match="bad_images"):
        evaluate(fitted_run, photo_folder, bad_images="never")  # type: ignore[arg-type]
    for batch_size in (0, -3, 1.5):
        with pytest.raises(ConfigError, match="batch_size: a whole number of at least 1 is accepted"):
            evaluate(fitted_run, photo_folder, checkpoint=tiny_backbone, batch_size=batch_size)  # type: ignore[arg-type]


@pytest.mark.parametrize(("images", "cores", "workers"), [(999, 8, 0), (1000, 8, 4), (1000, 3, 2), (1000, 1, 0)])
def test_loading_workers(images: int, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None for a few images; a core is left to the model."""
    monkeypatch.setattr(module, "cores_here", lambda: cores)
    assert loading_workers(images) == workers
