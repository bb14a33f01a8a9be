"""The recipes: every number a training run is made of, with its reason.

``seed`` repeats the student project that medkit grew from; it is there so
that anyone can reproduce its baseline, and is not meant to be good.
``default`` is what ships.
"""

from __future__ import annotations

from dataclasses import dataclass

from medkit.errors import UsageError
from medkit.tasks import PNEUMONIA, SKIN, Task


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
    average
        Whether the stage starts from the best epoch so far, and an epoch of
        it is judged, and kept, by the mean of the weights after each of its
        epochs up to then, which lies flatter and changes less from run to run
        than any of them (Izmailov et al. 2018, Averaging Weights Leads to
        Wider Optima and Better Generalization).
    """

    epochs: int
    learning_rate: float
    cosine: bool = True
    free_from: str | None = ""
    patience: int | None = None
    average: bool = False


@dataclass(frozen=True)
class Recipe:
    """How one task's network is trained.

    Attributes
    ----------
    name
        ``seed`` or ``default``.
    network
        Name of the architecture in :mod:`medkit.training.networks`.
    batch_size
        Images a step.
    stages
        Run one after the other.
    augmentation
        ``None`` trains on the images as they are.
    validation_fraction
        Share of the training images held out to choose epoch and threshold;
        0 holds out none, keeps the last epoch, and plots the test split's
        curve beside the training curve, from which nothing is chosen.
    on_conflict
        One of :data:`medkit.datasets.POLICIES`, for data that hold an image
        under several labels or in both splits; ``None`` trains on everything
        as it lies.
    known_conflicts, on_known_conflicts
        Digest (:class:`medkit.datasets.Conflicts`) of the conflicts in the
        published data, and the policy for exactly those: they have been
        looked at.
    weight_cap
        Largest weight of an image when classes are weighted to count alike;
        1 weights nothing. The cap keeps a class of two images from drowning
        the rest.
    balance_sources
        Whether every class of every source counts alike, instead of every
        class.
    label_smoothing, weight_decay, dropout
        Regularisation.
    bfloat16
        Whether to compute in bfloat16, weights staying float32, on a
        processor that does so in half the time; see
        :func:`medkit.training.precision.computes_bfloat16`.
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


# The seed project: 10 epochs of Adam at Keras' own rate and batch size, on
# all the training images, nothing held out and nothing done against overfitting.
_SEED_STAGE = Stage(epochs=10, learning_rate=1e-3, cosine=False)

RECIPES: dict[tuple[str, str], Recipe] = {
    (PNEUMONIA.name, "seed"): Recipe(
        name="seed", network="seed-cnn", batch_size=32, stages=(_SEED_STAGE,)
    ),
    (SKIN.name, "seed"): Recipe(
        name="seed",
        network="seed-resnet50",
        batch_size=32,
        stages=(Stage(epochs=10, learning_rate=1e-3, cosine=False, free_from=None),),
    ),
    (PNEUMONIA.name, "default"): Recipe(
        name="default",
        network="compact-cnn",
        batch_size=32,
        # The loss on held-out patients is flat after about 20 epochs.
        stages=(Stage(epochs=28, learning_rate=2e-3, patience=10),),
        # X-rays differ between rooms in exposure and framing far more than
        # in anatomy, so the photometric ranges are wide. Mirroring would put
        # the heart on the wrong side, but the opacities looked for have no side.
        augmentation=Augmentation(
            rotation=12.0,
            zoom=0.2,
            stretch=0.12,
            shift=0.08,
            flip_horizontal=True,
            brightness=0.25,
            contrast=0.35,
            gamma=0.35,
            noise=8.0,
            erase=0.4,
        ),
        validation_fraction=0.15,
        on_conflict="error",
        weight_cap=10.0,
        label_smoothing=0.05,
        weight_decay=1e-3,
        dropout=0.3,
    ),
    (SKIN.name, "default"): Recipe(
        name="default",
        network="resnet50",
        batch_size=32,
        # First the new head on frozen features, else its random gradients
        # would spoil the pretrained layers; then conv4 and conv5, nine tenths of
        # the weights. Free stem and conv2 layers gained nothing and doubled the time.
        stages=(
            Stage(epochs=2, learning_rate=2e-3, free_from=None),
            Stage(epochs=40, learning_rate=3e-4, free_from="conv4"),
        ),
        # A lesion has no upright: full turns and both mirrors.
        augmentation=Augmentation(
            rotation=180.0,
            zoom=0.25,
            stretch=0.15,
            shift=0.08,
            flip_horizontal=True,
            flip_vertical=True,
            brightness=0.25,
            contrast=0.25,
            gamma=0.2,
            # Casts, sharpness and dark rims tell the sources apart, and with
            # them the diagnoses: nevi come from one source that is bluish.
            colour=0.2,
            resolution=0.6,
            vignette=0.15,
            erase=0.2,
            # Between two sources lie pictures of no source.
            mix=0.5,
        ),
        validation_fraction=0.15,
        on_conflict="error",
        # 62 actinic keratoses lie under nevus too, and HAM10000 calls them
        # actinic keratoses; 75 seborrheic keratoses lie under melanoma too, and
        # without them their class would have two images.
        known_conflicts="3aa0f3241ee5a3e6e6f28697d992c2a3acaa04501304748108583961fbc8fdef",
        on_known_conflicts="keep-rarer",
        weight_cap=5.0,
        # All nevi but one, and a third of the melanomas, come from ISIC_0000xxx.
        # Balanced over classes alone, the network went by the source: of the
        # validation melanomas it found 7 of 20 from there and 25 of 31 from elsewhere.
        balance_sources=True,
        label_smoothing=0.05,
        weight_decay=5e-2,
        dropout=0.2,
        bfloat16=True,
    ),
}
"""Every recipe by task name and recipe name."""


def get_recipe(task: Task, name: str) -> Recipe:
    """Return a recipe; raise :class:`UsageError` for a name that is not one."""
    try:
        return RECIPES[task.name, name]
    except KeyError:
        known = ", ".join(recipe for owner, recipe in RECIPES if owner == task.name)
        raise UsageError(f"unknown recipe {name!r} for {task.name}; accepted: {known}") from None
