"""The command line as a whole: its commands, its exit statuses, and how errors are told.

Exit status: 0 done; 1 could not run, parity failed, or an audit found a problem; 2 wrong usage;
3 some images could not be classified; 130 interrupted, 143 terminated.

Libraries are imported inside the commands, so that ``medkit --help`` answers
at once and ``medkit classify`` never pays for TensorFlow.
"""

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from medkit.cli.commands import (
    adopt,
    audit,
    benchmark,
    classify,
    evaluate,
    export,
    inspect,
    parity,
    report,
    tasks,
    train,
)
from medkit.cli.help import Command, help_of, usage_of
from medkit.cli.options import drop_stdout
from medkit.cli.status import INTERRUPTED, PIPE_CLOSED
from medkit.errors import MedkitError, UsageError
from medkit.version import __version__
from medkit.wording import did_you_mean, unknown

_CommandLineError: Any = typer.BadParameter.__base__
"""What typer raises for arguments that it cannot parse: an error of click, or of its own copy."""


class _Group(TyperGroup):
    """The commands. Each error is shown as one line on standard error, with an exit status."""

    def get_help(self, ctx: Any) -> str:
        return help_of(self, ctx)

    def get_usage(self, ctx: Any) -> str:
        return usage_of(self, ctx)

    def make_context(self, *given: Any, **settings: Any) -> Any:
        with _errors_as_lines():
            return super().make_context(*given, **settings)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(self.get_help(ctx), err=True)
            raise typer.Exit(UsageError.exit_code)
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            raise UsageError(unknown("command", args[0], self.commands))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        with _errors_as_lines(debugging=bool(ctx.params.get("debug"))):
            return super().invoke(ctx)


@contextmanager
def _errors_as_lines(debugging: bool = False) -> Iterator[None]:
    """Show an error in one line, and end with its status."""
    try:
        yield
    except BrokenPipeError:
        drop_stdout()  # nobody reads on
        raise typer.Exit(PIPE_CLOSED) from None
    except KeyboardInterrupt:
        typer.echo("medkit: interrupted", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except _CommandLineError as error:
        typer.echo(f"medkit: error: {_reason(error)}", err=True)
        raise typer.Exit(error.exit_code) from None
    except MedkitError as error:
        if debugging:
            raise
        typer.echo(f"medkit: error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None


def _reason(error: Any) -> str:
    """Say in one line what is wrong with the arguments, and where it is explained."""
    command = error.ctx.command_path if error.ctx is not None else "medkit"
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        known = [name for one in error.ctx.command.get_params(error.ctx) for name in one.opts]
        reason = f"unknown option {option}; {did_you_mean(option, known)}"
    else:
        reason = error.format_message().rstrip(".")
        reason = f"{reason[0].lower()}{reason[1:]}; "
    return f"{reason}'{command} -h' explains the options"


app = typer.Typer(
    name="medkit",
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
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


_COMMANDS: tuple[tuple[Callable[..., None], str], ...] = (
    (classify.classify, "medkit classify ./images --out preds.csv"),
    (evaluate.evaluate, "medkit evaluate pneumonia --data ./labelled"),
    (audit.audit, "medkit audit ./labelled --html audit.html"),
    (tasks.tasks, "medkit tasks --trained mine"),
    (inspect.inspect, "medkit inspect trained/skin/model-int8.tflite"),
    (benchmark.benchmark, "medkit benchmark ./images"),
    (report.report, "medkit report skin --data data --trained mine"),
    (adopt.adopt, "medkit adopt fundus.h5 --name fundus --data DIR"),
    (train.train, "medkit train skin --data data/skin_cancer_isic --out mine"),
    (export.export, "medkit export skin --int8 --data data --trained mine"),
    (parity.parity, "medkit parity skin --data data --trained mine"),
)
"""Each command with the way in which it is called most often."""

for _command, _example in _COMMANDS:
    app.command(cls=Command, epilog=_example)(_command)
