"""The validation images of a run are opened again as it cut them, for `lpt extend --known` and `lpt calibrate`."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.extend.request import ExtendRequest, open_task
from lpt.data.sources.raw import SplitName
from lpt.errors import ConfigError, DataError
from samples import tiny_settings

CLASSES = ("dark", "grey", "light")


def draw(root: Path, names: tuple[str, ...], each: int) -> Path:
    """Write noisy pictures of uneven brightness, all different."""
    random = np.random.default_rng(each)
    for label, name in enumerate(names):
        (root / name).mkdir(parents=True)
        for number in range(each):
            pixels = random.integers(0, 200, (16, 16 + number, 3)) + 25 * label
            Image.fromarray(pixels.astype(np.uint8)).save(root / name / f"{name}-{number}.png")
    return root


@pytest.fixture(scope="module")
def made(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pictures, and a run that held 17 of 42 of each class out, by a seed that is not the default."""
    root = tmp_path_factory.mktemp("made")
    data = draw(root / "data", CLASSES, 42)
    settings = tiny_settings(tiny_backbone, epoch_steps=1, epochs=(1, 1))
    settings |= {"data.validation": "0.41", "runtime.seed": 7}
    return data, lpt.fit(data, root / "run", preset="laptop", settings=settings).folder


@pytest.fixture
def run(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "photos"))


def known_names(run: Path, new: Path, split: SplitName = "validation") -> set[str]:
    known = open_task(ExtendRequest(run, str(new), Path("never"), known=str(run), known_split=split)).known
    assert known is not None
    return {known.name(index) for index in range(len(known))}


def test_they_are_those_of_the_run_and_none_it_was_trained_on(
    made: tuple[Path, Path], run: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """Exactly the images that the run measured at its end; calibrated on them, the pack keeps its threshold."""
    data, new = made[0], draw(tmp_path / "new", ("bright",), 3)
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as lines:
        held = {row["image"] for row in csv.DictReader(lines)}
    trained = {str(file) for file in data.rglob("*.png")} - held
    assert (len(held), len(trained)) == (51, 75)
    assert known_names(run, new) == held

    options = ["--checkpoint", str(tiny_backbone), "--device", "cpu"]
    arguments = ["extend", str(run), str(new), "--known", str(run), "--output", str(tmp_path / "more"), *options]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "its 51 validation images, which it was not trained on" in " ".join(result.output.split())
    assert "The pack was trained on" not in result.output
    assert lpt.load_pack(tmp_path / "more").info.added_classes == 1

    former = lpt.load_pack(run).info
    new_pack = lpt.calibrate(run, run, tmp_path / "calibrated", checkpoint=tiny_backbone, device="cpu")
    assert former.rejection is not None
    assert new_pack.info.rejection is not None
    assert new_pack.info.rejection.threshold == pytest.approx(former.rejection.threshold, abs=1e-5)
    assert new_pack.info.rejection.images == 51


def test_images_that_changed_are_refused(made: tuple[Path, Path], run: Path, tmp_path: Path) -> None:
    """An image added to the folder changes the cut: some held out then were trained on now, and the reverse."""
    data, new = Path(shutil.copytree(made[0], tmp_path / "moved")), draw(tmp_path / "new", ("bright",), 1)
    elsewhere = Path(shutil.move(made[0], tmp_path / "away"))
    try:
        with pytest.raises(DataError, match=r"cannot be opened again as its config.yaml says: there is no file"):
            known_names(run, new)
        shutil.copytree(data, made[0])
        assert len(known_names(run, new)) == 51  # a copy of that state
        shutil.copy(made[0] / "dark" / "dark-0.png", made[0] / "dark" / "a-new-one.png")
        with pytest.raises(DataError, match=r"are not those of its training any more.*Next: put them back"):
            known_names(run, new)
    finally:
        shutil.rmtree(made[0], ignore_errors=True)
        shutil.move(elsewhere, made[0])


def test_what_a_run_cannot_give_is_said(fitted_run: Path, run: Path, tmp_path: Path) -> None:
    new = draw(tmp_path / "new", ("bright",), 1)
    with pytest.raises(DataError, match=r"photos has no validation images.* held out: data.validation: 0\.1"):
        known_names(fitted_run, new)
    with pytest.raises(ConfigError, match="known_split train: of a run only its validation images"):
        known_names(run, new, "train")
