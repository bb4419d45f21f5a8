"""Packs on an exported backbone give what they give in PyTorch; what does not belong to it is refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save

import lpt
from lpt.errors import ConfigError, LptError, PackError
from lpt.packs.files import sha256
from lpt.packs.onnx import OnnxEngine, _check_blocks
from lpt.packs.pack import TENSORS_NAME, load_pack
from lpt.packs.predictor import Predictor
from pack_kinds import new_checkpoint, new_pack
from small_packs import edit, rewritten

ARCHITECTURE = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 32,
    "depth": 3,
    "num_heads": 2,
    "reg_tokens": 2,
    "qk_norm": True,
    "init_values": 0.1,
    "pre_norm": True,
}
GROUPED = {"prompt_length": 2, "shared_blocks": 1, "pool_size": 5, "top_k": 2}
KINDS: dict[str, tuple[dict[str, Any], list[int], dict[str, Any]]] = {
    "full": (GROUPED, [1, 2], {}),
    "early": ({**GROUPED, "shared_blocks": 0, "top_k": 1, "prompt_length": 1}, [1, 2], {"size": (16, 48)}),
    "late": ({**GROUPED, "shared_blocks": 2, "top_k": 5}, [1, 2], {"test_views": 5}),
    "prefix": ({**GROUPED, "query": "prefix", "adapter_size": 1, "adapter_norm": True}, [1, 2], {}),
    "unprompted": ({**GROUPED, "prompt_length": 0}, [1, 2], {}),
    "phase1": (GROUPED, [1], {"size": (8, 8)}),
    "deep": ({"prompts": "deep", "prompt_length": 3}, [], {}),
    "shallow": ({"prompts": "shallow", "prompt_length": 3, "head": "linear"}, [], {"size": (40, 24)}),
    "adapters": ({"prompts": "none", "adapter_size": 3, "adapter_scale": None, "adapter_norm": True}, [], {}),
    "plain adapters": ({"prompts": "none", "adapter_size": 2, "adapter_scale": 0.3}, [], {}),
    "probe": ({"prompts": "none", "head": "linear"}, [], {}),
    "biases": ({"prompts": "none", "weights": "biases"}, [], {}),
}
RUNNABLE = [*(kind for kind in KINDS if kind != "biases"), "extended"]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small backbone with everything that a plain ViT may have: registers, qk-norm, layer scale, norm_pre."""
    return new_checkpoint(tmp_path_factory.mktemp("odd") / "odd.safetensors", ARCHITECTURE)


@pytest.fixture(scope="module")
def packs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory, photo_folder: Path) -> dict[str, Path]:
    """A pack of random tensors for each kind, of differing class counts; to one, classes were added."""
    folder = tmp_path_factory.mktemp("packs")
    backbone = lpt.load_backbone("odd", checkpoint=checkpoint)
    packs = {kind: new_pack(folder / kind, backbone, number, *KINDS[kind]) for number, kind in enumerate(KINDS)}
    extended = lpt.extend(packs["late"], photo_folder, folder / "extended", backbone=backbone)
    return {**packs, "extended": extended.pack.path}


@pytest.fixture(scope="module")
def exported(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "odd"
    assert lpt.export(backbone="odd", checkpoint=checkpoint, output=folder) == folder / "backbone.onnx"
    return folder


@pytest.fixture(scope="module")
def onnx(packs: dict[str, Path], exported: Path) -> Predictor:
    return lpt.load_predictor({kind: packs[kind] for kind in RUNNABLE}, backbone=exported)


@pytest.fixture(scope="module")
def torch_predictor(packs: dict[str, Path], checkpoint: Path) -> Predictor:
    return lpt.load_predictor({kind: packs[kind] for kind in RUNNABLE}, checkpoint=checkpoint, engine="torch")


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (7, 45, 60, 3), dtype=np.uint8))


def table(predictor: Predictor, pictures: list[np.ndarray], kind: str) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Probabilities in class order [n, C], and groups."""
    predictions = predictor.predict(pictures, pack=kind, top_k=100)
    names = predictor.pack(kind).info.class_names
    rows = [dict(zip(p.classes, p.probabilities, strict=True)) for p in predictions]
    return np.array([[row[name] for name in names] for row in rows]), [p.groups for p in predictions]


@pytest.mark.parametrize("kind", RUNNABLE)
def test_every_kind_of_pack_gives_the_probabilities_of_torch(
    onnx: Predictor, torch_predictor: Predictor, pictures: list[np.ndarray], kind: str
) -> None:
    assert (onnx.engine.name, torch_predictor.engine.name) == ("onnx", "torch")
    for count in (1, 2, 7):
        given, groups = table(onnx, pictures[:count], kind)
        expected, expected_groups = table(torch_predictor, pictures[:count], kind)
        np.testing.assert_allclose(given, expected, atol=1e-5, rtol=0)
        assert groups == expected_groups  # no two cosines of these random keys are within rounding of each other
    assert all(bool(picked) == onnx.pack(kind).info.uses_group_prompts for picked in groups)


def test_images_of_all_packs_in_one_call_give_what_each_gives_alone(
    onnx: Predictor, pictures: list[np.ndarray]
) -> None:
    batch = [onnx.prepare(picture, pack=kind) for picture in pictures[:3] for kind in RUNNABLE]
    for item, output in zip(batch, onnx.run(batch), strict=True):
        (alone,) = onnx.run([item])
        np.testing.assert_allclose(output.scores, alone.scores, atol=1e-5, rtol=1e-5)
        assert output.groups == alone.groups


def test_attention_is_that_of_the_class_token_to_the_patches_in_the_last_block(
    onnx: Predictor, torch_predictor: Predictor, pictures: list[np.ndarray]
) -> None:
    (output,) = onnx.run([onnx.prepare(pictures[0], pack="deep")], attention=True)
    model = torch_predictor.model("deep").model
    backbone, prompts = model.backbone, model.shared.tokens  # type: ignore[union-attr]
    pixels = torch.from_numpy(onnx.prepare(pictures[0], pack="deep").pixels)[None]
    tokens = backbone.embed(torch_predictor.pack("deep").info.preprocessing.normalize(pixels))
    for layer in range(2):
        tokens = backbone.block(layer, tokens, [backbone.prompt_key_value(layer, prompts[layer])])
    query, key, _ = backbone.project(2, tokens)
    key = torch.cat([key, backbone.prompt_key_value(2, prompts[2]).key[None]], dim=2)
    weights = (query[:, :, 0] * 16**-0.5)[:, :, None] @ key.transpose(2, 3)
    expected = weights.softmax(dim=-1).mean(dim=1)[0, 0, 3:19].reshape(4, 4)  # after a class token and two registers
    assert output.attention is not None
    np.testing.assert_allclose(output.attention, expected.numpy(), atol=1e-6)
    (silent,) = onnx.run([onnx.prepare(pictures[0], pack="deep")])
    assert silent.attention is None


def test_threads_may_share_an_engine(onnx: Predictor, pictures: list[np.ndarray]) -> None:
    kinds = ["full", "prefix", "shallow", "probe"] * 6
    expected = {kind: table(onnx, pictures, kind)[0] for kind in set(kinds)}
    with ThreadPoolExecutor(4) as pool:
        for kind, (given, _) in zip(kinds, pool.map(lambda kind: table(onnx, pictures, kind), kinds), strict=True):
            np.testing.assert_allclose(given, expected[kind], atol=1e-6)


def test_a_split_is_measured_as_on_torch(
    packs: dict[str, Path], exported: Path, checkpoint: Path, photo_folder: Path
) -> None:
    here, expected = (
        lpt.evaluate(packs["extended"], photo_folder, batch_size=4, **engine).predictions
        for engine in ({"engine": "onnx", "backbone": str(exported)}, {"checkpoint": checkpoint})
    )
    np.testing.assert_allclose(here.scores, expected.scores, atol=1e-5)
    assert here.groups is not None
    assert here.groups.tolist() == expected.groups.tolist()  # type: ignore[union-attr]


def test_it_predicts_where_torch_is_not_installed(
    packs: dict[str, Path],
    exported: Path,
    checkpoint: Path,
    onnx: Predictor,
    pictures: list[np.ndarray],
    photo_folder: Path,
    tmp_path: Path,
) -> None:
    """In Python, and by `lpt predict`, which names what is missing where it has no exported backbone."""
    ways = [["--checkpoint", str(checkpoint)], ["--backbone", str(exported)]]
    command = ["predict", str(packs["late"]), str(photo_folder / "test"), "--output", str(tmp_path / "rows.csv")]
    code = f"""
import json, sys
heavy = ("torch", "torchvision", "timm", "onnx", "onnxscript")
sys.modules.update(dict.fromkeys(heavy))
import numpy as np, lpt
predictor = lpt.load_predictor({str(packs["late"])!r}, engine="onnx", backbone={str(exported)!r})
pixels = np.random.default_rng(0).integers(0, 256, (1, 45, 60, 3), dtype=np.uint8)
[prediction] = predictor.predict(pixels, attention=True)
from typer.testing import CliRunner
from lpt.cli.app import app
command = {command!r}
shown = [CliRunner().invoke(app, [*command, *more]) for more in {ways!r}]
shown = [(result.exit_code, result.output) for result in shown]
print(json.dumps([prediction.label, prediction.probability, prediction.groups, shown]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    expected = onnx.predict(pictures[:1], pack="late")[0]
    label, probability, groups, ((code, message), (works, _)) = json.loads(done.stdout)
    assert (label, tuple(groups)) == (expected.label, expected.groups)
    assert probability == pytest.approx(expected.probability, abs=1e-6)
    assert (code, works) == (2, 0)
    assert "which is not installed" in message
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 7


@pytest.mark.parametrize("tensor", ["groups.prompts", "groups.keys", "head.weight", "shared.tokens"])
def test_a_pack_whose_tensors_were_changed_is_refused(
    packs: dict[str, Path], exported: Path, tmp_path: Path, tensor: str
) -> None:
    """Also a group prompt or a key that the reference image does not pick."""
    folder = Path(shutil.copytree(packs["full"], tmp_path / "pack"))
    engine = OnnxEngine(exported)
    picked = engine.run([(engine.load(load_pack(folder)), np.zeros((3, 32, 32), dtype=np.uint8))])[0].groups
    row = next(number for number in range(3) if number not in picked)
    with pytest.raises(PackError, match="gives other outputs"):
        engine.load(rewritten(folder, lambda tensors: tensors[tensor][row].mul_(-1)))


def damaged(name: str) -> Callable[[Path], object]:
    def change(folder: Path) -> object:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        return (folder / name).write_bytes(content)

    return change


def other(name: str, recorded: str, content: bytes) -> Callable[[Path], object]:
    """Put something else in place of a file, with the sha256 that belongs to it."""

    def change(folder: Path) -> object:
        (folder / name).write_bytes(content)
        description = json.loads((folder / "backbone.json").read_text(encoding="utf-8"))
        return (folder / "backbone.json").write_text(json.dumps(description | {recorded: sha256(content)}))

    return change


def other_graph() -> bytes:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("images", "scores")]
    graph = helper.make_graph([helper.make_node("Identity", ["images"], ["scores"])], "g", values[:1], values[1:])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other("backbone.onnx", "graph_sha256", other_graph()), "cannot run .*copy"),
        (other("backbone.onnx", "graph_sha256", b"no graph"), "cannot load .*copy"),
        (
            other("positions.safetensors", "positions_sha256", save({"positions": np.zeros((1, 7, 4, 4))})),
            "positions.safetensors does not fit backbone.json",
        ),
        (damaged("backbone.onnx"), "backbone.onnx is damaged"),
        (damaged("positions.safetensors"), "positions.safetensors is damaged"),
        (lambda folder: (folder / "backbone.onnx").unlink(), "cannot read .*backbone.onnx"),
        (lambda folder: (folder / "backbone.json").write_text('{"kind": "other"}'), "is not that of an export"),
        (lambda folder: (folder / "backbone.json").unlink(), "has no backbone.json"),
    ],
)
def test_a_folder_that_is_damaged_is_refused(
    packs: dict[str, Path], exported: Path, tmp_path: Path, change: Callable[[Path], object], message: str
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "copy"))
    change(folder)
    with pytest.raises(LptError, match=message):
        lpt.load_predictor(packs["full"], engine="onnx", backbone=folder)


def test_what_does_not_belong_on_the_engine_is_refused(
    packs: dict[str, Path], exported: Path, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(PackError, match=r"weights of the backbone that were trained too.*export the pack whole"):
        lpt.load_predictor(packs["biases"], backbone=exported)
    other = Path(shutil.copytree(packs["full"], tmp_path / "other"))
    edit(other, lambda values: values["backbone"].update(weight_hash="0" * 64))
    with pytest.raises(PackError, match="belongs to other backbone weights"):
        lpt.load_predictor(other, backbone=exported)
    odd = Path(shutil.copytree(packs["full"], tmp_path / "odd"))
    edit(odd, lambda values: values["preprocessing"].update(size=[36, 32]))
    with pytest.raises(PackError, match=r"36x32 pixels.*multiples of its patch, 8x8"):
        lpt.load_predictor(odd, backbone=exported)
    for arguments in ({"device": "cuda"}, {"precision": "bf16"}, {"checkpoint": checkpoint}):
        with pytest.raises(ConfigError):
            lpt.load_predictor(packs["full"], engine="onnx", backbone=exported, **arguments)
    with pytest.raises(ConfigError, match="needs the folder of an exported backbone"):
        lpt.load_predictor(packs["full"], engine="onnx")


@pytest.mark.parametrize("changes", [{"shared_blocks": 3}, {"shared_blocks": 0, "query": "prefix"}])
def test_group_prompts_without_a_block_are_refused(packs: dict[str, Path], changes: dict[str, Any]) -> None:
    pack = load_pack(packs["full"])
    _check_blocks(pack, 3)
    info = pack.info.model_copy(update={"method": pack.info.method.model_copy(update=changes)})
    with pytest.raises(ConfigError, match="does not fit 3 blocks"):
        _check_blocks(replace(pack, info=info), 3)


def test_the_pack_itself_stays_as_it_was_read(packs: dict[str, Path], onnx: Predictor) -> None:
    """The engine prepares tensors once, and must not do so in place."""
    for kind in RUNNABLE:
        for name, stored in load_file(packs[kind] / TENSORS_NAME).items():
            assert np.array_equal(onnx.pack(kind).tensors[name], stored)
