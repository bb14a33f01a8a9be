"""Where the rows of a run go, and whether an earlier run with that output is continued."""

from __future__ import annotations

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
from medkit.defaults import STDOUT
from medkit.errors import UsageError
from medkit.files import output_errors


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
