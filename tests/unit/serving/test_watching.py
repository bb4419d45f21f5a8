"""Packs that appear, change, break and go while the server runs."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from pathlib import Path

import pytest

from lpt.errors import ConfigError, PackError
from lpt.packs import pack
from lpt.packs.pack import JSON_NAME, TENSORS_NAME, Pack
from lpt.serving import watching
from lpt.serving.shelf import Shelf, find_packs
from lpt.serving.watching import PackEvents, Watcher
from small_packs import edit, give_threshold


@pytest.fixture
def shelf(tiny_backbone: Path) -> Shelf:
    return Shelf(checkpoint=tiny_backbone, device="cpu")


@pytest.fixture
def events() -> PackEvents:
    return PackEvents()


@pytest.fixture
def watcher(shelf: Shelf, packs: Path, events: PackEvents) -> Watcher:
    watcher = Watcher(shelf, [packs], events)
    watcher.load()
    return watcher


def happened(events: PackEvents) -> list[tuple[str, str]]:
    return [(event["pack"], event["event"]) for event in events.listed()]


def test_a_pack_is_taken_up_once_it_has_settled(
    watcher: Watcher, shelf: Shelf, events: PackEvents, packs: Path, tmp_path: Path
) -> None:
    new = packs / "new" / "pack"  # a run folder
    new.mkdir(parents=True)
    for name in (JSON_NAME, TENSORS_NAME):  # it arrives file by file, the tensors in two pieces
        content = (packs / "birds" / name).read_bytes()
        (new / name).write_bytes(content[: len(content) // 2])
        watcher.look()
        (new / name).write_bytes(content)
        watcher.look()
    assert happened(events) == []
    watcher.look()
    assert happened(events) == [("new", "added")]
    assert list(shelf.served) == ["birds", "cranes", "new"]
    predictors = {id(served.predictor) for served in shelf.served.values()}
    assert len(predictors) == 1  # one backbone in memory


def test_the_end_does_not_wait_for_a_backbone_that_never_comes(
    watcher: Watcher, shelf: Shelf, packs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_up, arrives = threading.Event(), threading.Event()

    def put(name: str, pack: Pack) -> bool:
        taken_up.set()
        return arrives.wait(60)

    monkeypatch.setattr(shelf, "put", put)
    monkeypatch.setattr(watcher, "_seconds", 0.01)
    monkeypatch.setattr(watching, "CLOSE_SECONDS", 0.1)
    shutil.copytree(packs / "birds", packs / "new")
    watcher.start()
    assert taken_up.wait(30)
    watcher.close()
    assert not arrives.is_set()
    arrives.set()


def test_a_damaged_pack_leaves_the_former_one_serving(
    watcher: Watcher, shelf: Shelf, events: PackEvents, packs: Path
) -> None:
    tensors = packs / "birds" / TENSORS_NAME
    whole, former = tensors.read_bytes(), shelf.served["birds"]
    tensors.write_bytes(whole[:-8])
    for _ in range(4):
        watcher.look()
    assert happened(events) == [("birds", "refused")]  # once, not at every look
    message = events.listed()[0]["message"]
    assert "damaged" in message
    assert "still served" in message
    assert str(packs) not in message  # clients need not know where packs lie
    assert shelf.served["birds"] is former
    tensors.write_bytes(whole)
    edit(packs / "birds", lambda values: values["probabilities"].update(scale=30.0))
    watcher.look()
    watcher.look()
    assert happened(events)[1:] == [("birds", "replaced")]
    assert shelf.served["birds"].pack.info.probabilities.scale == 30


def test_a_pack_without_threshold_is_refused_where_one_is_needed(
    tiny_backbone: Path, packs: Path, events: PackEvents, tmp_path: Path
) -> None:
    (packs / "cranes").rename(tmp_path / "cranes")
    give_threshold(packs / "birds", 0.1)
    shelf = Shelf(checkpoint=tiny_backbone, device="cpu", reject=True)
    watcher = Watcher(shelf, [packs], events)
    watcher.load()
    (tmp_path / "cranes").rename(packs / "cranes")
    for _ in range(2):
        watcher.look()
    assert happened(events) == [("cranes", "refused")]
    assert "has no threshold" in events.listed()[0]["message"]
    assert list(shelf.served) == ["birds"]


def test_a_pack_goes_only_when_it_stays_away(
    watcher: Watcher, shelf: Shelf, events: PackEvents, packs: Path, tmp_path: Path
) -> None:
    away = tmp_path / "away"
    (packs / "birds").rename(away)
    watcher.look()
    away.rename(packs / "birds")  # the middle of a replacement
    watcher.look()
    assert happened(events) == []
    shutil.rmtree(packs / "birds")
    watcher.look()
    watcher.look()
    assert happened(events) == [("birds", "removed")]
    assert list(shelf.served) == ["cranes"]
    shutil.rmtree(packs)
    watcher.look()
    watcher.look()
    assert happened(events)[1:] == [("", "refused")]  # the folder itself is gone: what is served stays
    assert list(shelf.served) == ["cranes"]


def test_where_packs_are_looked_for(packs: Path, tmp_path: Path) -> None:
    birds, cranes = packs / "birds", packs / "cranes"
    run = tmp_path / "runs" / "photos"
    run.mkdir(parents=True)
    shutil.copytree(birds, run / "pack")
    shutil.copytree(birds, packs / "half.partial")
    shutil.copytree(birds, packs / ".hidden")
    (packs / "notes.txt").write_text("no pack")
    assert find_packs([packs]) == {"birds": birds, "cranes": cranes}
    assert find_packs([run, birds]) == {"photos": run / "pack", "birds": birds}
    assert find_packs([run.parent]) == {"photos": run / "pack"}
    odd = tmp_path / "odd" / os.fsdecode(b"caf\xe9\n")  # no UTF-8, which JSON could not hold
    shutil.copytree(birds, odd)
    assert find_packs([odd.parent]) == {r"caf\udce9\n": odd}
    shutil.copytree(birds, tmp_path / "other" / "birds")
    for sources, message in (
        ([packs, tmp_path / "other"], "two packs are named 'birds'"),
        ([tmp_path / "nowhere"], "does not exist"),
        ([packs / "notes.txt"], "is not a folder"),
    ):
        with pytest.raises(ConfigError, match=message):
            find_packs(sources)


def test_a_folder_that_may_not_be_read(packs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What every disk has is passed over; any other could be a pack, so it is named."""
    find = pack.find_pack

    def refused(path: Path) -> Path:  # tests may run as root, who may read everything
        if path.name in ("lost+found", "locked"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return find(path)

    monkeypatch.setattr(pack, "find_pack", refused)
    (packs / "lost+found").mkdir()
    assert list(find_packs([packs])) == ["birds", "cranes"]
    (packs / "locked").mkdir()
    with pytest.raises(ConfigError, match="locked cannot be read: Permission denied"):
        find_packs([packs])


def test_the_first_packs_must_be_whole(shelf: Shelf, packs: Path, events: PackEvents) -> None:
    (packs / "cranes" / TENSORS_NAME).write_bytes(b"")
    with pytest.raises(PackError, match="cranes"):
        Watcher(shelf, [packs], events).load()
    (packs / "cranes").rename(packs / "logs")
    with pytest.raises(ConfigError, match="rename the folder"):
        shelf.put("logs", shelf.served["birds"].pack)
