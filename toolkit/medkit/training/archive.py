"""The file of the Keras original: rounded weights, packed, with the model card inside."""

from __future__ import annotations

import io
import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.extras import require
from medkit.files import replacing
from medkit.models.card import ModelCard
from medkit.models.formats import CARD_NAME

_HALF_DIGITS = 2**11  # float16 has eleven significant bits
_SMALL = 1024  # numbers; below, an array's own compression costs more than it saves
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold


def round_weights(model: Any) -> None:
    """Round every floating-point weight to float16's precision, in place.

    The file is then about half as large, and a float16 export loses nothing.
    Call it before the model is measured: the figures must be those of the file.
    """
    for variable in model.variables:
        values = variable.numpy()
        if values.dtype == np.float32:
            variable.assign(_rounded(values))


def _rounded(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the nearest values that float16 can represent, as float32.

    A value beyond float16's range, such as a variance of ResNet50's first
    batch normalisation, is rounded to as many significant bits.
    """
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float16).astype(np.float32)
    mantissa, exponent = np.frexp(values)
    coarse = np.ldexp(np.rint(mantissa * _HALF_DIGITS) / _HALF_DIGITS, exponent)
    return np.where(np.isfinite(rounded), rounded, coarse).astype(np.float32)


def save_archive(model: Any, card: ModelCard, path: Path) -> None:
    """Write a model as a deflated ``.keras`` archive with its card, atomically.

    Dates and object numbers are fixed, so the same weights give the same bytes.

    Raises
    ------
    MissingExtraError
        If h5py is not installed.
    """
    require("save a Keras model", "h5py")
    with tempfile.TemporaryDirectory() as folder, replacing(path) as packed:
        plain = Path(folder) / "plain.keras"
        model.save(plain)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(packed, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "metadata.json":
                    content = json.dumps(json.loads(content) | {"date_saved": ""}).encode()
                if name == "config.json":
                    content = _number_shared_objects(content)
                if name.endswith(".h5"):
                    content = _packed_weights(content)
                _add(target, name, content)
            _add(target, f"{CARD_NAME}.json", card.to_json().encode())


def _packed_weights(content: bytes) -> bytes:
    """Return the HDF5 file with every array compressed byte plane by byte plane.

    Of four byte planes of rounded weights, one is zero and another nearly so.
    The file is a fifth smaller than without the planes.
    """
    import h5py

    packed = io.BytesIO()
    with h5py.File(io.BytesIO(content)) as source, h5py.File(packed, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.size > _SMALL:
                made = target.create_dataset(name, data=item[()], shuffle=True, compression="gzip")
                made.attrs.update(item.attrs)
            elif isinstance(item, h5py.Dataset):
                target.create_dataset(name, data=item[()]).attrs.update(item.attrs)
            else:
                target.require_group(name).attrs.update(item.attrs)

        source.visititems(copy)
        target.attrs.update(source.attrs)
    return packed.getvalue()


def _number_shared_objects(config: bytes) -> bytes:
    """Replace the memory addresses by which Keras tells shared objects apart by 1, 2, 3 ..."""
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda match: b"%d" % numbers.setdefault(match[0], len(numbers) + 1),
        config,
    )


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, date_time=_EPOCH)
    archive.writestr(member, content, zipfile.ZIP_DEFLATED, compresslevel=9)
