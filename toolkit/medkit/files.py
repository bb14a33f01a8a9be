"""Files as medkit writes them: atomically, and with errors that say what to do next.

Libraries are imported late, because every command imports this module.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from medkit.errors import MedkitError, ModelFileError, UsageError


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Give a temporary path that replaces ``target`` if the block succeeds.

    A reader sees the old file or the whole new one, never a part of it. After
    an exception the old file is as it was, and the temporary one is gone.
    """
    import tempfile

    try:
        target = target.resolve()  # what is written behind a link is written where it leads
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            dir=target.parent, prefix=f".{target.stem}-", suffix=target.suffix
        )
    except OSError as error:
        raise MedkitError(
            f"{target} cannot be written: {error.strerror}; name another place"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; an output should have the usual rights.
        umask = os.umask(0)
        os.umask(umask)
        with temporary.open("r+b") as written:
            os.fsync(written.fileno())  # or a power cut could leave an empty file of that name
        temporary.chmod(0o666 & ~umask)
        temporary.replace(target)
    except OSError as error:
        # A full disk, or a folder that vanishes, shows in the block as it writes.
        raise MedkitError(
            f"{target} cannot be written: {error.strerror or error}; make room, or name another "
            "place"
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically; a character that is not UTF-8 becomes an escape."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: Path, content: Any, *, ascii_only: bool = True) -> None:
    """Write JSON atomically.

    Parameters
    ----------
    path
        The file.
    content
        Any value that :func:`json.dumps` takes. A number that is not finite is an error.
    ascii_only
        Write other characters as escapes. A file name that is not UTF-8 can
        be written in no other way.
    """
    import json

    write_text(path, json.dumps(content, indent=2, allow_nan=False, ensure_ascii=ascii_only) + "\n")


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is not JSON, or nested too deeply.
    """
    import json

    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def names_file(text: str) -> bool:
    """Whether a text is the name of a file, and no longer than a name can be."""
    try:
        return Path(text).is_file()
    except OSError:
        return False


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal.

    Raises
    ------
    ModelFileError
        If the file cannot be read.
    """
    import hashlib

    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error


def check_sha256(text: str) -> None:
    """Raise :class:`ValueError` unless a text is a SHA-256 in hexadecimal."""
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise ValueError(f"sha256 is {text!r}, which is not 64 hexadecimal digits")


def check_writable(folder: Path) -> None:
    """Raise :class:`UsageError` unless files can be made in ``folder``, which need not exist."""
    there = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UsageError(f"{folder} cannot be written: {there} is no writable folder; name another")


@contextmanager
def output_errors(name: str) -> Iterator[None]:
    """Turn an error of the operating system about an output into one of medkit's."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise MedkitError(
            f"{name} cannot be written: {error.strerror}; put that right and continue with "
            "--resume, or name another output"
        ) from error
