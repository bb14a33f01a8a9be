"""The record beside an output: the arguments and models that its rows depend on.

A run that was killed is continued only with the same ones.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from medkit.batch.engines.registry import WorkersDiedError
from medkit.errors import MedkitError, UsageError
from medkit.files import read_json, replacing, write_json
from medkit.images.limits import Limits
from medkit.models.runtimes.registry import runtimes
from medkit.records import read_record
from medkit.version import __version__

RECORD_SUFFIX = ".run.json"

_SELDOM = (
    *("formats", "columns"),  # of plug-ins
    *("from file", "folder", "all files", "absolute paths", "excel"),
)
"""Fields that are left out where they are empty, as in most runs."""


@dataclass(frozen=True)
class ModelIdentity:
    """The model of a task: its file, what runs it, and the hash of its input contract."""

    file: str
    sha256: str
    runtime: str
    contract: str


@dataclass(frozen=True)
class RunIdentity:
    """All that the rows of a run depend on.

    Attributes
    ----------
    inputs
        Paths of the files and folders.
    spelling
        Paths as they were typed, if there are several. The names in the rows begin with them.
    include, exclude, task, operating_point, batch_size, limits
        As in :class:`medkit.batch.options.ClassifyOptions`.
    models
        Models by task.
    formats, columns
        Decoding rules and columns that plug-ins have added.
    from_file, folder
        The list of paths, or ``-`` for standard input or a pipe, and the working
        folder, to which its paths are relative; empty without a list.
    all_files, absolute_paths, excel
        As in :class:`medkit.batch.options.ClassifyOptions`.
    medkit
        The version.
    """

    inputs: tuple[str, ...]
    spelling: tuple[str, ...]
    include: tuple[str, ...]
    exclude: tuple[str, ...]
    task: str
    operating_point: str
    batch_size: int
    limits: Limits
    models: dict[str, ModelIdentity]
    formats: dict[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    from_file: str = ""
    folder: str = ""
    all_files: bool = False
    absolute_paths: bool = False
    excel: bool = False
    medkit: str = __version__


@dataclass(frozen=True)
class RunRecord(RunIdentity):
    """The record beside an output.

    Attributes
    ----------
    started, finished
        When; not finished is ``None``.
    emptied
        Whether the output was begun anew: until then, no row there belongs
        to the run.
    tried_again
        Names whose rows with an error are taken out, as often as each has
        rows in all, until the run has finished. A file that has gone since
        would have none else.
    rows, errors
        Number of rows and of errors, for a finished run.
    passed_over
        Counts of what was passed over in folders, by suffix, for a finished
        run.
    """

    started: str = ""
    finished: str | None = None
    emptied: bool = False
    tried_again: tuple[str, ...] = ()
    rows: int | None = None
    errors: int | None = None
    passed_over: dict[str, int] | None = None


def record_path(out: Path) -> Path:
    """Return where the record of a run lies: beside its output."""
    return out.with_name(out.name + RECORD_SUFFIX)


def has_rows(out: Path) -> bool:
    """Whether an output exists and is more than an empty file, so that rows could be lost."""
    return out.exists() and (not out.is_file() or out.stat().st_size > 0)


@contextmanager
def beginning(
    out: Path, identity: RunIdentity, tried_again: tuple[str, ...] = ()
) -> Iterator[RunRecord]:
    """Write the record of a run that begins, and give it.

    A run that tries every row again begins with the names of
    ``tried_again``. If the block fails, before a row was written, the record
    that was there before is put back, or there is none.
    """
    path = record_path(out)
    before = path.read_bytes() if path.is_file() else None
    record = RunRecord(**{**vars(identity), "started": _now(), "tried_again": tried_again})
    write_record(out, record)
    try:
        yield record
    except WorkersDiedError:
        raise  # the record tells the next run to try out the images that were in work
    except BaseException:
        # The error itself matters more than one of putting the record back.
        with suppress(OSError, MedkitError):
            if before is None:
                path.unlink(missing_ok=True)
            else:
                with replacing(path) as temporary:
                    temporary.write_bytes(before)
        raise


def emptied(out: Path, record: RunRecord) -> RunRecord:
    """Say in the record that all rows of the output are this run's, and return it."""
    begun = replace(record, emptied=True)
    write_record(out, begun)
    return begun


def finish_record(
    out: Path, record: RunRecord, rows: int, errors: int, passed_over: Mapping[str, int]
) -> None:
    """Say in a run's record that it has come to its end."""
    passed = dict(sorted(passed_over.items()))
    ended = replace(
        record, finished=_now(), tried_again=(), rows=rows, errors=errors, passed_over=passed
    )
    write_record(out, ended)


def reopened(out: Path, record: RunRecord) -> RunRecord:
    """Say in a run's record that it goes on, and return it."""
    going_on = replace(record, finished=None, rows=None, errors=None, passed_over=None)
    write_record(out, going_on)
    return going_on


def trying_again(out: Path, record: RunRecord, names: tuple[str, ...]) -> RunRecord:
    """Say in a run's record which rows with an error are about to be taken out, and return it."""
    trying = replace(record, tried_again=names)
    write_record(out, trying)
    return trying


def write_record(out: Path, record: RunRecord) -> None:
    """Write the record of a run beside its output, atomically."""
    stored = {"medkit": record.medkit, **_in_words(record)}
    for name in ("rows", "errors", "passed over"):
        if stored[name] is None:
            del stored[name]
    for name in (*_SELDOM, "tried again"):
        if not stored[name]:
            del stored[name]
    write_json(record_path(out), stored)


def read_run_record(out: Path) -> RunRecord:
    """Return the record of the run that wrote an output.

    Raises
    ------
    UsageError
        If there is none, or none that can be read; the message names the field.
    """
    path = record_path(out)
    try:
        stored = read_json(path)
        named = {str(key).replace(" ", "_"): value for key, value in dict(stored).items()}
        return _with_names(read_record(RunRecord, named))
    except FileNotFoundError:
        raise UsageError(
            f"{out} cannot be continued: there is no {path.name} beside it; name another output, "
            "or replace it with --overwrite"
        ) from None
    except (OSError, ValueError, TypeError, UsageError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); replace the output with --overwrite"
        ) from error


def _with_names(record: RunRecord) -> RunRecord:
    """Return a record with the names of runtimes, where earlier versions wrote their titles."""
    names = {known.title: known.name for known in runtimes().values()}
    models = {
        task: replace(model, runtime=names.get(model.runtime, model.runtime))
        for task, model in record.models.items()
    }
    return replace(record, models=models)


def check_record(out: Path, record: RunRecord, identity: RunIdentity) -> None:
    """Check that a run may be continued.

    Parameters
    ----------
    out
        Its output.
    record
        Its record.
    identity
        All that the rows depend on in the run that shall continue.

    Raises
    ------
    UsageError
        If the record tells of other arguments or models; the message names
        both sides of the first difference.
    """
    earlier = RunIdentity(**{item.name: getattr(record, item.name) for item in fields(RunIdentity)})
    wanted = {"medkit": identity.medkit, **_in_words(identity)}
    for name, before, now in _differences(_in_words(earlier), wanted, ""):
        raise UsageError(
            f"{out} was written with {name} {_short(before)}, and this run has {_short(now)}; "
            "continue it with the same, or replace it with --overwrite"
        )


def _in_words(identity: RunIdentity) -> dict[str, Any]:
    """Return what a record holds, with its keys in words."""
    stored = {name.replace("_", " "): value for name, value in asdict(identity).items()}
    plain: dict[str, Any] = json.loads(json.dumps(stored))
    return plain


def _differences(stored: Any, wanted: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Give what differs, by the names that lead to it."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key in (*wanted, *(key for key in stored if key not in wanted)):
            yield from _differences(stored.get(key), wanted.get(key), f"{name} {key}".strip())
    elif stored != wanted:
        yield name, stored, wanted


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 120 else f"{text[:117]}..."


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
