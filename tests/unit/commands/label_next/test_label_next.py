"""`lpt label-next`: which files it looks at, what it writes, and what it leaves alone."""

from __future__ import annotations

import base64
import csv
import io
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

import lpt
from lpt.cli.app import Program
from lpt.cli.label_next import label_next as label_next_command
from lpt.commands.label_next.label_next import label_next as choose
from lpt.commands.label_next.look import look_at
from lpt.commands.label_next.table import COLUMNS
from lpt.errors import ConfigError, DataError, RunError
from lpt.evaluation.acquisition import Suggestion
from lpt.model.head import CosineHead
from pack_kinds import new_pack
from small_packs import edit, new_model, write


@pytest.fixture(scope="module")
def pack(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack of the classes adder (120 training images), björn (40) and crane (1)."""
    return write(tmp_path_factory.mktemp("packs") / "zoo", new_model(tiny_backbone))


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """Twelve pictures in a folder and one in it, of which two are the same; one is no picture inside."""
    folder = tmp_path / "pool"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(3)
    for number in range(12):
        pixels = random.integers(0, 255, (4 + number, 6, 3)).astype(np.uint8)
        place = folder / "more" if number % 2 else folder
        Image.fromarray(pixels).resize((60, 40)).save(place / f"{number:02}.png")
    shutil.copy(folder / "00.png", folder / "again.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff not a picture")
    return folder


program = typer.Typer(cls=Program)  # the command is not part of `lpt` before its gain is measured
program.command("label-next")(label_next_command)
program.callback()(lambda: None)


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(program, ["label-next", *map(str, arguments)])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join(result.output.split())


def label_next(pack: Path, images: object, output: Path, checkpoint: Path, **options: object) -> list[Suggestion]:
    return choose(pack, images, output, checkpoint=checkpoint, device="cpu", **options)  # type: ignore[arg-type]


def test_the_list_and_the_sheet(pack: Path, pool: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "next.csv"
    code, text = command(pack, pool, "--n", 5, "-o", output, "--checkpoint", tiny_backbone, "--device", "cpu")
    assert code == 0, text
    assert "Left out: 1 of 14 pictures that cannot be read" in text
    assert "broken.jpg" in text
    rows = list(csv.DictReader(io.StringIO(output.read_text(encoding="utf-8"))))
    assert tuple(rows[0]) == COLUMNS
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert all(Path(row["image"]).is_file() for row in rows)
    assert not {"00.png", "again.png"} <= {Path(row["image"]).name for row in rows}
    predicted = lpt.load_predictor(pack, checkpoint=tiny_backbone, device="cpu").predict([row["image"] for row in rows])
    for row, each in zip(rows, predicted, strict=True):
        assert (row["guess"], row["second_guess"]) == each.classes[:2]
        assert float(row["probability"]) == pytest.approx(each.probability, abs=2e-4)
        crane = each.probabilities[each.classes.index("crane")]
        assert float(row["rare_mass"]) == pytest.approx(crane, abs=2e-4)
    page = output.with_suffix(".html").read_text(encoding="utf-8")
    thumbnails = re.findall(r"data:image/webp;base64,([^\"]+)", page)
    assert len(thumbnails) == 5
    sizes = {Image.open(io.BytesIO(base64.b64decode(data))).size for data in thumbnails}
    assert sizes == {(60, 40)}
    assert not re.search(r"(?:src|href)=\"(?!data:)", page)
    assert all(row["image"] in page for row in rows)


def test_labelled_pictures_are_left_out(pack: Path, pool: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """By their file, however it is spelled; a picture that is listed twice, or is the same as another, counts once."""
    shutil.copy(pool / "more" / "05.png", pool / "twin.png")
    os.symlink(pool / "02.png", tmp_path / "link.png")  # noqa: PTH211
    table = tmp_path / "labels.csv"
    table.write_text("image,label\npool/more/01.png,adder\npool/00.png,crane\n", encoding="utf-8")
    images = [pool, pool / "more", pool / "04.png"]
    chosen = label_next(
        pack, images, tmp_path / "n.csv", tiny_backbone, n=99, labelled=[table, tmp_path / "link.png"], sheet=False
    )
    names = [Path(each.image).name for each in chosen]
    assert len(names) == len({*names})
    twins = {"05.png", "twin.png"} & {*names}
    assert len(twins) == 1
    assert {*names} - twins == {*(f"{number:02}.png" for number in range(3, 12)), "again.png"} - {"05.png"}
    assert not (tmp_path / "n.html").exists()
    with pytest.raises(DataError, match="all are labelled already"):
        label_next(pack, pool / "00.png", tmp_path / "m.csv", tiny_backbone, labelled=table)
    assert not (tmp_path / "m.csv").exists()


@pytest.mark.parametrize("name", ["n.csv", "n.html"])
def test_foreign_files_stay(name: str, pack: Path, pool: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """A file of the user is refused before any picture is read; an earlier list and sheet are replaced."""
    (tmp_path / name).write_text("image,label\nmine.png,cat\n", encoding="utf-8")
    with pytest.raises(RunError, match=f"{name} is there, and is not"):
        label_next(pack, tmp_path / "nothing here", tmp_path / "n.csv", tiny_backbone)
    assert (tmp_path / name).read_text(encoding="utf-8") == "image,label\nmine.png,cat\n"
    assert {path.name for path in tmp_path.iterdir()} == {name, "pool"}
    (tmp_path / name).unlink()
    for number in (2, 1):
        label_next(pack, pool, tmp_path / "n.csv", tiny_backbone, n=number)
        assert (tmp_path / "n.csv").read_text(encoding="utf-8").count("\n") == number + 1
        assert (tmp_path / "n.html").read_text(encoding="utf-8").count("<figure>") == number


def test_what_cannot_be_used_is_said(pack: Path, pool: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    output = tmp_path / "n.csv"
    for error, images, options in (
        (ConfigError, pool, {"n": 0}),
        (ConfigError, pool, {"bad_images": "ignore"}),
        (DataError, pool / "broken.jpg", {}),
        (DataError, pool, {"bad_images": "stop"}),
        (DataError, tmp_path / "missing", {}),
    ):
        with pytest.raises(error):
            label_next(pack, images, output, tiny_backbone, **options)
    with pytest.raises(ConfigError, match=r"must be \.csv"):
        label_next(pack, pool, tmp_path / "n.txt", tiny_backbone)
    assert {path.name for path in tmp_path.iterdir()} == {"pool"}


def test_a_stop_half_way_leaves_no_file(
    pack: Path, pool: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while the pack looks at the second batch."""

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    class Bar:
        def __enter__(self) -> object:
            return stop

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr("lpt.commands.label_next.label_next.image_bar", lambda *arguments: Bar())
    code, text = command(pack, pool, "-o", tmp_path / "n.csv", "--checkpoint", tiny_backbone, "--device", "cpu")
    assert (code, "interrupted; no half-written file is left" in text) == (130, True)
    assert {path.name for path in tmp_path.iterdir()} == {"pool"}


@pytest.mark.parametrize(
    ("sizes", "phases", "views"),
    [
        ({"prompt_length": 2, "shared_blocks": 1, "pool_size": 4, "top_k": 2}, [1, 2], 1),
        ({"prompt_length": 2, "shared_blocks": 1, "pool_size": 4, "top_k": 2}, [1], 5),
        ({"prompts": "none", "head": "linear"}, [], 1),
    ],
    ids=["grouped", "shared, several views", "linear probe"],
)
def test_features_are_what_the_head_sees(
    sizes: dict[str, Any], phases: list[int], views: int, tiny_backbone: Path, tmp_path: Path
) -> None:
    """Applied to a single view, the head gives the scores of the predictor again; all vectors have unit length."""
    backbone = lpt.load_backbone("tiny", checkpoint=tiny_backbone)
    pack = new_pack(tmp_path / "pack", backbone, 0, sizes, phases, {"test_views": views})
    if not phases:  # probabilities for the class frequencies of training, which the guesses must not count twice
        edit(pack, lambda values: values["probabilities"].update(classes="training"))
    predictor = lpt.load_predictor(pack, checkpoint=tiny_backbone, device="cpu")
    random = np.random.default_rng(5)
    pictures = [Image.fromarray(random.integers(0, 255, (50, 40, 3)).astype(np.uint8)) for _ in range(5)]
    named = ((Path(str(number)), picture) for number, picture in enumerate(pictures))
    done: list[int] = []
    looks = look_at(predictor, named, batch_size=2, bad=None, show_done=done.append)
    assert done == [2, 4, 5]
    np.testing.assert_allclose(np.linalg.norm(looks.features, axis=1), 1, atol=1e-5)
    expected = predictor.predict(pictures, top_k=3, prior=dict.fromkeys(predictor.pack().info.class_names, 1))
    for row, each in enumerate(expected):
        assert tuple(predictor.pack().info.class_names[c] for c in looks.guesses.classes[row]) == each.classes
        np.testing.assert_allclose(looks.guesses.shares[row], each.probabilities, atol=1e-5)
    head = predictor.model().model.head
    if isinstance(head, CosineHead) and views == 1:
        cosines = head(torch.from_numpy(looks.features)).numpy()
        assert (cosines.argmax(axis=1) == looks.guesses.classes[:, 0]).all()
    assert not head._forward_pre_hooks
