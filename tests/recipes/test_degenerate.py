"""Data and settings at the edge: whole runs of a few steps, each ending with a pack that loads and predicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import lpt
from lpt.commands.fit.packaging import print_result
from lpt.config.schema import BackboneConfig
from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages, Splits
from lpt.errors import RunError
from lpt.system.owned import marker
from lpt.training.folder import RunFolder
from samples import tiny_settings

SETTINGS = {**tiny_settings(epoch_steps=2, epochs=(1, 1)), "runtime.workers": 0}


def images(counts: list[int], seed: int = 0, shape: tuple[int, int] = (12, 10)) -> LabelledImages:
    """Noise, a little brighter with each class."""
    labels = np.repeat(np.arange(len(counts)), counts)
    noise = np.random.default_rng(seed).integers(0, 128, (len(labels), *shape, 3))
    pixels = (noise + (labels * 97 % 128)[:, None, None, None]).astype(np.uint8)
    names = tuple(f"class {label}" for label in range(len(counts)))
    return LabelledImages(ArrayImages(pixels), np.arange(len(labels)), labels, names)


def splits(train: list[int], test: list[int] | None, validation: list[int] | None = None) -> Splits:
    return Splits(
        train=images(train),
        validation=None if validation is None else images(validation, seed=2),
        test=None if test is None else images(test, seed=1),
        counts_before_cut=np.array(train),
    )


def run(data: Splits, output: Path, checkpoint: Path, **changes: Any) -> lpt.FitResult:
    """A short run whose result is checked for what must hold whatever the data is."""
    settings = {
        **SETTINGS,
        "backbone.checkpoint": str(checkpoint),
        **{k.replace("__", "."): v for k, v in changes.items()},
    }
    result = lpt.fit(data, output, preset="laptop", settings=settings)
    pack = lpt.load_pack(output / "pack")
    assert all(np.isfinite(array).all() for array in pack.tensors.values())
    assert pack.info.class_names == list(data.class_names)
    assert pack.info.class_counts == data.counts_before_cut.tolist()
    records = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert len(records) == 2 * len(pack.info.method.phases)
    predictor = lpt.load_predictor(pack, checkpoint=checkpoint, device="cpu", precision="fp32")
    (prediction,) = predictor.predict([data.train.read(0)], top_k=3)
    assert len(prediction.classes) == min(3, len(data.class_names))
    assert 0 < sum(prediction.probabilities) <= 1 + 1e-6
    assert set(result.metrics) == {name for name in ("test", "validation") if getattr(data, name) is not None}
    for item in result.metrics.values():
        assert 0 <= item.overall <= 1
    return result


@pytest.mark.parametrize(
    "train",
    [
        pytest.param([6, 6, 6], id="balanced counts"),
        pytest.param([20, 5, 1], id="a class with one image"),
        pytest.param([1, 1], id="one image in each of two classes"),
        pytest.param([9, 4], id="two classes"),
        pytest.param([9, 0, 4], id="an empty class"),
        pytest.param([150, 30, 3], id="many, medium and few"),
    ],
)
def test_counts_of_every_kind(train: list[int], tiny_backbone: Path, tmp_path: Path) -> None:
    """Equal, tiny, missing and uneven classes train and are measured; delta has no 0/0 in any of them."""
    result = run(splits(train, [max(count, 1) for count in train]), tmp_path / "run", tiny_backbone)
    assert result.pack.info.method.phases == [1, 2]
    assert result.metrics["test"].images == sum(max(count, 1) for count in train)


def test_class_means_leave_an_empty_class_its_random_row(tiny_backbone: Path, tmp_path: Path) -> None:
    """A head started at class means has no zero row for a class without images."""
    result = run(splits([5, 0, 3], [2, 1, 2]), tmp_path / "run", tiny_backbone, model__head_init="class_means")
    assert np.linalg.norm(result.pack.tensors["head.weight"], axis=1).min() > 0.1


def test_a_class_only_in_test_counts_as_missed(tiny_backbone: Path, tmp_path: Path) -> None:
    """Its images count, as errors: it is not dropped, and the other classes keep their indices."""
    result = run(splits([9, 0, 4], [2, 5, 2]), tmp_path / "run", tiny_backbone)
    assert result.metrics["test"].images == 9
    assert result.pack.info.class_counts == [9, 0, 4]


def test_thousands_of_classes(tiny_backbone: Path, tmp_path: Path) -> None:
    """2,000 classes, most with one image, go through head, loss, sampling, tables and plots."""
    train = np.maximum(1, 40 // np.arange(1, 2001)).tolist()
    result = run(splits(train, [1] * 50 + [0] * 1950), tmp_path / "run", tiny_backbone)
    assert result.pack.tensors["head.weight"].shape == (2000, 32)


@pytest.mark.parametrize("micro_batch", [5, 64])
def test_a_batch_bigger_than_the_data(micro_batch: int, tiny_backbone: Path, tmp_path: Path) -> None:
    """A batch draws images several times rather than being cut short."""
    data = splits([4, 2, 1], [1, 1, 1])
    result = run(data, tmp_path / "run", tiny_backbone, train__batch_size=64, train__micro_batch=micro_batch)
    assert '"image_draws": 512' in (result.folder / "metrics.json").read_text()  # 4 steps of 2 x 64
    assert result.pack.info.training["train"]["batch_size"] == 64


def test_fewer_images_than_keys(tiny_backbone: Path, tmp_path: Path) -> None:
    """k-means with more centres than training images still gives keys of unit length before they train."""
    run(splits([2, 1], [1, 1]), tmp_path / "run", tiny_backbone, model__pool_size=9, model__key_init="kmeans")


def test_phase_2_left_out(tiny_backbone: Path, tmp_path: Path) -> None:
    """The pack classifies under the shared prompt alone, and says so."""
    result = run(splits([9, 4], [3, 3]), tmp_path / "run", tiny_backbone, train__phase2__epochs=0)
    assert result.pack.info.method.phases == [1]
    predictor = lpt.load_predictor(result.pack, checkpoint=tiny_backbone, device="cpu", precision="fp32")
    assert predictor.predict([images([1, 1]).read(0)])[0].groups == ()


def test_phase_1_left_out(tiny_backbone: Path, tmp_path: Path) -> None:
    """Group prompts train over the shared prompt as it was initialised."""
    result = run(splits([9, 4], [3, 3]), tmp_path / "run", tiny_backbone, train__phase1__epochs=0)
    assert result.pack.info.method.phases == [2]


def test_both_phases_left_out(tiny_backbone: Path, tmp_path: Path) -> None:
    """What is left is nearest class mean under an untrained prompt; it is packed like everything else."""
    changes = {"train.phase1.epochs": 0, "train.phase2.epochs": 0, "model.head_init": "class_means"}
    assert run(splits([9, 4], [3, 3]), tmp_path / "run", tiny_backbone, **changes).pack.info.method.phases == []


def test_no_test_split(tiny_backbone: Path, tmp_path: Path) -> None:
    """Without images to measure on there is a pack, a card that says so, and no number."""
    result = run(splits([9, 4], None), tmp_path / "run", tiny_backbone)
    assert result.metrics == {}
    assert "Nothing" in (result.pack.path / "README.md").read_text()
    assert lpt.resume(result.folder).metrics == {}


def test_a_validation_split_alone(tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is measured on; six images are too few for a temperature: the command, the pack and the report say so."""
    result = run(splits([9, 4], None, [3, 3]), tmp_path / "run", tiny_backbone)
    assert result.pack.info.probabilities.fitted_on.startswith("nothing (6 validation images")
    assert "No temperature was fitted (6 validation images" in (result.folder / "report.html").read_text()
    print_result(RunFolder(result.folder), result.pack, result.metrics, BackboneConfig(), Console(width=300))
    assert "50 validation images are needed, and there are 6" in capsys.readouterr().out


def test_no_prompt_at_all(tiny_backbone: Path, tmp_path: Path) -> None:
    """Prompt length 0 trains head and keys, empty tensors are saved and loaded."""
    result = run(splits([9, 4], [3, 3]), tmp_path / "run", tiny_backbone, model__prompt_length=0)
    assert result.pack.tensors["shared.tokens"].shape == (4, 0, 32)


def test_no_instance_stream(tiny_backbone: Path, tmp_path: Path) -> None:
    """With instance weight 0 only the balanced stream is drawn, and counted."""
    result = run(splits([9, 4], [3, 3]), tmp_path / "run", tiny_backbone, loss__instance_weight=0)
    facts = (result.folder / "metrics.json").read_text()
    assert '"image_draws": 32' in facts  # 4 steps of 8
    both = run(splits([9, 4], [3, 3]), tmp_path / "both", tiny_backbone)
    assert '"image_draws": 64' in (both.folder / "metrics.json").read_text()


@pytest.mark.parametrize("size", [[16, 40], [48, 24]])
def test_an_input_that_is_not_square(size: list[int], tiny_backbone: Path, tmp_path: Path) -> None:
    """Height and width keep their places from the transform to the pack."""
    result = run(splits([9, 4], [3, 3]), tmp_path / "run", tiny_backbone, image__size=size)
    assert result.pack.info.preprocessing.size == tuple(size)


def test_what_cannot_be_trained_is_named(tiny_backbone: Path, tmp_path: Path) -> None:
    """One class, no image, and a pool smaller than k are refused before anything is written."""
    with pytest.raises(lpt.DataError, match="at least 2 classes"):
        run(splits([9, 0], [1, 1]), tmp_path / "run", tiny_backbone)
    with pytest.raises(lpt.DataError, match="no training image"):
        run(splits([0, 0], [1, 1]), tmp_path / "run", tiny_backbone)
    with pytest.raises(lpt.ConfigError, match="top_k"):
        run(splits([9, 4], [1, 1]), tmp_path / "run", tiny_backbone, model__pool_size=1)
    with pytest.raises(lpt.ConfigError, match=r"33x32 is not a multiple.*32x32"):
        run(splits([9, 4], [1, 1]), tmp_path / "run", tiny_backbone, image__size=[33, 32])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["gr\udcfcn", "price $5^{$", "a" * 200, "two\nlines", "</td>|*_"])
def test_awkward_class_names(name: str, tiny_backbone: Path, tmp_path: Path) -> None:
    """A class folder's name that is not UTF-8, or means something to a plot or table, costs no run its pack."""
    data, names = splits([4, 3], [2, 2]), (name, "日本")
    assert data.test is not None
    train, test = (replace(item, class_names=names) for item in (data.train, data.test))
    settings = {**SETTINGS, "backbone.checkpoint": str(tiny_backbone)}
    result = lpt.fit(replace(data, train=train, test=test), tmp_path / "run", preset="laptop", settings=settings)
    expected = name.encode("utf-8", "backslashreplace").decode()
    assert lpt.load_pack(result.pack.path).info.class_names == [expected, "日本"]


def test_a_run_killed_before_its_first_file_can_be_started_again(tiny_backbone: Path, tmp_path: Path) -> None:
    """What a kill leaves before there is a configuration is simply used; a configuration alone is no run to resume."""
    data = splits([4, 3], [2, 2])
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / ".run.json.x.lpt-tmp").write_text("pre")
    first = run(data, tmp_path / "run", tiny_backbone)
    expected = (first.pack.path / "pack.safetensors").read_bytes()
    started = tmp_path / "other"
    started.mkdir()
    (started / "config.yaml").write_bytes((first.folder / "config.yaml").read_bytes())
    with pytest.raises(RunError, match=r"no run\.json"):
        lpt.resume(started, data)
    assert [path.name for path in started.iterdir()] == ["config.yaml"]
    facts = json.loads((first.folder / "run.json").read_text())
    (started / "run.json").write_text(json.dumps({key: facts[key] for key in facts if key not in marker("")}))
    second = lpt.resume(started, data)  # a run of a version before there were markers
    assert (second.pack.path / "pack.safetensors").read_bytes() == expected
