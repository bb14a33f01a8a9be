"""Runs that can be continued: what is kept of an output, and what is still to be done.

Beside an output lies a small record of the run that writes it: the arguments
and models that its rows depend on. A run that was killed is continued only
with the same ones. The images of the last, incomplete batch are then put
through the model once more, in the same batch as before, so that the finished
file is byte for byte that of an undisturbed run.
"""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

from medkit.bundles import dump_json
from medkit.errors import MedkitError, UsageError
from medkit.listing import Found
from medkit.rows import as_written, columns, header_of, output_errors
from medkit.version import __version__

RECORD_SUFFIX = ".run.json"


@dataclass(frozen=True)
class Kept:
    """What an output holds already.

    Attributes
    ----------
    rows
        Complete rows.
    counts
        Images by task and label.
    errors
        Rows of images that could not be classified.
    """

    rows: int = 0
    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    errors: int = 0


def record_path(out: Path) -> Path:
    """Return where the record of a run lies: beside its output."""
    return out.with_name(out.name + RECORD_SUFFIX)


def has_rows(out: Path) -> bool:
    """Whether an output is there that something would be lost with."""
    return out.exists() and (not out.is_file() or out.stat().st_size > 0)


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Keep other processes of medkit from writing to an output meanwhile; it is made if need be.

    Raises
    ------
    UsageError
        If another process is writing to it.
    MedkitError
        If it cannot be opened.
    """
    with output_errors(str(out)):
        stream = out.open("ab")
    with stream:
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is writing to {out}; wait for it, or name another output"
            ) from None
        except (ImportError, OSError):
            pass  # neither Windows nor some network folders know such locks
        yield


def begin(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Write the record of a run that begins, empty its output, and return the record.

    The record comes first, so that nothing is lost where it cannot be written;
    until the output is empty, it says that no row there belongs to it.
    """
    stored = {"medkit": __version__, **facts, "started": _now(), "finished": None}
    dump_json(record_path(out), {**stored, "emptied": False})
    with output_errors(str(out)):
        out.open("wb").close()
    begun = {**stored, "emptied": True}
    dump_json(record_path(out), begun)
    return begun


def finish_record(out: Path, stored: dict[str, Any], rows: int, errors: int) -> None:
    """Say in a run's record that it has come to its end."""
    dump_json(record_path(out), {**stored, "finished": _now(), "rows": rows, "errors": errors})


def read_record(out: Path) -> dict[str, Any]:
    """Return the record of the run that wrote an output.

    Raises
    ------
    UsageError
        If there is none, or none that can be read.
    """
    path = record_path(out)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{out} cannot be continued: there is no {path.name} beside it; name another output, "
            "or replace it with --overwrite"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{path} cannot be read ({error}); replace the output with --overwrite"
        ) from error
    return stored if isinstance(stored, dict) else {}


def check_record(out: Path, stored: dict[str, Any], facts: dict[str, Any]) -> None:
    """Check that a run may be continued.

    Parameters
    ----------
    out
        Its output.
    stored
        Its record.
    facts
        What rows depend on, of the run that is to go on.

    Raises
    ------
    UsageError
        If the record tells of other arguments or models; the message names
        both sides of the first difference.
    """
    wanted = json.loads(json.dumps({"medkit": __version__, **facts}))
    for name, before, now in _differences(stored, wanted, ""):
        raise UsageError(
            f"{out} was written with {name} {_short(before)}, and this run has {_short(now)}; "
            "continue it with the same, or replace it with --overwrite"
        )


def _differences(stored: Any, wanted: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Give what differs, by the names that lead to it."""
    if isinstance(stored, dict) and isinstance(wanted, dict):
        for key, value in wanted.items():
            yield from _differences(stored.get(key), value, f"{name} {key}".strip())
    elif stored != wanted:
        yield name, stored, wanted


def repair(out: Path, labels: tuple[str, ...]) -> Kept:
    """Cut a torn last row off an output, and tell what is left.

    Raises
    ------
    UsageError
        If the output does not begin as one for these labels does.
    MedkitError
        If it cannot be read or cut.
    """
    counts: Counter[tuple[str, str]] = Counter()
    rows = errors = end = 0
    header = header_of(out, labels)
    try:
        for place, values in _records(out, labels, header):
            end = place
            if values is None:
                continue
            rows += 1
            if values["status"] == "ok":
                counts[values["task"], values["label"]] += 1
            else:
                errors += 1
        os.truncate(out, end)
    except OSError as error:
        raise MedkitError(
            f"{out} cannot be continued: {error.strerror}; name another output"
        ) from error
    return Kept(rows, counts, errors)


def remaining(
    found: Iterator[Found], out: Path, labels: tuple[str, ...], batch_size: int
) -> tuple[Iterator[Found], int]:
    """Return the images that are still to be done.

    Parameters
    ----------
    found
        The listing.
    out, labels
        The output, repaired, and its labels.
    batch_size
        Images in one inference.

    Returns
    -------
    images, again
        The first ``again`` of the images have rows already: they fill the
        batch that those after them were in. If files came or went since,
        every image that has a row is left out, whatever its place.
    """
    records = _records(out, labels, header_of(out, labels))
    names = (values["path"] for _, values in records if values is not None)
    batch: list[Found] = []
    for name in names:
        item = next(found, None)
        if item is None or as_written(out, item.name) != name:
            done = Counter(chain([name], names))
            return _without(chain([item] if item else [], found), out, done), 0
        batch.append(item)
        if len(batch) == batch_size:
            batch = []
    return chain(batch, found), len(batch)


def _without(found: Iterator[Found], out: Path, done: Counter[str]) -> Iterator[Found]:
    for item in found:
        name = as_written(out, item.name)
        if done[name]:
            done[name] -= 1
        else:
            yield item


def _records(
    out: Path, labels: tuple[str, ...], header: bytes
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Give where each complete record ends, with its values; the header has none."""
    names, is_csv = columns(labels), out.suffix.lower() == ".csv"
    end = 0
    with out.open("rb") as stream:
        for record in stream:  # a record is a line, whatever a file is called
            # Torn by a kill, or room that a power cut left for rows that never reached the disk.
            if not record.endswith(b"\n") or b"\0" in record:
                return
            is_header = bool(header) and end == 0
            end += len(record)
            if not is_header:
                yield end, _values(out, record, names, is_csv)
            elif record == header:
                yield end, None
            else:
                raise UsageError(
                    f"{out} does not begin with the columns of this run; name another output, "
                    "or replace it with --overwrite"
                )


def _values(out: Path, record: bytes, names: list[str], is_csv: bool) -> dict[str, Any]:
    try:
        text = record.decode("utf-8")
        if is_csv:
            (cells,) = csv.reader([text.removesuffix("\n")])
            return dict(zip(names, cells, strict=True))
        values: dict[str, Any] = json.loads(text)
        values["path"], values["status"]
    except (ValueError, KeyError, TypeError, RecursionError, csv.Error) as error:
        raise UsageError(
            f"{out} holds a row that is none of medkit's ({record[:60]!r}); name another output, "
            "or replace it with --overwrite"
        ) from error
    return values


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) < 120 else f"{text[:117]}..."


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")
