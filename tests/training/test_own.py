"""A task of one's own: what its images and the arguments make of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from medkit.errors import DatasetLayoutError, MedkitError, ModelFileError, UsageError
from medkit.images.contract import FULL_SCALE, InputContract
from medkit.tasks import Task, TaskNotes, write_task
from medkit.training.own import OwnOptions, OwnPlan, plan_own, read_labels, read_size


def classes(root: Path, *names: str, grey: bool = False) -> Path:
    """Make class folders with two images each."""
    rng = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True)
        for number in range(2):
            shape = (8, 8) if grey else (8, 8, 3)
            pixels = rng.integers(0, 256, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")
    return root


def plan(data: Path, name: str = "fundus", **options: Any) -> OwnPlan:
    spellings = options.pop("spellings", None)
    return plan_own(name, data, OwnOptions(**options), data.parent / "out" / name, spellings)


def test_two_class_folders_are_enough(tmp_path: Path) -> None:
    made = plan(classes(tmp_path / "data", "sick", "healthy"))
    assert made.task == Task(
        name="fundus",
        title="fundus",
        labels=("healthy", "sick"),
        contract=InputContract(128, 128, 3),
        positive="sick",
        alert="sick",
    )
    assert made.recipe.network == "compact-cnn"
    assert made.remarks == (
        "fundus, a task of your own: healthy, sick; not to be missed: sick",
        "the images are coloured, and so is the input; give --grey to change it",
    )


def test_options_say_the_rest(tmp_path: Path) -> None:
    made = plan(
        classes(tmp_path / "data", "a", "b", "c", grey=True),
        name="eye_photos-2",
        labels=("b", "c", "a"),
        alert="c",
        size=(320, 240),
        channels=3,
        network="mobilenetv2",
        title="Eyes",
        epochs=20,
    )
    task, recipe = made.task, made.recipe
    assert (task.labels, task.alert, task.positive, task.title) == (
        ("b", "c", "a"),
        "c",
        None,
        "Eyes",
    )
    assert task.contract == InputContract(320, 240, 3)
    assert (recipe.name, recipe.network, recipe.from_scratch) == ("own", "MobileNetV2", False)
    assert [(stage.epochs, stage.free_from) for stage in recipe.stages] == [(2, None), (18, "")]
    assert len(made.remarks) == 1


@pytest.mark.parametrize(
    ("options", "stages"),
    [
        ({"epochs": 1, "network": "ResNet50"}, [(1, None)]),
        ({"epochs": 2, "network": "ResNet50"}, [(1, None), (1, "conv4")]),
        ({"network": "resnet50v2"}, [(2, None), (30, "conv4")]),
        ({"network": "vgg16"}, [(2, None), (30, "")]),
        ({"network": "vgg16", "from_scratch": True, "epochs": 3}, [(3, "")]),
        ({"from_scratch": True}, [(40, "")]),
    ],
)
def test_a_pretrained_network_learns_in_two_stages_and_any_other_in_one(
    tmp_path: Path, options: dict[str, Any], stages: list[tuple[int, str | None]]
) -> None:
    recipe = plan(classes(tmp_path / "data", "a", "b"), **options).recipe
    assert [(stage.epochs, stage.free_from) for stage in recipe.stages] == stages
    assert recipe.from_scratch == (options.get("from_scratch", False) and "network" in options)
    assert recipe.validation_fraction > 0


def test_the_images_tell_whether_the_input_is_grey(tmp_path: Path) -> None:
    made = plan(classes(tmp_path / "data", "a", "b", grey=True))
    assert made.task.contract == InputContract(128, 128, 1)
    assert "give --colour to change it" in made.remarks[1]
    assert plan(tmp_path / "data", network="vgg16").task.contract == InputContract(224, 224, 1)


def test_the_images_may_lie_in_splits_or_in_a_folder_of_the_name(tmp_path: Path) -> None:
    classes(tmp_path / "data/train", "a", "b")
    classes(tmp_path / "data/test", "a", "b")
    assert plan(tmp_path / "data").task.labels == ("a", "b")
    classes(tmp_path / "sets/fundus", "c", "d")
    classes(tmp_path / "sets/other", "x", "y")
    assert plan(tmp_path / "sets").task.labels == ("c", "d")


def test_the_labels_map_renames_and_leaves_out(tmp_path: Path) -> None:
    data = classes(tmp_path / "data", "a", "be", "junk")
    assert plan(data, spellings={"be": "b", "junk": ""}).task.labels == ("a", "b")


def test_a_description_that_is_there_says_what_the_options_leave_out(tmp_path: Path) -> None:
    data = classes(tmp_path / "data", "a", "b", "c")
    squashed = InputContract(64, 48, 1, FULL_SCALE, resize="squash:tf-bilinear")
    before = Task(
        "fundus", "Eyes", ("c", "a", "b"), squashed, None, "b", 0.9, notes=TaskNotes("no misuse")
    )
    write_task(tmp_path / "out/fundus", before)
    assert plan(data).task == before
    changed = plan(data, alert="a", size=(32, 32), channels=3, title="T").task
    assert (changed.alert, changed.title, changed.labels) == ("a", "T", ("c", "a", "b"))
    assert (changed.contract.shape, changed.contract.resize) == ((32, 32, 3), squashed.resize)
    (tmp_path / "out/fundus/task.toml").write_text("name = 1")
    with pytest.raises(ModelFileError, match=r"task\.toml"):
        plan(data)


def test_a_multi_label_description_is_refused(tmp_path: Path) -> None:
    task = Task("fundus", "t", ("a", "b"), InputContract(64, 64, 3), None, multi_label=True)
    write_task(tmp_path / "out/fundus", task)
    with pytest.raises(UsageError, match="medkit trains tasks with one label for each image"):
        plan(classes(tmp_path / "data", "a", "b"))


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        (["a", "b"], {"name": "Fundus"}, "name is 'Fundus'; accepted: up to 64 small letters"),
        (["a", "b"], {"name": "auto"}, "name is 'auto', the word for a choice by colour"),
        (["a", "b"], {"name": "con"}, "which no folder on Windows can have"),
        (["a", "b"], {"network": "ResNet51"}, "unknown network 'ResNet51'; did you mean ResNet"),
        (["a", "b"], {"size": (31, 64)}, "--size 31x64; accepted: 32 to 1,024 pixels a side"),
        (["a", "b"], {"size": (64, 1025)}, "--size 64x1025; accepted: 32 to 1,024"),
        (["a", "b"], {"epochs": 0}, "--epochs 0; accepted: 1 to 1,000"),
        (["a", "b"], {"labels": ("a", "a")}, "labels holds 'a' twice"),
        (["a", "b"], {"labels": ("a", "A")}, "labels holds 'a' and 'A', which one class folder"),
        (["a", "b"], {"labels": ("a",)}, "labels is ['a']; accepted: two or more different ones"),
        (["a", "b"], {"labels": ("a", "c")}, "holds no class 'c'; found: a, b"),
        (["a", "b", "c"], {"labels": ("a", "b"), "alert": "a"}, "are no class of the task: ['c']"),
        (["a", "b"], {"alert": "c"}, "--alert: unknown label 'c'"),
        (["a", "b"], {"title": "two\nlines"}, "title is 'two\\nlines'; accepted: one line of"),
        (["a", "b", "c"], {}, "which of 3 labels must not be missed? give it with --alert; acc"),
        (["a"], {}, "holds one class only, 'a'; expected a folder of images for each of two"),
        ([], {}, "holds no class folder; expected a folder of images for each of two or more"),
        (["a;b", "c"], {}, "labels holds 'a;b'; accepted: printable characters without / and ;"),
    ],
)
def test_what_cannot_be_is_one_line(
    tmp_path: Path, names: list[str], options: dict[str, Any], message: str
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    with pytest.raises(MedkitError) as caught:
        plan(classes(data, *names), **options)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_class_without_an_image_is_one_line(tmp_path: Path) -> None:
    data = classes(tmp_path / "data", "a", "b")
    (data / "c").mkdir()
    with pytest.raises(DatasetLayoutError, match=r"no image of c in .*--labels-map 'c='"):
        plan(data, alert="a")
    with pytest.raises(DatasetLayoutError, match="gone is no folder"):
        plan(tmp_path / "gone")


def test_labels_are_a_list_or_a_file(tmp_path: Path) -> None:
    assert read_labels("b, a,c ") == ("b", "a", "c")
    path = tmp_path / "labels.txt"
    path.write_text("b, x\na\n\n", encoding="utf-8-sig")
    assert read_labels(str(path)) == ("b, x", "a")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=r"labels\.txt holds no labels .*a text file with a label"):
        read_labels(str(path))


def test_labels_are_what_keras_wrote_down(tmp_path: Path) -> None:
    path = tmp_path / "class_indices.json"
    path.write_text('{"sick": 1, "healthy": 0}')
    assert read_labels(str(path)) == ("healthy", "sick")


def test_a_long_list_of_labels_is_no_name_of_a_file() -> None:
    labels = tuple(f"class{number}" for number in range(60))
    assert read_labels(",".join(labels)) == labels


def test_a_file_of_labels_that_is_not_there_is_no_label() -> None:
    with pytest.raises(
        UsageError, match=r"labels\.txt is no file, and no list of labels; accepted"
    ):
        read_labels("labels.txt")


@pytest.mark.parametrize("inside", ["", "chest_xray", "chest_xray/train"])
def test_a_slip_in_a_built_in_name_starts_no_task(tmp_path: Path, inside: str) -> None:
    for split in ("train", "test"):
        classes(tmp_path / "sets" / "chest_xray" / split, "NORMAL", "PNEUMONIA")
    data = tmp_path / "sets" / inside
    for name in ("pnuemonia", "pneumona", "pneu"):
        with pytest.raises(UsageError, match=f"no task '{name}'.*did you mean pneumonia\\? For a"):
            plan(data, name)


def test_a_name_that_says_it_is_another_task_is_no_slip(tmp_path: Path) -> None:
    xrays = classes(tmp_path / "xrays", "NORMAL", "PNEUMONIA")
    for name in ("pneumonia2", "pneumonia-adults", "lungs"):
        assert plan(xrays, name).task.name == name
    others = classes(tmp_path / "others", "well", "ill")
    assert plan(others, "pnuemonia").task.labels == ("ill", "well")
    described = tmp_path / "out" / "pneumona"
    write_task(
        described,
        replace(
            plan(others, "pneumona").task,
            labels=("NORMAL", "PNEUMONIA"),
            positive="PNEUMONIA",
            alert="PNEUMONIA",
        ),
    )
    assert plan(xrays, "pneumona").task.name == "pneumona"


def test_a_size_is_one_number_or_two() -> None:
    assert read_size("64") == (64, 64)
    assert read_size("320X240") == (320, 240)
    for text in ("", "64x", "x64", "64x64x3", "a", "-64", "1e2"):
        with pytest.raises(UsageError, match="accepted: pixels a side, or WIDTHxHEIGHT"):
            read_size(text)
