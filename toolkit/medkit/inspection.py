"""What a model file is: its card, its hash, and what it computes with."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medkit.bundles import FORMATS, ModelCard, replacing, sha256_of
from medkit.census import Census, take_census
from medkit.errors import ModelFileError
from medkit.runtimes import check_whole, read_card
from medkit.seal import is_sealed


@dataclass(frozen=True)
class Inspection:
    """A model file, taken apart.

    Attributes
    ----------
    path, bytes, sha256
        Which file.
    card
        What the file says of itself; ``None`` if medkit did not write it, or
        not for this version's preprocessing.
    problem
        Why there is no card; empty if there is one.
    census
        What it is made of.
    """

    path: Path
    bytes: int
    sha256: str
    card: ModelCard | None
    problem: str
    census: Census

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        return {
            **asdict(self),
            "path": str(self.path),
            "census": {
                **asdict(self.census),
                "work": self.census.work,
                "integer_share": self.census.integer_share,
            },
        }


def inspect_file(path: Path) -> Inspection:
    """Take a ``.tflite``, ``.onnx`` or ``.keras`` file apart, whoever wrote it.

    Raises
    ------
    UsageError
        If the file has another suffix.
    MissingExtraError
        If the format needs a package that is absent.
    ModelFileError
        If the file is missing or damaged.
    """
    sha256 = sha256_of(path)
    # A file that medkit did not write may be looked at, but a broken seal tells of damage.
    if path.suffix.lower() in FORMATS.values() and is_sealed(path):
        check_whole(path)
    census = take_census(path)
    card, problem = None, ""
    try:
        card = ModelCard.from_json(read_card(path), path)
    except ModelFileError as error:
        problem = str(error)
    return Inspection(path, path.stat().st_size, sha256, card, problem, census)


def write_inspection(inspection: Inspection, path: Path) -> None:
    """Write everything as JSON."""
    text = json.dumps(inspection.to_dict(), indent=2, ensure_ascii=False)
    with replacing(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
