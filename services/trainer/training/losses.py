"""What a wrong prediction costs. Every loss takes target and predicted probabilities, (N, 7) each."""

from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.training.config import LossConfig

_SMALLEST: Final = 1e-7
_POWERS: Final = {"none": 0.0, "sqrt": -0.5, "inverse": -1.0}


def build_loss(config: LossConfig, frequencies: npt.NDArray[np.float64], consistency: float = 0) -> keras.Loss:
    """The loss of a configuration; `frequencies` (7,) is how often each class is drawn in training.

    With `consistency` a batch holds two views of each face, see Consistent.
    """
    loss: keras.Loss = keras.losses.CategoricalCrossentropy()
    if config.name == "focal":
        loss = keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=config.gamma)
    if config.name == "logit_adjusted":
        loss = LogitAdjusted(frequencies, config.tau)
    return Consistent(loss, consistency) if consistency else loss


class Consistent(keras.losses.Loss):  # type: ignore[misc] # Keras ships no types
    """A loss, and how far the answers to two views of a face lie apart (after Zhang et al. 2022, EAC).

    The batch holds one view of each face, then the other in the same order. The distance is the Jensen-Shannon
    divergence of the two answers, in nats.
    """

    def __init__(self, loss: keras.Loss, weight: float) -> None:
        super().__init__(name="consistent")
        self._loss, self._weight = loss, weight

    def call(self, y_true: Any, y_pred: Any) -> Any:
        one, other = keras.ops.split(keras.ops.clip(y_pred, _SMALLEST, 1.0), 2, axis=0)
        middle = keras.ops.log((one + other) / 2)
        apart = sum(keras.ops.sum(view * (keras.ops.log(view) - middle), axis=-1) for view in (one, other)) / 2
        return self._loss.call(y_true, y_pred) + self._weight * keras.ops.concatenate([apart, apart])


def class_weights(config: LossConfig, frequencies: npt.NDArray[np.float64]) -> npt.NDArray[np.float32] | None:
    """The factor on each class's loss, (7,) with mean 1 over the images drawn; None where all weigh the same."""
    if config.class_weights == "none":
        return None
    weights = frequencies ** _POWERS[config.class_weights]
    return np.asarray(weights / (weights * frequencies).sum(), np.float32)


class LogitAdjusted(keras.losses.Loss):  # type: ignore[misc] # Keras ships no types
    """Cross-entropy after adding tau times the log prior to the logits (Menon et al. 2021).

    Training with the prior added makes the bare logits, which serving uses, favour no frequent class.
    """

    def __init__(self, frequencies: npt.NDArray[np.float64], tau: float) -> None:
        super().__init__(name="logit_adjusted")
        self._shift = (tau * np.log(frequencies)).astype(np.float32)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        logits = keras.ops.log(keras.ops.clip(y_pred, _SMALLEST, 1.0)) + keras.ops.convert_to_tensor(self._shift)
        return keras.losses.categorical_crossentropy(y_true, logits, from_logits=True)
