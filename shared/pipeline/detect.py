"""A picture in, faces out: what every detector answers, and Haar, from OpenCV's own data."""

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import cv2
import numpy as np

from shared.boxes import Box, DetectorName, Landmarks, roll_deg
from shared.errors import DetectorError
from shared.pictures import BgrImage, GreyImage
from shared.pipeline.crop import framed

_HAAR_MIN_PX: Final = 24
_SMALL_SIDE_PX: Final = 128  # making a picture smaller than this saves little and loses faces


@dataclass(frozen=True, slots=True)
class Detection:
    """One face, in pixels of the image.

    `confidence` is 0 to 1; it ranks the faces of one detector and is not a probability. `landmarks` are the right eye,
    the left eye, the tip of the nose, the right and the left corner of the mouth, right and left as the person's own;
    None where the detector does not locate them.
    """

    box: Box
    confidence: float
    landmarks: Landmarks | None = None

    @property
    def roll_deg(self) -> float | None:
        """How far the head is turned in the picture; None without landmarks."""
        return None if self.landmarks is None else roll_deg(self.landmarks)


class Detector(Protocol):
    """Finds faces. One instance serves all threads."""

    @property
    def name(self) -> DetectorName: ...

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        """Faces of at least `min_confidence` in pixels of `image`, largest first; boxes may extend past the border.

        Faces smaller than `min_face`, a share of the shorter side, may be missed: the picture is searched at the size
        that shows those, which costs less the larger they are. With 0 it is searched as large as the detector may.
        """
        ...


class HaarDetector:
    """OpenCV's frontal face cascade, the paper's detector (paper, 2); scale step 1.1, five neighbours."""

    name: DetectorName = "haar"

    def __init__(self, max_side_px: int) -> None:
        """`max_side_px`: larger pictures are searched at this size. Raises DetectorError if OpenCV's data is missing."""
        self._max_side_px = max_side_px
        self._own = threading.local()
        self._cascade()

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        small, scale = shrink(grey, self._max_side_px, min_face, _HAAR_MIN_PX)
        found = self._search(small, scale, margin=0)
        if not found:  # the cascade needs some room around a face that fills the picture
            found = self._search(small, scale, margin=min(small.shape) // 5)
        return largest_first([detection for detection in found if detection.confidence >= min_confidence])

    def _search(self, grey: GreyImage, scale: float, margin: int) -> list[Detection]:
        searched = grey if margin == 0 else framed(grey, margin)
        boxes, _, weights = self._cascade().detectMultiScale3(
            searched, scaleFactor=1.1, minNeighbors=5, minSize=(_HAAR_MIN_PX, _HAAR_MIN_PX), outputRejectLevels=True
        )
        return [
            Detection(
                Box((x - margin) / scale, (y - margin) / scale, width / scale, height / scale),
                _haar_confidence(float(weight)),
            )
            for (x, y, width, height), weight in zip(boxes, weights, strict=True)
        ]

    def _cascade(self) -> Any:
        """This thread's own cascade: OpenCV's cannot be shared between threads."""
        if not hasattr(self._own, "cascade"):
            path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
            cascade = cv2.CascadeClassifier(str(path))
            if cascade.empty():
                raise DetectorError(f"{path} cannot be read; reinstall opencv-python-headless (below 5).")
            self._own.cascade = cascade
        return self._own.cascade


def min_face_share(min_face: float, width: int, height: int) -> float:
    """The smallest face looked for, in pixels or below 1 a share, as a share of the picture's shorter side."""
    return min_face if min_face < 1 else min(1.0, min_face / min(width, height))


def shrink(
    image: BgrImage, max_side_px: int, min_face: float = 0.0, least_face_px: float = 0.0
) -> tuple[BgrImage, float]:
    """The picture at the size at which it is searched, and the factor it was scaled by.

    That is at most `max_side_px` per side, and at most what shows a face of `min_face`, a share of the shorter side, at
    `least_face_px`; for the latter, a picture is not made smaller than _SMALL_SIDE_PX.
    """
    longer, shorter = max(image.shape[:2]), min(image.shape[:2])
    scale = min(1.0, max_side_px / longer)
    if min_face > 0:
        scale = min(scale, max(least_face_px / (min_face * shorter), _SMALL_SIDE_PX / longer))
    if scale == 1.0:
        return image, 1.0
    return resized(image, (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))), scale


def resized(image: BgrImage, size: tuple[int, int]) -> BgrImage:
    """A smaller copy of (width, height): halved while it is twice as large or more, then interpolated, which is fast."""
    while image.shape[1] >= 2 * size[0] and image.shape[0] >= 2 * size[1]:
        half = (image.shape[1] // 2, image.shape[0] // 2)
        # Halving even sides, this takes the mean of four pixels, like INTER_AREA, which is ten times slower for odd sides.
        image = np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


def _haar_confidence(stage_weight: float) -> float:
    """The last stage's weight, which is unbounded, mapped to 0 to 1: faces lie between 2 (.63) and 10 (.99)."""
    return 1 - math.exp(-max(stage_weight, 0.0) / 2)


def largest_first(detections: list[Detection]) -> list[Detection]:
    """Sorted by the area of their boxes."""
    return sorted(detections, key=lambda detection: detection.box.width * detection.box.height, reverse=True)
