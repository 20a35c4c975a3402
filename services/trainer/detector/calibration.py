"""Corrects a trained network: scores fit the service's default confidence, and points lie as far apart as on real faces."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import keras
import numpy as np
import numpy.typing as npt

from services.trainer.detector.network import STRIDES
from services.trainer.detector.onnx_graph import UNCHANGED, Scores, detector_graph
from services.trainer.detector.pieces import Scene
from services.trainer.detector.scenes import Composer
from services.trainer.detector.sources import Sources
from shared.boxes import Box, intersection_over_union
from shared.pipeline.detect import Detection, Detector
from shared.pipeline.mien import MienDetector
from shared.pipeline.session import Session, open_session
from shared.pipeline.single_shot import SingleShotDetector

SERVED_AT: Final = 0.6
SEED: Final = 2_000_003
SCENES: Final = 200
FOUND_IOU: Final = 0.4
# Of detections on these scenes, the least share that must be faces. More faces could be found there at a lower threshold,
# but most of those missed are smaller or darker than what people send.
PRECISION: Final = 0.98
_LEAST: Final = 0.02  # lower scores say nothing
_FEW: Final = 30  # with fewer detections or faces there is nothing to fit
_SILENT: Final = (0.0, -50.0)

Face: TypeAlias = npt.NDArray[np.float32]  # (14,) a row of Scene.faces: the box and the points
Judged: TypeAlias = tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_], int]  # scores, are they faces, faces in all


@dataclass(frozen=True, slots=True)
class Threshold:
    """A score, the share of faces found at it, and the share of what is found that are faces."""

    score: float
    recall: float
    precision: float


@dataclass(frozen=True, slots=True)
class Calibration:
    """How to change the scores of each stride and the spread of points, and the best threshold before the last shift."""

    scores: Scores
    stretch: float
    threshold: Threshold


def calibrated(model: keras.Model, sources: Sources, side: int) -> Calibration:
    """How to correct a network's scores and points, measured on scenes of held-out pictures.

    First each stride's scores become the probability that what it sees is a face (Platt's scaling): coarse strides see
    fewer faces while they learn, and lag behind. Then all are shifted so that the best threshold is SERVED_AT. The
    network places the points of a face it is unsure of too close to their middle; `stretch` undoes that.
    """
    scenes = list(_scenes(sources, side))
    fitted: Scores = ()
    for level in range(len(STRIDES)):
        alone = tuple(UNCHANGED[n] if n == level else _SILENT for n in range(len(STRIDES)))
        one_look = SingleShotDetector("mien", _session(model, alone), side, 1)
        fitted += (_platt(*_judged(one_look, scenes)[:2]),)
    served = MienDetector(_session(model, fitted), side, 1)
    best = _best(*_judged(served, scenes))
    shift = _logit(SERVED_AT) - _logit(best.score)
    scores = tuple((factor, offset + shift) for factor, offset in fitted)
    return Calibration(scores, _stretch(served, scenes, best.score), best)


def _session(model: keras.Model, scores: Scores) -> Session:
    session: Session = open_session(detector_graph(model, scores).SerializeToString(), threads=1)
    return session


def _scenes(sources: Sources, side: int) -> Iterator[Scene]:
    composer, rng = Composer(sources, side, "calibration"), np.random.default_rng(SEED)
    return (composer.scene(rng) for _ in range(SCENES))


def _judged(detector: Detector, scenes: list[Scene]) -> Judged:
    judged = [pair for scene in scenes for pair in _matched(scene, detector.detect(scene.pixels, _LEAST))]
    confidences = np.array([one.confidence for one, _ in judged], np.float64)
    hits = np.array([face is not None for _, face in judged], np.bool_)
    return confidences, hits, sum(len(scene.faces) for scene in scenes)


def _matched(scene: Scene, found: list[Detection]) -> Iterator[tuple[Detection, Face | None]]:
    """Each detection with the face of the scene that it shows, if any; what lies on an unsure place is left out."""
    left = list(scene.faces)
    unsure = [Box(*box) for box in scene.ignored.tolist()]
    for one in sorted(found, key=lambda detection: -detection.confidence):
        overlaps = [intersection_over_union(Box(*face[:4].tolist()), one.box) for face in left]
        hit = next((number for number, overlap in enumerate(overlaps) if overlap >= FOUND_IOU), None)
        if hit is not None:
            yield one, left.pop(hit)
        elif not any(intersection_over_union(box, one.box) > 0.1 for box in unsure):
            yield one, None


def _stretch(detector: Detector, scenes: list[Scene], threshold: float) -> float:
    """By what factor the points of a face lie further apart than found, in the median; 1 where there are too few faces."""
    matched = (pair for scene in scenes for pair in _matched(scene, detector.detect(scene.pixels, threshold)))
    ratios = [
        _spread(face[4:].reshape(5, 2)) / _spread(np.array(one.landmarks)) for one, face in matched if face is not None
    ]
    return round(float(np.median(ratios)), 4) if len(ratios) >= _FEW else 1.0


def _spread(points: npt.NDArray[Any]) -> float:
    """The root of the mean squared distance of points (5, 2) from their middle."""
    return float(np.sqrt(((points - points.mean(axis=0)) ** 2).sum(axis=1).mean()))


def _platt(confidences: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Factor and offset of the logit under which confidences are probabilities, by Newton's method."""
    if min(hits.sum(), (~hits).sum()) < _FEW:
        return UNCHANGED[0]
    logits = np.log(confidences / np.maximum(1 - confidences, 1e-7))
    design, weights = np.stack([logits, np.ones_like(logits)], axis=1), np.array([1.0, 0.0])
    for _ in range(25):
        probabilities = 1 / (1 + np.exp(-design @ weights))
        curvature = design.T @ (design * (probabilities * (1 - probabilities))[:, np.newaxis]) + 1e-3 * np.eye(2)
        weights -= np.linalg.solve(curvature, design.T @ (probabilities - hits))
    return float(weights[0]), float(weights[1])


def _best(confidences: npt.NDArray[np.float64], hits: npt.NDArray[np.bool_], faces: int) -> Threshold:
    """The lowest score with enough precision, which finds the most faces."""
    if len(hits) == 0:
        return Threshold(SERVED_AT, 0.0, 1.0)
    order = np.argsort(-confidences)
    found = np.cumsum(hits[order])
    recall, precision = found / max(faces, 1), found / np.arange(1, len(hits) + 1)
    enough = np.flatnonzero(precision >= PRECISION)
    best = int(enough[-1]) if len(enough) else int(np.argmax(precision))
    values = confidences[order][best], recall[best], precision[best]
    return Threshold(*(round(float(value), 4) for value in values))


def _logit(probability: float) -> float:
    probability = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(probability / (1 - probability))
