"""Models that stand in for the trained ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakemodels import DIGEST, FakeModel, Models, points_of
from medkit.batch import plan
from medkit.batch.chunk import Job, TaskModel
from medkit.batch.routing import ByColour, OneTask
from medkit.defaults import BALANCED
from medkit.files import sha256_of
from medkit.images.limits import DEFAULT_LIMITS
from medkit.models.manifest import FileRecord
from medkit.models.runtimes import loading
from medkit.models.runtimes.loading import ModelSpec
from medkit.tasks import TASKS, Task


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> Models:
    """Stand in for the trained models; hold those loaded by task, in order of loading."""
    loaded: Models = {}

    def bundle(task: Task, trained: Path | None = None) -> Any:
        return SimpleNamespace(
            operating_points=points_of(task),
            contract=task.contract,
            file_with=lambda suffix: Path(f"{task.name}.tflite"),
            manifest=SimpleNamespace(
                listed={f"{task.name}.tflite": FileRecord(0, DIGEST)}, exports={}
            ),
        )

    def load(path: Path, threads: int | None, runtime: str | None = None) -> FakeModel:
        assert path.stem not in loaded, "loaded twice"
        return loaded.setdefault(path.stem, FakeModel(TASKS[path.stem]))

    monkeypatch.setattr(plan, "load_bundle", bundle)
    monkeypatch.setattr(plan, "load_model", load)
    monkeypatch.setattr(loading, "load_model", load)
    monkeypatch.setattr(plan, "sha256_of", lambda path: DIGEST)
    return loaded


@pytest.fixture
def make_job(pooled_models: Path) -> Callable[..., Job]:
    """Give jobs with real models of the named tasks, for any number of workers."""

    def make(*names: str, workers: int = 2) -> Job:
        found = {}
        for name in names:
            path = pooled_models / name / "model-fp32.tflite"
            spec = ModelSpec(path, "litert", sha256_of(path), threads=1)
            found[name] = TaskModel(TASKS[name], TASKS[name].contract, spec)
        routes = [each.route for each in found.values()]
        routing = OneTask(*routes) if len(routes) == 1 else ByColour(*routes)
        return Job(found, routing, BALANCED, DEFAULT_LIMITS, workers)

    return make
