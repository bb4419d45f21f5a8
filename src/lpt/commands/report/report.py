"""`lpt report`: draw one HTML file of a finished run, comparison or search for settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from lpt.commands.report.comparison import comparison_content, read_runs, shown_run
from lpt.commands.report.kept import read_run
from lpt.commands.report.request import ReportRequest, Sight
from lpt.commands.report.run import run_content
from lpt.commands.report.summary import SUMMARY, read_summary
from lpt.commands.report.tune import tuning_page
from lpt.data.manifest import LabelledImages
from lpt.errors import ConfigError, LptError, RunError
from lpt.report.bars import teller, warner
from lpt.report.html.content import Content
from lpt.report.html.page import is_report, render_page
from lpt.system.files import write_text
from lpt.system.lock import locked_path
from lpt.system.near import near_folders
from lpt.system.notices import notices_to
from lpt.system.outputs import COMPARISON_KIND, COMPARISON_MARKER, REPORT, RUN_MARKER, TUNE_KIND, TUNE_MARKER, output_in
from lpt.system.owned import is_marked
from lpt.system.text import size_of
from lpt.training.folder import RunFolder

_MARKERS = (RUN_MARKER, COMPARISON_MARKER, TUNE_MARKER)
_ACCEPTED = "Give what lpt fit, lpt compare or lpt tune wrote with --output."


def write_report(
    run_or_comparison: str | Path,
    output: str | Path | None = None,
    *,
    quick: bool = False,
    backbone: str | None = None,
    checkpoint: str | Path | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    console: Console | None = None,
) -> Path:
    """Draw a finished run, comparison or search as one HTML file, which needs nothing else, and return its path.

    Args:
        run_or_comparison: folder of the run, of the comparison or of the search.
        output: the file; None: report.html in the folder.
        quick: draw only what the folder keeps: the backbone is not loaded, and there is no map of queries.
        backbone: name of the backbone, for the queries; None: the one that the pack names, if a pack may name it.
        checkpoint: its weights; None: those that the run was trained with.
        data: where the images of the run are, in any form of `data.source`; None: where its config.yaml says, unless
            that is a data set on the hub. Other images than the run measured are not shown.
        device: for the queries: auto, cpu, cuda or mps.
        console: where to report. None: silent.

    Raises:
        ConfigError: the folder is none of these, or the file is there and is not a report.
        RunError: the run is not finished, a file of it is damaged, or the report cannot be written.

    Example:
        >>> lpt.write_report("runs/photos", "photos.html", quick=True).name
        'photos.html'
    """
    request = ReportRequest(
        folder=Path(run_or_comparison),
        output=None if output is None else Path(output),
        quick=quick,
        backbone=backbone,
        checkpoint=None if checkpoint is None else Path(checkpoint),
        data=None if data is None else str(data),
        device=device,
    )
    return report_requested(request, console=console)


def report_requested(
    request: ReportRequest, *, splits: Sequence[LabelledImages] | None = None, console: Console | None = None
) -> Path:
    """Draw what a request asks for, and return the file; errors as for `write_report`.

    Args:
        request: what to draw, and where.
        splits: the images, if they are open already.
        console: where to report. None: silent.
    """
    console, folder = console or Console(quiet=True), request.folder
    file = request.output or folder / REPORT
    if not folder.is_dir():
        near = near_folders(folder, lambda beside: output_in(beside, _MARKERS).whole, "Runs and the like")
        raise ConfigError(f"there is no folder {folder.absolute()}.{near} {_ACCEPTED}")
    with locked_path(file, warner(console)), notices_to(teller(console)):
        check_replaceable(file)
        with console.status("drawing the report"):
            searched = is_marked(folder / TUNE_MARKER, TUNE_KIND)
            text = tuning_page(folder) if searched else render_page(gather_content(request, splits))
        write_text(file, text)
    console.print(f"Report: {file} ({size_of(len(text.encode('utf-8', 'backslashreplace')))})", markup=False)
    return file


def report_at_the_end(folder: Path, splits: Sequence[LabelledImages] | None, console: Console) -> None:
    """Write the quick report of what a command has just finished. If that fails, warn: the results are not lost."""
    try:
        report_requested(ReportRequest(folder, quick=True), splits=splits, console=console)
    except Exception as error:  # whatever it is, the run is finished
        reason = str(error) if isinstance(error, LptError) else f"{type(error).__name__}: {error}"
        console.print(f"The report was not drawn: {reason}\nEverything else is written.", style="yellow", markup=False)


def gather_content(request: ReportRequest, splits: Sequence[LabelledImages] | None = None) -> Content:
    """Return what the report of a request shows.

    Raises:
        ConfigError: the folder is neither a run nor a comparison.
        RunError: it is not finished, or a file of it is damaged.
    """
    folder = request.folder
    if is_marked(folder / COMPARISON_MARKER, COMPARISON_KIND) or (folder / SUMMARY).is_file():
        summary = read_summary(folder)
        runs = read_runs(folder, summary)
        _, shown = shown_run(summary, runs)
        return comparison_content(Sight(shown, request, splits), summary, runs)
    run = RunFolder(folder)
    if not run.is_run and not run.finished:
        raise ConfigError(f"{folder} is neither the folder of a run nor of a comparison or search. {_ACCEPTED}")
    return run_content(Sight(read_run(folder), request, splits))


def check_replaceable(file: Path) -> None:
    """Raise an error if something is where the report is written, and is not a report.

    Raises:
        ConfigError: it is a folder, or a file that `lpt report` did not write.
        RunError: the file cannot be read.
    """
    if file.is_dir():
        raise ConfigError(f"--output: {file} is a folder; give a file such as {file / REPORT}")
    try:
        ours = not file.is_file() or not file.stat().st_size or is_report(file)
    except OSError as error:
        raise RunError(f"cannot read {file}: {error.strerror}; give another file with --output") from None
    if not ours:
        raise ConfigError(f"{file} is there, and is not a report of lpt; give another file with --output")
