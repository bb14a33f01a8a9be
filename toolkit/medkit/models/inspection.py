"""Inspection of a model file: its card, its hash and its operators."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medkit.errors import ModelFileError
from medkit.files import sha256_of, write_json
from medkit.models.card import ModelCard, read_card
from medkit.models.formats import format_of
from medkit.models.operators.summary import OperatorSummary, summarise_operators
from medkit.models.runtimes.loading import check_whole
from medkit.models.seal import is_sealed


@dataclass(frozen=True)
class Inspection:
    """The result of inspecting a model file.

    Attributes
    ----------
    path, bytes, sha256
        Path, size and hash of the file.
    card
        Card of the file; ``None`` if medkit did not write it, or if this
        version does not perform its preprocessing.
    problem
        Reason why there is no card; empty if there is one.
    summary
        Operators of the file.
    """

    path: Path
    bytes: int
    sha256: str
    card: ModelCard | None
    problem: str
    summary: OperatorSummary

    def to_dict(self) -> dict[str, Any]:
        """Return everything for JSON."""
        stored = {**asdict(self), "path": str(self.path)}
        if self.card is not None:
            stored["card"]["contract"] = self.card.contract.to_dict()
            stored["card"]["operating_points"] = {
                name: {"name": name, **point.to_dict()}
                for name, point in self.card.operating_points.items()
            }
        operators = stored.pop("summary")
        shares = {"work": self.summary.work, "integer_share": self.summary.integer_share}
        # The key is as old as the command.
        return {**stored, "census": {**operators, **shares}}


def inspect_file(path: Path) -> Inspection:
    """Inspect a ``.tflite``, ``.onnx``, ``.keras`` or ``.h5`` file of any origin.

    Raises
    ------
    UsageError
        If the file has another suffix.
    MissingExtraError
        If the format needs a package that is absent.
    ModelFileError
        If the file is missing or damaged.
    """
    known = format_of(path)
    known.require()
    sha256 = sha256_of(path)
    # A file that medkit did not write may be looked at, but a broken seal tells of damage.
    if known.exported and is_sealed(path):
        check_whole(path)
    summary = summarise_operators(path)
    card, problem = None, ""
    try:
        card = read_card(path)
    except ModelFileError as error:
        problem = str(error)
    return Inspection(path, path.stat().st_size, sha256, card, problem, summary)


def write_inspection(inspection: Inspection, path: Path) -> None:
    """Write everything as JSON."""
    write_json(path, inspection.to_dict(), ascii_only=False)
