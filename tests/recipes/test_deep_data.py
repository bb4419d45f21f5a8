"""A data set of 16-bit images that use part of their range, from `lpt doctor` to `lpt predict`."""

from __future__ import annotations

import csv
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

import lpt
from lpt.commands.fit.fit import FitResult
from lpt.commands.predict.predict import predict_files
from lpt.commands.predict.request import PredictRequest
from picture_files import png16
from samples import tiny_settings

LARGEST = 900


@pytest.fixture(scope="module")
def deep_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("deep")
    rng = np.random.default_rng(0)
    for split, number in (("train", 6), ("test", 3)):
        for label, name in enumerate(("dark", "light")):
            (root / split / name).mkdir(parents=True)
            for image in range(number):
                values = rng.integers(450 * label, 450 + 450 * label, (40, 40))
                values[0, 0] = LARGEST if split == "train" and label else values[0, 0]
                (root / split / name / f"{image}.png").write_bytes(png16(values.astype(np.uint16), 0))
    return root


def fitted(folder: Path, output: Path, backbone: Path, white: object) -> tuple[FitResult, str]:
    screen = StringIO()
    settings = tiny_settings(backbone) | {"image.white": white}
    console = Console(file=screen, width=500)
    result = lpt.fit(folder, output, preset="laptop", settings=settings, console=console)
    return result, screen.getvalue()


def test_fit_and_doctor_warn_with_counts(deep_folder: Path, tmp_path: Path, tiny_backbone: Path) -> None:
    warned = "18 of the 18 images of more than 8 bits use part of their range"
    assert any(warned in finding.what for finding in lpt.doctor(deep_folder).findings)
    result, screen = fitted(deep_folder, tmp_path / "run", tiny_backbone, None)
    assert warned in screen
    assert result.pack is not None
    assert result.pack.info.preprocessing.white is None


def test_auto_takes_the_largest_training_value_and_everything_uses_it(
    deep_folder: Path, tmp_path: Path, tiny_backbone: Path
) -> None:
    result, screen = fitted(deep_folder, tmp_path / "run", tiny_backbone, "auto")
    assert "use part of their range" not in screen
    assert "white 900.0: the largest value of 12 training images of more than 8 bits" in screen
    pack = lpt.load_pack(tmp_path / "run")
    assert pack.info.preprocessing.white == LARGEST
    assert "white: 900.0" in (tmp_path / "run" / "config.yaml").read_text(encoding="utf-8")

    measured = lpt.evaluate(tmp_path / "run", deep_folder, checkpoint=tiny_backbone, device="cpu")
    assert measured.metrics.overall == pytest.approx(result.metrics["test"].overall)

    predictor = lpt.load_predictor(pack, checkpoint=tiny_backbone, device="cpu", precision="fp32")
    files = sorted((deep_folder / "test").rglob("*.png"))
    as_8bit = [Image.fromarray(scaled(path)).convert("RGB") for path in files]
    expected = [prediction.probabilities for prediction in predictor.predict(as_8bit)]
    for given in (files, [Image.open(path) for path in files]):
        assert np.allclose([prediction.probabilities for prediction in predictor.predict(given)], expected)

    table = tmp_path / "rows.csv"
    request = PredictRequest(
        tmp_path / "run", (deep_folder / "test",), output=table, checkpoint=tiny_backbone, device="cpu"
    )
    predict_files(request, progress=Console(quiet=True))
    with table.open(encoding="utf-8", newline="") as file:
        rows = [float(row["probability_1"]) for row in csv.DictReader(file)]
    assert np.allclose(rows, [best for best, *_ in expected], atol=0.05)  # bfloat16 where the machine is fast at it


def scaled(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.round(np.clip(np.asarray(image) / LARGEST, 0, 1) * 255).astype(np.uint8)
