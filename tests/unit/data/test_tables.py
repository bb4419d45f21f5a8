"""Tables and lists in the shapes in which people's programs write them, and what each is read as."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from lpt.commands.predict.inputs import find_images
from lpt.config.schema import DataConfig
from lpt.data.manifest import Splits
from lpt.data.sources import open_images, open_splits
from lpt.data.sources.opening import stream_listing
from lpt.data.sources.raw import whole_numbers
from lpt.errors import DataError

NAMES = ("cat/0.jpg", "cat/1.jpg", "cat/2.jpg", "owl/3.jpg", "owl/4.jpg")
TRAIN_TEST = ("train", "train", "test", "train", "test")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder of images of one colour each."""
    for name in NAMES:
        path = tmp_path / "img" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return tmp_path


def opened(path: Path, text: str, **settings: object) -> Splits:
    path.write_text(text)
    return open_splits(DataConfig.model_validate({"source": str(path), **settings}), seed=0)


def rows(header: str, cells: tuple[object, ...] = (), names: tuple[str, ...] = NAMES) -> str:
    """A table of paths, labels and a further column."""
    more = [f",{cell}" for cell in cells] or [""] * len(names)
    return f"{header}\n" + "".join(
        f"{name},{Path(name).parent.name or 'x'}{cell}\n" for name, cell in zip(names, more, strict=True)
    )


def counts(splits: Splits) -> tuple[int, int, int]:
    parts = (splits.train, splits.validation, splits.test)
    train, validation, test = (0 if part is None else len(part) for part in parts)
    return train, validation, test


# --- splits


@pytest.mark.parametrize("name", ["set", "data set", "Dataset", "fold", "Usage", "held where", "subset"])
def test_a_column_of_splits_is_known_by_its_values(root: Path, name: str) -> None:
    splits = opened(root / "t.csv", rows(f"image,label,{name}", TRAIN_TEST), image_root=root / "img")
    assert counts(splits) == (3, 0, 2)
    assert (name == "subset") or f"splits are taken from column {name!r} (train, test)" in splits.notes[0]


@pytest.mark.parametrize(
    ("header", "cells", "expected"),
    [
        ("is_valid", ("True", "False", "False", "False", "True"), (3, 2, 0)),
        ("is_test", ("1.0", "0.0", "0.0", "0.0", "0.0"), (4, 0, 1)),
        ("is_train", ("no", "yes", "yes", "yes", "yes"), (4, 0, 1)),
        ("is_train,is_test", ("1,0", "0,1", "0,0", "1,0", "1,0"), (3, 1, 1)),
        ("train,val,test", ("1,0,0", "0,1,0", "0,0,1", "1,0,0", "1,0,0"), (3, 1, 1)),
    ],
)
def test_columns_of_true_and_false_are_splits(
    root: Path, header: str, cells: tuple[str, ...], expected: tuple[int, int, int]
) -> None:
    splits = opened(root / "t.csv", rows(f"image,label,{header}", cells), image_root=root / "img")
    assert counts(splits) == expected
    assert "splits are taken from" in splits.notes[0]


def test_json_says_true_and_false_itself(root: Path) -> None:
    records = [{"image": name, "label": "x", "is_valid": name.startswith("owl")} for name in NAMES]
    splits = opened(root / "t.json", json.dumps(records), image_root=root / "img")
    assert counts(splits) == (3, 2, 0)


def test_columns_that_are_no_splits_are_told(root: Path) -> None:
    splits = opened(root / "t.csv", rows("image,label,fold", (0, 1, 2, 0, 1)), image_root=root / "img")
    assert counts(splits) == (5, 0, 0)
    assert "column 'fold' is not taken for the split" in splits.notes[0]
    splits = opened(
        root / "t.csv", rows("image,label,seen", ("train", "bus", "car", "car", "bus")), image_root=root / "img"
    )
    assert "column 'seen' is not taken for the split, since many of its values are none, as 'bus'" in splits.notes[0]
    splits = opened(root / "t.csv", rows("image,label,width", (4, 4, 3, 2, 1)), image_root=root / "img")
    assert splits.notes == ()


def test_a_split_that_is_misspelt_or_contradicts_itself_is_a_fault(root: Path) -> None:
    with pytest.raises(DataError, match=r"line 4: split 'tset' is none of train(.|\n)*Column 'set' says one of"):
        opened(root / "t.csv", rows("image,label,set", ("train", "train", "tset", "train", "test")), image_root=root)
    with pytest.raises(DataError, match="line 2: split '1', '1' is none of"):
        text = rows("image,label,is_test,is_valid", ("1,1", "0,0", "0,0", "0,0", "1,0"))
        opened(root / "t.csv", text, image_root=root / "img")


def test_the_column_of_splits_can_be_chosen(root: Path) -> None:
    cells = tuple(f"{first},{second}" for first, second in zip(TRAIN_TEST, reversed(TRAIN_TEST), strict=True))
    text = rows("image,label,set,part", cells)
    by_name = opened(root / "t.csv", text, image_root=root / "img")
    assert "'part' would do too; choose another with --split-column" in by_name.notes[0]
    chosen = opened(root / "t.csv", text, image_root=root / "img", split_column="part")
    assert (by_name.train.rows.tolist(), chosen.train.rows.tolist()) == ([0, 1, 3], [1, 3, 4])
    with pytest.raises(
        DataError, match=r"no column 'prt' \(.*split_column\)\. Its columns are: image, label, set, part"
    ):
        opened(root / "t.csv", text, image_root=root / "img", split_column="prt")
    with pytest.raises(DataError, match="line 2: split 'cat' is none of"):
        opened(root / "t.csv", text, image_root=root / "img", split_column="label")


def test_a_test_table_need_not_have_the_column_of_splits(root: Path) -> None:
    (root / "test.csv").write_text(rows("image,label"))
    splits = opened(
        root / "t.csv",
        rows("image,label,which", TRAIN_TEST),
        image_root=root / "img",
        split_column="which",
        test=str(root / "test.csv"),
    )
    assert counts(splits) == (3, 0, 5)
    assert any("has no column 'which'" in note for note in splits.notes)


# --- labels


def test_labels_that_are_the_same_number_are_one_class(root: Path) -> None:
    labels = {"cat": "1.0", "owl": "2.0"}
    text = "image,label\n" + "".join(f"{name},{labels[name[:3]]}\n" for name in NAMES)
    (root / "test.csv").write_text(text.replace(".0\n", "\n"))
    splits = opened(root / "t.csv", text, test=str(root / "test.csv"), image_root=root / "img")
    assert splits.class_names == ("0", "1", "2")
    assert splits.test is not None
    assert splits.test.labels.tolist() == splits.train.labels.tolist() == [1, 1, 1, 2, 2]
    assert "1.0 is read as 1" in splits.notes[0]
    config = DataConfig(image_root=root / "img")  # a pack of an earlier version has the classes 1.0 and 2.0
    assert open_images(str(root / "test.csv"), config, ("1.0", "2.0")).images.labels.tolist() == [0, 0, 0, 1, 1]
    notes: list[str] = []
    assert whole_numbers(["1.0", "1.5"], "t", notes) == ["1.0", "1.5"]  # versions, not whole numbers
    assert not notes


@pytest.mark.parametrize("missing", ["nan", "NaN", "", "NULL", "<NA>", "#N/A", "NaT"])
def test_a_missing_label_is_no_class(root: Path, missing: str) -> None:
    with pytest.raises(DataError, match="line 3: no usable label"):
        opened(root / "t.csv", f"image,label\ncat/0.jpg,cat\ncat/1.jpg,{missing}\n", image_root=root / "img")


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (("101", "250", "1203"), ("101", "250", "1203")),
        (("7", "3", "40"), ("3", "7", "40")),
        (("1", "2", "3"), ("0", "1", "2", "3")),
        (("0", "3", "5"), ("0", "1", "2", "3", "4", "5")),
    ],
)
def test_numbers_are_names_where_most_would_be_unused(
    root: Path, labels: tuple[str, ...], classes: tuple[str, ...]
) -> None:
    text = "image,label\n" + "".join(f"{name},{label}\n" for name, label in zip(NAMES[:3], labels, strict=True))
    splits = opened(root / "t.csv", text, image_root=root / "img")
    assert splits.class_names == classes
    assert [splits.class_names[label] for label in splits.train.labels] == list(labels)


def test_control_codes_in_labels_are_written_out(root: Path) -> None:
    splits = opened(root / "t.csv", "image,label\ncat/0.jpg,a\x1b[31m\ncat/1.jpg,b\n", image_root=root / "img")
    assert splits.class_names == ("a\\x1b[31m", "b")


ONE_HOT = "image,cat,owl,newt\ncat/0.jpg,1.0,0.0,0.0\nowl/3.jpg,0,1,0\n"


def test_one_hot_columns(root: Path) -> None:
    splits = opened(root / "t.csv", ONE_HOT, image_root=root / "img")
    assert (splits.class_names, splits.train.labels.tolist()) == (("cat", "newt", "owl"), [0, 2])
    assert "read as one-hot columns, one for each class: cat, owl, newt" in splits.notes[0]
    with_split = "image,cat,train,set\ncat/0.jpg,1,0,train\nowl/3.jpg,0,1,test\n"
    splits = opened(root / "t.csv", with_split, image_root=root / "img")  # a class may be called train
    assert (splits.class_names, counts(splits)) == (("cat", "train"), (1, 0, 1))


@pytest.mark.parametrize(
    ("row", "fault"),
    [("1,1,0", r"line 4: 2 classes are marked \(cat, owl\)"), ("0,0,0", "line 4: no class is marked among cat, owl")],
)
def test_one_hot_rows_of_several_classes_or_none_are_named(root: Path, row: str, fault: str) -> None:
    with pytest.raises(DataError, match=rf"{fault}(.|\n)*LPT learns one class for each image"):
        opened(root / "t.csv", f"{ONE_HOT}cat/1.jpg,{row}\n", image_root=root / "img")


# --- shapes of files


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "sep=;\nimage;label\ncat/0.jpg;x\nowl/3.jpg;y\n"),
        ("t.csv", '"sep=|"\r\nimage|label\r\ncat/0.jpg|x\r\nowl/3.jpg|y\r\n'),
        ("t.csv", "image,label\rcat/0.jpg,x\rowl/3.jpg,y\r"),
        ("t.csv", 'image, label \n cat/0.jpg , x \nowl/3.jpg, "y"\n'),
        ("t.csv", ",image,label\n0,cat/0.jpg,x\n1,owl/3.jpg,y\n"),
        ("t.csv", "cat/0.jpg,x,train\nowl/3.jpg,y,train\n"),
        ("t.txt", "cat/0.jpg,x\nowl/3.jpg,y\n"),
        ("t.txt", "image\tlabel\ncat/0.jpg\tx\nowl/3.jpg\ty\n"),
        ("t.json", '[{"image": "cat/0.jpg", "label": "x"}, {"image": "owl/3.jpg", "label": "y"}]'),
        ("t.json", '{"image": "cat/0.jpg", "label": "x"}\n{"image": "owl/3.jpg", "label": "y"}\n'),
        ("t.json", '{"cat/0.jpg": "x", "owl/3.jpg": "y"}'),
        ("t.json", '{"image": ["cat/0.jpg", "owl/3.jpg"], "label": ["x", "y"]}'),
        ("t.json", '{"image": {"0": "cat/0.jpg", "1": "owl/3.jpg"}, "label": {"0": "x", "1": "y"}}'),
        ("t.csv", "photo,2021\ncat/0.jpg,x\nowl/3.jpg,y\n"),
        ("t.csv", "id,breed\ncat/0,x\nowl/3,y\n"),
    ],
)
def test_shapes_of_tables(root: Path, name: str, text: str) -> None:
    splits = opened(root / name, text, image_root=root / "img")
    assert (splits.class_names, splits.train.labels.tolist()) == (("x", "y"), [0, 1])
    assert [Path(splits.train.name(row)).name for row in range(2)] == ["0.jpg", "3.jpg"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("t.csv", "cat/0.jpg,x,1,2\n", "its first line is no header but data: cat/0.jpg, x, 1, 2"),
        ("t.csv", "sep=;\n", "is empty after its first line"),
        ("t.csv", "image,label\ndata:image/png;base64 AAAA,x\n", "a picture written as text"),
        ("t.csv", "image,label\n" + "cat/0.jpg,x\n" * 99 + "s3://b/a.jpg,x\n", "s3://b/a.jpg is a web address"),
        ("t.json", '{"images": [], "annotations": [], "categories": []}', "annotation file of COCO's form"),
        ("t.json", "3", "its JSON is no table"),
        ("t.json", '[{"image": "a.jpg"}, 3]', "entry 2: int, not an object"),
        ("t.json", '[{"image": "a.jpg", "label": null}]', "entry 1: no usable label (None)"),
        ("t.xlsx", "PK", "save the sheet as CSV"),
        ("t.parquet", "PAR1", "write hf:FOLDER"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(root: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(root / name, text)
    assert message in str(caught.value)
    assert str(root / name) in str(caught.value)


# --- paths


@pytest.mark.parametrize(
    ("shape", "note"),
    [
        ("/{name}", "read without their leading slash"),
        ("file://{root}/img/{name}", "read as file: addresses"),
        ("file://localhost{root}/img/{name}", "read as file: addresses"),
        ("~/img/{name}", "home folder"),
        ("img/{name}", "read without `img/`"),
        ("IMG-{name}", None),
    ],
)
def test_readings_of_paths(root: Path, monkeypatch: pytest.MonkeyPatch, shape: str, note: str | None) -> None:
    monkeypatch.setenv("HOME", str(root))
    text = "image,label\n" + "".join(f"{shape.format(name=name, root=root)},x\n" for name in NAMES)
    if note is None:
        with pytest.raises(DataError, match="5 of its 5 images cannot be found"):
            opened(root / "t.csv", text, image_root=root / "img")
        return
    splits = opened(root / "t.csv", text, image_root=root / "img")
    assert splits.train.read(4).size == (4, 4)
    assert note in splits.notes[0]


@pytest.mark.parametrize("change", [str.upper, lambda name: name.replace(".jpg", ""), lambda name: "/" + name.title()])
def test_names_in_another_case_or_without_ending(root: Path, change: object) -> None:
    assert callable(change)
    text = "image,label\n" + "".join(f"{change(name)},x\n" for name in NAMES)
    splits = opened(root / "t.csv", text, image_root=root / "img")
    assert [Path(splits.train.name(row)).name for row in range(5)] == [Path(name).name for name in NAMES]
    assert any("5 of 5 paths are read as files of the same name" in note for note in splits.notes)


def test_a_name_that_two_files_have_is_not_guessed(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root / "img" / "cat" / "0.png")
    with pytest.raises(DataError, match="1 of its 2 images cannot be found"):
        opened(root / "t.csv", "image,label\ncat/0,x\ncat/1,x\n", image_root=root / "img")


def test_addresses_of_files_with_blanks(root: Path) -> None:
    Image.new("RGB", (4, 4)).save(root / "img" / "a b%.jpg")
    uri = (root / "img" / "a b%.jpg").as_uri()
    for address in (uri, f"file://{root}/img/a b%.jpg"):
        assert opened(root / "t.csv", f"image,label\n{address},x\n").train.read(0).size == (4, 4)
    with pytest.raises(DataError, match=r"found:\n  /nowhere/a\.jpg\n"):
        opened(root / "t.csv", "image,label\nfile:///nowhere/a.jpg,x\n")


# --- without labels


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("t.csv", "image\ncat/0.jpg\nowl/3.jpg\n"),
        ("t.csv", "cat/0.jpg\nowl/3.jpg\n"),
        ("t.csv", "image,label,split\ncat/0.jpg,,\nowl/3.jpg,,\n"),
        ("t.txt", "cat/0.jpg\nowl/3.jpg\n"),
        ("t.txt", "cat/0.jpg 0\nowl/3.jpg 1\n"),
        ("t.jsonl", '{"image": "cat/0.jpg"}\n{"image": "owl/3.jpg"}\n'),
        ("t.csv", "id\ncat/0\nowl/3\n"),
    ],
)
def test_images_that_a_table_lists(root: Path, name: str, text: str) -> None:
    (root / name).write_text(text)
    paths = list(stream_listing(root / name, root / "img", None, []))
    assert [path.name for path in paths] == ["0.jpg", "3.jpg"]
    assert all(path.is_file() for path in paths)


def test_predict_takes_tables_lists_and_patterns(root: Path) -> None:
    folder, notes = root / "img", list[str]()
    (root / "t.csv").write_text("photo,which\n/cat/0.JPG,train\n/owl/3.JPG,\n")
    (root / "t.txt").write_text("cat/1.jpg 4\n")
    result = list(
        find_images(
            [root / "t.csv", root / "t.txt", folder / "owl" / "*.jp[g]", folder / "?at"], notes, image_root=folder
        )
    )
    names = ["cat/0.jpg", "owl/3.jpg", "cat/1.jpg", "owl/3.jpg", "owl/4.jpg", "cat/0.jpg", "cat/1.jpg", "cat/2.jpg"]
    assert [path.relative_to(folder).as_posix() for path in result] == names
    assert any("images are taken from column 'photo'" in note for note in notes)
    assert len(list(find_images([folder / "**" / "*"], []))) == len(list(find_images([folder], []))) == len(NAMES)
    Image.new("RGB", (4, 4)).save(folder / "a[1].jpg")
    assert list(find_images([folder / "a[1].jpg"], [])) == [folder / "a[1].jpg"]  # a name, not a pattern
    with pytest.raises(DataError, match=r"no file or folder matches the pattern .*\*\.png"):
        list(find_images([folder / "*.png"], []))
    with pytest.raises(DataError, match="no column 'file'"):
        list(find_images([root / "t.csv"], [], image_root=folder, image_column="file"))
