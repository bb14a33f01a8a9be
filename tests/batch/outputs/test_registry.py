"""Which outputs are accepted."""

from __future__ import annotations

from pathlib import Path

import pytest

from medkit.batch.outputs.registry import output_for, outputs
from medkit.errors import UsageError


@pytest.mark.parametrize("name", ["o.txt", "o", "o.csv.gz", ".csv"])
def test_unknown_suffixes_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match=r"accepted: \.csv, \.jsonl, or -"):
        output_for(tmp_path / name)


def test_output_folder_must_exist_and_output_must_be_no_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="does not exist"):
        output_for(tmp_path / "missing" / "o.csv")
    (tmp_path / "d.csv").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        output_for(tmp_path / "d.csv")
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("name", ["o.csv", "O.CSV", "o.jsonl"])
def test_good_outputs_pass_and_are_not_made(tmp_path: Path, name: str) -> None:
    output_for(tmp_path / name)
    output_for(str(tmp_path / name))
    output_for("-")
    assert list(tmp_path.iterdir()) == []


def test_each_suffix_has_one_format() -> None:
    assert list(outputs()) == [".csv", ".jsonl"]
