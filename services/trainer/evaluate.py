"""`evaluate`: how right a model is, and how well it knows it. For a work directory or a model directory."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from sklearn.metrics import classification_report, confusion_matrix

from services.trainer.dataset import Dataset, Split
from services.trainer.errors import DataError
from shared.atomic import write_text
from shared.emotions import EMOTIONS
from shared.manifest import MANIFEST_FILE, load_manifest
from shared.pipeline.classify import Probabilities, open_classifier
from shared.pipeline.preprocess import to_input

Predict: TypeAlias = Callable[[npt.NDArray[np.uint8]], Probabilities]  # (N, 48, 48) -> (N, 7)
Scores: TypeAlias = dict[str, Any]

ECE_BINS: Final = 15
_BATCH: Final = 256
# A confident mistake must cost something finite.
_SMALLEST: Final = 1e-7


def evaluate(predict: Predict, data: Dataset, splits: Iterable[Split]) -> dict[Split, dict[str, Scores]]:
    """Scores for each split: all images, those not repeated in training, and those on which people agree.

    `consensus` counts FER+'s agreed emotion as the truth, the others FER2013's label.
    """
    results: dict[Split, dict[str, Scores]] = {}
    for split in splits:
        part = data.split(split)
        probabilities = predict(part.pixels)
        fresh, agreed = ~part.repeated, part.consensus >= 0
        results[split] = {
            "all": score(probabilities, part.labels),
            "without_repeated": score(probabilities[fresh], part.labels[fresh]),
        }
        if agreed.any():
            results[split]["consensus"] = score(probabilities[agreed], part.consensus[agreed])
            both = agreed & fresh
            results[split]["consensus_without_repeated"] = score(probabilities[both], part.consensus[both])
    return results


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


def open_predictor(path: Path) -> Predict:
    """What predicts from uint8 faces: the ONNX model of a model directory, or the best weights of a run.

    Raises ModelError or WorkdirError when there is none, or it must not be trusted.
    """
    if (path / MANIFEST_FILE).exists():
        classifier = open_classifier(path, load_manifest(path), threads=0)
        return lambda faces: _in_batches(lambda batch: classifier.classify(to_input(batch)), faces)
    from services.trainer.workdir import Workdir  # only here: a model directory needs no Keras

    return keras_predictor(Workdir(path).load_best())


def keras_predictor(model: Any) -> Predict:
    """The predictions of a Keras model in memory."""

    def predict(batch: npt.NDArray[np.uint8]) -> Probabilities:
        # Always whole batches: several devices cannot share the rest of one, and one shape is traced once.
        filled = np.concatenate([batch, np.zeros((_BATCH - len(batch), *batch.shape[1:]), np.uint8)])
        return np.asarray(model.predict_on_batch(to_input(filled)), np.float32)[: len(batch)]

    return lambda faces: _in_batches(predict, faces)


def mirrored(predict: Predict) -> Predict:
    """The mean of what `predict` says of each face and of its mirror image."""
    return lambda faces: (predict(faces) + predict(np.ascontiguousarray(faces[:, :, ::-1]))) / np.float32(2)


def write_evaluation(results: dict[Split, dict[str, Scores]], path: Path) -> None:
    """Keep the scores as JSON."""
    write_text(path, json.dumps(results, indent=1) + "\n")


def as_table(results: dict[Split, dict[str, Scores]]) -> str:
    """The scores for a terminal: a line each, then precision, recall and F1 per class and the confusion matrix."""
    lines = [
        f"{'split':12}{'images of':28}{'images':>7}{'accuracy':>10}{'macro-F1':>10}{'NLL':>8}{'Brier':>8}{'ECE':>8}"
    ]
    for split, groups in results.items():
        for group, s in groups.items():
            lines.append(
                f"{split:12}{group:28}{s['images']:7d}{s['accuracy']:10.4f}{s['macro_f1']:10.4f}"
                f"{s['nll']:8.4f}{s['brier']:8.4f}{s['ece']:8.4f}"
            )
    for split, groups in results.items():
        s = groups["all"]
        lines += ["", f"{split}: per class, and the confusion matrix (rows: truth)"]
        lines.append(
            f"{'':10}{'precision':>10}{'recall':>8}{'F1':>8}{'images':>8}   " + "".join(f"{e:>9}" for e in EMOTIONS)
        )
        for emotion, row in zip(EMOTIONS, s["confusion"], strict=True):
            c = s["per_class"][emotion]
            counts = "".join(f"{count:9d}" for count in row)
            lines.append(
                f"{emotion:10}{c['precision']:10.3f}{c['recall']:8.3f}{c['f1']:8.3f}{c['images']:8d}   {counts}"
            )
    return "\n".join(lines)


def _in_batches(predict: Predict, faces: npt.NDArray[np.uint8]) -> Probabilities:
    starts = range(0, len(faces), _BATCH)
    return np.concatenate([predict(faces[start : start + _BATCH]) for start in starts])


def _rounded(value: float) -> float:
    return round(float(value), 5)
