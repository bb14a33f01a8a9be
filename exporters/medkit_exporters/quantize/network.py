"""Keras networks as the methods of this package read and rewrite them.

People build networks in many ways: with models inside models, layers that
are called twice, activations inside of layers or apart. :func:`flat` writes
all of them in one way, which is the only one that the methods have to know.
Importing this module imports Keras.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from medkit.errors import ExportError
from medkit_exporters.quantize.layers import (
    AUGMENTATION,
    PlainLayerNormalization,
    holds_tensors,
    other_form,
    with_arrays,
)

_WITH_ACTIVATION = (
    keras.layers.Conv2D,
    keras.layers.Conv2DTranspose,
    keras.layers.Dense,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv2D,
)

_IDLE = (
    keras.layers.Dropout,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.Identity,
    keras.layers.SpatialDropout2D,
)

_REPLACED = (keras.Model, *AUGMENTATION)


@dataclass(frozen=True)
class Rewritten:
    """A network that a method rewrote.

    Attributes
    ----------
    model
        The Keras model. The given one stays as it was.
    skipped
        Parts that the method left as they were, with the reason; one line each.
    """

    model: Any
    skipped: tuple[str, ...] = ()


class Wiring:
    """The wiring of a flat network: the operations that write and read each tensor.

    Parameters
    ----------
    model
        A network that :func:`flat` returned.

    Attributes
    ----------
    operations
        All operations except the input. Each one comes after those whose
        outputs it reads. Besides layers, they may be functions of ``keras.ops``.
    """

    def __init__(self, model: Any) -> None:
        self.operations = [
            item for item in model.operations if not isinstance(item, keras.layers.InputLayer)
        ]
        self._producers: dict[int, Any] = {}
        self._readers: dict[int, list[Any]] = defaultdict(list)
        for operation in self.operations:
            for tensor in outputs_of(operation):
                self._producers[id(tensor)] = operation
            for tensor in inputs_of(operation):
                self._readers[id(tensor)].append(operation)

    def can_merge(self, normalisation: Any) -> bool:
        """Whether converters merge a normalisation into the layer before it.

        They do with a convolution without an activation that nothing else reads.
        """
        before = self.producer(normalisation.input)
        return (
            isinstance(before, keras.layers.Conv2D | keras.layers.DepthwiseConv2D)
            and activation_of(before) == "linear"
            and len(self.readers(normalisation.input)) == 1
        )

    def producer(self, tensor: Any) -> Any:
        """Return the operation that writes a tensor; ``None`` for the network's input."""
        return self._producers.get(id(tensor))

    def readers(self, tensor: Any) -> list[Any]:
        """Return the operations that read a tensor, twice if one reads it twice."""
        return self._readers[id(tensor)]


def inputs_of(operation: Any) -> list[Any]:
    """Return the tensors that an operation of a flat network reads."""
    return list(keras.tree.flatten(operation.input))


def outputs_of(operation: Any) -> list[Any]:
    """Return the tensors that an operation of a flat network writes."""
    return list(keras.tree.flatten(operation.output))


def is_idle(operation: Any) -> bool:
    """Whether a layer returns in inference what it is given."""
    return isinstance(operation, _IDLE) or (
        isinstance(operation, keras.layers.Activation) and activation_of(operation) == "linear"
    )


def activation_of(layer: Any) -> str:
    """Return the name of a layer's activation; ``linear`` if it has none."""
    activation = getattr(layer, "activation", None)
    return "linear" if activation is None else str(getattr(activation, "__name__", "unknown"))


def is_plain_convolution(layer: Any) -> bool:
    """Whether a layer is a two-dimensional convolution in which all inputs meet.

    Subclasses may mean something else by their kernels.
    """
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups == 1
        and layer.data_format == "channels_last"
    )


def name_of(operation: Any) -> str:
    """Return what people call the kind of an operation."""
    kind = type(operation).__name__
    if isinstance(operation, keras.layers.ReLU) and operation.max_value is not None:
        return f"{kind}{operation.max_value:g}"
    if isinstance(operation, PlainLayerNormalization):
        return "LayerNormalization"
    return activation_of(operation) if kind == "Activation" else kind


def ending_of(model: Any, where: str) -> Any:
    """Return the last layer of a flat network.

    Parameters
    ----------
    model
        The network.
    where
        Name of the network in an error.

    Raises
    ------
    ExportError
        If it does not end in a dense layer of sigmoid units or several softmax units.
    """
    last = Wiring(model).producer(model.outputs[0])
    name = f"{type(last).__name__}"
    if isinstance(last, keras.layers.Dense) and len(model.output_shape) == 2:
        activation = activation_of(last)
        if activation == "sigmoid" or (activation == "softmax" and last.units > 1):
            return last
        name = f"a Dense layer of {last.units} units with the activation {activation}"
    raise ExportError(
        f"{where} ends in {name}; accepted: a Dense layer with one sigmoid unit, with a "
        "softmax unit for each label, or with a sigmoid unit for each label of a multi-label task"
    )


def copy_network(
    model: Any,
    clone_function: Callable[[Any], Any] | None = None,
    input_tensors: Any = None,
) -> Any:
    """Return a flat copy of a network, with weights of its own.

    Parameters
    ----------
    model
        A Keras model.
    clone_function
        Makes the copy of a layer, of the same weights; ``None`` for the same layer.
    input_tensors
        Another input than the model's; ``None`` for one like it.
    """
    model = flat(model)
    copy = keras.models.clone_model(
        model, clone_function=clone_function, input_tensors=input_tensors
    )
    for layer in model.layers:
        if not isinstance(layer, keras.layers.InputLayer):
            copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


def flat(model: Any) -> Any:
    """Return a network of single layers, each of which is called once.

    Models inside of the model are replaced by their layers, and a layer that
    is called twice by two. Activations become layers of their own; only the
    last layer keeps its activation. Normalization layers become Rescaling
    layers, and layers that augment images are left out. Layer normalisations
    become a :class:`PlainLayerNormalization`, convolutions of a group for each
    channel depthwise ones, and constant tensors arrays. A network that ends in
    an activation of something else than a dense layer, such as a convolution,
    gets a dense layer that computes the same. A network that needs none of
    this is returned as it is.

    Parameters
    ----------
    model
        A Sequential or Functional model of one input and one output.

    Raises
    ------
    ExportError
        If the network has any other form.
    """
    _check_plain(model)
    for number, what in ((len(model.inputs), "inputs"), (len(model.outputs), "outputs")):
        if number != 1:
            raise ExportError(f"the network has {number} {what}; accepted: one")
    return model if _is_flat(model) else _Flattening().of(model)


def _check_plain(model: Any) -> None:
    functional = hasattr(model, "operations") and type(model).__module__.startswith("keras.")
    if not functional and type(model) is not keras.Sequential:
        raise ExportError(
            f"{type(model).__name__} {model.name!r} computes by code of its own; accepted: "
            "Sequential and Functional models"
        )


def _is_flat(model: Any) -> bool:
    if isinstance(model, keras.Sequential):
        return False
    output = model.outputs[0]
    for operation in model.operations:
        # Keras has no other way to tell that a layer was called more than once.
        if isinstance(operation, _REPLACED) or len(operation._inbound_nodes) != 1:
            return False
        if other_form(operation, operation.name) is not None or holds_tensors(operation):
            return False
        last = any(tensor is output for tensor in outputs_of(operation))
        if last and not isinstance(operation, keras.layers.Dense):
            return False
        if not last and _has_own_activation(operation):
            return False
    return True


def _has_own_activation(layer: Any) -> bool:
    return isinstance(layer, _WITH_ACTIVATION) and activation_of(layer) != "linear"


class _Flattening:
    """Builds a flat copy of a network, call by call."""

    def __init__(self) -> None:
        self._names: set[str] = set()
        self._made: dict[int, tuple[Any, Any]] = {}
        """By the tensor that it wrote: each new layer, and the tensor that it read."""

    def of(self, model: Any) -> Any:
        """Return the copy."""
        (given,) = model.inputs
        pixels = keras.Input(batch_shape=given.shape, dtype=given.dtype, name=given.name)
        (output,) = keras.tree.flatten(self._run(model, pixels))
        return keras.Model(pixels, self._with_joined_ending(output), name=model.name)

    def _run(self, model: Any, inputs: Any) -> Any:
        if isinstance(model, keras.Sequential):
            model = keras.Model(model.inputs, model.outputs)
        else:
            _check_plain(model)
        # Keras has no public function for this. clone_model takes such a function as well, but
        # does not return the tensors of a model inside.
        return model._run_through_graph(inputs, call_fn=self._call)

    def _call(self, operation: Any, *args: Any, **options: Any) -> Any:
        if isinstance(operation, keras.Model):
            return self._run(operation, args[0])
        args, options = with_arrays((args, options))
        name = self._unique(operation.name)
        if isinstance(operation, AUGMENTATION):
            # It makes floats of bytes, which a Rescaling layer that changes nothing does as well.
            floats = args[0].dtype == operation.compute_dtype
            return args[0] if floats else self._apply(keras.layers.Rescaling(1.0, name=name), *args)
        apart = _has_own_activation(operation)
        rewritten = other_form(operation, name)
        if rewritten is None:
            config = {**operation.get_config(), "name": name}
            if apart:
                config["activation"] = "linear"
            layer = isinstance(operation, keras.layers.Layer)
            rewritten = (
                operation.__class__.from_config(config),
                operation.get_weights() if layer else [],
            )
        copy, weights = rewritten
        output = self._apply(copy, *args, **options)
        if weights:
            copy.set_weights(weights)
        if apart:
            name = self._unique(f"{name}_{activation_of(operation)}")
            output = self._apply(keras.layers.Activation(operation.activation, name=name), output)
        return output

    def _apply(self, layer: Any, *args: Any, **options: Any) -> Any:
        output = layer(*args, **options)
        if isinstance(output, keras.KerasTensor) and args:
            self._made[id(output)] = layer, args[0]
        return output

    def _unique(self, name: str) -> str:
        number, unique = 1, name
        while unique in self._names:
            number += 1
            unique = f"{name}_call{number}"
        self._names.add(unique)
        return unique

    def _before_idle(self, tensor: Any) -> Any:
        """Return the tensor that layers without effect were given."""
        layer, before = self._made.get(id(tensor), (None, None))
        return self._before_idle(before) if is_idle(layer) else tensor

    def _with_joined_ending(self, output: Any) -> Any:
        """Return the output of a last dense layer that has its activation inside."""
        output = self._before_idle(output)
        layer, before = self._made.get(id(output), (None, None))
        activation = _last_activation(layer)
        if activation is None:
            return output
        before = self._before_idle(before)
        product, features = self._made.get(id(before), (None, None))
        if isinstance(product, keras.layers.Dense):
            joined = keras.layers.Dense.from_config(
                {**product.get_config(), "activation": activation}
            )
            weights = product.get_weights()
        elif len(before.shape) == 2 and activation in ("sigmoid", "softmax"):
            convolution, features = self._last_convolution(before)
            units = before.shape[-1]
            name = self._unique("logits" if convolution is None else f"{convolution.name}_dense")
            joined = keras.layers.Dense(units, activation, name=name)
            weights = [np.eye(units, dtype=np.float32), np.zeros(units, np.float32)]
            if convolution is not None:
                kernel, *bias = convolution.get_weights()
                weights = [kernel.reshape(-1, units), *(bias or weights[1:])]
        else:
            return output
        output = joined(features)
        joined.set_weights(weights)
        return output

    def _last_convolution(self, logits: Any) -> tuple[Any, Any]:
        """Return the convolution of a single place that gives logits, and what it is given.

        The latter is as a dense layer takes it. Without such a convolution it
        is the logits themselves.
        """
        layer, tensor = self._made.get(id(logits), (None, None))
        while is_idle(layer) or isinstance(layer, keras.layers.Flatten | keras.layers.Reshape):
            layer, tensor = self._made.get(id(tensor), (None, None))
        if not is_plain_convolution(layer) or activation_of(layer) != "linear":
            return None, logits
        whole = tuple(tensor.shape[1:3]) == tuple(layer.kernel_size)
        if not whole or tuple(layer.output.shape[1:3]) != (1, 1):
            return None, logits
        return layer, keras.layers.Flatten(name=self._unique(f"{layer.name}_inputs"))(tensor)


def _last_activation(operation: Any) -> str | Any | None:
    """Return the activation of a network's last operation; ``None`` if it is no activation."""
    kind = type(operation).__name__
    if isinstance(operation, keras.layers.Softmax) or kind == "Softmax":
        return "softmax" if operation.axis in (-1, 1) else None
    if isinstance(operation, keras.layers.Activation):
        name = activation_of(operation)
        return name if name in ("sigmoid", "softmax") else operation.activation
    return "sigmoid" if kind == "Sigmoid" else None
