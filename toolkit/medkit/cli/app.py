"""The command line as a whole: its commands, its exit statuses, and how errors are told.

Exit status: 0 done; 1 could not run, parity failed, or an audit found a problem; 2 wrong usage;
3 some images could not be classified; 130 interrupted.

Libraries are imported inside the commands, so that ``medkit --help`` answers
at once and ``medkit classify`` never pays for TensorFlow.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medkit.cli.commands import (
    audit,
    benchmark,
    classify,
    evaluate,
    export,
    inspect,
    parity,
    report,
    train,
)
from medkit.cli.options import drop_stdout
from medkit.cli.status import INTERRUPTED, PIPE_CLOSED
from medkit.errors import MedkitError
from medkit.version import __version__


class _ErrorsAsLines(TyperGroup):
    """A command group that shows each error as one line on standard error, with an exit status."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            drop_stdout()  # nobody reads on
            raise typer.Exit(PIPE_CLOSED) from None
        except KeyboardInterrupt:
            typer.echo("medkit: interrupted", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except MedkitError as error:
            if ctx.params.get("debug"):
                raise
            typer.echo(f"medkit: error: {error}", err=True)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    name="medkit",
    cls=_ErrorsAsLines,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts twice as fast
    help="Train two medical image classifiers, shrink them, prove that the small files decide "
    "like the originals, and run them over folders of images. Research software: a prediction "
    "is not a diagnosis.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"medkit {__version__}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show an error's traceback.")] = False,
    plugins: Annotated[
        list[str] | None,
        typer.Option(
            "--plugin",
            metavar="MODULE",
            help="Load a module that adds formats, outputs, engines, runtimes or columns; "
            "repeat for several. [env: MEDKIT_PLUGINS]",
        ),
    ] = None,
    version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_version, is_eager=True),
    ] = False,
) -> None:
    """Take the options that stand before a command."""
    # Third parties' hints to programmers are of no use to people who run a command.
    if not debug and not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    from medkit.plugins import load_plugins

    load_plugins(plugins or ())


for _command in (
    audit.audit,
    train.train,
    export.export,
    parity.parity,
    classify.classify,
    evaluate.evaluate,
    benchmark.benchmark,
    inspect.inspect,
    report.report,
):
    app.command()(_command)
