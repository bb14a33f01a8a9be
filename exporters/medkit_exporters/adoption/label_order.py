"""Whether the labels stand in the order of a model's outputs, told by labelled images.

A file of labels in another order gives every image a wrong answer with full
confidence. Two labels of five that changed places leave an AUC well above
chance, so only the images of each label tell.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from medkit.errors import UsageError
from medkit_exporters.adoption.checks import LEAST_IMAGES

_RESAMPLES, _LEVEL = 1000, 0.99


def check_order(
    labels: tuple[str, ...],
    truth: NDArray[np.int64],
    best: NDArray[np.float32],
    tried: Iterable[NDArray[np.float32]],
) -> None:
    """Refuse labels of which the images say that they belong to other outputs.

    It is said if every label that moves fits its new output better than its own,
    and if the new order is right surely more often: by a bootstrap of the paired
    differences over the images.

    Parameters
    ----------
    labels
        In the order in which they were given.
    truth
        Label indices, shape (n,); or 0 and 1, shape (n, labels).
    best
        Probabilities under the best of all rules, shape (n, labels).
    tried
        Those under every rule that was tried. Of labels in a wrong order, a
        wrong rule may be the best.

    Raises
    ------
    UsageError
        If the labels stand in another order.
    """
    if len(truth) < LEAST_IMAGES:
        return
    own = np.arange(len(labels))
    now = _fits(truth, best)[:, own, own].sum(axis=1)
    draws = np.random.default_rng(0).integers(0, len(truth), (_RESAMPLES, len(truth)))
    better: list[tuple[tuple[int, ...], NDArray[np.float64]]] = []
    for probabilities in tried:
        fits = _fits(truth, probabilities)
        outputs = _best_outputs(fits.sum(axis=0))
        then = fits[:, own, outputs].sum(axis=1)
        if (outputs != own).any() and _surely(then - now, draws):
            better.append((tuple(np.argsort(outputs)), then))
    if not better:
        return
    # A rule that swaps red and blue can make labels change places once more.
    most = max((then for _, then in better), key=lambda then: float(then.mean()))
    orders = dict.fromkeys(order for order, then in better if not _surely(most - then, draws))
    shown = " or ".join(", ".join(labels[index] for index in order) for order in orders)
    share = 1 if truth.ndim == 1 else len(labels)
    raise UsageError(
        f"the labels stand in another order than the model's outputs: {shown} is right in "
        f"{most.mean() / share:.1%} of {len(truth)} images, and {', '.join(labels)} in "
        f"{now.mean() / share:.1%}; correct --labels"
    )


def _surely(differences: NDArray[np.float64], draws: NDArray[np.int64]) -> bool:
    """Whether the mean of paired differences is above 0."""
    return float(np.quantile(differences[draws].mean(axis=1), 1 - _LEVEL)) > 0


def _fits(truth: NDArray[np.int64], probabilities: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return for each image which label agrees with which output, 0 or 1, (n, labels, outputs).

    Of single-label images, that is the label of the image and the likeliest output.
    """
    finite = np.nan_to_num(probabilities, nan=0.0)
    if truth.ndim == 2:
        decided = finite >= 0.5
        return np.asarray(truth[:, :, None] == decided[:, None, :], np.float64)
    labels = np.eye(finite.shape[1])
    return np.asarray(labels[truth][:, :, None] * labels[finite.argmax(axis=1)][:, None, :])


def _best_outputs(agreement: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the output of each label in the order that agrees best.

    A label that its new output fits no better than its own stays, and with it
    those that change places with it.
    """
    from scipy.optimize import linear_sum_assignment

    _, outputs = linear_sum_assignment(agreement, maximize=True)
    own = np.arange(len(agreement))
    outputs = np.array(outputs)
    for start in own:
        ring, at = [int(start)], int(outputs[start])
        while at != start:
            ring.append(at)
            at = int(outputs[at])
        if any(agreement[each, outputs[each]] <= agreement[each, each] for each in ring):
            outputs[ring] = ring
    return outputs
