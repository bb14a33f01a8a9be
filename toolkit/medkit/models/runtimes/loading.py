"""Opening a model file on a runtime, after it has been checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from medkit.defaults import RUNTIME
from medkit.errors import ModelFileError, UsageError
from medkit.models.bundle import Bundle, is_listed
from medkit.models.formats import format_of, load, suffixes
from medkit.models.manifest import MANIFEST_NAME
from medkit.models.runtimes.base import Model
from medkit.models.runtimes.registry import (
    Runtime,
    get_runtime,
    runtimes,
    runtimes_for,
)
from medkit.models.seal import is_sealed, is_whole
from medkit.wording import Remark, counted

MOST_THREADS = 256
"""Threads that one inference may ask for; the runtimes crash on absurd numbers."""


@dataclass(frozen=True)
class ModelSpec:
    """A specification of a model. It can be sent to another process, which opens the model.

    Attributes
    ----------
    path
        The model file.
    runtime
        Name of the runtime.
    sha256
        Hash of the file.
    threads
        Number of threads for one inference; ``None`` leaves it to the runtime.
    """

    path: Path
    runtime: str
    sha256: str
    threads: int | None = None

    def open(self) -> Model:
        """Open the model; see :func:`load_model`."""
        return load_model(self.path, self.threads, self.runtime)


def load_model(path: Path, threads: int | None = None, runtime: str | None = None) -> Model:
    """Load a model file.

    Parameters
    ----------
    path
        A ``.tflite``, ``.onnx`` or ``.keras`` file that medkit wrote.
    threads
        Threads for one inference; ``None`` leaves it to the runtime.
    runtime
        Name of a runtime; ``None`` for the one that the suffix calls for.

    Raises
    ------
    UsageError
        If the suffix or the number of threads is not accepted, or the runtime
        is unknown or runs no such files.
    ModelFileError
        If the file is missing, damaged (see :func:`check_whole`) or without
        a card.
    ContractMismatchError
        If this version does not perform its preprocessing.
    MissingExtraError
        If its runtime is not installed.
    """
    chosen = runtime_for(path, runtime)
    check_threads(threads)
    try:
        if not path.is_file():
            raise ModelFileError(f"no model file {path}; check the path")
        check_whole(path)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror}") from error
    return _opened(chosen, path, threads)


def usual_runtime(bundle: Bundle) -> Runtime:
    """Return the runtime for a bundle where none is named.

    It is LiteRT, unless a bundle has exports and none of them is a TFLite file.
    """
    usual = get_runtime(RUNTIME)
    there = {Path(name).suffix for name in bundle.manifest.exports}
    fitting = [known for known in runtimes().values() if known.suffix in there]
    return fitting[0] if fitting and usual not in fitting else usual


def runtime_for(path: Path, name: str | None = None) -> Runtime:
    """Return the runtime for a model file.

    Parameters
    ----------
    path
        The file; only its suffix is looked at.
    name
        The runtime that is asked for; ``None`` for the usual one.

    Raises
    ------
    UsageError
        If the suffix is not accepted, or the runtime is unknown or runs no
        such files.
    """
    suffix = path.suffix.lower()
    fitting = runtimes_for(suffix)
    if not fitting:
        accepted = ", ".join(dict.fromkeys(known.suffix for known in runtimes().values()))
        shown = (
            "can only be shown, by: medkit inspect" if suffix in suffixes() else "is no model file"
        )
        raise UsageError(f"{path} {shown}; accepted: {accepted}")
    if name is None:
        return fitting[0]
    chosen = get_runtime(name)
    if chosen.suffix != suffix:
        accepted = ", ".join(known.name for known in fitting)
        raise UsageError(f"{path} does not run on {name}; accepted: {accepted}")
    return chosen


def check_threads(threads: int | None) -> None:
    """Raise :class:`UsageError` for a number of threads that would be absurd."""
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"{counted(threads, 'thread')}; accepted: 1 to {MOST_THREADS}")


def check_whole(path: Path) -> None:
    """Check that a model file has the bytes that it was written with.

    Nothing of it is run before: a flipped bit can make a runtime crash, and
    takes the process with it. A Keras archive has a checksum of each member,
    which is compared when it is loaded.

    Raises
    ------
    ModelFileError
        If an exported file is damaged, or was cut short or not written by
        medkit. Files of medkit 0.1.0 have no seal, and need their manifest.
    OSError
        If it cannot be read.
    """
    if not format_of(path).exported:
        path.open("rb").close()
    elif is_sealed(path):
        if not is_whole(path):
            raise ModelFileError(
                f"{path} is damaged or was changed: its bytes are not those of its seal; "
                "copy or export it again"
            )
    elif not is_listed(path):
        raise ModelFileError(
            f"{path} was cut short, or is no model file of medkit: it has no seal, and no "
            f"{MANIFEST_NAME} beside it lists its bytes; copy it again, or make it with: "
            "medkit export"
        )


def models_of(path: Path, note: Callable[[str], None] = lambda text: None) -> Iterator[Model]:
    """Give an exported file on each runtime that is installed and can run it.

    The first is that of :func:`load_model`. Variants of a runtime follow it,
    such as LiteRT without XNNPACK's kernels.

    Parameters
    ----------
    path
        The file.
    note
        Function that is told of a further runtime that cannot run the file.

    Raises
    ------
    ModelFileError
        If the first runtime cannot; and as :func:`load_model`.
    """
    yield load_model(path)
    first, *others = runtimes_for(format_of(path).suffix)
    ways = [(first, variant.options) for variant in first.variants]
    for other in others:
        if other.installed:
            ways += [(other, {}), *((other, variant.options) for variant in other.variants)]
    for runtime, options in ways:
        try:
            model = _opened(runtime, path, None, **options)
        except ModelFileError as error:
            note(Remark(f"left out: {error}"))
        else:
            yield model


def _opened(runtime: Runtime, path: Path, threads: int | None, **options: object) -> Model:
    runtime.require()
    model: Model = load(runtime.loads)(path, threads, **options)
    return model
