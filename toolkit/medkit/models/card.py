"""The model card inside every model file: a description that the file carries.

It is the member ``medkit.json`` of a ``.keras`` archive, the metadata buffer
``medkit`` of a ``.tflite`` file, and the metadata property ``medkit`` of an
``.onnx`` file.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from medkit.defaults import BALANCED
from medkit.errors import ModelFileError
from medkit.images.contract import InputContract
from medkit.models.formats import format_of
from medkit.models.points import (
    OperatingPoints,
    are_multi_label,
    check_points,
    check_temperature,
    name_points,
    stored_points,
)
from medkit.records import read_record
from medkit.tasks import TASKS, Task

_KINDS = {False: "of one label an image", True: "multi-label"}
"""What tasks are called by whether they are multi-label."""


@dataclass(frozen=True)
class ModelCard:
    """The card of a model file: a description that the file carries.

    Attributes
    ----------
    task
        Name of the task.
    labels
        Class names in output order.
    contract
        The model's input contract: how an image file becomes a tensor.
    temperature
        Temperature that calibrates the probabilities. Every runtime divides
        the logits by it; see
        :func:`medkit.models.decisions.apply_temperature`.
    operating_points
        Operating points by name; see :class:`medkit.models.points.OperatingPoint`.
    precision
        ``original`` for Keras, else one of
        :data:`medkit.models.formats.PRECISIONS`.
    version
        Version of medkit that wrote the file.
    source_sha256
        Hash of the Keras original that an export was made from; empty for
        an original.
    calibrated
        Whether temperature and operating points were fitted to labelled
        images. A model that was adopted without any decides all the same, and
        every row of its answers says so.
    """

    task: str
    labels: tuple[str, ...]
    contract: InputContract
    temperature: float
    operating_points: OperatingPoints
    precision: str
    version: str
    source_sha256: str = ""
    calibrated: bool = True

    def __post_init__(self) -> None:
        check_temperature(self.temperature)
        check_points(self.operating_points, self.labels)

    @property
    def multi_label(self) -> bool:
        """Whether each label has a probability and a threshold of its own."""
        return are_multi_label(self.operating_points)

    @property
    def input_contract(self) -> InputContract:
        """The contract, by the name that version 0.1 has for it."""
        return self.contract

    def to_json(self) -> str:
        """Return the card as the JSON text that goes into a file."""
        stored = {
            **asdict(self),
            "contract": self.contract.to_dict(),
            "operating_points": stored_points(self.operating_points),
        }
        if self.calibrated:
            del stored["calibrated"]  # as versions that do not know the word write it
        return json.dumps(stored, sort_keys=True, separators=(",", ":"))

    def check(self, task: Task, contract: InputContract, where: Path) -> None:
        """Check that a model decides a task as the task is described.

        Parameters
        ----------
        task
            The task whose labels the outputs are taken for.
        contract
            Input contract by which images become tensors.
        where
            The model file, for the message.

        Raises
        ------
        ModelFileError
            If the card names another task, other labels, another order of
            labels, another contract, or is of a multi-label task where the
            other is not.
        """
        for what, mine, wanted in (
            ("task", self.task, task.name),
            ("labels", list(self.labels), list(task.labels)),
            ("input contract", self.contract.hash, contract.hash),
            ("kind", _KINDS[self.multi_label], _KINDS[task.multi_label]),
        ):
            if mine != wanted:
                raise ModelFileError(
                    f"{where}: its {what} {mine} differs from that of task {task.name}, {wanted}; "
                    "correct the task, or export the model again"
                )

    @classmethod
    def from_json(cls, text: str | bytes, where: Path) -> ModelCard:
        """Read and check a card.

        Raises
        ------
        ModelFileError
            If the text is no card, or its labels are not those of the
            built-in task that it names.
        ContractMismatchError
            If this version does not perform the model's preprocessing.
        """
        try:
            stored = _in_todays_form(json.loads(text))
            task = TASKS.get(str(stored.get("task")))
            labels = stored.get("labels")
            if task is not None and isinstance(labels, list) and labels != list(task.labels):
                raise ModelFileError(
                    f"{where}: its labels {labels} are not those of task {task.name}, "
                    f"{list(task.labels)}; export the model again"
                )
            if isinstance(stored.get("contract"), dict):
                stored["contract"] = InputContract.from_dict(stored["contract"], str(where))
            return read_record(cls, stored, strict=True)
        except (ValueError, RecursionError) as error:
            raise ModelFileError(
                f"{where}: its medkit card cannot be read ({error}); export the model again"
            ) from error


def read_card(path: Path) -> ModelCard:
    """Read the card of a model file, without loading the model.

    Raises
    ------
    UsageError
        If the suffix is not one of a model file.
    ModelFileError
        If the file is damaged, or holds no card that can be read.
    ContractMismatchError
        If this version does not perform the model's preprocessing.
    MissingExtraError
        If the format needs a package that is absent.
    """
    return ModelCard.from_json(format_of(path).read_card(path), path)


def no_card(path: Path) -> ModelFileError:
    """Return the error for a model file that medkit did not write."""
    return ModelFileError(
        f"{path} carries no medkit card (task, labels, input contract); "
        "accepted: files written by 'medkit train' and 'medkit export'"
    )


def _in_todays_form(stored: Any) -> dict[str, Any]:
    """Return a stored card with named operating points.

    A card of medkit 0.1.0 had one threshold, and no temperature.

    Raises
    ------
    ValueError
        If it is no object.
    """
    if not isinstance(stored, dict):
        raise ValueError("it is not an object")
    if "threshold" not in stored:
        points = stored.get("operating_points")
        named = {"operating_points": name_points(points)} if isinstance(points, dict) else {}
        return {**stored, **named}
    task = TASKS.get(str(stored.get("task")))
    threshold = stored["threshold"]
    alert = None if threshold is None or task is None else task.alert
    point = {"name": BALANCED, "label": alert, "threshold": threshold}
    kept = {key: value for key, value in stored.items() if key != "threshold"}
    return {**kept, "temperature": 1.0, "operating_points": {BALANCED: point}}
