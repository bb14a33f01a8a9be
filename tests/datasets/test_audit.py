"""The audit: each kind of finding on made folders, what is written of it, and the real data."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import imagehash
import pytest
from PIL import Image

import medkit.datasets.audit
from auditfiles import KINDS, broken, clean, copy, drawing, drawn, everything, found
from medkit.datasets.audit import NEAR_BITS, Audit, audit_folder, write_audit_json
from medkit.datasets.labels import Labels, read_labels_map
from medkit.datasets.location import locate_dataset
from medkit.errors import DatasetLayoutError, MissingExtraError
from medkit.images.reading import open_image
from medkit.tasks import PNEUMONIA, SKIN, Task


def only(audit: Audit, kind: str) -> tuple[tuple[str, ...], str]:
    """Return images and detail of the one finding of a kind."""
    (finding,) = audit.of(kind)
    return finding.images, finding.detail


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
        drawing(tmp_path / name, seed)
    assert audit_folder(tmp_path).counts == {"train": {"cat": 2}, "test": {"dog": 1}}


def test_a_file_that_cannot_be_decoded_is_named_with_the_reason(tmp_path: Path) -> None:
    whole = drawing(clean(tmp_path) / "cat/3.jpg", 9).read_bytes()
    broken(tmp_path / "cat/3.jpg", whole[: len(whole) // 2])
    broken(tmp_path / "dog/text.png")
    audit = audit_folder(tmp_path)
    assert found(audit) == {"unreadable": 2}
    half, text = audit.of("unreadable")
    assert (half.images, text.images) == (("cat/3.jpg",), ("dog/text.png",))
    assert "ends before its pixels do" in half.detail
    assert "not an image of an accepted format" in text.detail
    assert audit.problems == 2


def test_files_that_cannot_be_decoded_are_counted_but_not_compared(tmp_path: Path) -> None:
    for name in ("cat/a.png", "cat/b.png", "dog/a.png"):
        broken(clean(tmp_path) / name)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"unreadable": 3}
    assert audit.images == 7
    assert audit.sizes == {"96x80": 4}


def test_a_folder_with_broken_files_only_can_be_audited(tmp_path: Path) -> None:
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


def test_conflicts_across_splits_are_counted_apart_from_those_within_a_split(
    tmp_path: Path,
) -> None:
    clean(tmp_path / "train")
    copy(tmp_path / "train/cat/1.png", tmp_path / "train/dog/within.png")
    audit = audit_folder(tmp_path)
    drawing(tmp_path / "test/cat/fine.png", 7)
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


def jpeg_with_comment(content: bytes, comment: bytes) -> bytes:
    """Return a JPEG file with a comment behind its first marker."""
    size = (len(comment) + 2).to_bytes(2, "big")
    return content[:2] + b"\xff\xfe" + size + comment + content[2:]


def test_the_same_pixels_in_other_bytes_are_the_same_image(tmp_path: Path) -> None:
    clean(tmp_path / "train")
    content = (tmp_path / "train/cat/2.jpg").read_bytes()
    broken(tmp_path / "test/dog/again.jpg", jpeg_with_comment(content, b"anonymised"))
    audit = audit_folder(tmp_path)
    assert found(audit) == {"label conflict": 1, "split leak": 1, "duplicate": 1}
    images = ("test/dog/again.jpg", "train/cat/2.jpg")
    assert only(audit, "duplicate") == (images, "2 files of the same pixels")
    assert only(audit, "label conflict") == (images, "dog and cat")
    assert audit.problems == 2


@pytest.mark.parametrize("side", [96, 1200])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".webp"])
def test_a_copy_without_loss_in_another_format_is_a_duplicate(
    tmp_path: Path, suffix: str, side: int
) -> None:
    """A large JPEG is scaled while it is decoded for a model; its copy is not."""
    first = drawing(clean(tmp_path) / "cat/large.jpg", 40, size=(side, side))
    with Image.open(first) as picture:
        picture.save(tmp_path / f"cat/copy{suffix}", lossless=True)
    assert found(audit_folder(tmp_path)) == {"duplicate": 1}


def test_a_turned_copy_and_a_grey_one_in_colour_are_duplicates(tmp_path: Path) -> None:
    turned = drawn(40)
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "cat").mkdir()
    turned.save(tmp_path / "cat/turned.png", exif=exif)
    turned.transpose(Image.Transpose.ROTATE_270).save(tmp_path / "cat/upright.png")
    grey = drawn(41).convert("L")
    grey.save(tmp_path / "cat/grey.png")
    grey.convert("RGB").save(tmp_path / "cat/grey-in-colour.png")
    assert found(audit_folder(tmp_path)) == {"duplicate": 2}


def test_one_other_pixel_is_another_image(tmp_path: Path) -> None:
    image = drawn(40)
    (tmp_path / "cat").mkdir()
    image.save(tmp_path / "cat/1.png")
    image.putpixel((3, 3), (1, 2, 3))
    image.save(tmp_path / "cat/2.png")
    assert found(audit_folder(tmp_path)) == {"near duplicate": 1}


def test_an_image_that_was_saved_again_is_a_near_duplicate(tmp_path: Path) -> None:
    drawing(clean(tmp_path) / "cat/again.jpg", 0, quality=60)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"near duplicate": 1}
    images, _ = only(audit, "near duplicate")
    assert images == ("cat/1.png", "cat/again.jpg")
    assert audit.problems == 0


def test_an_image_that_was_made_a_little_smaller_is_a_near_duplicate(tmp_path: Path) -> None:
    smaller = drawn(2).resize((90, 75), Image.Resampling.BILINEAR)
    smaller.save(clean(tmp_path) / "dog/smaller.png")
    audit = audit_folder(tmp_path)
    assert found(audit) == {"near duplicate": 1}
    assert only(audit, "near duplicate")[0] == ("dog/1.png", "dog/smaller.png")


def test_near_duplicates_have_imagehashs_distance_and_the_nearest_are_first(
    tmp_path: Path,
) -> None:
    clean(tmp_path)
    drawing(tmp_path / "cat/rough.jpg", 0, quality=40)
    drawing(tmp_path / "dog/fine.jpg", 2, quality=95)
    findings = audit_folder(tmp_path).of("near duplicate")
    expected = []
    for pair in (("dog/1.png", "dog/fine.jpg"), ("cat/1.png", "cat/rough.jpg")):
        first, second = (
            imagehash.phash(Image.open(tmp_path / name), hash_size=16) for name in pair
        )
        expected.append((pair, f"{first - second} of 256 bits differ"))
    assert [(finding.images, finding.detail) for finding in findings] == expected
    distances = [int(finding.detail.split()[0]) for finding in findings]
    assert 0 <= distances[0] < distances[1] <= NEAR_BITS


def test_exact_copies_are_compared_as_one_image(tmp_path: Path) -> None:
    copy(clean(tmp_path) / "cat/1.png", tmp_path / "cat/copy.png")
    drawing(tmp_path / "cat/again.jpg", 0, quality=60)
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
        drawing(tmp_path / name, seed)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"shared patient": 1}
    images, patient = only(audit, "shared patient")
    assert set(images) == {names[0], names[3]}
    assert patient == "IM-0007"
    assert audit.patients == {"test": 2, "train": 3}
    assert audit.problems == 0


def test_a_patient_with_several_images_in_one_split_is_no_finding(tmp_path: Path) -> None:
    for seed, name in enumerate(("person1_virus_1.png", "person1_virus_2.png")):
        drawing(tmp_path / "PNEUMONIA" / name, seed)
        drawing(tmp_path / "NORMAL" / name.replace("virus", "bacteria"), 2 + seed)
    audit = audit_folder(tmp_path)
    assert audit.findings == ()
    assert audit.patients == {"": 1}


def test_only_the_named_folders_are_read(tmp_path: Path) -> None:
    clean(tmp_path / "train")
    drawing(tmp_path / "test/cat/9.png", 9)
    # Kaggle's archive of the X-rays holds the whole set a second time, one folder deeper.
    copy(tmp_path / "train/cat/1.png", tmp_path / "again/train/cat/1.png")
    with pytest.raises(DatasetLayoutError, match="again holds splits of its own"):
        audit_folder(tmp_path)
    audit = audit_folder(tmp_path, only=("train", "test"))
    assert (audit.images, audit.findings) == (5, ())
    assert list(audit.counts) == ["test", "train"]


def test_files_of_the_same_name_are_no_shared_patient(tmp_path: Path) -> None:
    drawing(tmp_path / "train/cat/scan.png", 0)
    drawing(tmp_path / "test/cat/scan.png", 1)
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


# What is counted


def test_sizes_are_those_of_the_files_and_not_of_the_decoded_images(tmp_path: Path) -> None:
    large = drawing(tmp_path / "cat/large.jpg", 0, size=(1200, 900))
    assert open_image(large).size == (600, 450)
    for seed in (1, 2):
        drawing(tmp_path / f"cat/{seed}.png", seed, size=(96, 80))
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
        drawing(tmp_path / name, seed)
    audit = audit_folder(tmp_path)
    assert audit.findings == ()
    assert audit.sources == {
        "Train": {"nevus": {"ISIC_0000xxx": 2, "HAM10000": 1}, "melanoma": {"HAM10000": 1}},
        "Test": {"nevus": {"ISIC_0010xxx": 1}},
    }


def test_hidden_files_and_files_that_are_no_images_are_ignored(tmp_path: Path) -> None:
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


def test_a_path_that_is_no_folder_is_refused(tmp_path: Path) -> None:
    file = broken(tmp_path / "file")
    for path in (tmp_path / "missing", file):
        with pytest.raises(DatasetLayoutError):
            audit_folder(path)


@pytest.mark.parametrize("split", ["", "train/"])
def test_images_in_folders_below_a_class_are_of_that_class(tmp_path: Path, split: str) -> None:
    for seed, name in enumerate(("own.png", "patient1/1.png", "patient1/left/2.png")):
        drawing(tmp_path / f"{split}cat" / name, seed)
    drawing(tmp_path / f"{split}dog/1.png", 7)
    audit = audit_folder(tmp_path)
    assert audit.counts == {split.rstrip("/"): {"cat": 3, "dog": 1}}
    assert audit.left_out == ()


def test_a_patients_folder_in_two_splits_is_a_shared_patient(tmp_path: Path) -> None:
    for seed, name in enumerate(("train/cat/p1/a.png", "test/cat/p1/b.png", "test/cat/p2/a.png")):
        drawing(tmp_path / name, seed)
    audit = audit_folder(tmp_path)
    assert found(audit) == {"shared patient": 1}
    assert only(audit, "shared patient")[1] == "p1"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("data/train/cat/1.png", "data holds splits of its own, so it is a set; name that folder"),
        ("cat/test/1.png", "cat holds splits of its own"),
        ("cat/patient1/1.png", "cannot be told whether 'cat' is a class or a split"),
    ],
)
def test_what_could_be_a_split_or_a_class_is_refused(tmp_path: Path, name: str, told: str) -> None:
    drawing(tmp_path / name, 8)
    with pytest.raises(DatasetLayoutError) as caught:
        audit_folder(tmp_path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_label_that_is_known_tells_classes_from_splits(tmp_path: Path) -> None:
    drawing(tmp_path / "cat/patient1/1.png", 8)
    drawing(tmp_path / "dog/patient1/1.png", 9)
    expected = {"": {"cat": 1, "dog": 1}}
    labels = Labels(None, read_labels_map(["CAT=cat", "dog=dog"]))
    assert audit_folder(tmp_path, labels=labels).counts == expected
    assert audit_folder(tmp_path, labels=Labels(("cat", "dog"))).counts == expected
    drawing(tmp_path / "xrays/NORMAL/patient1/1.png", 8)
    drawing(tmp_path / "xrays/normal/2.png", 9)
    # "NORMAL" is a label of a task that is built in.
    assert audit_folder(tmp_path / "xrays").counts == {"": {"NORMAL": 2}}


def test_a_class_that_is_spelt_in_two_ways_is_one_class(tmp_path: Path) -> None:
    drawing(tmp_path / "train/Cat/1.png", 1)
    copy(tmp_path / "train/Cat/1.png", tmp_path / "test/cat/1.png")
    audit = audit_folder(tmp_path)
    assert audit.counts == {"test": {"cat": 1}, "train": {"cat": 1}}
    assert found(audit) == {"split leak": 1, "duplicate": 1}


def test_images_that_have_no_label_are_named(tmp_path: Path) -> None:
    drawing(clean(tmp_path) / "loose.png", 1)
    drawing(tmp_path / "cat/.hidden.png", 1)
    (tmp_path / "notes.txt").write_text("no image")
    audit = audit_folder(tmp_path)
    assert audit.images == 4
    assert [(each.name, each.reason) for each in audit.left_out] == [
        ("cat/.hidden.png", "in hidden files and folders"),
        ("loose.png", "beside the class folders"),
    ]


def test_without_imagehash_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imagehash", None)
    monkeypatch.setattr(medkit.datasets.audit, "take_fingerprints", None)  # nothing is read before
    with pytest.raises(MissingExtraError, match=r"imagehash is needed .*medkit-edge\[audit\]"):
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


@pytest.mark.parametrize("task", [None, PNEUMONIA])
def test_a_split_whose_files_are_of_other_types_does_not_vanish(
    tmp_path: Path, task: Task | None
) -> None:
    drawing(tmp_path / "train/NORMAL/1.png", 0)
    (tmp_path / "test/NORMAL").mkdir(parents=True)
    (tmp_path / "test/NORMAL/1.svg").write_bytes(b"<svg>")
    audit = audit_folder(tmp_path, labels=Labels.of(task) if task else None)
    assert audit.counts == {"test": {}, "train": {"NORMAL": 1}}
    assert audit.remarks() == ["passed over: 1 .svg"]


def test_class_folders_behind_links_are_in_their_split(tmp_path: Path) -> None:
    for seed, name in enumerate(("train/cat/1.png", "store/1.png")):
        drawing(tmp_path / "data" / name if seed == 0 else tmp_path / name, seed)
    (tmp_path / "data/test").mkdir()
    (tmp_path / "data/test/cat").symlink_to(tmp_path / "store")
    assert audit_folder(tmp_path / "data").counts == {"test": {"cat": 1}, "train": {"cat": 1}}


def test_images_beside_the_splits_are_named(tmp_path: Path) -> None:
    drawing(tmp_path / "train/cat/1.png", 0)
    drawing(tmp_path / "test/cat/2.png", 1)
    drawing(tmp_path / "loose.png", 2)
    drawing(tmp_path / ".trash/3.png", 3)
    assert audit_folder(tmp_path).remarks() == [
        "left out: 1 image in hidden files and folders: .trash/3.png",
        "left out: 1 image beside the split folders: loose.png",
    ]
