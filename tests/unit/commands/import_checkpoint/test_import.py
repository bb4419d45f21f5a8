"""Checkpoints of the authors' code become packs with the authors' outputs, on their own backbone alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.errors import ConfigError, DataError, LptError, RunError
from lpt.model import FrozenViT
from lpt.model.record import BackboneRecord, weight_hash
from lpt.packs.pack import load_pack
from oracle import relative_error
from small_packs import NAMES, SIZES, new_model
from strangers import Evil

Tensors = dict[str, Tensor]
THEIR_NAMES = {
    "shared.tokens": "Prompt_Tokens",
    "groups.prompts": "Prompt_Tokens_pool",
    "groups.keys": "Prompt_Keys",
    "head.weight": "head.weight",
}


def published(trained: Tensors, backbone: Tensors) -> Tensors:
    """Tensors as the authors' model names them; the head has a column for each class."""
    learner = {f"prompt_learner.{THEIR_NAMES[name]}": tensor.clone() for name, tensor in trained.items()}
    learner["prompt_learner.head.weight"] = learner["prompt_learner.head.weight"].T.contiguous()
    return {**backbone, **learner}


@pytest.fixture(scope="module")
def tensors(tiny_backbone: Path) -> Tensors:
    """A whole model of random prompts on the small backbone."""
    return published(new_model(tiny_backbone).state_dict(), load_file(tiny_backbone))


@pytest.fixture
def imported(tensors: Tensors, tiny_backbone: Path, tmp_path: Path) -> Callable[..., Any]:
    """Import tensors, changed by the caller."""

    def run(content: object = None, **options: Any) -> Any:
        file = tmp_path / "model.pth"
        torch.save(tensors if content is None else content, file)
        values = {"output": tmp_path / "pack", "backbone": "tiny", "checkpoint": tiny_backbone, "classes": NAMES}
        return lpt.import_checkpoint(file, **{**values, **options})

    return run


# --- golden numbers of the authors' code ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def golden(shared_dir: Path) -> dict[str, Any]:
    path = shared_dir / "parity" / "official_small.safetensors"
    if not path.is_file():
        pytest.skip(f"needs the golden numbers, and {path} does not exist")
    with safe_open(str(path), "pt") as file:
        content: dict[str, Any] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return content | {f"size.{name}": int(value) for name, value in file.metadata().items() if value.isdecimal()}


def golden_backbone(golden: dict[str, Any], eps: float = 1e-5) -> FrozenViT:
    """The backbone of the golden numbers in float32; the authors' code leaves `eps` at PyTorch's default."""
    vit = VisionTransformer(
        img_size=golden["size.img"],
        patch_size=golden["size.patch"],
        embed_dim=golden["size.dim"],
        depth=golden["size.depth"],
        num_heads=golden["size.heads"],
        num_classes=0,
        norm_layer=partial(nn.LayerNorm, eps=eps),
    ).eval()
    vit.load_state_dict({k.removeprefix("backbone."): v for k, v in golden.items() if k.startswith("backbone.")})
    record = BackboneRecord(
        name="golden",
        checkpoint=None,
        weight_hash=weight_hash(vit),
        licence="unknown",
        parameters=sum(parameter.numel() for parameter in vit.parameters()),
        native_size=(golden["size.img"], golden["size.img"]),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
    )
    return FrozenViT(vit, record)


@pytest.mark.parametrize("phase", [1, 2])
@pytest.mark.parametrize("layout", ["whole", "module", "prompts", "learner", "safetensors"])
def test_the_outputs_are_the_golden_ones(golden: dict[str, Any], layout: str, phase: int, tmp_path: Path) -> None:
    """Of every layout, from the whole model to the prompts without a prefix, after each phase."""
    learner = {name: tensor for name, tensor in golden.items() if name.startswith("prompt_learner.")}
    backbone = {k.removeprefix("backbone."): v for k, v in golden.items() if k.startswith("backbone.")}
    if phase == 1:
        learner = {name: tensor for name, tensor in learner.items() if "pool" not in name and "Keys" not in name}
    file = tmp_path / f"model.{'safetensors' if layout == 'safetensors' else 'pth.tar'}"
    content: dict[str, Any] = {**backbone, **learner}
    if layout == "module":
        content = {"epoch": 90, "state_dict": {f"module.{name}": tensor for name, tensor in content.items()}}
    elif layout == "prompts":
        content = {"model": learner}
    elif layout == "learner":
        content = {name.removeprefix("prompt_learner."): tensor for name, tensor in learner.items()}
    (save_file if layout == "safetensors" else torch.save)(content, file)

    frozen = golden_backbone(golden)
    names = [f"class {number}" for number in range(golden["size.classes"])]
    pack = lpt.import_checkpoint(
        file, tmp_path / "pack", backbone=frozen, classes=names, counts=golden["input.class_counts"].tolist()
    )
    assert pack.info.method.name == ("lpt" if phase == 2 else "lpt-phase1")
    assert pack.info.class_counts == golden["input.class_counts"].tolist()
    model = pack.build(frozen)
    model.double()
    images = golden["input.images"]
    output = model(images).cosines if phase == 2 else model.forward_shared(images)
    assert relative_error(output, golden[f"phase{phase}.cosine"]) < 1e-6


def test_on_timms_eps_the_prompts_act_as_in_the_authors_code(golden: dict[str, Any], tmp_path: Path) -> None:
    """LayerNorm has eps 1e-6 in timm, 1e-5 there. What is left is the effect on image tokens; unscaled it is larger."""
    content = {name: tensor for name, tensor in golden.items() if name.startswith("prompt_learner.")}
    torch.save(content, tmp_path / "model.pth")
    frozen = golden_backbone(golden, eps=1e-6)
    names = [str(number) for number in range(golden["size.classes"])]
    differences = {}
    for eps in (1e-5, 1e-6):
        pack = lpt.import_checkpoint(
            tmp_path / "model.pth", tmp_path / f"pack-{eps}", backbone=frozen, classes=names, norm_eps=eps
        )
        model = pack.build(frozen)
        model.double()
        differences[eps] = float((model(golden["input.images"]).cosines - golden["phase2.cosine"]).abs().max())
        frozen.float()
    assert differences[1e-5] < 7e-6
    assert differences[1e-6] > 2e-5


# --- what is checked --------------------------------------------------------------------------------------------------


def test_tensors_are_stored(imported: Callable[..., Any], tiny_backbone: Path, tmp_path: Path) -> None:
    """Prompts scaled to the eps of the backbone, 1e-6; with the same eps all tensors are as in the file."""
    scaled, plain = imported(top_k=3), imported(norm_eps=1e-6, output=tmp_path / "plain")
    for name, tensor in new_model(tiny_backbone).state_dict().items():
        assert torch.equal(torch.from_numpy(plain.tensors[name]), tensor), name
        factor = 0.1**0.5 if name in ("shared.tokens", "groups.prompts") else 1
        torch.testing.assert_close(torch.from_numpy(scaled.tensors[name]), factor * tensor, rtol=1e-6, atol=0)
    method = scaled.info.method
    assert {name: getattr(method, name) for name in SIZES} == {**SIZES, "top_k": 3}


def test_unknown_counts_are_said_everywhere(imported: Callable[..., Any], tiny_backbone: Path, tmp_path: Path) -> None:
    pack = imported()
    assert (pack.info.class_counts, pack.info.counts_known) == ([1, 1, 1], False)
    card = (pack.path / "README.md").read_text()
    assert "Training images: unknown" in card
    assert "fewer than 20" not in card
    shown = CliRunner().invoke(app, ["inspect", str(pack.path)]).output
    assert "unknown: nobody gave the training images" in shown
    assert "imported from model.pth" in shown
    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40)).save(tmp_path / "photos" / name / "a.png")
    with Console(record=True, quiet=False, file=io.StringIO()) as console:
        lpt.evaluate(pack.path, tmp_path / "photos", split="train", checkpoint=tiny_backbone, console=console)
    assert "does not know how many training images its classes had" in console.export_text()


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("adder,120\n\nbjörn,40\n'=crane,1\n", [120, 40, 1]),
        ('class,count\nadder,120\n"björn",40\r\n\'=crane, 1', [120, 40, 1]),
        ('\ufeffadder\nbjörn\n"\'=crane"\n', None),
    ],
)
def test_class_files(text: str, counts: list[int] | None, imported: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text(text, encoding="utf-8")
    info = imported(classes=tmp_path / "classes.csv").info
    assert info.class_names == ["adder", "björn", "=crane"]
    assert (info.class_counts, info.counts_known) == ((counts, True) if counts else ([1, 1, 1], False))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adder\nbjörn\n", r"there are 2 classes, but the head in .* has 3"),
        ("adder\nbjörn\nadder\n", "'adder' occurs more than once"),
        ("adder,1\nbjörn\ncrane,2\n", r"line 2: 'björn' is not accepted"),
        ("adder,1\nbjörn,many\ncrane,2\n", r"line 2: 'many' is no number"),
        ("adder,0\nbjörn,0\ncrane,0\n", "at least one class with images"),
        ("", "there is no class in it"),
    ],
)
def test_bad_class_files(text: str, message: str, imported: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        imported(classes=tmp_path / "classes.txt")
    assert not (tmp_path / "pack").exists()


def without(tensors: Tensors, *names: str) -> Tensors:
    return {name: tensor for name, tensor in tensors.items() if name not in names}


def nudged(tensors: Tensors, name: str) -> Tensors:
    tensor = tensors[name].clone()
    tensor.view(-1)[3] += 0.25
    return {**tensors, name: tensor}


CHANGES: dict[str, tuple[Callable[[Tensors], object], str]] = {
    "other weight": (
        lambda t: nudged(t, "blocks.2.mlp.fc1.weight"),
        r"of \d+ tensors, 1 with other numbers \(blocks\.2\.mlp\.fc1\.weight\), up to 0\.25 apart",
    ),
    "lacks a block": (
        lambda t: without(t, "blocks.3.attn.qkv.bias", "norm.weight"),
        r"2 missing in the file \(blocks\.3\.attn\.qkv\.bias, norm\.weight\)",
    ),
    "more blocks": (
        lambda t: t | {"blocks.4.attn.qkv.bias": t["blocks.3.attn.qkv.bias"]},
        r"1 not of the backbone \(blocks\.4",
    ),
    "other size": (lambda t: t | {"pos_embed": torch.zeros(1, 5, 32)}, r"1 of another shape \(pos_embed\)"),
    "no head": (lambda t: without(t, "prompt_learner.head.weight"), r"prompt_learner\.head\.weight is missing"),
    "no keys": (lambda t: without(t, "prompt_learner.Prompt_Keys"), r"prompt_learner\.Prompt_Keys is missing"),
    "adapter": (lambda t: t | {"prompt_learner.adapter": torch.ones(1)}, r"does not know prompt_learner\.adapter"),
    "short prompts": (
        lambda t: t | {"prompt_learner.Prompt_Tokens": torch.ones(3, 2, 32)},
        r"shared\.tokens is 3 x 2 x 32 and should be 4 x 2 x 32",
    ),
    "wide pool": (
        lambda t: t | {"prompt_learner.Prompt_Tokens_pool": torch.ones(4, 9, 2, 32)},
        r"groups\.prompts is 4 x 9 x 2 x 32 and should be",
    ),
    "flat head": (lambda t: t | {"prompt_learner.head.weight": torch.ones(32)}, "2 sides are accepted"),
    "not finite": (
        lambda t: (
            nudged(t, "prompt_learner.Prompt_Keys") | {"prompt_learner.Prompt_Keys": torch.full((4, 32), torch.inf)}
        ),
        r"prompt_learner\.Prompt_Keys holds 128 numbers that are not finite",
    ),
    "no prompts": (
        lambda t: {"fc.weight": torch.ones(2)},
        r"no prompt_learner\.Prompt_Tokens in it.*It holds fc\.weight",
    ),
    "a list": (lambda t: [torch.ones(2)], "no file of tensors"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_does_not_fit_is_named(
    change: str, tensors: Tensors, imported: Callable[..., Any], tmp_path: Path
) -> None:
    """Nothing is written."""
    act, message = CHANGES[change]
    with pytest.raises((ConfigError, DataError), match=message):
        imported(act(tensors))
    assert not (tmp_path / "pack").exists()


def test_half_precision_is_compared_as_it_is(tensors: Tensors, imported: Callable[..., Any]) -> None:
    imported({name: tensor.half() for name, tensor in tensors.items()})


def test_code_in_a_checkpoint_never_runs(tensors: Tensors, imported: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds Python objects besides tensors"):
        imported({**tensors, "extra": Evil(tmp_path / "ran")})
    assert not (tmp_path / "ran").exists()


def test_arguments(imported: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "counts.txt").write_text("5\n4\n")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"top_k": 5}, "has 4 group prompts to pick from"),
        ({"counts": tmp_path / "counts.txt"}, "there are 2 numbers for 3 classes"),
        ({"size": [32]}, "pixels as 224"),
        ({"norm_eps": 0.0}, "above 0"),
    ]
    for options, message in cases:
        with pytest.raises(LptError, match=message):
            imported(**options)
    (tmp_path / "pack").mkdir()
    with pytest.raises(RunError, match="is there already"):
        imported()


def test_the_command(tensors: Tensors, tiny_backbone: Path, tmp_path: Path) -> None:
    save_file(tensors, tmp_path / "model.safetensors")
    (tmp_path / "classes.txt").write_text("\n".join(NAMES), encoding="utf-8")
    (tmp_path / "counts.txt").write_text("120\n40\n1\n")
    options = {
        "--backbone": "tiny",
        "--checkpoint": tiny_backbone,
        "--classes": tmp_path / "classes.txt",
        "--counts": tmp_path / "counts.txt",
        "--size": "48x32",
        "--output": tmp_path / "pack",
    }
    arguments = [str(part) for option in options.items() for part in option]
    result = CliRunner().invoke(app, ["import", str(tmp_path / "model.safetensors"), *arguments])
    assert result.exit_code == 0, result.output
    assert "its backbone is tiny, tensor by tensor" in result.output
    info = load_pack(tmp_path / "pack").info
    assert (info.class_counts, info.preprocessing.size) == ([120, 40, 1], (48, 32))
    for part in ("evaluate", "--checkpoint"):
        assert part in result.output.split("Next: ")[1]
