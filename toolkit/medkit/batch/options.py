"""Options of a classification: the arguments as a person gives them, and their defaults.

They are turned into a :class:`medkit.batch.plan.Plan` once. Nothing reads
them after that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from medkit.defaults import AUTO, BALANCED, BATCH_SIZE, ENGINE, STDOUT
from medkit.images.limits import DEFAULT_LIMITS, Limits


@dataclass(frozen=True)
class ClassifyOptions:
    """Options of a classification: the images, the model and the output.

    Attributes
    ----------
    inputs, include, exclude, from_file, all_files
        Images; see :class:`medkit.batch.listing.Inputs`, where ``inputs`` are
        ``paths``.
    absolute_paths
        Name files in rows by their absolute paths.
    out
        Argument of :func:`medkit.batch.outputs.registry.output_for`.
    task
        Name of the task of all images, or ``auto``: a grey image is taken
        for a chest X-ray, a coloured one for dermoscopy.
    model
        A model file for all images, in place of the task's own.
    operating_point
        Name of the operating point that turns probabilities into labels.
    runtime
        Name of a runtime. ``auto`` takes the fastest one on this machine that
        has passed parity. ``None`` takes LiteRT, or the usual runtime for the
        suffix of ``model``.
    engine
        Name of the engine that spreads the work; see
        :mod:`medkit.batch.engines.registry`.
    batch_size
        Images in one inference, at least 1.
    threads
        Number of cores to use; ``None`` for all that the process may use. The
        rows are the same whatever their number.
    trained
        Folder of models, as for :func:`medkit.models.bundle.load_bundle`.
    resume
        Keep the rows of an existing output, and add the missing ones; see
        :mod:`medkit.batch.resume`.
    retry_errors
        With ``resume``, try again what has a row with an error.
    overwrite
        Replace an existing output.
    excel
        Begin a CSV with the mark by which Excel takes it for UTF-8.
    limits
        Limits of one image. An image that exceeds them gets an error row.
    """

    inputs: tuple[Path, ...] = ()
    out: str | Path = STDOUT
    task: str = AUTO
    model: Path | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    from_file: Path | None = None
    all_files: bool = False
    absolute_paths: bool = False
    operating_point: str = BALANCED
    runtime: str | None = None
    engine: str = ENGINE
    batch_size: int = BATCH_SIZE
    threads: int | None = None
    trained: Path | None = None
    resume: bool = False
    retry_errors: bool = False
    overwrite: bool = False
    excel: bool = False
    limits: Limits = DEFAULT_LIMITS
