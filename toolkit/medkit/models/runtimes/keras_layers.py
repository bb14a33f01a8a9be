"""What a Keras archive may name: Keras' own layers and functions that carry no code of the file's.

An archive describes its network as a tree of objects, each by module and name,
and Keras makes whatever is named. Keras' safe mode refuses what it knows to be
dangerous. medkit accepts only what stands here. To accept another layer, add
its name, if all that its configuration holds is numbers, words and layers.

Left out on purpose: ``Lambda``, ``TFSMLayer``, ``TorchModuleWrapper``,
``JaxLayer`` and ``FlaxLayer``, which run code that the file brings; the layers
with a vocabulary, which may read other files; and functions that take
functions, such as ``Map``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_ACTIVATIONS = frozenset([
    "celu", "elu", "exponential", "gelu", "glu", "hard_shrink", "hard_sigmoid", "hard_silu",
    "hard_swish", "hard_tanh", "leaky_relu", "linear", "log_sigmoid", "log_softmax", "mish", "relu",
    "relu6", "selu", "sigmoid", "silu", "soft_shrink", "softmax", "softplus", "softsign",
    "sparse_plus", "sparse_sigmoid", "sparsemax", "squareplus", "swish", "tanh", "tanh_shrink",
    "threshold",
])  # fmt: skip

_LAYERS = frozenset(
    [
        # products
        *(f"{kind}{rank}D" for kind in ("Conv", "SeparableConv", "DepthwiseConv") for rank in "12"),
        "Conv3D",
        *(f"Conv{rank}DTranspose" for rank in "123"),
        *("Dense", "EinsumDense", "Embedding"),
        *("AdditiveAttention", "Attention", "GroupQueryAttention", "MultiHeadAttention"),
        # activations
        *("Activation", "ELU", "LeakyReLU", "PReLU", "ReLU", "Softmax"),
        # normalisation
        *("BatchNormalization", "GroupNormalization", "LayerNormalization", "Normalization"),
        *("RMSNormalization", "Rescaling", "SpectralNormalization", "UnitNormalization"),
        # pooling
        *(f"{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in "123"),
        *(f"Adaptive{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in "123"),
        *(f"Global{kind}Pooling{rank}D" for kind in ("Average", "Max") for rank in "123"),
        # shapes
        *(f"{kind}{rank}D" for kind in ("Cropping", "UpSampling", "ZeroPadding") for rank in "123"),
        *("CenterCrop", "Flatten", "Identity", "InputLayer", "Permute", "RepeatVector"),
        *("Reshape", "Resizing"),
        # several inputs
        *("Add", "Average", "Concatenate", "Dot", "Maximum", "Minimum", "Multiply", "Subtract"),
        # sequences
        *("Bidirectional", "GRU", "LSTM", "Masking", "SimpleRNN", "TimeDistributed"),
        # without effect in inference
        *("ActivityRegularization", "AlphaDropout", "Dropout", "GaussianDropout", "GaussianNoise"),
        *(f"SpatialDropout{rank}D" for rank in "123"),
        # augmentation; most of it has no effect in inference
        *("AugMix", "AutoContrast", "CutMix", "Equalization", "MixUp", "Pipeline", "RandAugment"),
        *("RandomBrightness", "RandomColorDegeneration", "RandomColorJitter", "RandomContrast"),
        *("RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip"),
        *("RandomGaussianBlur", "RandomGrayscale", "RandomHue", "RandomInvert"),
        *("RandomPerspective", "RandomPosterization", "RandomRotation", "RandomSaturation"),
        *("RandomSharpness", "RandomShear", "RandomTranslation", "RandomZoom", "Solarization"),
    ]
)

_INITIALIZERS = frozenset([
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Identity",
    "IdentityInitializer", "LecunNormal", "LecunUniform", "Ones", "Orthogonal",
    "OrthogonalInitializer", "RandomNormal", "RandomUniform", "TruncatedNormal", "VarianceScaling",
    "Zeros",
])  # fmt: skip

# A functional network records what its author wrote as `x * y` or `keras.ops.mean(x)`.
_ARRAY_OPERATIONS = frozenset([
    "Absolute", "Add", "Amax", "Amin", "Average", "BroadcastTo", "Clip", "Concatenate", "Divide",
    "DivideNoNan", "Dot", "Einsum", "Exp", "ExpandDims", "Flip", "GetItem", "Log", "Log1p",
    "Matmul", "Max", "Maximum", "Mean", "Min", "Minimum", "Moveaxis", "Multiply", "Negative",
    "OnesLike", "Pad", "Power", "Prod", "Ravel", "Reciprocal", "Repeat", "Reshape", "Roll", "Round",
    "Sign", "Split", "Sqrt", "Square", "Squeeze", "Stack", "Std", "Subtract", "Sum", "Swapaxes",
    "Take", "Tanh", "Tensordot", "Tile", "Transpose", "TrueDivide", "Var", "Where", "ZerosLike",
])  # fmt: skip

_NETWORK_OPERATIONS = frozenset([
    "AdaptiveAveragePool", "AdaptiveMaxPool", "AveragePool", "BatchNorm", "Celu", "Conv",
    "ConvTranspose", "DepthToSpace", "DepthwiseConv", "DotProductAttention", "Elu", "Gelu", "Glu",
    "HardShrink", "HardSigmoid", "HardSilu", "HardTanh", "LayerNorm", "LeakyRelu", "LogSigmoid",
    "LogSoftmax", "MaxPool", "Moments", "Normalize", "RMSNorm", "Relu", "Relu6", "Selu",
    "SeparableConv", "Sigmoid", "Silu", "SoftShrink", "Softmax", "Softplus", "Softsign",
    "SpaceToDepth", "Squareplus", "TanhShrink", "Threshold",
])  # fmt: skip

_SAFE = {
    "None": frozenset({"__ellipsis__", "__keras_tensor__", "__numpy__", "__slice__", "__tensor__"}),
    "keras": frozenset({"DTypePolicy", "Functional", "Sequential"}),
    "keras.constraints": frozenset({"MaxNorm", "MinMaxNorm", "NonNeg", "UnitNorm"}),
    "keras.initializers": _INITIALIZERS,
    "keras.layers": _LAYERS,
    "keras.regularizers": frozenset({"L1", "L1L2", "L2", "OrthogonalRegularizer"}),
    # Layers that some networks of keras.applications bring.
    "keras.src.applications.convnext": frozenset({"LayerScale"}),
    "keras.src.applications.inception_resnet_v2": frozenset({"CustomScaleLayer"}),
    "keras.src.models.functional": frozenset({"Functional"}),
    "keras.src.models.sequential": frozenset({"Sequential"}),
    "keras.src.ops.core": frozenset({"Cast", "SaturateCast", "Slice", "StopGradient", "Unstack"}),
    "keras.src.ops.image": frozenset({"CropImages", "PadImages", "RGBToGrayscale", "Resize"}),
    "keras.src.ops.math": frozenset({"Erf", "Logsumexp", "Rsqrt"}),
    "keras.src.ops.nn": _NETWORK_OPERATIONS,
    "keras.src.ops.numpy": _ARRAY_OPERATIONS,
}
"""Names of classes, by module."""

_FUNCTIONS = {
    "builtins": _ACTIVATIONS,  # as Keras calls a function that it finds by its name alone
    "keras.activations": _ACTIVATIONS,
    "keras.src.activations.activations": _ACTIVATIONS,
}
"""Names of functions, by module."""


_NAMES = frozenset[str]().union(*_SAFE.values()) | {"__tuple__"}
"""Names of classes as older files hold them, which name no module."""

_FORMER_HOMES = ("keras.engine.", "keras.src.engine.")
"""Packages in which Keras 2 had Functional and Sequential."""

_HOMES = {
    "Functional": "keras.src.models.functional",
    "Sequential": "keras.src.models.sequential",
}
"""Modules in which Keras 3 has them."""


_COMPILED = "compile_config"
"""Where an archive says how a network, or one inside of it, was compiled."""


def in_todays_form(config: Any) -> Any:
    """Return a configuration of an archive in which networks have the module of Keras 3.

    Keras 2.12 to 2.15 wrote archives, too, with the modules that they had. How a
    network was compiled is left out: nobody trains it here, and Keras would make
    its optimizer, losses and metrics.
    """
    if isinstance(config, list):
        return [in_todays_form(item) for item in config]
    if not isinstance(config, dict):
        return config
    changed = {key: in_todays_form(item) for key, item in config.items() if key != _COMPILED}
    home = _HOMES.get(str(changed.get("class_name")))
    if home is not None and str(changed.get("module")).startswith(_FORMER_HOMES):
        changed["module"] = home
    return changed


def foreign_objects(config: Any, *, legacy: bool = False) -> Iterator[tuple[str, str]]:
    """Give the objects that a network's configuration would make and that may not be made.

    Parameters
    ----------
    config
        Configuration of a network: what the ``config.json`` of an archive holds.
    legacy
        Whether it is that of an HDF5 file, in which classes may have no module:
        Keras then looks for a layer or an initializer of that name.

    Yields
    ------
    name, module
        What is not known to carry no code. Nothing of it has run.
    """
    stack = [config]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                module, name, known = item.get("module"), item["class_name"], _SAFE
                if name == "function":
                    name, known = item.get("config"), _FUNCTIONS
                accepted = known.get(str(module), frozenset())
                if legacy and module is None:
                    accepted = _ACTIVATIONS if name != item["class_name"] else _NAMES
                if not isinstance(name, str) or name not in accepted:
                    yield str(name), str(module)
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
