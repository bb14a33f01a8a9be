"""A file that crashes the decoder costs the run that it kills, and no other."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Event, Timer

import pytest
from PIL import Image

from medkit.batch.listing import ListedImage
from medkit.batch.quarantine import screen_suspects
from medkit.images.limits import Limits

# What a decoder with a fault does with an image of 13 pixels.
FAULT = """
import os, signal, time
import PIL.ImageFile

load = PIL.ImageFile.ImageFile.load

def faulty(self):
    if self.size == (13, 1):
        os.kill(os.getpid(), signal.SIGSEGV)
    if self.size == (13, 2):
        time.sleep(600)
    return load(self)

PIL.ImageFile.ImageFile.load = faulty
"""

pytestmark = pytest.mark.skipif(
    os.name != "posix", reason="LOUDLY: crashes were not tried, they are made with signals"
)


@pytest.fixture
def faulty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give every further Python process the fault."""
    (tmp_path / "fault").mkdir()
    (tmp_path / "fault" / "sitecustomize.py").write_text(FAULT)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "fault"))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(60):
        Image.new("L", (20, 20), 4 * number).save(folder / f"{number:02}.png")
    return folder


def found_in(folder: Path) -> list[ListedImage]:
    return [ListedImage(path, path.name) for path in sorted(folder.iterdir())]


def errors_after(items: Sequence[ListedImage], count: int, limits: Limits) -> dict[str, str]:
    tried = list(screen_suspects(iter(items), count, limits, side=256))
    assert [item.path for item in tried] == [item.path for item in items]
    return {item.name: item.error for item in tried if item.error}


def test_images_that_harm_nothing_pass_whatever_their_rows_will_say(images: Path) -> None:
    (images / "05.png").write_bytes(b"broken")
    assert errors_after(found_in(images), 20, Limits()) == {}


def test_images_that_crash_or_hold_up_a_decoder_are_found_out(images: Path, faulty: None) -> None:
    for name, size in (("00", 1), ("07", 1), ("08", 1), ("19", 1), ("11", 2), ("20", 1)):
        Image.new("L", (13, size)).save(images / f"{name}.png")
    crash = "crashes the decoder (SIGSEGV)"
    assert errors_after(found_in(images), 20, Limits(seconds=0.5)) == {
        "00.png": crash,
        "07.png": crash,
        "08.png": crash,
        "11.png": "takes longer to read and decode than 0.5 s",
        "19.png": crash,
    }


@pytest.mark.parametrize("program", ["/bin/false", "/nonexistent", "", "/etc"])
def test_where_no_other_python_can_be_started_nothing_is_called_a_crash(
    images: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    assert errors_after(found_in(images), 20, Limits()) == {}


def test_no_program_among_the_images_is_run(images: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (images / "json.py").write_text("open('run', 'w').close()")
    monkeypatch.chdir(images)
    items = [item for item in found_in(images) if item.name.endswith(".png")]
    assert errors_after(items, 20, Limits()) == {}
    assert not (images / "run").exists()


def test_trying_out_ends_when_the_run_is_to_end(images: Path, faulty: None) -> None:
    Image.new("L", (13, 2)).save(images / "03.png")
    ending = Event()
    Timer(1.0, ending.set).start()
    items = found_in(images)
    assert list(screen_suspects(iter(items), 20, Limits(seconds=600), 256, ending)) == items


def test_names_of_any_bytes_reach_the_other_process(images: Path, faulty: None) -> None:
    for name in (b"line\nfeed.png", b"\xff.png"):
        Image.new("L", (13, 1)).save(images / os.fsdecode(name))
    assert set(errors_after(found_in(images), 100, Limits())) == {
        "line\nfeed.png",
        os.fsdecode(b"\xff.png"),
    }


def test_a_run_that_an_image_has_killed_is_continued_without_it(
    images: Path, faulty: None, tmp_path: Path, pooled_models: Path
) -> None:
    Image.new("L", (13, 1)).save(images / "30.png")
    Image.new("L", (13, 1)).save(images / "33.png")
    out = tmp_path / "o.csv"
    command = [sys.executable, "-m", "medkit", "classify", images, "--out", out, "--resume"]
    command += ["--trained", pooled_models, "--batch-size", "2", "--threads", "2"]
    ends = []
    while not ends or ends[-1] < 0:
        done = subprocess.run([*map(str, command)], capture_output=True, check=False)
        ends.append(done.returncode)
    assert ends == [-11, 3]
    with out.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == [f"{number:02}.png" for number in range(60)]
    assert {row["path"]: row["error"] for row in rows if row["status"] != "ok"} == {
        "30.png": "crashes the decoder (SIGSEGV)",
        "33.png": "crashes the decoder (SIGSEGV)",
    }
