"""The prompt pack: written whole or not at all, read back the same, and built on its own backbone alone."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from torch import Tensor

import lpt
from lpt.errors import PackError, RunError
from lpt.evaluation.metrics import measure
from lpt.model import LPT
from lpt.packs.files import sha256
from lpt.packs.info import Versions
from lpt.packs.pack import (
    CARD_NAME,
    JSON_NAME,
    TENSORS_NAME,
    Pack,
    encode_tensors,
    load_pack,
)
from lpt.packs.reference import reference_image
from lpt.report.card import model_card
from lpt.report.pack import print_pack
from small_packs import GROUPS, SIZES, describe, edit, new_model, rewritten, write

# --- writing and reading ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phases", [[1, 2], [2], [1], []])
def test_what_is_written_is_read(model: LPT, phases: list[int], tmp_path: Path) -> None:
    """Description, tensors and outputs come back the same, after both phases or one."""
    path = write(tmp_path / "pack", model, phases)
    pack = load_pack(str(path))
    assert pack.info == describe(model, (path / TENSORS_NAME).read_bytes(), phases)
    assert pack.stored_bytes == (path / TENSORS_NAME).stat().st_size
    assert pack.tensors.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        np.testing.assert_array_equal(pack.tensors[name], tensor)
    built = pack.build(model.backbone)
    images = reference_image((32, 32), 0)
    assert torch.equal(built(images).cosines, model(images).cosines)
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_the_description_is_of_what_was_packed(folder: Path, model: LPT) -> None:
    """Sizes and hash are those of the tensors file, boundaries those given, and no folder of this machine is named."""
    info = load_pack(folder).info
    assert info.method.trainable_parameters == sum(tensor.numel() for tensor in model.state_dict().values())
    assert info.tensors_sha256 == sha256((folder / TENSORS_NAME).read_bytes())
    assert info.shot_groups == GROUPS
    assert info.uses_group_prompts
    assert info.backbone == model.backbone.record.without_folders() != model.backbone.record


def test_versions_of_what_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Packs are read without torch and timm: the versions then say that these are missing."""
    here = Versions.here()
    assert (here.timm, here.torch) == (timm.__version__, torch.__version__)

    def no_timm(name: str) -> str:
        if name == "timm":
            raise PackageNotFoundError(name)
        return version(name)

    monkeypatch.delitem(sys.modules, "timm")
    monkeypatch.setattr("lpt.packs.info.version", no_timm)
    assert Versions.here() == Versions(lpt=here.lpt, timm="not installed", torch=here.torch)


def test_a_pack_is_three_files_without_pickle(folder: Path) -> None:
    """No file of a pack can run code, and writing leaves no other files behind."""
    assert {path.name for path in folder.iterdir()} == {JSON_NAME, TENSORS_NAME, CARD_NAME}
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".md"}
    assert load_file(folder / TENSORS_NAME).keys() == {"shared.tokens", "groups.prompts", "groups.keys", "head.weight"}
    assert [path.name for path in folder.parent.iterdir()] == ["pack"]


def test_the_same_tensors_give_the_same_bytes(model: LPT) -> None:
    """`bit for bit` is about this file: it holds no time, path, insertion order or graph."""
    state = model.state_dict()
    backwards = {name: state[name].double().requires_grad_() for name in reversed(list(state))}
    assert encode_tensors(state) == encode_tensors(backwards)


def test_the_card_has_the_numbers(model: LPT) -> None:
    """The README gives the measures with the bounds of the shot groups, the size and the licence."""
    info = describe(model, encode_tensors(model.state_dict()), [1, 2])
    metrics = measure([0, 0, 1, 2], [0, 1, 1, 2], info.class_counts, GROUPS)
    card = model_card(info, {"test": metrics}, 3 * 2**20)
    facts = ["3.00 MiB", "2.2 %", "1,248", "apache-2.0", "`tiny`", "32x32", "20 validation images"]
    row, groups = "| test | 4 | 75.0 | 83.3 | 50.0 | 100.0 | 100.0 |", GROUPS.describe()
    for expected in (*facts, row, groups, f"lpt {lpt.__version__}"):
        assert expected in card
    assert "Nothing" in model_card(info, {}, 10)


def test_held_out_images_are_not_counted_as_learnt_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Class counts are those before the cut; the text names the class frequencies of the probabilities."""
    pack = load_pack(folder)
    info = pack.info
    counts = f"{sum(info.class_counts):,}"
    info.metrics = {
        "validation": measure([0, 1, 2], [0, 1, 1], info.class_counts, GROUPS).to_dict(),
        "test": measure([0, 1], [0, 1], info.class_counts, GROUPS).to_dict(),
    }
    for test, validation, expected in (
        (0.2, 0.1, " (2 for testing and 3 for validation held out)"),
        (None, 0.1, " (3 for validation held out)"),
        (0.2, "other/", " (2 for testing held out)"),
        ("tests/", "other/", ""),
    ):
        info.training = {"data": {"test": test, "validation": validation}}
        info.probabilities.classes = "even" if expected else "training"
        print_pack(pack, Console(width=300))
        shown = capsys.readouterr().out
        assert f"{counts} images{expected}, " in shown
        assert ("; for even classes" if expected else "; for the class frequencies of the training images") in shown
        assert f"Training images: {counts}{expected}, from" in model_card(info, {}, 10)


def test_rewriting_replaces_the_pack(model: LPT, folder: Path, tiny_backbone: Path) -> None:
    """A second run leaves its own pack, nothing of the first one, and the files that a user put there."""
    (folder / "notes.txt").write_text("mine")
    (folder / "more").mkdir()
    (folder / "more" / "pack.json").write_text("mine too")
    other = new_model(tiny_backbone, seed=1)
    write(folder, other)
    assert np.array_equal(load_pack(folder).tensors["head.weight"], other.head.weight)
    assert [path.name for path in folder.parent.iterdir()] == ["pack"]
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "more" / "pack.json").read_text() == "mine too"


@pytest.mark.parametrize("when", [1, 2, 3, 4, 5])
def test_an_interrupted_write_leaves_the_pack_before(
    when: int, model: LPT, folder: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever rename fails (three files, the old pack aside, the new one in place), the old pack still loads."""
    real, calls = os.replace, []

    def failing(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == when:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(RunError, match=r"cannot write.*No space left"):
        write(folder, new_model(tiny_backbone, seed=1))
    monkeypatch.undo()
    assert np.array_equal(load_pack(folder).tensors["head.weight"], model.head.weight)
    write(folder, model)  # and what was left behind is no obstacle
    assert [path.name for path in folder.parent.iterdir()] == ["pack"]


def test_a_place_that_cannot_be_written_is_named(model: LPT, tmp_path: Path) -> None:
    """The error has the path; there is no traceback after hours of training."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=str(tmp_path / "file")):
        write(tmp_path / "file" / "pack", model)


# --- the backbone it belongs to ---------------------------------------------------------------------------------------


def other_weights(tiny_backbone: Path, folder: Path) -> Path:
    """The tiny backbone with one weight changed."""
    shutil.copy(tiny_backbone.with_suffix(".json"), folder / "other.json")
    tensors = load_file(tiny_backbone)
    tensors["blocks.1.mlp.fc1.weight"][0, 0] += 1e-3
    save_file(tensors, folder / "other.safetensors")
    return folder / "other.safetensors"


def test_another_backbone_is_refused_with_both_hashes(folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """One changed weight makes another backbone; the message has both hashes."""
    pack = load_pack(folder)
    other = lpt.load_backbone("tiny", checkpoint=other_weights(tiny_backbone, tmp_path))
    with pytest.raises(PackError) as caught:
        pack.build(other)
    assert pack.info.backbone.weight_hash in str(caught.value)
    assert other.record.weight_hash in str(caught.value)
    assert other.record.weight_hash != pack.info.backbone.weight_hash


def test_the_hash_is_of_the_weights_as_they_were_loaded(tiny_backbone: Path, tmp_path: Path) -> None:
    """The hash is the same at every input size and with any head: positions are resampled after it."""
    plain = lpt.load_backbone("tiny", checkpoint=tiny_backbone).record
    resized = lpt.load_backbone("tiny", checkpoint=tiny_backbone, image_size=(48, 64)).record
    shutil.copy(tiny_backbone.with_suffix(".json"), tmp_path / "headed.json")
    head = {"head.weight": torch.ones(7, 32), "head.bias": torch.zeros(7)}
    save_file(load_file(tiny_backbone) | head, tmp_path / "headed.safetensors")
    headed = lpt.load_backbone("tiny", checkpoint=tmp_path / "headed.safetensors").record
    assert plain is not None
    assert resized is not None
    assert headed is not None
    assert plain.weight_hash == resized.weight_hash == headed.weight_hash
    assert plain.parameters == headed.parameters


def test_a_pack_of_another_size_builds_on_the_same_backbone(tiny_backbone: Path, tmp_path: Path) -> None:
    """The backbone may be given at any input size; the pack is used at its own."""
    wide = new_model(tiny_backbone, size=(48, 32))
    pack = load_pack(write(tmp_path / "pack", wide))
    built = pack.build(lpt.load_backbone("tiny", checkpoint=tiny_backbone))
    assert built.backbone.image_size == (48, 32)
    images = reference_image((48, 32), 0)
    assert torch.equal(built(images).cosines, wide(images).cosines)


def tampered(folder: Path, name: str) -> Pack:
    tensors = load_file(folder / TENSORS_NAME)
    tensors[name] = tensors[name].flip(0) + 0.5
    content = encode_tensors(tensors)
    (folder / TENSORS_NAME).write_bytes(content)
    edit(folder, lambda values: values.update(tensors_sha256=sha256(content)))
    return load_pack(folder)


@pytest.mark.parametrize("name", ["shared.tokens", "groups.prompts", "groups.keys", "head.weight"])
def test_other_outputs_than_where_it_was_written_are_refused(folder: Path, model: LPT, name: str) -> None:
    """A changed tensor whose sha256 was made to match still fails the stored reference output."""
    with pytest.raises(PackError, match=r"gives other outputs here.*differ by up to 0\.\d+"):
        tampered(folder, name).build(model.backbone)


@pytest.mark.parametrize("value", [1, 3])
def test_an_edited_number_of_picks_is_found(folder: Path, model: LPT, value: int) -> None:
    """No shape of a tensor depends on `top_k`, only the outputs do."""
    edit(folder, lambda values: values["method"].update(top_k=value))
    with pytest.raises(PackError, match="gives other outputs here"):
        load_pack(folder).build(model.backbone)


@pytest.mark.parametrize("prompt", range(SIZES["pool_size"]))
@pytest.mark.parametrize("name", ["groups.prompts", "groups.keys"])
def test_the_reference_touches_every_prompt_and_key(folder: Path, model: LPT, name: str, prompt: int) -> None:
    """A changed row of the pool is noticed, and so are two swapped rows, although an image picks only two of four."""

    def swap(tensors: dict[str, Tensor]) -> None:
        following = (prompt + (1 if name == "groups.prompts" else 2)) % SIZES["pool_size"]
        tensors[name][[prompt, following]] = tensors[name][[following, prompt]]

    for change in (swap, lambda tensors: tensors[name][prompt, ..., :16].add_(2)):
        copy = folder.with_name(f"pack-{change.__name__.strip('<>')}")
        pack = rewritten(Path(shutil.copytree(folder, copy)), change)
        with pytest.raises(PackError, match="gives other outputs here"):
            pack.build(model.backbone)


def test_a_pack_from_before_the_pool_was_in_the_reference_loads(folder: Path, model: LPT) -> None:
    """The new fields are optional."""
    edit(folder, lambda values: (values["reference"].pop("mixed"), values["reference"].pop("keys")))
    load_pack(folder).build(model.backbone)


def test_a_head_row_without_length_is_a_class_of_cosine_zero(folder: Path, model: LPT) -> None:
    """Its cosine is 0, which is a number: the reference shows whether it was written like this."""
    with pytest.raises(PackError, match="gives other outputs here"):
        rewritten(folder, lambda tensors: tensors["head.weight"][1].zero_()).build(model.backbone)
