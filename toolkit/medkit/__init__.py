"""medkit: edge and batch inference for medical images.

The command line in a few names::

    import medkit

    bundle = medkit.load_bundle("pneumonia")
    model = medkit.load_model(bundle.export_path("tflite", "int8"))
    probabilities = model.predict(images)  # uint8 (n, height, width, channels)

    options = medkit.ClassifyOptions(inputs=(Path("images"),))
    for row in medkit.predict_paths(options):
        print(row.path, row.label, row.confidence)
    table = medkit.to_frame(medkit.predict_paths(options, medkit.ProgressLine()))

    medkit.audit_folder(Path("data/skin_cancer_isic"))
    medkit.export_models(medkit.ExportOptions(data=Path("data")))
    medkit.check_parity(medkit.ParityOptions(data=Path("data")))

A name is imported when it is first used, so that ``import medkit`` costs
nothing. Research software: a prediction is not a diagnosis.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing typing takes milliseconds
if TYPE_CHECKING:
    from typing import Any

_HOMES = {
    "medkit.batch.frames": ("to_frame",),
    "medkit.batch.observers": ("ProgressLine",),
    "medkit.batch.options": ("ClassifyOptions",),
    "medkit.batch.outputs.csv": ("path_from_csv",),
    "medkit.batch.rows": ("Row",),
    "medkit.batch.run": ("ClassifySummary", "classify_files", "predict_paths"),
    "medkit.benchmark.options": ("BenchmarkOptions",),
    "medkit.benchmark.result": ("Benchmark",),
    "medkit.benchmark.run": ("run_benchmark",),
    "medkit.datasets.audit": ("Audit", "audit_folder"),
    "medkit.errors": ("ImageError", "MedkitError", "ModelFileError", "UsageError"),
    "medkit.evaluation.comparison": ("Comparison",),
    "medkit.evaluation.folder": ("EvaluateOptions", "Evaluation", "evaluate_folder"),
    "medkit.evaluation.parity": ("Parity", "ParityOptions", "check_parity"),
    "medkit.images.contract": ("InputContract",),
    "medkit.images.limits": ("Limits",),
    "medkit.images.reading": ("load_tensor",),
    "medkit.models.bundle": ("Bundle", "load_bundle"),
    "medkit.models.card": ("ModelCard",),
    "medkit.models.catalogue": ("Catalogue", "list_tasks"),
    "medkit.models.points": ("OperatingPoint",),
    "medkit.models.inspection": ("Inspection", "inspect_file"),
    "medkit.models.runtimes.base": ("Model",),
    "medkit.models.runtimes.loading": ("load_model",),
    "medkit.reports.report": ("ReportOptions", "write_report"),
    "medkit.tasks": ("PNEUMONIA", "SKIN", "TASKS", "Task", "get_task"),
    "medkit.training": ("OwnOptions", "TrainOptions", "TrainResult", "plan_own", "train_model"),
    "medkit.version": ("__version__",),
    "medkit_exporters.adoption.options": ("AdoptOptions", "AdoptResult"),
    "medkit_exporters.adoption.run": ("adopt_model",),
    "medkit_exporters": ("ExportOptions", "ExportedFile", "export_models", "finalise_exports"),
}

__all__ = sorted(name for names in _HOMES.values() for name in names)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    from importlib import import_module

    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'medkit' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
