"""How right answers are, and how well the model knows it: accuracy, macro-F1, NLL, Brier, ECE, per class."""

from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import classification_report, confusion_matrix

from services.trainer.errors import DataError
from shared.emotions import EMOTIONS
from shared.pipeline.classify import Probabilities

Scores: TypeAlias = dict[str, Any]

ECE_BINS: Final = 15
# A confident mistake must cost something finite.
_SMALLEST: Final = 1e-7


def score(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> Scores:
    """Accuracy, macro-F1, NLL, Brier, ECE, a report per class and the confusion matrix (rows are the truth).

    Raises DataError when there is no image.
    """
    if len(labels) == 0:
        raise DataError("There is no image to evaluate.")
    predicted = probabilities.argmax(axis=1)
    classes = range(len(EMOTIONS))
    report = classification_report(
        labels, predicted, labels=classes, target_names=EMOTIONS, output_dict=True, zero_division=0
    )
    one_hot = np.eye(len(EMOTIONS))[labels]
    return {
        "images": len(labels),
        "accuracy": _rounded((predicted == labels).mean()),
        "macro_f1": _rounded(report["macro avg"]["f1-score"]),
        "nll": _rounded(negative_log_likelihood(probabilities, labels)),
        "brier": _rounded(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        "ece": _rounded(expected_calibration_error(probabilities, labels)),
        "per_class": {
            emotion: {
                "precision": _rounded(report[emotion]["precision"]),
                "recall": _rounded(report[emotion]["recall"]),
                "f1": _rounded(report[emotion]["f1-score"]),
                "images": int(report[emotion]["support"]),
            }
            for emotion in EMOTIONS
        },
        "confusion": confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def negative_log_likelihood(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> float:
    """Mean of -log of the probability given to the truth, in nats."""
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, _SMALLEST)).mean())


def expected_calibration_error(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence, weighted by images (Guo et al. 2017)."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).mean() for b in np.unique(bins)]
    return float(np.sum(gaps))


def _rounded(value: float) -> float:
    return round(float(value), 5)
