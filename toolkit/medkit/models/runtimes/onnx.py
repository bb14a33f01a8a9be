"""ONNX files on ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ModelFileError
from medkit.extras import require
from medkit.models.card import ModelCard, no_card
from medkit.models.formats import CARD_NAME
from medkit.models.runtimes.base import check_images, check_shapes, finish, one_by_one, one_line

_EXTERNAL = b"\x0a\x08location\x12"
"""As protocol buffers: the key that tells in which other file a tensor's numbers are."""


def check_self_contained(path: Path) -> None:
    """Raise :class:`ModelFileError` if numbers of a model are in another file, without a seal."""
    if _EXTERNAL in path.read_bytes():
        raise ModelFileError(
            f"{path} has its weights in another file; accepted: models in a single file, as "
            "'medkit export' writes them"
        )


def open_session(model: str | bytes, threads: int | None = None, *, quiet: bool = False) -> Any:
    """Open a session of ONNX Runtime on the CPU.

    Parameters
    ----------
    model
        Path of a file, or its bytes.
    threads
        Number of threads; ``None`` leaves it to ONNX Runtime.
    quiet
        Whether its errors are not logged, because the caller tells them.

    Raises
    ------
    Exception
        If it does not take the model; its classes share no other base.
    """
    import onnxruntime

    onnxruntime.disable_telemetry_events()  # its builds for Windows report use by default
    options = onnxruntime.SessionOptions()
    # Errors at most: its warnings are about graph rewriting.
    options.log_severity_level = 4 if quiet else 3
    if threads is not None:
        options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(
        model,
        options,
        providers=["CPUExecutionProvider"],
        enable_fallback=0,  # it prints to standard output, and tries the same again
    )


class OnnxModel:
    """An ONNX file loaded into an ONNX Runtime session on the CPU."""

    runtime = "ONNX Runtime"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        check_self_contained(path)
        self.path = path
        try:
            self._session = open_session(str(path), threads)
            properties = self._session.get_modelmeta().custom_metadata_map
            (taken,), (given,) = self._session.get_inputs(), self._session.get_outputs()
            self._input = taken.name
        except Exception as error:
            # The binding raises classes of its own that share no base but Exception.
            raise ModelFileError(
                f"{path} cannot be loaded by ONNX Runtime: {one_line(error)}"
            ) from error
        if CARD_NAME not in properties:
            raise no_card(path)
        self.card = ModelCard.from_json(properties[CARD_NAME], path)
        self._fixed = taken.shape[0] == 1
        check_shapes(self.card, path, taken.shape, given.shape)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, classes) of uint8 images (n, height, width, channels)."""
        check_images(self.card, images)
        raw = one_by_one(self._run, images) if self._fixed else self._run(images)
        return finish(self.card, raw)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        raw: NDArray[np.float32]
        (raw,) = self._session.run(None, {self._input: images})
        return raw

    def another(self) -> OnnxModel:
        """Return the model itself: a session may be run by several threads at once."""
        return self


def read_card(path: Path) -> str:
    """Return the card's JSON from an ONNX file's metadata.

    Raises
    ------
    ModelFileError
        If the file holds no card, or is no ONNX file.
    MissingExtraError
        If the package ``onnx`` is absent.
    """
    require("read an .onnx file's card", "onnx")
    import onnx

    try:
        stored = onnx.load(path, load_external_data=False).metadata_props
    except Exception as error:
        # Readers of protocol buffers raise classes that share no other base.
        raise ModelFileError(f"{path} is no ONNX file, or a damaged one") from error
    properties = {item.key: str(item.value) for item in stored}
    if CARD_NAME not in properties:
        raise no_card(path)
    return properties[CARD_NAME]
