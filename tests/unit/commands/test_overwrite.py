"""`--overwrite`, and everything else that replaces files: only what LPT wrote ever goes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import lpt
from lpt.cli.app import app
from lpt.commands.compare.compare import compare
from lpt.commands.compare.store import NAMES as COMPARISON_NAMES
from lpt.errors import LptError, RunError
from lpt.system.owned import Input, contents, first_inside
from lpt.training.folder import RUN_NAMES, RunFolder
from samples import as_assignments, tiny_settings
from warm_process import WarmProcess

MARK = '{"kind": "lpt-run", "format_version": 1}'
SMALL = [
    *as_assignments(tiny_settings(epoch_steps=1, epochs=(1, 1))),
    "train.phase1.warmup_epochs=0",
    "train.phase2.warmup_epochs=0",
]


def everything(folder: Path) -> dict[str, bytes | str | None]:
    """All below a folder: content of files, targets of links, None for folders."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        found[name] = os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else None  # noqa: PTH115
    return found


def small(checkpoint: Path) -> list[str]:
    return [f"backbone.checkpoint={checkpoint}", *SMALL]


def fit(data: Path | str, output: Path | str, checkpoint: Path, **more: Any) -> lpt.FitResult:
    return lpt.fit(data, output, preset="laptop", settings=small(checkpoint), **more)


def refused(folder: Path, act: Callable[[], object], *parts: str) -> str:
    """The message of what must be refused and change nothing in a folder."""
    before = everything(folder)
    with pytest.raises(LptError) as caught:
        act()
    assert everything(folder) == before
    message = str(caught.value)
    for part in parts:
        assert part in message
    return message


def command(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.exit_code, " ".join(result.output.split())


# --- the names --------------------------------------------------------------------------------------------------------


def test_a_run_writes_no_name_that_is_not_in_the_list(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished run, one with a prefix cache that is killed on the way, and one that left images out."""
    seen: list[tuple[str, ...]] = []
    remove = lpt.training.folder.RunFolder.remove_prefix_caches  # type: ignore[attr-defined]

    def looked(self: RunFolder) -> None:
        seen.append(contents(self.path, RUN_NAMES).others)
        remove(self)

    monkeypatch.setattr(RunFolder, "remove_prefix_caches", looked)
    photos = Path(shutil.copytree(photo_folder, tmp_path / "photos"))
    (photos / "train" / "dark" / "0.jpg").write_bytes(b"broken")
    more = ["data.bad_images=skip", "prefix_cache.views=2", "prefix_cache.store=disk"]
    drawn: list[list[str]] = []
    monkeypatch.setattr(
        "lpt.training.prefix_cache.PrefixCache.remove",
        lambda self: drawn.append(sorted(path.name for path in self._file.parent.iterdir())),
    )
    lpt.fit(photos, tmp_path / "run", preset="laptop", settings=[*small(tiny_backbone), *more])
    assert drawn == [["process0.identity", "process0.rows"]]  # there was one to look at
    assert seen == [()]
    for run in (fitted_run, tmp_path / "run"):
        inside = contents(run, RUN_NAMES)
        assert (inside.others, inside.blocking) == ((), ())
        assert {path.relative_to(run).as_posix() for path in inside.files} == {
            name for name, content in everything(run).items() if content is not None
        }
    assert (tmp_path / "run" / "skipped_images.csv").is_file()
    assert not (tmp_path / "run" / "prefix_cache").exists()


def test_the_files_of_tensorboard_are_names_of_a_run(tmp_path: Path) -> None:
    """As Accelerate's tracker lays them out; a user's in the same folder are not."""
    inner = tmp_path / "lpt" / "1764321234.5678"
    inner.mkdir(parents=True)
    for path in (inner.parent / "events.out.tfevents.176.host.1.0", inner / "events.out.tfevents.176.host.1.1"):
        path.write_text("")
    (inner / "hparams.yml").write_text("")
    assert contents(tmp_path, RUN_NAMES).others == ()
    (inner.parent / "model.py").write_text("mine")
    assert contents(tmp_path, RUN_NAMES).others == ("lpt/model.py",)


# --- any folder -------------------------------------------------------------------------------------------------------

OWN_FILES = ("config.yaml", "log.jsonl", "metrics.json", "losses.png", "checkpoints/latest.safetensors",
             "pack/pack.json", "pack.partial/README.md", "pack.former/pack.safetensors",
             "prefix_cache/process3.rows", "lpt/events.out.tfevents.1.a", ".config.yaml.ab1.lpt-tmp")  # fmt: skip
FOREIGN = ("thesis.tex", "Config.yaml", "config.yml", "checkpoints/mine.pt", "pack/notes.txt", "pack/deep/pack.json",
           "photos/cat/0.jpg", "lpt/model.py", "run.json.bak", ".thesis.ab1.lpt-tmp", "runs/config.yaml",
           "prefix_cache/rows", "log.jsonl~", "shift.png", "plan.json")  # fmt: skip
LINKS = ("metrics.json", "pack", "checkpoints", "thesis", "prefix_cache", "losses.png", "lpt")
MARKERS = (MARK, "", "{", "[]", "3", '{"kind": "lpt-run"}', '{"kind": "lpt-run", "format_version": true}',
           '{"kind": "lpt-run", "format_version": 2}', '{"kind": "lpt-comparison", "format_version": 1}',
           '{"name": "another program"}', '{"data_sha256": "a", "backbone_sha256": "b"}')  # fmt: skip


@st.composite
def trees(draw: st.DrawFn) -> dict[str, Any]:
    return {
        "own": draw(st.sets(st.sampled_from(OWN_FILES))),
        "foreign": draw(st.sets(st.sampled_from(FOREIGN))),
        "links": draw(st.sets(st.sampled_from(LINKS), max_size=2)),
        "folders": draw(st.sets(st.sampled_from(["losses.png", "empty", "pack/pack.json"]), max_size=1)),
        "marker": draw(st.none() | st.sampled_from([MARK, MARK, *MARKERS])),
        "linked_marker": draw(st.sampled_from([False, False, False, True])),
    }


def plant(root: Path, tree: dict[str, Any]) -> Path:
    """A folder `run` made as a tree says, beside a folder `elsewhere` that links point to."""
    run, elsewhere = root / "run", root / "elsewhere"
    run.mkdir()
    (elsewhere / "folder").mkdir(parents=True)
    for name in ("folder/latest.safetensors", "folder/pack.json", "file"):
        (elsewhere / name).write_text("elsewhere")
    for name in tree["links"]:
        (run / name).symlink_to(elsewhere / ("file" if "." in name else "folder"))
    for name in sorted({*tree["own"], *tree["foreign"]}):
        path = run / name
        if not any((run / part).is_symlink() for part in (name, name.split("/")[0])) and not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    for name in tree["folders"]:
        if not os.path.lexists(run / name) and not (run / name.split("/")[0]).is_symlink():
            (run / name).mkdir(parents=True)
    if tree["marker"] is not None:
        (elsewhere / "run.json").write_text(tree["marker"])
        if tree["linked_marker"]:
            (run / "run.json").symlink_to(elsewhere / "run.json")
        else:
            (run / "run.json").write_text(tree["marker"])
    return run


@settings(max_examples=400, deadline=None)
@given(tree=trees(), overwrite=st.booleans())
def test_nothing_that_a_run_did_not_write_ever_goes(tree: dict[str, Any], overwrite: bool) -> None:
    """Whatever lies in a folder: a refused call changes nothing, another one only what a run wrote."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        run = plant(root, tree)
        before = everything(root)
        marked = tree["marker"] == MARK and not tree["linked_marker"]
        refusal = refusal_of(lambda: RunFolder.create(run, {"data_sha256": "new"}, overwrite=overwrite))
        if refusal is not None:
            assert everything(root) == before
            assert "add overwrite" not in refusal or marked
            return
        after = everything(root)
        mine = {path: content for path, content in before.items() if not is_own(path, tree)}
        assert {path: after.get(path, "gone") for path in mine} == mine
        anything = any(content is not None for path, content in before.items() if path.startswith("run/"))
        assert marked or not anything or tree["own"] | tree["foreign"] == set()
        assert json.loads((run / "run.json").read_text()) == {**json.loads(MARK), "data_sha256": "new"}
        left = {path for path, content in after.items() if content is not None and path not in mine}
        assert left == {"run/run.json"}


def refusal_of(act: Callable[[], object]) -> str | None:
    try:
        act()
    except RunError as error:
        return str(error)
    return None


def is_own(path: str, tree: dict[str, Any]) -> bool:
    """Whether the test put something there that a run may have written: links under its names, files, folders."""
    name = path.removeprefix("run/")
    if not path.startswith("run/"):
        return False
    folders = {"checkpoints", "pack", "pack.partial", "pack.former", "prefix_cache", "lpt"}
    return name in {*OWN_FILES, "run.json"} or name in folders or (name in tree["links"] and name != "thesis")


@pytest.mark.parametrize("marker", [*MARKERS[1:], None])
def test_a_folder_without_its_marker_is_no_run(marker: str | None, fitted_run: Path, tmp_path: Path) -> None:
    if marker is None:
        (fitted_run / "run.json").unlink()
    else:
        (fitted_run / "run.json").write_text(marker)
    for overwrite in (False, True):
        message = refused(tmp_path, lambda flag=overwrite: RunFolder.create(fitted_run, {}, overwrite=flag))
        assert "`output`" in message
        assert "add overwrite" not in message


def test_a_huge_marker_is_no_marker_and_is_not_read(fitted_run: Path) -> None:
    """A file of 8 TiB with a hole in it, which would not fit the memory."""
    with (fitted_run / "run.json").open("ab") as file:
        file.truncate(8 * 2**40)
    for overwrite in (False, True):
        with pytest.raises(RunError, match="not a run folder of lpt"):
            RunFolder.create(fitted_run, {}, overwrite=overwrite)


# --- what is read -----------------------------------------------------------------------------------------------------


@pytest.fixture
def project(fitted_run: Path, photo_folder: Path, tmp_path: Path) -> Path:
    """A run folder that a user also keeps data in, as a folder and as a list."""
    shutil.copytree(photo_folder, fitted_run / "photos")
    (tmp_path / "data").symlink_to(fitted_run / "photos")
    rows = [f"{path},{path.parent.name}" for path in sorted((fitted_run / "photos" / "train").rglob("*.jpg"))]
    (tmp_path / "list.csv").write_text("\n".join(["image,label", *rows]) + "\n")
    return fitted_run


def spellings(project: Path, tmp_path: Path) -> Iterable[Path | str]:
    yield from (project / "photos", tmp_path / "data", tmp_path / "list.csv", f"{project}/pack/../photos/")
    (project / "elsewhere").symlink_to(project.parent.parent / "data")  # only its link lies inside, and leads back
    yield project / "elsewhere"


def test_data_in_the_folder_is_never_at_risk(project: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    """However it is called, and also before anything else is done; the advice is not to overwrite."""
    for data in spellings(project, tmp_path):
        for overwrite in (False, True):
            message = refused(
                tmp_path, lambda data=data, flag=overwrite: fit(data, project, tiny_backbone, overwrite=flag)
            )
            assert ("lies in it" in message) == overwrite
            assert "add overwrite" not in message


def test_what_else_a_run_reads_is_not_at_risk(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Test images, validation images, the image root, weights, the configuration, the current and the home folder."""
    for name in ("test", "validation"):
        shutil.copytree(photo_folder / "test", fitted_run / name)
    for path in (tiny_backbone, tiny_backbone.with_suffix(".json")):
        shutil.copy(path, fitted_run / path.name)

    def again(**more: Any) -> Callable[[], object]:
        own = [*small(more.pop("weights", tiny_backbone)), *more.pop("own", [])]
        return lambda: lpt.fit(photo_folder, fitted_run, preset="laptop", settings=own, overwrite=True, **more)

    refused(tmp_path, again(own=[f"data.test={fitted_run / 'test'}"]), "data.test")
    refused(tmp_path, again(own=[f"data.validation={fitted_run / 'validation'}"]), "data.validation")
    refused(tmp_path, again(own=[f"data.image_root={fitted_run}"]), "data.image_root")
    refused(tmp_path, again(weights=fitted_run / "tiny.safetensors"), "backbone's file")
    refused(tmp_path, again(config=fitted_run / "config.yaml"), "the configuration")
    (fitted_run / "vit").mkdir()
    folder = ["backbone.checkpoint=null", f"backbone.name=local-dir:{fitted_run / 'vit'}"]
    refused(tmp_path, again(own=folder), f"backbone's file lies in it ({fitted_run / 'vit'})")
    with monkeypatch.context() as patch:
        patch.setenv("HOME", str(fitted_run / "test"))
        refused(tmp_path, again(), "home folder")
    with monkeypatch.context() as patch:
        patch.chdir(fitted_run / "test")
        refused(tmp_path, again(), "current folder")
        refused(tmp_path, lambda: fit(photo_folder, "..", tiny_backbone, overwrite=True), "current folder")


def test_folders_are_compared_by_what_they_are(tmp_path: Path) -> None:
    folder, link = tmp_path / "folder", tmp_path / "link"
    (folder / "in").mkdir(parents=True)
    link.symlink_to(folder)
    (tmp_path / "folder2").mkdir()  # a name that starts alike
    for inside in (folder, link, link / "in", folder / "in" / "nothing.csv", tmp_path / "x" / ".." / "folder" / "in"):
        assert first_inside(folder, [Input("it", inside)]) is not None, inside
        assert first_inside(link, [Input("it", inside)]) is not None, inside
    for outside in (tmp_path, tmp_path / "folder2", folder / ".."):
        assert first_inside(folder, [Input("it", outside)]) is None, outside
    assert first_inside(Path("/"), []) is not None


# --- a whole run ------------------------------------------------------------------------------------------------------


def test_overwriting_replaces_the_run_and_leaves_the_rest(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    """Files of a user beside, in and linked from the run stay; the user is told which."""
    mine = ("thesis.tex", "checkpoints/best.pt", "pack/serve.py", "pack/more/0.txt")
    for name in mine:
        (fitted_run / name).parent.mkdir(exist_ok=True)
        (fitted_run / name).write_text(name)
    disk = tmp_path / "disk"
    disk.mkdir()
    (disk / "process0.rows").write_text("of something else")
    (fitted_run / "prefix_cache").symlink_to(disk)
    before = (fitted_run / "log.jsonl").read_text()
    with (fitted_run / "log.jsonl").open("a") as held:  # another program looks at it
        options = [part for one in small(tiny_backbone) for part in ("--set", one)]
        link = tmp_path / "link"
        link.symlink_to(fitted_run)
        code, output = command("fit", photo_folder, "-o", f"{link}/", "--preset", "laptop", "--overwrite", *options)
        held.write("more")
    assert code == 0, output
    assert "not written by lpt: 4 (checkpoints/best.pt, pack/more/, pack/serve.py, thesis.tex)" in output
    assert all((fitted_run / name).read_text() == name for name in mine)
    assert (disk / "process0.rows").read_text() == "of something else"
    assert len((fitted_run / "log.jsonl").read_text()) < len(before)
    assert RunFolder(fitted_run).finished
    lpt.load_pack(fitted_run / "pack")


def test_what_is_in_the_way_is_told_before_anything_goes(fitted_run: Path, tmp_path: Path) -> None:
    (fitted_run / "losses.png").unlink()
    (fitted_run / "losses.png").mkdir()
    refused(tmp_path, lambda: RunFolder.create(fitted_run, {}, overwrite=True), "losses.png/ lies where")


def overwrite_until_killed(folder: Path, after: int) -> None:
    """Overwrite a run, and be killed after so many changes of the disk."""
    changes = itertools.count()

    def counting(act: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **more: Any) -> Any:
            if next(changes) == after:
                os.kill(os.getpid(), signal.SIGKILL)
            return act(*arguments, **more)

        return counted

    for name in ("unlink", "rmdir", "mkdir", "replace"):
        setattr(os, name, counting(getattr(os, name)))
    RunFolder.create(folder, {"data_sha256": "new"}, overwrite=True)


@pytest.mark.parametrize("after", range(0, 24, 3))
def test_a_kill_at_any_moment_leaves_a_run_that_can_be_overwritten(
    after: int, fitted_run: Path, tmp_path: Path
) -> None:
    """The marker is there until the new one takes its place, so that the same command works again."""
    (fitted_run / "thesis.tex").write_text("work of years")
    killed = WarmProcess(overwrite_until_killed, fitted_run, after)
    assert killed.wait(60) in (-signal.SIGKILL, 0)
    assert RunFolder(fitted_run).is_run
    RunFolder.create(fitted_run, {}, overwrite=True)
    assert sorted(path.name for path in fitted_run.iterdir()) == ["checkpoints", "run.json", "thesis.tex"]
    assert (fitted_run / "thesis.tex").read_text() == "work of years"


@pytest.mark.parametrize("after", range(4))
def test_a_kill_at_the_start_leaves_a_folder_that_is_used_again(after: int, tmp_path: Path) -> None:
    run = tmp_path / "run"
    WarmProcess(overwrite_until_killed, run, after).wait(60)
    assert not run.exists() or RunFolder(run).is_run or not [path for path in run.iterdir() if path.name[0] != "."]
    RunFolder.create(run, {}, overwrite=False)
    assert sorted(path.name for path in run.iterdir()) == ["checkpoints", "run.json"]


# --- compare ----------------------------------------------------------------------------------------------------------


def compared(data: Path, output: Path, checkpoint: Path, **more: Any) -> object:
    own = [one for one in small(checkpoint) if "warmup" not in one]
    own += ["train.phase1.epochs=2", "train.phase2.epochs=0", *more.pop("own", [])]
    return compare(data, output, methods=["class-means"], preset="laptop", settings=own, **more)


def test_a_comparison_is_thrown_away_but_nothing_else(photo_folder: Path, tiny_backbone: Path, tmp_path: Path) -> None:
    output = tmp_path / "compared"
    compared(photo_folder, output, tiny_backbone)
    inside = contents(output, COMPARISON_NAMES)
    assert (inside.others, inside.blocking) == ((), ())
    cell = output / "runs" / "class-means" / "seed0"
    mine = [output / "notes.md", cell / "thesis.tex", output / "runs" / "mine" / "seed0" / "config.yaml",
            output / "errors" / "mine.txt"]  # fmt: skip
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    other = ["image.test_crop=1.0"]
    message = refused(tmp_path, lambda: compared(photo_folder, output, tiny_backbone, own=other), "other settings")
    assert "with overwrite=True" in message
    compared(photo_folder, output, tiny_backbone, own=other, overwrite=True)
    assert all(path.read_text() == "mine" for path in mine)
    assert "test_crop: 1.0" in (cell / "config.yaml").read_text()

    (output / "photos").symlink_to(photo_folder)
    inside_it = Path(shutil.copytree(photo_folder, output / "runs" / "mine" / "photos"))
    for flag in (False, True):
        message = refused(tmp_path, lambda flag=flag: compared(inside_it, output, tiny_backbone, overwrite=flag))
        assert ("lies in it" in message) == flag
        assert "with overwrite" not in message
    facts = json.loads((cell / "run.json").read_text())
    (cell / "run.json").write_text(json.dumps(facts | {"kind": "other"}))
    refused(tmp_path, lambda: compared(photo_folder, output, tiny_backbone, overwrite=True), str(cell))
    (cell / "run.json").write_text(json.dumps(facts))
    plan = json.loads((output / "plan.json").read_text())
    for damaged in ("{", json.dumps({"plan": "of another program"}), json.dumps(plan | {"kind": "mine"})):
        (output / "plan.json").write_text(damaged)
        refused(tmp_path, lambda: compared(photo_folder, output, tiny_backbone, overwrite=True), "plan.json")


# --- evaluate, predict, doctor ----------------------------------------------------------------------------------------


def test_an_evaluation_replaces_only_an_evaluation(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    results, mine = tmp_path / "results", tmp_path / "mine.csv"
    base = ("evaluate", "--checkpoint", tiny_backbone, fitted_run, photo_folder, "-o", results)
    results.mkdir()
    (results / "predictions.csv").write_text("mine")
    for more in ((), ("--overwrite",)):
        assert command(*base, *more)[0] == 2
        assert everything(results) == {"predictions.csv": b"mine"}
    (results / "predictions.csv").unlink()
    (results / "notes.txt").write_text("mine")
    assert command(*base)[0] == 0
    code, message = command(*base)
    assert (code, "add --overwrite" in message) == (2, True)
    mine.write_text("mine")
    (results / "per_class.csv").unlink()
    (results / "per_class.csv").symlink_to(mine)
    assert command(*base, "--overwrite")[0] == 0
    assert mine.read_text() == "mine"
    assert (results / "per_class.csv").is_file()
    assert (results / "notes.txt").read_text() == "mine"
    photos = Path(shutil.copytree(photo_folder, results / "photos"))
    before = everything(results)
    for more in ((), ("--overwrite",)):
        code, message = command("evaluate", "--checkpoint", tiny_backbone, fitted_run, photos, "-o", results, *more)
        assert (code, "add --overwrite" in message) == (2, False)
    (results / "metrics.json").write_text("{}")
    before = everything(results)
    assert command(*base, "--overwrite")[0] == 2
    assert everything(results) == before


def test_a_shift_replaces_only_a_shift(
    fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    results, mine = tmp_path / "results", tmp_path / "mine.png"
    results.mkdir()
    base = ("evaluate", "--checkpoint", tiny_backbone, fitted_run, photo_folder, "--shift", photo_folder / "test", "-o")
    (results / "shift.csv").write_text("mine")
    for more in ((), ("--overwrite",)):
        assert command(*base, results, *more)[0] == 2
        assert everything(results) == {"shift.csv": b"mine"}
    assert command(*base, fitted_run)[0] == 0
    mine.write_text("mine")
    (fitted_run / "shift.png").unlink()
    (fitted_run / "shift.png").symlink_to(mine)
    assert command(*base, fitted_run, "--overwrite")[0] == 0
    assert mine.read_text() == "mine"
    RunFolder.create(fitted_run, {}, overwrite=True)  # with what was measured of it
    assert sorted(path.name for path in fitted_run.iterdir()) == ["checkpoints", "run.json"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_predictions_replace_only_predictions(
    ending: str, fitted_run: Path, photo_folder: Path, tiny_backbone: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"out.{ending}"
    base = ("predict", "--checkpoint", tiny_backbone, fitted_run, photo_folder / "test", "-o", output)
    output.write_text("")  # as mktemp makes it
    assert command(*base)[0] == 0
    first = output.read_bytes()
    assert command(*base)[0] == 0
    assert output.read_bytes() == first
    for foreign in ("image,label\na.jpg,dark\n", '{"image": "a.jpg", "label": "dark"}\n', "image,class\n"):
        output.write_text(foreign)
        code, message = command(*base)
        assert (code, "not a table that lpt predict wrote" in message) == (2, True)
        assert output.read_text() == foreign
    parts = tmp_path / f"out.{ending}.parts"
    output.unlink()
    parts.mkdir()
    (parts / "000001.part").write_text("of a download")
    assert command(*base)[0] == 2
    assert everything(parts) == {"000001.part": b"of a download"}


def test_findings_replace_only_findings(photo_folder: Path, tmp_path: Path) -> None:
    plot, found = tmp_path / "plot.png", tmp_path / "found.json"
    base = ("doctor", photo_folder, "--no-decode", "--plot", plot, "--json", found)
    for _ in range(2):
        assert command(*base)[0] == 0
    written = everything(tmp_path)
    image = photo_folder / "train" / "dark" / "0.jpg"
    for path, content in ((plot, image.read_bytes()), (found, b'{"dependencies": {}}')):
        path.write_bytes(content)
        before = everything(tmp_path)
        code, message = command(*base)
        assert (code, f"{path.name} is there" in message) == (2, True)
        assert everything(tmp_path) == before
        path.write_bytes(written[path.name])  # type: ignore[arg-type]
