"""Packs on a frozen backbone: what is predicted is what the model says, whatever way the images come."""

from __future__ import annotations

import math
import re
import shutil
import tracemalloc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lpt
from lpt.data.images import ArrayImages
from lpt.data.manifest import LabelledImages, Splits
from lpt.errors import ConfigError, DataError, PackError, RunError
from lpt.evaluation.calibration import probabilities
from lpt.packs.pack import Pack
from lpt.packs.prediction import Prediction, probabilities_of
from lpt.packs.predictor import Predictor, load_predictor
from lpt.packs.prior import named_prior, scores_under
from lpt.system.hardware import Machine
from samples import tiny_settings

NAMES = ("ant", "bee", "cat", "dog")
PACKS: dict[str, dict[str, Any]] = {
    "both": {},
    "wide": {"image.size": [16, 48]},
    "phase1": {"train.phase2.epochs": 0},
}


def labelled(count: int, seed: int) -> LabelledImages:
    labels = np.arange(count) % len(NAMES)
    noise = np.random.default_rng(seed).integers(0, 128, (count, 30, 20, 3))
    pixels = (noise + 40 * labels[:, None, None, None]).astype(np.uint8)
    return LabelledImages(ArrayImages(pixels), np.arange(count), labels, NAMES)


@pytest.fixture(scope="module")
def images() -> LabelledImages:
    return labelled(11, 5)


@pytest.fixture(scope="module")
def packs(tiny_backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pack]:
    """Packs of three short runs on one backbone: at its size, at another one, and after phase 1 alone."""
    train = labelled(13, 0)
    data = Splits(train=train, validation=labelled(8, 1), test=None, counts_before_cut=train.class_counts)
    settings = tiny_settings(tiny_backbone, epoch_steps=2, epochs=(2, 2))
    folder = tmp_path_factory.mktemp("packs")
    return {
        name: lpt.fit(data, folder / name, preset="laptop", settings={**settings, **changes}).pack
        for name, changes in PACKS.items()
    }


@pytest.fixture(scope="module")
def predictor(packs: dict[str, Pack], tiny_backbone: Path) -> Predictor:
    return load_predictor(packs, checkpoint=tiny_backbone, device="cpu", precision="fp32")


def table(predictions: list[Prediction]) -> np.ndarray:
    """Probabilities in class order, [n, C]."""
    return np.array([[dict(zip(p.classes, p.probabilities, strict=True))[name] for name in NAMES] for p in predictions])


def pictures(images: LabelledImages) -> list[Image.Image]:
    return [images.read(index) for index in range(len(images))]


def direct(pack: Pack, images: LabelledImages, tiny_backbone: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """Cosines and picks by the model itself, one image at a time."""
    model = pack.build(lpt.load_backbone("tiny", checkpoint=tiny_backbone))
    cosines, groups = [], []
    for picture in pictures(images):
        preprocessing = pack.info.preprocessing
        image = preprocessing.normalize(preprocessing.test_transform()(picture)[None])
        if 2 in pack.info.method.phases:
            output = model(image)
            cosines.append(output.cosines[0].numpy())
            groups.append(output.groups[0].numpy())
        else:
            cosines.append(model.forward_shared(image)[0].numpy())
    return np.array(cosines), np.array(groups) if groups else None


# --- what is predicted ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKS)
def test_predictions_are_the_models(
    name: str, predictor: Predictor, packs: dict[str, Pack], images: LabelledImages, tiny_backbone: Path
) -> None:
    """Kept constants, batches and preprocessing change nothing: softmax(s cos / T) and the picks of `model()`."""
    cosines, groups = direct(packs[name], images, tiny_backbone)
    setting = packs[name].info.probabilities
    got = predictor.predict(pictures(images), pack=name, top_k=4)
    np.testing.assert_allclose(table(got), probabilities(cosines, setting.scale, setting.temperature), atol=1e-5)
    expected = [()] * len(images) if groups is None else [tuple(row) for row in groups.tolist()]
    assert [prediction.groups for prediction in got] == expected


def test_probabilities_sum_to_one_and_come_best_first(predictor: Predictor, images: LabelledImages) -> None:
    """All classes together have probability 1; the first is the most probable; `top_k` only shortens the list."""
    whole = predictor.predict(pictures(images), top_k=99)
    short = predictor.predict(pictures(images), top_k=2)
    for first, cut in zip(whole, short, strict=True):
        assert sum(first.probabilities) == pytest.approx(1, abs=1e-5)
        assert list(first.probabilities) == sorted(first.probabilities, reverse=True)
        assert set(first.classes) == set(NAMES)
        assert (cut.classes, cut.probabilities) == (first.classes[:2], first.probabilities[:2])


def test_label_and_probability_are_of_the_best_class() -> None:
    """They are the first entries of `classes` and `probabilities`."""
    prediction = Prediction("a.jpg", ("bee", "ant"), (0.75, 0.25), (), "birds")
    assert (prediction.label, prediction.probability) == ("bee", 0.75)


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("batch_size", [1, 4, 11, 100])
def test_batch_size_changes_nothing(name: str, batch_size: int, predictor: Predictor, images: LabelledImages) -> None:
    """The prediction of an image does not depend on its batch."""
    first = predictor.predict(pictures(images), pack=name, top_k=4, batch_size=3)
    other = predictor.predict(pictures(images), pack=name, top_k=4, batch_size=batch_size)
    np.testing.assert_allclose(table(first), table(other), atol=1e-4)
    assert [p.groups for p in first] == [p.groups for p in other]
    assert [p.name for p in other] == [str(number) for number in range(11)]


def test_paths_and_pictures_are_the_same(predictor: Predictor, images: LabelledImages, tmp_path: Path) -> None:
    """Files by path or text, and pictures in memory, give the same; a file is named by its path."""
    paths = []
    for number, picture in enumerate(pictures(images)[:3]):
        paths.append(tmp_path / f"bild ü {number}.png")
        picture.save(paths[-1])
    expected = table(predictor.predict(pictures(images)[:3], top_k=4))
    for given in (paths, [str(path) for path in paths]):
        got = predictor.predict(given, top_k=4)
        np.testing.assert_allclose(table(got), expected, atol=1e-7)
        assert [p.name for p in got] == [str(path) for path in paths]


@pytest.mark.parametrize("kind", ["transparent", "deep", "turned", "grey"])
def test_a_picture_is_read_like_its_file(kind: str, predictor: Predictor, tmp_path: Path) -> None:
    """Transparency, 16 bit, EXIF rotation and grey mean the same in a picture as in the file training would read."""
    random = np.random.default_rng(3)
    path = tmp_path / "picture.png"
    exif = Image.Exif()
    if kind == "transparent":
        picture = Image.fromarray(random.integers(0, 256, (20, 30, 4), dtype=np.uint8), "RGBA")
    elif kind == "deep":
        picture = Image.fromarray(random.integers(0, 65536, (20, 30)).astype(np.uint16))
    else:
        picture = Image.fromarray(random.integers(0, 256, (20, 30), dtype=np.uint8))
    if kind == "turned":
        exif[0x0112] = 6
    picture.save(path, exif=exif)
    with Image.open(path) as opened:
        (in_memory,) = predictor.predict([opened], top_k=4)
    (from_file,) = predictor.predict([path], top_k=4)
    np.testing.assert_allclose(in_memory.probabilities, from_file.probabilities, atol=1e-6)
    assert in_memory.classes == from_file.classes


def test_nothing_to_predict_is_no_error(predictor: Predictor) -> None:
    """An empty folder gives an empty list."""
    assert predictor.predict([]) == []


def test_iterating_keeps_one_batch_in_memory(predictor: Predictor, images: LabelledImages) -> None:
    """An endless stream can be classified: only one batch is read ahead."""
    read = []

    def endless() -> Any:
        for number in range(10**9):
            read.append(number)
            yield images.read(number % len(images))

    stream = predictor.iterate(endless(), batch_size=4)
    for expected in (4, 4, 4, 4, 8):
        next(stream)
        assert len(read) == expected


def test_an_unreadable_file_is_named(predictor: Predictor, tmp_path: Path) -> None:
    """The error has the path."""
    path = tmp_path / "broken.jpg"
    path.write_bytes(b"no image")
    with pytest.raises(DataError, match=str(path)):
        predictor.predict([path])


# --- priors -----------------------------------------------------------------------------------------------------------


def test_a_prior_reweighs_the_classes(predictor: Predictor, images: LabelledImages) -> None:
    """It multiplies the probabilities (training's is even): an even one changes nothing, a class left out gets 0."""
    plain = table(predictor.predict(pictures(images), top_k=4))
    even = table(predictor.predict(pictures(images), top_k=4, prior=dict.fromkeys(NAMES, 7.0)))
    np.testing.assert_allclose(even, plain, atol=1e-6)
    weights = np.array([6.0, 3.0, 1.0, 0.0])
    given = table(predictor.predict(pictures(images), top_k=4, prior={"ant": 6, "bee": 3, "cat": 1}))
    np.testing.assert_allclose(given, plain * weights / (plain * weights).sum(1, keepdims=True), atol=1e-6)
    assert (given[:, 3] == 0).all()


@pytest.mark.parametrize(
    "prior",
    ["odd", {"fox": 1}, {"ant": 0}, {"ant": -1, "bee": 2}, {}, {"ant": math.nan}, Path("shares.csv"), ["ant"], 0.5],
)
def test_a_prior_without_sense_is_refused(prior: Any, packs: dict[str, Pack]) -> None:
    """Unknown names and classes, negative shares, an empty prior and what is no prior at all are refused."""
    with pytest.raises(ConfigError, match="prior"):
        probabilities_of(packs["both"], np.zeros((1, 4)), prior=prior)


@pytest.mark.parametrize("classes", ["even", "training"])
@pytest.mark.parametrize("temperature", [0.1, 1.7, 10])
def test_a_prior_is_exact_by_bayes(classes: str, temperature: float, packs: dict[str, Pack]) -> None:
    """Probabilities, and the scores that metrics are taken of, are p * deployed / assumed however sharp p is."""
    pack, counts = packs["both"], np.array([90, 9, 1, 30])
    setting = pack.info.probabilities.model_copy(update={"classes": classes, "temperature": temperature})
    pack = replace(pack, info=pack.info.model_copy(update={"probabilities": setting, "class_counts": tuple(counts)}))
    scores = np.random.default_rng(0).uniform(-1, 1, (50, 4)).astype(np.float32)
    assumed = counts if classes == "training" else np.ones(4)
    for prior, deployed in (
        ("even", [1, 1, 1, 1]),
        ("training", counts),
        ({"ant": 6.0, "bee": 3.0, "cat": 1e-40}, [6, 3, 1e-40, 0]),
        ({"dog": 5e-324}, [0, 0, 0, 1]),
    ):
        with np.errstate(divide="ignore"):
            logs = scores.astype(np.float64) * setting.scale / temperature + np.log(deployed / assumed)
        exact = np.exp(logs - logs.max(axis=1, keepdims=True))
        exact /= exact.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(probabilities_of(pack, scores, prior=prior), exact, rtol=1e-5, atol=1e-30)
        shifted = scores_under(pack, scores, prior)
        np.testing.assert_allclose(probabilities_of(pack, shifted), exact, rtol=0.01, atol=1e-5)
        assert shifted.argmax(axis=1).tolist() == logs.argmax(axis=1).tolist()
        assert shifted.dtype == np.float32
        assert (probabilities_of(pack, shifted)[:, np.equal(deployed, 0)] == 0).all()
    np.testing.assert_allclose(scores_under(pack, scores, classes), scores, atol=1e-6)
    for name in ("even", "training"):
        assert scores_under(pack, scores, name).tolist() == scores_under(pack, scores, named_prior(pack, name)).tolist()
    assert list(named_prior(pack, "training").values()) == pytest.approx([90 / 130, 9 / 130, 1 / 130, 30 / 130])


def test_scores_of_a_large_split_are_shifted_in_their_own_memory(packs: dict[str, Pack]) -> None:
    scores = np.random.default_rng(0).uniform(-1, 1, (100_000, 4)).astype(np.float32)
    expected = scores_under(packs["both"], scores, {"ant": 2, "bee": 1})
    tracemalloc.start()
    try:
        assert scores_under(packs["both"], scores, {"ant": 2, "bee": 1}, out=scores) is scores
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < scores.nbytes / 4
    np.testing.assert_array_equal(scores, expected)


def test_a_pack_that_does_not_know_its_frequencies_says_so(packs: dict[str, Pack]) -> None:
    pack = replace(packs["both"], info=packs["both"].info.model_copy(update={"counts_known": False}))
    assert set(named_prior(pack, "even").values()) == {0.25}
    with pytest.raises(ConfigError, match="how many training images"):
        named_prior(pack, "training")


# --- packs and backbones ----------------------------------------------------------------------------------------------


def test_packs_share_a_backbone_without_disturbing_each_other(
    packs: dict[str, Pack], tiny_backbone: Path, predictor: Predictor, images: LabelledImages
) -> None:
    """Each of several packs, also of another input size, predicts what it does alone."""
    assert predictor.pack_names == ("both", "wide", "phase1")
    for name, pack in packs.items():
        alone = load_predictor(pack, checkpoint=tiny_backbone, device="cpu", precision="fp32")
        assert alone.pack_names == (name,)
        expected = table(alone.predict(pictures(images), top_k=4))
        np.testing.assert_allclose(table(predictor.predict(pictures(images), pack=name, top_k=4)), expected, atol=1e-6)
        assert predictor.pack(name) is pack
    assert predictor.pack() is packs["both"]


def test_packs_may_be_given_in_any_form(
    packs: dict[str, Pack], tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A path, a list of paths and packs (named by their run folders), or a mapping."""
    backbone = lpt.load_backbone("tiny", checkpoint=tiny_backbone)
    assert Predictor(backbone, str(packs["both"].path)).pack_names == ("both",)
    assert Predictor(backbone, [packs["both"], packs["wide"].path]).pack_names == ("both", "wide")
    assert Predictor(backbone, {"x": packs["both"].path, "y": packs["both"]}).pack_names == ("x", "y")
    assert Predictor("tiny", packs["both"], checkpoint=tiny_backbone, device="cpu").pack_names == ("both",)
    run = packs["both"].path.parent
    monkeypatch.chdir(shutil.copytree(packs["both"].path, tmp_path / "birds"))
    assert Predictor(backbone, ".").pack_names == ("birds",)
    assert load_predictor([run, packs["wide"]], backbone=backbone).pack_names == ("both", "wide")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda p: [], "at least one pack"),
        (lambda p: {}, "at least one pack"),
        (lambda p: [p["both"], p["both"].path], "two packs are named 'both'"),
        (lambda p: 3, "int is not a pack"),
    ],
)
def test_wrong_packs_are_refused(given: Any, message: str, packs: dict[str, Pack]) -> None:
    """No pack, two packs of one name and other objects give a clear message."""
    with pytest.raises(ConfigError, match=message):
        load_predictor(given(packs))


def test_wrong_arguments_are_refused(packs: dict[str, Pack], predictor: Predictor) -> None:
    """For an unknown pack, precision or device the message lists the accepted ones."""
    with pytest.raises(ConfigError, match=r"no pack 'x'.*both, wide, phase1"):
        predictor.predict([], pack="x") or predictor.pack("x")
    with pytest.raises(ConfigError, match=r"auto, fp32(,| or) bf16"):
        Predictor("tiny", packs["both"], precision="fp64")
    with pytest.raises(ConfigError, match="Available: auto"):
        Predictor("tiny", packs["both"], device="tpu")


def test_an_engine_that_does_not_exist_is_refused(packs: dict[str, Pack], tiny_backbone: Path) -> None:
    """The message says which engines there are; torch is one."""
    with pytest.raises(ConfigError, match="engine: 'tensorrt' is not accepted; choose auto, torch, onnx"):
        load_predictor(packs["both"], engine="tensorrt")
    predictor = lpt.load_predictor(packs["both"], checkpoint=tiny_backbone, engine="torch", device="cpu")
    assert predictor.pack_names == ("both",)


def test_a_predictor_needs_a_backbone(packs: dict[str, Pack]) -> None:
    """Without one the message names the function that finds it."""
    with pytest.raises(ConfigError, match=r"not int.*lpt\.load_predictor"):
        Predictor(7, packs["both"])  # type: ignore[arg-type]


def test_another_backbone_is_refused(packs: dict[str, Pack]) -> None:
    """A pack is never put on weights it was not trained on."""
    with pytest.raises((PackError, ConfigError), match=packs["both"].info.backbone.weight_hash):
        Predictor("lpt-demo-glyphs", packs["both"], device="cpu")


def test_local_weights_are_asked_for(packs: dict[str, Pack]) -> None:
    """If a pack was trained on a local file, the message has its name and hash, and how to give it."""
    info = packs["both"].info.backbone
    assert info.checkpoint == "tiny.safetensors"
    with pytest.raises(ConfigError, match=rf"'tiny.safetensors'[\s\S]*checkpoint=FILE[\s\S]*{info.weight_hash}"):
        load_predictor(packs["both"])


def test_a_given_backbone_is_left_as_it_is(packs: dict[str, Pack], tiny_backbone: Path) -> None:
    """A given backbone keeps its weights, precision and size: others may use it."""
    backbone = lpt.load_backbone("tiny", checkpoint=tiny_backbone)
    before = {name: tensor.clone() for name, tensor in backbone.state_dict().items()}
    Predictor(backbone, packs).predict([Image.new("RGB", (9, 9))], pack="wide")
    assert backbone.dtype == torch.float32
    assert backbone.image_size == (32, 32)
    assert all(torch.equal(tensor, before[name]) for name, tensor in backbone.state_dict().items())


def test_constants_live_in_the_predictor_alone(packs: dict[str, Pack], tiny_backbone: Path) -> None:
    """A model has no state but its pack's: after one of them changes, it never computes with an old constant."""
    model = packs["both"].build(lpt.load_backbone("tiny", checkpoint=tiny_backbone))
    image = torch.rand(2, 3, 32, 32)
    attributes = set(vars(model))
    first = model(image).cosines
    assert set(vars(model)) == attributes
    adapters = {f"adapters.{name}" for name in ("down", "down_bias", "up", "up_bias", "norm", "scale")}
    assert set(model.state_dict()) == {"shared.tokens", "groups.prompts", "groups.keys", "head.weight", *adapters}
    with torch.no_grad():
        model.shared.tokens.add_(torch.randn(model.shared.tokens.shape))
    assert not torch.allclose(model(image).cosines, first)


def test_bfloat16_predicts_nearly_the_same(
    packs: dict[str, Pack], tiny_backbone: Path, images: LabelledImages, predictor: Predictor
) -> None:
    """Low precision is a matter of speed: probabilities stay close for packs of every size on the one backbone."""
    low = load_predictor(packs, checkpoint=tiny_backbone, device="cpu", precision="bf16")
    assert (low.engine.precision, predictor.engine.precision) == ("bfloat16", "float32")
    for name in ("phase1",):  # without picks, which may tip over between two groups that match equally well
        first, other = (p.predict(pictures(images), pack=name, top_k=4) for p in (low, predictor))
        np.testing.assert_allclose(table(first), table(other), atol=0.05)
    assert len(low.predict(pictures(images), pack="wide")) == len(images)


@pytest.mark.parametrize("fast_bf16", [True, False])
@pytest.mark.parametrize(("precision", "expected"), [("auto", "float32"), ("fp32", "float32"), ("bf16", "bfloat16")])
def test_predictions_on_a_cpu_are_in_float32_unless_asked_for(
    precision: str,
    expected: str,
    fast_bf16: bool,
    packs: dict[str, Pack],
    tiny_backbone: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine = Machine("cpu", "test", 1, fast_bf16, 2**30, 2**30)
    monkeypatch.setattr("lpt.packs.torch_engine.inspect_machine", lambda device: machine)
    loaded = load_predictor(packs["both"], checkpoint=tiny_backbone, precision=precision)
    assert loaded.engine.precision == expected
    assert str(loaded.model().model.backbone.dtype) == f"torch.{expected}"


@pytest.mark.parametrize("name", PACKS)
def test_predictions_do_not_depend_on_the_batch_size(
    name: str, packs: dict[str, Pack], tiny_backbone: Path, images: LabelledImages
) -> None:
    loaded = load_predictor(packs, checkpoint=tiny_backbone, device="cpu")
    single = table(loaded.predict(pictures(images), pack=name, top_k=4, batch_size=1))
    split = loaded.split(images, pack=name, batch_size=1).scores
    for size in (2, 3, 8, 64):
        several = table(loaded.predict(pictures(images), pack=name, top_k=4, batch_size=size))
        np.testing.assert_allclose(several, single, rtol=0, atol=1e-5)
        np.testing.assert_allclose(loaded.split(images, pack=name, batch_size=size).scores, split, rtol=0, atol=1e-5)


# --- splits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PACKS)
@pytest.mark.parametrize("workers", [0, 1])
def test_a_split_is_measured_by_what_is_predicted(
    name: str, workers: int, predictor: Predictor, packs: dict[str, Pack], images: LabelledImages
) -> None:
    """`lpt evaluate` and `lpt predict` see the same model: same order, cosines and picks."""
    shuffled = images.subset(np.array([7, 2, 2, 10, 0]))
    split = predictor.split(shuffled, pack=name, batch_size=2, workers=workers)
    got = predictor.predict(pictures(shuffled), pack=name, top_k=4)
    assert split.labels.tolist() == shuffled.labels.tolist()
    np.testing.assert_allclose(probabilities_of(packs[name], split.scores), table(got), atol=1e-5)
    expected = None if name == "phase1" else [list(p.groups) for p in got]
    assert (None if split.groups is None else split.groups.tolist()) == expected


@pytest.mark.parametrize("name", list(PACKS))
def test_scores_that_are_nan_are_refused(
    packs: dict[str, Pack], images: LabelledImages, name: str, tiny_backbone: Path
) -> None:
    """A class of NaN would be the most probable one of every image; the error names pack and image."""
    pack = replace(packs[name], tensors={key: array.copy() for key, array in packs[name].tensors.items()})
    predictor = Predictor(lpt.load_backbone("tiny", checkpoint=tiny_backbone), pack)
    with torch.no_grad():  # as no pack that loads can have it
        predictor.model().model.head.weight[1] = float("nan")
    pack.tensors["head.weight"][1] = float("nan")  # shared with what predicts
    pictures = [Image.fromarray(np.zeros((30, 20, 3), dtype=np.uint8))] * 2
    with pytest.raises(RunError, match=r"the pack .*not finite for 2 of 2 images, the first being 0 \(1 of 4 classes"):
        predictor.predict(pictures)
    with pytest.raises(RunError, match=rf"the pack .*the first being {re.escape(images.name(0))} "):
        predictor.split(images, batch_size=4)
