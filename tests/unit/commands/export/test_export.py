"""`lpt export`: a pack as one file for programs that know nothing of LPT, and the folder that it is written to."""

from __future__ import annotations

import json
import re
import resource
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.export import export as command
from lpt.commands.export.model import model_facts
from lpt.commands.export.request import ExportRequest
from lpt.errors import ConfigError, RunError
from lpt.model import FrozenViT
from lpt.packs.pack import load_pack
from lpt.packs.predictor import Predictor
from lpt.system.onnx_runtime import onnxruntime
from oracle import small_vit
from pack_kinds import new_checkpoint, new_pack

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "onnx_predict.py"


NAMES = ["class 0", "class 1", "class 2"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
    return new_checkpoint(tmp_path_factory.mktemp("backbone") / "small.safetensors", architecture)


@pytest.fixture(scope="module")
def pack(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pack with five views of 16x32 pixels, cut out of more."""
    sizes = {"prompt_length": 2, "shared_blocks": 1, "pool_size": 5}
    backbone = lpt.load_backbone("small", checkpoint=checkpoint)
    path = tmp_path_factory.mktemp("packs") / "views"
    return new_pack(path, backbone, 0, sizes, [1, 2], {"size": (16, 32), "test_views": 5})


@pytest.fixture(scope="module")
def exported(pack: Path, checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = lpt.export(pack, tmp_path_factory.mktemp("exported") / "views", checkpoint=checkpoint)
    assert file.name == "model.onnx"
    return file


@pytest.fixture(scope="module")
def predictor(pack: Path, checkpoint: Path) -> Predictor:
    return lpt.load_predictor(pack, checkpoint=checkpoint)


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    noise = np.random.default_rng(0).integers(0, 256, (7, 45, 60, 3), dtype=np.uint8)
    return [Image.fromarray(pixels) for pixels in noise]


def test_one_file_holds_the_whole_path(exported: Path, predictor: Predictor, pictures: list[Image.Image]) -> None:
    session = onnxruntime.InferenceSession(exported)
    facts = session.get_modelmeta().custom_metadata_map
    preprocessing = json.loads(facts["preprocessing"])
    assert (preprocessing["height"], preprocessing["width"]) == (18, 37)
    assert [entry["class"] for entry in json.loads(facts["classes"])] == NAMES
    assert json.loads(facts["classes"])[2] == {"class": "class 2", "training_images": 3, "shot_group": "few"}
    assert "even classes" in json.loads(facts["probabilities"])["meaning"]
    resized = [np.asarray(picture.resize((37, 18), Image.Resampling.BICUBIC)) for picture in pictures]
    for count in (1, 2, 7):
        given, scores, groups = session.run(
            ["probabilities", "scores", "groups"], {"images": np.stack(resized[:count])}
        )
        outputs = predictor.run([predictor.prepare(picture) for picture in pictures[:count]])
        predictions = predictor.predict(pictures[:count])
        expected = [[dict(zip(p.classes, p.probabilities, strict=True))[name] for name in NAMES] for p in predictions]
        np.testing.assert_allclose(given, expected, atol=1e-5)
        np.testing.assert_allclose(scores, [output.scores for output in outputs], atol=1e-5)
        assert [tuple(row) for row in groups.tolist()] == [output.groups for output in outputs]


def test_counts_that_nobody_knows_are_not_made_up(pack: Path) -> None:
    info = load_pack(pack).info.model_copy(update={"counts_known": False})
    first = model_facts(info)["classes"][0]
    assert first == {"class": "class 0", "training_images": None, "shot_group": None}


def test_the_file_says_nothing_of_the_machine(exported: Path) -> None:
    content = exported.read_bytes()
    assert str(Path.home()).encode() not in content
    assert b".py" not in content
    described = json.loads(exported.with_name("model.json").read_text(encoding="utf-8"))
    stored = {entry.key: entry.value for entry in onnx.load(exported).metadata_props}
    assert described.pop("kind") == "lpt-onnx-model"
    assert described.pop("format_version") == 1
    assert {name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            for name, value in described.items()} == stored  # fmt: skip


def test_the_example_needs_nothing_of_lpt(
    exported: Path, predictor: Predictor, pictures: list[Image.Image], tmp_path: Path
) -> None:
    pictures[0].save(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    pictures[1].save(tmp_path / "b.jpg", exif=exif)
    clear = pictures[2].convert("RGBA")
    clear.putalpha(pictures[3].convert("L"))
    clear.save(tmp_path / "c.png")
    paths = [str(tmp_path / name) for name in ("a.png", "b.jpg", "c.png")]
    code = (
        "import runpy, sys; sys.modules.update(dict.fromkeys(('lpt', 'torch', 'torchvision', 'onnx')));"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    arguments = [sys.executable, "-c", code, str(EXAMPLE), str(exported), *paths]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    expected = [
        (p.name, name, probability)
        for p in predictor.predict(paths, top_k=3)
        for name, probability in zip(p.classes, p.probabilities, strict=True)
    ]
    assert [(path, name) for path, name, _ in rows] == [(path, name) for path, name, _ in expected]
    np.testing.assert_allclose([float(row[2]) for row in rows], [row[2] for row in expected], atol=1e-5)
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8)).save(tmp_path / "deep.png")
    done = subprocess.run([*arguments[:5], str(tmp_path / "deep.png")], capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "more than 8 bits" in done.stderr
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) <= 40


def test_a_pack_with_trained_weights_of_the_backbone_is_exported_too(tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="needs the extra lora")
    sizes = {"prompts": "none", "head": "linear", "lora_rank": 2}
    architecture = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 1, "num_heads": 1}
    checkpoint = new_checkpoint(tmp_path / "small.safetensors", architecture)
    backbone = lpt.load_backbone("small", checkpoint=checkpoint)
    folder = new_pack(tmp_path / "pack", backbone, 3, sizes, [], {"size": (16, 16)})
    session = onnxruntime.InferenceSession(lpt.export(folder, tmp_path / "out", checkpoint=checkpoint))
    assert [output.name for output in session.get_outputs()] == ["probabilities", "scores"]
    predictor = lpt.load_predictor(folder, checkpoint=checkpoint)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (18, 18, 3), dtype=np.uint8))
    (scores,) = session.run(["scores"], {"images": np.asarray(picture)[None]})
    (output,) = predictor.run([predictor.prepare(picture)])
    np.testing.assert_allclose(scores[0], output.scores, atol=1e-4)


# --- the folder -------------------------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take some bytes for an exported pack: what is tested is where they go."""
    monkeypatch.setattr(
        command, "_pack", lambda request: {"model.json": b'{"kind": "lpt-onnx-model", "format_version": 1}',
                                           "model.onnx": str(request.checkpoint).encode()}
    )  # fmt: skip


@pytest.mark.usefixtures("quick")
def test_only_an_earlier_export_is_replaced_and_only_when_told(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    lpt.export("a pack", folder)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="holds an exported model already; add overwrite=True, or give another folder"):
        lpt.export("a pack", folder, checkpoint="new")
    assert (folder / "model.onnx").read_bytes() == b"None"
    lpt.export("a pack", folder, checkpoint="new", overwrite=True)
    assert (folder / "model.onnx").read_bytes() == b"new"
    assert (folder / "notes.txt").read_text() == "mine"
    (folder / "model.json").unlink()
    with pytest.raises(RunError, match=r"model.onnx would be replaced, but was not written by lpt"):
        lpt.export("a pack", folder, overwrite=True)
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(RunError, match="is a file; give a folder"):
        lpt.export("a pack", file)


@pytest.mark.usefixtures("quick")
def test_a_disk_that_is_too_small_leaves_the_earlier_export(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lpt.export("a pack", tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    large = {"model.json": b"{}", "model.onnx": bytes(2**21)}
    monkeypatch.setattr(command, "_pack", lambda request: large)
    handler, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, limits[1]))
    try:
        with pytest.raises(RunError, match=r"model.onnx: File too large"):
            lpt.export("a pack", tmp_path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.usefixtures("quick")
def test_a_run_or_a_pack_is_no_place_for_an_export(pack: Path, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"kind": "lpt-run", "format_version": 1}')
    for folder, title in ((tmp_path, "a run"), (pack, "a pack")):
        before = sorted(folder.iterdir())
        with pytest.raises(RunError, match=f"holds {title}, and stays as it is"):
            lpt.export("a pack", folder, overwrite=True)
        assert sorted(folder.iterdir()) == before


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_bad_input_gives_one_message_and_writes_nothing(pack: Path, tmp_path: Path) -> None:
    out = ["--output", str(tmp_path / "out")]
    cases: dict[str, list[str]] = {
        "give a PACK to export it whole, or --backbone NAME_OR_PACK": [],
        "is not a prompt pack": [str(tmp_path)],
        "the pack .* asks for the local weights": [str(pack)],  # a pack may not choose what is loaded
        "knows no model 'nonsense'": ["--backbone", "nonsense"],
        "asks for the local weights 'small.safetensors'": ["--backbone", str(pack)],
    }
    for message, arguments in cases.items():
        result = CliRunner().invoke(app, ["export", *arguments, *out])
        assert result.exit_code == 2, result.output
        assert re.search(message, " ".join(result.output.split())), result.output
    assert not (tmp_path / "out").exists()


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ConfigError, match=r"needs onnxscript, which is not installed. Next: pip install '.\[export\]'"):
        ExportRequest(tmp_path / "out", pack=tmp_path).check()


def test_a_backbone_that_cannot_be_exported_alone_is_refused_by_name() -> None:
    from timm.layers import HybridEmbed
    from torch import nn

    from lpt.commands.export.parts import Parts

    stem: Any = nn.Conv2d(3, 8, 4, stride=4)
    vit = small_vit(embed_layer=lambda **sizes: HybridEmbed(stem, **{**sizes, "patch_size": 2}))
    with pytest.raises(ConfigError, match=r"its patch embedding is HybridEmbed.*Export its packs whole"):
        Parts(FrozenViT(vit))
