"""What tells the images of a patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from medkit.datasets.grouping import group_names, read_grouping
from medkit.errors import UsageError

NAMES = ["cat/p1_a.png", "dog/p1_b.png", "dog/deep/p22_a.png"]


@pytest.mark.parametrize("pattern", [r"(p\d+)_", r"p\d+(?=_)"])
def test_a_pattern_gives_its_first_group_or_all_that_it_matches(pattern: str) -> None:
    assert list(group_names(read_grouping(pattern), pattern, NAMES).values()) == ["p1", "p1", "p22"]


@pytest.mark.parametrize("key", [str, lambda name: Path(name).name, lambda name: Path(name).stem])
@pytest.mark.parametrize("columns", ["image,group", "path,Patient", "isic_id,lesion_id"])
def test_a_csv_names_images_by_path_name_or_stem(
    tmp_path: Path, key: Callable[[str], str], columns: str
) -> None:
    path = tmp_path / "groups.csv"
    lines = [f"{key(name)},P{place // 2}" for place, name in enumerate(NAMES)]
    path.write_text("\n".join([columns, *lines]))
    found = group_names(read_grouping(str(path)), str(path), NAMES)
    assert list(found.values()) == ["P0", "P0", "P1"]


def test_an_image_without_a_group_is_an_error_with_an_example_and_the_count() -> None:
    with pytest.raises(UsageError) as caught:
        group_names(read_grouping("(p1)_"), "(p1)_", NAMES)
    assert str(caught.value) == (
        "--group-by (p1)_ gives no group for 1 image of 3, such as dog/deep/p22_a.png; extend it "
        "to all images"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image,age\na.png,7\n", "has no column of groups: found image, age; expected"),
        ("image,group\na.png,\n", "line 2: a.png has no group; fill it"),
        ("image,group\na.png,1\na.png,2\n", "line 3: a.png is in the groups 1 and 2; give it one"),
    ],
)
def test_a_csv_that_does_not_fit_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "groups.csv"
    path.write_text(content)
    with pytest.raises(UsageError) as caught:
        read_grouping(str(path))
    assert message in str(caught.value)


def test_what_is_neither_a_file_nor_a_pattern_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no CSV file and no regular expression"):
        read_grouping("(p1")
    with pytest.raises(UsageError, match="gone.csv cannot be read: No such file"):
        read_grouping(str(tmp_path / "gone.csv"))


def test_a_pattern_may_be_longer_than_a_name_of_a_file() -> None:
    pattern = f"({'|'.join(f'patient{number}' for number in range(60))}|p[0-9]+)_"
    assert set(group_names(read_grouping(pattern), pattern, NAMES).values()) == {"p1", "p22"}
