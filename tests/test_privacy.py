"""Nothing of a patient leaves: not over a network, and not from a file's metadata to an output."""

from __future__ import annotations

import io
import os
import random
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

import hostile
from medkit.batch.run_record import record_path
from medkit.errors import ImageError
from medkit.images.limits import Limits
from medkit.images.reading import open_image

SECRET = "Doe^Jane 19700101"
SAMPLES = Path(__file__).parent / "samples"

WITHOUT_NETWORK = """
import runpy, sys
REFUSED = ("socket.", "urllib.", "http.", "ftplib.", "smtplib.", "subprocess.", "os.system")

def refuse(event, arguments):
    if event.startswith(REFUSED):
        print("REFUSED", event, arguments)
        raise PermissionError(event)

sys.addaudithook(refuse)
sys.argv = sys.argv[1:]
runpy.run_module("medkit", run_name="__main__")
"""


def telling() -> Iterator[tuple[str, bytes]]:
    """Give images that tell of a patient wherever their formats have a place for it."""
    picture, secret = hostile.picture(), SECRET.encode()
    exif = Image.Exif()
    for tag in (270, 271, 305, 315, 316, 33432, 0x9C9B, 0x9C9D):  # description, artist, owner...
        exif[tag] = SECRET
    exif.get_ifd(0x8769)[0x9286] = b"ASCII\0\0\0" + secret
    exif.get_ifd(0x8825)[29] = SECRET
    xmp = b"<x:xmpmeta><dc:creator>" + secret + b"</dc:creator></x:xmpmeta>"
    text = PngImagePlugin.PngInfo()
    text.add_text("PatientName", SECRET)
    text.add_text("Comment", SECRET, zip=True)
    text.add_itxt("Author", SECRET, "en", SECRET)
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x20\x1c\x02\x50\0\x11" + secret
    jpeg = hostile.encoded(picture, "JPEG", exif=exif, comment=secret, xmp=xmp)
    yield "all.jpg", jpeg[:2] + hostile.segment(0xED, iptc) + jpeg[2:]
    icc = b"ICC_PROFILE\0\x01\x01" + secret * 9
    yield "icc.jpg", hostile.with_segments(hostile.segment(0xE2, icc))
    yield "mpf.jpg", hostile.with_segments(hostile.segment(0xE2, b"MPF\0" + secret * 3))
    yield "all.png", hostile.encoded(picture, "PNG", exif=exif, pnginfo=text)
    yield (
        "profile.png",
        hostile.with_chunks(hostile.chunk(b"iCCP", secret + b"\0\0" + zlib.compress(secret))),
    )
    yield (
        "raw-exif.png",
        hostile.with_chunks(
            hostile.chunk(b"tEXt", b"Raw profile type exif\0\nexif\n 17\n" + secret)
        ),
    )
    yield "all.webp", hostile.encoded(picture, "WEBP", exif=exif, xmp=xmp, icc_profile=secret)
    yield "all.tif", hostile.encoded(picture, "TIFF", exif=exif, description=SECRET, artist=SECRET)
    yield "noise.webp", hostile.encoded(picture, "WEBP", exif=secret * 3)
    yield "header.png", hostile.png(8, 8, b"", 8, 2)[:16] + secret * 4
    dicom = struct.pack("<HH2sH", 0x10, 0x10, b"PN", len(secret)) + secret
    yield "dicom.jpg", bytes(128) + b"DICM" + dicom
    yield "text.jpg", f"PatientName={SECRET}\n".encode() * 9


def leaks(text: str) -> bool:
    """Whether a text holds a part of the secret that is no accident."""
    return "Doe" in text or "Jane" in text or "19700101" in text


def test_the_images_of_these_tests_do_tell() -> None:
    for name, content in telling():
        with_texts = content
        if name == "all.png":
            with_texts += str(Image.open(io.BytesIO(content)).text).encode()  # type: ignore[attr-defined]
        assert b"Doe" in with_texts or "Doe".encode("utf-16-le") in with_texts, name


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_nothing_of_the_metadata_reaches_output_record_or_log(
    suffix: str, tmp_path: Path, pooled_models: Path
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for name, content in telling():
        (folder / name).write_bytes(content)
        (folder / f"cut-{name}").write_bytes(content[: len(content) * 2 // 3])
    out = tmp_path / f"o.{suffix}"
    command = [sys.executable, "-m", "medkit", "--debug", "classify", folder, "--out", out]
    done = subprocess.run(
        [*map(str, command), "--trained", str(pooled_models)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    for text in (out.read_text(), record_path(out).read_text(), done.stdout, done.stderr):
        assert not leaks(text)


def test_no_reason_quotes_a_damaged_files_metadata() -> None:
    rng = random.Random(0)
    reasons = set()
    for _, content in telling():
        for _ in range(400):
            changed = bytearray(content)
            for _ in range(rng.randrange(1, 6)):
                place = rng.randrange(min(len(changed), 2000))
                changed[place] = rng.choice((0, 1, 255, rng.randrange(256)))
            try:
                open_image(io.BytesIO(bytes(changed)), Limits(megapixels=1))
            except ImageError as error:
                reasons.add(str(error))
    assert len(reasons) > 30
    assert [reason for reason in reasons if leaks(reason)] == []


@pytest.mark.parametrize("name", ["all.jpg", "all.png", "all.webp", "all.tif"])
def test_a_decoded_image_that_is_shown_in_a_page_carries_no_metadata(name: str) -> None:
    from medkit.reports.html import thumbnail_uri

    page = thumbnail_uri(open_image(io.BytesIO(dict(telling())[name])))
    import base64

    assert b"Doe" not in base64.b64decode(page.partition(",")[2])


@pytest.mark.parametrize(
    "arguments",
    [
        ["classify", SAMPLES, "--out", "-"],
        ["classify", SAMPLES, "--out", "-", "--runtime", "onnx"],
        ["classify", SAMPLES, "--out", "-", "--runtime", "auto"],
        ["evaluate", "skin", "--data", "labelled"],
        ["inspect", "model.tflite"],
    ],
    ids=lambda words: " ".join(map(str, words[:1] + words[4:])),
)
def test_nothing_is_sent_over_a_network_and_no_program_is_started(
    arguments: list[object], tmp_path: Path, pooled_models: Path
) -> None:
    shutil.copy(pooled_models / "skin/model-fp32.tflite", tmp_path / "model.tflite")
    for label in ("nevus", "melanoma"):
        (tmp_path / "labelled" / label).mkdir(parents=True)
        shutil.copy(SAMPLES / "skin/nevus-1.png", tmp_path / "labelled" / label / "1.png")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_NETWORK, "medkit", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert "REFUSED" not in done.stdout + done.stderr
    assert done.returncode == 0, done.stderr


def can_trace() -> bool:
    """Whether strace is there, and may look at a process."""
    traced = ["strace", "-o", os.devnull, sys.executable, "-c", ""]
    return (
        shutil.which("strace") is not None
        and subprocess.run(traced, capture_output=True, check=False).returncode == 0
    )


@pytest.mark.skipif(not can_trace(), reason="LOUDLY: strace is not installed, or not allowed")
def test_not_even_native_code_opens_a_connection(tmp_path: Path) -> None:
    log = tmp_path / "calls"
    command = [sys.executable, "-m", "medkit", "classify", str(SAMPLES), "--out", "-"]
    done = subprocess.run(
        ["strace", "-f", "-e", "trace=connect,sendto,bind", "-o", str(log), *command],
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0
    calls = [line for line in log.read_text().splitlines() if "(" in line and "SIG" not in line]
    assert calls == []
