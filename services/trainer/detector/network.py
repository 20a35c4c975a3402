"""The network: depthwise-separable, anchor-free, with an answer for each cell of strides 8, 16 and 32."""

from typing import Any, Final

import keras
from keras import layers

STRIDES: Final = (8, 16, 32)
# Of a cell: the logit of a face, its centre from the cell's and the logs of its sides, then five points from the
# cell's centre, all in strides.
OUTPUTS: Final = 15
PRIOR: Final = -4.6  # the first answer of every cell: a face with a probability of .01


def build(width: int = 64, stem: int = 16) -> keras.Model:
    """From BGR pictures (N, H, W, 3), 0 to 255, sides multiples of 32, to (N, cells, 15), stride 8 first, row by row."""
    picture = keras.Input((None, None, 3), name="picture")
    x = layers.Rescaling(1 / 128)(picture)
    x = _relu(_normalized(layers.Conv2D(stem, 3, 2, "same", use_bias=False)(x)))
    x = _separable(x, 2 * stem, stride=2)
    x = _separable(x, 2 * stem)
    x = _separable(x, width, stride=2)
    x = fine = _residual(_residual(x))
    x = _separable(x, width, stride=2, kernel=5)
    x = middle = _residual(_residual(x, kernel=5), kernel=5)
    x = _separable(x, width, stride=2, kernel=5)
    coarse = _residual(_residual(x, kernel=5), kernel=5)
    middle = _separable(layers.Add()([middle, layers.UpSampling2D()(coarse)]), width)
    fine = _separable(layers.Add()([fine, layers.UpSampling2D()(middle)]), width)
    answers = [_head(level, width) for level in (fine, middle, coarse)]
    return keras.Model(picture, layers.Concatenate(axis=1)(answers), name="mien_detector")


def _head(x: Any, width: int) -> Any:
    x = _separable(x, width)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    bias = keras.initializers.Constant([PRIOR] + [0.0] * (OUTPUTS - 1))
    return layers.Reshape((-1, OUTPUTS))(layers.Conv2D(OUTPUTS, 1, bias_initializer=bias)(x))


def _residual(x: Any, kernel: int = 3) -> Any:
    return layers.Add()([x, _separable(x, x.shape[-1], kernel=kernel)])


def _separable(x: Any, width: int, stride: int = 1, kernel: int = 3) -> Any:
    x = layers.DepthwiseConv2D(kernel, stride, "same", use_bias=False)(x)
    return _relu(_normalized(layers.Conv2D(width, 1, use_bias=False)(x)))


def _normalized(x: Any) -> Any:
    return layers.BatchNormalization(momentum=0.98, epsilon=1e-3)(x)


def _relu(x: Any) -> Any:
    return layers.ReLU()(x)
