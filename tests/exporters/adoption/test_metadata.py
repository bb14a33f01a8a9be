from __future__ import annotations

import io
import json
import zipfile

import pytest

from exporters.foreignfiles import metadata_table
from medkit_exporters.adoption.metadata import read_onnx_metadata, read_tflite_metadata
from medkit_exporters.adoption.pixels import PIXEL_RULES, PixelRule


def attached(**files: str) -> bytes:
    stream = io.BytesIO(b"the bytes of a model")
    with zipfile.ZipFile(stream, "a") as archive:
        for name, text in files.items():
            archive.writestr(name.replace("_", "."), text)
    return stream.getvalue()


def test_a_label_file_is_read_line_by_line() -> None:
    table = metadata_table([], [], "labels.txt")
    told = read_tflite_metadata(attached(labels_txt="\ufeffa\r\n b c \nd\n\n"), table)
    assert told.labels == ("a", "b c", "d")
    assert told.pixels is None


def test_a_file_that_is_named_and_not_attached_gives_no_labels() -> None:
    assert not read_tflite_metadata(b"no archive", metadata_table([], [], "labels.txt")).labels


def test_the_description_that_ultralytics_attaches_is_read() -> None:
    told = read_tflite_metadata(attached(metadata_json=json.dumps({"names": {"0": "a"}})), None)
    assert told.labels == ("a",)
    told = read_tflite_metadata(attached(meta_txt=str({"names": {0: "a", 1: "b"}})), None)
    assert (told.labels, told.labels_from) == (("a", "b"), "meta.txt in the file")


@pytest.mark.parametrize(
    ("mean", "std", "name"),
    [
        ([0.0], [255.0], "0..1"),
        ([0.0], [1.0], "0..255"),
        ([127.5], [127.5], "-1..1"),
        ([127.5] * 3, [127.5] * 3, "-1..1"),
        ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375], "imagenet"),
    ],
)
def test_a_normalisation_is_known_by_what_it_computes(
    mean: list[float], std: list[float], name: str
) -> None:
    told = read_tflite_metadata(b"", metadata_table(mean, std, "labels.txt"))
    assert told.pixels == PIXEL_RULES[name]


def test_another_normalisation_is_a_rule_of_its_own() -> None:
    told = read_tflite_metadata(b"", metadata_table([10.0], [50.0], "labels.txt"))
    assert told.pixels == PixelRule("10/50", (0.02,), (-0.2,))


@pytest.mark.parametrize(
    "table", [b"\xff" * 64, b"\x10\x00", metadata_table([1.0], [2.0], "x")[:40]]
)
def test_a_damaged_table_is_told(table: bytes) -> None:
    with pytest.raises(ValueError, match="its TFLite Metadata are damaged"):
        read_tflite_metadata(b"", table)


def test_a_property_that_is_no_list_of_labels_gives_none() -> None:
    for text in ("one word", "3", "[1.5, 2.5]", '{"a": "b"}', "a,,b"):
        assert not read_onnx_metadata({"labels": text}).labels
    assert read_onnx_metadata({"labels": "a, b"}).labels == ("a", "b")
