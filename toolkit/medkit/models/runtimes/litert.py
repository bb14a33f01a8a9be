"""TFLite files on LiteRT, the default runtime."""

from __future__ import annotations

from mmap import ACCESS_READ, mmap
from pathlib import Path

import flatbuffers
import numpy as np
from flatbuffers import number_types
from numpy.typing import NDArray

from medkit.errors import ModelFileError
from medkit.models.card import ModelCard, no_card
from medkit.models.formats import CARD_NAME
from medkit.models.runtimes.base import check_images, check_shapes, finish, one_by_one, one_line
from medkit.system.quiet import native_stderr_closed

# Places of the fields in their tables, from TensorFlow Lite's schema.fbs
# (version 3): 4 plus twice the field's position. The generated schema module
# reads the same but takes a tenth of a second to import.
_MODEL_BUFFERS, _MODEL_METADATA = 12, 16
_METADATA_NAME, _METADATA_BUFFER = 4, 6
_BUFFER_DATA = 4


class LiteRTModel:
    """A TFLite file loaded into a LiteRT interpreter.

    Parameters
    ----------
    path
        The file.
    threads
        Number of threads for one inference; ``None`` leaves it to LiteRT.
    xnnpack
        Whether its kernels may be replaced by XNNPACK's, which are several
        times faster; a device without them rounds like those of LiteRT.
    """

    def __init__(self, path: Path, threads: int | None = None, *, xnnpack: bool = True) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self.path, self._threads, self._xnnpack = path, threads, xnnpack
        self.runtime = "LiteRT" if xnnpack else "LiteRT without XNNPACK"
        kernels = (
            OpResolverType.AUTO if xnnpack else OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        )
        self.card = ModelCard.from_json(read_card(path), path)
        try:
            with native_stderr_closed():
                self._interpreter = Interpreter(
                    model_path=str(path),  # mapped, so that interpreters share its pages
                    num_threads=threads,
                    experimental_op_resolver_type=kernels,
                )
                self._interpreter.allocate_tensors()
            (self._input,) = self._interpreter.get_input_details()
            (self._output,) = self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise ModelFileError(f"{path} cannot be loaded by LiteRT: {one_line(error)}") from error
        self._batch = int(self._input["shape"][0])
        self._fixed = int(self._input["shape_signature"][0]) == 1
        shapes = self._input["shape"].tolist(), self._output["shape"].tolist()
        check_shapes(self.card, path, *shapes)

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities (n, classes) of uint8 images (n, height, width, channels)."""
        check_images(self.card, images)
        raw = one_by_one(self._run, images) if self._fixed else self._run(images)
        return finish(self.card, raw)

    def _run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        if len(images) != self._batch:
            self._interpreter.resize_tensor_input(self._input["index"], images.shape)
            self._interpreter.allocate_tensors()
            self._batch = len(images)
        self._interpreter.set_tensor(self._input["index"], images)
        self._interpreter.invoke()
        raw: NDArray[np.float32] = self._interpreter.get_tensor(self._output["index"])
        return raw

    def another(self) -> LiteRTModel:
        """Return a model with an interpreter of its own: one runs in one thread at a time."""
        return LiteRTModel(self.path, self._threads, xnnpack=self._xnnpack)


def read_card(path: Path) -> bytes:
    """Return the card's JSON from a TFLite file's metadata.

    Raises
    ------
    ModelFileError
        If the file is no TFLite file, or holds no card.
    """
    try:
        with path.open("rb") as stream, mmap(stream.fileno(), 0, access=ACCESS_READ) as content:
            return _card_in(content, path)
    except ValueError as error:  # an empty file cannot be mapped
        raise ModelFileError(f"{path} is no TFLite file") from error


def _card_in(content: mmap, path: Path) -> bytes:
    if content[4:8] != b"TFL3":
        raise ModelFileError(f"{path} is no TFLite file")
    try:
        root = flatbuffers.encode.Get(number_types.UOffsetTFlags.packer_type, content, 0)
        model = flatbuffers.table.Table(content, root)
        for entry in _tables(model, _MODEL_METADATA):
            name = entry.Offset(_METADATA_NAME)
            if name and entry.String(entry.Pos + name) == CARD_NAME.encode():
                slot = entry.Offset(_METADATA_BUFFER)
                number = entry.Get(number_types.Uint32Flags, entry.Pos + slot) if slot else 0
                buffer = _tables(model, _MODEL_BUFFERS)[number]
                data = buffer.Offset(_BUFFER_DATA)
                start = buffer.Vector(data)
                return bytes(content[start : start + buffer.VectorLen(data)])
    except Exception as error:
        # Damaged offsets surface as struct, index, type or value errors alike.
        raise ModelFileError(f"{path} is a damaged TFLite file ({error})") from error
    raise no_card(path)


def _tables(parent: flatbuffers.table.Table, field: int) -> list[flatbuffers.table.Table]:
    """Return the tables in a vector field of a FlatBuffers table."""
    offset = parent.Offset(field)
    if not offset:
        return []
    start = parent.Vector(offset)
    return [
        flatbuffers.table.Table(parent.Bytes, parent.Indirect(start + 4 * index))
        for index in range(parent.VectorLen(offset))
    ]
