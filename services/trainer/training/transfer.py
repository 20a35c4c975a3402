"""Networks of keras.applications, pre-trained elsewhere, that learn faces: a new head, then their top layers.

Grey faces are repeated over three channels, enlarged, and preprocessed as the network expects, all inside the graph:
an exported model takes the same input as any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import keras
from keras import layers

from services.trainer.data.dataset import FACE_SIZE_PX
from services.trainer.errors import ConfigError
from services.trainer.training.heads import answers

BACKBONE: Final = "backbone"
_SIDE_PX: Final = 96


@dataclass(frozen=True, slots=True)
class _Source:
    """One application: how to build it, and what it expects of pixels that are 0 to 1."""

    build: Callable[..., keras.Model]
    scale: float
    offset: tuple[float, float, float]


_SOURCES: Final = {
    "mobilenet-transfer": _Source(keras.applications.MobileNet, 2.0, (-1.0, -1.0, -1.0)),
    # Trained on BGR from 0 to 255 with these means taken away.
    "vgg16-transfer": _Source(keras.applications.VGG16, 255.0, (-103.939, -116.779, -123.68)),
}


def transfer_network(name: str, weights: str | None, heads: Sequence[str] = ()) -> keras.Model:
    """A network of keras.applications below a fresh head.

    `weights`: "imagenet" downloads them, a path loads them, None starts at random. Raises ConfigError when they
    are unavailable.
    """
    source = _SOURCES[name]
    faces = keras.Input((FACE_SIZE_PX, FACE_SIZE_PX, 1), name="faces")
    x = layers.Resizing(_SIDE_PX, _SIDE_PX, interpolation="bilinear")(faces)
    x = layers.Concatenate()([x, x, x])
    x = layers.Rescaling(source.scale, offset=list(source.offset))(x)
    backbone = _load(source, weights)
    backbone.name = BACKBONE
    x = backbone(x, training=False)  # its normalization keeps the statistics of its pre-training
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.3)(x)
    return keras.Model(faces, answers(x, heads), name=name)


def freeze(model: keras.Model, top_layers: int) -> None:
    """Let the head and the last `top_layers` layers of the backbone learn, and nothing else."""
    backbone = model.get_layer(BACKBONE)
    backbone.trainable = True
    for number, layer in enumerate(reversed(backbone.layers)):
        layer.trainable = number < top_layers and not isinstance(layer, layers.BatchNormalization)


def _load(source: _Source, weights: str | None) -> keras.Model:
    options: dict[str, Any] = {"include_top": False, "input_shape": (_SIDE_PX, _SIDE_PX, 3)}
    try:
        return source.build(weights=weights, **options)
    except Exception as error:  # Keras raises a bare Exception when a download fails
        what = "could not be downloaded" if weights == "imagenet" else f"could not be read from {weights}"
        raise ConfigError(
            f"The pre-trained weights {what} ({error}). Give a local file by --weights PATH (the 'notop' file of "
            "keras.applications), run where the network allows the download, or start at random by --weights none."
        ) from error
