"""Images that a run may have died of, tried out where they can do no harm.

A decoder that crashes takes the whole process with it, and would again when
the run is continued, at the same image, forever. So the images that were in
work when a run died are decoded in a process of their own before the run
goes on with them. As a program, ``python -m medkit.batch.quarantine`` is that
process: it reads paths, each ended by a zero byte, and writes a line when it
begins, and one for each path that did not crash it.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from importlib import import_module
from itertools import islice
from pathlib import Path
from threading import Event

from medkit.batch.listing import ListedImage
from medkit.errors import ImageError
from medkit.images.formats.registry import image_formats, register_image_format
from medkit.images.limits import GRACE, Limits, took_too_long
from medkit.images.reading import open_image
from medkit.plugins import named_plugins

_GLANCE = 0.2  # seconds between two looks at whether the run is to end


def screen_suspects(
    found: Iterator[ListedImage],
    count: int,
    limits: Limits,
    side: int | None,
    ending: Event | None = None,
) -> Iterator[ListedImage]:
    """Give what is found; of the first ``count``, those that crash the decoder have an error.

    Parameters
    ----------
    found
        The images.
    count
        Images to try out.
    limits
        Limits of one image.
    side
        Pixels that a decoder which can scale must leave on each side, as in
        the run.
    ending
        Once it is set, no more are tried out.
    """
    ending = ending or Event()
    items = list(islice(found, count))
    start = 0
    while start < len(items) and not ending.is_set():
        done, reason = _decode_apart(items[start:], limits, side, ending)
        start += done
        if reason and start < len(items):
            items[start] = replace(items[start], error=reason)
            start += 1
    yield from items
    yield from found


def _decode_apart(
    items: Sequence[ListedImage], limits: Limits, side: int | None, ending: Event
) -> tuple[int, str]:
    """Decode images in another process; return how many it survived, and what it died of."""
    try:
        process = subprocess.Popen(
            # Without -P, a json.py among the images would be run.
            [sys.executable, "-P", "-m", "medkit.batch.quarantine", *_arguments(limits, side)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for the run, and not taken for a crash
        )
    except OSError:
        return len(items), ""  # no other Python can be started, so nothing can be tried out
    names: bytes | None = b"".join(os.fsencode(item.path) + b"\0" for item in items)
    while True:
        try:
            lines, _ = process.communicate(names, timeout=_GLANCE)
            break
        except subprocess.TimeoutExpired:
            names = None
            if ending.is_set():
                process.kill()
                process.communicate()
                return len(items), ""
    begun_and_done = lines.count(b"\n")
    if begun_and_done == 0:
        return len(items), ""  # it was no Python with medkit
    return begun_and_done - 1, _cause(process.returncode, limits)


def _arguments(limits: Limits, side: int | None) -> list[str]:
    """Return what the other process must know, which :func:`main` reads."""
    # A plug-in that was imported in Python is named nowhere, so its formats themselves are sent.
    formats = []
    for known in image_formats():
        with suppress(Exception):  # what cannot be sent is not tried out
            formats.append(base64.b64encode(pickle.dumps(known)).decode())
    told = {
        "limits": asdict(limits),
        "side": side,
        "path": [folder for folder in sys.path if isinstance(folder, str)],
        "modules": named_plugins(),
        "formats": formats,
    }
    return [json.dumps(told)]


def _cause(status: int, limits: Limits) -> str:
    """Return the cause of death of a process, by its exit status; empty if it ended normally."""
    if status == 0:
        return ""
    if status == -signal.SIGALRM:
        return took_too_long(limits)
    name = f"status {status:#x}"
    if status < 0:
        name = f"signal {-status}"
        with suppress(ValueError):  # a real-time signal has no name
            name = signal.Signals(-status).name
    return f"crashes the decoder ({name})"


def main() -> None:
    """Decode what standard input names."""
    told = json.loads(sys.argv[1])
    limits, side = Limits(**told["limits"]), told["side"]
    # Last, so that no module among the images stands for one of Python's own.
    sys.path += [folder for folder in told["path"] if folder not in sys.path]
    for module in told["modules"]:
        # A plug-in that cannot be had here must not keep the other formats from being tried.
        with suppress(Exception):
            import_module(module)
    for sent in told["formats"]:
        with suppress(Exception):  # most are known already
            register_image_format(pickle.loads(base64.b64decode(sent)))
    print(flush=True)
    for name in sys.stdin.buffer.read().split(b"\0")[:-1]:
        # Nothing handles the signal: it ends the process even if a decoder does not return.
        signal.setitimer(signal.ITIMER_REAL, limits.seconds + GRACE)
        with suppress(ImageError):  # its row will tell why: the run decodes it again
            open_image(Path(os.fsdecode(name)), limits, least_side=side)
        print(flush=True)
    signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    main()
