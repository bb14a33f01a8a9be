"""The number format that a network computes in while it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from medkit.models.recipe import Recipe

_CPU_FLAGS = Path("/proc/cpuinfo")
_BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}  # the last is Arm's


def computes_bfloat16() -> bool:
    """Whether Linux says that the processor multiplies bfloat16 in hardware.

    Other processors emulate it, which is many times slower than float32.
    """
    if not _CPU_FLAGS.is_file():
        return False
    return bool(_BFLOAT16_FLAGS & set(_CPU_FLAGS.read_text(encoding="utf-8").split()))


def compute_type(recipe: Recipe) -> str:
    """Return the Keras dtype policy that a recipe is trained under on this machine."""
    return "mixed_bfloat16" if recipe.bfloat16 and computes_bfloat16() else "float32"


@contextmanager
def computing_in(policy: str) -> Iterator[None]:
    """Use a Keras dtype policy for the layers that are made in the block."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
