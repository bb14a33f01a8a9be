"""What ``medkit adopt`` is asked for, and what it answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from medkit.defaults import MEASURED_IMAGES, SEED
from medkit.errors import UsageError
from medkit.models.manifest import Manifest
from medkit.tasks import TRAINED_VARIABLE, Task, user_folder
from medkit_exporters.adoption.measuring import Measured


@dataclass(frozen=True)
class AdoptOptions:
    """Arguments of an adoption.

    Attributes
    ----------
    model
        The model that was trained elsewhere: a file, or the folder of a SavedModel.
    name
        Name of the task, and of its folder.
    data
        Labelled images; ``None`` adopts the model uncalibrated.
    original
        The Keras model that a ``.tflite`` or ``.onnx`` file was made from;
        it is kept, so that parity compares both.
    labels
        File with the labels in the order of the outputs; ``None`` for one
        that lies beside the model, or for what the model holds.
    title
        Title of the task; empty for its name.
    alert
        The label that must not be missed; empty for the second of two.
    pixels
        Name of a pixel rule, or ``MEAN/STD``; empty to measure it.
    resize
        One of :data:`medkit.images.resize.RESIZE_RULES`; empty to measure it.
    size
        Width and height in pixels, for a model that leaves them free.
    multi_label
        Whether an image can have several labels; ``None`` for what the last
        activation tells.
    accept_tie
        Take the first of several rules that measure alike.
    trust_code
        Python file with the classes of the model's own layers. It is run.
    group_by
        Pattern or CSV that tells which images belong together.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.
    out
        Folder in which the task's folder is made; ``None`` for the one that
        ``MEDKIT_TRAINED`` names, else the user's own.
    images
        Number of images that measure, at most.
    seed
        Decides the division, and which images measure.
    overwrite
        Replace a bundle that is there.
    """

    model: Path
    name: str
    data: Path | None = None
    original: Path | None = None
    labels: Path | None = None
    title: str = ""
    alert: str = ""
    pixels: str = ""
    resize: str = ""
    size: tuple[int, int] | None = None
    multi_label: bool | None = None
    accept_tie: bool = False
    trust_code: Path | None = None
    group_by: str | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)
    out: Path | None = None
    images: int = MEASURED_IMAGES
    seed: int = SEED
    overwrite: bool = False

    @property
    def folder(self) -> Path:
        """The folder that gets the bundle.

        Raises
        ------
        UsageError
            If the user has no folder of models.
        """
        named = os.environ.get(TRAINED_VARIABLE)
        root = self.out or (Path(named) if named else user_folder())
        if root is None:
            raise UsageError("there is no folder of your own for models; name one with --out DIR")
        return root / self.name


@dataclass(frozen=True)
class AdoptResult:
    """Result of an adoption.

    Attributes
    ----------
    folder, task, manifest
        The bundle.
    file
        The model file in it.
    pixels
        Name of the pixel rule that went into the graph.
    measured
        What was measured to find pixel rule and resize; empty if nothing was.
    """

    folder: Path
    task: Task
    manifest: Manifest
    file: Path
    pixels: str
    measured: Measured = field(default_factory=Measured)
