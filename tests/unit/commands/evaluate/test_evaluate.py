"""`lpt.evaluate`: what `lpt evaluate` measures, from Python."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from lpt.cli.app import app
from lpt.commands.evaluate import request as module
from lpt.commands.evaluate.evaluate import evaluate
from lpt.commands.evaluate.request import loading_workers
from lpt.errors import ConfigError, DataError, RunError
from lpt.evaluation.measured import Measured


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
    for prior in ({"dark": 1}, ["dark"], "Training", Path("even")):  # a name is text; a path is a file
        with pytest.raises(ConfigError, match=r"prior: .* a CSV file of class,share, or even or training"):
            evaluate(fitted_run, photo_folder, checkpoint=tiny_backbone, prior=prior)  # type: ignore[arg-type]
    for batch_size in (0, -3, 1.5):
        with pytest.raises(ConfigError, match="batch_size: a whole number of at least 1 is accepted"):
            evaluate(fitted_run, photo_folder, checkpoint=tiny_backbone, batch_size=batch_size)  # type: ignore[arg-type]


@pytest.mark.parametrize(("images", "cores", "workers"), [(999, 8, 0), (1000, 8, 4), (1000, 3, 2), (1000, 1, 0)])
def test_loading_workers(images: int, cores: int, workers: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """None for a few images; a core is left to the model."""
    monkeypatch.setattr(module, "cores_here", lambda: cores)
    assert loading_workers(images) == workers


def notes_of(pack: Path, data: Path, checkpoint: Path, **options: Any) -> tuple[Measured, str]:
    """Measure, and return what is said about the data too."""
    text = io.StringIO()
    measured = evaluate(pack, data, checkpoint=checkpoint, console=Console(file=text, width=1000), **options)
    return measured, text.getvalue()


def test_classes_are_matched_by_name_and_others_left_out(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """Case does not matter; a class that the pack does not know is told, with a hint, and an empty one too."""
    test = photo_folder / "test"
    for theirs, ours in {"DARK": "dark", "grey": "grey", "lights": "light", "zebra": "dark"}.items():
        shutil.copytree(test / ours, tmp_path / "set" / theirs)
    (tmp_path / "set" / "newt").mkdir()
    (tmp_path / "set" / "light").mkdir()
    measured, notes = notes_of(fitted_run, tmp_path / "set", tiny_backbone)
    assert measured.predictions.labels.tolist() == [0, 0, 1, 1]
    assert "Matched by spelling: 1 class: DARK = dark." in notes
    assert "Left out: 4 images of 2 classes the pack does not know: lights (or is it light?), zebra." in notes
    assert "No images in 1 class the pack does not know: newt." in notes
    shutil.rmtree(tmp_path / "set" / "DARK")
    shutil.rmtree(tmp_path / "set" / "grey")
    with pytest.raises(DataError, match="none of its classes is one of the pack's 3"):
        evaluate(fitted_run, tmp_path / "set", checkpoint=tiny_backbone)


def test_training_images_are_known_under_any_path(
    fitted_run: Path, tiny_backbone: Path, photo_folder: Path, tmp_path: Path
) -> None:
    """A link, a copy of another name, a part, a table: the content counts."""
    whole, some = "trained on these very images", "trained on some of these images"
    (tmp_path / "link").symlink_to(photo_folder / "train")
    copy = Path(shutil.copytree(photo_folder / "train", tmp_path / "other"))
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["image,label", *(f"{path},{path.parent.name}" for path in copy.glob("*/*"))]))
    for data in (photo_folder / "train", tmp_path / "link", copy, table):
        (note,) = [note for note in notes_of(fitted_run / "pack", data, tiny_backbone)[1].splitlines() if whole in note]
        assert "predictions.csv" in note
    for held_out in (photo_folder / "test", fitted_run / "predictions.csv"):
        assert "trained on" not in notes_of(fitted_run / "pack", held_out, tiny_backbone)[1]
    shutil.copy(photo_folder / "test" / "dark" / "0.jpg", copy / "dark" / "new.jpg")
    (copy / "dark" / "1.jpg").unlink()
    assert f"{some} (13 of 14 training images" in notes_of(fitted_run / "pack", copy, tiny_backbone)[1]
