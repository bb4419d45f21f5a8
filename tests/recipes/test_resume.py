"""A run that is killed, interrupted or split differently gives the pack of an uninterrupted one, bit for bit."""

from __future__ import annotations

import json
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

import lpt
from lpt.commands.fit import disk
from lpt.model import Classifier, FrozenViT
from lpt.training import recorder
from lpt.training.checkpoint import save_checkpoint
from lpt.training.position import FILE_NAME, Position
from lpt.training.prefix_cache import PrefixCache
from samples import as_assignments, tiny_settings
from warm_process import WarmProcess

STEPS = 40
SETTINGS = [
    *as_assignments(tiny_settings(epoch_steps=STEPS // 4, epochs=(4, 4))),
    "model.prompt_init=tokens",
    "model.group_init=shared",
    "model.key_init=kmeans",
]


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder of generated photographs of five uneven classes, and a tiny random backbone."""
    root = tmp_path_factory.mktemp("resume")
    random = np.random.default_rng(0)
    for label, count in enumerate((12, 7, 4, 2, 1)):
        folder = root / "photos" / "train" / f"class {label}"
        folder.mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 60, (40, 36, 3)) + 40 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    architecture = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 4, "num_heads": 2, "weight_init": "jax"}
    torch.manual_seed(0)
    vit = VisionTransformer(**architecture, num_classes=0)
    save_file(vit.state_dict(), root / "tiny.safetensors")
    facts = {"name": "tiny", "architecture": architecture, "mean": [0.5] * 3, "std": [0.5] * 3, "license": "apache-2.0"}
    (root / "tiny.json").write_text(json.dumps(facts))
    return root / "photos", root / "tiny.safetensors"


@pytest.fixture(scope="module")
def uninterrupted(inputs: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    process = start("fit", folder, inputs)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return folder


def start(command: str, folder: Path, inputs: tuple[Path, Path], *extra: str) -> WarmProcess:
    """Train or resume in a process of its own, a checkpoint at every step."""
    data, checkpoint = inputs
    settings = [f"backbone.checkpoint={checkpoint}", *SETTINGS, "runtime.checkpoint_seconds=0", *extra]
    return WarmProcess(train, command, folder, data, settings)


def train(command: str, folder: Path, data: Path, settings: list[str]) -> None:
    try:
        if command == "fit":
            lpt.fit(data, folder, preset="laptop", settings=settings)
        else:
            lpt.resume(folder)
    except lpt.LptError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


def wait_for_step(folder: Path, phase: int, step: int, process: WarmProcess) -> None:
    """Return as soon as the log holds a step of a phase."""
    marker = f'"phase": {phase}, "epoch": {step // (STEPS // 4)}, "step": {step},'
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        log = folder / "log.jsonl"
        if log.exists() and marker in log.read_text():
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.001)
    raise AssertionError(f"step {step} of phase {phase} never came")


def packed(folder: Path) -> bytes:
    return (folder / "pack" / "pack.safetensors").read_bytes()


def losses(folder: Path) -> list[tuple[int, int, float]]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [(record["phase"], record["step"], record["loss"]) for record in records]


def test_kill_in_both_phases_and_resume_gives_the_same_pack(
    inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    """`kill -9` in phase 1, again in phase 2: the pack and the log are those of the undisturbed run."""
    folder = tmp_path / "run"
    for command, phase, step in (("fit", 1, 7), ("resume", 1, 23), ("resume", 2, 5), ("resume", 2, 31)):
        process = start(command, folder, inputs)
        wait_for_step(folder, phase, step, process)
        process.kill()
        process.wait()
        assert not (folder / "metrics.json").exists()
    process = start("resume", folder, inputs)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert packed(folder) == packed(uninterrupted)
    assert losses(folder) == losses(uninterrupted)
    assert len(losses(folder)) == 2 * STEPS


def test_kill_between_checkpoints_redoes_the_lost_steps(
    inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path
) -> None:
    """With no checkpoint but that at the end of phase 1, a kill in phase 2 goes back there; no step is logged twice."""
    folder = tmp_path / "run"
    process = start("fit", folder, inputs, "runtime.checkpoint_seconds=1000")
    wait_for_step(folder, 2, 12, process)
    process.kill()
    process.wait()
    process = start("resume", folder, inputs)
    assert process.wait(timeout=120) == 0
    assert packed(folder) == packed(uninterrupted)
    assert losses(folder) == losses(uninterrupted)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_saves_and_says_how_to_go_on(
    inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path, number: int
) -> None:
    """Ctrl-C, SIGTERM and SIGHUP end with code 130, the command to go on with, and a state for the same pack."""
    folder = tmp_path / "my run"
    process = start("fit", folder, inputs, "runtime.checkpoint_seconds=1000")
    wait_for_step(folder, 1, 11, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"lpt.resume('{folder}')\n" in errors
    assert "Traceback" not in errors
    assert (folder / "checkpoints" / FILE_NAME).exists()
    lpt.resume(folder)
    assert packed(folder) == packed(uninterrupted)


def test_a_finished_run_is_not_trained_again(inputs: tuple[Path, Path], uninterrupted: Path) -> None:
    """Resuming what is done changes no file."""
    before = {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()}
    result = lpt.resume(uninterrupted)
    assert result.pack.path == uninterrupted / "pack"
    assert {path: path.stat().st_mtime_ns for path in uninterrupted.rglob("*") if path.is_file()} == before


def test_resolved_config_can_be_run_again(inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path) -> None:
    """config.yaml as saved, without the preset's name given, leads to the same pack."""
    lpt.fit(None, tmp_path / "again", config=uninterrupted / "config.yaml")
    assert packed(tmp_path / "again") == packed(uninterrupted)


def test_number_of_workers_changes_no_bit(inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path) -> None:
    """Images read by two worker processes are the same images, augmented the same."""
    lpt.fit(None, tmp_path / "run", config=uninterrupted / "config.yaml", settings=["runtime.workers=2"])
    assert packed(tmp_path / "run") == packed(uninterrupted)


def test_micro_batches_learn_the_same(inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path) -> None:
    """Micro-batches of 3 consume the same positions as one batch of 8: equal up to rounding."""
    lpt.fit(None, tmp_path / "run", config=uninterrupted / "config.yaml", settings=["train.micro_batch=3"])
    whole, split = (load_file(folder / "pack" / "pack.safetensors") for folder in (uninterrupted, tmp_path / "run"))
    for name, tensor in whole.items():
        torch.testing.assert_close(split[name], tensor, rtol=2e-3, atol=2e-4)


def stopped_at(phase: int, step: int, monkeypatch: pytest.MonkeyPatch, go: Callable[[], object], halved: int) -> None:
    """Train until a checkpoint is saved, and leave it as if lack of memory had halved the micro-batch there."""

    def save(folder: Path, model: Classifier, state: dict[str, Tensor], position: Position) -> None:
        save_checkpoint(folder, model, state, position)
        if (position.phase, position.step) == (phase, step):
            save_checkpoint(folder, model, state, position._replace(micro_batch=halved))
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(recorder, "save_checkpoint", save)
        go()


def test_a_halved_micro_batch_is_its_phase_s_own(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Halved in phase 1, phase 2 begins with the configured one, as uninterrupted; kept views are of use all the same.

    After the last step nothing is computed again, and no cache is left, whoever's it was.
    """
    folder, filled = tmp_path / "run", list[int]()
    settings = [*SETTINGS, "train.epoch_steps=2", "train.micro_batch=8", "runtime.checkpoint_seconds=0"]
    settings += [f"backbone.checkpoint={inputs[1]}", "prefix_cache.views=2", "prefix_cache.store=disk"]
    keep = PrefixCache._keep
    monkeypatch.setattr(PrefixCache, "_keep", lambda cache, encoded: filled.append(1) or keep(cache, encoded))

    def resume() -> object:
        return lpt.resume(folder)

    stopped_at(1, 8, monkeypatch, lambda: lpt.fit(inputs[0], folder, preset="laptop", settings=settings), 2)
    stopped_at(2, 3, monkeypatch, resume, 4)
    assert len(filled) > 2
    filled.clear()
    stopped_at(2, 8, monkeypatch, resume, 4)
    assert len(filled) == 1  # the last batch, which is no whole one
    filled.clear()
    (folder / "prefix_cache" / "process1.rows").write_bytes(b"of a job with more processes")
    resume()
    assert not filled
    assert not (folder / "prefix_cache").exists()
    sizes = [json.loads(line)["micro_batch"] for line in (folder / "log.jsonl").read_text().splitlines()]
    assert sizes == [8] * 8 + [8] * 3 + [4] * 5


def test_no_pass_takes_more_images_than_a_step(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What training has room for, the passes before and after it have too, with several views of an image as well."""
    sizes, embed = set[int](), FrozenViT.embed
    monkeypatch.setattr(FrozenViT, "embed", lambda vit, images: sizes.add(len(images)) or embed(vit, images))
    settings = [*SETTINGS, "train.epoch_steps=1", "train.micro_batch=6", "image.test_views=5", "prefix_cache.views=1"]
    settings += [f"backbone.checkpoint={inputs[1]}", "model.head_init=class_means", "data.validation=0.3"]
    lpt.fit(inputs[0], tmp_path / "run", preset="laptop", settings=settings)
    assert max(sizes) == 6


def test_changed_images_and_weights_are_refused_on_resume(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A run is not continued on other images than it was started on, nor on another backbone at the same place."""
    root = shutil.copytree(inputs[0].parent, tmp_path / "inputs")
    data, weights = root / inputs[0].name, root / inputs[1].name
    process = start("fit", tmp_path / "run", (data, weights))
    wait_for_step(tmp_path / "run", 1, 3, process)
    process.kill()
    process.wait()
    image, tensors = next(data.rglob("0.png")), load_file(weights)
    name = next(item for item in tensors if item.endswith("attn.qkv.weight"))
    save_file({**tensors, name: tensors[name] + 1}, weights)
    with pytest.raises(lpt.RunError, match="the backbone's weights are not those"):
        lpt.resume(tmp_path / "run")
    save_file(tensors, weights)
    image.unlink()
    with pytest.raises(lpt.RunError, match="the images are not those"):
        lpt.resume(tmp_path / "run")


def test_damaged_checkpoint_is_named(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A truncated checkpoint is an error that names the file, not a traceback or a silent fresh start."""
    process = start("fit", tmp_path / "run", inputs)
    wait_for_step(tmp_path / "run", 1, 3, process)
    process.kill()
    process.wait()
    checkpoint = tmp_path / "run" / "checkpoints" / FILE_NAME
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(lpt.RunError, match=str(checkpoint)):
        lpt.resume(tmp_path / "run")


def test_infinite_loss_stops_with_the_step(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """A rate that blows up ends with the step and what to try; nothing is packed."""
    settings = [*SETTINGS, f"backbone.checkpoint={inputs[1]}", "train.phase1.lr=1e38", "train.phase1.optimizer=sgd"]
    with pytest.raises(lpt.RunError, match=r"step \d+.*not finite[\s\S]*lr"):
        lpt.fit(inputs[0], tmp_path / "run", preset="laptop", settings=settings)
    assert not (tmp_path / "run" / "pack").exists()


def test_only_the_disk_that_is_left_to_use_is_asked_for(
    uninterrupted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A trained run that lacks its plots asks for no room for log and checkpoints."""
    run = Path(shutil.copytree(uninterrupted, tmp_path / "run"))
    (run / "metrics.json").unlink()
    monkeypatch.setattr(disk, "LOG_LINE_BYTES", 2**40)
    monkeypatch.setattr(disk, "NUMBER_BYTES", 2**10)
    monkeypatch.setattr(disk, "free_bytes", lambda path: 2**30)
    lpt.resume(run)
    assert (run / "metrics.json").exists()
    with pytest.raises(lpt.RunError, match="MiB free; the run needs another"):
        lpt.fit(None, tmp_path / "again", config=uninterrupted / "config.yaml")


def test_a_run_folder_removed_midway_is_one_message(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    """The run ends at its next step, says so, and makes no folder that looks like a run."""
    folder = tmp_path / "run"
    process = start("fit", folder, inputs)
    wait_for_step(folder, 1, 7, process)
    folder.rename(tmp_path / "moved")
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "was removed or moved while the run was going on" in errors
    assert "Traceback" not in errors
    assert not folder.exists()


def test_two_runs_in_one_folder_are_refused(inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path) -> None:
    """Neither a resume nor an overwrite takes the folder from a run that goes on in it, and that run ends well."""
    folder = tmp_path / "run"
    process = start("fit", folder, inputs)
    wait_for_step(folder, 1, 3, process)
    process.send_signal(signal.SIGSTOP)
    for act in (
        lambda: lpt.resume(folder),
        lambda: lpt.fit(None, folder, config=uninterrupted / "config.yaml"),
        lambda: lpt.fit(None, folder, config=uninterrupted / "config.yaml", overwrite=True),
    ):
        with pytest.raises(lpt.RunError, match=f"in use: process {process.pid} on"):
            act()
    process.send_signal(signal.SIGCONT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert packed(folder) == packed(uninterrupted)
    assert not (folder / "run.lock").exists()


def test_resume_takes_another_place_and_machine(inputs: tuple[Path, Path], uninterrupted: Path, tmp_path: Path) -> None:
    """Moved images, readers and cache change no bit of the pack; what decides the numbers is refused.

    A vanished image is told with its class and with what to do; nothing is written then.
    """
    root = Path(shutil.copytree(inputs[0].parent, tmp_path / "inputs"))
    run, moved = tmp_path / "run", tmp_path / "elsewhere"
    process = start("fit", run, (root / inputs[0].name, inputs[1]))
    wait_for_step(run, 1, 3, process)
    process.kill()
    process.wait()
    (root / inputs[0].name).rename(moved)
    with pytest.raises(lpt.DataError, match=r"lpt\.resume\('.*', DATA\)"):
        lpt.resume(run)
    for setting in ("runtime.precision=bf16", "runtime.seed=4", "data.validation=0.2"):
        with pytest.raises(lpt.ConfigError, match=f"{setting.partition('=')[0]}: a resumed run keeps"):
            lpt.resume(run, moved, settings=[setting])
    image = next(moved.rglob("class 1/0.png"))
    content = image.read_bytes()
    image.unlink()
    before = (run / "config.yaml").read_bytes()
    with pytest.raises(lpt.RunError, match=r"class 1: 7 training images then, 6 now[\s\S]*lpt\.resume"):
        lpt.resume(run, moved)
    assert (run / "config.yaml").read_bytes() == before
    image.write_bytes(content)
    lpt.resume(run, moved, settings=["runtime.workers=1", "data.cache=false", "runtime.precision=fp32"])
    assert packed(run) == packed(uninterrupted)
    assert str(moved) in (run / "config.yaml").read_text()
