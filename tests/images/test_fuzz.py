"""A short run of the fuzzer, and every case that a long one has found."""

from __future__ import annotations

import io
import subprocess
import sys
import zlib
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

import fuzz_case
import hostile

HERE = Path(__file__).parents[1]
FOUND = [path for path in sorted((HERE / "regressions").iterdir()) if path.name != "README.md"]


@pytest.mark.filterwarnings("ignore")
def test_what_the_fuzzer_begins_with_has_an_outcome() -> None:
    seeds = fuzz_case.seeds()
    assert len(seeds) > 300
    outcomes = [fuzz_case.check(content) for content in seeds.values()]
    assert 0.2 < sum(outcomes) / len(outcomes) < 0.8


@pytest.mark.filterwarnings("ignore")
def test_what_the_fuzzer_has_found_has_an_outcome() -> None:
    for path in FOUND:
        fuzz_case.check(path.read_bytes())


def test_a_changed_png_gets_the_checksums_of_what_it_holds() -> None:
    good = hostile.encoded(hostile.picture((9, 9)), "PNG")
    assert fuzz_case.with_checksums(good) == good
    wrong = bytearray(good)
    wrong[-1] ^= 255
    assert fuzz_case.with_checksums(bytes(wrong)) == good
    turned = hostile.png(9, 8, zlib.compress(bytes(300)), 8, 0).replace(
        b"\x00\x00\x00\x09\x00\x00\x00\x08", b"\x00\x00\x00\x08\x00\x00\x00\x09"
    )
    with Image.open(io.BytesIO(fuzz_case.with_checksums(turned))) as image:
        assert image.size == (8, 9)


@pytest.mark.skipif(find_spec("atheris") is None, reason="LOUDLY: atheris is not installed here")
def test_a_short_run_finds_nothing(tmp_path: Path) -> None:
    # No limit of memory here: what libFuzzer measures holds that of the tests themselves.
    # The files that it begins with are runs as well, some 3,000.
    options = ("-runs=8000", "-seed=1", "-rss_limit_mb=0")
    done = subprocess.run(
        [sys.executable, HERE / "fuzz_images.py", tmp_path, *options],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Done 8000 runs" in done.stderr
