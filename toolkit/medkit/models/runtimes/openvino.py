"""ONNX files on OpenVINO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ModelFileError
from medkit.models.card import ModelCard
from medkit.models.runtimes.base import check_images, check_shapes, finish, one_by_one, one_line
from medkit.models.runtimes.onnx import check_self_contained, read_card


class OpenVINOModel:
    """An ONNX file compiled by OpenVINO for the CPU."""

    runtime = "OpenVINO"

    def __init__(self, path: Path, threads: int | None = None) -> None:
        import openvino

        self.path, self._threads = path, threads
        check_self_contained(path)
        self.card = ModelCard.from_json(read_card(path), path)
        # Float arithmetic in bfloat16, its default on some processors, would change float files.
        # Its threads may run on any core, or those of several models would share the first.
        options: dict[str, object] = {
            "INFERENCE_PRECISION_HINT": "f32",
            "ENABLE_CPU_PINNING": False,
        }
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = openvino.Core().compile_model(path, "CPU", options)
        except Exception as error:
            # The binding raises RuntimeError for most, but not for all that can be wrong.
            raise ModelFileError(
                f"{path} cannot be loaded by OpenVINO: {one_line(error)}"
            ) from error
        shapes = self._compiled.input(0).partial_shape, self._compiled.output(0).partial_shape
        taken, given = ([side.get_max_length() for side in each] for each in shapes)
        self._fixed = taken[0] == 1
        check_shapes(self.card, path, taken, given)
        self._request = self._compiled.create_infer_request()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, classes) of uint8 images (n, height, width, channels)."""
        check_images(self.card, images)
        raw = one_by_one(self._run, images) if self._fixed else self._run(images)
        return finish(self.card, raw)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(self._request.infer([images])[0], dtype=np.float32)

    def another(self) -> OpenVINOModel:
        """Return a model that is compiled anew: OpenVINO's threads belong to a compiled model."""
        return OpenVINOModel(self.path, self._threads)
