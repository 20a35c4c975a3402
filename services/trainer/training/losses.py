"""What a wrong prediction costs. Every loss takes target and predicted probabilities, (N, 7) each."""

from typing import Any, Final

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.training.config import LossConfig

_SMALLEST: Final = 1e-7
_POWERS: Final = {"none": 0.0, "sqrt": -0.5, "inverse": -1.0}


def build_loss(config: LossConfig, frequencies: npt.NDArray[np.float64]) -> keras.Loss:
    """The loss of a configuration; `frequencies` (7,) is how often each class is drawn in training."""
    if config.name == "focal":
        return keras.losses.CategoricalFocalCrossentropy(alpha=1.0, gamma=config.gamma)
    if config.name == "logit_adjusted":
        return LogitAdjusted(frequencies, config.tau)
    return keras.losses.CategoricalCrossentropy()


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
