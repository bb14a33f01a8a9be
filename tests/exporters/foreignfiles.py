"""Model files as other tools write them, without anything of medkit's."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from numpy.typing import NDArray

from medkit.defaults import BALANCED
from medkit.images.contract import InputContract
from medkit.models.card import ModelCard
from medkit.models.points import OperatingPoint
from medkit.system.quiet import native_stderr_closed

SIZE = 32
"""Pixels of a side of the images that the files take."""


def network(channels: int = 3, outputs: int = 3, ending: str | None = "softmax") -> Any:
    """Return a small Keras network with weights that tell images apart, on pixels of 0..1."""
    import keras

    keras.utils.set_random_seed(5)
    layers = keras.layers
    made = keras.Sequential(
        [
            keras.Input((SIZE, SIZE, channels)),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(8, 3, strides=2, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dense(outputs, activation=ending),
        ]
    )
    for layer in made.layers:
        layer.set_weights([2 * each for each in layer.get_weights()])
    return made


def pixels(channels: int = 3) -> NDArray[np.uint8]:
    """Return images: noise, plain ones, and a red, a green and a blue one."""
    shape = (SIZE, SIZE, channels)
    noise = np.random.default_rng(3).integers(0, 256, (4, *shape), dtype=np.uint8)
    plain = [np.full(shape, level, np.uint8) for level in (0, 51, 128, 255)]
    hues = [np.zeros(shape, np.uint8) for _ in range(channels)]
    for number, hue in enumerate(hues):
        hue[..., number] = 200
    return np.stack([*noise, *plain, *hues])


def converted(
    model: Any, kind: str = "float32", *, numbers: str = "float32", fixed: bool = False
) -> bytes:
    """Convert a Keras network as TensorFlow's own guide does.

    Parameters
    ----------
    model
        The network, or a function with an ``input_shape``.
    kind
        ``float32``, ``float16`` (weights), ``dynamic`` (8-bit weights), ``int8``,
        or ``flex`` (operators of TensorFlow).
    numbers
        Type of input and output of an ``int8`` file.
    fixed
        Whether the file takes a batch of one only.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    signature = [tf.TensorSpec((1 if fixed else None, *model.input_shape[1:]), tf.float32)]
    function = tf.function(model, input_signature=signature)
    frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if kind == "flex":
        converter.target_spec.supported_ops = [tf.lite.OpsSet.SELECT_TF_OPS]
    elif kind != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if kind == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if kind == "int8":
        images = pixels(model.input_shape[-1]).astype(np.float32) / 255
        converter.representative_dataset = lambda: ([image[np.newaxis]] for image in images)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = getattr(tf, numbers)
        converter.inference_output_type = getattr(tf, numbers)
    with warnings.catch_warnings(), native_stderr_closed():
        warnings.simplefilter("ignore")  # of statistics that are there after calibration
        return bytes(converter.convert())


class Function:
    """A function of TensorFlow that is converted like a network.

    Parameters
    ----------
    call
        Takes and returns a tensor.
    input_shape
        Shape of the tensor, the batch first.
    """

    def __init__(self, call: Callable[[Any], Any], input_shape: Sequence[int | None]) -> None:
        self._call, self.input_shape = call, tuple(input_shape)

    def __call__(self, values: Any) -> Any:
        return self._call(values)


def with_metadata(
    content: bytes,
    labels: Sequence[str],
    mean: Sequence[float] = (),
    std: Sequence[float] = (),
    *,
    listed: str = "labels.txt",
    attached: str = "labels.txt",
) -> bytes:
    """Return a TFLite file with TFLite Metadata and a label file, as TFLite Support writes them.

    The numbers of the fields are those of ``metadata_schema.fbs``, version 1.1.
    """
    from ai_edge_litert import schema_py_generated as schema
    from ai_edge_litert.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata_table(mean, std, listed), np.uint8)
    model.buffers.append(buffer)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(model.buffers) - 1
    model.metadata = [*(model.metadata or []), entry]
    written = bytes(flatbuffer_utils.convert_object_to_bytearray(model))
    stream = io.BytesIO(written)
    with zipfile.ZipFile(stream, "a") as archive:
        archive.writestr(attached, "".join(f"{label}\n" for label in labels))
    return stream.getvalue()


def metadata_table(mean: Sequence[float], std: Sequence[float], listed: str) -> bytes:
    """Return a ModelMetadata table."""
    builder = flatbuffers.Builder(256)

    def vector(tables: Sequence[int]) -> int:
        builder.StartVector(4, len(tables), 4)
        for table in reversed(tables):
            builder.PrependUOffsetTRelative(table)
        return int(builder.EndVector())

    def table(fields: int, offsets: dict[int, int], flags: dict[int, int] | None = None) -> int:
        builder.StartObject(fields)
        for field, offset in offsets.items():
            builder.PrependUOffsetTRelativeSlot(field, offset, 0)
        for field, flag in (flags or {}).items():
            builder.PrependUint8Slot(field, flag, 0)
        return int(builder.EndObject())

    units = []
    if mean:
        means, deviations = (
            builder.CreateNumpyVector(np.array(each, np.float32)) for each in (mean, std)
        )
        options = table(2, {0: means, 1: deviations})  # NormalizationOptions
        units = [table(2, {1: options}, {0: 1})]  # ProcessUnit
    file = table(4, {0: builder.CreateString(listed)}, {2: 2})  # AssociatedFile
    given = table(7, {4: vector(units)})  # TensorMetadata
    result = table(7, {6: vector([file])})
    graph = table(7, {2: vector([given]), 3: vector([result])})  # SubGraphMetadata
    named = builder.CreateString("a classifier")
    root = table(8, {0: named, 3: vector([graph])})
    builder.Finish(root, file_identifier=b"M001")
    return bytes(builder.Output())


def run_tflite(content: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite file image by image, on its own numbers, and return real numbers."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for image in values:
        fed = image[np.newaxis]
        scale, zero = taken["quantization"]
        if scale:
            info = np.iinfo(taken["dtype"])
            fed = np.clip(np.rint(fed / scale) + zero, info.min, info.max)
        interpreter.set_tensor(taken["index"], fed.astype(taken["dtype"]))
        interpreter.invoke()
        raw = interpreter.get_tensor(given["index"]).astype(np.float32)
        scale, zero = given["quantization"]
        found.append(scale * (raw - zero) if scale else raw)
    return np.concatenate(found)


def run_onnx(content: bytes, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run an ONNX file image by image, on values as they are, channels first or last."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content)
    (taken,) = session.get_inputs()
    dtype = {"tensor(float16)": np.float16, "tensor(uint8)": np.uint8}.get(taken.type, np.float32)
    first = taken.shape[1] in (1, 3)
    found = []
    for image in values:
        fed = image.transpose(2, 0, 1) if first else image
        found += session.run(None, {taken.name: fed[np.newaxis].astype(dtype)})
    return np.concatenate(found).astype(np.float32)


def torch_like(
    channels: int = 3,
    outputs: int = 3,
    *,
    batch: int | str = 1,
    ending: str = "",
    half: bool = False,
    size: int | str = SIZE,
    properties: dict[str, str] | None = None,
) -> bytes:
    """Return an ONNX file as ``torch.onnx.export`` writes it: channels first, a batch of one.

    Parameters
    ----------
    channels, outputs
        Channels of an image, and values for it.
    batch
        A number, or a name for a free one.
    ending
        ``Softmax``, ``Sigmoid`` or another operator behind the logits; empty for none.
    half
        Whether it computes in half precision.
    size
        Pixels of a side; a name where it is free.
    properties
        Metadata.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(8)
    kind = np.float16 if half else np.float32
    weights = {
        "conv.weight": random.normal(0, 0.4, (8, channels, 3, 3)),
        "conv.bias": random.normal(0, 0.4, 8),
        "fc.weight": random.normal(0, 0.7, (outputs, 8)),
        "fc.bias": random.normal(0, 0.4, outputs),
    }
    held = [numpy_helper.from_array(each.astype(kind), name) for name, each in weights.items()]
    shape = np.array([batch if isinstance(batch, int) else -1, 8], np.int64)
    held.append(numpy_helper.from_array(shape, "shape"))
    last = "image" if ending else "logits"  # a name that medkit has for something else
    nodes = [
        helper.make_node("Conv", ["input", "conv.weight", "conv.bias"], ["c"], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("GlobalAveragePool", ["r"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], [last], transB=1),
    ]
    if ending:
        options = {"axis": 1} if "oftmax" in ending else {}
        nodes.append(helper.make_node(ending, [last], ["logits"], **options))
    number = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "main_graph",
        [helper.make_tensor_value_info("input", number, [batch, channels, size, size])],
        [helper.make_tensor_value_info("logits", number, [batch, outputs])],
        held,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, properties or {})
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the softmax of rows, in double precision."""
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sigmoid of each number, in double precision."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))))


def card_for(channels: int = 3, outputs: int = 3, temperature: float = 1.0) -> ModelCard:
    """Return the card of a task with as many labels as a file gives values, two at least."""
    return ModelCard(
        task="tiles",
        labels=("round", "square", "other")[: max(outputs, 2)],
        contract=InputContract(width=SIZE, height=SIZE, channels=channels),
        temperature=temperature,
        operating_points={BALANCED: OperatingPoint(BALANCED)},
        precision="original",
        version="0",
    )


def saved(folder: Path, content: bytes, name: str) -> Path:
    """Write a file, and return where."""
    path = folder / name
    path.write_bytes(content)
    return path
