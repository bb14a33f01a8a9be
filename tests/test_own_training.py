"""A task of three classes from folders to every figure, all through the command line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from commandruns import read_csv, run
from medkit.datasets.division import read_splits
from medkit.models.bundle import Bundle, load_bundle

pytest.importorskip("tensorflow")
pytest.importorskip("tf2onnx")

LABELS = ("round", "square", "stripe")


def draw(rng: np.random.Generator, label: int) -> Image.Image:
    """Draw a disc, a square or stripes on noise."""
    rows, columns = np.mgrid[:72, :64]
    top, left = rng.uniform(25, 45, 2)
    shape = (
        (rows - top) ** 2 + (columns - left) ** 2 < 200,
        (abs(rows - top) < 14) & (abs(columns - left) < 14),
        (columns // 6) % 2 == 0,
    )[label]
    pixels = rng.normal(90, 10, (72, 64, 3))
    pixels[shape] += (90, 40, 60 * label)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


class Journey:
    """The commands that were run, and what they left."""

    def __init__(self, folder: Path) -> None:
        self.data, self.trained, self.folder = folder / "data", folder / "trained", folder
        rng = np.random.default_rng(0)
        for label, name in enumerate(LABELS):
            (self.data / name).mkdir(parents=True)
            for number in range(40):
                draw(rng, label).save(self.data / name / f"p{number // 2}_{number}.png")
        shutil.copy(self.data / "round/p0_0.png", self.data / "round/p0_copy.png")
        self.done: dict[str, Any] = {}
        at, data = ("--trained", self.trained), ("--data", self.data)
        self.run(
            "train", "shapes", *data, "--out", self.trained, "--alert", "square",
            "--labels", "stripe,square,round", "--group-by", r"(p\d+)_", "--size", "48x40",
            "--epochs", "2",
        )  # fmt: skip
        self.run("export", "shapes", "--int8", "--format", "tflite", *data, *at)
        self.run("parity", "shapes", *data, *at, "--json", folder / "parity.json")
        self.run("classify", self.data, "--task", "shapes", *at, "--out", folder / "p.csv")
        self.run("evaluate", "shapes", *data, *at, "--json", folder / "e.json")
        self.run("report", "shapes", *data, *at, "--out", folder / "r.html")
        self.run("tasks", *at)

    def run(self, command: str, *arguments: object) -> None:
        self.done[command] = run(command, *arguments)

    @property
    def bundle(self) -> Bundle:
        return load_bundle("shapes", self.trained)


@pytest.fixture(scope="module")
def journey(tmp_path_factory: pytest.TempPathFactory) -> Journey:
    with pytest.MonkeyPatch.context() as patched:
        for name in ("MEDKIT_DATA", "MEDKIT_TRAINED"):
            patched.delenv(name, raising=False)
        patched.setenv("COLUMNS", "200")
        return Journey(tmp_path_factory.mktemp("journey"))


def test_every_command_succeeds(journey: Journey) -> None:
    for command, done in journey.done.items():
        assert done.exit_code == 0, f"{command}: {done.output}"


def test_training_describes_the_task_and_says_what_it_told(journey: Journey) -> None:
    told = journey.done["train"].stderr
    assert "shapes, a task of your own: stripe, square, round; not to be missed: square" in told
    assert "the images are coloured, and so is the input; give --grey to change it" in told
    assert "1 of 121 images kept out" in told
    assert "divided by patient, in splits.csv: " in told
    task = journey.bundle.task
    assert (task.labels, task.alert) == (("stripe", "square", "round"), "square")
    assert task.contract.shape == (40, 48, 3)
    assert task.images == "coloured"


def test_a_bundle_holds_record_card_and_plots(journey: Journey) -> None:
    bundle = journey.bundle
    manifest = bundle.manifest
    assert manifest.recipe is not None
    assert (manifest.recipe.name, manifest.recipe.network) == ("own", "compact-cnn")
    assert manifest.data.group_by == r"(p\d+)_"
    assert {"validation", "test"} <= set(manifest.metrics)
    for name in manifest.listed:
        bundle.verify(bundle.folder / name)
    assert {"splits.csv", "roc.png", "curves.png"} <= set(manifest.files)
    record = read_splits(bundle.folder, bundle.task)
    assert len(record) == 121
    assert [each.name for each in record if each.split == "kept out"] == ["round/p0_copy.png"]
    where: dict[str, set[str]] = {}
    for each in record:
        if each.split != "kept out":
            where.setdefault(each.group, set()).add(each.split)
    assert {len(splits) for splits in where.values()} == {1}
    card = (bundle.folder / "MODEL_CARD.md").read_text()
    assert (
        "medkit train shapes --data DIR --seed 0 --labels stripe,square,round --alert square "
        r"--title shapes --network compact-cnn --size 48x40 --epochs 2 --group-by '(p\d+)_' "
        "--colour --out mine" in card
    )


def test_nothing_held_out_calibrates(journey: Journey) -> None:
    bundle = journey.bundle
    (entry,) = bundle.manifest.exports.values()
    assert entry.calibration is not None
    record = read_splits(bundle.folder, bundle.task)
    split_of = {each.sha256: each.split for each in record if each.split != "kept out"}
    assert {split_of[sha256] for sha256 in entry.calibration.files} == {"train"}
    assert entry.has_passed
    assert entry.metrics is not None


def test_held_out_images_are_measured_and_no_others(journey: Journey) -> None:
    record = read_splits(journey.bundle.folder, journey.bundle.task)
    tested = {each.name for each in record if each.split == "test"}
    held_out = sum(each.split in ("validation", "test") for each in record)
    (evaluated,) = json.loads((journey.folder / "e.json").read_text())
    assert {each["image"] for each in evaluated["images"]} == tested
    assert "images that the model was trained on, such as" in journey.done["evaluate"].output
    for compared in json.loads((journey.folder / "parity.json").read_text()):
        assert compared["images"] == held_out
        assert compared["passed"]
    page = (journey.folder / "r.html").read_text()
    assert f"{len(tested)} images through the original" in journey.done["report"].stderr
    assert "the test split of its data" in page


def test_rows_have_the_columns_of_the_task(journey: Journey) -> None:
    rows = read_csv((journey.folder / "p.csv").read_text())
    assert len(rows) == 121
    assert {row["status"] for row in rows} == {"ok"}
    assert [name for name in rows[0] if name.startswith("p_")] == [
        "p_stripe",
        "p_square",
        "p_round",
    ]
    assert "shapes" in journey.done["tasks"].output


def test_renamed_folders_change_no_figure(journey: Journey, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(journey.data, tmp_path / "moved"))
    (moved / "round").rename(moved / "rings")
    done = run(
        "parity", "shapes", "--data", moved, "--trained", journey.trained,
        "--json", tmp_path / "p.json",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "p.json").read_text()) == json.loads(
        (journey.folder / "parity.json").read_text()
    )


def test_training_images_alone_prove_nothing(journey: Journey, tmp_path: Path) -> None:
    seen = Path(shutil.copytree(journey.data, tmp_path / "seen"))
    for each in read_splits(journey.bundle.folder, journey.bundle.task):
        if each.split in ("validation", "test"):
            (seen / each.name).unlink()
    for asked in (["parity", "shapes"], ["export", "shapes", "--int8"]):
        done = run(*asked, "--data", seen, "--trained", journey.trained)
        assert done.exit_code == 2, done.output
        assert "were used to make the model; give images that it has not seen" in done.stderr


def test_a_model_that_is_there_is_not_replaced_unasked(journey: Journey) -> None:
    asked = ["train", "shapes", "--data", journey.data, "--out", journey.trained]
    done = run(*asked)
    assert done.exit_code == 2
    assert (
        "manifest.json exists: --overwrite replaces it, --out DIR writes elsewhere" in done.stderr
    )
    done = run(*asked, "--resume")
    assert done.exit_code == 2
    assert "no unfinished run in" in done.stderr
