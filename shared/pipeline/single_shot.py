"""What single-shot face detectors of YuNet's kind share: from a picture to their input, from their outputs to faces.

Such a network reads a picture whose sides are multiples of 32 and looks at it through three grids, one cell for every 8,
16 and 32 pixels. Each cell says whether it sees a face (`cls`, `obj`), where (`bbox`: centre from the cell's corner, in
cells, and the logarithm of the size) and five points (`kps`).
"""

from typing import Any, Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

from shared.boxes import Box, DetectorName, Landmarks
from shared.pictures import BgrImage
from shared.pipeline.detect import Detection, largest_first, shrink
from shared.pipeline.session import Session

INPUT: Final = "input"  # (1, 3, height, width) float32, BGR in 0 to 255
STRIDES: Final = (8, 16, 32)
OUTPUTS: Final = tuple(f"{kind}_{stride}" for stride in STRIDES for kind in ("cls", "obj", "bbox", "kps"))

_MIN_SIDE_PX: Final = 64  # the coarsest grid sees a face only with room around it
# Faces larger than this are larger than any the network was trained on: it misses them, or draws poor boxes. A large
# picture that shows no smaller face is searched once more at the size of a close-up, and the more certain box is taken.
_MAX_FACE_PX: Final = 400
_CLOSE_UP_SIDE_PX: Final = 320
_NMS_IOU: Final = 0.3
MAX_CANDIDATES: Final = 2000  # the most certain ones: about ten for each of 200 faces

_Floats: TypeAlias = npt.NDArray[np.float32]
Rows: TypeAlias = npt.NDArray[np.float32]  # (N, 15): confidence, left, top, width, height, and the points' x, y


class SingleShotDetector:
    """A network of YuNet's kind, run by ONNX Runtime."""

    def __init__(self, name: DetectorName, session: Session, max_side_px: int, least_face_px: float) -> None:
        """`session` takes pictures of any size; those larger than `max_side_px` are searched at that size.

        `least_face_px`: the smallest face that the network finds nearly always.
        """
        self.name: DetectorName = name
        self._session, self._max_side_px, self._least_face_px = session, max_side_px, least_face_px

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        small, scale = shrink(image, self._max_side_px, min_face, self._least_face_px)
        rows = search(self._session, small, min_confidence)
        rows[:, 1:] /= scale
        if max(small.shape[:2]) > 2 * _CLOSE_UP_SIDE_PX and not (rows[:, 3:5].max(axis=1) * scale < _MAX_FACE_PX).any():
            smaller, further = shrink(small, _CLOSE_UP_SIDE_PX)
            more = search(self._session, smaller, min_confidence)
            more[:, 1:] /= scale * further
            rows = np.concatenate([rows, more])
        return as_detections(without_doubles(rows))


def search(session: Session, image: BgrImage, min_confidence: float) -> Rows:
    """The cells that are certain enough, as rows in pixels of `image`; a face gives several. At most MAX_CANDIDATES."""
    pixels = to_input(image)
    return _rows(session.run(OUTPUTS, {INPUT: pixels}), pixels.shape[3], min_confidence)


def to_input(image: BgrImage) -> _Floats:
    """The picture (H, W, 3) as (1, 3, height, width) float32, black to its right and below to fill the cells."""
    height, width = image.shape[:2]
    pixels = np.zeros((1, 3, _rounded_up(height), _rounded_up(width)), np.float32)
    for channel, plane in enumerate(cv2.split(image)):
        pixels[0, channel, :height, :width] = plane
    return pixels


def _rounded_up(side: int) -> int:
    return max(_MIN_SIDE_PX, -(-side // STRIDES[-1]) * STRIDES[-1])


def _rows(outputs: Any, width: int, min_confidence: float) -> Rows:
    found = []
    for number, stride in enumerate(STRIDES):
        cls, obj, bbox, kps = (output[0] for output in outputs[4 * number : 4 * number + 4])
        certain = cls[:, 0] * obj[:, 0]
        cells = np.flatnonzero(certain >= min_confidence**2)
        if not len(cells):
            continue
        confidence = np.sqrt(np.clip(certain[cells], 0, 1))
        corner = np.stack([cells % (width // stride), cells // (width // stride)], axis=1).astype(np.float32)
        size = np.exp(bbox[cells, 2:]) * stride
        centre = (corner + bbox[cells, :2]) * stride
        points = (kps[cells].reshape(-1, 5, 2) + corner[:, np.newaxis]) * stride
        found.append(np.hstack([confidence[:, np.newaxis], centre - size / 2, size, points.reshape(-1, 10)]))
    rows = np.concatenate(found) if found else np.empty((0, 15), np.float32)
    rows = rows[np.isfinite(rows).all(axis=1)]
    return rows[np.argsort(-rows[:, 0])[:MAX_CANDIDATES]] if len(rows) > MAX_CANDIDATES else rows


def without_doubles(rows: Rows) -> Rows:
    """The rows, with only the most certain one of those whose boxes overlap."""
    boxes, confidences = rows[:, 1:5].tolist(), rows[:, 0].tolist()
    return rows[np.asarray(cv2.dnn.NMSBoxes(boxes, confidences, 0.0, _NMS_IOU, 1.0, MAX_CANDIDATES), np.intp)]


def as_detections(rows: Rows) -> list[Detection]:
    """Each row as a face, largest first."""
    return largest_first([_detection(*row) for row in rows.tolist()])


def _detection(confidence: float, left: float, top: float, width: float, height: float, *points: float) -> Detection:
    landmarks: Landmarks = tuple(zip(points[::2], points[1::2], strict=True))  # type: ignore[assignment] # five of them
    return Detection(Box(left, top, width, height), confidence, landmarks)
