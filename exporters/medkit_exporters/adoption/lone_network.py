"""A network that Keras alone cannot load again: it becomes an exported file at once.

Its code is not stored, so no file of the bundle needs it. Importing this
module imports Keras and TensorFlow.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import tensorflow as tf

from medkit.errors import ExportError
from medkit.models.card import ModelCard
from medkit.models.formats import export_name
from medkit.models.runtimes.base import one_line
from medkit_exporters.adoption.keras_file import KerasNetwork
from medkit_exporters.adoption.pixels import PixelRule
from medkit_exporters.formats.registry import get_exporter
from medkit_exporters.formats.tflite import convert_function


class LoneNetwork(KerasNetwork):
    """A network in memory that is written as a TFLite file of single precision."""

    def write(self, folder: Path, card: ModelCard, pixels: PixelRule, ending: str) -> Path:
        """Write the network as an export, with the normalisation in front."""
        model: Any = self.wrapped(card, pixels, ending)

        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec([None, *card.contract.shape], tf.uint8, name="pixels")]
        )
        def infer(images: Any) -> Any:
            return model(images, training=False)

        try:
            content = convert_function(infer)
        except Exception as error:
            # The converter raises classes that share no other base.
            raise ExportError(
                f"{self.path} cannot be converted to TFLite, and its own layers cannot be stored: "
                f"{one_line(error)[:300]}"
            ) from error
        card = replace(card, precision="fp32")
        content, _ = get_exporter("tflite").load().finalise(content, card)
        path = folder / export_name("tflite", "fp32")
        path.write_bytes(content)
        return path
