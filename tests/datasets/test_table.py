"""The table of labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.datasets.labels import Labels
from medkit.datasets.table import find_table, labels_of_table, read_labels_table
from medkit.errors import DatasetLayoutError

CHEST = Labels(("Effusion", "Mass", "Hernia"), {"pleural effusion": "Effusion", "old": ""})


def table(folder: Path, text: str) -> Path:
    """Write a table and the images that it may list."""
    for name in ("a.png", "b.png", "sub/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def read(path: Path, labels: Labels = CHEST, multi_label: bool = True) -> dict[str, list[str]]:
    found = read_labels_table(path, labels, multi_label=multi_label)
    return {row.name: list(row.labels) for row in found.rows}


def test_a_column_for_each_label_holds_ones_and_zeros(tmp_path: Path) -> None:
    path = table(
        tmp_path,
        "file,Hernia,EFFUSION,Mass,age\na.png,1,0,1.0,7\nb.png,0,,0.0,8\nsub\\c.png,,1,,9\n",
    )
    assert read(path) == {"a.png": ["Mass", "Hernia"], "b.png": [], "sub/c.png": ["Effusion"]}
    found = read_labels_table(path, CHEST, multi_label=True)
    assert found.rows[2].path == tmp_path / "sub/c.png"
    assert found.remarks() == ["labels.csv: columns that are not used: age"]


@pytest.mark.parametrize("column", ["labels", "label", "Finding Labels"])
@pytest.mark.parametrize("none", ["", "none", "No Finding"])
def test_one_column_names_them(tmp_path: Path, column: str, none: str) -> None:
    text = f"image,{column}\na.png,mass|Effusion\nb.png,{none}\nsub/c.png,Hernia; old\n"
    assert read(table(tmp_path, text)) == {
        "a.png": ["Effusion", "Mass"],
        "b.png": [],
        "sub/c.png": ["Hernia"],
    }


def test_columns_tell_patient_and_split(tmp_path: Path) -> None:
    text = "Image Index,Finding Labels,Patient ID,Split\na.png,Mass,7,train\nb.png,Hernia,8,test\n"
    found = read_labels_table(table(tmp_path, text), CHEST)
    assert [(row.group, row.split) for row in found.rows] == [("7", "train"), ("8", "test")]
    assert found.remarks() == []


def test_an_image_whose_label_the_map_leaves_out_is_named(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label\na.png,Mass\nb.png,Old\nsub/c.png,Pleural Effusion\n")
    found = read_labels_table(path, CHEST)
    assert [(row.name, row.labels) for row in found.rows] == [
        ("a.png", ("Mass",)),
        ("sub/c.png", ("Effusion",)),
    ]
    assert [each.name for each in found.left_out] == ["b.png"]


def test_labels_are_found_where_no_task_tells_them(tmp_path: Path) -> None:
    path = table(tmp_path, "image,label,patient\na.png,zebra,1\nb.png,ape|none,2\n")
    assert labels_of_table(path) == ("ape", "zebra")
    path = table(tmp_path, "image,zebra,ape,age,patient\na.png,1,0,7,1\nb.png,,1,8,0\n")
    assert labels_of_table(path) == ("zebra", "ape")


def test_a_table_is_named_or_lies_in_the_folder(tmp_path: Path) -> None:
    assert find_table(tmp_path) is None
    path = table(tmp_path, "image,label\n")
    assert find_table(tmp_path) == find_table(path) == path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,label\n", "has a header and no row"),
        ("image,age\na.png,7\n", "has no column of labels: found image, age; expected"),
        ("image,Mass,Hernia\na.png,1,0\n", "has no column for Effusion; expected one for each"),
        ("i,Mass,Hernia,Effusion\na.png,1,0,-1\n", "line 2: Effusion is '-1'; accepted: 1, 0, or"),
        (
            "i,Mass,Hernia,Effusion,pleural effusion\na.png,1,0,1,1\n",
            "has the columns 'Effusion' and 'pleural effusion' for Effusion; leave one",
        ),
        ("image,label\na.png,Mas\n", "line 2: unknown label 'Mas'; did you mean Mass? accepted:"),
        ("image,label\na.png,Mass\na.png,Mass\n", "line 3: the image a.png stands in line 2"),
        ("image,label\nx.png,Mass\na.png,Mass\n", "1 image of 2 cannot be found, such as x.png"),
        ("image,label\n/x.png,Mass\n", "line 2: /x.png is an absolute path; write it relative"),
        ("image,label\n,Mass\n", "line 2: the first column, the image's path, is empty"),
        ("image,label\na.png,Mass|Hernia\n", "line 2: the image a.png has 2 labels; this task"),
        ("image,label\na.png,\n", "line 2: the image a.png has 0 labels; this task takes exactly"),
    ],
)
def test_what_does_not_fit_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetLayoutError) as caught:
        read_labels_table(table(tmp_path, text), CHEST)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
