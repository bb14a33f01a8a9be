"""Which number format a network learns in: what the processor and the recipe say."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from medkit.training import RECIPES, precision
from medkit.training.precision import compute_type, computes_bfloat16, computing_in

keras = pytest.importorskip("keras")

ABLE = ("avx512_bf16", "amx_bf16", "bf16")


@pytest.fixture(autouse=True)
def policy() -> Iterator[None]:
    """Check that every test leaves Keras as it was."""
    before = keras.config.dtype_policy().name
    yield
    assert keras.config.dtype_policy().name == before == "float32"


@pytest.fixture
def processor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give the file that tells a made processor's flags; it is not there yet."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(precision, "_CPU_FLAGS", path)
    return path


# The processor


@pytest.mark.parametrize(
    ("line", "able"),
    [
        ("flags\t\t: fpu avx2 avx512_bf16 amx_tile", True),
        ("flags\t\t: fpu amx_bf16 amx_tile", True),
        ("Features\t: fp asimd bf16 i8mm", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni", False),
        ("model name\t: Imaginary bf16-less", False),
        ("flags\t\t: avx512_bf16x notbf16", False),
        ("", False),
    ],
)
def test_the_flags_tell_whether_the_processor_computes_bfloat16(
    processor: Path, line: str, able: bool
) -> None:
    processor.write_text(f"processor\t: 0\n{line}\nbogomips\t: 5000\n", encoding="utf-8")
    assert computes_bfloat16() is able


def test_without_flags_the_processor_is_taken_not_to_compute_bfloat16(processor: Path) -> None:
    assert not processor.exists()
    assert computes_bfloat16() is False


# The recipe


@pytest.mark.parametrize("flag", ABLE)
def test_a_recipe_that_asks_for_bfloat16_gets_it_if_the_processor_computes_it(
    processor: Path, flag: str
) -> None:
    asks = dataclasses.replace(RECIPES["skin", "default"], bfloat16=True)
    does_not = dataclasses.replace(asks, bfloat16=False)
    processor.write_text(f"flags : {flag}\n")
    assert [compute_type(recipe) for recipe in (asks, does_not)] == ["mixed_bfloat16", "float32"]
    processor.write_text("flags : avx2\n")
    assert [compute_type(recipe) for recipe in (asks, does_not)] == ["float32", "float32"]


def test_the_seeds_recipes_compute_as_the_student_project_did(processor: Path) -> None:
    processor.write_text(f"flags : {' '.join(ABLE)}\n")
    seeds = [recipe for (_, name), recipe in RECIPES.items() if name == "seed"]
    assert [compute_type(recipe) for recipe in seeds] == ["float32", "float32"]


# Keras


def test_layers_of_the_block_compute_in_bfloat16_and_keep_float32_weights() -> None:
    with computing_in("mixed_bfloat16"):
        inside = keras.layers.Dense(2)
    outside = keras.layers.Dense(2)
    for layer, dtype in ((inside, "bfloat16"), (outside, "float32")):
        layer.build((None, 3))
        assert (layer.compute_dtype, layer.variable_dtype) == (dtype, "float32")
        assert keras.backend.standardize_dtype(layer(np.ones((1, 3))).dtype) == dtype


def test_blocks_can_be_nested() -> None:
    with computing_in("mixed_bfloat16"):
        with computing_in("float32"):
            assert keras.layers.Dense(1).compute_dtype == "float32"
        assert keras.layers.Dense(1).compute_dtype == "bfloat16"
    assert keras.layers.Dense(1).compute_dtype == "float32"


def test_an_error_in_the_block_leaves_keras_as_it_was() -> None:
    def build() -> None:
        assert keras.config.dtype_policy().name == "mixed_bfloat16"
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), computing_in("mixed_bfloat16"):
        build()
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("name", ["default", "seed"])
def test_what_a_recipe_gets_is_a_policy_that_keras_knows(processor: Path, name: str) -> None:
    processor.write_text("flags : bf16\n")
    for task in ("pneumonia", "skin"):
        with computing_in(compute_type(RECIPES[task, name])):
            layer = keras.layers.Dense(1)
        assert layer.compute_dtype in ("float32", "bfloat16")
        assert layer.variable_dtype == "float32"
