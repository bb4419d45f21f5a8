"""The prompt pack: written whole or not at all, read back the same, and every kind of damage named."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save, save_file
from torch import Tensor

import lpt
from lpt.data.longtail import ShotGroups
from lpt.data.transforms import Preprocessing
from lpt.errors import PackError, RunError
from lpt.evaluation.metrics import measure
from lpt.model import LPT
from lpt.packs.files import sha256
from lpt.packs.info import (
    FORMAT_VERSION,
    Method,
    PackInfo,
    Probabilities,
    Shots,
    Versions,
)
from lpt.packs.pack import (
    CARD_NAME,
    JSON_NAME,
    TENSORS_NAME,
    Pack,
    encode_tensors,
    load_pack,
    read_info,
    write_pack,
)
from lpt.packs.reference import make_reference, reference_image
from lpt.report.card import model_card
from lpt.report.pack import print_pack

NAMES = ["adder", "björn", "crane"]
SIZES = dict(prompt_length=2, shared_blocks=1, pool_size=4, top_k=2)


def new_model(checkpoint: Path, size: tuple[int, int] = (32, 32), seed: int = 0) -> LPT:
    backbone = lpt.load_backbone("tiny", checkpoint=checkpoint, image_size=size)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = LPT(backbone, len(NAMES), **SIZES)
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.normal_()
    return model.requires_grad_(False)


def describe(model: LPT, content: bytes, phases: list[int]) -> PackInfo:
    record = model.backbone.record
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    return PackInfo(
        format_version=FORMAT_VERSION,
        versions=Versions.here(),
        backbone=record,
        preprocessing=Preprocessing(
            size=model.backbone.image_size,
            mean=record.mean,
            std=record.std,
            interpolation="bicubic",
            test_crop=0.875,
            crop_area=(0.3, 1.0),
            crop_aspect=(0.75, 1.25),
            flip=False,
        ),
        class_names=NAMES,
        class_counts=[120, 40, 1],
        shots=Shots(few_below=20, many_above=100),
        method=Method(
            name="lpt",
            phases=phases,
            **SIZES,
            trainable_parameters=numbers,
            share_of_backbone=numbers / record.parameters,
        ),
        probabilities=Probabilities(scale=20, temperature=1.5, fitted_on="20 validation images"),
        metrics={},
        training={"preset": "laptop"},
        reference=make_reference(model, group_prompts=2 in phases),
        tensors_sha256=sha256(content),
    )


def write(path: Path, model: LPT, phases: list[int] | None = None, card: str = "# card\n") -> Path:
    content = encode_tensors(model.state_dict())
    return write_pack(path, describe(model, content, [1, 2] if phases is None else phases), content, card)


@pytest.fixture(scope="module")
def model(tiny_backbone: Path) -> LPT:
    return new_model(tiny_backbone)


@pytest.fixture
def folder(model: LPT, tmp_path: Path) -> Path:
    return write(tmp_path / "pack", model)


def edit(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change pack.json in place."""
    values = json.loads((folder / JSON_NAME).read_text(encoding="utf-8"))
    change(values)
    (folder / JSON_NAME).write_text(json.dumps(values), encoding="utf-8")


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
        assert torch.equal(pack.tensors[name], tensor)
    built = pack.build(model.backbone)
    images = reference_image((32, 32), 0)
    assert torch.equal(built(images).cosines, model(images).cosines)
    assert not any(parameter.requires_grad for parameter in built.parameters())


def test_a_pack_is_three_files_without_pickle(folder: Path) -> None:
    """Nothing in a pack can run code when it is opened, and nothing of writing it is left beside it."""
    assert {path.name for path in folder.iterdir()} == {JSON_NAME, TENSORS_NAME, CARD_NAME}
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors", ".md"}
    assert load_file(folder / TENSORS_NAME).keys() == {"shared.tokens", "groups.prompts", "groups.keys", "head.weight"}
    assert [path.name for path in folder.parent.iterdir()] == ["pack"]


def test_the_same_tensors_give_the_same_bytes(model: LPT) -> None:
    """`bit for bit` is a statement about this file: no time, path, order of insertion or graph gets into it."""
    state = model.state_dict()
    backwards = {name: state[name].double().requires_grad_() for name in reversed(list(state))}
    assert encode_tensors(state) == encode_tensors(backwards)


def test_the_card_has_the_numbers(model: LPT) -> None:
    """What was measured and what it rests on stands in the README: shot groups with their bounds, size, licence."""
    info = describe(model, b"", [1, 2])
    metrics = measure([0, 0, 1, 2], [0, 1, 1, 2], info.class_counts, ShotGroups(20, 100))
    card = model_card(info, {"test": metrics}, 3 * 2**20)
    facts = ["3.00 MiB", "2.2 %", "1,248", "apache-2.0", "`tiny`", "32x32", "20 validation images"]
    row, groups = "| test | 4 | 75.0 | 83.3 | 50.0 | 100.0 | 100.0 |", ShotGroups(20, 100).describe()
    for expected in (*facts, row, groups, f"lpt {lpt.__version__}"):
        assert expected in card
    assert "Nothing" in model_card(info, {}, 10)


def test_images_held_out_are_not_told_as_learnt_from(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Class counts are those before the cut, and it is said which frequencies the probabilities are for."""
    pack = load_pack(folder)
    info = pack.info
    counts = f"{sum(info.class_counts):,}"
    info.metrics = {"validation": measure([0, 1, 2], [0, 1, 1], info.class_counts, ShotGroups(20, 100)).to_dict()}
    for validation, told in ((0.1, " (3 of them held out for validation)"), ("other/", "")):
        info.training = {"data": {"validation": validation}}
        info.probabilities.classes = "even" if validation == 0.1 else "training"
        print_pack(pack, Console(width=300))
        shown = capsys.readouterr().out
        assert f"{counts} images{told}, " in shown
        assert ("; for even classes" if told else "; for the class frequencies of the training images") in shown
        assert f"Training images: {counts}{told}, from" in model_card(info, {}, 10)


def test_rewriting_replaces_the_pack(model: LPT, folder: Path, tiny_backbone: Path) -> None:
    """A run that is finished a second time leaves its own pack, no rest of the first, and what a user put there."""
    (folder / "notes.txt").write_text("mine")
    (folder / "more").mkdir()
    (folder / "more" / "pack.json").write_text("mine too")
    other = new_model(tiny_backbone, seed=1)
    write(folder, other)
    assert torch.equal(load_pack(folder).tensors["head.weight"], other.head.weight)
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
    assert torch.equal(load_pack(folder).tensors["head.weight"], model.head.weight)
    write(folder, model)  # and what was left behind is no obstacle
    assert [path.name for path in folder.parent.iterdir()] == ["pack"]


def test_a_place_that_cannot_be_written_is_named(model: LPT, tmp_path: Path) -> None:
    """An error with the path, not a traceback after hours of training."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=str(tmp_path / "file")):
        write(tmp_path / "file" / "pack", model)


# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [JSON_NAME, TENSORS_NAME])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """Half a copy of a pack says which file is not there."""
    (folder / name).unlink()
    with pytest.raises(PackError, match=name):
        load_pack(folder)


def test_no_pack_at_all_is_named(tmp_path: Path) -> None:
    """A run folder given instead of its pack is told so."""
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PackError, match=r"not a prompt pack.*pack/"):
            load_pack(path)


@pytest.mark.parametrize("damage", [lambda c: c[:-7], lambda c: b"", lambda c: c[:-1] + bytes([c[-1] ^ 1])])
def test_damaged_tensors_are_named(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    """A truncated, empty or flipped file is told from a whole one by its sha256."""
    path = folder / TENSORS_NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PackError, match=rf"{path} is damaged \(\d+ bytes\).*sha256"):
        load_pack(folder)


def test_tensors_that_are_no_safetensors_are_named(folder: Path) -> None:
    """Also where somebody made the sha256 match."""
    (folder / TENSORS_NAME).write_bytes(b"not tensors")
    edit(folder, lambda values: values.update(tensors_sha256=sha256(b"not tensors")))
    with pytest.raises(PackError, match=rf"{TENSORS_NAME} is damaged"):
        load_pack(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format_version": 1'])
def test_json_that_is_none_is_named(folder: Path, content: bytes) -> None:
    """A cut or binary pack.json is an error with its path."""
    (folder / JSON_NAME).write_bytes(content)
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged"):
        load_pack(folder)


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b"{}", b'{"format_version": 99}', b'{"format_version": "1"}', b'{"format_version": true}'],
)
def test_another_format_is_refused(folder: Path, content: bytes) -> None:
    """A pack of a later version is told to need a newer lpt, not read halfway."""
    (folder / JSON_NAME).write_bytes(content)
    with pytest.raises(PackError, match=rf"format .*reads format {FORMAT_VERSION}"):
        load_pack(folder)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda v: v.update(colour="red"), "colour"),
        (lambda v: v["method"].update(heads=3), "method.heads"),
        (lambda v: v.pop("class_names"), "class_names"),
        (lambda v: v["backbone"].pop("weight_hash"), "backbone.weight_hash"),
        (lambda v: v["preprocessing"].update(size="large"), "preprocessing.size"),
        (lambda v: v["method"].update(prompts="many"), "method.prompts"),
        (lambda v: v["class_names"].append("extra"), "class_counts"),
        (lambda v: v["reference"]["classes"].append(0), "reference"),
        (lambda v: v["reference"]["classes"].__setitem__(0, 3), "reference"),
    ],
)
def test_edited_json_is_named_by_field(folder: Path, change: Callable[[dict[str, Any]], Any], field: str) -> None:
    """Unknown, missing and contradicting fields are refused by their dotted path."""
    edit(folder, change)
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged.*{field}"):
        load_pack(folder)


LITTLE: dict[str, Any] = {"variant": 0, "classes": [0], "cosines": [0.0]}


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["method"].update(prompt_length=3),
        lambda v: v["method"].update(shared_blocks=2),
        lambda v: (v["method"].update(pool_size=9), v["reference"].update(mixed=None, keys=None)),
        lambda v: v["method"].update(shared_blocks=40),
        lambda v: v["preprocessing"].update(size=[33, 32]),
        lambda v: (v["class_names"].pop(), v["class_counts"].pop(), v.update(reference=LITTLE)),
    ],
)
def test_sizes_that_do_not_fit_the_tensors_are_refused(
    folder: Path, model: LPT, change: Callable[[dict[str, Any]], Any]
) -> None:
    """Tensors are never loaded partly or reshaped."""
    edit(folder, change)
    with pytest.raises(PackError, match=rf"{TENSORS_NAME} does not fit {JSON_NAME}"):
        load_pack(folder).build(model.backbone)


# --- the backbone it belongs to ---------------------------------------------------------------------------------------


def other_weights(tiny_backbone: Path, folder: Path) -> Path:
    """The tiny backbone with one weight changed."""
    shutil.copy(tiny_backbone.with_suffix(".json"), folder / "other.json")
    tensors = load_file(tiny_backbone)
    tensors["blocks.1.mlp.fc1.weight"][0, 0] += 1e-3
    save_file(tensors, folder / "other.safetensors")
    return folder / "other.safetensors"


def test_another_backbone_is_refused_with_both_hashes(folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """One changed weight out of all is another backbone; the message has what was trained on and what was given."""
    pack = load_pack(folder)
    other = lpt.load_backbone("tiny", checkpoint=other_weights(tiny_backbone, tmp_path))
    with pytest.raises(PackError) as caught:
        pack.build(other)
    assert pack.info.backbone.weight_hash in str(caught.value)
    assert other.record.weight_hash in str(caught.value)
    assert other.record.weight_hash != pack.info.backbone.weight_hash


def test_the_hash_is_of_the_weights_as_they_were_loaded(tiny_backbone: Path, tmp_path: Path) -> None:
    """It is the same at every input size, since positions are resampled after it, and whatever head is on the file."""
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
    """`top_k` shows in no tensor's shape, only in the outputs."""
    edit(folder, lambda values: values["method"].update(top_k=value))
    with pytest.raises(PackError, match="gives other outputs here"):
        load_pack(folder).build(model.backbone)


# --- values that are none ---------------------------------------------------------------------------------------------


def put(*path: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    """Set a value by its path."""

    def change(values: Any) -> None:
        for key in path[:-1]:
            values = values[key]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("probabilities.temperature", 0),
        ("probabilities.temperature", -1),
        ("probabilities.scale", 0),
        ("probabilities.scale", 1e9),
        ("probabilities.scale", True),
        ("probabilities.scale", "20"),
        ("preprocessing.std.1", 0),
        ("preprocessing.test_crop", 0),
        ("preprocessing.test_crop", 1.01),
        ("preprocessing.interpolation", "lanczos"),
        ("preprocessing.size.0", 10**9),
        ("preprocessing.crop_area", [1.0, 0.3]),
        ("preprocessing.crop_aspect", [0, 1]),
        ("preprocessing.flip", 1),
        ("class_names.1", ""),
        ("class_names.1", "adder"),
        ("class_names.1", "\x1b[2J"),
        ("class_counts.0", -1),
        ("class_counts", [0, 0, 0]),
        ("shots.few_below", 102),
        ("method.phases", [2, 1]),
        ("method.phases", [3]),
        ("method.top_k", 5),
        ("method.prompts", "deep"),
        ("method.trainable_parameters", 0),
        ("method.share_of_backbone", 0.5),
        ("backbone.parameters", 0),
        ("backbone.weight_hash", "abc"),
        ("tensors_sha256", "abc"),
        ("reference.variant", 8),
        ("reference.classes", []),
        ("reference.classes", [0, 0, 2]),
        ("reference.keys", [0.0]),
        ("reference.mixed", None),
        ("metrics", {"test": {"images": 3}}),
    ],
)
def test_values_out_of_bounds_are_named(folder: Path, path: str, value: Any) -> None:
    """The section at least, mostly the field by its dotted path, and never a traceback or a pack."""
    keys = [int(key) if key.isdigit() else key for key in path.split(".")]
    edit(folder, put(*keys, value=value))
    section = path.split(".")[0]
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged: {section}"):
        load_pack(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text.replace('"scale":', '"scale": 3, "scale":'), "'scale' is there more than once"),
        (lambda text: text.replace('"scale": 20', '"scale": NaN'), "NaN is not a number"),
        (lambda text: text.replace('"scale": 20', '"scale": -Infinity'), "Infinity is not a number"),
        (lambda text: text.replace('"training": {', '"training": {"a": ' + "[" * 100_000), "nested too deeply"),
        (lambda text: text.replace('"preset"', '"a": ' + "[" * 50 + "]" * 50 + ', "preset"'), "more than 20 deep"),
        (lambda text: text.replace("[120", "[" + "9" * 5000), "digits"),
        (lambda text: "\ufeff" + text, "BOM"),
        (lambda text: text.replace("crane", "\\ud800"), "surrogate|hex escape"),
        (lambda text: text + " " * 2**24, "larger than 16 MiB"),
        (lambda text: text.replace("[120", "[" + "[]," * 300_000 + "1"), "lists and objects"),
    ],
)
def test_json_that_is_not_strict_is_refused(folder: Path, damage: Callable[[str], str], reason: str) -> None:
    """What parsers read differently, or need much memory or stack for, is no pack."""
    edit(folder, lambda values: None)  # written on one line
    text = (folder / JSON_NAME).read_text(encoding="utf-8")
    assert damage(text) != text
    (folder / JSON_NAME).write_text(damage(text), encoding="utf-8")
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged: .*({reason})"):
        load_pack(folder)


def test_ten_thousand_classes_fit(folder: Path) -> None:
    """The bounds on pack.json leave room for many classes with long names."""
    names = [f"class {number} " + "ü" * 100 for number in range(10_000)]
    edit(folder, lambda values: values.update(class_names=names, class_counts=[5] * 10_000))
    assert read_info(folder).class_names == names


@pytest.mark.parametrize("name", [JSON_NAME, TENSORS_NAME])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop"])
def test_what_is_no_file_is_refused_at_once(folder: Path, name: str, kind: str) -> None:
    """A pipe that nobody writes to would be waited for; a device has no end."""
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else name)
    with pytest.raises(PackError, match=rf"{path}( is not a regular file|: Too many levels)"):
        load_pack(folder)


def test_a_huge_file_of_tensors_is_not_read_into_memory(folder: Path) -> None:
    """Its header tells that it does not fit; a gibibyte of nothing is hashed in pieces."""
    tracemalloc.start()
    os.truncate(folder / TENSORS_NAME, 2**28)
    with pytest.raises(PackError, match=r"is damaged \(268435456 bytes\).*sha256"):
        load_pack(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> Pack:
    """The pack with its tensors changed and their sha256 made to match."""
    tensors = load_file(folder / TENSORS_NAME)
    change(tensors)
    content = save(tensors)
    (folder / TENSORS_NAME).write_bytes(content)
    edit(folder, lambda values: values.update(tensors_sha256=sha256(content)))
    return load_pack(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_a_number_that_is_none_is_found_wherever_it_is(folder: Path, value: float) -> None:
    """Also in a group prompt that the reference image does not pick."""
    with pytest.raises(PackError, match=r"groups\.prompts holds"):
        rewritten(folder, lambda tensors: tensors["groups.prompts"][3, -1, -1, -1:].fill_(value))


@pytest.mark.parametrize("prompt", range(SIZES["pool_size"]))
@pytest.mark.parametrize("name", ["groups.prompts", "groups.keys"])
def test_the_reference_touches_every_prompt_and_key(folder: Path, model: LPT, name: str, prompt: int) -> None:
    """A changed row of the pool is found, and so are two that changed places; an image picks only two of four."""

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
    """It has no direction and its cosine is 0, a number: the reference decides whether it was written so."""
    with pytest.raises(PackError, match="gives other outputs here"):
        rewritten(folder, lambda tensors: tensors["head.weight"][1].zero_()).build(model.backbone)


def test_numbers_that_are_none_are_not_packed(model: LPT) -> None:
    """Training that ended in them leaves no pack that looks like one."""
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state["head.weight"][0, 0] = float("nan")
    with pytest.raises(RunError, match=r"head\.weight holds 1 numbers that are not finite.*lower rate"):
        encode_tensors(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["method"].update(prompt_length=3),
        lambda v: v["method"].update(adapter_size=10**6),
        lambda v: (
            v["method"].update(trainable_parameters=5, share_of_backbone=5 / v["backbone"]["parameters"]),
        ),
    ],
)  # fmt: skip
def test_sizes_are_compared_without_a_backbone(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """What `lpt inspect` prints of a pack is what its tensors are."""
    edit(folder, change)
    with pytest.raises(PackError, match=rf"{TENSORS_NAME} does not fit {JSON_NAME}"):
        load_pack(folder)
