"""The operators that multiply and add, and how much work each of them is.

Work is counted in multiply-accumulates, from the shapes that go into an
operator and come out of it. The names and the order of the inputs are those
of TensorFlow Lite's ``schema.fbs``, of the ONNX operators, and of ONNX
Runtime's own (``com.microsoft``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

Shape = tuple[int, ...]


class UnknownShape(Exception):  # noqa: N818 - no error that anybody sees: it ends a count
    """A shape that a count needs is not in the file, or depends on the input."""


@dataclass(frozen=True)
class Node:
    """One operator, as far as its work depends on it.

    Attributes
    ----------
    kind
        The format's own name of the operation.
    inputs, outputs
        Shapes by place; ``None`` for an operand that is left out, or whose
        shape is not known.
    options
        The operator's attributes.
    constant
        Places of the inputs that the file holds.
    """

    kind: str
    inputs: Sequence[Shape | None]
    outputs: Sequence[Shape | None]
    options: Mapping[str, Any] = field(default_factory=dict)
    constant: frozenset[int] = frozenset()

    def taken(self, place: int) -> Shape:
        """Return the shape of an input. Raise :class:`UnknownShape` if it is not known."""
        shape = self.inputs[place] if place < len(self.inputs) else None
        if shape is None:
            raise UnknownShape
        return shape

    @property
    def given(self) -> Shape:
        """The shape of the first output. Raises :class:`UnknownShape` if it is not known."""
        if not self.outputs or self.outputs[0] is None:
            raise UnknownShape
        return self.outputs[0]


@dataclass(frozen=True)
class Product:
    """An operator that multiplies and adds.

    Attributes
    ----------
    operands
        Places of the inputs whose types decide in what it computes: data,
        then weights. Just the weights, if it brings the data to their type.
    work
        Multiply-accumulates of a node.
    """

    operands: tuple[int, ...]
    work: Callable[[Node], int]


def size_of(sizes: Iterable[int]) -> int:
    """Return the product of the sides of a tensor."""
    return math.prod(int(size) for size in sizes)


def work_of(product: Product, node: Node) -> int | None:
    """Return the multiply-accumulates of a node, or ``None`` if its shapes do not tell."""
    try:
        return product.work(node)
    except (UnknownShape, IndexError):  # a shape of fewer sides than the operator takes
        return None


def einsum_work(equation: str, shapes: Sequence[Shape]) -> int:
    """Return the work of an Einstein sum, each of whose products runs over all its letters.

    Raises
    ------
    UnknownShape
        If the equation does not fit the shapes.
    """
    sizes: dict[str, int] = {}
    rest = 1  # the sides under an ellipsis
    terms = equation.replace(" ", "").split("->")[0].split(",")
    if len(terms) != len(shapes):
        raise UnknownShape
    for term, shape in zip(terms, shapes, strict=True):
        head, dots, tail = term.partition("...")
        if len(head) + len(tail) > len(shape) or (not dots and len(head) != len(shape)):
            raise UnknownShape
        last = len(shape) - len(tail)
        sizes.update(zip(head, shape, strict=False))
        sizes.update(zip(tail, shape[last:], strict=True))
        rest = max(rest, size_of(shape[len(head) : last]))
    return (len(terms) - 1) * rest * size_of(sizes.values())


# A convolution: each output is a sum over a kernel. Transposed: each input goes to a kernel's size.


def _kernel_after_outputs(place: int) -> Callable[[Node], int]:
    return lambda node: size_of(node.given) * size_of(node.taken(place)[1:])


def _depthwise(node: Node) -> int:
    return size_of(node.given) * size_of(node.taken(1)[1:3])


def _kernel_before_outputs(node: Node) -> int:
    return size_of(node.given) * size_of(node.taken(1)[:-1])


def _kernel_before_inputs(node: Node) -> int:
    return size_of(node.taken(2)) * size_of(node.taken(1)[:-1])


def _kernel_after_inputs(place: int) -> Callable[[Node], int]:
    return lambda node: size_of(node.taken(0)) * size_of(node.taken(place)[1:])


# A matrix product: each output is a sum over the side that both operands share.


def _shared_side(turned: str) -> Callable[[Node], int]:
    def work(node: Node) -> int:
        return size_of(node.given) * node.taken(0)[-2 if node.options.get(turned) else -1]

    return work


def _listed_sides(node: Node) -> int:
    sides = node.options["lhsContractingDimensions"]
    return size_of(node.given) * size_of(node.taken(0)[side] for side in sides)


def _numbered_kernel(node: Node) -> int:
    kernel = node.taken(1)
    outputs = int(kernel[node.options["kernelOutputFeatureDimension"]])
    return size_of(node.given) * size_of(kernel) // max(outputs, 1)


def _columns(node: Node) -> int:
    return size_of(node.taken(0)) * int(node.options["N"])


def _einsum(node: Node) -> int:
    equation = node.options["equation"]
    shapes = [node.taken(place) for place in range(len(node.inputs))]
    return einsum_work(equation.decode() if isinstance(equation, bytes) else equation, shapes)


# A recurrent layer: each step multiplies with every matrix.


def _all_matrices(node: Node) -> int:
    matrices = [node.taken(place) for place in node.constant if len(node.taken(place)) == 2]
    return size_of(node.taken(0)[:-1]) * sum(map(size_of, matrices))


def _two_matrices(first: int) -> Callable[[Node], int]:
    def work(node: Node) -> int:
        weights = node.taken(first), node.taken(first + 1)
        return size_of(node.taken(0)[:-1]) * sum(map(size_of, weights))

    return work


# Attention: queries by keys, then scores by values; one of ONNX Runtime's projects before.


def _attention(node: Node) -> int:
    return node.taken(1)[-2] * (size_of(node.taken(0)) + size_of(node.given))


def _projected_attention(node: Node) -> int:
    data = node.taken(0)
    scores = 2 * size_of(node.given) * data[-2]
    return size_of(data[:-1]) * size_of(node.taken(1)) + scores


TFLITE: Mapping[str, Product] = MappingProxyType(
    {
        "CONV_2D": Product((0, 1), _kernel_after_outputs(1)),
        "DEPTHWISE_CONV_2D": Product((0, 1), _depthwise),
        "FULLY_CONNECTED": Product((0, 1), _kernel_after_outputs(1)),
        "CONV_3D": Product((0, 1), _kernel_before_outputs),
        "TRANSPOSE_CONV": Product((2, 1), _kernel_before_inputs),
        "CONV_3D_TRANSPOSE": Product((2, 1), _kernel_before_inputs),
        "BATCH_MATMUL": Product((0, 1), _shared_side("adjX")),
        "LSTM": Product((0, 2), _all_matrices),
        "UNIDIRECTIONAL_SEQUENCE_LSTM": Product((0, 2), _all_matrices),
        "BIDIRECTIONAL_SEQUENCE_LSTM": Product((0, 2), _all_matrices),
        "RNN": Product((0, 1), _all_matrices),
        "UNIDIRECTIONAL_SEQUENCE_RNN": Product((0, 1), _all_matrices),
        "BIDIRECTIONAL_SEQUENCE_RNN": Product((0, 1), _all_matrices),
        "SVDF": Product((0, 1), _all_matrices),
        "STABLEHLO_CONVOLUTION": Product((0, 1), _numbered_kernel),
        "STABLEHLO_DOT_GENERAL": Product((0, 1), _listed_sides),
    }
)

ONNX: Mapping[str, Product] = MappingProxyType(
    {
        **dict.fromkeys(
            ("Conv", "ConvInteger", "DeformConv", "FusedConv", "NhwcConv", "NhwcFusedConv"),
            Product((0, 1), _kernel_after_outputs(1)),
        ),
        "QLinearConv": Product((0, 3), _kernel_after_outputs(3)),
        "ConvTranspose": Product((0, 1), _kernel_after_inputs(1)),
        "QLinearConvTranspose": Product((0, 3), _kernel_after_inputs(3)),
        **dict.fromkeys(
            ("MatMul", "MatMulInteger", "MatMulIntegerToFloat", "Gemm", "FusedMatMul", "FusedGemm"),
            Product((0, 1), _shared_side("transA")),
        ),
        "QLinearMatMul": Product((0, 3), _shared_side("transA")),
        "QGemm": Product((0, 3), _shared_side("transA")),
        "DynamicQuantizeMatMul": Product((1,), _shared_side("transA")),
        "MatMulNBits": Product((0,), _columns),
        "MatMulBnb4": Product((0,), _columns),
        "Einsum": Product((0, 1), _einsum),
        "LSTM": Product((0, 1), _two_matrices(1)),
        "GRU": Product((0, 1), _two_matrices(1)),
        "RNN": Product((0, 1), _two_matrices(1)),
        "DynamicQuantizeLSTM": Product((1,), _two_matrices(1)),
        "Attention": Product((0, 1), _attention),
        "MultiHeadAttention": Product((0, 1), _attention),
        "com.microsoft.Attention": Product((0, 1), _projected_attention),
        "QAttention": Product((0, 1), _projected_attention),
    }
)

PRODUCTS = frozenset({*TFLITE, *ONNX})
"""Operators of files that multiply and add: all the work that counts."""
