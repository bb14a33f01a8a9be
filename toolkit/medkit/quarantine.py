"""Images that a run may have died of, tried out where they can do no harm.

A decoder that crashes takes the whole process with it, and would again when
the run is continued, at the same image, forever. So the images that were in
work when a run died are decoded in a process of their own before the run
goes on with them. As a program, ``python -m medkit.quarantine`` is that
process: it reads paths, each ended by a zero byte, and writes a line when it
begins, and one for each path that did not crash it.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path

from medkit.errors import ImageError
from medkit.images import open_image
from medkit.limits import Limits, took_too_long
from medkit.listing import Found

_GRACE = 1.0  # seconds that an image has beyond its limit, for saying itself that it is reached


def tried_out(found: Iterator[Found], count: int, limits: Limits) -> Iterator[Found]:
    """Give what is found; of the first ``count``, those that crash the decoder have an error."""
    items = list(islice(found, count))
    start = 0
    while start < len(items):
        done, reason = _decode_apart(items[start:], limits)
        start += done
        if reason and start < len(items):
            items[start] = replace(items[start], error=reason)
            start += 1
    yield from items
    yield from found


def _decode_apart(items: Sequence[Found], limits: Limits) -> tuple[int, str]:
    """Decode images in another process; return how many it survived, and what it died of."""
    process = subprocess.run(
        [sys.executable, "-m", "medkit.quarantine", json.dumps(asdict(limits))],
        input=b"".join(os.fsencode(item.path) + b"\0" for item in items),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        check=False,
        start_new_session=True,  # Ctrl-C is for the run, and not taken for a crash
    )
    begun_and_done = process.stdout.count(b"\n")
    if begun_and_done == 0:
        return len(items), ""  # nothing can be tried out where no other Python can be started
    return begun_and_done - 1, _cause(process.returncode, limits)


def _cause(status: int, limits: Limits) -> str:
    """Return what a process with an exit status died of; nothing if it did not."""
    if status == 0:
        return ""
    if status == 1:
        return took_too_long(limits)
    name = signal.Signals(-status).name if status < 0 else f"status {status:#x}"
    return f"crashes the decoder ({name})"


def main() -> None:
    """Decode what standard input names."""
    limits = Limits(**json.loads(sys.argv[1]))
    print(flush=True)
    for name in sys.stdin.buffer.read().split(b"\0")[:-1]:
        # Ends the process even if a decoder does not return.
        faulthandler.dump_traceback_later(limits.seconds + _GRACE, exit=True)
        with suppress(ImageError):  # its row will tell why: the run decodes it again
            open_image(Path(os.fsdecode(name)), limits)
        print(flush=True)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main()
