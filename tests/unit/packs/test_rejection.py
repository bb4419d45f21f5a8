"""Images that show none of the classes: by the pack's threshold, and by nothing else."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import lpt
from lpt.commands.predict.predict import predict_files
from lpt.commands.predict.request import PredictRequest
from lpt.data.longtail import ShotGroups
from lpt.errors import ConfigError, PackError, RunError, command_line
from lpt.model import LPT
from lpt.packs.pack import load_pack
from lpt.packs.rejection import LEAST_IMAGES, fit_rejection
from small_packs import NAMES, edit, give_threshold
from small_server import encoded


@pytest.fixture
def images() -> list[bytes]:
    return [encoded(seed=seed) for seed in range(6)]


@pytest.fixture
def largest(folder: Path, tiny_backbone: Path, images: list[bytes]) -> np.ndarray:
    """The largest cosine of each image."""
    predictor = lpt.load_predictor(folder, checkpoint=tiny_backbone, device="cpu")
    outputs = predictor.run([predictor.prepare(image) for image in images])
    return np.array([output.scores.max() for output in outputs], dtype=np.float64)


def set_temperature(folder: Path, temperature: float) -> None:
    edit(folder, lambda values: values["probabilities"].update(temperature=temperature))


def test_an_image_below_the_threshold_is_rejected_whatever_prior_and_temperature(
    folder: Path, tiny_backbone: Path, images: list[bytes], largest: np.ndarray
) -> None:
    threshold = float(np.median(largest))
    give_threshold(folder, threshold)
    expected = (largest < threshold).tolist()
    assert True in expected
    assert False in expected
    prior = dict(zip(NAMES, (0.0, 0.01, 0.99), strict=True))
    for temperature in (0.01, 1.5):
        set_temperature(folder, temperature)
        predictor = lpt.load_predictor(folder, checkpoint=tiny_backbone, device="cpu")
        cases: list[dict[str, Any]] = [{}, {"prior": prior}, {"batch_size": 1}]
        for options in cases:
            rows = predictor.predict(images, reject=True, **options)
            assert [row.rejected for row in rows] == expected
            assert [row.known_score for row in rows] == pytest.approx((largest - threshold).tolist(), abs=1e-6)
            assert all(len(row.classes) == 3 for row in rows)
    plain = predictor.predict(images)
    assert {(row.rejected, row.known_score) for row in plain} == {(None, None)}


def test_a_pack_without_threshold_says_how_it_gets_one(folder: Path, tiny_backbone: Path, images: list[bytes]) -> None:
    predictor = lpt.load_predictor(folder, checkpoint=tiny_backbone, device="cpu")
    cases: list[dict[str, Any]] = [{}, {"pack": [predictor.pack_names[0]] * len(images)}]
    for options in cases:
        with pytest.raises(ConfigError) as error:
            predictor.predict(images, reject=True, **options)
        assert "lpt calibrate PACK DATA" in str(error.value)
    with command_line(), pytest.raises(ConfigError, match=r"--reject: the pack .* has no threshold.*--val 0\.1"):
        predictor.predict(images, reject=True)


@pytest.mark.parametrize("change", [{"keep": 1.0}, {"threshold": float("nan")}, {"images": 0}, {"other": 1}])
def test_a_damaged_threshold_is_refused(folder: Path, change: dict[str, float]) -> None:
    give_threshold(folder, 0.2)
    edit(folder, lambda values: values["rejection"].update(change))
    with pytest.raises(PackError, match=r"pack\.json is damaged: .*(rejection|NaN)"):
        load_pack(folder)


def test_a_threshold_keeps_its_share_of_the_images_it_was_fitted_on() -> None:
    scores = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    labels = np.arange(200) % 4
    counts, groups = [200, 150, 50, 5], ShotGroups()
    fitted = fit_rejection(scores, labels, train_counts=counts, groups=groups, fitted_on="200 images", keep=0.9)
    assert fitted is not None
    kept = scores.max(axis=1).astype(np.float64) >= fitted.threshold
    assert (kept.sum(), fitted.kept.overall) == (180, 0.9)
    assert fitted.kept.few == pytest.approx(kept[labels == 3].mean())
    assert fitted.kept.many == pytest.approx((kept[labels == 0].mean() + kept[labels == 1].mean()) / 2)
    few = LEAST_IMAGES - 1
    assert fit_rejection(scores[:few], labels[:few], train_counts=counts, groups=groups, fitted_on="few") is None


def test_tables_have_the_decision_only_where_it_is_asked_for(
    folder: Path, model: LPT, tiny_backbone: Path, images: list[bytes], largest: np.ndarray, tmp_path: Path
) -> None:
    """CSV and JSON lines say it; a table with these columns is replaced by the next one, another file is not."""
    del model
    threshold = float(np.median(largest))
    give_threshold(folder, threshold)
    for number, image in enumerate(images):
        (tmp_path / f"{number}.png").write_bytes(image)
    files = tuple(sorted(tmp_path.glob("*.png")))

    def predict(name: str, **options: Any) -> list[str]:
        request = PredictRequest(folder, files, tmp_path / name, checkpoint=tiny_backbone, device="cpu", **options)
        predict_files(request, progress=Console(file=io.StringIO()))
        return (tmp_path / name).read_text(encoding="utf-8").splitlines()

    rejected = (largest < threshold).tolist()
    for _ in range(2):  # the second replaces the first
        rows = [line.split(",") for line in predict("table.csv", reject=True)]
    assert rows[0][-2:] == ["rejected", "known_score"]
    assert [row[-2] for row in rows[1:]] == [str(flag).lower() for flag in rejected]
    assert [float(row[-1]) for row in rows[1:]] == pytest.approx((largest - threshold).tolist(), abs=2e-6)
    assert "rejected" not in predict("table.csv")[0]
    for _ in range(2):
        lines = [json.loads(line) for line in predict("table.jsonl", reject=True)]
    assert [line["rejected"] for line in lines] == rejected
    assert list(json.loads(predict("table.jsonl")[0])) == ["image", "classes", "groups"]
    (tmp_path / "notes.csv").write_text("image,class_1,probability_1,rejected\n", encoding="utf-8")
    with pytest.raises(RunError, match="is not a table that lpt predict wrote"):
        predict("notes.csv", reject=True)
