"""The networks, in backend-neutral Keras 3. Each takes (48, 48, 1) in 0 to 1 and answers seven probabilities.

With two heads, `labels` and `people`, it answers twice from the same features: as FER2013's labels say, and as people see.
"""

from collections.abc import Callable, Sequence
from typing import Final

import keras
from keras import layers

from services.trainer.data.dataset import FACE_SIZE_PX
from services.trainer.errors import ConfigError
from services.trainer.training import mobilenet_v1
from services.trainer.training.heads import answers
from shared.emotions import EMOTIONS

_INPUT_SHAPE: Final = (FACE_SIZE_PX, FACE_SIZE_PX, 1)
_SMALL: Final = (32, (2, 2, 2))  # width of the first stage, and blocks of each
_BASE: Final = (48, (1, 2, 2))


def build(name: str, weights: str | None = None, heads: Sequence[str] = ()) -> keras.Model:
    """A fresh network by its name in a configuration.

    "mien-small:0.7" is mien-small with 0.7 of the inner channels of each block, as `prune` makes it;
    "mobilenet-v1:96" is MobileNetV1 on faces of 96 pixels. `weights`: of a network from keras.applications, see
    transfer.py. `heads`: names of the answers; none is a single one, "probabilities". Raises ConfigError for an
    unknown name, for heads that the network cannot have, or when the weights are unavailable.
    """
    if name in TRANSFER:
        from services.trainer.training.transfer import (
            transfer_network,  # only here: applications take a second to import
        )

        return transfer_network(name, weights, heads)
    base, _, size = name.partition(":")
    if base in PRUNABLE and size:
        return PRUNABLE[base](_share(size, name), heads=heads)
    if base == mobilenet_v1.NAME:
        return mobilenet_v1.mobilenet_v1(_side_px(size, name), heads or ("probabilities",))
    try:
        network = NETWORKS[name]
    except KeyError as error:
        raise ConfigError(
            f"There is no network '{name}'; there are {', '.join((*NETWORKS, *TRANSFER))} and {mobilenet_v1.NAME}:SIDE."
        ) from error
    if not heads:
        return network()
    if name == "paper":
        raise ConfigError("The paper's network has one answer; a second one, [people], needs another network.")
    return network(heads=heads)


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


def mien_small(inner: float = 1.0, heads: Sequence[str] = ()) -> keras.Model:
    """Residual blocks with squeeze-and-excitation: 0.7M parameters, 60M multiply-adds."""
    return _squeeze_excitation_resnet("mien-small", *_SMALL, inner, heads)


def mien_base(inner: float = 1.0, heads: Sequence[str] = ()) -> keras.Model:
    """The same, wider: 1.6M parameters, 110M multiply-adds. Widths are multiples of 16, as vector units like them."""
    return _squeeze_excitation_resnet("mien-base", *_BASE, inner, heads)


def mien_pair(heads: Sequence[str] = ()) -> keras.Model:
    """mien-base and mien-small side by side, which answer from the features of both: 2.3M parameters, 170M multiply-adds.

    When it begins with two trained networks, it answers with the geometric mean of theirs, which is steadier than either.
    """
    faces = keras.Input(_INPUT_SHAPE, name="faces")
    maps = layers.Concatenate()([_features(faces, *_BASE), _features(faces, *_SMALL)])
    x = layers.GlobalAveragePooling2D()(maps)
    return keras.Model(faces, answers(layers.Dropout(0.3)(x), heads), name="mien-pair")


def _squeeze_excitation_resnet(
    name: str, width: int, blocks: tuple[int, ...], inner: float, heads: Sequence[str]
) -> keras.Model:
    faces = keras.Input(_INPUT_SHAPE, name="faces")
    x = layers.GlobalAveragePooling2D()(_features(faces, width, blocks, inner))
    return keras.Model(faces, answers(layers.Dropout(0.3)(x), heads), name=name)


def _features(faces: keras.KerasTensor, width: int, blocks: tuple[int, ...], inner: float = 1.0) -> keras.KerasTensor:
    """A map of features, (N, 6, 6, 4 * width).

    There are stages of `blocks` blocks; the width doubles and the side halves from stage to stage. Between its two
    convolutions a block keeps the share `inner` of its width. The first convolution already halves the side: full
    resolution costs four times the arithmetic and gained nothing within the budget.
    """
    x = layers.Rescaling(2.0, offset=-1.0)(faces)
    x = _convolution(x, width, kernel=5, strides=2)
    for stage, count in enumerate(blocks):
        for block in range(count):
            filters = width * 2**stage
            x = _residual_block(x, filters, inner_width(filters, inner), 2 if stage > 0 and block == 0 else 1)
    return x


def _convolution(
    x: keras.KerasTensor, filters: int, kernel: int = 3, strides: int = 1, activate: bool = True
) -> keras.KerasTensor:
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, kernel_initializer="he_normal")(
        x
    )
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x) if activate else x


def inner_width(filters: int, share: float) -> int:
    """Channels between the two convolutions of a block: `share` of its width, in multiples of 8, which suits vector units."""
    return max(8, round(filters * share / 8) * 8)


def _side_px(text: str, name: str) -> int:
    if not text.isdecimal() or not 32 <= int(text) <= 224:
        raise ConfigError(f"There is no network '{name}'; after the colon goes a side of 32 to 224 pixels.")
    return int(text)


def _share(text: str, name: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"Unknown network '{name}': the part after the colon must be a share above 0 and at most 1.")
    return share


def _residual_block(x: keras.KerasTensor, filters: int, inner: int, strides: int) -> keras.KerasTensor:
    y = _convolution(x, inner, strides=strides)
    y = _convolution(y, filters, activate=False)
    y = _squeeze_excitation(y, filters)
    if strides > 1:
        x = layers.AveragePooling2D(strides)(x)
    if x.shape[-1] != filters:
        x = _convolution(x, filters, kernel=1, activate=False)
    return layers.ReLU()(layers.Add()([x, y]))


def _squeeze_excitation(x: keras.KerasTensor, filters: int) -> keras.KerasTensor:
    """Weight each channel by a summary of the whole face (Hu et al. 2018).

    As 1x1 convolutions: dense layers over (1, 1, C) become a dozen reshapes in ONNX, which cost a sixth of the time.
    """
    weights = layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = layers.Conv2D(filters // 8, 1, activation="relu")(weights)
    weights = layers.Conv2D(filters, 1, activation="sigmoid")(weights)
    return layers.Multiply()([x, weights])


def mobilenet(heads: Sequence[str] = ()) -> keras.Model:
    """Depthwise separable convolutions from scratch (Howard et al. 2017): 0.6M parameters, 15M multiply-adds."""
    faces = keras.Input(_INPUT_SHAPE, name="faces")
    x = layers.Rescaling(2.0, offset=-1.0)(faces)
    x = _convolution(x, 32, strides=2)
    for filters, strides in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (256, 1), (512, 2), (512, 1)):
        x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = _convolution(layers.ReLU()(x), filters, kernel=1)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(faces, answers(layers.Dropout(0.3)(x), heads), name="mobilenet")


def tiny(heads: Sequence[str] = ()) -> keras.Model:
    """One small convolution: tries data and configurations out in seconds, and is good for nothing else."""
    faces = keras.Input(_INPUT_SHAPE, name="faces")
    x = layers.Conv2D(8, 5, strides=4, activation="relu")(layers.Rescaling(2.0, offset=-1.0)(faces))
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(faces, answers(x, heads), name="tiny")


PRUNABLE: Final[dict[str, Callable[..., keras.Model]]] = {"mien-small": mien_small, "mien-base": mien_base}
BRANCHES: Final = {"mien-pair": ("mien-base", "mien-small")}  # the trained networks that one may begin with
TRANSFER: Final = ("mobilenet-transfer", "vgg16-transfer")
NETWORKS: Final[dict[str, Callable[..., keras.Model]]] = {
    "paper": paper,
    "mien-small": mien_small,
    "mien-base": mien_base,
    "mobilenet": mobilenet,
    "mien-pair": mien_pair,
    "tiny": tiny,
}
