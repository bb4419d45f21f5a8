"""An install without PyTorch: new processes in which, mostly, the packages of the extra `train` are blocked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HEAVY = ("torch", "torchvision", "timm", "accelerate", "matplotlib")
LIGHT_COMMANDS = (["--help"], ["methods"], ["config"], ["config", "--preset", "laptop"])
HEAVY_COMMANDS = (
    ["fit", "x"],
    ["evaluate", "x", "y"],
    ["extend", "x", "y", "--output", "z"],
    ["calibrate", "x", "y", "--output", "z"],
    ["compare", "x"],
    ["tune", "x"],
    ["report", "x"],
    ["demo"],
)
HEAVY_NAMES = ("fit", "resume", "load_backbone", "FitResult")
LIGHT_ROOMS = ("lpt.system", "lpt.config", "lpt.data", "lpt.serving", "lpt.cli")
HEAVY_MODULES = ("lpt.system.precision", "lpt.data.loading", "lpt.data.device_crops", "lpt.data.tensor_transforms")
LIGHT_MODULES = ("lpt.errors", "lpt.evaluation.metrics", "lpt.commands.doctor")

SCRIPT = """
import json, sys
heavy, blocked, commands = json.loads(sys.argv[1])
for name in heavy if blocked else ():
    sys.modules[name] = None  # as if it were not installed
import lpt
from typer.testing import CliRunner
from lpt.cli.app import app
outcomes = []
for arguments in commands:
    result = CliRunner().invoke(app, arguments)
    outcomes.append([result.exit_code, result.output, repr(result.exception)])
print(json.dumps([outcomes, [name for name in heavy if sys.modules.get(name)]]))
"""


def python(code: str, *arguments: str) -> Any:
    """Run code in a new process and return the JSON that it prints."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run(commands: list[list[str]], *, blocked: bool) -> tuple[list[tuple[int, str, str]], list[str]]:
    """Exit code, output and exception of commands, and the heavy packages that they imported."""
    outcomes, imported = python(SCRIPT, json.dumps([HEAVY, blocked, commands]))
    return [tuple(outcome) for outcome in outcomes], imported


@pytest.mark.parametrize("blocked", [False, True])
def test_light_commands_work_without_torch_and_never_import_it(
    blocked: bool, photo_folder: Path, tmp_path: Path
) -> None:
    findings = tmp_path / "findings.json"
    doctor = ["doctor", str(photo_folder), "--val", "0.3", "--json", str(findings)]
    outcomes, imported = run([*LIGHT_COMMANDS, doctor], blocked=blocked)
    assert [code for code, _, _ in outcomes] == [0] * len(outcomes), outcomes
    assert imported == []
    outputs = [output for _, output, _ in outcomes]
    for part, output in zip(("doctor", "linear-probe", "train.batch_size", "laptop", "Usable"), outputs, strict=True):
        assert part in output
    assert json.loads(findings.read_text())["training_images"] == {"dark": 8, "grey": 4, "light": 2}


def test_the_light_rooms_import_nothing_heavy() -> None:
    """Every module of them, whether or not a command of today uses it."""
    code = f"""
import json, pkgutil, sys
from importlib import import_module
import lpt
for name in {HEAVY}:
    sys.modules[name] = None
for room in {LIGHT_ROOMS}:
    for module in pkgutil.walk_packages(import_module(room).__path__, room + "."):
        if module.name not in {HEAVY_MODULES}:
            import_module(module.name)
for name in {LIGHT_MODULES}:
    import_module(name)
print(len(sys.modules))
"""
    assert python(code) > 100


def test_a_preset_for_this_machine_needs_no_torch() -> None:
    """Without PyTorch there is no card, whatever the machine has."""
    [(code, output, _)], _ = run([["config", "--preset", "auto"]], blocked=True)
    assert (code, "preset laptop: on cpu" in output) == (0, True)


@pytest.mark.parametrize("blocked", [False, True])
def test_a_pack_is_read_without_torch(blocked: bool, fitted_run: Path) -> None:
    code = f"""
import json, sys
for name in {HEAVY if blocked else ()}:
    sys.modules[name] = None
import lpt
pack = lpt.load_pack({str(fitted_run)!r})
print(json.dumps([pack.info.class_names, sorted(pack.tensors), [name for name in {HEAVY} if sys.modules.get(name)]]))
"""
    class_names, tensors, imported = python(code)
    assert class_names == ["dark", "grey", "light"]
    assert "head.weight" in tensors
    assert imported == []
    [(exit_code, output, exception)], imported = run([["inspect", str(fitted_run)]], blocked=blocked)
    assert (exit_code, imported) == (0, []), exception
    assert "dark" in output


def test_other_commands_say_what_to_install(photo_folder: Path, tmp_path: Path) -> None:
    plot = ["doctor", str(photo_folder), "--plot", str(tmp_path / "plot.png")]
    outcomes, _ = run([*HEAVY_COMMANDS, plot], blocked=True)
    for (code, output, exception), (command, *_) in zip(outcomes, HEAVY_COMMANDS, strict=False):
        assert code == 2, exception
        assert output.startswith(f"Error: lpt {command} needs ")
        assert output.endswith("which is not installed. Next: pip install '.[train]' in the folder of LPT\n")
        assert output.count("\n") == 1
    code, output, _ = outcomes[-1]
    assert (code, output.startswith("Error: lpt doctor --plot needs Matplotlib, which is not installed")) == (2, True)
    assert not (tmp_path / "plot.png").exists()


def test_python_names_say_what_to_install() -> None:
    code = f"""
import json, sys
for name in {HEAVY}:
    sys.modules[name] = None
import lpt
messages = []
for name in {HEAVY_NAMES}:
    try:
        getattr(lpt, name)
    except lpt.ConfigError as error:
        messages.append(str(error))
print(json.dumps(messages))
"""
    messages = python(code)
    assert [message.split(" needs ")[0] for message in messages] == [f"lpt.{name}" for name in HEAVY_NAMES]
    assert all("pip install '.[train]'" in message for message in messages)


def test_another_missing_package_is_no_matter_of_an_extra() -> None:
    """An import that fails for another reason is a fault of LPT or of the install, and shows its traceback."""
    code = """
import json, sys
sys.modules["lpt.commands.fit.fit"] = None
import lpt
try:
    lpt.fit
except ModuleNotFoundError as error:
    print(json.dumps(error.name))
"""
    assert python(code) == "lpt.commands.fit.fit"
