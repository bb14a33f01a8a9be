"""The exporters: which class converts to which format. None is imported before it is used.

A new format of exported files is a module with an exporter, and an entry
here. The format itself is registered with :mod:`medkit.models.formats`, and a
runtime that runs its files with :mod:`medkit.models.runtimes.registry`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from medkit.errors import UsageError
from medkit.models.formats import export_formats, load
from medkit.models.runtimes.registry import runtimes_for
from medkit.wording import unknown

if TYPE_CHECKING:
    from medkit_exporters.formats.base import Exporter


@dataclass(frozen=True)
class KnownExporter:
    """An exporter that need not be imported yet.

    Attributes
    ----------
    name
        Name of its format, one of :func:`medkit.models.formats.export_formats`.
    loads
        ``module:Class`` of a :class:`medkit_exporters.formats.base.Exporter`,
        which is called without arguments.
    needs
        Top-level modules of optional packages, as :func:`medkit.extras.require`
        takes them, beside those that every export needs.
    """

    name: str
    loads: str
    needs: tuple[str, ...] = ()

    @property
    def suffix(self) -> str:
        """The suffix of the format's files."""
        return export_formats()[self.name].suffix

    @property
    def runtime(self) -> str:
        """The common name of the library that usually runs the format's files."""
        return runtimes_for(self.suffix)[0].title

    @property
    def all_needs(self) -> tuple[str, ...]:
        """Modules that converting, reading and running such files need."""
        (runtime, *_) = runtimes_for(self.suffix)
        needs = (*self.needs, *export_formats()[self.name].needs, *runtime.needs)
        return tuple(dict.fromkeys(needs))

    def load(self) -> Exporter:
        """Import the exporter, and return it."""
        exporter: Exporter = load(self.loads)()
        return exporter


_EXPORTERS: list[KnownExporter] = [
    KnownExporter("tflite", "medkit_exporters.formats.tflite:TFLiteExporter"),
    KnownExporter(
        "onnx", "medkit_exporters.formats.onnx:OnnxExporter", ("tf2onnx", "onnx_ir", "sympy")
    ),
]


def register_exporter(added: KnownExporter) -> None:
    """Make an exporter known; raise :class:`ValueError` for a format that has one."""
    if added.name in known_exporters():
        raise ValueError(f"there is an exporter for {added.name!r} already; choose another name")
    if added.name not in export_formats():
        raise ValueError(f"{added.name!r} is no format of exports; register the format first")
    _EXPORTERS.append(added)


def known_exporters() -> dict[str, KnownExporter]:
    """Return every exporter by the name of its format, in order."""
    return {known.name: known for known in _EXPORTERS}


def get_exporter(name: str) -> KnownExporter:
    """Return the exporter of a format; raise :class:`UsageError` for any other word."""
    known = known_exporters()
    if name not in known:
        raise UsageError(unknown("format", name, known))
    return known[name]
