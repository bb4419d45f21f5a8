"""Temperature and threshold: from a validation split in training, and from other pictures afterwards."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import lpt
from lpt.errors import ConfigError, DataError, LptError, RunError
from lpt.packs.pack import load_pack
from lpt.report.card import rejection_line
from lpt.report.pack import print_pack
from samples import tiny_settings


def write_pictures(root: Path, seed: int, each: int) -> Path:
    """Noise of three classes that differ little in brightness: some will be mistaken."""
    random = np.random.default_rng(seed)
    for label, name in enumerate(("dark", "grey", "light")):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 200, (16, 16, 3)) + 25 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures") / "held", seed=1, each=20)


def test_a_run_with_validation_images_has_a_threshold(tiny_backbone: Path, tmp_path: Path, pictures: Path) -> None:
    """It keeps 95 % of them; card and `lpt inspect` say so, and the pack decides with it."""
    data = write_pictures(tmp_path / "data", seed=0, each=40)
    settings = tiny_settings(tiny_backbone, epoch_steps=1, epochs=(1, 1)) | {"data.validation": "0.5"}
    result = lpt.fit(data, tmp_path / "run", preset="laptop", settings=settings)
    rejection = result.pack.info.rejection
    assert rejection is not None
    assert (rejection.images, rejection.fitted_on) == (60, "60 validation images")
    assert 0.95 <= rejection.kept.overall < 1
    text = rejection_line(result.pack.info)
    assert f"largest cosine below {rejection.threshold:.4g}, fitted on 60 validation images" in text
    assert "mean over classes: " in text
    assert "mean over" not in rejection_line(result.pack.info.model_copy(update={"counts_known": False}))  # imported
    assert text in (result.pack.path / "README.md").read_text(encoding="utf-8")
    shown = io.StringIO()
    print_pack(result.pack, Console(file=shown, width=1000))
    assert text in shown.getvalue()
    rows = lpt.load_predictor(result.pack, checkpoint=tiny_backbone).predict(
        sorted(pictures.rglob("*.png")), reject=True
    )
    assert 0 < sum(row.rejected is False for row in rows) <= len(rows)


def test_a_pack_is_calibrated_on_pictures_that_it_has_not_seen(
    fitted_run: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    before = load_pack(fitted_run / "pack")
    assert before.info.rejection is None
    screen = io.StringIO()
    new = lpt.calibrate(
        fitted_run,
        pictures,
        tmp_path / "new",
        keep=0.9,
        checkpoint=tiny_backbone,
        console=Console(file=screen, width=1000),
    )
    tensors = "pack.safetensors"
    assert (tmp_path / "new" / tensors).read_bytes() == (fitted_run / "pack" / tensors).read_bytes()
    rejection, probabilities = new.info.rejection, new.info.probabilities
    assert rejection is not None
    assert (rejection.keep, rejection.images, rejection.fitted_on) == (0.9, 60, "60 labelled images")
    assert 0.9 <= rejection.kept.overall <= 0.95
    assert (probabilities.fitted_on, probabilities.classes) == ("60 labelled images", before.info.probabilities.classes)
    assert probabilities.temperature != before.info.probabilities.temperature
    measured = before.info.metrics["test"]
    assert new.info.metrics["test"] == measured | {"nll": None, "ece": None}  # those held for the former temperature
    assert f"Temperature: {probabilities.temperature:.4g} (1 before" in screen.getvalue()
    again = io.StringIO()
    console = Console(file=again, width=1000)
    lpt.calibrate(new.path, pictures, tmp_path / "again", checkpoint=tiny_backbone, console=console)
    assert f"({probabilities.temperature:.4g} before, fitted on 60 labelled images)" in again.getvalue()
    unchanged = {"rejection", "probabilities", "metrics"}
    assert new.info.model_dump(exclude=unchanged) == before.info.model_dump(exclude=unchanged)
    files = sorted(pictures.rglob("*.png"))
    rows = lpt.load_predictor(new, checkpoint=tiny_backbone).predict(files, reject=True)
    assert sum(not row.rejected for row in rows) / len(rows) == pytest.approx(rejection.kept.overall)


def test_what_cannot_calibrate_is_refused_and_leaves_nothing(
    fitted_run: Path, photo_folder: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    few = write_pictures(tmp_path / "few", seed=3, each=4)
    (tmp_path / "there").mkdir()
    cases: tuple[tuple[Path, str, float, type[LptError], str], ...] = (
        (photo_folder / "train", "new", 0.95, DataError, "was trained on some of these images"),
        (few, "new", 0.95, DataError, "there are 12 images of the pack's classes; at least 50"),
        (pictures, "there", 0.95, RunError, "is there already"),
        (pictures, "new", 95, ConfigError, "a share from 0.5 to below 1"),
    )
    for data, name, keep, kind, message in cases:
        with pytest.raises(kind, match=message):
            lpt.calibrate(fitted_run, data, tmp_path / name, keep=keep, checkpoint=tiny_backbone)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
