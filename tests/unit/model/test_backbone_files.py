"""A stranger's pack or weights run no code, and weights that do not fill the model are refused."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import lpt
from lpt.errors import ConfigError, PackError
from lpt.model import consent
from lpt.model.consent import needed_options, why_refused
from lpt.model.pretrained import load_backbone
from lpt.model.record import BackboneRecord
from lpt.packs.pack import load_pack
from lpt.packs.predictor import Predictor

LPT = [sys.executable, "-m", "lpt"]
TINY_NAME, TINY_WIDTH = "vit_tiny_patch16_224", 192


class Evil:
    """What a pickle can hold: unpickling it makes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    """The file that evil pickles make; the plain unpickler is shown to make it."""
    path = tmp_path / "marker"
    pickle.loads(pickle.dumps(Evil(path)))
    assert path.exists()
    path.unlink()
    return path


def program(*arguments: object, folder: Path, **environment: str) -> tuple[int, str]:
    done = subprocess.run(
        [*LPT, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", **environment},
    )
    return done.returncode, done.stdout + done.stderr


def check_refused(marker: Path, code: int, output: str, *parts: str) -> None:
    assert code == 2, output
    assert len(re.findall(r"^Error: ", output, flags=re.MULTILINE)) == 1
    assert "Traceback" not in output
    for part in parts:
        assert part in output.replace("\n", " ")
    assert not marker.exists()


def change_record(run: Path, **values: object) -> None:
    path = run / "pack" / "pack.json"
    content = json.loads(path.read_text())
    content["backbone"] |= values
    path.write_text(json.dumps(content))


def model_folder(path: Path, weights: object) -> Path:
    """A folder as timm's `local-dir:` wants it, and a snapshot of the hub has it."""
    path.mkdir(parents=True)
    config = {"architecture": TINY_NAME, "num_classes": 0, "pretrained_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (path / "config.json").write_text(json.dumps(config))
    torch.save(weights, path / "pytorch_model.bin")
    return path


# --- a pack does not choose what is loaded


@pytest.fixture
def looked_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Paths that were opened, listed or stat-ed."""
    paths: list[str] = []
    watching = True

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if watching and event in ("open", "os.listdir", "os.scandir"):
            paths.append(str(arguments[0]))

    sys.addaudithook(note)
    for name in ("stat", "lstat"):
        original = getattr(os, name)

        def noted(path: Any, *rest: Any, original: Callable[..., Any] = original, **more: Any) -> Any:
            paths.append(str(path))
            return original(path, *rest, **more)

        monkeypatch.setattr(os, name, noted)
    yield paths
    watching = False


@pytest.mark.parametrize("form", ["local-dir", "absolute checkpoint", "relative checkpoint", "old pack"])
def test_what_a_pack_names_is_not_touched(
    form: str,
    fitted_run: Path,
    photo_folder: Path,
    tmp_path: Path,
    marker: Path,
    looked_at: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No file that a stranger's pack names is opened or looked for, from the command line or from Python."""
    place = model_folder(tmp_path / "strange", {"model": Evil(marker)})
    monkeypatch.chdir(tmp_path)
    weights = {"absolute checkpoint": place / "pytorch_model.bin", "relative checkpoint": "strange/pytorch_model.bin"}
    weights["old pack"] = "/home/someone/strange.pth"
    name = f"local-dir:{place}" if form == "local-dir" else TINY_NAME
    change_record(fitted_run, name=name, checkpoint=str(weights[form]) if form in weights else None)
    looked_at.clear()
    with pytest.raises(ConfigError, match="A pack may not choose"):
        Predictor(None, fitted_run / "pack")
    assert any("pack.json" in path for path in looked_at)
    assert not [path for path in looked_at if "strange" in path]
    option = "--backbone NAME" if form == "local-dir" else "--checkpoint FILE"
    for command in (["predict", fitted_run, photo_folder], ["evaluate", fitted_run / "pack", photo_folder]):
        check_refused(marker, *program(*command, folder=tmp_path), "strange", option)
    assert program("inspect", fitted_run, folder=tmp_path)[0] == 0
    assert not marker.exists()


REFUSED = [
    "hf-hub:someone/model", "hf_hub:someone/model", "HF-HUB:someone/model", "local-dir:.", "timm/vit_tiny_patch16_224",
    "../vit_tiny_patch16_224", "vit_tiny_patch16_224/..", "..", ".", "", "C:\\vit_tiny_patch16_224", "C:vit",
    "Vit_tiny_patch16_224", " vit_tiny_patch16_224", "vit_tiny_patch16_224\n", "vit_tiny_patch16_224.", "vit..tiny",
    "vit_tiny_patch16_224.augreg_in21k.augreg_in21k", "vit_tiny_p\u0430tch16_224", "\uff56it_tiny_patch16_224",
    "vit_tiny_patch16_22\u0664", "vit_tiny_patch16_224.no_such_tag", "no_such_model", "vit_" * 10_000 + "tiny",
    "vit_base_mci_224.apple_mclip", "vit_huge_patch14_gap_224.in1k_ijepa", "lpt-demo-glyphs ", "LPT-demo-glyphs",
]  # fmt: skip


def record_of(name: str, checkpoint: str | None = None) -> BackboneRecord:
    triple = (0.5, 0.5, 0.5)
    return BackboneRecord.model_construct(  # of names too that a pack cannot hold
        name=name, checkpoint=checkpoint, weight_hash="0" * 64, licence="", parameters=1, native_size=(8, 8),
        mean=triple, std=triple, interpolation="bicubic",
    )  # fmt: skip


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name)[:30])
def test_names_that_a_pack_may_not_use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Schemes, folders, look-alikes, unknown names, other organisations: one short message in ASCII, nothing loaded."""
    monkeypatch.setattr(consent, "load_backbone", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(ConfigError, match="--backbone NAME") as refused:
        consent.backbone_for(record_of(name), Path("pack"))
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize("name", ["lpt-demo-glyphs", TINY_NAME, "vit_base_patch14_dinov2.lvd142m"])
def test_names_that_a_pack_may_use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shipped backbones and those of timm's own organisation; with a checkpoint, only the user may name them."""
    given: list[Any] = []
    monkeypatch.setattr(consent, "load_backbone", lambda *names, **more: given.append((*names, more)))
    consent.backbone_for(record_of(name), Path("pack"))
    assert given == [(name, {})]
    assert needed_options(record_of(name)) == []
    with pytest.raises(ConfigError, match="--checkpoint FILE"):
        consent.backbone_for(record_of(name, "x.pth"), Path("pack"))
    consent.backbone_for(record_of("local-dir:.", "x.pth"), Path("pack"), name="mine", checkpoint=Path("y.pth"))
    assert given[1:] == [("mine", {"checkpoint": Path("y.pth")})]


def test_a_registered_model_of_another_organisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is where timm would load from, not that timm knows the name."""
    real = consent.get_pretrained_cfg(TINY_NAME)
    for fields in ({"hf_hub_id": "someone/vit"}, {"hf_hub_id": "timmy/vit"}, {"hf_hub_id": "timm/../vit"},
                   {"hf_hub_id": None, "url": "https://example.org/x.pth"}, {"file": "/tmp/x.pth"}):  # fmt: skip
        changed = type(real)(**{**vars(real), **fields})
        monkeypatch.setattr(consent, "get_pretrained_cfg", lambda _, changed=changed: changed)
        assert "timm's own organisation" in str(why_refused(record_of(TINY_NAME)))


def test_a_checkpoint_does_not_let_the_packs_name_through(fitted_run: Path, tmp_path: Path) -> None:
    """The user gave weights, not consent to the folder whose config.json the pack names."""
    change_record(fitted_run, name=f"local-dir:{tmp_path}", checkpoint="x.pth")
    torch.save({}, tmp_path / "mine.pth")
    with pytest.raises(ConfigError, match="Give the architecture"):
        Predictor(None, fitted_run / "pack", checkpoint=tmp_path / "mine.pth")


def test_the_hash_is_checked_before_anything_is_built(
    fitted_run: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No forward pass on other weights than the pack's, also where only the second of two packs is on others."""
    other = tmp_path / "second"
    (fitted_run / "pack").rename(tmp_path / "first")
    other.mkdir()
    for file in (tmp_path / "first").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    values = json.loads((other / "pack.json").read_text())
    values["backbone"]["weight_hash"] = "0" * 64
    (other / "pack.json").write_text(json.dumps(values))
    monkeypatch.setattr("lpt.packs.pack.build_model", lambda *_, **__: pytest.fail("something was built"))
    with pytest.raises(PackError, match="other backbone weights"):
        Predictor(None, [tmp_path / "first", other], checkpoint=tiny_backbone)


# --- the user's own weights run no code either


def evil_checkpoint(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    torch.save({"state_dict": evil}, folder / "evil.pth")
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.pth"]


def evil_beside_architecture(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    torch.save(evil, folder / "evil.bin")
    (folder / "evil.json").write_bytes(tiny.with_suffix(".json").read_bytes())
    return ["--checkpoint", folder / "evil.bin"]


def evil_plain_pickle(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    (folder / "evil.pt").write_bytes(pickle.dumps(evil))
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.pt"]


def evil_archive(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    np.savez(folder / "evil.npz", cls=np.array([evil], dtype=object), allow_pickle=True)
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.npz"]


def evil_array(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    np.save(folder / "evil.npy", np.array([evil], dtype=object), allow_pickle=True)
    return ["--backbone", TINY_NAME, "--checkpoint", folder / "evil.npy"]


def evil_folder(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    return ["--backbone", f"local-dir:{model_folder(folder / 'evil', {'model': evil})}"]


def evil_repository(folder: Path, evil: Evil, tiny: Path) -> list[object]:
    snapshot = folder / "hub" / "models--someone--evil" / "snapshots" / ("0" * 40)
    model_folder(snapshot, {"model": evil})
    (snapshot.parent.parent / "refs").mkdir()
    (snapshot.parent.parent / "refs" / "main").write_text("0" * 40)
    return ["--backbone", "hf-hub:someone/evil"]


@pytest.mark.parametrize(
    "make",
    [evil_checkpoint, evil_beside_architecture, evil_plain_pickle, evil_archive, evil_array, evil_folder,
     evil_repository],
)  # fmt: skip
def test_weights_run_no_code(
    make: Callable[[Path, Evil, Path], list[object]],
    photo_folder: Path,
    fitted_run: Path,
    tiny_backbone: Path,
    tmp_path: Path,
    marker: Path,
) -> None:
    """A pickle in a file that the user names, in every way to name one, is refused in one message; nothing is left."""
    options = make(tmp_path, Evil(marker), tiny_backbone)
    hub = {"HF_HUB_CACHE": str(tmp_path / "hub")}
    arguments = ["fit", photo_folder, "--output", tmp_path / "out", "--preset", "laptop", "--device", "cpu"]
    check_refused(marker, *program(*arguments, *options, folder=tmp_path, **hub), "backbone.", "evil")
    assert not (tmp_path / "out").exists()
    check_refused(marker, *program("predict", fitted_run, photo_folder, *options, folder=tmp_path, **hub), "evil")


# --- weights must fill the model


def tiny_weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    vit = timm.create_model(TINY_NAME, num_classes=5)
    return {name: 0.02 * torch.randn_like(tensor) for name, tensor in vit.state_dict().items()}


def under(prefix: str, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in weights.items()}


WRAPPED: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "plain": lambda w: w,
    "module": lambda w: {"epoch": 3, "args": argparse.Namespace(lr=1.0), "state_dict": under("module.", w)},
    "vit": lambda w: under("vit.", w),
    "encoder and a decoder": lambda w: under("encoder.", w) | under("decoder.", w),
    "dino": lambda w: {"student": {}, "teacher": under("module.backbone.", w) | {"module.head.x": torch.ones(1)}},
    "model in model": lambda w: {"model": under("model.", w), "optimizer": {}},
    "with a decoder": lambda w: w | under("decoder_", w),
}


@pytest.mark.parametrize("form", WRAPPED)
def test_known_wrappings_fit(form: str, tmp_path: Path) -> None:
    """What training programs put around the names is taken off, and every tensor is the file's."""
    weights = tiny_weights()
    torch.save(WRAPPED[form](weights), tmp_path / "x.pth")
    state = load_backbone(TINY_NAME, checkpoint=tmp_path / "x.pth").vit.state_dict()
    assert len(state) == len([name for name in weights if not name.startswith("head.")])
    assert all(torch.equal(tensor, weights[name]) for name, tensor in state.items())


def test_timms_conversions_still_hold(tmp_path: Path) -> None:
    """Position embeddings of another grid, and the names of DINOv2, give what timm gives."""
    weights = tiny_weights()
    torch.save(
        weights | {"pos_embed": torch.randn(1, 1 + 49, TINY_WIDTH), "mask_token": torch.zeros(1)}, tmp_path / "x.pth"
    )
    cfg = {"file": str(tmp_path / "x.pth")}
    timms = timm.create_model(TINY_NAME, pretrained=True, num_classes=0, pretrained_cfg_overlay=cfg).state_dict()
    ours = load_backbone(TINY_NAME, checkpoint=tmp_path / "x.pth").vit.state_dict()
    assert all(torch.equal(ours[name], tensor) for name, tensor in timms.items())


def drop(*names: str) -> Callable[[dict[str, Tensor]], None]:
    return lambda weights: [weights.pop(name) for name in names] and None


def deeper(weights: dict[str, Tensor]) -> None:
    weights.update(
        {name.replace("blocks.0.", "blocks.12."): t.clone() for name, t in weights.items() if "blocks.0." in name}
    )


def rename(weights: dict[str, Tensor]) -> None:
    for name in list(weights):
        weights["layers/" + name] = weights.pop(name)


def wider(weights: dict[str, Tensor]) -> None:
    weights["blocks.3.mlp.fc1.weight"] = torch.ones(7, 7)


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        (drop("norm.weight"), ["1 of the model's 150 tensors are not in it (norm.weight)"]),
        (drop("blocks.5.attn.qkv.bias", "cls_token"), ["2 of the model's 150", "blocks.5.attn.qkv.bias"]),
        (rename, ["150 of the model's 150", "152 in it are not of the model (layers/", "--backbone NAME"]),
        (deeper, ["12 in it are not of the model (blocks.12."]),
        (wider, ["1 of 150 have another shape (blocks.3.mlp.fc1.weight: [7, 7] in the file, [768, 192] in the model)"]),
        (lambda weights: weights["blocks.2.norm1.bias"].__setitem__(3, torch.nan), ["NaN", "blocks.2.norm1.bias"]),
        (lambda weights: weights["pos_embed"].fill_(torch.inf), ["infinity", "pos_embed"]),
        (lambda weights: weights.clear(), ["150 of the model's 150"]),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], None], parts: list[str], tmp_path: Path
) -> None:
    """A backbone is never partly random, cut short, or not a number: counts and names of both sides are told."""
    weights = tiny_weights()
    change(weights)
    save_file(weights, tmp_path / "x.safetensors")
    with pytest.raises(ConfigError) as refused:
        load_backbone(TINY_NAME, checkpoint=tmp_path / "x.safetensors")
    for part in ["x.safetensors", *parts]:
        assert part in str(refused.value)


def as_arrays(weights: dict[str, Tensor], heads: int) -> dict[str, np.ndarray]:
    """The names and shapes of the original JAX archives."""
    arrays = {
        "embedding/kernel": weights["patch_embed.proj.weight"].permute(2, 3, 1, 0),
        "embedding/bias": weights["patch_embed.proj.bias"],
        "cls": weights["cls_token"],
        "Transformer/posembed_input/pos_embedding": weights["pos_embed"],
        "Transformer/encoder_norm/scale": weights["norm.weight"],
        "Transformer/encoder_norm/bias": weights["norm.bias"],
    }
    blocks = {int(found[1]) for found in (re.match(r"blocks\.(\d+)\.", name) for name in weights) if found}
    for block in blocks:
        ours, theirs = f"blocks.{block}.", f"Transformer/encoderblock_{block}/"
        attention = theirs + "MultiHeadDotProductAttention_1/"
        for number, name in enumerate(("query", "key", "value")):
            kernel = weights[ours + "attn.qkv.weight"].chunk(3)[number].T
            arrays[f"{attention}{name}/kernel"] = kernel.reshape(len(kernel), heads, -1)
            arrays[f"{attention}{name}/bias"] = weights[ours + "attn.qkv.bias"].chunk(3)[number].reshape(heads, -1)
        kernel = weights[ours + "attn.proj.weight"].T
        arrays[attention + "out/kernel"] = kernel.reshape(heads, -1, kernel.shape[1])
        arrays[attention + "out/bias"] = weights[ours + "attn.proj.bias"]
        for norm, number in (("norm1", 0), ("norm2", 2)):
            arrays[f"{theirs}LayerNorm_{number}/scale"] = weights[f"{ours}{norm}.weight"]
            arrays[f"{theirs}LayerNorm_{number}/bias"] = weights[f"{ours}{norm}.bias"]
        for layer in (0, 1):
            arrays[f"{theirs}MlpBlock_3/Dense_{layer}/kernel"] = weights[f"{ours}mlp.fc{layer + 1}.weight"].T
            arrays[f"{theirs}MlpBlock_3/Dense_{layer}/bias"] = weights[f"{ours}mlp.fc{layer + 1}.bias"]
    return {name: array.numpy() for name, array in arrays.items()}


def test_numpy_archives(tiny_backbone: Path, tmp_path: Path) -> None:
    """Original JAX archives load whole; with an array missing, one block too many or NaN they are refused."""
    weights = load_file(tiny_backbone)
    arrays = as_arrays(weights, heads=2)
    file = tmp_path / "x.npz"
    facts = json.loads(tiny_backbone.with_suffix(".json").read_text())

    def loaded(content: dict[str, np.ndarray], **architecture: object) -> dict[str, Tensor]:
        np.savez(file, **content)
        described = facts | {"architecture": facts["architecture"] | architecture}
        file.with_suffix(".json").write_text(json.dumps(described))
        return dict(load_backbone("tiny", checkpoint=file).vit.state_dict())

    state = loaded(arrays)
    assert all(torch.equal(state[name], tensor) for name, tensor in weights.items())
    with pytest.raises(ConfigError, match=r"8 of the model's \d+ tensors are not in it \(blocks.0.ls1.gamma"):
        loaded(arrays, init_values=0.1)
    with pytest.raises(ConfigError, match=r"x\.npz.*encoderblock_3"):
        loaded(arrays, depth=3)
    arrays["cls"] = arrays["cls"] * np.float32(np.nan)
    with pytest.raises(ConfigError, match=r"x\.npz.*NaN or infinity in the array cls"):
        loaded(arrays)


# --- what a pack tells of its author's machine


def test_a_pack_holds_no_folder_of_its_author(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File names alone; the same pack.json whether the run was resumed or not, from any folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sources = {name: os.path.relpath(photo_folder / name) for name in ("train", "test")}
    settings = {
        "data.test": sources["test"], "data.validation": sources["test"], "data.image_root": ".",
        "backbone.checkpoint": os.path.relpath(tiny_backbone), "image.size": 32, "train.epoch_steps": 1,
        "train.phase1.epochs": 1, "train.phase2.epochs": 1, "model.prompt_length": 2, "model.pool_size": 4,
        "runtime.device": "cpu", "runtime.threads": 1, "runtime.precision": "fp32",
    }  # fmt: skip
    run = tmp_path / "run"
    lpt.fit(sources["train"], run, preset="laptop", settings=settings)
    before = (run / "pack" / "pack.json").read_bytes()
    info = json.loads(before)
    assert info["backbone"]["checkpoint"] == info["training"]["backbone"]["checkpoint"] == "tiny.safetensors"
    data = info["training"]["data"]
    assert [data[key] for key in ("source", "test", "validation", "image_root")] == ["train", "test", "test", "here"]
    for file in (run / "pack").iterdir():
        assert str(tmp_path).encode() not in file.read_bytes()
        assert str(tiny_backbone.parent).encode() not in file.read_bytes()
    assert re.search(r"checkpoint: /\S+/tiny\.safetensors", (run / "config.yaml").read_text())
    (run / "metrics.json").unlink()
    monkeypatch.chdir(tmp_path)
    lpt.resume(run)
    assert (run / "pack" / "pack.json").read_bytes() == before


def test_what_is_printed_and_written_says_how_to_give_the_weights(
    photo_folder: Path, tiny_backbone: Path, fitted_run: Path, tmp_path: Path
) -> None:
    """The line after a fit works as it stands, and the model card and `lpt inspect` name the option."""
    sizes = ("image.size=32", "train.epoch_steps=1", "train.phase1.epochs=1", "train.phase2.epochs=0")
    settings = [part for one in sizes for part in ("--set", one)]
    arguments = ["fit", photo_folder, "-o", "out", "--preset", "laptop", "--device", "cpu", *settings]
    code, output = program(*arguments, "--checkpoint", tiny_backbone, folder=tmp_path)
    assert code == 0, output
    said = output.replace("\n", " ")
    (line,) = re.findall(r"Next: lpt (predict \S+ IMAGE_OR_FOLDER --checkpoint \S+tiny\.safetensors)", said)
    words = [str(photo_folder) if word == "IMAGE_OR_FOLDER" else word for word in line.split()]
    assert program(*words, folder=tmp_path)[0] == 0
    card = (fitted_run / "pack" / "README.md").read_text()
    assert "lpt predict THIS_FOLDER photo.jpg --checkpoint tiny.safetensors" in card
    assert 'lpt.Predictor(None, "THIS_FOLDER", checkpoint="tiny.safetensors")' in card
    assert "--checkpoint tiny.safetensors" in program("inspect", fitted_run, folder=tmp_path, COLUMNS="300")[1]


def test_an_old_pack_with_a_folder_in_it_loads(fitted_run: Path, tiny_backbone: Path) -> None:
    """Packs that were written before hold the author's path: given its file, they load."""
    change_record(fitted_run, checkpoint="/home/someone/tiny.safetensors")
    assert load_pack(fitted_run / "pack").info.backbone.checkpoint == "/home/someone/tiny.safetensors"
    Predictor(None, fitted_run / "pack", checkpoint=tiny_backbone, device="cpu")
