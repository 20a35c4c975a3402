"""Normalization that an export folded into its convolutions, given back to a network that is to learn on."""

from collections.abc import Sequence
from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

_PROBE: Final = 1024  # faces that show each normalization its mean and variance
_BATCH: Final = 32


def unfold(
    model: keras.Model,
    pairs: Sequence[tuple[keras.Layer, keras.Layer]],
    biases: Sequence[npt.NDArray[np.float32]],
    faces: npt.NDArray[np.uint8],
) -> None:
    """Let each normalization of `pairs` (convolution, normalization) add its bias and change nothing else.

    The convolutions hold the folded kernels. Each normalization gets the mean and variance that it sees on `faces`
    (N, 48, 48), and the gamma and beta that keep the function. Raises ValueError for a bias of another width.
    """
    for (_, norm), bias in zip(pairs, biases, strict=True):
        _keep_function(norm, bias, np.zeros_like(bias), np.ones_like(bias))
    for (_, norm), bias, (mean, variance) in zip(pairs, biases, _seen(model, pairs, faces), strict=True):
        _keep_function(norm, bias, mean, variance)


def _keep_function(norm: Any, bias: Any, mean: Any, variance: Any) -> None:
    norm.set_weights([np.sqrt(variance + norm.epsilon), bias + mean, mean, variance])


def _seen(
    model: keras.Model, pairs: Sequence[tuple[keras.Layer, keras.Layer]], faces: npt.NDArray[np.uint8]
) -> list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]:
    """Mean and variance of each convolution's output over `faces`."""
    probe = keras.Model(model.inputs, [convolution.output for convolution, _ in pairs])
    batches = [faces[start : start + _BATCH] for start in range(0, min(len(faces), _PROBE), _BATCH)]
    first: list[Any] = [0.0] * len(pairs)
    second: list[Any] = [0.0] * len(pairs)
    for batch in batches:
        for number, out in enumerate(probe.predict_on_batch(batch[..., np.newaxis].astype(np.float32) / 255)):
            first[number] += out.mean((0, 1, 2)) / len(batches)
            second[number] += (out.astype(np.float64) ** 2).mean((0, 1, 2)) / len(batches)
    return [
        (np.asarray(m, np.float32), np.maximum(s - np.square(m, dtype=np.float64), 1e-6).astype(np.float32))
        for m, s in zip(first, second, strict=True)
    ]
