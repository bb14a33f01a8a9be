"""The operators of a model file, and the types of numbers in which they compute.

A file called int8 may hold 8-bit weights and still multiply in floating
point. Only its operators and the types of their tensors tell. Work is counted
in multiply-accumulates for one image, of the operators in
:data:`medkit.models.operators.products.PRODUCTS`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.errors import ExportError, MedkitError, ModelFileError
from medkit.models.formats import format_of, load
from medkit.models.operators.products import PRODUCTS
from medkit.wording import counted

INTEGERS = ("int8", "uint8", "int16", "uint16", "int4", "uint4", "int2", "uint2")
"""Types in which a quantised operator computes."""

CONVERSIONS = (
    *("QUANTIZE", "DEQUANTIZE", "CAST"),
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast"),
)
_PROBABILITIES = ("SOFTMAX", "LOGISTIC", "Softmax", "Sigmoid")

LOGIT_COPIES_NAME, LOGITS_NAME = "logit_copies", "logits"
"""Outputs of the operators that make logits finer than 8 bits, after the last product."""

CALIBRATED_NAME = "calibrated"
"""Output of the operator that divides the logits by the temperature."""

PIXELS_NAME = "pixels"
"""Output of the operators that make a network's input of bytes; a number may follow a slash."""

_RAW = (1.0, 0)

UNKNOWN_SHAPE = "its shapes are known only when it runs; not counted"
LOOP = "runs in a loop whose length is not known; counted once"
BRANCH = "runs in a branch that is not always taken; counted once"
FOREIGN = "not an operator that medkit knows; not counted"
"""Doubts about the work of an operator."""


@dataclass(frozen=True)
class Operator:
    """One operator of a graph.

    Attributes
    ----------
    name
        Name of its output tensor, or of the layer.
    kind
        The format's own name of the operation.
    computes_in
        Type of the numbers that go in, such as ``int8`` or ``float32``.
    work
        Multiply-accumulates for one image; 0 for all but products.
    fault
        Fault in a product's weights; empty if there is none.
    weights
        Type in which the file holds a product's weights; empty if they are of
        the type that it computes in, or no weights of the file.
    doubt
        Why ``work`` may not be what the operator does; empty if it is.
    part
        The signature that it belongs to, in a file of several; empty in others.
    """

    name: str
    kind: str
    computes_in: str
    work: int
    fault: str = ""
    weights: str = ""
    doubt: str = ""
    part: str = ""

    @property
    def numbers(self) -> str:
        """What it computes in, with the type of its weights if that is another."""
        return f"{self.computes_in}, {self.weights} weights" if self.weights else self.computes_in

    @property
    def reason(self) -> str:
        """The reason why this operator of an int8 file may compute in floating point, if any."""
        if self.kind in _PROBABILITIES:
            return "256 probabilities would be too few to rank images by"
        if self.name in (LOGIT_COPIES_NAME, LOGITS_NAME) and self.kind not in PRODUCTS:
            return "the mean of the logits' copies lies between their 8-bit steps"
        if self.name == CALIBRATED_NAME and self.kind not in PRODUCTS:
            return "the temperature scales logits that are finer than 8 bits"
        if self.name.partition("/")[0] == PIXELS_NAME and self.kind not in PRODUCTS:
            return "bytes become the numbers that the network was trained to see"
        return ""


@dataclass(frozen=True)
class Pixels:
    """The input of a model file.

    Attributes
    ----------
    dtype
        Type of the input tensor; ``none`` if there is no input.
    scale, zero_point
        Quantization of the input; ``None`` if the input is not quantized.
    """

    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    @property
    def raw(self) -> bool:
        """Whether the bytes of an image go in as they are."""
        return self.dtype == "uint8" and (self.scale, self.zero_point) in ((None, None), _RAW)


@dataclass(frozen=True)
class OperatorSummary:
    """The operators, tensors and input of a model file.

    Attributes
    ----------
    operators
        Operators in the order of the file.
    tensors
        Number of tensors of each type.
    pixels
        The input.
    """

    operators: tuple[Operator, ...]
    tensors: dict[str, int]
    pixels: Pixels

    @property
    def work(self) -> int:
        """Multiply-accumulates for one image."""
        return sum(operator.work for operator in self.operators)

    @property
    def integer_share(self) -> float:
        """Share of the work that is done in integers, 0..1."""
        done = sum(item.work for item in self.operators if "int" in item.computes_in)
        return done / self.work if self.work else 0.0

    @property
    def hybrid_share(self) -> float:
        """Share of the work of integer weights with activations in floating point, 0..1."""
        done = sum(
            item.work
            for item in self.operators
            if item.weights in INTEGERS and is_floating(item.computes_in)
        )
        return done / self.work if self.work else 0.0

    @property
    def parts(self) -> dict[str, int]:
        """Work of each signature, in a file of several."""
        work = Counter[str]()
        for item in self.operators:
            work[item.part] += item.work
        return {part: total for part, total in work.items() if part}

    @property
    def doubts(self) -> list[tuple[str, str, int]]:
        """Kind, doubt and number of the operators whose work is not known in full."""
        found = Counter((item.kind, item.doubt) for item in self.operators if item.doubt)
        return sorted((*key, number) for key, number in found.items())

    @property
    def floating(self) -> tuple[Operator, ...]:
        """The operators that compute in floating point; conversions to and from it do not."""
        return tuple(
            item
            for item in self.operators
            if is_floating(item.computes_in) and item.kind not in (*CONVERSIONS, "InputLayer")
        )

    @property
    def by_kind(self) -> list[tuple[str, str, int, int]]:
        """Kind, numbers, number of operators and work, the most work first."""
        count: Counter[tuple[str, str]] = Counter()
        work: Counter[tuple[str, str]] = Counter()
        for item in self.operators:
            count[item.kind, item.numbers] += 1
            work[item.kind, item.numbers] += item.work
        return sorted(
            ((*key, count[key], work[key]) for key in count), key=lambda row: (-row[3], row[:2])
        )


def check_promise(summary: OperatorSummary, precision: str) -> None:
    """Check that a file computes in what its precision says, from raw pixels, with weights.

    ``int8``: every product in int8, those of two activations in uint8, and all
    else without a reason not to in integers. ``int16``: the same in 16 bits.
    ``mixed``: some product in integers. ``fp16`` and ``fp32``: none.

    Raises
    ------
    ExportError
        If the file breaks the promise. The error names the fault, and the
        operator with the most such work.
    """
    pixels = summary.pixels
    if not pixels.raw:
        raise ExportError(
            f"the input is {pixels.dtype} with scale {pixels.scale} and zero point "
            f"{pixels.zero_point}; it must be uint8 with scale 1.0 and zero point 0, or none, so "
            "that raw pixels fit"
        )
    products = [operator for operator in summary.operators if operator.kind in PRODUCTS]
    faulty = [operator for operator in products if operator.fault]
    if faulty:
        raise ExportError(f"{faulty[0].kind} {faulty[0].name}: {faulty[0].fault}")
    in_integers = [operator for operator in products if operator.computes_in in INTEGERS]
    if precision == "mixed":
        if not in_integers:
            raise ExportError("no product computes in integers, though the file is called mixed")
        return
    if precision in ("int8", "int16"):
        accepted = (precision, f"u{precision}") if precision == "int16" else (precision,)
        # In an ONNX file activations are uint8, and attention multiplies them with one another.
        wrong = [
            operator
            for operator in products
            if operator.computes_in not in accepted
            and (precision, operator.computes_in, operator.kind) != ("int8", "uint8", "MatMul")
        ]
        wrong += [
            operator
            for operator in summary.floating
            if operator.kind not in PRODUCTS and not operator.reason
        ]
    else:
        accepted, wrong = ("floating point",), in_integers
    if wrong:
        worst = max(wrong, key=lambda operator: operator.work)
        raise ExportError(
            f"{worst.kind} {worst.name} computes in {worst.computes_in}, not in {accepted[0]} "
            f"({counted(len(wrong), 'such operator')}; {summary.integer_share:.0%} of the work is "
            "in integers)"
        )


def summarise_operators(path: Path) -> OperatorSummary:
    """List the operators of a model file of any origin.

    Raises
    ------
    UsageError
        If the file has another suffix than a model file.
    MissingExtraError
        If the format needs a package that is absent.
    ModelFileError
        If the file cannot be read as what its suffix says.
    """
    known = format_of(path)
    try:
        found: OperatorSummary = load(known.operators)(path)
    except MedkitError:
        raise
    except Exception as error:
        # Parsers of damaged bytes raise whatever they stumble over first.
        raise ModelFileError(f"{path} is no {known.suffix} file, or a damaged one") from error
    return found


def fault_of(kind: str, arrays: Iterable[NDArray[Any]]) -> str:
    """Say what is wrong with a product's weights, or their scales."""
    if kind not in PRODUCTS:
        return ""
    for array in arrays:
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return "a weight is no finite number"
        if not array.any():
            return "all its weights are zero"
    return ""


def joint_type(operands: Iterable[str]) -> str:
    """Return what an operator computes in: the widest operand decides, floating before all."""

    def rank(name: str) -> tuple[int, int, str]:
        bits = re.search("[0-9]+", name)
        kind = 0 if is_floating(name) else 1 + (name in INTEGERS)
        return kind, -int(bits[0]) if bits else 0, name

    return min(set(operands), key=rank, default="nothing")


def is_floating(dtype: str) -> bool:
    """Whether numbers of a type are in floating point."""
    return "float" in dtype
