"""Models of a run: which are opened, and when."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from fakemodels import Models, coloured, grey, options
from medkit.batch.chunk import Job
from medkit.batch.model_pool import ModelPool
from medkit.batch.run import predict_paths
from medkit.models.runtimes.base import Model


@pytest.mark.parametrize(
    ("make", "task", "loaded"),
    [(grey, "auto", "pneumonia"), (coloured, "auto", "skin"), (grey, "skin", "skin")],
)
def test_only_the_needed_model_is_loaded(
    tmp_path: Path, models: Models, make: Any, task: str, loaded: str
) -> None:
    make(tmp_path / "a.png", 150)
    (row,) = predict_paths(options(tmp_path, task=task))
    assert list(models) == [loaded]
    assert row.task == loaded


def test_each_thread_has_one_model_of_its_own_and_the_first_gets_the_opened_one(
    make_job: Callable[..., Job],
) -> None:
    spec = make_job("skin").models["skin"].spec
    opened = spec.open()
    pool = ModelPool({"skin": spec}, {"skin": opened})
    given: list[Model] = []

    def work() -> None:
        given.extend((pool.get("skin"), pool.get("skin")))

    for _ in range(3):
        thread = Thread(target=work)
        thread.start()
        thread.join()
    assert given[0] is opened
    for first, second in zip(given[::2], given[1::2], strict=True):
        assert first is second
    assert len({id(model) for model in given}) == 3
    assert {model.path for model in given} == {spec.path}
