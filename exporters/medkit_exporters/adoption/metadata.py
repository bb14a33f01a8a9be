"""What the metadata of foreign model files tell: labels, and what the input is computed from.

TFLite Metadata is a table of its own inside the file, by
``metadata_schema.fbs`` of TensorFlow Lite Support (version 1.1), and label
files in a zip archive behind it. ONNX files have pairs of a key and a text,
whose form each exporter chooses.
"""

from __future__ import annotations

import ast
import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types

from medkit_exporters.adoption.pixels import PIXEL_RULES, PixelRule

METADATA_NAME = "TFLITE_METADATA"
"""Name of the buffer that holds the table."""

# Places of the fields in their tables: 4 plus twice the field's position in the schema.
_MODEL_SUBGRAPHS = 10
_SUBGRAPH_INPUTS, _SUBGRAPH_OUTPUTS = 8, 10
_TENSOR_UNITS, _TENSOR_FILES = 12, 16
_UNIT_TYPE, _UNIT_OPTIONS = 4, 6
_NORMALIZATION = 1  # in the union ProcessUnitOptions
_MEAN, _STD = 4, 6
_FILE_NAME, _FILE_TYPE = 4, 8
_AXIS_LABELS = 2  # in the enumeration AssociatedFileType

_LABEL_KEYS = ("names", "labels", "label_names", "class_names", "classes", "id2label")
_INDEX_KEYS = ("label2id", "class_to_idx")
_INNER_KEYS = ("config", "pretrained_cfg", "metadata")

_LONGEST = 1 << 24  # bytes of a label file; ImageNet's have 22,000


@dataclass(frozen=True)
class Told:
    """What the metadata of a file tell.

    Attributes
    ----------
    labels, labels_from
        Labels in the order of the outputs, and where they are; both empty if
        there are none.
    pixels
        The rule by which the input is computed from bytes, if it is told.
    """

    labels: tuple[str, ...] = ()
    labels_from: str = ""
    pixels: PixelRule | None = None


def read_tflite_metadata(content: bytes, table: bytes | None) -> Told:
    """Return what TFLite Metadata tell.

    Parameters
    ----------
    content
        The bytes of the file.
    table
        The bytes of the buffer :data:`METADATA_NAME`; ``None`` if there is none.

    Raises
    ------
    ValueError
        If the table, or a file that it names, is damaged.
    """
    files = dict(_attached(content))
    pixels, named = None, ""
    try:
        if table:
            pixels, named = _from_table(table)
        if named and named in files:
            lines = files[named].decode("utf-8-sig").splitlines()
            labels = tuple(line.strip() for line in lines)
            while labels and not labels[-1]:
                labels = labels[:-1]
            return Told(labels, f"{named} in its TFLite Metadata", pixels)
    except Exception as error:
        # Damaged offsets surface as struct, index, type or value errors alike.
        raise ValueError(f"its TFLite Metadata are damaged ({error})") from error
    # Ultralytics attaches a description of its own, and no table.
    for name, held in files.items():
        labels = _labels_in(_parsed(held.decode(errors="replace")))
        if labels:
            return Told(labels, f"{name} in the file", pixels)
    return Told(pixels=pixels)


def read_onnx_metadata(properties: Mapping[str, str]) -> Told:
    """Return what the properties of an ONNX file tell.

    Ultralytics writes ``names`` as a literal of Python, such as
    ``{0: 'cat', 1: 'dog'}``; others write JSON, or a label a line.

    Parameters
    ----------
    properties
        Texts by their keys.
    """
    for key in (*_LABEL_KEYS, *_INDEX_KEYS):
        text = properties.get(key, "")
        labels = _labels_in({key: _parsed(text)}) or _listed(text)
        if labels:
            return Told(labels, f"its metadata property {key}")
    for key in _INNER_KEYS:
        labels = _labels_in(_parsed(properties.get(key, "")))
        if labels:
            return Told(labels, f"its metadata property {key}")
    return Told()


def _attached(content: bytes) -> Iterator[tuple[str, bytes]]:
    """Give the files in the archive behind a TFLite file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.infolist():
                if not member.is_dir() and member.file_size <= _LONGEST:
                    yield member.filename, archive.read(member)
    except zipfile.BadZipFile:
        return  # most files have none


def _from_table(content: bytes) -> tuple[PixelRule | None, str]:
    """Return the rule of the first input, and the name of the first output's label file."""
    root = flatbuffers.encode.Get(number_types.UOffsetTFlags.packer_type, content, 0)
    model = flatbuffers.table.Table(content, root)
    (graph, *_) = [*_tables(model, _MODEL_SUBGRAPHS), None]
    if graph is None:
        return None, ""
    pixels, named = None, ""
    for tensor in _tables(graph, _SUBGRAPH_INPUTS)[:1]:
        for unit in _tables(tensor, _TENSOR_UNITS):
            if _number(unit, _UNIT_TYPE) == _NORMALIZATION:
                pixels = _rule(_table(unit, _UNIT_OPTIONS))
    for tensor in _tables(graph, _SUBGRAPH_OUTPUTS)[:1]:
        files = _tables(tensor, _TENSOR_FILES)
        # Of several, which are translations, the first is the default.
        axis = [item for item in files if _number(item, _FILE_TYPE) == _AXIS_LABELS]
        named = _text(axis[0], _FILE_NAME) if axis else ""
    return pixels, named


def _rule(options: Any) -> PixelRule | None:
    """Return the rule ``(x - mean) / std``."""
    mean, deviation = (_floats(options, field) for field in (_MEAN, _STD))
    if not mean or not deviation or not all(deviation):
        return None
    count = max(len(mean), len(deviation))
    if {len(mean), len(deviation)} - {1, count} or count not in (1, 3):
        raise ValueError(f"{len(mean)} means and {len(deviation)} deviations")
    mean, deviation = mean * (count // len(mean)), deviation * (count // len(deviation))
    rule = PixelRule(
        f"{'/'.join(','.join(f'{number:g}' for number in each) for each in (mean, deviation))}",
        tuple(1 / each for each in deviation),
        tuple(-middle / each for middle, each in zip(mean, deviation, strict=True)),
    )
    return known_rule(rule) or rule


def known_rule(rule: PixelRule) -> PixelRule | None:
    """Return the rule of :data:`PIXEL_RULES` that computes the same to a thousandth, if any."""

    def ends(each: PixelRule) -> Any:
        factors, offsets = (np.broadcast_to(item, 3) for item in (each.multiply, each.add))
        return np.stack([offsets, 255 * factors + offsets])

    for known in PIXEL_RULES.values():
        reach = np.ptp(ends(known), axis=0)
        if known.bgr == rule.bgr and (abs(ends(known) - ends(rule)) <= 1e-3 * reach).all():
            return known
    return None


def _labels_in(found: Any) -> tuple[str, ...]:
    """Return the labels in a parsed text, or an empty tuple."""
    if not isinstance(found, Mapping):
        return ()
    for key in _LABEL_KEYS:
        labels = _in_order(found.get(key))
        if labels:
            return labels
    for key in _INDEX_KEYS:
        places = found.get(key)
        if isinstance(places, Mapping):
            labels = _in_order({place: name for name, place in places.items()})
            if labels:
                return labels
    return next(filter(None, (_labels_in(found.get(key)) for key in _INNER_KEYS)), ())


def _in_order(found: Any) -> tuple[str, ...]:
    """Return the labels of a list, or of a table from each place to its label."""
    if isinstance(found, Mapping):
        try:
            places = {int(place): name for place, name in found.items()}
        except (TypeError, ValueError):
            return ()
        if sorted(places) != list(range(len(places))):
            return ()
        found = [places[place] for place in range(len(places))]
    if not isinstance(found, list | tuple) or not all(
        isinstance(each, str | int) for each in found
    ):
        return ()
    return tuple(str(each).strip() for each in found)


def _parsed(text: str) -> Any:
    """Return what a text in JSON, or a literal of Python, says; ``None`` if it is neither."""
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return None


def _listed(text: str) -> tuple[str, ...]:
    """Return the labels of a plain list: one a line, or with commas between them."""
    if any(mark in text for mark in "{}[]"):
        return ()
    parts = [each.strip() for each in text.strip().split("\n" if "\n" in text.strip() else ",")]
    return tuple(parts) if len(parts) > 1 and all(parts) else ()


def _tables(parent: Any, field: int) -> list[Any]:
    """Return the tables in a vector."""
    offset = parent.Offset(field)
    if not offset:
        return []
    start = parent.Vector(offset)
    return [
        flatbuffers.table.Table(parent.Bytes, parent.Indirect(start + 4 * index))
        for index in range(parent.VectorLen(offset))
    ]


def _table(parent: Any, field: int) -> Any:
    """Return the table in a field."""
    return flatbuffers.table.Table(parent.Bytes, parent.Indirect(parent.Pos + parent.Offset(field)))


def _number(table: Any, field: int) -> int:
    """Return a number of one byte; 0 if it is left out."""
    offset = table.Offset(field)
    return int(table.Get(number_types.Uint8Flags, table.Pos + offset)) if offset else 0


def _text(table: Any, field: int) -> str:
    offset = table.Offset(field)
    return table.String(table.Pos + offset).decode() if offset else ""


def _floats(table: Any, field: int) -> list[float]:
    offset = table.Offset(field)
    if not offset:
        return []
    start = table.Vector(offset)
    return [
        float(table.Get(number_types.Float32Flags, start + 4 * index))
        for index in range(table.VectorLen(offset))
    ]
