"""Writing the Keras original: small, self-describing, and what was measured."""

from __future__ import annotations

import json
import re
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from medkit.bundles import CARD_NAME, ModelCard, replacing
from medkit.errors import TrainingError

_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date that a zip archive can hold


def round_weights(model: Any) -> None:
    """Round every floating-point weight to a float16-representable value, in place.

    The file then deflates to about half, and a float16 export loses nothing.
    To be called before anything is measured, so that the figures are the file's.

    Raises
    ------
    TrainingError
        If a weight is too large for float16.
    """
    for variable in model.variables:
        values = variable.numpy()
        if values.dtype != np.float32:
            continue
        rounded = values.astype(np.float16).astype(np.float32)
        if not np.isfinite(rounded).all():
            raise TrainingError(
                f"weights of {variable.path} reach {np.abs(values).max():g}, beyond float16; "
                "train with a lower learning rate"
            )
        variable.assign(rounded)


def save_archive(model: Any, card: ModelCard, path: Path) -> None:
    """Write ``model`` as a deflated ``.keras`` archive that carries ``card``, atomically.

    Dates and object numbers are fixed, so that the same weights give the same bytes and hash.
    """
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
                _add(target, name, content)
            _add(target, f"{CARD_NAME}.json", card.to_json().encode())


def _number_shared_objects(config: bytes) -> bytes:
    """Replace memory addresses, by which Keras tells shared objects apart, by 1, 2, 3 ..."""
    numbers: dict[bytes, int] = {}
    return re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda match: b"%d" % numbers.setdefault(match[0], len(numbers) + 1),
        config,
    )


def _add(archive: zipfile.ZipFile, name: str, content: bytes) -> None:
    member = zipfile.ZipInfo(name, date_time=_EPOCH)
    archive.writestr(member, content, zipfile.ZIP_DEFLATED, compresslevel=9)
