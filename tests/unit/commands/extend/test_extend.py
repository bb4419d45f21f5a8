"""Classes added to a pack: their scores, those of the others, what is written, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.export.model_graph import ModelGraph, resized_size
from lpt.commands.extend.packaging import _fitted_on
from lpt.errors import DataError, PackError, RunError
from lpt.model import LPT
from lpt.model.tuning import Tuning
from lpt.packs.files import sha256
from lpt.packs.pack import Pack, load_pack
from pack_kinds import new_pack
from small_packs import NAMES, edit, give_threshold, new_model, rewritten, write

COLOURS = {"red": 0, "green": 1, "blue": 2}


def draw(folder: Path, counts: dict[str, int], seed: int = 0) -> Path:
    """Write noisy pictures of colours, a folder for each class."""
    random = np.random.default_rng(seed)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 60, (40, 36, 3))
            pixels[..., COLOURS.get(name, len(name) % 3)] += 30 * (len(name) % 5) + 60
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> LPT:
    return new_model(tiny_backbone)


@pytest.fixture
def pack(model: LPT, tmp_path: Path) -> Path:
    folder = write(tmp_path / "pack", model)
    use = {"split": "test", "classes": [[0], [1], [2]]}
    edit(folder, lambda values: values.update(group_use=use))
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("new") / "colours", {"red": 3, "blue": 1})


def features(model: LPT, images: Tensor) -> Tensor:
    """The unit features that reach the head, each view [n, V, D]."""
    seen: list[Tensor] = []
    hook = model.head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(images.flatten(0, 1))
    hook.remove()
    return F.normalize(seen[0], dim=-1).unflatten(0, images.shape[:2])


def inputs(pack: Pack, folder: Path) -> Tensor:
    """The pictures of a folder as the network takes them, [n, V, 3, height, width]."""
    preprocessing = pack.info.preprocessing
    arrays = [preprocessing.test_array(Image.open(file)) for file in sorted(folder.rglob("*.png"))]
    views = torch.from_numpy(np.stack(arrays)).flatten(0, -4).unflatten(0, (len(arrays), -1))
    return preprocessing.normalize(views)


@pytest.mark.parametrize("views", [1, 2, 5])
def test_scores_are_those_of_the_definition(
    model: LPT, pack: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path, views: int
) -> None:
    """A row is the mean unit feature of its pictures; the scores of old classes are the same bit for bit."""
    edit(pack, lambda values: values["preprocessing"].update(test_views=views))
    new = lpt.extend(pack, pictures, tmp_path / "new", checkpoint=tiny_backbone).pack
    images = inputs(new, pictures)  # blue, then red
    unit = features(model, images).mean(dim=1)
    rows = F.normalize(torch.stack([unit[0], unit[1:].mean(dim=0)]), dim=-1)
    scales = torch.tensor([0.855, 0.62 + 0.235 / 3**0.5])
    extended = new.build(model.backbone)
    assert isinstance(extended, LPT)
    scores = extended(images[:, 0]).cosines
    assert torch.equal(scores[:, : len(NAMES)], model(images[:, 0]).cosines)
    torch.testing.assert_close(scores[:, len(NAMES) :], features(model, images)[:, 0] @ rows.T * scales)
    for name, array in load_pack(pack).tensors.items():
        assert np.array_equal(new.tensors[name][: len(array)], array)
    tunings = [
        Tuning.of(each.info.method, each.torch_tensors(), model.backbone, group_prompts=True)
        for each in (load_pack(pack), new)
    ]
    old, both = (tuning.scores(unit) for tuning in tunings)
    assert torch.equal(both[:, : len(NAMES)], old)


def test_all_ways_to_predict_agree(model: LPT, pack: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """The model, a batch that is mixed with other packs, and the graph that is exported honour the scale."""
    new = lpt.extend(pack, pictures, tmp_path / "new", checkpoint=tiny_backbone).pack
    predictor = lpt.load_predictor({"new": new, "old": pack}, checkpoint=tiny_backbone, device="cpu")
    files = sorted(pictures.rglob("*.png"))
    mixed = predictor.predict([*files, *files], pack=["new"] * 4 + ["old"] * 4, top_k=9)
    alone = predictor.model("new").scores(inputs(new, pictures)).scores
    setting = new.info.probabilities
    wanted = torch.softmax(alone * setting.scale / setting.temperature, dim=-1)
    graph = ModelGraph(predictor.model("new"), new.info)
    height, width = resized_size(new.info)
    resized = [Image.open(file).convert("RGB").resize((width, height), Image.Resampling.BICUBIC) for file in files]
    exported = graph(torch.from_numpy(np.stack([np.asarray(image) for image in resized])))[0]
    for row, prediction in enumerate(mixed[:4]):
        given = dict(zip(prediction.classes, prediction.probabilities, strict=True))
        assert [given[name] for name in new.info.class_names] == pytest.approx(wanted[row].tolist(), abs=1e-5)
    torch.testing.assert_close(exported, wanted, atol=1e-5, rtol=0)
    assert new.tensors["head.scale"].max() < 0.9  # or nothing is tested


def test_a_pack_without_its_scale_is_refused(pack: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    path = lpt.extend(pack, pictures, tmp_path / "new", checkpoint=tiny_backbone).pack.path
    backbone = lpt.load_backbone("tiny", checkpoint=tiny_backbone)
    for load in (lambda pack: pack.build(backbone), lambda pack: lpt.load_predictor(pack, backbone=backbone)):
        changed = rewritten(path, lambda tensors: tensors.update({"head.scale": torch.ones(2)}))
        with pytest.raises(PackError, match="gives other outputs"):
            load(changed)
    with pytest.raises(PackError, match=r"head\.scale is missing"):
        rewritten(path, lambda tensors: tensors.pop("head.scale"))
    with pytest.raises(PackError, match=r"head\.scale does not belong"):
        rewritten(pack, lambda tensors: tensors.update({"head.scale": torch.ones(1)}))


def test_the_description_says_what_was_added(pack: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """A pack may be extended twice; numbers of the old pack do not stay, what it was trained with does."""
    metrics = {"images": 3, "overall": 0.5, "mean_per_class": 0.5, "many": 0.5, "medium": None, "few": None}
    metrics |= {"boundaries": "few", "group_classes": [1, 0, 0]}
    edit(pack, lambda values: values.update(metrics={"test": metrics}))
    before = (pack / "pack.json").read_bytes()
    once = lpt.extend(pack, pictures, tmp_path / "once", checkpoint=tiny_backbone).pack.info
    assert once.probabilities.fitted_on == _fitted_on(once) == "20 validation images, before classes were added"
    edit(tmp_path / "once", lambda values: values["probabilities"].update(fitted_on="60 labelled images"))  # calibrated
    more = draw(tmp_path / "more", {"green": 2})
    info = lpt.extend(tmp_path / "once", more, tmp_path / "twice", checkpoint=tiny_backbone).pack.info
    assert (pack / "pack.json").read_bytes() == before
    assert info.class_names == [*NAMES, "blue", "red", "green"]
    assert info.class_counts == [120, 40, 1, 1, 3, 2]
    assert info.trained_classes == 3
    assert [(addition.classes, addition.data) for addition in info.additions] == [(2, "colours"), (1, "more")]
    assert info.metrics == {}
    assert info.training == {"preset": "laptop"}
    assert info.probabilities.fitted_on == "60 labelled images, before classes were added"
    assert info.group_use is not None
    assert info.group_use.classes[:3] == [[0], [1], [2]]
    assert all(len(groups) >= 2 for groups in info.group_use.classes[3:])
    card = (tmp_path / "twice" / "README.md").read_text()
    for text in ("161, from 120 to 1 a class", "blue (1), red (3)", "green (2)", "What the other classes lost"):
        assert text in card
    shown = CliRunner().invoke(app, ["inspect", str(tmp_path / "twice")]).output
    assert "2 classes without training, from 4 pictures of colours: blue, red" in " ".join(shown.split())
    assert "not measured since classes were added" in shown
    predictor = lpt.load_predictor(tmp_path / "twice", checkpoint=tiny_backbone)
    assert predictor.predict(next(more.rglob("*.png")))[0].classes[0] == "green"


def test_known_pictures_choose_the_scale_and_show_the_losses(pack: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """A whole command; what the pack says is what `lpt evaluate` measures. A threshold does not stay, which is said."""
    give_threshold(pack, 0.2)
    new = draw(tmp_path / "new", {"red": 4, "blue": 4})
    known = draw(tmp_path / "known", {"adder": 20, "Björn": 20, "crane": 20})
    (known / "crane" / "3.png").write_bytes(b"\x89PNG no more")
    output = tmp_path / "extended"
    options = ["--checkpoint", str(tiny_backbone), "--known", str(known), "--output", str(output)]
    refused = CliRunner().invoke(app, ["extend", str(pack), str(new), *options])
    assert refused.exit_code == 2
    assert "3.png" in refused.output
    assert not output.exists()
    result = CliRunner().invoke(app, ["extend", str(pack), str(new), *options, "--bad-images", "skip"])
    assert result.exit_code == 0, result.output
    text = " ".join(result.output.split())
    assert "1 validation image that cannot be read" in text or "1 train image that cannot be read" in text
    assert "on 59 pictures of the other classes and 8 of the new ones" in text
    assert "the new pack has none until lpt calibrate" in text
    assert load_pack(output).info.rejection is None
    addition = load_pack(output).info.additions[0]
    assert addition.known is not None
    assert addition.known.images == 59
    measured = {
        name: lpt.evaluate(folder, known, checkpoint=tiny_backbone, bad_images="skip").metrics.overall
        for name, folder in (("before", pack), ("after", output))
    }
    assert measured == pytest.approx({"before": addition.known.before, "after": addition.known.after})


def test_pictures_that_cannot_be_added_are_refused(
    pack: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    def refused(kind: type[Exception], match: str, data: Path, output: Path | None = None, **options: str) -> None:
        with pytest.raises(kind, match=match):
            lpt.extend(pack, data, output or tmp_path / "out", checkpoint=tiny_backbone, **options)  # type: ignore[arg-type]
        assert not list(tmp_path.glob("out*"))

    again = draw(tmp_path / "again", {"red": 1, "Adder": 1, "crane": 1})
    refused(DataError, r"has 2 classes of it already: adder \(here Adder\), crane", again)
    broken = draw(tmp_path / "broken", {"red": 1, "blue": 1})
    (broken / "blue" / "0.png").write_bytes(b"\x89PNG no more")
    refused(DataError, r"0\.png", broken)
    refused(DataError, "1 class without a picture that can be read: blue", broken, bad_images="skip")
    refused(DataError, "none of its classes is one of the pack's 3", pictures, known=str(pictures))
    refused(RunError, "is there already", pictures, pack)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"prompts": "none", "head": "linear"}, "has a linear head"),
        ({"prompts": "none", "weights": "biases"}, "has trained weights of the backbone"),
    ],
)
def test_packs_of_other_methods_are_refused(
    architecture: dict[str, str], message: str, pictures: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    backbone = lpt.load_backbone("tiny", checkpoint=tiny_backbone)
    path = new_pack(tmp_path / "pack", backbone, 0, architecture, [], {})
    with pytest.raises(PackError, match=message):
        lpt.extend(path, pictures, tmp_path / "out", backbone=backbone)


def test_packs_without_group_prompts(model: LPT, pictures: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """A pack after phase 1 alone, and one of deep prompts with a cosine head."""
    backbone = lpt.load_backbone("tiny", checkpoint=tiny_backbone)
    deep = new_pack(tmp_path / "deep", backbone, 0, {"prompts": "deep", "prompt_length": 2}, [], {})
    for path in (write(tmp_path / "phase1", model, [1]), deep):
        new = lpt.extend(path, pictures, tmp_path / f"new {path.name}", backbone=backbone).pack
        assert new.info.group_use is None
        first = lpt.load_predictor(new, backbone=backbone).predict(pictures / "blue" / "0.png")[0]
        assert first.classes[0] == "blue"


def test_an_interruption_leaves_nothing(
    pack: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lpt.packs.pack.write_text", interrupt)  # after the tensors are on the disk
    with pytest.raises(KeyboardInterrupt):
        lpt.extend(pack, pictures, tmp_path / "out", checkpoint=tiny_backbone)
    assert not list(tmp_path.glob("out*"))


def test_the_same_pictures_give_the_same_pack(pack: Path, pictures: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """The tensors are the same bytes wherever the pictures lie, and their hash is stored."""
    elsewhere = Path(shutil.copytree(pictures, tmp_path / "elsewhere"))
    files = [
        lpt.extend(pack, data, tmp_path / name, checkpoint=tiny_backbone).pack.path / "pack.safetensors"
        for name, data in (("a", pictures), ("b", elsewhere))
    ]
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sha256(files[0].read_bytes()) == load_pack(tmp_path / "a").info.tensors_sha256
