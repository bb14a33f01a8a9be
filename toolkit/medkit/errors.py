"""Every error that medkit raises on purpose.

::

    MedkitError                     could not run                     exit 1
    ├── UsageError                  arguments that cannot be obeyed   exit 2
    │   ├── DatasetLayoutError      a data folder of another shape
    │   ├── DatasetConflictError    a data set that contradicts itself
    │   ├── NoImagesError           nothing to classify
    │   └── UndecidedError          figures that do not tell what is right
    ├── MissingExtraError           an optional package is absent
    ├── WeightsUnavailableError     ImageNet weights out of reach
    ├── ModelFileError              a model file missing, damaged or foreign
    │   └── ContractMismatchError   made for other preprocessing
    ├── TrainingError               a run that cannot start or go on
    ├── ExportError                 a conversion that broke its promise
    └── ImageError                  one image that cannot be read

``ImageError`` never leaves the batch classifier: it becomes that file's row.
The message of each is one line that says what was wrong, what is accepted,
and what to do next.
"""

from __future__ import annotations


class MedkitError(Exception):
    """Base of all errors raised on purpose; ``exit_code`` is the process's status."""

    exit_code = 1


class UsageError(MedkitError):
    """The arguments cannot be obeyed as given."""

    exit_code = 2


class DatasetLayoutError(UsageError):
    """A data folder does not have the layout that its task expects."""


class DatasetConflictError(UsageError):
    """A data set holds an image under two labels, or in two splits."""


class NoImagesError(UsageError):
    """The given paths hold no image."""


class UndecidedError(UsageError):
    """Several choices measure alike, and the user must say which is right.

    Parameters
    ----------
    message
        The line.
    measured
        What was measured, to be shown.
    """

    def __init__(self, message: str, measured: object = None) -> None:
        super().__init__(message)
        self.measured = measured


class MissingExtraError(MedkitError):
    """An optional package is needed for what was asked.

    Parameters
    ----------
    package
        Name of the package that is not installed.
    extra
        The extra of ``medkit-edge`` that brings it: empty for the base
        install, ``None`` if a plug-in needs a package of its own.
    purpose
        Purpose that needs the package, as the end of "needed to ...".
    """

    def __init__(self, package: str, extra: str | None, purpose: str) -> None:
        wanted = package if extra is None else f"medkit-edge[{extra}]" if extra else "medkit-edge"
        super().__init__(
            f"{package} is needed to {purpose} and is not installed; "
            f'install it with: pip install "{wanted}"'
        )


class WeightsUnavailableError(MedkitError):
    """The ImageNet weights are neither cached nor downloadable nor given."""


class ModelFileError(MedkitError):
    """A model file is missing, damaged, or not one that medkit wrote."""


class ContractMismatchError(ModelFileError):
    """A model was made for other preprocessing than this version performs."""


class TrainingError(MedkitError):
    """A training run cannot start, or cannot be continued."""


class ExportError(MedkitError):
    """A converted file does not keep what its name promises."""


class ImageError(MedkitError):
    """One image file cannot be turned into a tensor."""
