"""Files of earlier versions as final files: the temperature moves from the card into the graph.

Nothing is converted again, so weights and decisions stay as they are.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from medkit.errors import ExportError
from medkit.extras import require
from medkit.files import replacing
from medkit.models.bundle import Bundle, file_record
from medkit.models.card import read_card
from medkit.models.formats import format_of
from medkit.models.manifest import ExportEntry
from medkit.models.runtimes.loading import load_model
from medkit.reports.modelcard import write_card
from medkit_exporters.formats.registry import get_exporter
from medkit_exporters.run import MODULES


def finalise_exports(bundle: Bundle) -> Bundle:
    """Make every export of a bundle final, in place.

    Files that are final stay as they are. Figures in the manifest stay too:
    they are those of the same network, and only the last bits of its
    probabilities change.

    Parameters
    ----------
    bundle
        The bundle. Its folder must be writable.

    Returns
    -------
    Bundle
        The bundle with the manifest as it then is.

    Raises
    ------
    MissingExtraError
        If a package is absent, before anything is read.
    ModelFileError
        If a file is missing, damaged or has no card.
    ExportError
        If a file does not end in a softmax or a sigmoid, or gives other
        probabilities afterwards. It then stays as it was.
    """
    waiting = {
        name: entry
        for name, entry in bundle.manifest.exports.items()
        if entry.graph_temperature is None
    }
    exporters = {name: get_exporter(format_of(Path(name)).name) for name in waiting}
    needs = (module for exporter in exporters.values() for module in exporter.all_needs)
    require("make files final", *MODULES, *needs, extra="export")
    for name, entry in waiting.items():
        path = bundle.folder / name
        bundle.verify(path)
        card = read_card(path)
        content, final = exporters[name].load().finalise(path.read_bytes(), card)
        with replacing(path) as temporary:
            temporary.write_bytes(content)
            _check_alike(path, temporary)
        record = file_record(path)
        finished: ExportEntry = replace(
            entry,
            bytes=record.bytes,
            sha256=record.sha256,
            temperature=final.temperature,
            operating_points=final.operating_points,
            graph_temperature=card.temperature,
        )
        bundle = bundle.with_manifest(bundle.manifest.with_export(name, finished))
    write_card(bundle)
    return bundle


def _check_alike(before: Path, after: Path) -> None:
    """Raise :class:`ExportError` if two files give noise and plain images other probabilities."""
    first, second = load_model(before), load_model(after)
    shape = first.card.contract.shape
    noise = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    plain = [np.full(shape, level, dtype=np.uint8) for level in (0, 128, 255)]
    images = np.stack([*noise, *plain])
    old, new = first.predict(images), second.predict(images)
    # A card's temperature is applied to probabilities of 1e-7 at least; a graph's to any.
    bound = 1e-6 + len(first.card.labels) * 1e-7 ** (1 / max(first.card.temperature, 1.0))
    if not np.allclose(old, new, rtol=0, atol=bound):
        raise ExportError(
            f"{before}: with its temperature in the graph, probabilities differ by "
            f"{np.abs(old - new).max():.2g}; export it again"
        )
