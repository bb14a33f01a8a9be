"""The layers of a Keras network, as the configuration in its file tells them.

Keras itself is not asked: a file may hold layers of other people's, whose
code would have to be run. Both kinds of files are read: the archive of Keras
3, and the HDF5 file of the releases before.
"""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from medkit.errors import ModelFileError
from medkit.models.card import no_card
from medkit.models.operators import keras_layers
from medkit.models.operators.keras_layers import Sides
from medkit.models.operators.summary import (
    FOREIGN,
    UNKNOWN_SHAPE,
    Operator,
    OperatorSummary,
    Pixels,
)

_HDF5 = b"\x89HDF\r\n\x1a\n"

Place = tuple[str, int, int]
"""Name of a layer, number of its call, number of the call's result."""


def read_operators(path: Path) -> OperatorSummary:
    """List the layers of a Keras file; raise any error for one that is damaged.

    A file of weights alone has no layers to list.

    Raises
    ------
    ModelFileError
        If it is an HDF5 file of something else.
    """
    with path.open("rb") as stream:
        if stream.read(len(_HDF5)) == _HDF5:
            config, tensors = _read_hdf5(path)
        else:
            config, tensors = _read_archive(path)
    if config is None:
        return OperatorSummary((), tensors, Pixels("unknown"))
    operators, _ = _network(config, [])
    return OperatorSummary(tuple(operators), tensors, Pixels(_first_input(config)))


def read_no_card(path: Path) -> bytes:
    """Raise :class:`ModelFileError`: the HDF5 files of Keras have no place for a card."""
    path.open("rb").close()
    raise no_card(path)


def _read_archive(path: Path) -> tuple[Mapping[str, Any], dict[str, int]]:
    found: Counter[str] = Counter()
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))
        for name in archive.namelist():
            if name.endswith(".h5"):
                found.update(_tensors(BytesIO(archive.read(name))))
    if not isinstance(config, dict) or "class_name" not in config:
        raise ValueError("no network in config.json")
    return config, dict(sorted(found.items()))


def _read_hdf5(path: Path) -> tuple[Mapping[str, Any] | None, dict[str, int]]:
    import h5py

    with h5py.File(path, "r") as file:
        stored, weighted = file.attrs.get("model_config"), "layer_names" in file.attrs
    found = _tensors(path, only_variables=stored is None and not weighted)
    if stored is not None:
        return json.loads(stored), found
    if not found:
        raise ModelFileError(
            f"{path} is an HDF5 file without a Keras network or its weights; accepted: what "
            "Keras' save and save_weights write"
        )
    return None, found


def _tensors(source: Any, *, only_variables: bool = False) -> dict[str, int]:
    """Return the number of a file's weights of each type, without those of an optimizer.

    Parameters
    ----------
    source
        Path or stream of an HDF5 file.
    only_variables
        Whether to count only what Keras 3 calls a variable: another HDF5 file
        has none.
    """
    import h5py

    found: Counter[str] = Counter()

    def count(name: str, item: Any) -> None:
        parts = name.split("/")
        wanted = "vars" in parts[:-1] if only_variables else not parts[0].startswith("optimizer")
        if wanted and isinstance(item, h5py.Dataset):
            found[str(item.dtype)] += 1

    with h5py.File(source, "r") as file:
        file.visititems(count)  # follows no link into another file
    return dict(sorted(found.items()))


def _network(
    config: Mapping[str, Any], given: Sequence[Sides | None]
) -> tuple[list[Operator], Sides | None]:
    """Describe the layers of a network, or a layer; return the shape of its first output, too."""
    kind, options = config["class_name"], config.get("config")
    layers = options.get("layers") if isinstance(options, dict) else options
    if not isinstance(layers, list) or _is_custom(config):
        return _layer(config, given)
    if kind == "Sequential":
        return _sequence(layers, given)
    return _graph(options if isinstance(options, dict) else {}, layers, given)


def _sequence(
    layers: Sequence[Mapping[str, Any]], given: Sequence[Sides | None]
) -> tuple[list[Operator], Sides | None]:
    operators: list[Operator] = []
    shape = given[0] if given else None
    for layer in layers:
        found, shape = _network(layer, [shape])
        operators += found
    return operators, shape


def _graph(
    options: Mapping[str, Any],
    layers: Sequence[Mapping[str, Any]],
    given: Sequence[Sides | None],
) -> tuple[list[Operator], Sides | None]:
    """Describe layers that are wired; each call of a layer is an operator."""
    shapes: dict[Place, Sides | None] = {}
    for (name, *_), shape in zip(_places(options.get("input_layers")), given, strict=False):
        shapes[name, 0, 0] = shape
    calls = {
        (_name(layer), number): (layer, list(_sources(node)))
        for layer in layers
        for number, node in enumerate(layer.get("inbound_nodes") or [None])
    }
    described: dict[tuple[str, int], list[Operator]] = {}
    waiting = list(calls)
    while waiting:
        # A layer that is called twice may stand before one that its second call needs.
        ready = [
            call
            for call in waiting
            if all(shape or place in shapes for place, shape in calls[call][1])
        ]
        for call in ready or waiting:
            layer, sources = calls[call]
            taken = [shape or shapes.get(place) for place, shape in sources]
            if not sources:
                taken = [shapes.get((*call, 0))]
            described[call], shapes[(*call, 0)] = _network(layer, taken)
        waiting = [call for call in waiting if call not in described]
    ends = [shapes.get(place) for place in _places(options.get("output_layers"))]
    return [item for call in calls for item in described[call]], ends[0] if ends else None


def _layer(
    config: Mapping[str, Any], given: Sequence[Sides | None]
) -> tuple[list[Operator], Sides | None]:
    kind, name = str(config["class_name"]), _name(config)
    options = config.get("config")
    options = options if isinstance(options, dict) else {}
    computes_in, weights = _numbers(options.get("dtype"))
    own = options.get("batch_shape") or options.get("batch_input_shape")
    if own is not None and (not given or given[0] is None):
        given = [_sides(own)]
    if kind == "InputLayer":
        return [Operator(name, kind, computes_in, 0)], given[0] if given else None
    if any(shape is None for shape in given) or not given:
        given = _built_on(config) or given
    known = [shape for shape in given if shape is not None]
    known = known if len(known) == len(given) else []
    if not _is_custom(config) and kind in ("TimeDistributed", "Bidirectional"):
        return _wrapped(kind, options, known)
    if _is_custom(config) or not keras_layers.is_known(kind):
        return [Operator(name, kind, computes_in, 0, doubt=FOREIGN)], None
    work: int | None = 0
    if keras_layers.does_work(kind):
        work = keras_layers.work_of(kind, options, known)
    else:
        weights = ""
    doubt = UNKNOWN_SHAPE if work is None else ""
    operator = Operator(name, kind, computes_in, work or 0, weights=weights, doubt=doubt)
    return [operator], keras_layers.output_of(kind, options, known)


def _wrapped(
    kind: str, options: Mapping[str, Any], given: Sequence[Sides]
) -> tuple[list[Operator], Sides | None]:
    """Describe a layer that is run for each step, or once forwards and once backwards."""
    inner = options["layer"]
    if kind == "Bidirectional":
        backward = options.get("backward_layer") or inner
        operators, shape = _network(inner, given)
        operators = [*operators, *_network(backward, given)[0]]
        if shape is not None and options.get("merge_mode", "concat") == "concat":
            shape = (*shape[:-1], None if shape[-1] is None else 2 * shape[-1])
        return operators, shape
    first = given[0] if given else None
    steps = None if first is None else first[1]
    once = None if first is None else (first[0], *first[2:])
    operators, shape = _network(inner, [once])
    told = [
        Operator(
            item.name,
            item.kind,
            item.computes_in,
            item.work * (steps or 0),
            weights=item.weights,
            doubt=item.doubt or ("" if steps else UNKNOWN_SHAPE),
        )
        for item in operators
    ]
    return told, None if shape is None else (shape[0], steps, *shape[1:])


def _is_custom(config: Mapping[str, Any]) -> bool:
    """Whether a class is not Keras' own: its name, or its module, is another package's."""
    module = config.get("module")
    registered = config.get("registered_name") or config["class_name"]
    own = module is None or str(module).partition(".")[0] in ("keras", "tensorflow", "tf_keras")
    return not own or ">" in str(registered)


def _name(config: Mapping[str, Any]) -> str:
    options = config.get("config")
    inner = options.get("name") if isinstance(options, dict) else None
    return str(config.get("name") or inner or config["class_name"])


def _numbers(policy: Any) -> tuple[str, str]:
    """Return what a layer computes in, and the type of its weights if that is another."""
    if isinstance(policy, dict):
        stored = policy.get("config") or {}
        mode = str(stored.get("mode", ""))
        if mode.startswith(("int8", "int4")):
            # Keras brings the inputs of such a layer to 8 bits as well.
            return "int8", "" if mode.startswith("int8") else "int4"
        policy = stored.get("name") or stored.get("source_name")
    name = str(policy or "float32")
    if name.startswith("mixed_"):
        return name.removeprefix("mixed_"), "float32"
    return name, ""


def _built_on(config: Mapping[str, Any]) -> list[Sides | None]:
    """Return the shapes that a layer was built for, where its file keeps them."""
    built = config.get("build_config") or {}
    shape = built.get("input_shape")
    if shape is None:
        named = built.get("shapes_dict") or built
        found = [named.get(key) for key in ("query_shape", "value_shape", "key_shape")]
        return [_sides(item) for item in found if isinstance(item, list)]
    several = shape and isinstance(shape[0], list)
    return [_sides(item) for item in (shape if several else [shape])]


def _sides(shape: Sequence[int | None]) -> Sides:
    """Return a shape with one image in the batch, if its size is free."""
    return (shape[0] or 1, *shape[1:]) if shape else ()


def _places(item: Any) -> Iterator[Place]:
    """Give the places in a list, or in lists of lists."""
    if isinstance(item, list) and len(item) >= 3 and isinstance(item[0], str):
        yield item[0], int(item[1]), int(item[2])
    elif isinstance(item, dict):
        for value in item.values():
            yield from _places(value)
    elif isinstance(item, list):
        for value in item:
            yield from _places(value)


def _sources(node: Any) -> Iterator[tuple[Place, Sides | None]]:
    """Give the places that a call takes its inputs from, with shapes in files of Keras 3."""
    if isinstance(node, dict) and node.get("class_name") == "__keras_tensor__":
        options = node["config"]
        (place,) = _places(options["keras_history"])
        yield place, _sides(options["shape"])
    elif isinstance(node, dict):
        for value in node.values():
            yield from _sources(value)
    elif isinstance(node, list) and len(node) >= 3 and isinstance(node[0], str):
        yield next(_places(node)), None
        yield from _sources(node[3:])  # inputs that were given by name
    elif isinstance(node, list):
        for value in node:
            yield from _sources(value)


def _first_input(config: Mapping[str, Any]) -> str:
    """Return the type that the first layer of a network takes."""
    options = config.get("config")
    layers = options.get("layers") if isinstance(options, dict) else options
    if isinstance(layers, list) and layers:
        return _first_input(layers[0])
    return _numbers(options.get("dtype") if isinstance(options, dict) else None)[0]
