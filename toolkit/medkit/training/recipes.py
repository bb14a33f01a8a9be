"""The recipes: every number of a training run, with its reason.

``default`` trained the models that ship. ``seed`` repeats the student project
that medkit grew from. It is there to reproduce that baseline, and its models
are not good.
"""

from __future__ import annotations

from medkit.defaults import RECIPE
from medkit.errors import UsageError
from medkit.models.recipe import Augmentation, Recipe, Stage
from medkit.tasks import PNEUMONIA, SKIN, Task
from medkit.wording import unknown

# The seed project: 10 epochs of Adam with Keras' default rate and batch size, on
# all training images, without a validation split and without regularisation.
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
    (PNEUMONIA.name, RECIPE): Recipe(
        name=RECIPE,
        network="compact-cnn",
        batch_size=32,
        # The loss on held-out patients is flat after about 20 epochs.
        stages=(Stage(epochs=28, learning_rate=2e-3, patience=10),),
        # X-rays of different rooms differ far more in exposure and framing than
        # in anatomy, so the photometric ranges are wide. Mirroring puts the heart
        # on the wrong side, but opacities occur on both sides.
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
    (SKIN.name, RECIPE): Recipe(
        name=RECIPE,
        network="resnet50",
        batch_size=32,
        # The new head is trained first, on frozen features: its first gradients
        # are random and would spoil the pretrained layers. Then conv4 and conv5
        # are trained, too, nine tenths of the weights. Training stem and conv2
        # gained nothing and doubled the time.
        stages=(
            Stage(epochs=2, learning_rate=2e-3, free_from=None),
            Stage(epochs=40, learning_rate=3e-4, free_from="conv4"),
        ),
        # A lesion has no upright position: any rotation, and both mirrors.
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
            # Colour casts, sharpness and dark rims reveal the source of an image,
            # and so its diagnosis: nevi come from one source, which is bluish.
            colour=0.2,
            resolution=0.6,
            vignette=0.15,
            erase=0.2,
            # A blend of two images has no single source.
            mix=0.5,
        ),
        validation_fraction=0.15,
        on_conflict="error",
        # 62 actinic keratoses also lie under nevus; HAM10000 calls them actinic
        # keratoses. 75 seborrheic keratoses also lie under melanoma; without them
        # their class would have two images.
        known_conflicts="3aa0f3241ee5a3e6e6f28697d992c2a3acaa04501304748108583961fbc8fdef",
        on_known_conflicts="keep-rarer",
        weight_cap=5.0,
        # All nevi but one, and a third of the melanomas, come from ISIC_0000xxx.
        # With classes balanced alone, the network decided by the source: it found
        # 7 of 20 validation melanomas from there, and 25 of 31 from elsewhere.
        balance_sources=True,
        label_smoothing=0.05,
        weight_decay=5e-2,
        dropout=0.2,
        bfloat16=True,
    ),
}
"""Every recipe by task name and recipe name."""


def get_recipe(task: Task, name: str) -> Recipe:
    """Return a recipe.

    Raises
    ------
    UsageError
        If the task has no recipe of that name.
    """
    if recipe := RECIPES.get((task.name, name)):
        return recipe
    known = [recipe for owner, recipe in RECIPES if owner == task.name]
    if not known:
        tasks = dict.fromkeys(owner for owner, _ in RECIPES)
        raise UsageError(
            f"there is no recipe for the task {task.name}; medkit trains {' and '.join(tasks)}"
        )
    raise UsageError(unknown("recipe", name, known, of=task.name))
