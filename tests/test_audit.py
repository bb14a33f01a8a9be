"""The audit: each kind of finding on made folders, what is written of it, and the real data."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import imagehash
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import medkit.audit
from medkit.audit import NEAR_BITS, PROBLEMS, REMARKS, Audit, audit_folder, write_audit_json
from medkit.auditpage import write_audit_page
from medkit.cli import app
from medkit.datasets import locate_dataset
from medkit.errors import DatasetLayoutError, MissingExtraError
from medkit.images import open_image
from medkit.tasks import PNEUMONIA, SKIN

KINDS = [*PROBLEMS, *REMARKS]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the caller's environment out of what is shown."""
    for name in ("FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "200")


def drawn(seed: int, size: tuple[int, int] = (96, 80)) -> Image.Image:
    """Draw blots, as fine as the perceptual hash looks, that no other seed gives."""
    blots = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), np.uint8)
    return Image.fromarray(blots).resize(size, Image.Resampling.BICUBIC)


def picture(path: Path, seed: int, size: tuple[int, int] = (96, 80), **options: Any) -> Path:
    """Write the image of a seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn(seed, size).save(path, **options)
    return path


def copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.copy(source, target))


def broken(path: Path, content: bytes = b"no image") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def clean(root: Path) -> Path:
    """Lay out two classes of two images that have nothing in common."""
    for seed, name in enumerate(("cat/1.png", "cat/2.jpg", "dog/1.png", "dog/2.jpg")):
        picture(root / name, seed)
    return root


def found(audit: Audit) -> dict[str, int]:
    """Count the findings of each kind that occurred."""
    return {kind: len(audit.of(kind)) for kind in KINDS if audit.of(kind)}


def only(audit: Audit, kind: str) -> tuple[tuple[str, ...], str]:
    """Return images and detail of the one finding of a kind."""
    (finding,) = audit.of(kind)
    return finding.images, finding.detail


def run(*arguments: Any) -> Any:
    """Run ``medkit audit`` in this process."""
    return CliRunner().invoke(app, ["audit", *map(str, arguments)])


# What is found


def test_a_clean_folder_has_no_finding(tmp_path: Path) -> None:
    audit = audit_folder(clean(tmp_path))
    assert audit.root == tmp_path
    assert audit.findings == ()
    assert (audit.images, audit.problems) == (4, 0)
    assert audit.counts == {"": {"cat": 2, "dog": 2}}
    assert audit.sizes == {"96x80": 4}
    assert (audit.sources, audit.patients) == ({}, {})
    zeros = dict.fromkeys([*KINDS, "label conflict across splits"], 0)
    assert audit.summary() == {"images": 4, **zeros}


def test_splits_are_told_from_classes_by_the_folders_in_them(tmp_path: Path) -> None:
    for seed, name in enumerate(("train/cat/1.png", "train/cat/2.png", "test/dog/1.png")):
        picture(tmp_path / name, seed)
    assert audit_folder(tmp_path).counts == {"train": {"cat": 2}, "test": {"dog": 1}}


def test_a_file_that_cannot_be_decoded_is_named_with_the_reason(tmp_path: Path) -> None:
    whole = picture(clean(tmp_path) / "cat/3.jpg", 9).read_bytes()
    broken(tmp_path / "cat/3.jpg", whole[: len(whole) // 2])
    broken(tmp_path / "dog/text.png")
    audit = audit_folder(tmp_path)
    assert found(audit) == {"unreadable": 2}
    half, text = audit.of("unreadable")
    assert (half.images, text.images) == (("cat/3.jpg",), ("dog/text.png",))
    assert "truncated" in half.detail
    assert "not an image of an accepted format" in text.detail
    assert audit.problems == 2


def test_what_cannot_be_decoded_is_counted_and_compared_with_nothing(tmp_path: Path) -> None:
    for name in ("cat/a.png", "cat/b.png", "dog/a.png"):
        broken(clean(tmp_path) / name)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"unreadable": 3}
    assert audit.images == 7
    assert audit.sizes == {"96x80": 4}


def test_a_folder_of_nothing_but_broken_files_is_looked_through(tmp_path: Path) -> None:
    broken(tmp_path / "cat/a.png")
    audit = audit_folder(tmp_path)
    assert (audit.images, found(audit), audit.sizes) == (1, {"unreadable": 1}, {})


def test_the_same_bytes_under_two_labels_are_a_conflict(tmp_path: Path) -> None:
    copy(clean(tmp_path) / "cat/1.png", tmp_path / "dog/other.png")
    audit = audit_folder(tmp_path)
    assert found(audit) == {"label conflict": 1, "duplicate": 1}
    assert only(audit, "label conflict") == (("cat/1.png", "dog/other.png"), "cat and dog")
    assert audit.problems == 1
    assert audit.summary()["label conflict across splits"] == 0


def test_the_same_bytes_in_two_splits_are_a_leak(tmp_path: Path) -> None:
    clean(tmp_path / "train")
    copy(tmp_path / "train/cat/1.png", tmp_path / "test/cat/copy.png")
    audit = audit_folder(tmp_path)
    assert found(audit) == {"split leak": 1, "duplicate": 1}
    images = ("test/cat/copy.png", "train/cat/1.png")
    assert only(audit, "split leak") == (images, "test and train")
    assert audit.problems == 1


def test_a_conflict_across_splits_is_told_from_one_within_a_split(tmp_path: Path) -> None:
    clean(tmp_path / "train")
    copy(tmp_path / "train/cat/1.png", tmp_path / "train/dog/within.png")
    audit = audit_folder(tmp_path)
    picture(tmp_path / "test/cat/fine.png", 7)
    copy(tmp_path / "train/dog/1.png", tmp_path / "test/cat/across.png")
    both = audit_folder(tmp_path)
    assert found(audit) == {"label conflict": 1, "duplicate": 1}
    assert found(both) == {"label conflict": 2, "split leak": 1, "duplicate": 2}
    assert audit.summary()["label conflict across splits"] == 0
    assert both.summary()["label conflict across splits"] == 1


def test_copies_under_one_label_are_a_remark_and_one_finding_a_group(tmp_path: Path) -> None:
    for name in ("cat/1b.png", "cat/1c.png"):
        copy(clean(tmp_path) / "cat/1.png", tmp_path / name)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"duplicate": 1}
    images = ("cat/1.png", "cat/1b.png", "cat/1c.png")
    assert only(audit, "duplicate") == (images, "3 files of the same bytes")
    assert audit.problems == 0


def test_an_image_saved_anew_is_a_near_duplicate(tmp_path: Path) -> None:
    picture(clean(tmp_path) / "cat/again.jpg", 0, quality=60)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"near duplicate": 1}
    images, _ = only(audit, "near duplicate")
    assert images == ("cat/1.png", "cat/again.jpg")
    assert audit.problems == 0


def test_an_image_made_a_little_smaller_is_a_near_duplicate(tmp_path: Path) -> None:
    smaller = drawn(2).resize((90, 75), Image.Resampling.BILINEAR)
    smaller.save(clean(tmp_path) / "dog/smaller.png")
    audit = audit_folder(tmp_path)
    assert found(audit) == {"near duplicate": 1}
    assert only(audit, "near duplicate")[0] == ("dog/1.png", "dog/smaller.png")


def test_near_duplicates_have_imagehashs_distance_and_the_nearest_are_first(
    tmp_path: Path,
) -> None:
    clean(tmp_path)
    picture(tmp_path / "cat/rough.jpg", 0, quality=40)
    picture(tmp_path / "dog/packed.png", 2, compress_level=1)
    findings = audit_folder(tmp_path).of("near duplicate")
    expected = []
    for pair in (("dog/1.png", "dog/packed.png"), ("cat/1.png", "cat/rough.jpg")):
        first, second = (
            imagehash.phash(Image.open(tmp_path / name), hash_size=16) for name in pair
        )
        expected.append((pair, f"{first - second} of 256 bits differ"))
    assert [(finding.images, finding.detail) for finding in findings] == expected
    distances = [int(finding.detail.split()[0]) for finding in findings]
    assert 0 == distances[0] < distances[1] <= NEAR_BITS


def test_exact_copies_are_compared_as_one_image(tmp_path: Path) -> None:
    copy(clean(tmp_path) / "cat/1.png", tmp_path / "cat/copy.png")
    picture(tmp_path / "cat/again.jpg", 0, quality=60)
    assert found(audit_folder(tmp_path)) == {"duplicate": 1, "near duplicate": 1}


def test_a_patient_in_two_splits_is_named_with_the_images(tmp_path: Path) -> None:
    names = (
        "train/NORMAL/IM-0007-0001.png",
        "train/NORMAL/IM-0008-0001.png",
        "train/PNEUMONIA/person3_virus_1.png",
        "test/NORMAL/IM-0007-0002.png",
        "test/PNEUMONIA/person4_virus_1.png",
    )
    for seed, name in enumerate(names):
        picture(tmp_path / name, seed)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"shared patient": 1}
    images, patient = only(audit, "shared patient")
    assert set(images) == {names[0], names[3]}
    assert patient == "IM-0007"
    assert audit.patients == {"test": 2, "train": 3}
    assert audit.problems == 0


def test_a_patient_with_several_images_in_one_split_is_no_finding(tmp_path: Path) -> None:
    for seed, name in enumerate(("person1_virus_1.png", "person1_virus_2.png")):
        picture(tmp_path / "PNEUMONIA" / name, seed)
        picture(tmp_path / "NORMAL" / name.replace("virus", "bacteria"), 2 + seed)
    audit = audit_folder(tmp_path)
    assert audit.findings == ()
    assert audit.patients == {"": 1}


def test_only_the_named_folders_are_looked_through(tmp_path: Path) -> None:
    clean(tmp_path / "train")
    picture(tmp_path / "test/cat/9.png", 9)
    # Kaggle's archive of the X-rays holds the whole set a second time, one folder deeper.
    copy(tmp_path / "train/cat/1.png", tmp_path / "again/train/cat/1.png")
    with pytest.raises(DatasetLayoutError, match="holds folders beside or below"):
        audit_folder(tmp_path)
    audit = audit_folder(tmp_path, only=("train", "test"))
    assert (audit.images, audit.findings) == (5, ())
    assert list(audit.counts) == ["test", "train"]


def test_files_of_the_same_name_are_no_shared_patient(tmp_path: Path) -> None:
    picture(tmp_path / "train/cat/scan.png", 0)
    picture(tmp_path / "test/cat/scan.png", 1)
    audit = audit_folder(tmp_path)
    assert (audit.findings, audit.patients) == ((), {})


def test_findings_come_in_the_order_of_kinds(tmp_path: Path) -> None:
    everything(tmp_path)
    audit = audit_folder(tmp_path)
    kinds = [finding.kind for finding in audit.findings]
    assert list(dict.fromkeys(kinds)) == KINDS
    assert kinds == sorted(kinds, key=KINDS.index)
    assert audit.summary() == {
        "images": 9,
        "unreadable": 1,
        "label conflict": 1,
        "split leak": 1,
        "duplicate": 1,
        "near duplicate": 1,
        "shared patient": 1,
        "label conflict across splits": 1,
    }
    assert audit.problems == 3


def everything(root: Path) -> Path:
    """Lay out a data set with one finding of each kind."""
    clean(root / "train")
    broken(root / "train/cat/broken.png")
    copy(root / "train/cat/1.png", root / "test/dog/copy.png")
    picture(root / "test/dog/again.jpg", 2, quality=60)
    picture(root / "train/dog/person5_virus_1.png", 5)
    picture(root / "test/dog/person5_virus_2.png", 6)
    return root


# What is counted


def test_sizes_are_those_of_the_files_and_not_of_the_decoded_images(tmp_path: Path) -> None:
    large = picture(tmp_path / "cat/large.jpg", 0, size=(1200, 900))
    assert open_image(large).size == (600, 450)
    for seed in (1, 2):
        picture(tmp_path / f"cat/{seed}.png", seed, size=(96, 80))
    sizes = audit_folder(tmp_path).sizes
    assert list(sizes.items()) == [("96x80", 2), ("1200x900", 1)]


def test_sources_are_counted_by_split_and_class(tmp_path: Path) -> None:
    names = (
        "Train/nevus/ISIC_0000001.jpg",
        "Train/nevus/ISIC_0000002.jpg",
        "Train/nevus/ISIC_0024306.jpg",
        "Train/melanoma/ISIC_0024307.jpg",
        "Train/melanoma/scan.jpg",
        "Test/nevus/ISIC_0010001.jpg",
    )
    for seed, name in enumerate(names):
        picture(tmp_path / name, seed)
    audit = audit_folder(tmp_path)
    assert audit.findings == ()
    assert audit.sources == {
        "Train": {"nevus": {"ISIC_0000xxx": 2, "HAM10000": 1}, "melanoma": {"HAM10000": 1}},
        "Test": {"nevus": {"ISIC_0010xxx": 1}},
    }


def test_what_a_person_would_not_see_and_what_is_no_image_is_passed_over(tmp_path: Path) -> None:
    clean(tmp_path)
    broken(tmp_path / ".cache/cat/1.png")
    broken(tmp_path / "__MACOSX/cat/1.png")
    broken(tmp_path / "cat/._1.png")
    broken(tmp_path / "cat/.thumbnails/1.png")
    broken(tmp_path / "cat/notes.txt")
    broken(tmp_path / "readme.png")
    audit = audit_folder(tmp_path)
    assert (audit.counts, audit.findings) == ({"": {"cat": 2, "dog": 2}}, ())


def test_lengthy_steps_are_announced(tmp_path: Path) -> None:
    notes: list[str] = []
    audit_folder(clean(tmp_path), notes.append)
    assert notes == ["reading 4 images", "comparing them"]


# What is refused


@pytest.mark.parametrize(
    "names",
    [(), ("1.png",), ("cat/readme.txt",), (".hidden/1.png",)],
    ids=["empty", "images alone", "no image", "hidden"],
)
def test_a_folder_without_class_folders_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        broken(tmp_path / name)
    with pytest.raises(DatasetLayoutError, match="no class folder with images in") as caught:
        audit_folder(tmp_path)
    assert f"expected {tmp_path}/CLASS/IMAGE or {tmp_path}/SPLIT/CLASS/IMAGE" in str(caught.value)


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = broken(tmp_path / "file")
    for path in (tmp_path / "missing", file):
        with pytest.raises(DatasetLayoutError):
            audit_folder(path)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("cat/thumbnails/1.png", "cat"),
        ("train/cat/thumbnails/1.png", "train/cat"),
        ("data/train/cat/1.png", "data/train"),
    ],
)
def test_folders_beside_or_below_images_are_named_instead_of_passed_over(
    tmp_path: Path, name: str, where: str
) -> None:
    picture(tmp_path / name, 8)
    picture(tmp_path / where / "own.png", 9)
    with pytest.raises(DatasetLayoutError, match="holds folders beside or below") as caught:
        audit_folder(tmp_path)
    assert str(caught.value).startswith(str(tmp_path / where))


def test_without_imagehash_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    with pytest.raises(MissingExtraError, match=r"imagehash is needed .*medkit-edge\[export\]"):
        audit_folder(clean(tmp_path))


# JSON


def test_the_json_holds_everything_that_was_found(tmp_path: Path) -> None:
    audit = audit_folder(everything(tmp_path / "data"))
    path = tmp_path / "audit.json"
    write_audit_json(audit, path)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert record["root"] == str(tmp_path / "data")
    assert record["summary"] == audit.summary()
    for key in ("counts", "sizes", "sources", "patients"):
        assert record[key] == getattr(audit, key)
    assert record["findings"] == [
        {"kind": each.kind, "images": list(each.images), "detail": each.detail}
        for each in audit.findings
    ]


def test_names_survive_json(tmp_path: Path) -> None:
    names = ("line\nfeed.png", 'a "quoted" <b>.png', "naïve-日本.png")
    for name in names:
        broken(tmp_path / "data/<script>" / name)
    write_audit_json(audit_folder(tmp_path / "data"), tmp_path / "audit.json")
    record = json.loads((tmp_path / "audit.json").read_text(encoding="utf-8"))
    images = {image for finding in record["findings"] for image in finding["images"]}
    assert images == {f"<script>/{name}" for name in names}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_names_that_are_no_utf_8_do_not_keep_the_reports_from_being_written(
    tmp_path: Path,
) -> None:
    broken(tmp_path / "data/cat" / os.fsdecode(b"\xff.png"))
    audit = audit_folder(tmp_path / "data")
    write_audit_json(audit, tmp_path / "audit.json")
    write_audit_page(audit, tmp_path / "audit.html")
    assert json.loads((tmp_path / "audit.json").read_text())["summary"]["unreadable"] == 1
    assert ".png" in (tmp_path / "audit.html").read_text()


# The page


class Page(HTMLParser):
    """What a browser makes of a page: its elements, its text, its pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.addresses: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        for name, value in attrs:
            self.names.add(name)
            if name in ("src", "href", "srcset", "action", "data", "poster"):
                self.addresses.append(value or "")

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(audit: Audit, path: Path) -> tuple[str, Page]:
    write_audit_page(audit, path)
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_the_page_shows_every_kind_with_pictures(tmp_path: Path) -> None:
    _, page = page_of(audit_folder(everything(tmp_path / "data")), tmp_path / "audit.html")
    told = " ".join(page.text.split())
    assert "Audit of data" in told
    assert "9 images. 3 problems" in told
    for meaning in {**PROBLEMS, **REMARKS}.values():
        assert meaning in told
        assert meaning.capitalize() in told
    assert "test/dog/copy.png; train/cat/1.png" in told
    assert "train/cat/broken.png" in told
    # Two pictures of each pair; what is broken has none.
    assert len(page.addresses) == 2 * 5


def test_the_page_of_a_clean_folder_says_so_and_has_no_picture(tmp_path: Path) -> None:
    _, page = page_of(audit_folder(clean(tmp_path / "data")), tmp_path / "audit.html")
    assert "No problem that forbids training" in " ".join(page.text.split())
    assert page.addresses == []


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text, page = page_of(audit_folder(everything(tmp_path / "data")), tmp_path / "audit.html")
    assert page.addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert not page.tags & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for word in ("http:", "https:", "url(", "@import", str(tmp_path)):
        assert word not in text


def test_the_page_shows_names_as_they_are_and_runs_none_of_them(tmp_path: Path) -> None:
    label, name = "<script>alert(1)", "<img src=x onerror=alert(2)>\n&amp;\"'.png"
    broken(tmp_path / "<b>data" / label / name)
    copy(
        picture(tmp_path / "<b>data/cat" / name, 1),
        tmp_path / "<b>data" / label / f"copy of {name}",
    )
    text, page = page_of(audit_folder(tmp_path / "<b>data"), tmp_path / "audit.html")
    assert f"{label}/{name}" in page.text
    assert f"{label} and cat" in page.text
    assert "Audit of <b>data" in page.text
    assert not page.tags & {"script", "b"}
    assert "onerror" not in page.names
    assert all(address.startswith("data:image/jpeg;base64,") for address in page.addresses)
    assert "<script" not in text


def test_the_page_shows_the_first_cases_and_says_of_how_many(tmp_path: Path) -> None:
    for seed in range(14):
        first = picture(tmp_path / f"data/cat/{seed:02}.png", seed)
        for number in range(4):
            copy(first, tmp_path / f"data/cat/{seed:02}_{number}.png")
    audit = audit_folder(tmp_path / "data")
    assert found(audit) == {"duplicate": 14}
    _, page = page_of(audit, tmp_path / "audit.html")
    assert "14 found, 12 shown." in page.text
    assert len(page.addresses) == 12 * 4
    assert "cat/11_3.png" in page.text
    assert "cat/12" not in page.text


# The command


def test_the_command_exits_0_for_a_clean_folder_and_1_for_a_problem(tmp_path: Path) -> None:
    result = run(clean(tmp_path))
    assert (result.exit_code, result.stdout) == (0, "")
    assert "4 images, no problem" in result.stderr
    copy(tmp_path / "cat/1.png", tmp_path / "dog/copy.png")
    result = run(tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "label conflict: cat/1.png; dog/copy.png (cat and dog)" in result.stderr
    assert "5 images, 1 problem" in result.stderr


@pytest.mark.parametrize("kind", list(REMARKS))
def test_remarks_fail_the_command_only_where_it_is_strict(tmp_path: Path, kind: str) -> None:
    if kind == "duplicate":
        copy(clean(tmp_path) / "cat/1.png", tmp_path / "cat/copy.png")
    elif kind == "near duplicate":
        picture(clean(tmp_path) / "cat/again.jpg", 0, quality=60)
    else:
        picture(tmp_path / "train/sick/person1_virus_1.png", 0)
        picture(tmp_path / "test/sick/person1_virus_2.png", 1)
    assert found(audit_folder(tmp_path)) == {kind: 1}
    assert run(tmp_path).exit_code == 0
    assert run(tmp_path, "--strict").exit_code == 1


def test_a_strict_command_exits_0_for_a_clean_folder(tmp_path: Path) -> None:
    assert run(clean(tmp_path), "--strict").exit_code == 0


def test_the_command_shows_counts_by_class_and_kind(tmp_path: Path) -> None:
    result = run(everything(tmp_path))
    lines = [line.split() for line in result.stderr.splitlines()]
    assert ["class", "test", "train"] in lines
    assert ["cat", "0", "3"] in lines
    assert ["dog", "3", "3"] in lines
    for meaning in {**PROBLEMS, **REMARKS}.values():
        assert [*meaning.split(), "1"] in lines


def test_the_command_shows_class_names_as_they_are(tmp_path: Path) -> None:
    picture(tmp_path / "[red]cat/1.png", 0)
    assert re.search(r"^\[red\]cat +1$", run(tmp_path).stderr, re.MULTILINE)


@pytest.mark.parametrize("name", ["missing", "file", "empty"])
def test_a_wrong_folder_exits_2_and_is_named(tmp_path: Path, name: str) -> None:
    broken(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    result = run(tmp_path / name)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("medkit: error: ")
    assert str(tmp_path / name) in line


def test_the_command_writes_the_reports_even_where_it_exits_1(tmp_path: Path) -> None:
    reports = tmp_path / "new/audit.json", tmp_path / "new/audit.html"
    result = run(everything(tmp_path / "data"), "--json", reports[0], "--html", reports[1])
    assert result.exit_code == 1
    assert json.loads(reports[0].read_text())["summary"]["split leak"] == 1
    assert "test and train" in Page(reports[1].read_text()).text


@pytest.mark.parametrize("option", ["--json", "--html"])
def test_a_report_that_cannot_be_written_is_refused_before_any_image_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    clean(tmp_path / "data")
    monkeypatch.setattr(medkit.audit, "audit_folder", None)  # a call would be no exit status 2
    file = broken(tmp_path / "file")
    result = run(tmp_path / "data", option, file / "report")
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr
    result = run(tmp_path / "data", option, tmp_path)
    assert result.exit_code == 2
    assert f"{tmp_path} is a folder; name a file in it" in result.stderr


def test_an_old_report_does_not_outlive_a_run_that_fails(tmp_path: Path) -> None:
    old = broken(tmp_path / "audit.json")
    (tmp_path / "data").mkdir()
    assert run(tmp_path / "data", "--json", old).exit_code == 2
    assert not old.exists()


# The real data sets


@pytest.mark.data
def test_the_real_skin_images_have_155_conflicts_and_18_leaks(real_data: Path) -> None:
    audit = audit_folder(locate_dataset(SKIN, real_data))
    assert audit.summary() == {
        "images": 2359,
        "unreadable": 0,
        "label conflict": 155,
        "split leak": 18,
        "duplicate": 159,
        "near duplicate": 3,
        "shared patient": 0,
        "label conflict across splits": 18,
    }
    assert audit.patients == {}
    assert set(audit.sources) == {"Train", "Test"}


@pytest.mark.data
def test_the_real_xrays_have_duplicates_and_shared_patients_but_no_conflict(
    real_data: Path,
) -> None:
    audit = audit_folder(locate_dataset(PNEUMONIA, real_data))
    assert audit.summary() == {
        "images": 5840,
        "unreadable": 0,
        "label conflict": 0,
        "split leak": 0,
        "duplicate": 30,
        "near duplicate": 0,
        "shared patient": 170,
        "label conflict across splits": 0,
    }
    assert audit.patients == {"test": 427, "train": 2846}
    assert audit.sources == {}
