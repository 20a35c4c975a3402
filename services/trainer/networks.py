"""The networks, in backend-neutral Keras 3. Each takes (48, 48, 1) in 0 to 1 and answers seven probabilities."""

from collections.abc import Callable
from typing import Final

import keras
from keras import layers

from services.trainer.dataset import FACE_SIZE_PX
from services.trainer.errors import ConfigError
from shared.emotions import EMOTIONS

_INPUT_SHAPE: Final = (FACE_SIZE_PX, FACE_SIZE_PX, 1)


def build(name: str) -> keras.Model:
    """A fresh network by its name in a configuration. Raises ConfigError for a name that is not in NETWORKS."""
    try:
        network = NETWORKS[name]
    except KeyError as error:
        raise ConfigError(f"There is no network '{name}'; there are {', '.join(NETWORKS)}.") from error
    return network()


def paper() -> keras.Model:
    """The paper's CNN to the letter (paper, 4): 4,237,831 parameters."""
    model = keras.Sequential([keras.Input(_INPUT_SHAPE)], name="paper")
    for filters in (128, 256, 512, 512):
        model.add(layers.Conv2D(filters, 3, activation="relu", kernel_initializer="glorot_uniform"))
        model.add(layers.BatchNormalization())
        model.add(layers.MaxPooling2D(2))
        model.add(layers.Dropout(0.4))
    model.add(layers.Flatten())
    for units, dropout in ((512, 0.4), (256, 0.3)):
        model.add(layers.Dense(units, activation="relu"))
        model.add(layers.Dropout(dropout))
    model.add(layers.Dense(len(EMOTIONS), activation="softmax", name="probabilities"))
    return model


def mien_small() -> keras.Model:
    """Residual blocks with squeeze-and-excitation: 0.7M parameters, 60M multiply-adds."""
    return _squeeze_excitation_resnet("mien-small", width=32, blocks=(2, 2, 2))


def mien_base() -> keras.Model:
    """The same, wider: 1.6M parameters, 110M multiply-adds. Widths are multiples of 16, as vector units like them."""
    return _squeeze_excitation_resnet("mien-base", width=48, blocks=(1, 2, 2))


def _squeeze_excitation_resnet(name: str, width: int, blocks: tuple[int, ...]) -> keras.Model:
    """Stages of `blocks` blocks, the width doubling and the side halving from stage to stage.

    The first convolution already halves the side: full resolution costs four times the arithmetic
    and gained nothing within the budget.
    """
    faces = keras.Input(_INPUT_SHAPE, name="faces")
    x = layers.Rescaling(2.0, offset=-1.0)(faces)
    x = _convolution(x, width, kernel=5, strides=2)
    for stage, count in enumerate(blocks):
        for block in range(count):
            x = _residual_block(x, width * 2**stage, strides=2 if stage > 0 and block == 0 else 1)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    logits = layers.Dense(len(EMOTIONS), name="logits")(x)
    return keras.Model(faces, layers.Softmax(name="probabilities")(logits), name=name)


def _convolution(
    x: keras.KerasTensor, filters: int, kernel: int = 3, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal")(
        x
    )
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if activate else x


def _residual_block(x: keras.KerasTensor, filters: int, strides: int) -> keras.KerasTensor:
    y = _convolution(x, filters, strides=strides)
    y = _convolution(y, filters, activate=False)
    y = _squeeze_excitation(y, filters)
    if strides > 1:
        x = layers.AveragePooling2D(strides)(x)
    if x.shape[-1] != filters:
        x = _convolution(x, filters, kernel=1, activate=False)
    return layers.ReLU()(layers.Add()([x, y]))


def _squeeze_excitation(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """Weight each channel by what the whole face says (Hu et al. 2018).

    As 1x1 convolutions: dense layers over (1, 1, C) become a dozen reshapes in ONNX, a sixth of the time.
    """
    weights = layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = layers.Conv2D(filters // 8, 1, activation="relu")(weights)
    weights = layers.Conv2D(filters, 1, activation="sigmoid")(weights)
    return layers.Multiply()([x, weights])


NETWORKS: Final[dict[str, Callable[[], keras.Model]]] = {
    "paper": paper,
    "mien-small": mien_small,
    "mien-base": mien_base,
}
