"""The runtimes: which library runs which model files. None is imported before it is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from medkit.defaults import AUTO, RUNTIME
from medkit.errors import UsageError
from medkit.extras import is_installed, require
from medkit.models.formats import suffixes
from medkit.wording import unknown


@dataclass(frozen=True)
class Variant:
    """Another way in which a runtime can compute the same file.

    Attributes
    ----------
    name
        Name of the variant, for people.
    options
        Arguments of the runtime's class, besides path and threads.
    """

    name: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Runtime:
    """A library that runs model files.

    Attributes
    ----------
    name
        The word for it, as ``--runtime`` takes it.
    title
        Common name of the library.
    suffix
        Suffix of the files that it runs. Such a file runs on the first runtime
        of its suffix, unless another is named.
    loads
        ``module:Class`` of a :class:`medkit.models.runtimes.base.Model`,
        which is given a path and a number of threads.
    package
        Distribution whose version decides how fast it is.
    needs
        Top-level modules of optional packages, as :func:`medkit.extras.require`
        takes them.
    own_threads
        Whether the library spreads one inference over threads of its own,
        so that one worker is enough.
    variants
        Other ways to compute the same file, which parity compares as well.
    """

    name: str
    title: str
    suffix: str
    loads: str
    package: str
    needs: tuple[str, ...] = ()
    own_threads: bool = False
    variants: tuple[Variant, ...] = field(default=())

    @property
    def installed(self) -> bool:
        """Whether its library is installed. Nothing is imported."""
        return all(map(is_installed, self.needs))

    def require(self) -> None:
        """Raise :class:`MissingExtraError` if its library is not installed."""
        require(f"run {self.suffix} files on {self.title}", *self.needs)


_RUNTIMES: list[Runtime] = [
    Runtime(
        name=RUNTIME,
        title="LiteRT",
        suffix=".tflite",
        loads="medkit.models.runtimes.litert:LiteRTModel",
        package="ai-edge-litert",
        needs=("ai_edge_litert",),
        # A device without XNNPACK rounds as LiteRT's own kernels do.
        variants=(Variant("without XNNPACK", MappingProxyType({"xnnpack": False})),),
    ),
    Runtime(
        name="onnx",
        title="ONNX Runtime",
        suffix=".onnx",
        loads="medkit.models.runtimes.onnx:OnnxModel",
        package="onnxruntime",
        needs=("onnxruntime",),
    ),
    Runtime(
        name="openvino",
        title="OpenVINO",
        suffix=".onnx",
        loads="medkit.models.runtimes.openvino:OpenVINOModel",
        package="openvino",
        needs=("openvino", "onnx"),
    ),
    Runtime(
        name="keras",
        title="Keras",
        suffix=".keras",
        loads="medkit.models.runtimes.keras:KerasModel",
        package="tensorflow",
        needs=("tensorflow", "keras"),
        own_threads=True,
    ),
]


def register_runtime(added: Runtime) -> None:
    """Register a runtime.

    Raises
    ------
    ValueError
        If its name is taken, or its suffix is that of no model file.
    """
    if added.name in (AUTO, *runtimes()):
        raise ValueError(f"there is a runtime {added.name!r} already; choose another name")
    if added.suffix not in suffixes():
        raise ValueError(
            f"the runtime {added.name!r} runs {added.suffix} files, which are of no known format; "
            "call register_format first"
        )
    _RUNTIMES.append(added)


def runtimes() -> dict[str, Runtime]:
    """Return every runtime by its name, in order."""
    return {known.name: known for known in _RUNTIMES}


def get_runtime(name: str) -> Runtime:
    """Return the runtime with this name. Raise :class:`UsageError` if there is none."""
    known = runtimes()
    if name not in known:
        raise UsageError(unknown("runtime", name, known))
    return known[name]


def runtimes_for(suffix: str) -> list[Runtime]:
    """Return the runtimes that run files with a suffix; the first is the usual one."""
    return [known for known in _RUNTIMES if known.suffix == suffix]
