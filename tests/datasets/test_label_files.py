"""Files that hold labels in the order of a model's outputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.datasets.label_files import BESIDE, labels_beside, read_label_file
from medkit.errors import UsageError


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("labels.txt", "b, x\n a\nc\n\n"),
        ("labels.json", '["b, x", "a", "c"]'),
        ("indices.json", '{"a": 1, "b, x": 0, "c": 2}'),
        ("names.json", '{"1": "a", "0": "b, x", "2": "c"}'),
    ],
)
def test_each_form_keeps_the_order(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    assert read_label_file(path) == ("b, x", "a", "c")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("labels.json", b"3", "it is neither a list of texts nor an object"),
        ("labels.json", b"[1, 2]", "it is neither a list of texts nor an object"),
        ("labels.json", b'{"a": 1, "b": 2}', "its numbers are not 0 to 1, each once"),
        ("labels.json", b'{"a": "b"}', "its values are not the numbers of labels"),
        ("labels.txt", b"\xff\xfe", "holds no labels"),
    ],
)
def test_a_file_without_labels_is_one_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(
        UsageError, match=f"{name} .*{message}.*a text file with a label a"
    ) as caught:
        read_label_file(path)
    assert "\n" not in str(caught.value)


def test_labels_lie_in_a_models_folder_or_beside_its_file(tmp_path: Path) -> None:
    assert labels_beside(tmp_path) is None
    for name in reversed(BESIDE):
        (tmp_path / name).write_text("a\nb\n")
        assert labels_beside(tmp_path) == labels_beside(tmp_path / "model.h5") == tmp_path / name
