"""Changing model files so that only the change is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medkit.models.formats import CARD_NAME, format_of
from medkit.models.seal import sealed


def save_onnx(model: Any, path: Path) -> None:
    """Write a changed ONNX model with a seal of its own."""
    kept = [item for item in model.metadata_props if item.key == CARD_NAME]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    path.write_bytes(sealed(model.SerializeToString(), format_of(path).seal))


def card_of(model: Any) -> Any:
    """Return the property of an ONNX model that holds its card."""
    (card,) = (item for item in model.metadata_props if item.key == CARD_NAME)
    return card


def unsealed(content: bytes, suffix: str) -> bytes:
    """Return a file's bytes before its seal."""
    return content[: -len(sealed(b"", format_of(Path(f"model{suffix}")).seal))]
