"""Files as medkit writes them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from medkit.errors import ModelFileError
from medkit.files import replacing, sha256_of


def test_a_file_that_is_not_there_has_no_hash(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="gone cannot be read: No such file"):
        sha256_of(tmp_path / "gone")


def test_a_replaced_file_appears_whole_and_alone(tmp_path: Path) -> None:
    target = tmp_path / "new" / "model.onnx"
    with replacing(target) as temporary:
        assert (temporary.parent, temporary.suffix) == (target.parent, ".onnx")
        assert temporary.name.startswith(".")
        temporary.write_text("first")
        assert not target.exists()
    with replacing(target) as temporary:
        temporary.write_text("second")
        assert target.read_text() == "first"
    assert target.read_text() == "second"
    assert os.listdir(target.parent) == ["model.onnx"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_old_file_stays_when_the_block_raises(
    tmp_path: Path, error: type[BaseException]
) -> None:
    target = tmp_path / "a.json"
    target.write_text("old")

    def write() -> None:
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_block_that_raises_leaves_nothing_where_nothing_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="stop"), replacing(tmp_path / "a.json"):
        raise ValueError("stop")
    assert os.listdir(tmp_path) == []


def test_a_replaced_file_has_the_rights_of_any_new_file(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with replacing(tmp_path / "a.json"):
            pass
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o640
