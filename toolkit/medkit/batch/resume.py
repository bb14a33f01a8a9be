"""Runs that can be continued: their record, what an output holds, and what is still to be done.

Beside an output lies a small record of the run that writes it: the arguments
and models that its rows depend on. A run that was killed is continued only
with the same ones. The images of the last, incomplete batch are then put
through the model once more, in the same batch as before, so that the finished
file is byte for byte that of an undisturbed run.
"""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO

from medkit.batch.listing import Inputs, ListedImage
from medkit.batch.outputs.registry import Recovered, WithoutErrors
from medkit.batch.run_record import RunRecord, has_rows, record_path
from medkit.errors import UsageError
from medkit.files import output_errors, replacing
from medkit.system.names import composed, in_utf8


@dataclass(frozen=True)
class ResumeState:
    """The point at which a run continues.

    Attributes
    ----------
    record
        Record of the run that is continued; ``None`` for a new run.
    kept
        Rows that the output already holds.
    images
        Images that the run still reads.
    again
        Number of the first of these images that have rows already. They fill
        the batch in which the images after them were.
    make_room
        Takes the rows that are tried again out of the output, at once. It is
        called when the first new row is there. ``None`` if there are none.
    tried_again
        Names of these rows, and of those that an earlier run has taken out;
        see :attr:`medkit.batch.run_record.RunRecord.tried_again`.
    """

    record: RunRecord | None
    kept: Recovered
    images: Iterator[ListedImage]
    again: int
    make_room: Callable[[], None] | None = None
    tried_again: tuple[str, ...] = ()


@contextmanager
def sole_writer(out: Path) -> Iterator[None]:
    """Keep other processes of medkit from writing to an output meanwhile; it is made if need be.

    An output that was made here, and is still empty after an error, is removed.

    Raises
    ------
    UsageError
        If another process is writing to it.
    MedkitError
        If it cannot be opened.
    """
    was_there = out.exists()
    with _removed_if_empty(out, was_there), _opened(out) as stream:
        try:
            import fcntl

            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"another process is writing to {out}; wait for it, or name another output"
            ) from None
        except ImportError:
            stream.close()  # Windows knows no such lock, and replaces no file that is open
        except OSError:
            pass  # nor do some network folders
        yield


def _opened(out: Path) -> IO[bytes]:
    with output_errors(str(out)):
        return out.open("ab")


@contextmanager
def _removed_if_empty(out: Path, was_there: bool) -> Iterator[None]:
    """Remove an output that was made here and is still empty after an error."""
    try:
        yield
    except BaseException:
        # Not while it is open, which Windows would refuse; and the error itself matters more.
        with suppress(OSError):
            if not was_there and not has_rows(out) and not record_path(out).exists():
                out.unlink(missing_ok=True)
        raise


def remaining(
    listed: Iterator[ListedImage], kept: Recovered, batch_size: int
) -> tuple[Iterator[ListedImage], int]:
    """Return the images that are still to be done.

    Parameters
    ----------
    listed
        The listing.
    kept
        Rows that the output already holds.
    batch_size
        Images in one inference.

    Returns
    -------
    images, again
        The first ``again`` images have rows already. They fill the
        batch that those after them were in. If files came or went since,
        every image that has a row is left out, whatever its place.
    """
    names = map(in_utf8, kept.names())
    batch: list[ListedImage] = []
    for name in names:
        item = next(listed, None)
        if item is None or item.name != name:
            done = Counter(chain([name], names))
            # The images before this one have rows, and fill no batch any more.
            return _without(chain([item] if item else [], listed), done), 0
        batch.append(item)
        if len(batch) == batch_size:
            batch = []
    return chain(batch, listed), len(batch)


def _without(listed: Iterator[ListedImage], done: Counter[str]) -> Iterator[ListedImage]:
    """Give the images that have no row.

    A folder that is shared between systems may name a file now with an
    accent that is one with its letter, and now with one that is apart. Such
    an image comes last: only then is it known that no other file has the row.
    """
    looks = Counter(composed(name) for name in done if not name.isascii())
    unsure: list[ListedImage] = []
    for item in listed:
        if done[item.name]:
            done[item.name] -= 1
        elif looks and looks[composed(item.name)]:
            unsure.append(item)
        else:
            yield item
    left = Counter(composed(name) for name in (done.elements() if unsure else ()))
    for item in unsure:
        if left[composed(item.name)]:
            left[composed(item.name)] -= 1
        else:
            yield item


def without_row(listed: Iterator[ListedImage], kept: Recovered) -> Iterator[ListedImage]:
    """Give the images that have no row, and those whose row is not kept."""
    return _without(listed, Counter(map(in_utf8, kept.names())))


def names_tried_again(kept: WithoutErrors, before: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of failed rows, and of those that an earlier run has taken out.

    Each stands there as often as it has rows in all: a file may be listed
    twice, and have failed once.
    """
    failed = Counter(map(in_utf8, kept.failed()))
    for name in map(in_utf8, kept.names()):
        if name in failed:
            failed[name] += 1
    return tuple((failed | Counter(before)).elements())


def and_what_has_gone(
    images: Iterator[ListedImage], kept: Recovered, names: tuple[str, ...], inputs: Inputs
) -> Iterator[ListedImage]:
    """Give images, and then what was to be tried again and is listed no more.

    So it keeps a row; but for folders, which then could not be read and now
    have images.

    Parameters
    ----------
    images
        What is listed and has no row, or none that is kept.
    kept
        The rows that are kept.
    names
        What was to be tried again; see :func:`names_tried_again`.
    inputs
        The inputs of the run.
    """
    missing = Counter(names)
    for name in map(in_utf8, kept.names()) if names else ():
        if missing[name]:
            missing[name] -= 1
    others: Counter[str] = Counter()
    for item in images:
        if missing[item.name]:
            missing[item.name] -= 1
        elif names and not item.name.isascii():
            others[composed(item.name)] += 1
        yield item
    for name in missing.elements():
        if others[composed(name)]:
            others[composed(name)] -= 1  # it was listed, spelled in the other way
        elif not (path := inputs.path_of(name)).is_dir():
            yield ListedImage(path, name)


@contextmanager
def taking_out(out: Path, kept: WithoutErrors) -> Iterator[Callable[[], None]]:
    """Give a function that takes the rows with an error out of an output.

    Whoever reads the output, or continues it after a kill, finds it as it was
    or without all of them. Until the block ends, no other process of medkit
    writes to the new file.
    """
    with ExitStack() as writing:

        def take_out() -> None:
            rights = out.stat().st_mode
            with replacing(out) as temporary:
                kept.copy(temporary)
            with output_errors(str(out)):
                out.chmod(stat.S_IMODE(rights))
            writing.enter_context(sole_writer(out))

        yield take_out


def without_errors(held: Recovered) -> WithoutErrors:
    """Return the rows of an output that are kept if those with an error are tried again.

    Raises
    ------
    UsageError
        If the output cannot tell.
    """
    if held.without_errors is None:
        raise UsageError(
            "--retry-errors needs an output that can tell which rows have an error, as .csv and "
            ".jsonl can; leave it out, or begin anew with --overwrite"
        )
    return held.without_errors


def only_without_errors(held: Recovered, kept: WithoutErrors) -> Recovered:
    """Return what an output holds when the rows with an error have been taken out."""
    return replace(held, rows=held.rows - held.errors, errors=0, names=kept.names)
