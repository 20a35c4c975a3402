"""What wrong answers cost: focal loss of the score, EIoU of the box, smoothed distance of the points."""

from typing import Any, Final

import keras
from keras import ops

GAMMA: Final = 1.5
BOX_WEIGHT: Final = 2.0
POINTS_WEIGHT: Final = 12.0
SMOOTH: Final = 0.1  # of the face's side: below it the distance of points counts by its square


def detector_loss(targets: Any, answers: Any) -> Any:
    """The loss per face of a batch, one number, from targets (N, cells, 17) and answers (N, cells, 15)."""
    labels, weights, shares = targets[..., 0], targets[..., 1], targets[..., 2]
    faces = ops.maximum(ops.sum(shares), 1.0)
    score = ops.sum(weights * _focal(labels, answers[..., 0]) * _spread(labels, shares)) / faces
    box = ops.sum(shares * _eiou(targets[..., 3:7], answers[..., 1:5])) / faces
    points = ops.sum(shares * _distance(targets, answers[..., 5:])) / faces
    return score + BOX_WEIGHT * box + POINTS_WEIGHT * points


def _spread(labels: Any, shares: Any) -> Any:
    """A face weighs as the square root of the number of its cells: more than with one cell, but not as many times more."""
    return ops.where(labels > 0, 2.0 * ops.sqrt(ops.maximum(shares, 1e-6)), 1.0)


def _focal(labels: Any, logits: Any) -> Any:
    cross_entropy = ops.softplus(logits) - labels * logits
    wrong = ops.abs(labels - ops.sigmoid(logits))
    return cross_entropy * wrong**GAMMA


def _eiou(targets: Any, answers: Any) -> Any:
    """1 - IoU, and the squared distances of centres, widths and heights as shares of the box around both."""
    sides, other = ops.exp(targets[..., 2:]), ops.exp(ops.clip(answers[..., 2:], -4.0, 6.0))
    near, near2 = targets[..., :2] - sides / 2, answers[..., :2] - other / 2
    far, far2 = targets[..., :2] + sides / 2, answers[..., :2] + other / 2
    common = ops.prod(ops.maximum(ops.minimum(far, far2) - ops.maximum(near, near2), 0.0), axis=-1)
    iou = common / (ops.prod(sides, axis=-1) + ops.prod(other, axis=-1) - common + 1e-6)
    around = ops.maximum(far, far2) - ops.minimum(near, near2) + 1e-6
    centres = ops.sum(ops.square(targets[..., :2] - answers[..., :2]), axis=-1) / ops.sum(ops.square(around), axis=-1)
    return 1.0 - iou + centres + ops.sum(ops.square((sides - other) / around), axis=-1)


def _distance(targets: Any, answers: Any) -> Any:
    side = ops.exp((targets[..., 5:6] + targets[..., 6:7]) / 2)
    away = ops.abs(targets[..., 7:] - answers) / side
    smooth = ops.where(away < SMOOTH, away**2 / (2 * SMOOTH), away - SMOOTH / 2)
    return ops.sum(smooth, axis=-1)


def loss_parts(targets: Any, answers: Any) -> dict[str, float]:
    """Score, box and points of `detector_loss` by themselves, for the log."""
    targets, answers = ops.convert_to_tensor(targets), ops.convert_to_tensor(answers)
    labels, weights, shares = targets[..., 0], targets[..., 1], targets[..., 2]
    faces = ops.maximum(ops.sum(shares), 1.0)
    parts = {
        "score": weights * _focal(labels, answers[..., 0]) * _spread(labels, shares),
        "box": shares * _eiou(targets[..., 3:7], answers[..., 1:5]),
        "points": shares * _distance(targets, answers[..., 5:]),
    }
    return {name: float(keras.ops.convert_to_numpy(ops.sum(part) / faces)) for name, part in parts.items()}
