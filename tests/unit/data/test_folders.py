"""Folders as they are found on disks: with folders in folders, links, pipes, system files and LPT's own output."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from lpt.config.schema import DataConfig
from lpt.data.decoding import ImageError, read_image
from lpt.data.manifest import Splits
from lpt.data.sources import open_splits
from lpt.data.sources.tree import Walk
from lpt.errors import DataError
from lpt.report.style import new_figure, save
from lpt.system.files import write_json
from lpt.system.outputs import output_in
from lpt.system.owned import marker
from lpt.training.folder import RunFolder

Make = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Makes small images at these paths under `tmp_path`, and returns that folder."""

    def made(*names: str) -> Path:
        for number, name in enumerate(names):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (4, 4), (number % 256, 0, 0)).save(path, "PNG")
        return tmp_path

    return made


def opened(source: Path, bad_images: str = "stop") -> Splits:
    return open_splits(DataConfig.model_validate({"source": str(source), "bad_images": bad_images}), seed=0)


def counts(splits: Splits) -> dict[str, int]:
    return dict(zip(splits.class_names, splits.train.class_counts.tolist(), strict=True))


def refusal(source: Path) -> str:
    with pytest.raises(DataError) as caught:
        opened(source)
    return str(caught.value)


# --- folders inside of class folders


def test_images_in_folders_of_a_class_count(make: Make) -> None:
    root = make("d/apple/1.jpg", "d/zebra/2023/1.jpg", "d/zebra/2023/may/2.jpg", "d/zebra/2024/1.jpg", "d/zebra/3.jpg")
    splits = opened(root / "d")
    assert counts(splits) == {"apple": 1, "zebra": 4}
    assert "3 of the 5 images" in splits.notes[0]
    assert "zebra/2023, zebra/2024" in splits.notes[0]


def test_classes_that_are_nested_altogether(make: Make) -> None:
    splits = opened(make("d/apple/2023/1.jpg", "d/zebra/2023/1.jpg", "d/zebra/2024/1.jpg") / "d")
    assert counts(splits) == {"apple": 1, "zebra": 2}


def test_splits_below_the_classes_are_not_trained_on(make: Make) -> None:
    root = make("d/apple/train/1.jpg", "d/apple/test/2.jpg", "d/pear/train/1.jpg", "d/pear/test/2.jpg")
    assert "divided into splits (apple/test, apple/train)" in refusal(root / "d")


# --- names of splits


@pytest.mark.parametrize(
    ("train", "test", "val"),
    [
        ("seg_train", "seg_test", "seg_val"),
        ("training_set", "test_set", "validation_set"),
        ("Train Images", "Test-Images", "eval"),
        ("trainset", "testset", "valset"),
        ("train", "test", "evaluation"),
        ("dataset_train", "dataset.test", "valid"),
    ],
)
def test_usual_names_of_split_folders(make: Make, train: str, test: str, val: str) -> None:
    splits = opened(make(f"d/{train}/a/1.jpg", f"d/{train}/b/1.jpg", f"d/{test}/a/1.jpg", f"d/{val}/b/1.jpg") / "d")
    assert counts(splits) == {"a": 1, "b": 1}
    assert (splits.test is not None, splits.validation is not None) == (True, True)


def test_an_archive_unpacked_into_its_own_name(make: Make) -> None:
    root = make("d/seg_train/seg_train/a/1.jpg", "d/seg_train/seg_train/b/1.jpg", "d/seg_test/seg_test/b/1.jpg")
    splits = opened(make("d/seg_pred/seg_pred/1.jpg") / "d")
    assert counts(splits) == {"a": 1, "b": 1}
    assert splits.test is not None
    assert splits.test.labels.tolist() == [1]
    assert f"Left out of {root / 'd'}, since they are not splits" in "\n".join(splits.notes)


def test_a_plain_name_comes_before_others(make: Make) -> None:
    splits = opened(make("d/train/a/1.jpg", "d/train/b/1.jpg", "d/val/a/1.jpg", "d/eval/b/1.jpg") / "d")
    assert splits.validation is not None
    assert splits.validation.labels.tolist() == [0]
    assert ": eval." in "\n".join(splits.notes)


# --- what systems leave behind


@pytest.mark.parametrize(
    "name", ["@eaDir", "$RECYCLE.BIN", "lost+found", ".thumbnails", "#recycle", "System Volume Information", "__MACOSX"]
)
def test_folders_of_the_system_are_no_data(make: Make, name: str) -> None:
    root = make(f"d/{name}/1.jpg", f"d/{name}/x/1.jpg", f"d/a/{name}/1.jpg/thumb.jpg", "d/a/1.jpg", "d/b/1.jpg")
    splits = opened(root / "d")
    assert counts(splits) == {"a": 1, "b": 1}
    assert name in "\n".join(splits.notes)
    assert sorted(Walk(root / "d").images()) == ["a/1.jpg", "b/1.jpg"]


# --- links, pipes, what cannot be read


def test_only_regular_files_are_opened(make: Make) -> None:
    root = make("d/a/1.png", "d/b/1.png")
    os.mkfifo(root / "d" / "a" / "zz.png")
    (root / "d" / "b" / "zero.png").symlink_to("/dev/zero")
    splits = opened(root / "d", "skip")
    assert counts(splits) == {"a": 1, "b": 1}
    assert "2 pipes, sockets or devices (a/zz.png, b/zero.png)" in splits.notes[0]
    for name in ("a/zz.png", "b/zero.png"):
        with pytest.raises(ImageError, match="it is a pipe, a socket or a device"):
            read_image(root / "d" / name, name)


def test_a_list_that_names_a_pipe_does_not_hang(make: Make) -> None:
    root = make("a.png")
    os.mkfifo(root / "b.png")
    (root / "t.csv").write_text("image,label\na.png,x\nb.png,x\n")
    splits = opened(root / "t.csv", "skip")
    assert [reason for _, reason in splits.skipped] == ["it is a pipe, a socket or a device, not a regular file"]
    (root / "t.csv").unlink()
    os.mkfifo(root / "t.csv")
    assert "is a pipe" in refusal(root / "t.csv")


def test_a_tree_of_links_gives_each_file_once(make: Make) -> None:
    root = make("d/a/level0/1.png", "d/b/1.png") / "d"
    for level in range(1, 18):
        folder = root / "a" / f"level{level}"
        folder.mkdir()
        for name in ("x", "y"):
            (folder / name).symlink_to(f"../level{level - 1}")
    (root / "a" / "back").symlink_to("..")
    (root / "a" / "again.png").symlink_to("level0/1.png")
    assert counts(opened(root)) == {"a": 1, "b": 1}
    assert Walk(root).images() == ["a/level0/1.png", "b/1.png"]


def test_links_to_files_elsewhere_are_images(make: Make) -> None:
    root = make("pool/1.png", "pool/2.png", "d/a/0.png")
    (root / "d" / "b").mkdir()
    for number in (1, 2):
        (root / "d" / "b" / f"{number}.png").symlink_to(root / "pool" / f"{number}.png")
    (root / "d" / "c").symlink_to(root / "pool")
    assert counts(opened(root / "d")) == {"a": 1, "b": 2, "c": 2}


def test_what_cannot_be_read_is_named(make: Make) -> None:
    root = make("d/train/a/1.png", "d/train/b/1.png", "d/test/a/1.png")
    (root / "d" / "train" / "a" / "loop").symlink_to("loop")
    (root / "d" / "test" / "a" / "gone.png").symlink_to("nowhere")
    text = refusal(root / "d")
    assert f"{root / 'd/train/a/loop'}: it is a link in a circle" in text
    assert f"{root / 'd/test/a/gone.png'}: it is a link to a file that does not exist" in text
    assert "data.bad_images: skip" in text
    splits = opened(root / "d", "skip")
    assert counts(splits) == {"a": 1, "b": 1}
    assert len(splits.skipped) == 2
    assert "2 folders or links that cannot be read" in "\n".join(splits.notes)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may read every folder")
def test_an_unreadable_folder_is_named(make: Make) -> None:
    root = make("d/a/1.png", "d/a/inner/1.png", "d/b/1.png")
    locked = root / "d" / "a" / "inner"
    locked.chmod(0)
    try:
        assert f"{locked}: the folder cannot be listed" in refusal(root / "d")
        assert counts(opened(root / "d", "skip")) == {"a": 1, "b": 1}
    finally:
        locked.chmod(0o700)


# --- LPT's own output


def plot(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    save(new_figure(1, 1), path)


def test_runs_in_the_data_are_no_class(make: Make, fitted_run: Path) -> None:
    root = make("d/a/1.png", "d/b/1.png") / "d"
    shutil.copytree(fitted_run, root / "runs" / "first")
    shutil.copytree(fitted_run / "pack", root / "a" / "pack")
    write_json(root / "compared" / "plan.json", marker("lpt-comparison"))
    plot(root / "compared" / "accuracy.png")
    write_json(root / "eval" / "metrics.json", marker("lpt-evaluation"))
    plot(root / "eval" / "group_use.png")
    plot(root / "b" / "classes.png")  # of lpt doctor --plot
    splits = opened(root)
    assert counts(splits) == {"a": 1, "b": 1}
    assert "6 folders or plots that lpt wrote" in splits.notes[0]
    assert Walk(root).images() == ["a/1.png", "b/1.png"]
    assert "is output of lpt" in refusal(root / "runs" / "first")
    RunFolder.create(root / "killed", {}, overwrite=False)
    assert counts(opened(root)) == {"a": 1, "b": 1}


def test_an_evaluation_is_no_split(make: Make) -> None:
    root = make("d/train/a/1.png", "d/train/b/1.png", "d/val/a/1.png") / "d"
    write_json(root / "eval" / "metrics.json", marker("lpt-evaluation"))
    plot(root / "eval" / "group_use.png")
    splits = opened(root)
    assert splits.validation is not None
    assert splits.validation.labels.tolist() == [0]


def test_a_file_of_the_same_name_is_no_marker(make: Make) -> None:
    root = make("d/a/1.png", "d/b/1.png") / "d"
    for name in ("run.json", "plan.json", "metrics.json"):
        (root / "a" / name).write_text('{"kind": "other", "format_version": 1}')
    assert counts(opened(root)) == {"a": 1, "b": 1}
    assert output_in(root / "a", {"run.json", "plan.json", "metrics.json"}).title == ""


def test_a_loader_that_knows_no_marker_is_not_given_output(make: Make) -> None:
    """The loader of Hugging Face would take plots for a class."""
    pytest.importorskip("datasets")
    root = make("d/a/1.png", "d/b/1.png") / "d"
    RunFolder.create(root / "runs" / "x", {}, overwrite=False)
    with pytest.raises(DataError, match=r"holds output of lpt \(runs/x\)"):
        open_splits(DataConfig(source=f"hf:{root}"), seed=0)
