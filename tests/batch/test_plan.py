"""A run's plan: what options resolve to, and which of them are refused before any work."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fakemodels import DIGEST, Models, Watcher, coloured, grey, options, points_of
from medkit.batch import plan
from medkit.batch.plan import Workers, make_plan, share_out
from medkit.batch.routing import ByColour, OneTask
from medkit.batch.run import classify_files, predict_paths
from medkit.defaults import HIGH_SENSITIVITY
from medkit.errors import ModelFileError, NoImagesError, UsageError
from medkit.files import sha256_of
from medkit.models.manifest import FileRecord
from medkit.system.cores import available_cores
from medkit.tasks import PNEUMONIA, SKIN, TASKS, Task


@pytest.mark.parametrize(
    "wanted",
    [{"task": "auto"}, {"task": "skin"}, {"model": Path("skin.tflite")}],
    ids=["auto", "task", "model"],
)
def test_an_unknown_operating_point_is_refused_before_any_row(
    tmp_path: Path, models: Models, wanted: dict[str, Any]
) -> None:
    grey(tmp_path / "a.png", 100)
    out, watcher = tmp_path / "o.csv", Watcher()
    asked = options(tmp_path, out=out, operating_point="careful", **wanted)
    message = "unknown operating point 'careful'; this model has: balanced, high-sensitivity$"
    with pytest.raises(UsageError, match=message):
        classify_files(asked, watcher)
    models.clear()
    with pytest.raises(UsageError, match=message):
        predict_paths(asked)
    assert watcher.rows == []
    assert not out.exists()


def test_an_operating_point_that_one_task_lacks_is_refused_whatever_images_come(
    tmp_path: Path, models: Models, monkeypatch: pytest.MonkeyPatch
) -> None:
    grey(tmp_path / "a.png", 100)

    def bundle(task: Task, trained: Path | None = None) -> Any:
        points = points_of(task)
        if task is SKIN:
            del points[HIGH_SENSITIVITY]
        return SimpleNamespace(
            operating_points=points,
            contract=task.contract,
            file_with=lambda suffix: Path(f"{task.name}.tflite"),
            manifest=SimpleNamespace(
                listed={f"{task.name}.tflite": FileRecord(0, DIGEST)}, exports={}
            ),
        )

    monkeypatch.setattr(plan, "load_bundle", bundle)
    asked = options(tmp_path, operating_point=HIGH_SENSITIVITY)
    with pytest.raises(UsageError, match="'high-sensitivity'; this model has: balanced$"):
        predict_paths(asked)
    (row,) = predict_paths(replace(asked, task="pneumonia"))
    assert row.label == "PNEUMONIA"


def test_a_model_file_is_used_for_all_images_by_its_card(tmp_path: Path, models: Models) -> None:
    grey(tmp_path / "a.png", 100)
    coloured(tmp_path / "b.png", 150)
    rows = list(predict_paths(options(tmp_path, model=Path("skin.tflite"))))
    assert [row.task for row in rows] == ["skin", "skin"]
    assert list(models) == ["skin"]
    agreeing = options(tmp_path, model=Path("pneumonia.tflite"), task="pneumonia")
    assert {row.task for row in predict_paths(agreeing)} == {"pneumonia"}


def test_a_model_file_for_another_task_is_refused(tmp_path: Path, models: Models) -> None:
    grey(tmp_path / "a.png", 100)
    with pytest.raises(UsageError, match="is a model for skin, not for pneumonia"):
        predict_paths(options(tmp_path, model=Path("skin.tflite"), task="pneumonia"))


@pytest.mark.parametrize(
    ("task", "labels"),
    [
        ("auto", PNEUMONIA.labels + SKIN.labels),
        ("pneumonia", PNEUMONIA.labels),
        ("skin", SKIN.labels),
    ],
)
def test_columns_are_those_of_the_tasks_in_play(
    tmp_path: Path, models: Models, task: str, labels: tuple[str, ...]
) -> None:
    grey(tmp_path / "a.png", 10)
    classify_files(options(tmp_path, out=tmp_path / "o.csv", task=task), Watcher())
    header = (tmp_path / "o.csv").read_text().splitlines()[0].split(",")
    assert header[5:-2] == [f"p_{label.replace(' ', '_')}" for label in labels]


def test_without_an_image_no_model_is_loaded_and_nothing_written(
    tmp_path: Path, models: Models
) -> None:
    out = tmp_path / "o.csv"
    with pytest.raises(NoImagesError):
        classify_files(options(tmp_path, out=out, task="skin"), Watcher())
    assert list(models) == []
    assert not out.exists()


@pytest.mark.parametrize(
    "wanted",
    [{"task": "skin"}, {"task": "auto"}, {"model": Path("missing.tflite")}],
    ids=["task", "auto", "model"],
)
def test_a_missing_model_is_an_error_and_no_row(tmp_path: Path, wanted: dict[str, Any]) -> None:
    grey(tmp_path / "a.png", 10)
    watcher = Watcher()
    with pytest.raises(ModelFileError):
        classify_files(
            options(tmp_path, out=tmp_path / "o.csv", trained=tmp_path, **wanted), watcher
        )
    assert watcher.rows == []


def test_a_missing_named_model_leaves_an_earlier_output_alone(tmp_path: Path) -> None:
    grey(tmp_path / "a.png", 10)
    out = tmp_path / "o.csv"
    out.write_text("earlier")
    with pytest.raises(ModelFileError):
        classify_files(
            options(tmp_path, out=out, task="skin", trained=tmp_path, overwrite=True), Watcher()
        )
    assert out.read_text() == "earlier"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"task": "brain"}, "unknown task 'brain'"),
        ({"batch_size": 0}, "batch size 0; accepted: 1 to 1024"),
        ({"batch_size": 10**24}, "accepted: 1 to 1024"),
        ({"threads": 0}, "0 threads; accepted: 1 to 256"),
        ({"threads": 10**9}, "1,000,000,000 threads; accepted: 1 to 256"),
        ({"out": "o.txt"}, "unknown suffix"),
        ({"out": "a" * 300 + ".csv"}, "cannot be used: File name too long"),
    ],
)
def test_options_that_cannot_be_obeyed_are_refused_first(
    tmp_path: Path, models: Models, wrong: dict[str, Any], message: str
) -> None:
    grey(tmp_path / "a.png", 10)
    with pytest.raises(UsageError, match=message):
        classify_files(options(tmp_path, **wrong), Watcher())
    assert list(models) == []


# Plans with real models


@pytest.mark.parametrize("writes", [True, False])
def test_a_plan_names_the_verified_file_of_every_task_and_opens_and_writes_nothing(
    pooled_models: Path, tmp_path: Path, writes: bool
) -> None:
    grey(tmp_path / "a.png", 100)
    out = tmp_path / ("o.csv" if writes else "o.txt")  # which nothing looks at unless it is written
    made = make_plan(options(tmp_path, out=out, trained=pooled_models), writes=writes)
    assert list(made.job.models) == list(made.identity.models) == list(TASKS)
    for name, found in made.job.models.items():
        assert found.spec.path == pooled_models / name / "model-int8.tflite"
        assert found.spec.sha256 == sha256_of(found.spec.path)
        assert made.identity.models[name].sha256 == found.spec.sha256
        assert made.identity.models[name].contract == TASKS[name].contract.hash
    assert isinstance(made.job.routing, ByColour)
    assert made.job.opened == {}
    assert [listed.name for listed in made.images] == ["a.png"]
    assert (made.output is not None) == writes
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


@pytest.mark.parametrize("by", ["task", "model"])
def test_a_model_that_is_asked_for_is_open_before_any_image_is_read(
    pooled_models: Path, tmp_path: Path, by: str
) -> None:
    grey(tmp_path / "a.png", 100)
    path = pooled_models / "skin/model-int8.tflite"
    wanted = {"task": "skin"} if by == "task" else {"model": path}
    made = make_plan(options(tmp_path, trained=pooled_models, **wanted), writes=False)
    assert isinstance(made.job.routing, OneTask)
    assert [(name, model.path) for name, model in made.job.opened.items()] == [("skin", path)]


@pytest.mark.parametrize(
    ("threads", "workers"),
    [
        (1, Workers(1, 1)),
        (3, Workers(3, 1)),
        (16, Workers(16, 1)),
        (31, Workers(16, 1)),
        (32, Workers(16, 2)),
        (256, Workers(16, 16)),
    ],
)
def test_cores_beyond_16_workers_join_in_inferences(threads: int, workers: Workers) -> None:
    assert share_out(threads) == workers


def test_without_a_number_of_threads_all_cores_of_the_process_are_used() -> None:
    assert share_out(None) == share_out(available_cores())


def test_a_library_with_threads_of_its_own_gets_one_worker(
    pooled_models: Path, tmp_path: Path
) -> None:
    grey(tmp_path / "a.png", 100)
    asked = options(tmp_path, model=pooled_models / "skin/model.keras")
    assert make_plan(asked, writes=False).job.workers == 1
    asked = options(tmp_path, model=pooled_models / "skin/model-fp32.tflite", threads=3)
    made = make_plan(asked, writes=False)
    assert made.job.workers == 3
    assert made.job.models["skin"].spec.threads == 1


def test_of_several_wrong_options_the_one_that_is_checked_fastest_is_told(tmp_path: Path) -> None:
    asked = options(
        tmp_path / "missing",
        out="o.txt",
        task="brain",
        runtime="cuda",
        engine="magic",
        batch_size=0,
        threads=0,
        trained=tmp_path,
    )
    grey(tmp_path / "a.png", 100)
    for right, message in (
        ({}, "unknown suffix"),
        ({"out": "-"}, "unknown task 'brain'"),
        ({"task": "skin"}, "unknown runtime 'cuda'"),
        ({"runtime": "litert"}, "unknown engine 'magic'"),
        ({"engine": "threads"}, "batch size 0"),
        ({"batch_size": 1}, "0 threads"),
        ({"threads": 1}, "missing"),
    ):
        asked = replace(asked, **right)
        with pytest.raises(UsageError, match=message):
            make_plan(asked)
    with pytest.raises(ModelFileError):
        make_plan(replace(asked, inputs=(tmp_path,)))
