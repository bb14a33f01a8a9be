"""The report: one HTML page, complete in itself, of how good a model is and where it fails."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medkit.datasets.layout import Item
from medkit.datasets.measured import measured_items
from medkit.datasets.recorded import has_record, recorded_splits, unseen_items
from medkit.datasets.sampling import load_tensors
from medkit.datasets.splits import digest_of
from medkit.defaults import BALANCED
from medkit.evaluation.metrics import evaluate
from medkit.extras import require
from medkit.files import write_text
from medkit.models.bundle import Bundle, find_bundle, load_bundle
from medkit.models.decisions import Decisions, decide, marks, names_of
from medkit.models.figures import Figures
from medkit.models.manifest import Manifest
from medkit.models.runtimes.base import predict_all
from medkit.models.runtimes.keras import KerasModel
from medkit.models.runtimes.loading import runtime_for
from medkit.reports.html import picture_uri, png_uri, render
from medkit.reports.origin import Origin, origin_of
from medkit.reports.plots import (
    plot_confusion,
    plot_curves,
    plot_reliability,
    plot_roc,
    png_bytes,
)
from medkit.reports.tables import (
    ORIGINAL,
    ClassRow,
    Row,
    class_rows,
    counts_measured,
    figure_columns,
    figure_rows,
    measured_rows,
    point_rows,
)
from medkit.tasks import Task
from medkit.wording import Remark

MISTAKES = 12
"""Mistakes that a page shows."""

_OVERLAY = 0.45  # share of the heat map in an overlay


@dataclass(frozen=True)
class ReportOptions:
    """Arguments of a report.

    Attributes
    ----------
    task
        Task of the model, or its name.
    out
        The HTML file to write.
    data
        A labelled folder; or a set with its splits, whose test split is used;
        or a folder that holds one of these. ``None`` leaves out the mistakes
        and the plots that need every image's probabilities.
    trained
        Folder of bundles; ``None`` is where the shipped models lie.
    against
        Another bundle, or folder of bundles, to compare with; ``None`` takes
        the seed recipe's run if it lies in the bundle.
    spellings
        Other spellings of class folders; see
        :func:`medkit.datasets.labels.read_labels_map`.
    """

    task: Task | str
    out: Path
    data: Path | None = None
    trained: Path | None = None
    against: Path | None = None
    spellings: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plot:
    """A plot: what it shows, and the address that holds it."""

    name: str
    uri: str


@dataclass(frozen=True)
class Mistake:
    """A wrong decision.

    Attributes
    ----------
    name
        The file.
    truth, decided
        The labels, as text; in a multi-label task all of the image, or none.
    label, confidence
        The label that is explained, and its probability, 0..1: the decided
        one; in a multi-label task the one that is the most wrong.
    image, heat
        Addresses of the image, and of the image under its heat map; the
        latter is empty for a network that has no maps.
    """

    name: str
    truth: str
    decided: str
    label: str
    confidence: float
    image: str
    heat: str


def write_report(options: ReportOptions, note: Callable[[str], None] = lambda text: None) -> Path:
    """Write the report of a trained model and return where it is.

    A section is left out if the manifest does not hold what it shows, as of a
    model that was trained elsewhere.

    Parameters
    ----------
    options
        The arguments.
    note
        Called with a line before each lengthy step.

    Raises
    ------
    MissingExtraError
        If Jinja2 or matplotlib is not installed, or where there are data one
        of TensorFlow, scikit-learn and SciPy, before any work.
    ModelFileError
        If there is no bundle, or its original is missing or damaged.
    DatasetLayoutError
        If ``data`` does not hold labelled images of the task.
    """
    require("write a report", "jinja2", "matplotlib")
    bundle = load_bundle(options.task, options.trained)
    if options.data is not None:
        require("draw ROC curves", "sklearn", "scipy")
        bundle.check_original("a report on images")
        runtime_for(bundle.keras_path).require()
    task, manifest = bundle.task, bundle.manifest
    own, other = _compared_runs(bundle, options.against)
    test = manifest.metrics.get("test", {})
    origin = origin_of(task, manifest)
    plots = _plots_of(task, test.get(BALANCED), origin.test)
    measured = None
    if options.data is not None:
        measured = _measure(bundle, options, origin, note)
        if measured.official:
            plots.insert(0, measured.roc)
    columns = figure_columns(manifest, other, own if other else ORIGINAL)
    page = render(
        "report.html.jinja",
        task=task,
        manifest=manifest,
        own=own,
        other=other,
        other_is_seed=other is not None and options.against is None,
        same_test=other is None or _same_test(manifest, other[1]),
        original=manifest.files.get(bundle.keras_path.name),
        origin=origin,
        images=counts_measured(columns),
        columns=columns,
        rows=figure_rows(task, columns),
        curves=_curves(task, [*([other] if other else []), (own, manifest)]),
        plots=plots,
        points=point_rows(task, test),
        classes=class_rows(task, test[BALANCED]) if BALANCED in test else [],
        measured=measured,
    )
    write_text(options.out, page)
    return options.out


def _name_of(bundle: Bundle, other: Bundle | None = None) -> str:
    """Return what a page calls the models of a bundle, beside those of another one."""
    if bundle.is_shipped:
        return "shipped"
    parts = bundle.folder.resolve().parts
    others = other.folder.resolve().parts if other else ()
    # The last two folders tell most bundles from each other.
    short = next((n for n in range(2, len(parts)) if parts[-n:] != others[-n:]), len(parts))
    return str(Path(*parts[-short:]).as_posix())


def _compared_runs(bundle: Bundle, against: Path | None) -> tuple[str, tuple[str, Manifest] | None]:
    """Return the bundle's name, and name and manifest of the run that a page compares with."""
    if against is not None:
        other = find_bundle(bundle.task, against)
        return _name_of(bundle, other), (_name_of(other, bundle), other.manifest)
    seed = bundle.seed_manifest
    return _name_of(bundle), None if seed is None else ("seed", seed)


def _same_test(first: Manifest, second: Manifest) -> bool:
    """Whether two runs were measured on the same test images, as far as their manifests say."""
    digests = {run.data.sha256.get("test", "") for run in (first, second)} - {""}
    return len(digests) < 2


@dataclass(frozen=True)
class Measured:
    """What was measured for a page on labelled images.

    Attributes
    ----------
    images
        Name of the images, for people.
    official
        Whether they are the test images that the manifest's figures are of.
    count
        Number of images.
    roc
        The plot of ROC curves.
    plots
        Plots of the decisions.
    rows, classes
        Figures as text.
    remarks
        Lines on images that are in or out though a reader might not expect it.
    mistakes
        The worst mistakes.
    """

    images: str
    official: bool
    count: int
    roc: Plot
    plots: list[Plot]
    rows: list[Row]
    classes: list[ClassRow]
    remarks: tuple[str, ...]
    mistakes: list[Mistake]

    @property
    def explained(self) -> bool:
        """Whether the mistakes have heat maps."""
        return any(mistake.heat for mistake in self.mistakes)


def _measure(
    bundle: Bundle, options: ReportOptions, origin: Origin, note: Callable[[str], None]
) -> Measured:
    """Run the original over labelled images, and draw what it decides."""
    task, data = bundle.task, options.data or Path()
    splits = recorded_splits(bundle, data, options.spellings) if has_record(bundle) else None
    remarks: tuple[str, ...]
    if splits is not None and splits.test:
        root, items, remarks = data, splits.test, tuple(splits.lines())
    else:
        root, items, remarks = measured_items(task, data, options.spellings)
        items = unseen_items(items, bundle.folder, task)
    official = digest_of(items) == bundle.manifest.data.sha256.get("test")
    name = origin.test if official else f"the images of {root.resolve().name}"
    bundle.verify(bundle.keras_path)
    note(f"{task.name}: {len(items)} images through the original")
    images, truth = load_tensors(task, items, bundle.contract)
    for line in remarks:
        note(Remark(line))
    model = KerasModel(bundle.keras_path)
    probabilities = predict_all(model, images)
    figures = evaluate(task, truth, probabilities, bundle.operating_points[BALANCED])
    note(f"{task.name}: explaining its mistakes")
    roc = plot_roc(task, truth, probabilities, bundle.operating_points, name)
    return Measured(
        images=name,
        official=official,
        count=len(items),
        roc=_plot("ROC with 95 % interval" if task.alert else "ROC", roc),
        plots=_plots_of(task, figures, name),
        rows=measured_rows(task, figures),
        classes=class_rows(task, figures),
        remarks=remarks,
        mistakes=_mistakes(bundle, model, items, images, truth, probabilities),
    )


def _plot(name: str, figure: Any) -> Plot:
    return Plot(name, png_uri(png_bytes(figure)))


def _plots_of(task: Task, figures: Figures | None, images: str) -> list[Plot]:
    """Draw what figures show; ``images`` names the images that they are of."""
    if figures is None:
        return []
    plots = [_plot(f"confusion on {images}", plot_confusion(task, figures.confusion, images))]
    if figures.reliability:
        plots.append(_plot(f"reliability on {images}", plot_reliability(figures)))
    return plots


def _curves(task: Task, runs: Sequence[tuple[str, Manifest]]) -> list[Plot]:
    """Draw the training curves of each run whose manifest holds them."""
    drawn = []
    for name, manifest in runs:
        if manifest.history:
            held_out = "validation" in manifest.metrics
            watched = "validation" if held_out else origin_of(task, manifest).test_column
            figure = plot_curves(manifest.history, manifest.kept_epoch, watched)
            drawn.append(_plot(f"{name}: loss, accuracy and AUC", figure))
    return drawn


def _mistakes(
    bundle: Bundle,
    model: KerasModel,
    items: Sequence[Item],
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    probabilities: NDArray[np.float32],
) -> list[Mistake]:
    """Return the wrong decisions of highest confidence, each with picture and Grad-CAM."""
    from medkit.reports.gradcam import heat_maps

    task = bundle.task
    decided = decide(task, probabilities, bundle.operating_points[BALANCED])
    wrong = (marks(task, decided) != marks(task, labels)).any(axis=1)
    explained, surest = _explained(decided, labels, probabilities)
    candidates = np.flatnonzero(wrong)
    worst = candidates[np.argsort(-surest[candidates], kind="stable")][:MISTAKES]
    if not len(worst):
        return []
    heat = heat_maps(model.network, images[worst], explained[worst])
    truths, names = names_of(task, labels), names_of(task, decided)
    return [
        Mistake(
            name=items[index].name,
            truth=truths[index],
            decided=names[index],
            label=task.labels[explained[index]],
            confidence=float(probabilities[index, explained[index]]),
            image=picture_uri(images[index]),
            heat="" if heat is None else picture_uri(overlay(images[index], heat[place])),
        )
        for place, index in enumerate(worst.tolist())
    ]


def _explained(
    decided: Decisions, labels: NDArray[np.int64], probabilities: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the label that explains each mistake, and how sure the original was of it.

    It is the decided one; in a multi-label task, of those decided wrongly the
    one whose probability is the farthest from the truth.

    Returns
    -------
    labels, surest
        Shape (n,) each; what they hold of images without a mistake means nothing.
    """
    if decided.ndim == 2:
        off = np.where(decided != (labels == 1), np.abs(probabilities - labels), -1)
        return off.argmax(axis=1), off.max(axis=1).astype(np.float32)
    chosen = decided.astype(np.int64)
    return chosen, probabilities[np.arange(len(chosen)), chosen]


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Lay a heat map over an image.

    Parameters
    ----------
    image
        uint8, shape (height, width, channels) of 1 or 3 channels.
    heat
        0..1, shape (height, width).

    Returns
    -------
    numpy.ndarray
        uint8, shape (height, width, 3).
    """
    from matplotlib import colormaps

    colours = colormaps["inferno"](heat)[..., :3] * 255
    mixed = (1 - _OVERLAY) * np.broadcast_to(image, (*heat.shape, 3)) + _OVERLAY * colours
    return np.rint(mixed).astype(np.uint8)
