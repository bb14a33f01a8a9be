"""Programs that people would write instead of medkit, for comparison: one process each.

``python -m medkit.benchmark.peers NAME FOLDER MODEL TASK CORES`` classifies a folder in the
way that the documentation of each library shows. It prints how many images
it classified. :mod:`medkit.benchmark.run` runs and times these processes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medkit.batch.listing import Inputs, walk
from medkit.defaults import BATCH_SIZE
from medkit.images.contract import InputContract
from medkit.models.runtimes.keras_setup import import_keras
from medkit.tasks import SKIN


@dataclass(frozen=True)
class Peer:
    """Another way to classify a folder.

    Attributes
    ----------
    run
        Function that takes folder, model file, input contract and cores. It
        returns the number of images.
    modules
        Modules that it imports.
    file
        Name of the model file in a bundle.
    tasks
        Tasks for which it has a network; empty for any.
    """

    run: Callable[[Path, Path, InputContract, int], int]
    modules: tuple[str, ...]
    file: str
    tasks: tuple[str, ...] = ()


def _keras(folder: Path, model: Path, contract: InputContract, cores: int) -> int:
    keras = import_keras()
    images = keras.utils.image_dataset_from_directory(
        folder,
        labels=None,
        color_mode="grayscale" if contract.channels == 1 else "rgb",
        image_size=(contract.height, contract.width),
        batch_size=BATCH_SIZE,
        shuffle=False,
        verbose=False,
    )
    network = keras.saving.load_model(model, compile=False)
    return len(network.predict(images, verbose=0))


def _timm(folder: Path, model: Path, contract: InputContract, cores: int) -> int:
    import timm
    import torch
    from timm.data import create_dataset, create_loader

    torch.set_num_threads(cores)
    loader = create_loader(
        create_dataset("", root=str(folder)),
        input_size=(contract.channels, contract.height, contract.width),
        batch_size=BATCH_SIZE,
        is_training=False,
        use_prefetcher=False,
        num_workers=cores,
        device=torch.device("cpu"),
    )
    network = timm.create_model("resnet50", pretrained=False, num_classes=9).eval()
    count = 0
    with torch.inference_mode():
        for batch, _ in loader:
            count += len(network(batch).softmax(dim=1))
    return count


def _litert(folder: Path, model: Path, contract: InputContract, cores: int) -> int:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model))
    interpreter.allocate_tensors()
    taken = interpreter.get_input_details()[0]["index"]
    given = interpreter.get_output_details()[0]["index"]
    count = 0
    for path in _paths(folder):
        interpreter.set_tensor(taken, _load(path, contract)[np.newaxis])
        interpreter.invoke()
        count += len(interpreter.get_tensor(given))
    return count


def _onnxruntime(folder: Path, model: Path, contract: InputContract, cores: int) -> int:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    count = 0
    for path in _paths(folder):
        (output,) = session.run(None, {name: _load(path, contract)[np.newaxis]})
        count += len(output)
    return count


def _paths(folder: Path) -> list[Path]:
    return [found.path for found in walk(Inputs((folder,)))]


def _load(path: Path, contract: InputContract) -> NDArray[np.uint8]:
    image = Image.open(path).convert("L" if contract.channels == 1 else "RGB")
    resized = image.resize((contract.width, contract.height))
    return np.asarray(resized, dtype=np.uint8).reshape(contract.shape)


PEERS: dict[str, Peer] = {
    "Keras": Peer(_keras, ("keras", "tensorflow"), "model.keras"),
    "timm": Peer(_timm, ("timm", "torch"), "manifest.json", (SKIN.name,)),
    "LiteRT, one image at a time": Peer(_litert, ("ai_edge_litert",), "model-int8.tflite"),
    "ONNX Runtime, one image at a time": Peer(_onnxruntime, ("onnxruntime",), "model-int8.onnx"),
}
"""By name; timm brings a network of its own, ResNet50, without weights of ours."""


def main(arguments: list[str]) -> Any:
    """Run the peer that the arguments name, and print how many images it classified."""
    name, folder, model, contract, cores = arguments
    read = InputContract.from_dict(json.loads(contract), model)
    print(PEERS[name].run(Path(folder), Path(model), read, int(cores)))


if __name__ == "__main__":
    main(sys.argv[1:])
