"""The `lpt` program: its commands, and how it reports errors."""

from __future__ import annotations

import errno
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from lpt import __version__
from lpt.cli import (
    calibrate,
    compare,
    config,
    demo,
    doctor,
    evaluate,
    export,
    extend,
    fit,
    import_,
    inspect,
    methods,
    predict,
    push,
    report,
    serve,
    tune,
)
from lpt.cli.screen import hush, print_error, speaks
from lpt.errors import LptError, command_line
from lpt.system.interrupt import end_soon
from lpt.system.openmp import limit_spinning
from lpt.system.packages import missing_package

INTERRUPTED = 130
DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FOOTER = (
    "Start with: lpt doctor DATA, then lpt fit DATA. Each command has an example in its --help.  "
    "Exit codes: 0 done, 1 doctor found errors, 2 something to correct (the message says what), 130 interrupted."
)


class Program(TyperGroup):
    """A group of commands that turns errors into a message and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command."""
        with command_line():
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except LptError as error:
            print_error(str(error), alone=error.alone)
            raise typer.Exit(error.exit_code) from None
        except ModuleNotFoundError as error:
            missing = missing_package(error, f"lpt {ctx.invoked_subcommand}")
            if missing is None:
                raise
            print_error(str(missing))
            raise typer.Exit(missing.exit_code) from None
        except OSError as error:
            if error.filename is None and error.errno not in DISK_FULL:
                raise
            file = "a file" if error.filename is None else str(error.filename)
            message = f"{file}: {error.strerror or error}. {_what_to_do(error, ctx.invoked_subcommand)}"
            print_error(message, alone=True)  # other processes of the run do not have this error
            raise typer.Exit(LptError.exit_code) from None
        except KeyboardInterrupt:
            print_error("interrupted; no half-written file is left")
            raise typer.Exit(INTERRUPTED) from None


def _what_to_do(error: OSError, command: str | None) -> str:
    """Return the advice for an error of a file."""
    if error.errno in DISK_FULL:
        again = "go on with lpt fit --resume RUN_FOLDER" if command == "fit" else "start the same command again"
        return f"Free some space, then {again}."
    if error.errno in (errno.EACCES, errno.EPERM):
        return "Change its permissions, or choose another path."
    if error.errno == errno.ENAMETOOLONG:
        return "Choose a shorter name."
    return "Check that this path is the right one and can be used."


app = typer.Typer(
    cls=Program,
    help="Long-tailed prompt tuning: classifiers that see rare classes, from a frozen Vision Transformer.",
    epilog=_FOOTER,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    doctor.doctor,
    fit.fit,
    evaluate.evaluate,
    predict.predict,
    compare.compare,
    tune.tune,
    report.report,
    serve.serve,
    inspect.inspect,
    export.export,
    calibrate.calibrate,
    extend.extend,
    push.push,
    import_.import_,
    methods.methods,
    config.config,
    demo.demo,
):
    app.command(command.__name__.strip("_").replace("_", "-"))(command)  # `import` is no name in Python


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lpt {__version__}")
        raise typer.Exit


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Long-tailed prompt tuning: classifiers that see rare classes, from a frozen Vision Transformer."""


def main() -> None:
    """Run `lpt`. Of several processes that a launcher started, only the first prints."""
    limit_spinning()  # nothing has imported PyTorch yet
    hush()
    try:
        _run()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            end_soon(INTERRUPTED)
        raise


def _run() -> None:
    if speaks():
        app()
        return
    try:
        code = app(standalone_mode=False)  # the first process prints what is wrong with the arguments
    except Exception as error:
        if not hasattr(error, "exit_code"):
            raise
        code = error.exit_code
    sys.exit(code)
