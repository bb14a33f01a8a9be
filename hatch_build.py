"""Puts the models that ship into the wheel: int8 files, manifests and cards, not the originals."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_SHIPPED = (
    "trained/*/manifest.json",
    "trained/*/seed.json",
    "trained/*/MODEL_CARD.md",
    "trained/*/model-int8.*",
)


class ShippedModels(BuildHookInterface):  # type: ignore[type-arg]
    """Adds what of ``trained/`` is needed to classify and to report, as ``medkit/trained/``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable install reads them from the repository instead."""
        if version == "editable":
            return
        root = Path(self.root)
        for pattern in _SHIPPED:
            found = sorted(root.glob(pattern))
            if not found:
                raise FileNotFoundError(f"no {pattern}: train and export before building a wheel")
            for path in found:
                build_data["force_include"][str(path)] = f"medkit/{path.relative_to(root)}"
