"""Puts the models that ship into the wheel: int8 files and manifests, not the originals."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ShippedModels(BuildHookInterface):  # type: ignore[type-arg]
    """Adds ``trained/*/manifest.json`` and ``trained/*/model-int8.*`` as ``medkit/trained/``."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable install reads them from the repository instead."""
        if version == "editable":
            return
        root = Path(self.root)
        for pattern in ("trained/*/manifest.json", "trained/*/model-int8.*"):
            found = sorted(root.glob(pattern))
            if not found:
                raise FileNotFoundError(f"no {pattern}: train and export before building a wheel")
            for path in found:
                build_data["force_include"][str(path)] = f"medkit/{path.relative_to(root)}"
