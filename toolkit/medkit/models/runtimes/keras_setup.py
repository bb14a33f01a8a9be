"""Keras on TensorFlow with its own defaults, whatever a user's other work has set.

``KERAS_BACKEND``, ``~/.keras/keras.json`` and the like belong to other
programs. Under another backend or another order of channels, no file would
load, or a network would be trained that computes something else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from medkit.errors import MedkitError

BACKEND = "tensorflow"

_DEFAULTS: dict[str, Any] = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
}
"""What ``keras.json`` can change beside the backend, as Keras has it without the file."""

_FOREIGN = (
    "KERAS_MAX_EPOCHS",
    "KERAS_MAX_STEPS_PER_EPOCH",
    "KERAS_NNX_ENABLED",
    "TF_USE_LEGACY_KERAS",
)
"""Variables that Keras or TensorFlow read once, while they are imported."""


def import_keras() -> Any:
    """Import Keras on TensorFlow, with its defaults.

    The environment is as before afterwards. Who has imported Keras before
    keeps their settings: they are checked, never changed.

    Raises
    ------
    MedkitError
        If Keras cannot use ``keras.json``, or runs in this process with
        another backend or other settings.
    """
    if "keras" in sys.modules:
        import keras

        _check(keras)
        return keras
    with _environment():
        try:
            import keras
            import tensorflow
        except ValueError as error:
            raise MedkitError(
                f"Keras cannot use its settings ({error}); correct or remove ~/.keras/keras.json"
            ) from error
        # TensorFlow decides at the first use which Keras it hands its own tools.
        assert tensorflow.keras.layers is not None
    for name, value in _DEFAULTS.items():
        getattr(keras.config, f"set_{name}")(value)
    return keras


def _check(keras: Any) -> None:
    """Raise unless Keras, which somebody else has imported, is set as medkit needs it."""
    if keras.config.backend() != BACKEND:
        raise MedkitError(
            f"Keras runs on {keras.config.backend()} in this process, and medkit needs it on "
            f"TensorFlow; use a new process, or set KERAS_BACKEND={BACKEND} before Keras is "
            "imported"
        )
    for name, value in _DEFAULTS.items():
        found = getattr(keras.config, name)()
        if found != value:
            raise MedkitError(
                f"Keras is set to {name} {found} in this process, and medkit needs {value}; use a "
                f"new process, or call keras.config.set_{name}({value!r}) first"
            )


@contextmanager
def _environment() -> Iterator[None]:
    """Name the backend, and hide what is set for other programs."""
    before = {name: os.environ.pop(name, None) for name in ("KERAS_BACKEND", *_FOREIGN)}
    os.environ["KERAS_BACKEND"] = BACKEND
    try:
        yield
    finally:
        del os.environ["KERAS_BACKEND"]
        os.environ.update({name: value for name, value in before.items() if value is not None})
