"""Which kinds of model files can be adopted, and what opens each. None is imported before."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medkit.errors import ModelFileError, UsageError
from medkit.extras import require
from medkit.models.formats import load
from medkit.models.runtimes.keras import import_tensorflow
from medkit_exporters.adoption.base import OpenedModel


@dataclass(frozen=True)
class Asked:
    """What a user says of a model file, for what opens it.

    Attributes
    ----------
    size
        Width and height in pixels, for a model that leaves them free.
    trust_code
        Python file with the classes of the model's own layers; ``None`` runs
        no code of the user's.
    """

    size: tuple[int, int] | None = None
    trust_code: Path | None = None


@dataclass(frozen=True)
class Opener:
    """What opens one kind of model file.

    Attributes
    ----------
    suffixes
        Suffixes of the files, in small letters; an empty one for a folder.
    loads
        ``module:function`` that takes the path and an :class:`Asked`, and
        returns an :class:`~medkit_exporters.adoption.base.OpenedModel`.
    needs
        Top-level modules of optional packages that it imports.
    """

    suffixes: tuple[str, ...]
    loads: str
    needs: tuple[str, ...]

    def open(self, path: Path, asked: Asked) -> OpenedModel:
        """Open a file.

        Raises
        ------
        ModelFileError
            If it is damaged, holds code, or is no classifier of images.
        UsageError
            If something is asked for that does not fit the file.
        """
        if "tensorflow" in self.needs:
            import_tensorflow("adopt a model")
        opened: OpenedModel = load(self.loads)(path, asked)
        return opened


_KERAS_NEEDS = ("tensorflow", "keras", "h5py")
_HERE = "medkit_exporters.adoption"

OPENERS: list[Opener] = [
    Opener((".keras",), f"{_HERE}.keras_file:open_archive", _KERAS_NEEDS),
    Opener((".h5", ".hdf5"), f"{_HERE}.keras_file:open_hdf5", _KERAS_NEEDS),
    Opener(("",), f"{_HERE}.saved_model:open_saved_model", _KERAS_NEEDS),
    Opener((".tflite",), f"{_HERE}.tflite_file:open_tflite", ("ai_edge_litert",)),
    Opener((".onnx",), f"{_HERE}.onnx_file:open_onnx", ("onnx", "onnxruntime")),
]
"""Every kind of file that can be adopted."""


def opener_for(path: Path) -> Opener:
    """Return what opens a model file, by its suffix. Nothing of the file is read.

    Raises
    ------
    ModelFileError
        If there is no such file.
    UsageError
        If it is of no kind that can be adopted.
    MissingExtraError
        If a package that it needs is absent.
    """
    if not path.exists():
        raise ModelFileError(f"no model file {path}; check the path")
    suffix = path.suffix.lower()
    for known in OPENERS:
        if (suffix in known.suffixes and path.is_file()) or (
            "" in known.suffixes and path.is_dir()
        ):
            require("adopt such a model", *known.needs)
            return known
    accepted = ", ".join(each for known in OPENERS for each in known.suffixes if each)
    raise UsageError(
        f"{path} is no model file; accepted: {accepted}, and the folder of a SavedModel"
    )
