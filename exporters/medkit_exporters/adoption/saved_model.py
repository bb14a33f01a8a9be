"""Folders of a SavedModel: a graph of TensorFlow, without the layers that it was made of.

Keras loads no such folder any more. Its function for serving is adopted as a
lone file. Importing this module imports TensorFlow.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.python.framework import op_def_registry

from medkit.errors import ModelFileError
from medkit.models.runtimes.base import one_line
from medkit_exporters.adoption.base import ModelFacts
from medkit_exporters.adoption.keras_facts import ending_by_numbers, read_input, read_outputs, sized
from medkit_exporters.adoption.lone_network import LoneNetwork
from medkit_exporters.adoption.opening import Asked

_SERVING = "serving_default"

_FILE = "saved_model.pb"

_CHECKPOINTS = frozenset(
    [
        *("MergeV2Checkpoints", "RestoreV2", "SaveV2"),
        *("ShardedFilename", "StaticRegexFullMatch", "StringJoin"),
    ]
)
"""What reads and writes the variables of every SavedModel, and no function for serving."""

_STATE = frozenset(
    [
        *("AssignVariableOp", "ReadVariableOp", "VarHandleOp", "VarIsInitializedOp"),
        *("DisableCopyOnRead", "PartitionedCall", "StatefulPartitionedCall"),
        *("RandomStandardNormal", "RandomUniform", "RandomUniformInt"),
    ]
)
"""Operations with a state that compute with variables, call functions, or draw numbers."""

_WORDS = frozenset(
    [
        *("activation_mode", "align", "bad_indices_policy", "config", "config_proto"),
        *("data_format", "direction", "equation", "executor_type", "fill_mode", "filter_format"),
        *("frame_name", "fused_ops", "input_mode", "interpolation", "kernel_type", "message"),
        *("method", "mode", "noise", "padding", "rnn_mode", "round_mode", "src_format"),
        *("dst_format",),
    ]
)
"""Attributes of operations whose text names no file, no address and no code."""


class _Served:
    """The function for serving, called as a Keras network is."""

    def __init__(self, loaded: Any) -> None:
        self._loaded = loaded  # its variables live as long as it does
        self._function = loaded.signatures[_SERVING]
        (self.input,) = self._function.structured_input_signature[1].values()
        (self._key,) = self._function.structured_outputs
        self.output = self._function.structured_outputs[self._key]
        self.variables = self._function.variables

    def __call__(self, values: Any, training: bool = False) -> Any:
        return self._function(**{self.input.name: tf.cast(values, self.input.dtype)})[self._key]


def open_saved_model(path: Path, asked: Asked) -> LoneNetwork:
    """Open the folder of a SavedModel.

    Raises
    ------
    ModelFileError
        If it is none, does more than compute, or is no classifier of images.
    UsageError
        If a size is missing, or contradicts the model's.
    """
    _check_operations(path)
    try:
        loaded = tf.saved_model.load(str(path))
        function = loaded.signatures.get(_SERVING)
    except Exception as error:
        # TensorFlow passes on whatever its readers raise.
        raise ModelFileError(f"{path} cannot be loaded: {one_line(error)[:300]}") from error
    if function is None:
        raise ModelFileError(f"{path} has no signature {_SERVING}; save it with one")
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *_nodes(definition.library.function)]
    _refuse(path, {node.op for node in nodes} & _CHECKPOINTS)
    for many, what in (
        (function.structured_input_signature[1], "inputs"),
        (function.structured_outputs, "outputs"),
    ):
        if len(many) != 1:
            raise ModelFileError(
                f"{path} has {len(many)} {what}; accepted: models with one input and one output"
            )
    network = _Served(loaded)
    height, width, channels = read_input(tuple(network.input.shape), path)
    outputs = read_outputs(tuple(network.output.shape), path)
    for variable in network.variables:
        values = variable.numpy()
        if np.issubdtype(values.dtype, np.floating) and not np.isfinite(values).all():
            raise ModelFileError(
                f"{path} has weights that are no finite numbers, in {variable.name}; train it "
                "again, or take an earlier epoch"
            )
    height, width = sized(path, height, width, asked.size)
    facts = ModelFacts(
        height,
        width,
        channels,
        outputs,
        ending_by_numbers(network, (height, width, channels)),
        parameters=sum(int(np.prod(variable.shape)) for variable in network.variables),
        remarks=(
            "a SavedModel holds a graph and no layers: it becomes a TFLite file of single "
            "precision, which cannot be exported to 8 bits",
        ),
    )
    return LoneNetwork(path, facts, network)


def _check_operations(path: Path) -> None:
    """Refuse a folder whose graph does more than compute. Nothing of it has run.

    Raises
    ------
    ModelFileError
        If there is no SavedModel, or it holds such an operation.
    """
    model = saved_model_pb2.SavedModel()
    try:
        model.ParseFromString((path / _FILE).read_bytes())
    except FileNotFoundError:
        raise ModelFileError(
            f"{path} is no SavedModel: it holds no {_FILE}; name a model file, or such a folder"
        ) from None
    except Exception as error:
        # Protocol buffers raise a class of their own for damaged bytes.
        raise ModelFileError(f"{path / _FILE} is damaged ({one_line(error)})") from error
    names = {
        node.op
        for graph in model.meta_graphs
        for node in (*graph.graph_def.node, *_nodes(graph.graph_def.library.function))
    }
    strange = set()
    for name in names - _STATE - _CHECKPOINTS:
        known = op_def_registry.get(name)
        if known is None or known.is_stateful or _takes_text(known):
            strange.add(name)
    _refuse(path, strange)
    for graph in model.meta_graphs:
        _check_objects(path, graph)


def _takes_text(operation: Any) -> bool:
    """Whether an operation takes text, with which it could name a file, an address or code.

    TensorFlow counts operations as without a state although they touch files:
    ``ReadFile`` takes a name as a tensor, ``ImmutableConst`` and
    ``DebugIdentity`` as an attribute.
    """
    return any(item.type == types_pb2.DT_STRING for item in operation.input_arg) or any(
        item.type in ("string", "list(string)") and item.name not in _WORDS
        for item in operation.attr
    )


def _check_objects(path: Path, graph: Any) -> None:
    """Refuse a graph of which TensorFlow runs functions as it loads it.

    Those functions could save checkpoints, over any file.

    Raises
    ------
    ModelFileError
        If there is such a function, or nothing tells that there is none.
    """
    if not graph.HasField("object_graph_def"):
        raise ModelFileError(
            f"{path} was saved by TensorFlow 1; accepted: SavedModels of TensorFlow 2; convert it "
            "to TFLite or ONNX, and adopt that"
        )
    for node in graph.object_graph_def.nodes:
        runs = any(
            each.save_function or each.restore_function for each in node.saveable_objects.values()
        )
        if node.WhichOneof("kind") == "resource" or node.registered_saver or runs:
            raise ModelFileError(
                f"{path} holds functions that run as it is loaded; accepted: networks that only "
                "compute; convert it to TFLite or ONNX, and adopt that"
            )


def _nodes(functions: Iterable[Any]) -> list[Any]:
    return [node for function in functions for node in function.node_def]


def _refuse(path: Path, names: set[str]) -> None:
    if names:
        raise ModelFileError(
            f"{path} holds the operation {min(names)}, which does more than compute; accepted: "
            "networks that only compute; convert it to TFLite or ONNX, and adopt that"
        )
