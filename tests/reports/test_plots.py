"""What the plots of figures name."""

from __future__ import annotations

import numpy as np

from medkit.images.contract import InputContract
from medkit.models.points import OperatingPoint
from medkit.reports.plots import plot_confusion, plot_roc
from medkit.tasks import Task


def task_of(number: int) -> Task:
    labels = tuple(f"class {each}" for each in range(number))
    return Task("many", "many", labels, InputContract(32, 32, 1), None, "class 1")


def named(number: int) -> list[str]:
    """Return the names in the legend of ROC curves, without those of operating points."""
    truth = np.arange(6 * number) % number
    scores = np.random.default_rng(0).dirichlet(np.ones(number), len(truth)).astype(np.float32)
    point = OperatingPoint("balanced", "class 1", 0.1)
    figure = plot_roc(task_of(number), truth, scores, {"balanced": point})
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    return [text.partition(" (AUC")[0] for text in texts if "AUC" in text]


def test_a_few_labels_are_named_and_of_many_the_one_not_to_be_missed() -> None:
    assert named(5) == [f"class {each}" for each in range(5)]
    assert named(40) == ["39 labels", "class 1"]


def test_a_large_matrix_leaves_nothing_written_where_nothing_is() -> None:
    for number, written in ((5, 25), (40, 40)):
        figure = plot_confusion(task_of(number), np.eye(number, dtype=int).tolist())
        assert len(figure.axes[0].texts) == written
