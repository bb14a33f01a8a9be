"""Where the rows of a run go, and whether an earlier run with that output is continued."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from medkit.batch.columns import Column
from medkit.batch.options import ClassifyOptions
from medkit.batch.outputs.csv import CsvOutput
from medkit.batch.outputs.registry import OutputFormat, output_for
from medkit.batch.run_record import (
    RunIdentity,
    RunRecord,
    check_record,
    has_rows,
    read_run_record,
    record_path,
)
from medkit.defaults import STDIN, STDOUT
from medkit.errors import UsageError
from medkit.files import output_errors

_STDIN_FILE = 0
"""Number of the file that standard input is, to the system."""


@dataclass(frozen=True)
class Output:
    """The output of a run.

    Attributes
    ----------
    path
        The file, or ``-`` for standard output.
    format
        Format of the file.
    columns
        Columns of a row.
    record
        Record of the run that is continued; ``None`` for a new run.
    retry_errors
        Whether rows with an error are tried again.
    """

    path: Path
    format: OutputFormat
    columns: tuple[Column, ...]
    record: RunRecord | None
    retry_errors: bool = False

    @property
    def is_file(self) -> bool:
        """Whether rows go to a file, which can be continued."""
        return str(self.path) != STDOUT


def output_format(options: ClassifyOptions) -> OutputFormat:
    """Return the format of a run's output. Raise :class:`UsageError` if there is none."""
    written = output_for(options.out)
    if not options.excel:
        return written
    if not isinstance(written, CsvOutput):
        raise UsageError(
            f"--excel is for CSV, and {options.out} is none; name a .csv, or leave it out"
        )
    return CsvOutput(excel=True)


def check_apart(options: ClassifyOptions) -> None:
    """Raise :class:`UsageError` if a run would write over what it reads, whatever that is called.

    That is an image or a folder that was named, the list of them, or the
    model file. The record beside the output is written as well.
    """
    if str(options.out) == STDOUT:
        return
    named: list[Path | int] = [*options.inputs]
    if options.model is not None:
        named.append(options.model)
    if options.from_file is not None:
        named.append(_STDIN_FILE if str(options.from_file) == STDIN else options.from_file)
    for written in (Path(options.out), record_path(Path(options.out))):
        if any(_is_same(source, written) for source in named):
            raise UsageError(
                f"{written} is also an input, and would be replaced; name another output"
            )


def _is_same(source: Path | int, written: Path) -> bool:
    """Whether both are there, and the same file."""
    try:
        found = source.stat() if isinstance(source, Path) else os.fstat(source)
        return os.path.samestat(found, written.stat())
    except OSError:
        return False


def record_to_continue(options: ClassifyOptions) -> RunRecord | None:
    """Return the record of the run that is to be continued, if there is one.

    Raises
    ------
    UsageError
        If rows would be lost, or cannot be continued.
    """
    if options.resume and options.overwrite:
        raise UsageError(
            "--resume continues an output and --overwrite replaces it; give one of them"
        )
    if options.retry_errors and not options.resume:
        raise UsageError("--retry-errors continues an output; give --resume as well")
    if str(options.out) == STDOUT:
        if options.resume:
            raise UsageError("standard output cannot be continued; name a file")
        return None
    out = Path(options.out)
    with output_errors(str(out)):
        has_record = record_path(out).exists()  # its name may be too long where the output's is not
    if options.resume and out.exists() and not out.is_file():
        raise UsageError(f"{out} cannot be continued: it is no file; name another output")
    if has_rows(out):
        if options.resume:
            return read_run_record(out)
        if not options.overwrite:
            raise UsageError(
                f"{options.out} exists; continue it with --resume, or replace it with --overwrite"
            )
    elif options.resume and has_record:
        # The run died before its first row, perhaps of an image.
        with suppress(UsageError):
            return read_run_record(out)
    return None


def checked_record(out: Path, record: RunRecord | None, identity: RunIdentity) -> RunRecord | None:
    """Return the record if its run may be continued; without rows, another one may begin."""
    if record is None:
        return None
    try:
        check_record(out, record, identity)
    except UsageError:
        if has_rows(out):
            raise
        return None
    return record
