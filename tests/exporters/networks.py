"""Small untrained networks of the kinds that people build, none of which medkit trains itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

layers = keras.layers


def pixels(height: int = 32, width: int = 32, channels: int = 3) -> Any:
    return keras.Input((height, width, channels), dtype="uint8")


def classified(inputs: Any, x: Any, **options: Any) -> Any:
    """End a network in probabilities of three classes."""
    if len(x.shape) == 4:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", **options)(x))


def hidden_dense() -> Any:
    """Activations inside of layers, a hidden dense layer, and no bias at the end."""
    return keras.Sequential(
        [
            pixels(),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(12, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(3, activation="softmax", use_bias=False),
        ]
    )


def softmax_apart() -> Any:
    inputs = pixels()
    x = layers.ReLU()(layers.Conv2D(8, 3)(layers.Rescaling(1 / 127.5, -1)(inputs)))
    x = layers.Dense(3)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Softmax()(layers.Dropout(0.1)(x)))


def sigmoid_apart() -> Any:
    inputs = pixels()
    x = layers.ReLU()(layers.Conv2D(8, 3)(layers.Rescaling(1 / 127.5, -1)(inputs)))
    x = layers.Dense(1)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Activation("sigmoid")(x))


def transfer_learning() -> Any:
    """Models inside of a model: a residual backbone, and a head."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, padding="same", use_bias=False)(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(x))
    backbone = keras.Model(inputs, layers.ReLU()(layers.Add()([x, y])), name="backbone")
    head = keras.Sequential(
        [
            layers.GlobalAveragePooling2D(),
            layers.Dense(8, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ],
        name="head",
    )
    return keras.Sequential([pixels(), layers.Rescaling(1 / 255), backbone, head])


def mobilenet() -> Any:
    """MobileNetV2: depthwise convolutions, ReLU6, and additions without an activation."""
    backbone = keras.applications.MobileNetV2(
        weights=None, input_shape=(32, 32, 3), alpha=0.35, include_top=False, pooling="avg"
    )
    inputs = pixels()
    return classified(inputs, backbone(layers.Rescaling(1 / 127.5, -1)(inputs)))


def separable() -> Any:
    return keras.Sequential(
        [
            pixels(),
            layers.Rescaling(1 / 255),
            layers.Conv2D(8, 3),
            layers.ReLU(),
            layers.SeparableConv2D(12, 3, activation="relu"),
            layers.SeparableConv2D(12, 3, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )


def densenet() -> Any:
    """Concatenated features, and normalisations that no convolution comes before."""
    inputs = pixels()
    x = layers.Conv2D(8, 3, padding="same")(layers.Rescaling(1 / 255)(inputs))
    for _ in range(2):
        y = layers.ReLU()(layers.BatchNormalization()(x))
        x = layers.Concatenate()([x, layers.Conv2D(4, 3, padding="same", use_bias=False)(y)])
    x = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.AveragePooling2D(2)(layers.Conv2D(8, 1, activation="relu")(x))
    return classified(inputs, x)


def efficientnet() -> Any:
    """Swish, squeeze and excitation, and constants of a Normalization layer."""
    inputs = pixels()
    x = layers.Rescaling(1 / 255)(inputs)
    x = layers.Normalization(mean=[0.4, 0.5, 0.6], variance=[0.04, 0.05, 0.06])(x)
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(x)
    first = layers.Activation("swish")(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(first)
    x = layers.Activation("swish")(layers.BatchNormalization()(x))
    s = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    s = layers.Conv2D(8, 1, activation="sigmoid")(layers.Conv2D(4, 1, activation="swish")(s))
    x = layers.Conv2D(8, 1, use_bias=False)(layers.Multiply()([x, s]))
    x = layers.Add()([layers.BatchNormalization()(x), first])
    return classified(inputs, x)


def layer_norm() -> Any:
    """What ConvNeXt is made of."""
    inputs = pixels()
    x = layers.Conv2D(8, 4, strides=4)(layers.Rescaling(1 / 255)(inputs))
    x = layers.LayerNormalization()(x)
    y = layers.LayerNormalization()(layers.DepthwiseConv2D(3, padding="same")(x))
    y = layers.Dense(8)(layers.Dense(16, activation="gelu")(y))
    return classified(inputs, layers.Add()([x, y]))


def channels_alone() -> Any:
    """Depthwise convolutions that are written as groups, as ConvNeXt's are."""
    inputs = pixels()
    x = layers.Conv2D(8, 4, strides=4)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Conv2D(16, 3, groups=8, padding="same", activation="relu")(x)
    x = layers.Conv2D(16, 3, groups=16, use_bias=False)(x)
    return classified(inputs, layers.Conv2D(8, 1, activation="relu")(x))


def adapted_normalisation() -> Any:
    normalisation = layers.Normalization()
    rng = np.random.default_rng(6)
    normalisation.adapt(rng.integers(50, 200, (10, 32, 32, 3)).astype("float32"))
    inputs = pixels()
    return classified(
        inputs, layers.ReLU()(layers.Conv2D(8, 3, padding="same")(normalisation(inputs)))
    )


def three_summands() -> Any:
    """An addition of three, after two Rescaling layers."""
    inputs = pixels()
    x = layers.Rescaling(1 / 60)(layers.Rescaling(1.0, -120.0)(inputs))
    x = layers.ReLU()(layers.Conv2D(8, 3, padding="same")(x))
    summands = [x, layers.Conv2D(8, 3, padding="same")(x), layers.Conv2D(8, 1)(x)]
    return classified(inputs, layers.ReLU()(layers.Add()(summands)))


def shared_layers() -> Any:
    inputs = pixels()
    x = layers.ReLU()(layers.Conv2D(8, 3, padding="same")(layers.Rescaling(1 / 255)(inputs)))
    convolution, activation = layers.Conv2D(8, 3, padding="same"), layers.ReLU()
    for _ in range(2):
        x = activation(convolution(x))
    return classified(inputs, x)


def not_square() -> Any:
    inputs = pixels(24, 40, 1)
    x = layers.Conv2D(8, 3, strides=2)(layers.Rescaling(1 / 255)(inputs))
    return classified(inputs, layers.ReLU()(layers.BatchNormalization()(x)))


def larger() -> Any:
    inputs = pixels(224, 224, 3)
    x = layers.Conv2D(4, 7, strides=4)(layers.Rescaling(1 / 255)(inputs))
    x = layers.ReLU()(layers.BatchNormalization(scale=False)(x))
    return classified(inputs, layers.GlobalMaxPooling2D()(x))


def parallel() -> Any:
    """Three paths from the pixels, as in Inception."""
    inputs = pixels()
    x = layers.Rescaling(1 / 255)(inputs)
    paths = [
        layers.Conv2D(4, 1, activation="relu")(x),
        layers.Conv2D(4, 5, activation="relu", padding="same")(x),
        layers.MaxPooling2D(3, strides=1, padding="same")(x),
    ]
    return classified(inputs, layers.Conv2D(8, 3, activation="relu")(layers.Concatenate()(paths)))


def unusual_layers() -> Any:
    """Groups, dilation, a leaky ReLU, and images that are made larger."""
    inputs = pixels()
    x = layers.Conv2D(8, 3, dilation_rate=2)(layers.Rescaling(1 / 255)(inputs))
    x = layers.Conv2D(8, 3, groups=2)(layers.ReLU(max_value=6)(x))
    x = layers.UpSampling2D()(layers.AveragePooling2D(2)(layers.LeakyReLU()(x)))
    return classified(inputs, layers.Flatten()(layers.MaxPooling2D(4)(x)))


def functions() -> Any:
    """Operators and functions between layers, and pixels that are taken as floats."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3)(layers.Rescaling(1 / 255)(inputs))
    x = x * layers.ReLU(6.0)(x + 3.0) / 6.0
    return classified(inputs, keras.ops.relu(layers.Conv2D(8, 3)(x)))


def ends_in_convolution() -> Any:
    """The end of MobileNetV3: hard swish, and a convolution of one place that gives logits."""
    inputs = pixels()
    x = layers.Conv2D(8, 3, activation="hard_swish")(layers.Rescaling(1 / 127.5, -1)(inputs))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(12, 1, activation="hard_swish")(x)
    x = layers.Flatten()(layers.Conv2D(3, 1)(layers.Dropout(0.2)(x)))
    return keras.Model(inputs, layers.Activation("softmax")(x))


def ends_in_pooling() -> Any:
    """The end of SqueezeNet: the mean of a map of each label."""
    inputs = pixels()
    x = layers.Conv2D(8, 3, activation="elu")(layers.Rescaling(1 / 127.5, -1)(inputs))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(3, 1)(x))
    return keras.Model(inputs, keras.ops.softmax(x))


def augmented() -> Any:
    """Models inside, one of which changes images in training only."""
    shape = (32, 32, 3)
    inputs = pixels()
    augmentation = [layers.RandomFlip(), layers.RandomRotation(0.2), layers.RandomContrast(0.2)]
    x = keras.Sequential([keras.Input(shape, dtype="uint8"), *augmentation])(inputs)
    body = keras.Sequential([keras.Input(shape), layers.Conv2D(8, 3, activation="silu")])
    x = layers.RandomZoom(0.2)(body(layers.Rescaling(1 / 255)(x)))
    end = [layers.GlobalAveragePooling2D(), layers.Dense(3, activation="softmax")]
    return keras.Model(inputs, keras.Sequential(end)(x))


def as_from_caffe() -> Any:
    """Blue first and less the mean, by a function of keras.applications."""
    inputs = pixels()
    x = keras.applications.vgg16.preprocess_input(keras.ops.cast(inputs, "float32"))
    x = layers.Conv2D(8, 3, padding="same", kernel_initializer="he_normal")(x)
    x = layers.ReLU()(layers.Rescaling(1 / 128)(x))
    return classified(inputs, x)


def as_from_torch() -> Any:
    """Less the mean, divided by the deviation, by a function of keras.applications."""
    inputs = pixels()
    x = keras.applications.densenet.preprocess_input(keras.ops.cast(inputs, "float32"))
    return classified(inputs, layers.Conv2D(8, 5, activation="relu")(layers.ZeroPadding2D(2)(x)))


def transformer() -> Any:
    """A vision transformer of one block."""
    inputs = pixels()
    x = layers.Conv2D(12, 8, 8)(layers.Rescaling(1 / 127.5, -1)(inputs))
    x = layers.EinsumDense("btd,de->bte", (16, 12), bias_axes="te")(layers.Reshape((16, 12))(x))
    y = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 6)(y, y)
    y = layers.Dense(24, activation="gelu")(layers.LayerNormalization()(x))
    x = layers.LayerNormalization(scale=False)(x + layers.Dense(12)(y))
    return classified(inputs, 0.5 * layers.GlobalAveragePooling1D()(x))


NETWORKS: dict[str, Callable[[], Any]] = {
    make.__name__: make
    for make in (
        hidden_dense,
        softmax_apart,
        sigmoid_apart,
        transfer_learning,
        mobilenet,
        separable,
        densenet,
        efficientnet,
        layer_norm,
        channels_alone,
        adapted_normalisation,
        three_summands,
        shared_layers,
        not_square,
        larger,
        parallel,
        unusual_layers,
        functions,
        ends_in_convolution,
        ends_in_pooling,
        augmented,
        as_from_caffe,
        as_from_torch,
        transformer,
    )
}


def residual_network(ending: str = "dense") -> Any:
    """A small residual network whose channels differ in strength by a thousand."""
    keras.utils.set_random_seed(1)
    pixels = keras.Input((16, 16, 3), dtype="uint8")
    x = layers.Rescaling(1 / 128, -1.0)(pixels)
    stem = layers.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(x)
    x = layers.ReLU(name="stem_relu")(layers.BatchNormalization(name="stem_norm")(stem))
    x = layers.MaxPooling2D()(layers.ZeroPadding2D()(x))
    inner = layers.Conv2D(12, 1, name="inner")(x)
    inner = layers.Activation("relu", name="inner_relu")(inner)
    inner = layers.Conv2D(8, 3, padding="same", name="outer")(inner)
    x = layers.ReLU(name="sum_relu")(layers.Add()([x, inner]))
    x = layers.GlobalAveragePooling2D()(x)
    if ending == "dense":
        x = layers.Dropout(0.5)(x)
        x = layers.Dense(3, activation="softmax", name="head")(x)
    model = keras.Model(pixels, x)
    rng = np.random.default_rng(2)
    norm = model.get_layer("stem_norm")
    strength = np.geomspace(1, 1000, 8).astype(np.float32)
    norm.set_weights([strength, 0.1 * strength, np.zeros(8), np.ones(8)])
    kernel, bias = model.get_layer("inner").get_weights()
    spread = np.geomspace(0.01, 10, 12).astype(np.float32)
    kernel = kernel / strength[:, np.newaxis] * spread
    model.get_layer("inner").set_weights([kernel, bias + rng.uniform(0, spread)])
    if ending == "dense":
        kernel, bias = model.get_layer("head").get_weights()
        model.get_layer("head").set_weights([kernel / strength[:, np.newaxis], bias])
    return model


def all_layers(model: Any) -> list[Any]:
    """Return a network's layers, with those of the models inside."""
    found = []
    for layer in model.layers:
        found += all_layers(layer) if isinstance(layer, keras.Model) else [layer]
    return found


def build(name: str) -> Any:
    """Build a network with weights as training might leave them."""
    keras.utils.set_random_seed(3)
    rng = np.random.default_rng(1)
    model = NETWORKS[name]()
    for layer in all_layers(model):
        if isinstance(layer, layers.BatchNormalization):
            positive = ("gamma", "variance")
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, weights.shape)
                    if any(word in weights.path for word in positive)
                    else rng.normal(0, 0.3, weights.shape)
                    for weights in layer.weights
                ]
            )
    return model


def images_for(model: Any, count: int = 12) -> Any:
    """Return noise on grounds of different colours."""
    rng = np.random.default_rng(2)
    height, width, channels = model.input_shape[1:]
    grounds = rng.integers(0, 256, (count, 1, 1, channels))
    noise = rng.uniform(0.5, 1, (count, height, width, channels))
    return (grounds * noise).astype(np.uint8)
