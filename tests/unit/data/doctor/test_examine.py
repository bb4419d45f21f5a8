"""What `lpt doctor` finds in a data set, and how it says it."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from lpt.config.schema import DataConfig
from lpt.data.doctor.duplicates import Place, find_duplicates, listed_again
from lpt.data.doctor.examine import examine
from lpt.data.doctor.findings import Finding, Findings
from lpt.data.images import ArrayImages
from lpt.data.longtail import ShotGroups
from lpt.data.manifest import LabelledImages, Splits
from lpt.data.sources import open_splits
from lpt.report.doctor import print_findings


def picture(seed: int, width: int = 12, height: int = 8) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


def folder(root: Path, **classes: int) -> Path:
    """A data set of class folders with so many images each, all different."""
    seed = 0
    for name, count in classes.items():
        (root / name).mkdir(parents=True)
        for number in range(count):
            picture(seed := seed + 1).save(root / name / f"{number}.png")
    return root


def arrays(counts: list[int], test: list[int] | None = None, side: int = 4, seed: int = 0) -> Splits:
    """A data set in memory with so many images of each class."""
    rng = np.random.default_rng(seed)

    def split(numbers: list[int]) -> LabelledImages:
        labels = np.repeat(np.arange(len(numbers)), numbers)
        pixels = rng.integers(0, 256, (len(labels), side, side), dtype=np.uint8)
        return LabelledImages(ArrayImages(pixels), np.arange(len(labels)), labels, names)

    names = tuple(f"class {index}" for index in range(len(counts)))
    train = split(counts)
    return Splits(train, None, None if test is None else split(test), train.class_counts)


def printed(findings: Findings, width: int = 120) -> str:
    console = Console(file=io.StringIO(), width=width)
    print_findings(findings, console)
    return console.file.getvalue()  # type: ignore[attr-defined]


def about(findings: Findings, words: str) -> Finding:
    result = [finding for finding in findings.findings if words in finding.what]
    assert len(result) == 1, [finding.what for finding in findings.findings]
    return result[0]


def test_numbers_of_a_healthy_set() -> None:
    findings = examine(arrays([150, 100, 20, 19], test=[9, 9, 9, 9], side=64), input_size=32)
    assert findings.findings == ()
    assert [(split.name, split.images, split.classes) for split in findings.splits] == [
        ("train", 289, 4),
        ("test", 36, 4),
    ]
    assert findings.imbalance == pytest.approx(150 / 19)
    assert findings.group_sizes() == [("many", 1, 150), ("medium", 2, 120), ("few", 1, 19)]
    assert findings.sizes is not None
    assert findings.sizes.shorter == (64, 64, 64)
    assert (findings.largest(1), findings.smallest(1)) == ([("class 0", 150)], [("class 3", 19)])
    text = printed(findings)
    assert "Usable: 0 errors, 0 warnings." in text
    assert "many > 100, medium 20-100, few < 20; imbalance factor 7.895" in text


def test_unreadable_images_are_errors(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", a=9, b=2)
    (root / "a" / "0.png").write_bytes(b"")
    content = (root / "a" / "1.png").read_bytes()
    (root / "a" / "1.png").write_bytes(content[: len(content) // 2])
    splits = open_splits(DataConfig(source=str(root)), seed=0)
    result = about(examine(splits), "cannot be read")
    assert result.severity == "error"
    assert result.what.startswith("2 images")
    assert result.examples[0].endswith("0.png: it is empty (0 bytes)")
    assert "Not usable as it is: 1 error," in printed(examine(splits))
    headers = about(examine(splits, decode=False), "cannot be read")
    assert headers.what.startswith("1 image that cannot be read (only headers")
    skipping = open_splits(DataConfig(source=str(root), bad_images="skip"), seed=0)
    assert about(examine(skipping), "left out").severity == "warning"


def test_duplicates_leaks_and_contradictions(tmp_path: Path) -> None:
    root = folder(tmp_path / "d" / "train", ant=6, bee=3).parent
    picture(999).save(folder(root / "test", ant=1, bee=1) / "ant" / "0.png")
    picture(998).save(root / "test" / "bee" / "0.png")

    def copy(source: str, target: str) -> None:
        (root / target).write_bytes((root / source).read_bytes())

    copy("train/ant/0.png", "train/ant/again.png")
    copy("train/ant/1.png", "train/bee/same.png")
    copy("train/ant/2.png", "test/ant/leak.png")
    copy("train/ant/2.png", "test/bee/leak.png")
    findings = examine(open_splits(DataConfig(source=str(root)), seed=0))
    assert about(findings, "in the same class").what.startswith("1 training image")
    leak = about(findings, "among the training images too")
    assert leak.what.startswith("2 validation or test")
    assert leak.examples == (
        f"{root}/train/ant/2.png (ant) = {root}/test/ant/leak.png (ant) = {root}/test/bee/leak.png (bee)",
    )
    contradiction = about(findings, "under different classes")
    assert contradiction.examples == (f"{root}/train/ant/1.png (ant) = {root}/train/bee/same.png (bee)",)


def test_images_listed_again(tmp_path: Path) -> None:
    """A manifest that names a file twice is told apart from copies of it, and without reading it."""
    root = folder(tmp_path / "d", ant=4, bee=2)
    rows = ["ant/0.png,ant", "ant/0.png,ant", "ant/0.png,ant", "ant/1.png,ant", "ant/1.png,bee", "ant/2.png,ant"]
    (root / "train.csv").write_text(
        "\n".join(["image,label", *rows, "bee/0.png,bee", "ant/3.png,ant"]), encoding="utf-8"
    )
    (root / "test.csv").write_text("image,label\nant/2.png,ant\nbee/1.png,bee\n", encoding="utf-8")
    splits = open_splits(DataConfig(source=str(root / "train.csv"), test=str(root / "test.csv")), seed=0)
    for decode in (True, False):
        findings = examine(splits, decode=decode, compare=decode)
        again = about(findings, "listed before in the same class")
        assert (again.severity, again.what.split(" listed")[0]) == ("warning", "2 training images")
        assert again.examples == (f"{root}/ant/0.png (ant) = (ant) = (ant)",)
        assert about(findings, "listed several times").examples == (f"{root}/ant/1.png (ant) = (bee)",)
        leak = about(findings, "listed among the training images")
        assert leak.examples == (f"{root}/ant/2.png (ant) = (test: ant)",)
        assert not [item for item in findings.findings if "stored before" in item.what or "byte for byte" in item.what]


def test_copies_of_an_image_that_is_listed_again_are_found(tmp_path: Path) -> None:
    """The first listing of a file stands for all when bytes are compared."""
    root = folder(tmp_path / "d", ant=3, bee=2)
    (root / "bee" / "0.png").write_bytes((root / "ant" / "0.png").read_bytes())
    listing = "image,label\nant/1.png,ant\nant/0.png,ant\nant/0.png,ant\nbee/0.png,bee\nbee/1.png,bee\n"
    (root / "train.csv").write_text(listing, encoding="utf-8")
    splits = open_splits(DataConfig(source=str(root / "train.csv")), seed=0)
    parts = {"train": splits.train}
    listed = listed_again(parts)
    assert listed == [[Place("train", 1), Place("train", 2)]]
    assert find_duplicates(parts, without=listed[0][1:]) == [[Place("train", 1), Place("train", 3)]]
    assert about(examine(splits), "found several times, under").examples


def test_duplicates_need_more_than_equal_length_and_middle() -> None:
    pixels = np.zeros((4, 90, 90), dtype=np.uint8)
    pixels[1, 0, 0] = 1  # same length, same middle, another start
    pixels[2, 45, 45] = 1
    images = LabelledImages(ArrayImages(pixels), np.arange(4), np.zeros(4, dtype=np.int64), ("a",))
    assert find_duplicates({"train": images}, 1) == [[Place("train", 0), Place("train", 3)]]


def test_a_source_whose_bytes_cannot_be_seen_is_still_looked_at() -> None:
    class Plain:
        def __len__(self) -> int:
            return 30

        def read(self, row: int) -> Image.Image:
            return picture(0)

        def name(self, row: int) -> str:
            return f"row {row}"

    images = LabelledImages(Plain(), np.arange(30), np.arange(30) % 2, ("a", "b"))
    findings = examine(Splits(images, None, None, images.class_counts), decode=False)
    assert findings.sizes is not None
    assert (findings.sizes.width[1], findings.sizes.height[1]) == (12, 8)
    assert find_duplicates({"train": images}) == []


def test_classes_that_are_empty_single_or_only_tested() -> None:
    findings = examine(arrays([90, 30, 1, 0, 0], test=[9, 0, 9, 9, 0], side=64), input_size=32)
    assert about(findings, "tested but without").examples == ("class 3",)
    assert about(findings, "without any image").examples == ("class 4",)
    assert about(findings, "a single training image").examples == ("class 2",)
    assert about(findings, "without a test image").examples == ("class 1",)
    assert findings.group_sizes()[2] == ("few", 1, 1)
    assert findings.findings[0].severity == "warning"


def test_one_class_alone_is_an_error() -> None:
    findings = examine(arrays([120, 0]))
    assert about(findings, "of 1 class only").severity == "error"
    assert findings.imbalance == 1


def test_balance_and_few_images() -> None:
    assert about(examine(arrays([60, 60])), "nearly balanced").severity == "info"
    assert about(examine(arrays([1200, 1])), "imbalance is extreme").severity == "info"
    assert about(examine(arrays([50, 1])), "Only 51 training images").severity == "warning"
    assert about(examine(arrays([200, 20], test=[50, 5])), "unbalanced as well")
    assert about(examine(arrays([200, 20])), "no test images").severity == "warning"
    tested = about(examine(arrays([200, 20, 20], test=[50, 5, 4])), "fewer than 5 test images")
    assert (tested.severity, tested.examples) == ("info", ("class 2",))


def test_class_names_that_look_the_same(tmp_path: Path) -> None:
    root = folder(tmp_path / "d", **{"red fox": 2, "Red_Fox": 2, "owl": 2})
    result = about(examine(open_splits(DataConfig(source=str(root)), seed=0)), "differ only in case")
    assert result.examples == ("'Red_Fox' / 'red fox'",)


def test_signs_are_no_dashes(tmp_path: Path) -> None:
    """-1 and 1 are other numbers, A- and A other marks; 01 and 1 may be the same."""
    root = folder(tmp_path / "d", **{"-1": 2, "1": 2, "A-": 2, "A": 2, "at -5": 2, "at 5": 2})
    findings = examine(open_splits(DataConfig(source=str(root)), seed=0))
    assert not [finding for finding in findings.findings if "differ only in case" in finding.what]
    root = folder(tmp_path / "e", **{"01": 2, "1": 2, "on-off": 2, "On off": 2})
    result = about(examine(open_splits(DataConfig(source=str(root)), seed=0)), "differ only in case")
    assert result.examples == ("'01' / '1'", "'On off' / 'on-off'")


def test_image_sizes_against_the_input(tmp_path: Path) -> None:
    small = about(examine(arrays([30, 3], side=16), input_size=96), "shorter side of 16 pixels or less")
    assert "96" not in f"{small.what} {small.harm} {small.advice}"  # lpt doctor does not know the size of a run
    for name, sides in {"a": (100, 300, 300), "b": (20, 300, 300)}.items():
        (tmp_path / name).mkdir()
        for number, side in enumerate(sides):
            Image.new("L", (side, side + 5)).save(tmp_path / name / f"{number}.png")
    splits = open_splits(DataConfig(source=str(tmp_path)), seed=0)
    assert about(examine(splits), "very small, down to 20 pixels")
    Image.new("1", (2500, 3000)).save(tmp_path / "a" / "big.png")
    for number in range(8):
        (tmp_path / "b" / f"big{number}.png").write_bytes((tmp_path / "a" / "big.png").read_bytes())
    assert about(examine(open_splits(DataConfig(source=str(tmp_path)), seed=0), decode=False), "images are large")


def test_thousands_of_classes_stay_readable() -> None:
    counts = [max(2, int(2000 / (rank + 1))) for rank in range(8142)]
    names = tuple(f"[species] {index}" for index in range(len(counts)))
    labels = np.repeat(np.arange(len(counts)), counts)
    source = ArrayImages(np.zeros((1, 4, 4), dtype=np.uint8))
    images = LabelledImages(source, np.zeros(len(labels), dtype=np.int64), labels, names)
    findings = examine(Splits(images, None, None, images.class_counts), decode=False, groups=ShotGroups(5, 50))
    text = printed(findings)
    assert len(text.splitlines()) < 70
    assert "8,122 more" in text
    assert "[species] 8141" in text
    assert "many > 50, medium 5-50, few < 5" in text
    assert max(map(len, printed(findings, width=60).splitlines())) <= 60


def test_cifar_100_holds_known_duplicates(shared_dir: Path) -> None:
    pytest.importorskip("datasets")
    splits = open_splits(DataConfig(source=f"hf:{shared_dir}/data/cifar100", long_tail=100), seed=0)
    findings = examine(splits, decode=False)
    assert [classes for _, classes, _ in findings.group_sizes()] == [35, 35, 30]
    assert sum(images for _, _, images in findings.group_sizes()) == 10_847
    assert len(find_duplicates({"test": splits.test})) == 2  # type: ignore[dict-item]
