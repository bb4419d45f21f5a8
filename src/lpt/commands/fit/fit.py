"""A whole run, from a user's images to a prompt pack."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console

from lpt.commands.fit.disk import check_disk, check_prefix_cache, disk_left, disk_needed
from lpt.commands.fit.measure import measure_run, predict_images
from lpt.commands.fit.output import check_output, default_output
from lpt.commands.fit.packaging import print_result, stored_metrics, write_result
from lpt.commands.fit.prepare import (
    Prepared,
    describe,
    prepare,
    warn_of_data,
    with_absolute_paths,
)
from lpt.commands.fit.request import Config, Data, RunRequest
from lpt.commands.fit.tracking import TrackerCallback
from lpt.commands.inputs import config_file, inputs_of
from lpt.config.values import Settings, section
from lpt.data.cache import source_of
from lpt.data.images import FileImages
from lpt.data.manifest import LabelledImages, Splits
from lpt.errors import RunError
from lpt.evaluation.metrics import Metrics, measure
from lpt.model import Classifier
from lpt.packs.info import Versions
from lpt.packs.pack import Pack, load_pack
from lpt.report.progress import ConsoleCallback
from lpt.report.run_files import write_skipped
from lpt.report.tables import percent
from lpt.system.files import remove_leftovers
from lpt.system.hardware import PeakMemory, reproducible
from lpt.system.interrupt import stop_on_signal
from lpt.system.lock import locked
from lpt.system.owned import Input
from lpt.system.processes import Processes
from lpt.training.callbacks import Callback, Callbacks
from lpt.training.folder import Inputs, RunFolder
from lpt.training.phases import Trainer


@dataclass(frozen=True)
class FitResult:
    """The results of a run.

    Args:
        folder: the run folder.
        pack: the prompt pack.
        metrics: by split, of those that the data has: `test` and `validation`.
    """

    folder: Path
    pack: Pack
    metrics: dict[str, Metrics]


def fit(
    data: Data | None = None,
    output: str | Path | None = None,
    *,
    preset: str | None = None,
    method: str | None = None,
    config: Config | None = None,
    settings: Settings | None = None,
    overwrite: bool = False,
    console: Console | None = None,
) -> FitResult:
    """Train a prompt pack on a user's images.

    Args:
        data: where the images are, in any form of `data.source`, or opened splits. None: as the configuration says.
        output: run folder to make. None: `runs/<data>-<date and time>`.
        preset: `laptop`, `paper` or `auto` (what suits the machine). None: the configuration's, else `auto`.
        method: a name of `lpt.config.recipes.METHODS`. None: the configuration's, else `lpt`.
        config: a YAML file, or nested values.
        settings: single values by dotted path, such as `{"train.batch_size": 32}`; or `["train.batch_size=32"]`.
        overwrite: replace the run in `output`; files that no run wrote stay.
        console: where to report. None: silent.

    Raises:
        ConfigError, DataError, RunError: with what was given, what is accepted and what to do.
    """
    request = RunRequest(
        data=data,
        output=output,
        preset=preset,
        method=method,
        config=config,
        settings=settings,
        overwrite=overwrite,
    )
    return fit_requested(request, console=console)


def fit_requested(request: RunRequest, *, console: Console | None = None) -> FitResult:
    """Train a prompt pack as a request asks; errors as for `fit`."""
    console = console or Console(quiet=True)
    prepared, console = prepare_fit(request, console)
    folder, file = request.folder, config_file(request.config)
    result = fit_prepared(prepared, folder, overwrite=request.overwrite, console=console, config=file)
    print_result(RunFolder(result.folder), result.pack, result.metrics, prepared.config.backbone, console)
    return result


def prepare_fit(request: RunRequest, console: Console) -> tuple[Prepared, Console]:
    """Check all that a run needs, and report it.

    Returns:
        The checked run, and the console of this process: only the first process reports.
    """
    check_output(request)  # before anything that takes long
    prepared = prepare(request, console=console)
    console = console_of(console, prepared.processes)
    describe(prepared, console)
    warn_of_data(prepared, console)
    check_prefix_cache(prepared, console)
    return prepared, console


def fit_prepared(
    prepared: Prepared, output: Path | None, *, overwrite: bool, console: Console, config: Path | None = None
) -> FitResult:
    """Train a checked run.

    Args:
        prepared: the checked run.
        output, overwrite, console: as for `fit`.
        config: the file that the configuration was read from.
    """
    processes, values = prepared.processes, prepared.config.model_dump(mode="json")

    def inputs() -> Iterable[Input]:
        return inputs_of(values, config, prepared.splits)

    path = processes.on_main(lambda: _claimed(prepared, output, overwrite, inputs))
    with _locked(path, processes, console):
        folder = processes.on_main(lambda: _new_folder(prepared, path, overwrite, inputs))
        if processes.is_main and (others := folder.others):
            console.print(others, style="yellow", markup=False)
        return _run(prepared, folder, console)


def resume(folder: str | Path, data: Splits | None = None, *, console: Console | None = None) -> FitResult:
    """Go on with an interrupted run, to the same pack as without the interruption.

    Args:
        folder: the run folder.
        data: the splits, if `fit` was given splits and not a source.
        console: where to report. None: silent.

    Raises:
        RunError: there is no run, or its data or backbone changed.
    """
    console = console or Console(quiet=True)
    run = RunFolder.existing(Path(folder))
    if run.finished:
        console.print(f"{run.path} is finished; its pack is {run.pack}", markup=False)
        return FitResult(run.path, load_pack(run.pack), stored_metrics(run))
    values = run.settings()
    if data is None and not section(values, "data").get("source"):
        raise RunError(
            f"{run.path} was fitted on splits opened in Python: resume it with lpt.resume(folder, data=splits)"
        )
    prepared = prepare(RunRequest(data, config=values), read_images=False, console=console)
    console = console_of(console, prepared.processes)
    check_prefix_cache(prepared, console)
    result = resume_prepared(prepared, run, console)
    print_result(run, result.pack, result.metrics, prepared.config.backbone, console)
    return result


def resume_prepared(prepared: Prepared, run: RunFolder, console: Console) -> FitResult:
    """Go on with a checked run.

    Raises:
        RunError: its data or backbone changed.
    """
    with _locked(run.path, prepared.processes, console):
        prepared.processes.on_main(lambda: _check_unchanged(prepared, run, console))
        return _run(prepared, run, console)


def console_of(console: Console, processes: Processes) -> Console:
    """Return the console of this process: only the first process reports."""
    return console if processes.is_main else Console(quiet=True)


def _claimed(prepared: Prepared, output: Path | None, overwrite: bool, inputs: Inputs) -> Path:
    """Return the folder of a new run, made if it was not there; what is in it may be replaced."""
    path = output or default_output(prepared.config)
    check_disk(path, disk_needed(prepared))
    RunFolder.check_free(path, overwrite=overwrite, inputs=inputs)
    RunFolder.make(path)
    return path


def _new_folder(prepared: Prepared, path: Path, overwrite: bool, inputs: Inputs) -> RunFolder:
    """Empty the folder of a new run, and write what the run starts from."""
    folder = RunFolder.create(path, start_facts(prepared), overwrite=overwrite, inputs=inputs)
    folder.write_config(with_absolute_paths(prepared.config, prepared.splits))
    write_skipped(folder.skipped, prepared.splits.skipped)
    return folder


@contextmanager
def _locked(folder: Path, processes: Processes, console: Console) -> Iterator[None]:
    """Hold the lock of a run folder in the main process; all raise its errors."""
    with ExitStack() as held:

        def hold() -> None:
            held.enter_context(locked(folder, lambda line: console.print(line, style="yellow", markup=False)))

        processes.on_main(hold)
        yield


def _check_unchanged(prepared: Prepared, run: RunFolder, console: Console) -> None:
    """Make the folder of a run ready to go on.

    Raises:
        RunError: the images or the backbone's weights are not those that the run was started with.
    """
    for folder in (run.path, run.checkpoints):
        remove_leftovers(folder)
    check_disk(run.path, disk_left(prepared, run))
    before, now = run.start_facts(), start_facts(prepared)
    if before["data_sha256"] != now["data_sha256"]:
        raise RunError(
            f"the images are not those {run.path} was started on (fingerprint {now['data_sha256'][:12]}, was "
            f"{before['data_sha256'][:12]}): files were added, removed or renamed. Restore them, or start a new run."
        )
    if before["backbone_sha256"] != now["backbone_sha256"]:
        raise RunError(
            f"the backbone's weights are not those {run.path} was started with (sha256 "
            f"{now['backbone_sha256'][:12]}, were {before['backbone_sha256'][:12]}). Restore them, or start a new run."
        )
    former = before["versions"]
    changed = [
        f"{name} {former.get(name)} -> {version}" for name, version in now["versions"].items()
        if former.get(name) != version
    ]  # fmt: skip
    if changed:
        console.print(
            f"[yellow]Other library versions than before: {', '.join(changed)}; the pack may differ in rounding."
        )


def _run(prepared: Prepared, folder: RunFolder, console: Console) -> FitResult:
    """Train from the last checkpoint, then measure, and write the pack and the report."""
    config, processes = prepared.config, prepared.processes
    tracked = TrackerCallback(config, folder.path) if config.runtime.log_with else None
    threads = min(int(config.runtime.threads), prepared.machine.cores if processes.world_size > 1 else sys.maxsize)
    with reproducible(threads):
        model = prepared.new_model()
        display = ConsoleCallback(console, _validator(prepared, model))
        callback: Callback = display if tracked is None else Callbacks([display, tracked])
        with PeakMemory() as memory, stop_on_signal() as stop, display:
            Trainer(model, prepared.phase_data, folder, callback, stop).run()
        measured, setting = measure_run(prepared, model, console)
    pack = processes.on_main(lambda: write_result(prepared, folder, model, measured, setting, memory.bytes))
    metrics = {split: result.metrics for split, result in measured.items()}
    if tracked is not None:
        tracked.result(metrics)
    return FitResult(folder.path, pack, metrics)


def _validator(prepared: Prepared, model: Classifier) -> Callable[[int], str] | None:
    """Return a function that measures the validation split after an epoch of a phase; None without such a split."""
    images = prepared.splits.validation
    if images is None or not len(images):
        return None

    def validate(phase: int) -> str:
        predictions = predict_images(prepared, model, images, grouped=phase == 2, console=Console(quiet=True))
        predicted = predictions.scores.argmax(axis=1)
        metrics = measure(predictions.labels, predicted, prepared.splits.counts_before_cut, prepared.groups)
        names = ("overall", "many", "medium", "few")
        return "validation " + ", ".join(f"{name} {percent(getattr(metrics, name))}" for name in names)

    return validate


def data_fingerprint(train: LabelledImages) -> str:
    """Return a SHA-256 of the class names, and of names, labels and sizes of the training images."""
    digest = hashlib.sha256("\0".join(train.class_names).encode("utf-8", "backslashreplace"))
    digest.update(train.labels.tobytes())
    digest.update(train.rows.tobytes())
    source = source_of(train.source)
    for index, row in enumerate(train.rows.tolist()):
        if isinstance(source, FileImages):
            name, size = source.name(row), source.stored_bytes(row)
        else:
            name, size = train.name(index), 0
        digest.update(f"{os.path.basename(name)}|{size}\0".encode("utf-8", "backslashreplace"))  # noqa: PTH119
    return digest.hexdigest()


def start_facts(prepared: Prepared) -> dict[str, Any]:
    """Return what run.json says of a run: fingerprints of data and backbone, versions, machine."""
    return {
        "data_sha256": data_fingerprint(prepared.splits.train),
        "backbone_sha256": prepared.backbone.record.weight_hash,
        "versions": Versions.here().model_dump(),
        "machine": prepared.machine.describe(),
        "started": f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC",
    }
