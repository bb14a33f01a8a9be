"""Recipes of training: the part of a manifest that is needed to repeat a run.

The recipes themselves are in :mod:`medkit.training.recipes`.
"""

from __future__ import annotations

from dataclasses import dataclass

OWN = "own"
"""Name of the recipes of tasks that are not built in; see :mod:`medkit.training.own`."""


@dataclass(frozen=True)
class Augmentation:
    """Ranges from which each training image draws a change, every epoch anew.

    Attributes
    ----------
    rotation
        Largest turn, in degrees, either way.
    zoom, stretch, shift
        Largest relative change of scale, of one axis against the other, and
        of position as a share of the side.
    flip_horizontal, flip_vertical
        Whether to mirror half of the images.
    brightness, contrast, gamma
        Largest relative change of each.
    colour
        Largest relative gain of one channel against the others.
    noise
        Largest standard deviation of added Gaussian noise, in grey levels.
    resolution
        Smallest share of the side that an image is reduced to, and enlarged
        again: some devices and files are less sharp than others. 1 leaves
        all as they are.
    vignette
        Share of the images whose rim is darkened outside an ellipse, as
        through a dermatoscope.
    erase
        Share of the images that get one rectangle of grey (Zhong et al. 2020).
    mix
        Share of the images that are blended with another, or get a patch of
        it, and of its label as much.
    """

    rotation: float = 0.0
    zoom: float = 0.0
    stretch: float = 0.0
    shift: float = 0.0
    flip_horizontal: bool = False
    flip_vertical: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: float = 0.0
    colour: float = 0.0
    noise: float = 0.0
    resolution: float = 1.0
    vignette: float = 0.0
    erase: float = 0.0
    mix: float = 0.0


@dataclass(frozen=True)
class Stage:
    """A stretch of epochs with one learning rate and one set of free layers.

    Attributes
    ----------
    epochs
        Most epochs of this stage.
    learning_rate
        Peak rate; with ``cosine`` it rises over the first epoch and then
        falls along a half cosine to a hundredth.
    cosine
        Whether the rate follows that schedule, else it stays constant.
    free_from
        Prefix of the first backbone layer that learns: ``""`` for all,
        ``None`` for none but the head. Batch normalisation of a pretrained
        backbone keeps its ImageNet statistics in either case.
    patience
        Stop after so many epochs without a better validation loss; ``None``
        never stops.
    """

    epochs: int
    learning_rate: float
    cosine: bool = True
    free_from: str | None = ""
    patience: int | None = None


@dataclass(frozen=True)
class Recipe:
    """The recipe by which one task's network is trained.

    Attributes
    ----------
    name
        ``seed`` or ``default``; ``own`` for a task of one's own.
    network
        Name of the architecture in :mod:`medkit.training.networks`, or in
        ``keras.applications``.
    batch_size
        Number of images in one step.
    stages
        Stages, in the order in which they run.
    augmentation
        ``None`` trains on the images as they are.
    validation_fraction
        Share of the training images held out to choose epoch and threshold.
        0 holds out none and keeps the last epoch. The test split's curve is
        then plotted beside the training curve, but nothing is chosen on it.
    on_conflict
        Policy for an image under several labels or in both splits, one of
        :data:`medkit.datasets.conflicts.POLICIES`. ``None`` trains on all
        images as they are.
    known_conflicts, on_known_conflicts
        Digest (:class:`medkit.datasets.conflicts.Conflicts`) of the conflicts in the
        published data, which people have looked at, and the policy for
        exactly those conflicts.
    weight_cap
        Largest weight of an image when classes are weighted to count alike;
        1 weights nothing. The cap keeps a class of two images from
        dominating the other classes.
    balance_sources
        Whether every class of every source counts alike, instead of every
        class.
    label_smoothing, weight_decay, dropout
        Regularisation.
    bfloat16
        Whether to compute in bfloat16 on a processor that does so in half
        the time; see :func:`medkit.training.precision.computes_bfloat16`. The
        weights stay float32.
    from_scratch
        Whether a network of ``keras.applications`` begins with random weights
        instead of ImageNet's.
    """

    name: str
    network: str
    batch_size: int
    stages: tuple[Stage, ...]
    augmentation: Augmentation | None = None
    validation_fraction: float = 0.0
    on_conflict: str | None = None
    known_conflicts: str = ""
    on_known_conflicts: str = "error"
    weight_cap: float = 1.0
    balance_sources: bool = False
    label_smoothing: float = 0.0
    weight_decay: float = 0.0
    dropout: float = 0.0
    bfloat16: bool = False
    from_scratch: bool = False
