"""Fuzzes the way from a file to a tensor; ``make fuzz`` runs a million cases.

``python tests/fuzz_images.py FOLDER -runs=1000000`` lets atheris mutate good
and bad files of every format; it keeps in FOLDER what reaches new lines of
Pillow's readers or medkit's. A finding is whatever ``fuzz_case.check`` does
not expect, a crash, a case of more than five seconds or a gigabyte.
"""

from __future__ import annotations

import random
import sys
import warnings
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["PIL", "medkit"]):
    from fuzz_case import LONGEST, check, seeds, with_checksums


def mutate(content: bytes, most: int, seed: int) -> bytes:
    """Change a file; a PNG's checksums are mostly made right, or nothing behind them is reached."""
    changed: bytes = atheris.Mutate(content, most)
    if changed.startswith(b"\x89PNG") and random.Random(seed).random() < 0.9:
        return with_checksums(changed)[:most]
    return changed


def main(arguments: list[str]) -> None:
    """Hand over to libFuzzer, which ends the process."""
    warnings.simplefilter("ignore")
    folder = Path(arguments[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in seeds().items():
        (folder / name).write_bytes(content)
    options = [f"-max_len={LONGEST}", "-timeout=5", "-rss_limit_mb=1024"]
    atheris.Setup([arguments[0], *options, *arguments[1:]], check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
