"""Names in two Unicode forms: what a Mac writes, and what others write."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from PIL import Image

from lpt.commands.prior import _read_shares
from lpt.config.schema import DataConfig
from lpt.data.sources import open_images, open_splits

NFC = [unicodedata.normalize("NFC", name) for name in ("Café", "Übung")]
NFD = [unicodedata.normalize("NFD", name) for name in NFC]


def images(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / name, "PNG")
    return root


def test_splits_in_two_forms_share_their_classes(tmp_path: Path) -> None:
    root = images(
        tmp_path, *(f"train/{name}/1.png" for name in ("pear", *NFC)), *(f"test/{name}/1.png" for name in NFD)
    )
    splits = open_splits(DataConfig(source=str(root)), seed=0)
    assert splits.class_names == (NFC[0], "pear", NFC[1])
    assert splits.test is not None
    assert splits.test.labels.tolist() == [0, 2]
    assert "2 classes written in two Unicode forms" in "\n".join(splits.notes)
    opened = open_images(str(root), DataConfig(), tuple(NFD))
    assert (opened.images.class_names, opened.images.labels.tolist()) == (tuple(NFD), [0, 1])


def test_one_form_alone_stays_as_it_is(tmp_path: Path) -> None:
    root = images(tmp_path, *(f"{name}/1.png" for name in NFD))
    splits = open_splits(DataConfig(source=str(root)), seed=0)
    assert (splits.class_names, list(splits.notes)) == (tuple(sorted(NFD)), [])


def test_two_folders_of_one_class(tmp_path: Path) -> None:
    root = images(tmp_path, f"{NFC[0]}/1.png", f"{NFD[0]}/1.png", f"{NFD[0]}/2.png", "x/1.png")
    splits = open_splits(DataConfig(source=str(root)), seed=0)
    assert splits.class_names == (NFC[0], "x")
    assert splits.train.class_counts.tolist() == [3, 1]


def test_files_are_found_under_the_other_form(tmp_path: Path) -> None:
    root = images(tmp_path, f"{NFD[0]}/{NFD[1]}.png", f"{NFC[1]}/a.png", "a.png")
    (root / "t.csv").write_text(
        f"image,label\na.png,x\n{NFC[0]}/{NFC[1]}.png,{NFD[0]}\n{root}/{NFD[1]}/a.png,{NFC[0]}\n", encoding="utf-8"
    )
    splits = open_splits(DataConfig(source=str(root / "t.csv")), seed=0)
    assert splits.class_names == (NFC[0], "x")
    assert [splits.train.read(index).size for index in range(3)] == [(4, 4)] * 3
    assert [Path(splits.train.name(index)) for index in range(3)] == [
        root / "a.png", root / NFD[0] / f"{NFD[1]}.png", root / NFC[1] / "a.png"
    ]  # fmt: skip
    assert "2 of 3 paths are read as files of the same name in another case or form" in "\n".join(splits.notes)


def test_a_prior_in_the_other_form(tmp_path: Path) -> None:
    (tmp_path / "prior.csv").write_text(f"class,share\n{NFD[0]},2\nx,1\n", encoding="utf-8")
    assert _read_shares(tmp_path / "prior.csv", [NFC[0], "x"]) == {NFC[0]: 2.0, "x": 1.0}
