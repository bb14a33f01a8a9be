"""Parity runs on made data, and ways to break what they compare."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medkit.defaults import BALANCED
from medkit.evaluation.comparison import Comparison, compare
from medkit.evaluation.outputs import Images, ModelRun, Outputs
from medkit.evaluation.parity import ParityOptions
from medkit.models.bundle import file_record
from medkit.models.points import OperatingPoint
from medkit.tasks import PNEUMONIA, SKIN
from modelfiles import save_onnx


def found(before: list[float], after: list[float], labels: list[int]) -> Comparison:
    """Compare probabilities of pneumonia at a threshold of one half."""
    points = {BALANCED: OperatingPoint(BALANCED, "PNEUMONIA", 0.5)}
    outputs = []
    for scores in (before, after):
        positive = np.asarray(scores, dtype=np.float32)
        outputs.append(Outputs(np.stack([1 - positive, positive], axis=1), points))
    images = Images([f"{index}.png" for index in range(len(labels))], np.array(labels))
    return compare(PNEUMONIA, ModelRun("model-fp32.onnx", "fp32", "r"), *outputs, images)


GOOD = found([0.1, 0.9], [0.1, 0.9], [0, 1])
BAD = found([0.1, 0.9, 0.2], [0.9, 0.1, 0.8], [0, 1, 0])
NO_NUMBER = found([0.1, np.nan], [0.1, 0.9], [0, 1])


def options(trained: Path, data: Path | None = None, **others: Any) -> ParityOptions:
    return ParityOptions(tasks=(PNEUMONIA,), data=data, trained=trained, **others)


def relist(trained: Path, name: str, task: str = "pneumonia") -> None:
    """Write a file's present hash into the manifest, as if it had been exported so."""
    path = trained / task / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest["exports"][name] |= asdict(file_record(path.parent / name))
    path.write_text(json.dumps(manifest))


def change_onnx(path: Path, change: Callable[[Any], Any]) -> None:
    """Change the weights of an ONNX file's last product."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(path)
    (last,) = [node for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    (weights,) = [item for item in model.graph.initializer if item.name == last.input[1]]
    changed = change(numpy_helper.to_array(weights))
    weights.CopyFrom(numpy_helper.from_array(np.asarray(changed), weights.name))
    save_onnx(model, path)


def drawn_samples(folder: Path) -> Path:
    """Write one image for each task, into a folder of its own."""
    for task in (PNEUMONIA, SKIN):
        (folder / task.name).mkdir(parents=True)
        Image.new("RGB", (40, 60), (200, 120, 90)).save(folder / task.name / "a.png")
    return folder
