"""Data in the forms people have it, with what they get wrong."""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lpt.commands.compare.plan import with_test_images
from lpt.commands.fit.prepare import with_absolute_paths
from lpt.config.schema import DataConfig, RunConfig
from lpt.data.manifest import LabelledImages, Splits
from lpt.data.scan import check_images, missing_files
from lpt.data.sources import open_images, open_splits
from lpt.data.sources.huggingface import parse_spec
from lpt.data.sources.raw import encode_labels
from lpt.errors import DataError

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes images of one colour each, at these paths under `tmp_path`, and returns that folder."""

    def made(*names: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number, 0, 0)).save(path, "PNG")
        return tmp_path

    return made


def opened(source: Path | str, **settings: Any) -> Splits:
    return open_splits(DataConfig(source=str(source), **settings), seed=0)


def refusal(source: Path | str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        opened(source, **settings)
    return str(caught.value)


# --- folders


def test_class_folders_with_what_else_lies_about(make: Make) -> None:
    root = make("data/cat/1.JPG", "data/cat/2.png", "data/Owl é/b c.webp", "data/.git/x.png", "data/cat/.hidden.png")
    (root / "data" / "cat" / "notes.txt").write_text("x")
    (root / "data" / "newt").mkdir()
    make("data/cat/deeper/3.png", "data/loose.png")
    splits = opened(root / "data")
    assert splits.class_names == ("Owl é", "cat", "newt")
    assert splits.train.labels.tolist() == [0, 1, 1, 1]
    assert Path(splits.train.name(1)).name == "1.JPG"
    assert splits.counts_before_cut.tolist() == [1, 3, 0]
    assert (splits.validation, splits.test) == (None, None)
    notes = "\n".join(splits.notes)
    assert "1 file without the ending of an image" in notes
    assert "1 .txt" in notes
    assert "1 of the 4 images" in notes
    assert "folders inside of class folders (cat/deeper)" in notes
    assert "1 hidden file or folder (cat/.hidden.png)" in notes or "2 hidden files or folders" in notes
    assert "without an image, kept as classes: newt" in notes
    assert "1 image directly in it" in notes


def test_a_share_is_held_out_for_testing(photo_folder: Path) -> None:
    """The same images for every seed and for `lpt compare`; groups go by the counts before; the rest is cut after."""
    source = str(photo_folder / "train")
    splits = opened(source, test=0.25)
    assert splits.test is not None
    assert (len(splits.train), len(splits.test)) == (11, 3)  # of 8, 4 and 2
    assert splits.test.class_counts.tolist() == [2, 1, 0]
    assert splits.counts_before_cut is not None
    assert splits.counts_before_cut.tolist() == [8, 4, 2]
    assert splits.notes[-2] == "Held out for testing: 3 images, 25 % of each class."
    assert splits.notes[-1] == "Too small for that, not tested: 1 class: light."

    def names(images: LabelledImages | None) -> list[str]:
        assert images is not None
        return [images.name(index) for index in range(len(images))]

    compared = with_test_images(opened(source), 0.25)
    assert names(compared.test) == names(splits.test)
    assert names(compared.train) == names(splits.train)
    for seed in (1, 2):
        again = open_splits(DataConfig(source=source, test="25%", validation=0.4), seed=seed)
        assert names(again.test) == names(splits.test)
        parts = [*names(again.train), *names(again.validation), *names(again.test)]
        assert sorted(parts) == sorted([*names(splits.train), *names(splits.test)])
    assert "test split of" in opened(str(photo_folder), test=0.5).notes[0]
    assert "too small to hold 1 % of it out" in refusal(Path(source), test=0.01)


@pytest.mark.parametrize("val", ["val", "valid", "validation"])
def test_split_folders(make: Make, val: str) -> None:
    root = make(
        "d/train/a/1.png", "d/train/b/2.png", f"d/{val}/b/3.png", "d/test/a/4.png", "d/test/c/5.png", "d/x/6.png"
    )
    splits = opened(root / "d")
    assert splits.class_names == ("a", "b", "c")
    assert splits.validation is not None
    assert splits.validation.labels.tolist() == [1]
    assert splits.test is not None
    assert splits.test.labels.tolist() == [0, 2]
    assert splits.counts_before_cut.tolist() == [1, 1, 0]
    notes = "\n".join(splits.notes)
    assert "1 class with test images but none for training: c" in notes
    assert "since they are not splits" in notes


def test_splits_that_cannot_be_used_do_not_stop_the_others(make: Make) -> None:
    """A test folder without labels and an empty one are notes, and errors where they are asked for."""
    root = make("d/train/a/1.png", "d/train/b/2.png", "d/test/3.png", "d/test/4.png", "d/5.png", "d/train/6.png")
    (root / "d" / "val").mkdir()
    splits = opened(root / "d")
    assert (len(splits.train), splits.validation, splits.test) == (2, None, None)
    notes = "\n".join(splits.notes)
    assert f"Not used as the test split: {root / 'd' / 'test'} has no class folders (2 images" in notes
    assert f"Not used as the validation split: {root / 'd' / 'val'} has no class folders (0 images" in notes
    for folder in ("d", "d/train"):
        assert f"Left out of {root / folder}: 1 image directly in it" in notes
    for asked in ({"test": str(root / "d")}, {"validation": str(root / "d")}):  # train must not be taken in its place
        assert "has no class folders" in refusal(root / "d", **asked)
    make("d/valid/a/7.png")
    assert opened(root / "d").validation is not None


def test_a_split_that_is_not_there_is_refused_with_the_option_that_names_it(make: Make) -> None:
    source = make("d/train/a/1.png", "d/test/a/2.png") / "d"
    with pytest.raises(DataError) as caught:
        open_images(str(source), DataConfig(), split="validation", split_option="--split")
    assert caught.value.message == (
        f"--split validation: {source} has no validation split; its splits are: train, test. "
        "Next: --split train or --split test."
    )
    assert "Next: give the folder or the list of the right images alone" in refusal(source, validation=str(source))


def test_a_class_may_be_called_train(make: Make) -> None:
    root = make("d/train/1.png", "d/plane/2.png", "d/test/3.png")
    assert opened(root / "d").class_names == ("plane", "test", "train")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["d/1.png", "d/2.png"], "no class folders (2 images lie in it directly)"),
        (["d/plants/rose/1.png", "d/plants/iris/2.png"], "hold folders, not images (plants/"),
        (["d/train/a/1.png", "d/training/a/2.png"], "two folders for the train split"),
    ],
)
def test_folders_that_are_no_data_set(make: Make, files: list[str], message: str) -> None:
    assert message in refusal(make(*files) / "d")


def test_folders_without_an_image(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x.mp4").write_text("")
    assert "1 .mp4" in refusal(tmp_path)
    (tmp_path / "train.parquet").write_text("")
    assert f"write hf:{tmp_path}" in refusal(tmp_path)


# --- tables


def test_csv_with_bom_quotes_and_a_split_column(make: Make) -> None:
    root = make("img/a, b.png", 'img/"c".png', "img/d.png", "img/e.png")
    text = 'Split,File Name,LABEL\r\ntrain,"img/a, b.png",ünder\r\nTRAIN,"img/""c"".png",cat\r\n'
    (root / "t.csv").write_bytes(("\ufeff" + text + "val,img/d.png,cat\r\n\r\ntest,img/e.png,cat\r\n").encode())
    splits = opened(root / "t.csv")
    assert splits.class_names == ("cat", "ünder")
    assert splits.train.labels.tolist() == [1, 0]
    assert splits.train.read(1).getpixel((0, 0)) == (1, 0, 0)
    assert splits.validation is not None
    assert splits.validation.read(0).getpixel((0, 0)) == (2, 0, 0)
    assert splits.test is not None
    assert splits.test.read(0).getpixel((0, 0)) == (3, 0, 0)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.tsv", "path\tclass\na.png\tx\nb.png\ty\n"),
        ("t.csv", "path;class\na.png;x\nb.png;y\n"),
        ("t.csv", "a.png,x\nb.png,y\n"),
        ("t.csv", "x,a.png\ny,b.png\n"),
        ("t.jsonl", '{"image": "a.png", "label": "x"}\n\n{"label": "y", "image": "b.png", "more": 1}\n'),
    ],
)
def test_forms_of_tables(make: Make, name: str, text: str) -> None:
    root = make("a.png", "b.png")
    (root / name).write_text(text)
    splits = opened(root / name)
    assert (splits.class_names, splits.train.labels.tolist(), splits.notes) == (("x", "y"), [0, 1], ())
    assert splits.train.read(1).getpixel((0, 0)) == (1, 0, 0)


def test_utf_16_as_spreadsheets_write_it(make: Make) -> None:
    root = make("é.png")
    (root / "t.csv").write_bytes("file\tlabel\né.png\tx\n".encode("utf-16"))
    assert opened(root / "t.csv").train.read(0).size == (4, 4)


def test_integer_labels_keep_their_values_and_empty_classes(make: Make) -> None:
    root = make("a.png", "b.png", "c.png")
    (root / "t.jsonl").write_text(
        "\n".join(json.dumps({"image": f, "label": y}) for f, y in [("a.png", 4), ("b.png", 2)])
    )
    (root / "test.csv").write_text("image,label\nc.png,5\nc.png,2\n")
    splits = opened(root / "t.jsonl", test=str(root / "test.csv"))
    assert splits.class_names == tuple(str(label) for label in range(6))
    assert splits.train.labels.tolist() == [4, 2]
    assert splits.test is not None
    assert splits.test.labels.tolist() == [5, 2]
    assert splits.counts_before_cut.tolist() == [0, 0, 1, 0, 1, 0]


def test_integers_that_are_no_indices_are_names_in_numeric_order(make: Make) -> None:
    root = make("a.png", "b.png")
    (root / "t.csv").write_text("image,label\na.png,47219\nb.png,9999\n")
    splits = opened(root / "t.csv")
    assert (splits.class_names, splits.train.labels.tolist()) == (("9999", "47219"), [1, 0])
    assert "taken for names" in splits.notes[0]
    (root / "t.csv").write_text("image,label\na.png,1\nb.png,-1\n")
    assert opened(root / "t.csv").class_names == ("-1", "1")


def test_what_counts_as_an_integer() -> None:
    assert encode_labels(["10", "9", "9"])[1:] == (("9", "10"), "indices")
    assert encode_labels(["10", "9", "-1"])[1:] == (("-1", "9", "10"), "names")
    for odd in ("01", "1.0", "٣", "x", "-0", "-", "+1"):
        assert encode_labels(["10", "9", odd])[2] == "names"
        assert encode_labels(["10", "9", odd])[1] == tuple(sorted(["10", "9", odd]))
    codes, names, _ = encode_labels(["b", "a", "b"])
    assert (codes.tolist(), names) == ([1, 0, 1], ("a", "b"))


def test_missing_columns_are_answered_with_those_there_are(make: Make) -> None:
    root = make("a.png")
    (root / "t.csv").write_text("photo,kind,size\na,x,3\n")
    assert "no column of images" in refusal(root / "t.csv")
    (root / "t.csv").write_text("photo,kind,size\na.png,x,3\n")
    assert "no column of labels" in refusal(root / "t.csv")
    assert "photo, kind, size" in refusal(root / "t.csv", image_column="photo")
    assert "no column 'knd'. Its columns are: photo" in refusal(
        root / "t.csv", image_column="photo", label_column="knd"
    )
    assert len(opened(root / "t.csv", image_column="photo", label_column="kind").train) == 1


def test_several_columns_that_would_do_are_said(make: Make) -> None:
    root = make("a.png")
    (root / "t.csv").write_text("path,category,label\na.png,x,y\n")
    splits = opened(root / "t.csv")
    assert splits.class_names == ("y",)
    assert "'category' would do too" in splits.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"image,label\na.png,x\ncaf\xe9.png,y\n", "line 3: byte 0xe9 is not UTF-8"),
        ("t.csv", b"image,label\na.png\n", "line 2: 1 fields where the header has 2"),
        ("t.csv", b"image,label\na.png,\n", "line 2: no usable label ('')"),
        ("t.csv", b"image,label,split\na.png,x,holdout\n", "line 2: split 'holdout' is none of train"),
        ("t.csv", b"image,label\n", "has a header but no rows"),
        ("t.csv", b" \n", "is empty"),
        ("t.csv", b"image,label\nhttps://x.org/a.png,x\n", "is a web address"),
        ("t.csv", b'image,label\na.png,"x\nb.png,y\nc.png,z\n', "line 2: not a readable row: unexpected end of data"),
        ("t.csv", b'image,label\na.png,x\n\nb.png,"y\nc.png,"z"\nd.png,z\n', "line 4: not a readable row: ','"),
        ("t.tsv", b'image\tlabel\na.png\t"x\nb.png\ty\nc.png\tz"\n', "line 2: a path or label of several lines"),
        ("t.jsonl", b'{"image": "a.png", "label": "x"}\n{oops\n', "line 2: not JSON"),
        ("t.jsonl", b'{"image": "a.png", "label": "x"}\n[1]\n', "line 2: list, not an object"),
        ("t.jsonl", b'{"image": "a.png", "label": "x"}\n{"image": "a.png"}\n', "line 2: no usable label (None)"),
        ("t.jsonl", b'{"image": "a.png", "label": true}\n', "line 1: no usable label (True)"),
        ("t.txt", b"a.png\n", "line 1: 'a.png' has no label"),
        ("t.txt", b"a.png 0\na.png cat\n", "line 2: the last field, 'cat', is not an integer"),
        ("t.xlsx", b"PK", "files ending in .xlsx are not understood"),
    ],
)
def test_faults_are_named_by_line(make: Make, name: str, content: bytes, message: str) -> None:
    root = make("a.png")
    (root / name).write_bytes(content)
    text = refusal(root / name)
    assert message in text
    assert str(root / name) in text


def test_records_need_not_begin_with_all_keys(make: Make) -> None:
    """A split that the first record lacks is no reason to train on the test images."""
    root = make("a.png", "b.png")
    records = [{"image": "a.png", "label": "x"}, {"image": "b.png", "label": "x", "split": "test"}]
    (root / "t.jsonl").write_text("\n".join(map(json.dumps, records)))
    assert "line 1: split None is none of train" in refusal(root / "t.jsonl")
    records[0]["split"] = "train"
    (root / "t.jsonl").write_text("\n".join(json.dumps(dict(reversed(record.items()))) for record in records))
    splits = opened(root / "t.jsonl")
    assert splits.test is not None
    assert (len(splits.train), Path(splits.test.name(0)).name) == (1, "b.png")


@pytest.mark.parametrize(
    ("header", "values", "trained", "note"),
    [
        ("subset", ["train", "TEST"], 1, None),
        ("partition", ["train", "test"], 1, None),
        (
            "subset",
            ["train", "night"],
            2,
            "column 'subset' is not taken for the split, since many of its values are none, as 'night'",
        ),
        ("subset,partition", ["day,train", "night,test"], 1, "column 'subset' is not taken"),
        ("subset,split", ["day,train", "night,test"], 1, None),
    ],
)
def test_columns_that_may_be_the_split(
    make: Make, header: str, values: list[str], trained: int, note: str | None
) -> None:
    """`split` is one whatever it holds, `subset` and `partition` by what they hold."""
    root = make("a.png", "b.png")
    (root / "t.csv").write_text(f"image,label,{header}\na.png,x,{values[0]}\nb.png,x,{values[1]}\n")
    splits = opened(root / "t.csv")
    assert len(splits.train) == trained
    assert len(splits.notes) == (note is not None)
    assert note is None or note in splits.notes[0]


def test_a_misspelt_split_does_not_train_on_test_images(make: Make) -> None:
    """A column of splits stays one: the row that holds something else is told."""
    root = make("a.png", "b.png", "c.png")
    (root / "t.csv").write_text("image,label,subset\na.png,x,train\nb.png,x,test\nc.png,x,tset\n")
    assert "line 4: split 'tset' is none" in refusal(root / "t.csv")


def test_a_coordinate_is_no_label(make: Make) -> None:
    root = make("a.png")
    (root / "t.csv").write_text("image,x,y,species\na.png,3,7,owl\n")
    assert opened(root / "t.csv").class_names == ("owl",)
    (root / "t.csv").write_text("image,y\na.png,owl\n")
    assert opened(root / "t.csv").class_names == ("owl",)


def test_many_faults_are_counted(make: Make) -> None:
    root = make("a.png")
    (root / "t.txt").write_text("a.png x\n" * 1000)
    assert "1,000 faulty lines" in refusal(root / "t.txt")
    assert len(refusal(root / "t.txt").splitlines()) < 10


# --- `path label` lists


def test_path_list_with_spaces_root_and_sibling_test_list(make: Make) -> None:
    root = make("images/my cat.png", "images/b.png")
    (root / "train.txt").write_text("my cat.png 0\r\n\r\nb.png\t3\r\n")
    (root / "test.txt").write_text("b.png 1\nb.png 3\n")
    splits = opened(root / "train.txt", test=str(root / "test.txt"), image_root=root / "images")
    assert splits.class_names == ("0", "1", "2", "3")
    assert splits.train.labels.tolist() == [0, 3]
    assert splits.test is not None
    assert splits.test.labels.tolist() == [1, 3]
    assert splits.train.read(0).getpixel((0, 0)) == (0, 0, 0)


def test_paths_from_the_working_directory_and_from_windows(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make("images/a.png", "lists/x")
    monkeypatch.chdir(root)
    (root / "lists" / "t.txt").write_text("images\\a.png 0\n")
    splits = opened(root / "lists" / "t.txt")
    assert splits.train.read(0).size == (4, 4)
    assert "working directory" in splits.notes[0]


def test_the_working_directory_of_a_run_is_saved_with_it(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a run on a list whose paths start from there can go on from anywhere."""
    root = make("images/a.png", "lists/x/a.png")
    (root / "lists" / "t.csv").write_text("image,label\nimages/a.png,0\n")
    (root / "lists" / "own.csv").write_text("image,label\nx/a.png,0\n")

    def saved(source: str, **data: Any) -> DataConfig:
        monkeypatch.chdir(root)
        config = RunConfig(data=DataConfig(source=source, **data))
        config = with_absolute_paths(config, open_splits(config.data, seed=0))
        monkeypatch.chdir(root / "images")
        return config.data

    config = saved("lists/t.csv", test="lists/t.csv")
    assert config.image_root == root
    again = open_splits(config, seed=0)
    assert (len(again.train), again.notes) == (1, ())
    for source, data in {
        "lists/own.csv": {},  # from the list's own folder
        "lists/t.csv": {"test": "lists/own.csv"},  # one folder does not do for both
        "lists": {},
    }.items():
        assert saved(source, **data).image_root is None
    assert saved("lists/own.csv", image_root="lists").image_root == root / "lists"


def test_a_wrong_image_root_is_said(make: Make) -> None:
    root = make("a.png")
    (root / "t.txt").write_text("a.png 0\n" + "".join(f"no{i}.png 1\n" for i in range(9)))
    message = refusal(root / "t.txt")
    assert "9 of its 10 images cannot be found" in message
    assert "and 4 more" in message
    assert "data.image_root" in message
    assert "is not a folder" in refusal(root / "t.txt", image_root=root / "nowhere")


# --- bad images


def test_bad_images_stop_or_are_skipped_and_recorded(make: Make) -> None:
    root = make("d/a/1.png", "d/a/2.png", "d/b/3.png", "d/b/4.png")
    (root / "d" / "a" / "2.png").write_bytes(b"")
    splits = opened(root / "d")
    assert [(index, reason) for index, _, reason in check_images(splits.train, 2)] == [(1, "it is empty (0 bytes)")]
    (root / "t.txt").write_text("d/a/1.png 0\nd/a/2.png 0\nd/b/no.png 1\nd/b/4.png 1\n")
    splits = opened(root / "t.txt", bad_images="skip")
    assert [(Path(name).name, reason) for name, reason in splits.skipped] == [
        ("no.png", "the file does not exist"),
        ("2.png", "it is empty (0 bytes)"),
    ]
    assert splits.counts_before_cut.tolist() == [1, 1]
    assert "Left out: 2 train images that cannot be read." in splits.notes
    (root / "t.txt").write_text("d/a/2.png 0\n")
    assert "none of its 1 image can be read" in refusal(root / "t.txt", bad_images="skip")


def test_missing_files_follows_relative_parts_and_links(make: Make) -> None:
    root = make("d/a/1.png")
    (root / "t.txt").write_text(f"d/../d/a/1.png 0\n./d/a/1.png 0\n{root}/d/a/1.png 0\n")
    assert missing_files(opened(root / "t.txt").train).tolist() == []


# --- Hugging Face


def test_specification() -> None:
    assert parse_spec("hf:org/name") == ("org/name", None, None)
    assert parse_spec("hf:../x:img:fine_label") == ("../x", "img", "fine_label")
    assert parse_spec("hf:x::label") == ("x", None, "label")
    assert parse_spec(r"hf:C:\data\x:img") == (r"C:\data\x", "img", None)
    for bad in ("hf:", "hf:a:b:c:d"):
        with pytest.raises(DataError, match="must be hf:NAME"):
            parse_spec(bad)


def test_cifar_100_lt(shared_dir: Path) -> None:
    pytest.importorskip("datasets")
    splits = opened(f"hf:{shared_dir}/data/cifar100:img:fine_label", long_tail=100)
    assert (len(splits.train), splits.class_names[:2], len(splits.class_names)) == (
        10_847,
        ("apple", "aquarium_fish"),
        100,
    )
    assert splits.test is not None
    assert splits.test.class_counts.tolist() == [100] * 100
    assert splits.counts_before_cut[[0, 99]].tolist() == [500, 5]
    again = pickle.loads(pickle.dumps(splits.train))
    assert (again.read(5).size, again.name(5)) == ((32, 32), splits.train.name(5))
    with_validation = opened(f"hf:{shared_dir}/data/cifar100", long_tail=100, validation=0.1)
    assert with_validation.validation is not None
    assert len(with_validation.train) + len(with_validation.validation) == 10_847
    assert (with_validation.counts_before_cut == splits.counts_before_cut).all()
    assert "Too small for that" in with_validation.notes[-1]


def table_of(**columns: Any) -> Any:
    datasets = pytest.importorskip("datasets")
    return datasets.Dataset.from_dict(columns)


def saved(folder: Path, **splits: Any) -> str:
    datasets = pytest.importorskip("datasets")
    datasets.DatasetDict(splits).save_to_disk(folder)
    return f"hf:{folder}"


def test_class_labels_images_and_unlabelled_test(make: Make) -> None:
    datasets = pytest.importorskip("datasets")
    path = str(make("a.png", "d/ant/1.png") / "a.png")
    labels = datasets.ClassLabel(names=["zebra", "ant"])
    train, hidden = (
        table_of(picture=[path] * 2, species=ys).cast_column("picture", datasets.Image()).cast_column("species", labels)
        for ys in ([1, 0], [-1, -1])
    )
    splits = opened(saved(make() / "set", train=train, validation=train, test=hidden))
    assert splits.class_names == ("zebra", "ant")
    assert splits.train.labels.tolist() == [1, 0]
    assert splits.train.read(0).size == (4, 4)
    assert splits.validation is not None
    assert splits.test is None
    assert "Not used as the test split: " in splits.notes[0]
    assert "'species' gives none of its 2 images a label" in splits.notes[0]
    spec = saved(make() / "no labels", train=train, test=hidden.remove_columns("species"))
    assert "there is no column 'species'; its columns are picture" in opened(spec).notes[0]
    assert "there is no column 'species'" in refusal(make() / "d", test=spec)
    spec = saved(make() / "hidden", train=hidden, test=train)
    assert "hidden train: column 'species' gives none" in refusal(spec)


def test_a_data_set_without_a_training_split_can_be_tested_on(make: Make) -> None:
    """As published beside a training set of its own; the columns are those of the first split that is there."""
    root = make("a.png", "d/x/1.png")
    parts = {name: table_of(image=[str(root / "a.png")], label=[name[0]]) for name in ("validation", "test")}
    spec = saved(root / "set", **parts, unlabelled=table_of(image=[str(root / "a.png")]))
    images, split, _, notes = open_images(spec, DataConfig(), ("t", "x"))
    assert (images.labels.tolist(), split, len(notes)) == ([0], "test", 1)
    assert "has no training images; its splits are: validation, test (known: train" in refusal(spec)


def test_several_label_columns_are_not_guessed(make: Make) -> None:
    datasets = pytest.importorskip("datasets")
    labels = datasets.ClassLabel(names=["x", "y"])
    table = table_of(image=[str(make("a.png") / "a.png")], fine=[0], coarse=[1])
    spec = saved(make() / "set", train=table.cast_column("fine", labels).cast_column("coarse", labels))
    assert "2 label columns: fine, coarse" in refusal(spec)
    assert opened(spec + "::coarse").train.labels.tolist() == [1]
    assert opened(spec, label_column="fine").train.labels.tolist() == [0]
    assert "no column 'no'" in refusal(spec + "::no")


def test_plain_columns(make: Make) -> None:
    path = str(make("a.png") / "a.png")
    spec = saved(make() / "ints", train=table_of(file=[path] * 2, target=[3, 1]))
    assert opened(spec).class_names == ("0", "1", "2", "3")
    spec = saved(make() / "texts", train=table_of(file=[path] * 2, target=["b", "a"]), extra=table_of(file=[path]))
    assert opened(spec).train.labels.tolist() == [1, 0]
    spec = saved(make() / "lists", train=table_of(file=[path], target=[[1, 2]]))
    assert "row 0: column 'target' holds list" in refusal(spec)
    spec = saved(make() / "odd", a=table_of(file=[path]), b=table_of(file=[path]))
    assert "no training split; its splits are a, b" in refusal(spec)


def test_a_data_set_that_cannot_be_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    assert "there is no folder" in refusal(f"hf:{tmp_path}/no")
    (tmp_path / "x.parquet").write_bytes(b"not parquet")
    assert "cannot be loaded" in refusal(f"hf:{tmp_path}")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install '.[hf]'" in refusal("hf:some/name")


# --- putting splits together


def test_sources_that_are_not_there(make: Make) -> None:
    root = make("photos/a/1.png")
    assert f"Did you mean {root / 'photos'}?" in refusal(root / "photo")
    assert "write hf:org/name" in refusal("org/name")
    with pytest.raises(DataError, match="no data given"):
        open_splits(DataConfig(), seed=0)


def test_given_test_and_validation_come_before_the_sources_own(make: Make) -> None:
    root = make("d/train/a/1.png", "d/train/b/2.png", "d/test/a/3.png", "d/val/a/4.png", "e/b/5.png", "f/a/6.png")
    splits = opened(root / "d", test=str(root / "e"), validation=str(root / "f"))
    assert splits.test is not None
    assert splits.test.labels.tolist() == [1]
    assert splits.validation is not None
    assert Path(splits.validation.name(0)).name == "6.png"
    assert "The test split of" in splits.notes[0]
    assert opened(root / "f", test=str(root / "d")).class_names == ("a",)


def test_validation_fraction(make: Make) -> None:
    root = make(*(f"d/a/{i}.png" for i in range(20)), *(f"d/b/{i}.png" for i in range(3)))
    for fraction in (0.2, "0.2"):
        splits = opened(root / "d", validation=fraction)
        assert splits.validation is not None
        assert splits.validation.class_counts.tolist() == [4, 0]
        assert splits.train.class_counts.tolist() == [16, 3]
        assert splits.counts_before_cut.tolist() == [20, 3]
        assert "1 class: b" in splits.notes[-1]


def test_no_class_in_common_or_none_known(make: Make) -> None:
    root = make("d/a/1.png", "e/b/2.png")
    assert "share no class" in refusal(root / "d", test=str(root / "e"))
    with pytest.raises(DataError, match="1 of its 1 classes are not among the 1 known ones: b"):
        open_images(str(root / "e"), DataConfig(), ("a",))
    images, split, skipped, notes = open_images(str(root / "e"), DataConfig(), ("x", "b"))
    assert (images.labels.tolist(), split, skipped, notes) == ([1], "train", [], [])


def test_cut_and_seed(make: Make) -> None:
    root = make(*(f"d/{c}/{i}.png" for c in "abc" for i in range(10)))
    config = DataConfig(source=str(root / "d"), long_tail=4, long_tail_max=8)
    first, again, other = (open_splits(config, seed=seed) for seed in (0, 0, 1))
    assert first.train.class_counts.tolist() == first.counts_before_cut.tolist() == [8, 4, 2]
    assert (first.train.rows == again.train.rows).all()
    assert not np.array_equal(first.train.rows, other.train.rows)
    assert "class 0 (a): has 10, the cut keeps 11" in refusal(root / "d", long_tail=4, long_tail_max=11)
