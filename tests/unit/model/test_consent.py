"""A pack does not choose what is loaded, and holds no paths of its author's machine."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

import lpt
from lpt.errors import ConfigError, PackError
from lpt.model.consent import needed_options, permitted_name, why_refused
from lpt.model.record import BackboneRecord
from lpt.packs.pack import load_pack
from lpt.packs.predictor import load_predictor
from strangers import TINY_NAME, Evil, check_refused, model_folder, program


def change_record(run: Path, **values: object) -> None:
    path = run / "pack" / "pack.json"
    content = json.loads(path.read_text())
    content["backbone"] |= values
    path.write_text(json.dumps(content))


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
        load_predictor(fitted_run / "pack")
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
    """Return a record with any name, also one that no pack may hold."""
    triple = (0.5, 0.5, 0.5)
    return BackboneRecord.model_construct(
        name=name, checkpoint=checkpoint, weight_hash="0" * 64, licence="mit", parameters=1, native_size=(8, 8),
        mean=triple, std=triple, interpolation="bicubic",
    )  # fmt: skip


@pytest.mark.parametrize("name", REFUSED, ids=lambda name: ascii(name)[:30])
def test_names_that_a_pack_may_not_use(name: str) -> None:
    """Schemes, folders, look-alikes, unknown names, other organisations: one short message in ASCII."""
    with pytest.raises(ConfigError, match=r"lpt\.load_predictor\(pack, backbone=NAME\)\. Its sha256") as refused:
        permitted_name(record_of(name), Path("pack"))
    assert str(refused.value).isascii()
    assert len(str(refused.value)) < 800


@pytest.mark.parametrize("name", ["lpt-demo-glyphs", TINY_NAME, "vit_base_patch14_dinov2.lvd142m"])
def test_names_that_a_pack_may_use(name: str) -> None:
    """Shipped backbones and those of timm's own organisation; with a checkpoint, only the user may name them."""
    assert permitted_name(record_of(name), Path("pack")) == name
    assert needed_options(record_of(name)) == []
    with pytest.raises(ConfigError, match="checkpoint=FILE"):
        permitted_name(record_of(name, "x.pth"), Path("pack"))


def test_a_registered_model_of_another_organisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the place that timm would load from counts, not whether timm knows the name."""
    real = timm.models.get_pretrained_cfg(TINY_NAME)
    for fields in ({"hf_hub_id": "someone/vit"}, {"hf_hub_id": "timmy/vit"}, {"hf_hub_id": "timm/../vit"},
                   {"hf_hub_id": None, "url": "https://example.org/x.pth"}, {"file": "/tmp/x.pth"}):  # fmt: skip
        changed = type(real)(**{**vars(real), **fields})
        monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda _, changed=changed: changed)
        assert "timm's own organisation" in str(why_refused(record_of(TINY_NAME)))


def test_a_checkpoint_does_not_let_the_packs_name_through(fitted_run: Path, tmp_path: Path) -> None:
    """The user gave weights, not consent to the folder whose config.json the pack names."""
    change_record(fitted_run, name=f"local-dir:{tmp_path}", checkpoint="x.pth")
    torch.save({}, tmp_path / "mine.pth")
    with pytest.raises(ConfigError, match="Give the architecture"):
        load_predictor(fitted_run / "pack", checkpoint=tmp_path / "mine.pth")


def test_the_hash_is_checked_before_anything_is_built(
    fitted_run: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No forward pass runs on other weights than the pack's, even if only the second of two packs has others."""
    other = tmp_path / "second"
    (fitted_run / "pack").rename(tmp_path / "first")
    other.mkdir()
    for file in (tmp_path / "first").iterdir():
        (other / file.name).write_bytes(file.read_bytes())
    values = json.loads((other / "pack.json").read_text())
    values["backbone"]["weight_hash"] = "0" * 64
    (other / "pack.json").write_text(json.dumps(values))
    monkeypatch.setattr("lpt.model.build.build_model", lambda *_, **__: pytest.fail("something was built"))
    with pytest.raises(PackError, match="other backbone weights"):
        load_predictor([tmp_path / "first", other], checkpoint=tiny_backbone)


# --- what a pack tells of its author's machine


def test_a_pack_holds_no_folder_of_its_author(
    photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pack.json holds file names only; it is the same for a resumed run and from any folder."""
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
    """The command that `lpt fit` prints works, and the model card and `lpt inspect` name the option."""
    sizes = ("image.size=32", "train.epoch_steps=1", "train.phase1.epochs=1", "train.phase2.epochs=0")
    settings = [part for size in sizes for part in ("--set", size)]
    arguments = ["fit", photo_folder, "-o", "out", "--preset", "laptop", "--device", "cpu", *settings]
    code, output = program(*arguments, "--checkpoint", tiny_backbone, folder=tmp_path)
    assert code == 0, output
    text = output.replace("\n", " ")
    (line,) = re.findall(r"Next: lpt (predict \S+ IMAGE_OR_FOLDER --checkpoint \S+tiny\.safetensors)", text)
    words = [str(photo_folder) if word == "IMAGE_OR_FOLDER" else word for word in line.split()]
    assert program(*words, folder=tmp_path)[0] == 0
    card = (fitted_run / "pack" / "README.md").read_text()
    assert "lpt predict THIS_FOLDER photo.jpg --checkpoint tiny.safetensors" in card
    assert 'lpt.load_predictor("THIS_FOLDER", checkpoint="tiny.safetensors")' in card
    assert "--checkpoint tiny.safetensors" in program("inspect", fitted_run, folder=tmp_path, COLUMNS="300")[1]


def test_an_old_pack_with_a_folder_in_it_loads(fitted_run: Path, tiny_backbone: Path) -> None:
    """Old packs hold the path of their author: they load if the user gives the file."""
    change_record(fitted_run, checkpoint="/home/someone/tiny.safetensors")
    assert load_pack(fitted_run / "pack").info.backbone.checkpoint == "/home/someone/tiny.safetensors"
    load_predictor(fitted_run / "pack", checkpoint=tiny_backbone, device="cpu")
