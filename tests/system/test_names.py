"""Names in rows do not depend on the locale."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from medkit.system.names import composed, in_utf8, name_in_rows, name_on_disk

PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_a_name_is_one_whatever_the_accents_do() -> None:
    assert composed("bru\u0308che") == "br\u00fcche"
    assert composed("\udcff") == "\udcff"
    assert composed("a.png") == "a.png"


def test_a_name_that_another_locale_wrote_is_read_as_utf8() -> None:
    assert in_utf8("\udcc3\udca9.png") == "é.png"
    assert in_utf8("é.png") == "é.png"
    assert in_utf8("\udcff.png") == "\udcff.png"
    assert in_utf8("\ud800.png") == "\ud800.png"


@pytest.mark.skipif(sys.platform != "linux", reason="LOUDLY: names are not bytes here")
def test_in_a_locale_without_utf8_names_in_rows_are_the_same_and_lead_to_the_files(
    tmp_path: Path,
) -> None:
    for name in (b"\xc3\xa9.png", b"\xff.png"):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    code = (
        "import os, sys\n"
        "from medkit.system.names import name_in_rows, name_on_disk\n"
        "assert sys.getfilesystemencoding() != 'utf-8'\n"
        "names = sorted(os.listdir(sys.argv[1]))\n"
        "assert all(name_on_disk(name_in_rows(name)) == name for name in names)\n"
        "print(*(ascii(name_in_rows(name)) for name in names))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path],
        env={**os.environ, **PLAIN_C},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [ascii("é.png"), ascii("\udcff.png")]
    assert name_in_rows("é.png") == name_on_disk("é.png") == "é.png"
