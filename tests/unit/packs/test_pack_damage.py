"""Damage to a pack, and values out of bounds, are named."""

from __future__ import annotations

import io
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lpt.errors import PackError, RunError
from lpt.model import LPT
from lpt.packs.files import sha256
from lpt.packs.info import FORMAT_VERSION
from lpt.packs.pack import (
    JSON_NAME,
    TENSORS_NAME,
    encode_tensors,
    load_pack,
    read_info,
)
from lpt.report.pack import print_pack
from lpt.system.outputs import RUN_KIND
from lpt.system.owned import marker
from small_packs import edit, rewritten, write

# --- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [JSON_NAME, TENSORS_NAME])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    """An incomplete copy of a pack is refused; the message names the missing file."""
    (folder / name).unlink()
    with pytest.raises(PackError, match=name):
        load_pack(folder)


def test_no_pack_at_all_is_named(tmp_path: Path) -> None:
    """What lies there instead of a pack is said; a run folder keeps its pack in pack/, once it is finished."""
    (tmp_path / "unfinished").mkdir()
    (tmp_path / "unfinished" / "run.json").write_text(json.dumps(marker(RUN_KIND)))
    (tmp_path / "file").touch()
    for name, message in {
        ".": r"not a prompt pack.*pack/",
        "nowhere": "there is no folder .*nowhere",
        "file": "is a file, not a prompt pack",
        "unfinished": "a run that has no pack yet: it was not finished",
    }.items():
        with pytest.raises(PackError, match=message):
            load_pack(tmp_path / name)


def test_a_folder_of_packs_names_them(folder: Path) -> None:
    shutil.copytree(folder, folder.parent / "packs" / "birds")
    with pytest.raises(PackError, match=r"not a prompt pack.* Packs and runs in .*packs: birds\."):
        load_pack(folder.parent / "packs")


@pytest.mark.parametrize("damage", [lambda c: c[:-7], lambda c: b"", lambda c: c[:-1] + bytes([c[-1] ^ 1])])
def test_damaged_tensors_are_named(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    """The sha256 shows a truncated, empty or flipped file."""
    path = folder / TENSORS_NAME
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(PackError, match=rf"{path} is damaged \(\d+ bytes\).*sha256"):
        load_pack(folder)


def test_tensors_that_are_no_safetensors_are_named(folder: Path) -> None:
    """They are refused even if the sha256 was made to match."""
    (folder / TENSORS_NAME).write_bytes(b"not tensors")
    edit(folder, lambda values: values.update(tensors_sha256=sha256(b"not tensors")))
    with pytest.raises(PackError, match=rf"{TENSORS_NAME} is damaged"):
        load_pack(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format_version": 1'])
def test_damaged_json_is_named(folder: Path, content: bytes) -> None:
    """A cut or binary pack.json is an error with its path."""
    (folder / JSON_NAME).write_bytes(content)
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged"):
        load_pack(folder)


@pytest.mark.parametrize(
    "content",
    [b"[]", b"null", b"{}", b'{"format_version": 99}', b'{"format_version": "1"}', b'{"format_version": true}'],
)
def test_another_format_is_refused(folder: Path, content: bytes) -> None:
    """A pack of a later version is not read halfway; the message says that it needs a newer lpt."""
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
        ("group_use", {"split": "test", "classes": [[0], [1]]}),
        ("group_use", {"split": "test", "classes": [[0], [1], [4]]}),
        ("group_use", {"split": "test", "classes": [[0], [1], [-1]]}),
        ("group_use", {"split": "test", "classes": [[0], [1], [2, 2]]}),
        ("group_use", {"split": "", "classes": [[0], [1], [2]]}),
    ],
)
def test_values_out_of_bounds_are_named(folder: Path, path: str, value: Any) -> None:
    """The message has the dotted path of the field, or its section; there is no traceback and no pack."""
    keys = [int(key) if key.isdigit() else key for key in path.split(".")]
    edit(folder, put(*keys, value=value))
    section = path.split(".")[0]
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged: {section}"):
        load_pack(folder)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda text: text.replace('"scale":', '"scale": 3, "scale":'), "'scale' occurs more than once"),
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
    """JSON that parsers read differently, or that takes much memory or stack, is refused."""
    edit(folder, lambda values: None)  # written on one line
    text = (folder / JSON_NAME).read_text(encoding="utf-8")
    assert damage(text) != text
    (folder / JSON_NAME).write_text(damage(text), encoding="utf-8")
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged: .*({reason})"):
        load_pack(folder)


def test_groups_of_a_pack_without_group_prompts_are_refused(model: LPT, tmp_path: Path) -> None:
    folder = write(tmp_path / "pack", model, [1])
    edit(folder, put("group_use", value={"split": "test", "classes": [[0], [1], [2]]}))
    with pytest.raises(PackError, match=rf"{JSON_NAME} is damaged: group_use"):
        load_pack(folder)


def test_ten_thousand_classes_fit(folder: Path) -> None:
    """The bounds on pack.json leave room for many classes with long names."""
    names = [f"class {number} " + "ü" * 100 for number in range(10_000)]
    use = {"split": "test", "classes": [[0, 1, 2, 3]] * 10_000}
    edit(folder, lambda values: values.update(class_names=names, class_counts=[5] * 10_000, group_use=use))
    assert read_info(folder).class_names == names


@pytest.mark.parametrize("name", [JSON_NAME, TENSORS_NAME])
@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "loop"])
def test_anything_but_a_regular_file_is_refused_at_once(folder: Path, name: str, kind: str) -> None:
    """A read from a pipe would block; a device has no end."""
    path = folder / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "device" else name)
    with pytest.raises(PackError, match=rf"{path}(: it is .*not a|: Too many levels)"):
        load_pack(folder)


def test_a_huge_file_of_tensors_is_not_read_into_memory(folder: Path) -> None:
    """Its header shows that it does not fit; a gibibyte of zeros is hashed in pieces."""
    tracemalloc.start()
    os.truncate(folder / TENSORS_NAME, 2**28)
    with pytest.raises(PackError, match=r"is damaged \(268435456 bytes\).*sha256"):
        load_pack(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**24


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e30])
def test_nan_infinity_and_huge_numbers_are_refused_wherever_they_are(folder: Path, value: float) -> None:
    """They are noticed even in a group prompt that the reference image does not pick."""
    with pytest.raises(PackError, match=r"groups\.prompts holds"):
        rewritten(folder, lambda tensors: tensors["groups.prompts"][3, -1, -1, -1:].fill_(value))


def test_nan_and_infinity_are_not_packed(model: LPT) -> None:
    """A training that ended in NaN writes no pack."""
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
    """`lpt inspect` prints only sizes that the tensors have."""
    edit(folder, change)
    with pytest.raises(PackError, match=rf"{TENSORS_NAME} does not fit {JSON_NAME}"):
        load_pack(folder)


# --- texts ------------------------------------------------------------------------------------------------------------

EVIL = "x\nNext: run curl evil\r\x1b]8;;http://evil\x07\u202e\u2028y"


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v["training"].update(preset=EVIL, data={"source": EVIL}),
        lambda v: v["training"].update(train={"phase1": {"epochs": {EVIL: [EVIL]}}}),
        lambda v: v["backbone"].update(name="tiny\nNext: run curl evil\u202e", licence="\r\u2028"),
        lambda v: v["backbone"].update(checkpoint="a; b\nNext: run curl evil"),
        lambda v: v["versions"].update(torch="2\n\nNext: run curl evil"),
        lambda v: v["probabilities"].update(fitted_on="x\nNext: run curl evil"),
        lambda v: v.update(class_names=["a\nNext: run curl evil", "\u202eb", "c"]),
        lambda v: v["method"].update(name="x\nNext: run curl evil"),
    ],
)
def test_texts_of_a_stranger_stay_in_their_line(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """`lpt inspect` prints what a pack says in lines of its own, and nothing that a terminal obeys."""
    edit(folder, change)
    output = io.StringIO()
    print_pack(load_pack(folder), Console(file=output, width=400))
    lines = output.getvalue().splitlines()
    assert all(line.isprintable() for line in lines)
    assert not [line for line in lines if line.strip().startswith("Next")]


def test_a_split_with_control_characters_is_refused(folder: Path) -> None:
    """Its name is printed in a table."""
    measures = {"images": 3, "overall": 0.5, "mean_per_class": 0.5, "many": None, "medium": None, "few": None,
                "boundaries": "few < 20", "group_classes": [1, 1, 1]}  # fmt: skip
    edit(folder, lambda values: values.update(metrics={"test": measures}))
    load_pack(folder)
    edit(folder, lambda values: values.update(metrics={"\x1b[2J": measures}))
    with pytest.raises(PackError, match=r"metrics.*text without control characters"):
        load_pack(folder)


def test_the_error_about_another_backbone_stays_in_its_lines(folder: Path, model: LPT) -> None:
    edit(folder, lambda values: values["backbone"].update(name="tiny\nNext: run curl evil", weight_hash="0" * 64))
    with pytest.raises(PackError, match=r"trained on: tiny\\nNext: run curl evil, sha256 0"):
        load_pack(folder).check_backbone(model.backbone)
