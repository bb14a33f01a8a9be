"""Keras as medkit needs it, whatever a user's other work has set."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from commandruns import PROGRAM, read_csv

FOREIGN = {
    "backend": "torch",
    "floatx": "float16",
    "epsilon": 1e-3,
    "image_data_format": "channels_first",
}

SETTINGS = """
import os
from medkit.models.runtimes.keras import import_tensorflow
tensorflow = import_tensorflow("test")
import keras
network = keras.Sequential([keras.Input((8, 6, 3)), keras.layers.Conv2D(2, 3)])
print(
    keras.config.backend(), keras.config.floatx(), keras.config.epsilon(),
    keras.config.image_data_format(), keras.config.dtype_policy().name,
    keras.config.max_epochs(), keras.config.max_steps_per_epoch(),
    network.output_shape, network.layers[0].compute_dtype,
    tensorflow.keras.layers.Dense is keras.layers.Dense,
    os.environ.get("KERAS_BACKEND"), os.environ.get("KERAS_MAX_EPOCHS"),
)
"""


def home_with(folder: Path, settings: object) -> Path:
    """Make a home folder with a ``keras.json``."""
    (folder / ".keras").mkdir(parents=True)
    (folder / ".keras/keras.json").write_text(json.dumps(settings))
    return folder


def python(script: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "HOME": str(home), **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def test_settings_of_other_programs_do_not_reach_keras_and_stay_for_them(tmp_path: Path) -> None:
    home = home_with(tmp_path, FOREIGN)
    variables = {
        "KERAS_BACKEND": "jax",
        "KERAS_MAX_EPOCHS": "1",
        "KERAS_MAX_STEPS_PER_EPOCH": "1",
        "TF_USE_LEGACY_KERAS": "1",
    }
    done = python(SETTINGS, home, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "tensorflow float32 1e-07 channels_last float32 None None (None, 6, 4, 2) float32 True "
        "jax 1"
    ]


@pytest.mark.parametrize("foreign", [{"KERAS_BACKEND": "jax"}, {}], ids=["variable", "file"])
def test_an_original_decides_the_same_under_foreign_settings(
    tiny_exported: Path, tiny_data: Path, tmp_path: Path, foreign: dict[str, str]
) -> None:
    rows = []
    for home, variables in (
        (home_with(tmp_path / "plain", {}), {}),
        (home_with(tmp_path / "foreign", FOREIGN), foreign),
    ):
        images = tiny_data / "chest_xray/test/NORMAL"
        done = subprocess.run(
            [
                *(*PROGRAM, "classify", str(images), "--out", "-", "--runtime", "keras"),
                *("--task", "pneumonia", "--trained", str(tiny_exported)),
            ],
            env={**os.environ, "HOME": str(home), **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        rows.append(read_csv(done.stdout))
    assert rows[0] == rows[1]
    assert len(rows[0]) == 10


def test_settings_that_keras_cannot_read_are_one_line(tiny_exported: Path, tmp_path: Path) -> None:
    home = home_with(tmp_path, {"floatx": "float8"})
    done = subprocess.run(
        [
            *(*PROGRAM, "classify", "tests/samples/pneumonia", "--out", "-", "--runtime", "keras"),
            *("--task", "pneumonia", "--trained", str(tiny_exported)),
        ],
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("medkit: error: Keras cannot use its settings (Invalid `floatx`")
    assert line.endswith("correct or remove ~/.keras/keras.json")


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [
        ("backend", "jax", "Keras runs on jax in this process, and medkit needs it on TensorFlow"),
        ("floatx", "float16", "Keras is set to floatx float16 in this process, and medkit needs"),
        ("image_data_format", "channels_first", "call keras.config.set_image_data_format"),
    ],
)
def test_keras_of_somebody_else_in_the_process_is_checked_and_not_changed(
    monkeypatch: pytest.MonkeyPatch, setting: str, value: str, told: str
) -> None:
    import keras

    from medkit.errors import MedkitError
    from medkit.models.runtimes.keras_setup import import_keras

    assert import_keras() is keras
    monkeypatch.setattr(keras.config, setting, lambda: value)
    with pytest.raises(MedkitError, match=told) as refused:
        import_keras()
    assert "\n" not in str(refused.value)
    assert getattr(keras.config, setting)() == value


def test_a_network_is_trained_the_same_under_foreign_settings(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
import numpy as np
from medkit.models.runtimes.keras import import_tensorflow
import_tensorflow("test")
import keras
from medkit.tasks import PNEUMONIA
from medkit.training.networks import build_network
from medkit.training.recipes import get_recipe
keras.utils.set_random_seed(0)
network = build_network(PNEUMONIA, get_recipe(PNEUMONIA, "default"), None)
np.save(sys.stdout.buffer, np.concatenate([one.ravel() for one in network.get_weights()]))
"""
    weights = []
    for name, settings in (("plain", {}), ("foreign", FOREIGN)):
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "HOME": str(home_with(tmp_path / name, settings))},
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        (tmp_path / f"{name}.npy").write_bytes(done.stdout)
        weights.append(np.load(tmp_path / f"{name}.npy"))
    assert weights[0].dtype == np.float32
    assert np.array_equal(weights[0], weights[1])
