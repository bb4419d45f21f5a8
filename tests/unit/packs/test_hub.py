"""Packs on the hub: pushed in one commit, read back by address, and never trusted more than a folder."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import constants
from PIL import Image
from typer.testing import CliRunner

import lpt
from fake_hub import TOKEN, FakeHub, environment, point_to, running_hub
from lpt.cli.app import app
from lpt.commands.predict.table import is_table
from lpt.errors import ConfigError, LptError, PackError, RunError
from lpt.model import LPT
from lpt.packs.hub import fetch, is_repository, parse_address, pinned
from lpt.packs.pack import load_pack, read_info
from lpt.report.card import model_card
from lpt.serving import create_app
from lpt.system.owned import PACK_FILES
from small_packs import NAMES, edit, new_model, write
from small_server import until
from strangers import program

NAME = "me/birds"


@pytest.fixture(scope="module")
def server() -> Iterator[FakeHub]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def hub(server: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    server.repositories.clear()
    server.refused = None
    server.trickles = False
    point_to(server.url, tmp_path / "cache", monkeypatch)
    return server


def files_of(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in PACK_FILES}


@pytest.mark.parametrize(
    "text",
    ["hf://", "hf://birds", "hf://a/b/c", "hf:///b", "hf://a/", "hf://a/b@", "hf://a/b@../../x", "hf://a b/c",
     "hf://a/b@-x", "hf://a/b--c", "hf://ä/b", "hf://a/b.git", "hf://a/b@x y", "hf://../b", "hf://-a/b"],
)  # fmt: skip
def test_another_form_of_address_is_refused(text: str, hub: FakeHub) -> None:
    """Before anything is asked of the hub; a revision is also a path in the cache and must not leave it."""
    hub.requests.clear()
    with pytest.raises(PackError, match="Accepted: hf://OWNER/NAME"):
        load_pack(text)
    assert hub.requests == []
    assert is_repository("an-owner/a_name.v2")
    assert str(parse_address("hf://a/b@refs/pr/1")) == "hf://a/b@refs/pr/1"


@pytest.mark.parametrize("given", [Path("hf://me/birds"), "hf:me/birds", "hf:/me/birds"])
def test_an_address_that_lost_a_slash_is_explained(given: str | Path) -> None:
    with pytest.raises(PackError, match="A pack on the hub is given as hf://OWNER/NAME"):
        load_pack(given)


def test_a_pushed_pack_is_loaded_by_address(hub: FakeHub, folder: Path, model: LPT, tiny_backbone: Path) -> None:
    """Exactly three files go there; the commit is returned, and known to whoever loads it; a new push moves main."""
    (folder / "notes.txt").write_text("mine")
    first = lpt.push(folder, NAME)
    stored = hub.files(NAME)
    assert stored.keys() == {".gitattributes", *PACK_FILES}
    assert [stored[name] for name in PACK_FILES[:2]] == [(folder / name).read_bytes() for name in PACK_FILES[:2]]
    assert first == f"hf://{NAME}@{hub.repositories[NAME].refs['main']}"

    other = new_model(tiny_backbone, seed=1)
    write(folder, other)
    second = lpt.push(folder.parent, f"hf://{NAME}")  # a folder that holds pack/, as a run does
    assert second != first
    for address, expected, commit in ((first, model, first), (f"hf://{NAME}", other, second)):
        pack = load_pack(address)
        assert (pack.address, pack.origin) == (commit, commit)
        np.testing.assert_array_equal(pack.tensors["head.weight"], expected.head.weight)
        assert read_info(address) == pack.info
    assert lpt.push(folder, NAME) == second  # nothing changed: no commit
    assert (pinned(f"hf://{NAME}"), pinned(first), pinned(folder)) == (second, first, folder)

    predictor = lpt.load_predictor([f"hf://{NAME}"], checkpoint=tiny_backbone)
    assert predictor.pack_names == ("birds",)


def test_the_card_on_the_hub_says_how_to_use_it_from_there(hub: FakeHub, folder: Path) -> None:
    local = model_card(read_info(folder), {}, 5000)
    (folder / "README.md").write_text(local, encoding="utf-8")
    lpt.push(folder, NAME)
    there = hub.files(NAME)["README.md"].decode()
    assert there == local.replace("THIS_FOLDER", "hf://me/birds")
    assert "lpt predict hf://me/birds photo.jpg --checkpoint tiny.safetensors" in there
    lpt.push(f"hf://{NAME}", "me/birds-2")  # from the hub to another name
    assert hub.files("me/birds-2")["README.md"].decode() == local.replace("THIS_FOLDER", "hf://me/birds-2")


def test_offline_and_without_a_network_the_cache_is_used(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = lpt.push(folder, NAME)
    lpt.push(folder, "me/other")
    load_pack(f"hf://{NAME}")
    count = len(hub.requests)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_pack(f"hf://{NAME}").address == load_pack(commit).address == commit
    for address in ("hf://me/other", f"hf://{NAME}@v1"):
        with pytest.raises(PackError, match=r"not in the local cache .*HF_HUB_OFFLINE forbids"):
            load_pack(address)
    with pytest.raises(RunError, match="HF_HUB_OFFLINE is set"):
        lpt.push(folder, NAME)
    assert len(hub.requests) == count
    point_to("http://127.0.0.1:9", constants.HF_HUB_CACHE, monkeypatch)
    assert load_pack(f"hf://{NAME}").address == commit
    with pytest.raises(PackError, match=r"the hub http://127\.0\.0\.1:9 cannot be reached"):
        load_pack("hf://me/other")
    with pytest.raises(RunError, match=r"cannot push to me/other: .*Check the connection"):
        lpt.push(folder, "me/other")


@pytest.mark.parametrize("name", PACK_FILES[:2])
def test_a_damaged_cache_is_named_and_the_advice_helps(hub: FakeHub, folder: Path, name: str) -> None:
    lpt.push(folder, NAME)
    fetched = fetch(f"hf://{NAME}")
    file = (fetched.folder / name).resolve()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(PackError) as failure:
        load_pack(f"hf://{NAME}")
    cache = fetched.folder.parent.parent
    assert f"delete the folder {cache} and" in str(failure.value)
    assert str(fetched.address) in str(failure.value)
    shutil.rmtree(cache)
    load_pack(f"hf://{NAME}")


def test_what_the_hub_does_not_have_is_said(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("me/model", {"config.json": b"{}", "model.safetensors": b"x"})
    hub.add("me/half", {"pack.json": b"{}"})
    hub.add("me/secret", files_of(folder), private=True)
    load_pack("hf://me/secret")
    monkeypatch.setenv("HF_TOKEN", "hf_another")
    for address, message in {
        "hf://me/nothing": "no repository me/nothing, or it is private.*log in",
        "hf://me/secret@main": "no repository me/secret, or it is private.*log in",
        "hf://me/model@v9": "me/model has no revision v9",
        "hf://me/model": "no pack: there is no pack.json and no pack.safetensors",
        "hf://me/half": "no pack: there is no pack.safetensors",
    }.items():
        shutil.rmtree(constants.HF_HUB_CACHE, ignore_errors=True)
        with pytest.raises(PackError, match=message):
            load_pack(address)


def test_a_pack_of_the_hub_chooses_nothing(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    """As for any pack: which backbone is opened, only the user says. Pickles beside it are not even downloaded."""
    edit(folder, lambda values: values["backbone"].update(name="hf-hub:evil/vit", checkpoint=None))
    hub.add("evil/pack", {**files_of(folder), "pytorch_model.bin": b"x", "pack/pack.json": b"x"})
    hub.requests.clear()
    with pytest.raises(ConfigError, match=r"the pack hf://evil/pack@[0-9a-f]{40} asks for the backbone 'hf-hub:evil"):
        lpt.load_predictor("hf://evil/pack")
    assert sorted({path.rpartition("/")[2] for path in hub.requests if "/resolve/" in path}) == sorted(PACK_FILES)
    assert not any("evil/vit" in path for path in hub.requests)


# --- pushing ----------------------------------------------------------------------------------------------------------


def test_a_push_replaces_nothing_but_a_pack(hub: FakeHub, folder: Path) -> None:
    hub.add(NAME, {"config.json": b"{}", "model.safetensors": b"x"})
    hub.add("me/public", files_of(folder))
    hub.add("me/notes", {"README.md": b"# My notes"})
    before = {name: repository.refs["main"] for name, repository in hub.repositories.items()}
    with pytest.raises(RunError, match=r"holds 2 files of no pack: config\.json, model\.safetensors"):
        lpt.push(folder, NAME)
    with pytest.raises(RunError, match=r"holds 1 file of no pack: README\.md"):
        lpt.push(folder, "me/notes")
    with pytest.raises(RunError, match="is there and is public"):
        lpt.push(folder, "me/public", private=True)
    with pytest.raises(ConfigError, match="'birds' is no name of a repository"):
        lpt.push(folder, "birds")
    (folder / "README.md").unlink()
    with pytest.raises(PackError, match=r"README\.md"):
        lpt.push(folder, "me/new")
    assert {name: repository.refs["main"] for name, repository in hub.repositories.items()} == before


def test_what_another_pushed_meanwhile_stays(
    hub: FakeHub, folder: Path, tiny_backbone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lpt.push(folder, NAME)
    write(folder, new_model(tiny_backbone, seed=1))
    theirs: list[str] = []
    monkeypatch.setattr(
        "lpt.packs.hub._check_repository",
        lambda *_, **__: theirs.append(hub.repositories[NAME].commit({"pack.json": b"theirs"})),
    )
    with pytest.raises(RunError, match="Somebody else pushed at the same time"):
        lpt.push(folder, NAME)
    assert hub.repositories[NAME].refs["main"] == theirs[0]


def test_a_private_repository_is_private_from_the_first_byte(hub: FakeHub, folder: Path) -> None:
    address = lpt.push(folder, NAME, private=True)
    assert hub.repositories[NAME].private
    assert lpt.push(folder, NAME, private=True) == address  # nothing changed: no commit


@pytest.mark.parametrize(
    ("token", "refusal"),
    [
        (TOKEN, (403, f"You have no right with Bearer {TOKEN}.")),
        (TOKEN, (401, f"Invalid credentials: {TOKEN}")),
        ("secretß", None),
    ],
)
def test_the_token_is_never_shown(
    hub: FakeHub, folder: Path, token: str, refusal: tuple[int, str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that the hub repeats, nor one that cannot even be sent."""
    hub.refused = refusal
    monkeypatch.setenv("HF_TOKEN", token)
    for act in (lambda: lpt.push(folder, NAME), lambda: load_pack(f"hf://{NAME}")):
        with pytest.raises(LptError) as failure:
            act()
        assert "ecret" not in str(failure.value)
        assert failure.value.__cause__ is None


def test_without_a_token_nothing_is_pushed(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(RunError, match=r"no token of the hub.*hf auth login"):
        lpt.push(folder, NAME)
    assert NAME not in hub.repositories


# --- the program ------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_a_download_that_hangs(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    hub.add(NAME, files_of(folder))
    hub.trickles = True
    hub.requests.clear()
    names = environment(hub, tmp_path / "other-cache")
    command = [sys.executable, "-m", "lpt", "inspect", f"hf://{NAME}"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, **names}) as process:
        until(lambda: any("resolve" in path and path.startswith("GET") for path in hub.requests), seconds=60)
        process.send_signal(signal.SIGINT)
        _, shown = process.communicate(timeout=60)
    assert (process.returncode, "interrupted" in shown) == (130, True), shown


def test_the_commands_take_addresses(hub: FakeHub, folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """Push prints the commit; inspect, predict and evaluate read the address, and their records name the commit."""
    names = environment(hub, tmp_path / "other-cache")
    code, shown = program("push", folder, NAME, "--private", folder=tmp_path, **names)
    commit = f"hf://{NAME}@{hub.repositories[NAME].refs['main']}"
    assert (code, f"Commit: {commit}" in shown) == (0, True), shown
    assert "Made the private repository me/birds" in shown
    assert TOKEN not in shown

    code, shown = program("inspect", f"hf://{NAME}@v9", folder=tmp_path, **names)
    assert (code, "has no revision v9" in shown, shown.count("\n")) == (2, True, 1), shown

    for name in NAMES:
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (40, 40), (99, 9, 9)).save(tmp_path / "photos" / name / "a.png")
    output = tmp_path / "rows.jsonl"
    arguments = ["predict", f"hf://{NAME}", tmp_path / "photos", "-o", output, "--checkpoint", tiny_backbone]
    result = CliRunner().invoke(app, list(map(str, arguments)))
    assert (result.exit_code, f"Pack: {commit}" in result.output) == (0, True), result.output
    rows: list[dict[str, Any]] = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["pack"] for row in rows] == [commit] * 3
    assert is_table(output)

    measured = tmp_path / "measured"
    lpt.evaluate(f"hf://{NAME}", tmp_path / "photos", split="train", checkpoint=tiny_backbone, output=measured)
    assert json.loads((measured / "metrics.json").read_text())["pack"] == commit

    served = create_app([f"hf://{NAME}"], checkpoint=tiny_backbone, device="cpu").state.service.shelf.served
    assert {name: pack.pack.origin for name, pack in served.items()} == {"birds": commit}
