"""Model files: their formats, names and precisions, and where each keeps its card."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from medkit.errors import ModelFileError, UsageError
from medkit.extras import require

CARD_NAME = "medkit"
"""Key of the card in a TFLite or ONNX file; with ``.json``, member of a Keras archive."""

PRECISIONS = ("int8", "mixed", "int16", "fp16", "fp32")
"""What a file's numbers are, the smallest and fastest first.

``int8`` multiplies 8-bit integers throughout. ``mixed`` has some products in
floating point, ``int16`` 8-bit weights and 16-bit activations: what an export
falls back on where 8 bits decide otherwise than the original. ``fp16`` stores
half precision, ``fp32`` is as trained.
"""


@dataclass(frozen=True)
class ModelFormat:
    """One kind of model file.

    Attributes
    ----------
    name
        The word for it, as ``--format`` takes it.
    suffix
        Suffix of its files.
    seal
        Bytes before the digits of the seal that its files end with; see
        :mod:`medkit.models.seal`. Originals have none.
    card
        ``module:function`` that reads the card's JSON of a file.
    operators
        ``module:function`` that lists what a file computes, of its path.
    needs
        Top-level modules of optional packages that both functions import.
    """

    name: str
    suffix: str
    seal: bytes
    card: str
    operators: str
    needs: tuple[str, ...] = ()

    @property
    def exported(self) -> bool:
        """Whether files of this format are exports of an original."""
        return bool(self.seal)

    def require(self) -> None:
        """Raise :class:`MissingExtraError` if a package for reading such files is missing."""
        require(f"look into {self.suffix} files", *self.needs)

    def read_card(self, path: Path) -> str | bytes:
        """Return the card's JSON that a file holds, without loading the model.

        Raises
        ------
        ModelFileError
            If the file is damaged, or holds no card.
        MissingExtraError
            If the format needs a package that is absent.
        """
        card: str | bytes = load(self.card)(path)
        return card


KERAS = ModelFormat(
    "keras",
    ".keras",
    b"",
    "medkit.models.runtimes.keras:read_card",
    "medkit.models.operators.keras:read_operators",
    ("h5py",),
)

HDF5 = ModelFormat(
    "h5",
    ".h5",
    b"",
    "medkit.models.operators.keras:read_no_card",
    "medkit.models.operators.keras:read_operators",
    ("h5py",),
)
"""What Keras wrote before its archives: looked into, and never run."""

_FORMATS = [
    ModelFormat(
        "tflite",
        ".tflite",
        b"medkit sha256 ",
        "medkit.models.runtimes.litert:read_card",
        "medkit.models.operators.tflite:read_operators",
    ),
    ModelFormat(
        "onnx",
        ".onnx",
        # As protocol buffers: field 14 of a model, which holds a key and a value of 64 bytes.
        b"\x72\x51\x0a\x0dmedkit_sha256\x12\x40",
        "medkit.models.runtimes.onnx:read_card",
        "medkit.models.operators.onnx:read_operators",
        ("onnx",),
    ),
    KERAS,
    HDF5,
]


def register_format(added: ModelFormat) -> None:
    """Register a kind of model file. Raise :class:`ValueError` if its name or suffix is taken."""
    for known in _FORMATS:
        if known.name == added.name:
            raise ValueError(f"there is a model format {added.name!r} already; choose another name")
        if known.suffix == added.suffix:
            raise ValueError(f"{added.suffix} files belong to the model format {known.name!r}")
    _FORMATS.append(added)


def suffixes() -> tuple[str, ...]:
    """Return the suffixes of all model files."""
    return tuple(known.suffix for known in _FORMATS)


def format_of(path: Path) -> ModelFormat:
    """Return the format of a file by its suffix. Raise :class:`UsageError` if there is none."""
    for known in _FORMATS:
        if known.suffix == path.suffix.lower():
            return known
    raise UsageError(f"{path} is no model file; accepted: {', '.join(suffixes())}")


def export_formats() -> dict[str, ModelFormat]:
    """Return the formats of exports, by name."""
    return {known.name: known for known in _FORMATS if known.exported}


def export_name(export_format: str, precision: str) -> str:
    """Return the file name of an export, such as ``model-int8.tflite``."""
    return f"model-{precision}{export_formats()[export_format].suffix}"


def load(reference: str) -> Callable[..., Any]:
    """Import what ``module:name`` names. Raise :class:`ModelFileError` if it is not there."""
    module, _, name = reference.partition(":")
    try:
        found: Callable[..., Any] = getattr(import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ModelFileError(
            f"{reference}, which such model files need, cannot be imported ({error}); correct the "
            "plug-in, or install what it needs"
        ) from error
    return found
