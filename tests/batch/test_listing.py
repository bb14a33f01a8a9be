"""What the walk over files and folders yields, and in which order."""

from __future__ import annotations

import inspect
import io
import os
import sys
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from medkit.batch import listing
from medkit.batch.listing import (
    Inputs,
    ListedImage,
    check_inputs,
    count_images,
    counting,
    find_images,
    walk,
)
from medkit.errors import NoImagesError, UsageError
from medkit.images.entries import PassedOver


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def names(*inputs: Path, **patterns: tuple[str, ...]) -> list[str]:
    return [found.name for found in walk(Inputs(inputs, **patterns))]


def forbid(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Make a folder unlistable, for root as well."""
    scandir = os.scandir

    def guarded(path: Any) -> Any:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)


def test_files_and_folders_are_sorted_together_by_code_point(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a/z.png", "a/B/1.png", "a.png", "Z.png", "é.png", "a/c.png")
    assert names(tmp_path) == [
        "Z.png",
        "a/B/1.png",
        "a/c.png",
        "a/z.png",
        "a.png",
        "b.png",
        "é.png",
    ]


def test_paths_can_be_opened(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.png")
    assert list(walk(Inputs((tmp_path,)))) == [ListedImage(tmp_path / "a/b.png", "a/b.png")]


def test_suffix_decides_in_a_folder_but_not_for_an_argument(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "b.txt", "c", "d.tiff", "e.png.part")
    assert names(tmp_path) == ["a.JPG", "d.tiff"]
    assert names(tmp_path / "b.txt") == ["b.txt"]


def test_hidden_entries_are_skipped_unless_given(tmp_path: Path) -> None:
    touch(tmp_path, ".a.png", ".git/b.png", "__MACOSX/c.png", "d.png")
    assert names(tmp_path) == ["d.png"]
    assert names(tmp_path / ".git") == ["b.png"]
    assert names(tmp_path / ".a.png") == [".a.png"]


def test_several_arguments_keep_their_order_and_begin_the_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "two/x.png", "one/x.png", "y.png")
    monkeypatch.chdir(tmp_path)
    assert names(Path("two"), Path("y.png"), Path("one")) == ["two/x.png", "y.png", "one/x.png"]
    assert names(Path("one/x.png"), Path("two/x.png")) == ["one/x.png", "two/x.png"]
    assert names(tmp_path, Path("one"))[0] == f"{tmp_path.as_posix()}/one/x.png"


def test_an_argument_given_twice_is_listed_twice(tmp_path: Path) -> None:
    touch(tmp_path, "x.png")
    assert len(names(tmp_path, tmp_path)) == 2


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        ({"include": ("*.PNG",)}, ["a.png", "sub/thumb_b.png"]),
        ({"include": ("sub/*",)}, ["sub/deep/c.jpg", "sub/thumb_b.png"]),
        ({"include": ("C.*", "a.*")}, ["a.png", "sub/deep/c.jpg"]),
        ({"exclude": ("thumb_*",)}, ["a.png", "sub/deep/c.jpg"]),
        ({"exclude": ("DEEP",)}, ["a.png", "sub/thumb_b.png"]),
        ({"include": ("sub/*",), "exclude": ("*.jpg",)}, ["sub/thumb_b.png"]),
    ],
)
def test_patterns_match_relative_path_and_name_in_any_case(
    tmp_path: Path, patterns: dict[str, tuple[str, ...]], expected: list[str]
) -> None:
    touch(tmp_path, "a.png", "sub/thumb_b.png", "sub/deep/c.jpg")
    assert names(tmp_path, **patterns) == expected


def test_patterns_hold_for_file_arguments(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.png")
    kept = names(tmp_path / "a.png", tmp_path / "b.png", exclude=("b*",))
    assert kept == [(tmp_path / "a.png").as_posix()]


def test_folder_links_are_not_followed_and_file_links_are(tmp_path: Path) -> None:
    outside = touch(tmp_path / "outside", "o.png")
    inside = touch(tmp_path / "inside", "sub/a.png")
    (inside / "sub" / "loop").symlink_to(inside, target_is_directory=True)
    (inside / "folder.png").symlink_to(outside, target_is_directory=True)
    (inside / "link.png").symlink_to(outside / "o.png")
    assert names(inside) == ["link.png", "sub/a.png"]


def test_a_link_given_as_argument_is_followed(tmp_path: Path) -> None:
    touch(tmp_path / "real", "a.png")
    (tmp_path / "link").symlink_to(tmp_path / "real", target_is_directory=True)
    assert names(tmp_path / "link") == ["a.png"]


def test_links_that_lead_nowhere_are_listed(tmp_path: Path) -> None:
    (tmp_path / "gone.png").symlink_to(tmp_path / "nothing")
    (tmp_path / "self.png").symlink_to(tmp_path / "self.png")
    assert names(tmp_path) == ["gone.png", "self.png"]


def test_pipes_are_not_listed_and_not_accepted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe.png")
    touch(tmp_path, "a.png")
    assert names(tmp_path) == ["a.png"]
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        check_inputs(Inputs((tmp_path / "pipe.png",)))


def test_an_unreadable_sub_folder_is_an_entry_in_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "b/x.png", "c.png")
    forbid(monkeypatch, tmp_path / "b")
    assert [(found.name, found.error) for found in walk(Inputs((tmp_path,)))] == [
        ("a.png", ""),
        ("b", "folder cannot be read: Permission denied"),
        ("c.png", ""),
    ]
    assert names(tmp_path, exclude=("b",)) == ["a.png", "c.png"]


def test_depth_is_not_bounded_by_recursion(tmp_path: Path) -> None:
    touch(tmp_path, "d/" * 300 + "a.png")
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 100)
    try:
        found = names(tmp_path)
    finally:
        sys.setrecursionlimit(limit)
    assert found == ["d/" * 300 + "a.png"]


def test_folders_are_read_when_their_turn_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", "c/1.png")
    forbid(monkeypatch, tmp_path / "c")
    found = walk(Inputs((tmp_path,)))
    assert next(found).name == "a/1.png"
    monkeypatch.undo()
    assert [entry.error for entry in found] == ["", ""]


def test_arguments_are_checked_before_anything_is_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a.png", "locked/b.png")
    with pytest.raises(UsageError, match="no file or folder .*missing"):
        find_images(Inputs((tmp_path, tmp_path / "missing")))
    with pytest.raises(UsageError, match="give image files or folders"):
        find_images(Inputs())
    forbid(monkeypatch, tmp_path / "locked")
    with pytest.raises(UsageError, match="locked cannot be read"):
        find_images(Inputs((tmp_path / "locked",)))


def test_no_image_is_an_error_of_the_call(tmp_path: Path) -> None:
    touch(tmp_path, "a.txt")
    with pytest.raises(NoImagesError, match=r"no image in .*accepted in a folder: \.avif, \.bmp"):
        find_images(Inputs((tmp_path,)))
    touch(tmp_path, "a.png")
    with pytest.raises(NoImagesError, match="include and exclude patterns"):
        find_images(Inputs((tmp_path,), exclude=("*",)))
    assert [found.name for found in find_images(Inputs((tmp_path,)))] == ["a.png"]


def test_names_that_are_not_utf8_are_listed(tmp_path: Path) -> None:
    try:
        with open(os.fsencode(tmp_path) + b"/\xff.png", "wb"):
            pass
    except OSError:
        pytest.skip("this file system holds UTF-8 names only")
    assert names(tmp_path) == ["\udcff.png"]


def test_counting_agrees_with_the_walk_and_can_be_stopped(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b/c.png", "d.txt")
    stop = Event()
    assert count_images(Inputs((tmp_path,)), stop=stop) == 2
    stop.set()
    assert count_images(Inputs((tmp_path,)), stop=stop) == 0
    with counting(Inputs((tmp_path,), exclude=("b",))) as total:
        assert total.result(timeout=10) == 1


def test_every_argument_must_hold_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "full/a.png", "empty/notes.txt")
    with pytest.raises(NoImagesError, match=r"in .*empty \(passed over: 1 \.txt\); accepted"):
        find_images(Inputs((tmp_path / "full", tmp_path / "empty")))


@pytest.mark.parametrize("pattern", ["b/", "./b", "./b/"])
def test_patterns_may_be_written_as_shells_write_folders(tmp_path: Path, pattern: str) -> None:
    touch(tmp_path, "a.png", "b/c.png")
    assert names(tmp_path, exclude=(pattern,)) == ["a.png"]


# What a name does not tell


def made(path: Path, kind: str = "JPEG") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (8, 8)).save(path, kind)


def passed_over(*inputs: Path, **others: Any) -> dict[str, int]:
    passed = PassedOver()
    list(walk(Inputs(inputs, **others), passed))
    return dict(passed)


def test_images_without_a_suffix_or_with_another_one_are_taken_and_the_rest_is_counted(
    tmp_path: Path,
) -> None:
    for name in ("IM_0001", "1.2.840.113619.2.55.3", "scan.jpe", "photo.heic", "view.dcm"):
        made(tmp_path / "series" / name)
    touch(tmp_path, "a.png", "real.dcm", "IM_9", "notes.txt", "n.TXT", ".a.png", ".git/b.png")
    (tmp_path / "shortcut").symlink_to(tmp_path / "series", target_is_directory=True)
    (tmp_path / "text.txt").write_bytes((tmp_path / "series/scan.jpe").read_bytes())
    for name in ("a.part", "b.crdownload", "c.lnk", "d.iso", "e.bak", "f.json", "g.tmp", "h.dat"):
        made(tmp_path / "wrong" / name)
    (tmp_path / "wrong/BMW.txt").write_text("BMW and other cars")
    assert names(tmp_path) == [
        "a.png",
        "series/1.2.840.113619.2.55.3",
        "series/IM_0001",
        "series/photo.heic",
        "series/scan.jpe",
        "series/view.dcm",
        "text.txt",
        "wrong/a.part",
        "wrong/b.crdownload",
        "wrong/c.lnk",
        "wrong/d.iso",
        "wrong/e.bak",
        "wrong/f.json",
        "wrong/g.tmp",
        "wrong/h.dat",
    ]
    assert passed_over(tmp_path) == {
        ".txt": 3,
        ".dcm": 1,
        "without a suffix": 1,
        "hidden": 1,
        "hidden folders": 1,
        "links to folders": 1,
    }
    assert count_images(Inputs((tmp_path,))) == 15


def test_only_files_with_an_images_suffix_and_hidden_ones_are_not_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(listing, "may_be_image", lambda path: bool(opened.append(path)))
    touch(tmp_path, "a.png", "b.txt", "c.zip", "d.json", ".e", "f", "g.dcm")
    assert names(tmp_path) == ["a.png"]
    assert [Path(path).name for path in opened] == ["b.txt", "c.zip", "d.json", "f", "g.dcm"]


def test_on_request_every_file_that_is_found_is_listed_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.txt", "c", ".d", ".e/x.png", "f/g.zip", "h.png")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    inputs = Inputs((tmp_path,), all_files=True)
    found = list(walk(inputs))
    assert [(each.name, each.error, each.skipped) for each in found] == [
        (".d", "a hidden file", True),
        (".e", "a hidden folder", True),
        ("a.png", "", False),
        ("b.txt", "no image of an accepted format, by its first bytes", True),
        ("c", "no image of an accepted format, by its first bytes", True),
        ("f/g.zip", "no image of an accepted format, by its first bytes", True),
        ("gone", "a link that leads nowhere", True),
        ("h.png", "", False),
        ("pipe", "neither a file nor a folder", True),
    ]
    assert count_images(inputs) == len(found)
    assert passed_over(tmp_path, all_files=True) == passed_over(tmp_path)


@pytest.mark.parametrize(
    ("include", "expected", "passed"),
    [
        (("*",), ["a.png"], {".txt": 1, "without a suffix": 1, "hidden": 1, "hidden folders": 1}),
        (("*.txt",), ["b.txt"], {"hidden folders": 1}),
        (("*.txt", "c"), ["b.txt", "c"], {"hidden folders": 1}),
        ((".d*",), [".d.png"], {"hidden folders": 1}),
        ((".e/*.png", "a*"), [".e/x.png", "a.png"], {}),
        (("sub/*",), [], {"hidden folders": 1}),
    ],
)
def test_a_pattern_brings_in_any_name_that_it_spells(
    tmp_path: Path, include: tuple[str, ...], expected: list[str], passed: dict[str, int]
) -> None:
    touch(tmp_path, "a.png", "b.txt", "c", ".d.png", ".e/x.png")
    assert names(tmp_path, include=include) == expected
    assert passed_over(tmp_path, include=include) == passed


def test_what_patterns_leave_out_is_not_counted(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.txt", "sub/c.txt", "d.zip")
    assert passed_over(tmp_path, exclude=("*.txt",)) == {".zip": 1}
    assert passed_over(tmp_path, exclude=("sub",)) == {".txt": 1, ".zip": 1}


# Lists


def listed(tmp_path: Path, *lines: str) -> Path:
    path = tmp_path / "list.txt"
    path.write_bytes(b"\n".join(map(os.fsencode, lines)))
    return path


def test_a_list_has_an_entry_for_each_line_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "a.png", "b.txt", "sub/c.png", "empty/d.txt", ".e.png")
    lines = ["./a.png", "b.txt", "", "sub", "missing.png", "a.png", "empty", ".e.png", "\udcff"]
    inputs = Inputs(from_file=listed(tmp_path, *lines))
    found = list(find_images(inputs))
    assert [(each.name, each.error) for each in found] == [
        ("./a.png", ""),
        ("b.txt", ""),
        ("sub/c.png", ""),
        ("missing.png", ""),
        ("a.png", ""),
        ("empty", "the folder holds no image"),
        (".e.png", ""),
        ("\udcff", ""),
    ]
    assert count_images(inputs) == len(found)
    assert all(inputs.path_of(each.name) == each.path for each in found if not each.error)


def test_a_list_stands_behind_the_arguments_and_patterns_hold_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "x/a.png", "y/b.png", "y/c.png")
    path = listed(tmp_path, "y/b.png", "y/c.png")
    inputs = Inputs((Path("x"),), exclude=("y/b*",), from_file=path)
    assert [each.name for each in find_images(inputs)] == ["x/a.png", "y/c.png"]


def test_a_list_without_a_path_is_no_input(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError, match="no path in the list .*list.txt; check the list"):
        find_images(Inputs(from_file=listed(tmp_path, "", "  ")))
    with pytest.raises(UsageError, match="nothing.txt cannot be read"):
        find_images(Inputs(from_file=tmp_path / "nothing.txt"))


def test_standard_input_is_read_once_and_its_paths_are_not_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a.png\0b.png")))
    inputs = Inputs(from_file=Path("-"))
    assert [each.name for each in find_images(inputs)] == ["a.png", "b.png"]
    assert count_images(inputs) is None


@pytest.mark.parametrize("beside", [False, True])
def test_a_list_in_a_pipe_is_read_once_and_loses_no_path(tmp_path: Path, beside: bool) -> None:
    touch(tmp_path, "x.png")
    paths = [f"folder/{number:06}.png" for number in range(20_000)]
    reader, writer = os.pipe()

    def feed() -> None:
        with os.fdopen(writer, "w") as stream:
            stream.write("\n".join(paths))

    feeding = Thread(target=feed)
    feeding.start()
    given = (tmp_path / "x.png",) if beside else ()
    inputs = Inputs(given, from_file=Path(f"/dev/fd/{reader}"))
    found = find_images(inputs)
    assert count_images(inputs) is None
    assert [each.name for each in found] == [*map(str, given), *paths]
    feeding.join()
    os.close(reader)


@pytest.mark.parametrize("several", [False, True])
def test_absolute_names_lead_to_the_files_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "x/a.png", "b.png")
    paths = (Path("x"), Path("b.png")) if several else (Path("x"),)
    inputs = Inputs(paths, absolute=True)
    found = [each.name for each in walk(inputs)]
    assert found[0] == f"{tmp_path.as_posix()}/x/a.png"
    monkeypatch.chdir("/")
    assert all(inputs.path_of(name).is_file() for name in found)
