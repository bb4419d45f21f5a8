"""A whole run, from a user's images to a prompt pack."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console

from lpt.commands.fit.disk import check_disk, check_prefix_cache, disk_needed
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
from lpt.commands.fit.start import check_unchanged, start_facts
from lpt.commands.fit.tracking import TrackerCallback
from lpt.commands.inputs import config_file, inputs_of
from lpt.commands.report.report import report_at_the_end
from lpt.config.machine import check_of_the_machine
from lpt.config.values import Settings, by_path, leaves, nested, section
from lpt.errors import DataError, RunError
from lpt.evaluation.metrics import Metrics, measure
from lpt.model import Classifier
from lpt.packs.pack import Pack, load_pack
from lpt.report.bars import warner
from lpt.report.progress import ConsoleCallback
from lpt.report.run_files import write_skipped
from lpt.report.tables import percent
from lpt.system.hardware import PeakMemory, reproducible
from lpt.system.interrupt import stop_on_signal
from lpt.system.lock import locked
from lpt.system.owned import Input
from lpt.system.processes import Processes
from lpt.system.readers import lost_reader_explained, refuse_second_start
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
    phases: Literal[1, 2] | None = None,
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
        method: a name of `lpt.config.recipes.METHODS`. None: the configuration's, else the preset's: `laptop` trains
            LPT's first phase alone, `paper` both.
        phases: of LPT, 1 or 2, in place of `method`.
        config: a YAML file, or nested values.
        settings: single values by dotted path, such as `{"train.batch_size": 32}`; or `["train.batch_size=32"]`.
        overwrite: replace the run in `output`; files that no run wrote stay.
        console: where to report. None: silent.

    Raises:
        ConfigError, DataError, RunError: with what was given, what is accepted and what to do.

    Example:
        >>> short = {"train.batch_size": 8, "train.epoch_steps": 2, "train.phase1.epochs": 2, "train.phase2.epochs": 2}
        >>> settings = {"backbone.name": "lpt-demo-glyphs", "image.size": 32, **short}
        >>> result = lpt.fit("photos/", "runs/photos", preset="laptop", settings=settings)
        >>> result.pack.info.class_names
        ['dark', 'grey', 'light']
        >>> result.metrics["test"].images
        6
    """
    request = RunRequest(
        data=data,
        output=output,
        preset=preset,
        method=method,
        config=config,
        settings=settings,
        overwrite=overwrite,
        phases=phases,
    )
    return fit_requested(request, console=console)


def fit_requested(request: RunRequest, *, console: Console | None = None) -> FitResult:
    """Train a prompt pack as a request asks; errors as for `fit`."""
    console = console or Console(quiet=True)
    prepared, console = prepare_fit(request, console)
    folder, file = request.folder, config_file(request.config)
    result = fit_prepared(prepared, folder, overwrite=request.overwrite, console=console, config=file)
    _finish(prepared, result, console)
    return result


def prepare_fit(request: RunRequest, console: Console) -> tuple[Prepared, Console]:
    """Check all that a run needs, and report it.

    Returns:
        The checked run, and the console of this process: only the first process reports.
    """
    refuse_second_start("lpt.fit")
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


def resume(
    folder: str | Path,
    data: Data | None = None,
    *,
    settings: Settings | None = None,
    console: Console | None = None,
) -> FitResult:
    """Go on with an interrupted run, to the same pack as without the interruption.

    Args:
        folder: the run folder.
        data: where the images are now, if they were moved; the splits, if `fit` was given splits. None: as before.
        settings: as for `fit`, but only what belongs to the machine: `lpt.config.machine.MACHINE_FIELDS`.
        console: where to report. None: silent.

    Raises:
        ConfigError: a setting is given that the run must keep.
        RunError: there is no run, its data, backbone or settings changed, or another process goes on with it.

    Example:
        >>> lpt.resume("runs/photos").folder.name  # a finished run: nothing is trained again
        'photos'
    """
    console = console or Console(quiet=True)
    refuse_second_start("lpt.resume")
    run = RunFolder.existing(Path(folder))
    if run.finished:
        console.print(f"{run.path} is finished; its pack is {run.pack}", markup=False)
        return FitResult(run.path, load_pack(run.pack), stored_metrics(run))
    values, given = run.settings(), nested(by_path(settings or {}))
    check_of_the_machine(given, values)
    if data is None and not section(values, "data").get("source"):
        raise RunError(
            f"{run.path} was fitted on splits opened in Python: resume it with lpt.resume(folder, data=splits)"
        )
    prepared = _prepare_again(RunRequest(data, config=values, settings=settings), run, console)
    console = console_of(console, prepared.processes)
    check_prefix_cache(prepared, console)
    changed = {path for path, _ in leaves(given)} | ({"data.source"} if isinstance(data, str | Path) else set())
    result = resume_prepared(prepared, run, console, changed=changed)
    _finish(prepared, result, console)
    return result


def _finish(prepared: Prepared, result: FitResult, console: Console) -> None:
    """Print the result, and draw the report in the main process."""
    print_result(RunFolder(result.folder), result.pack, result.metrics, prepared.config.backbone, console)
    if prepared.processes.is_main:
        splits = (prepared.splits.test, prepared.splits.validation, prepared.train)
        report_at_the_end(result.folder, [images for images in splits if images is not None], console)


def _prepare_again(request: RunRequest, run: RunFolder, console: Console) -> Prepared:
    """Check a run that goes on; an error about its images says how they are given anew."""
    try:
        return prepare(request, read_images=False, console=console)
    except DataError as error:
        error.args = (
            f"{error}\nTo go on with {run.path}, put the images back as they were, or say where they are now: "
            f"lpt fit DATA --resume {shlex.quote(str(run.path))} (likewise --test, --val and --image-root).",
        )
        raise


def resume_prepared(
    prepared: Prepared, run: RunFolder, console: Console, *, changed: Collection[str] = ()
) -> FitResult:
    """Go on with a checked run.

    Args:
        prepared: the run.
        run: its folder.
        console: where to report.
        changed: dotted paths of the settings that are to stay as they are now.

    Raises:
        RunError: its data or backbone changed, or another process goes on with it.
    """

    def ready() -> None:
        check_unchanged(prepared, run, console)
        if changed:
            run.write_config(with_absolute_paths(prepared.config, prepared.splits))

    with _locked(run.path, prepared.processes, console):
        prepared.processes.on_main(ready)
        return _run(prepared, run, console, keep_micro_batch="train.micro_batch" not in changed)


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


def _locked(folder: Path, processes: Processes, console: Console) -> AbstractContextManager[None]:
    """Hold the lock of a run folder in the main process; all raise its errors."""
    return processes.held_by_main(locked(folder, warner(console)))


def _run(prepared: Prepared, folder: RunFolder, console: Console, *, keep_micro_batch: bool = True) -> FitResult:
    """Train from the last checkpoint, then measure, and write the pack and the report."""
    config, processes = prepared.config, prepared.processes
    tracked = TrackerCallback(config, folder.path) if config.runtime.log_with else None
    threads = min(int(config.runtime.threads), prepared.machine.cores if processes.world_size > 1 else sys.maxsize)
    with reproducible(threads):
        model = prepared.new_model()
        display = ConsoleCallback(console, _validator(prepared, model))
        callback: Callback = display if tracked is None else Callbacks([display, tracked])
        with _going_on_explained(folder), PeakMemory() as memory, stop_on_signal() as stop, display:
            Trainer(model, prepared.phase_data, folder, callback, stop, keep_micro_batch).run()
        with _going_on_explained(folder):
            measures = measure_run(prepared, model, console)
    pack = processes.on_main(lambda: write_result(prepared, folder, model, measures, memory.bytes))
    metrics = {split: result.metrics for split, result in measures.measured.items()}
    if tracked is not None:
        tracked.result(metrics)
    return FitResult(folder.path, pack, metrics)


@contextmanager
def _going_on_explained(folder: RunFolder) -> Iterator[None]:
    """Let an error about an image, such as one that vanished, or a lost reader process say how the run goes on."""
    fewer = f"What was trained is saved; go on with fewer readers: {folder.resume_command} --set runtime.workers=0"
    try:
        with lost_reader_explained(fewer):
            yield
    except DataError as error:
        error.args = (
            f"{error}\nWhat was trained is saved up to the last checkpoint. Put the image back as it was, then go on "
            f"with: {folder.resume_command}\nWithout it the run is another one: start anew, with --bad-images skip.",
        )
        raise


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
