"""How right predictions are, and how honest their confidence is."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.metrics import classification_report, confusion_matrix

from services.trainer.errors import DataError
from shared.choices import Probabilities
from shared.emotions import EMOTIONS
from shared.scores import ClassScores, Scores

ECE_BINS: Final = 15
# A confident mistake must cost something finite.
_SMALLEST: Final = 1e-7


def score(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> Scores:
    """Every figure of Scores for probabilities (N, 7) against labels (N,).

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
    per_class = {emotion: _class_scores(report[emotion]) for emotion in EMOTIONS}
    return Scores(
        images=len(labels),
        accuracy=_rounded((predicted == labels).mean()),
        macro_f1=_rounded(report["macro avg"]["f1-score"]),
        mean_recall=_rounded(np.mean([one.recall for one in per_class.values() if one.images])),
        nll=_rounded(negative_log_likelihood(probabilities, labels)),
        brier=_rounded(((probabilities - one_hot) ** 2).sum(axis=1).mean()),
        ece=_rounded(expected_calibration_error(probabilities, labels)),
        per_class=per_class,
        confusion=tuple(map(tuple, confusion_matrix(labels, predicted, labels=classes).tolist())),
    )


def _class_scores(report: dict[str, float]) -> ClassScores:
    return ClassScores(
        _rounded(report["precision"]), _rounded(report["recall"]), _rounded(report["f1-score"]), int(report["support"])
    )


def negative_log_likelihood(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> float:
    """Mean of -log of the probability given to the truth, in nats."""
    of_truth = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(-np.log(np.maximum(of_truth, _SMALLEST)).mean())


def expected_calibration_error(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> float:
    """Mean gap between confidence and accuracy over 15 equal bins of confidence, weighted by images (Guo et al. 2017)."""
    return float(sum(abs(b.accuracy - b.confidence) * b.share for b in reliability_bins(probabilities, labels)))


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """The answers whose confidence lies in one of ECE_BINS equal bins; `number` counts from 0."""

    number: int
    confidence: float  # mean
    accuracy: float
    share: float  # of all answers


def reliability_bins(probabilities: Probabilities, labels: npt.NDArray[np.int8]) -> list[ReliabilityBin]:
    """The bins that hold any answer, by rising confidence."""
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    numbers = np.minimum((confidence * ECE_BINS).astype(int), ECE_BINS - 1)
    return [
        ReliabilityBin(
            int(n),
            float(confidence[numbers == n].mean()),
            float(right[numbers == n].mean()),
            float((numbers == n).mean()),
        )
        for n in np.unique(numbers)
    ]


def _rounded(value: Any) -> float:
    return round(float(value), 5)
