"""A picture in, faces out: Haar from OpenCV's own data, or YuNet where its file is."""

import math
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Protocol, TypeAlias

import cv2
import numpy as np

from shared.errors import DetectorError
from shared.pipeline.crop import Box
from shared.pipeline.decode import BgrImage, GrayImage

DetectorName: TypeAlias = Literal["haar", "yunet"]

_MOST_CANDIDATES: Final = 500
_NMS_IOU: Final = 0.3
_MID_GREY: Final = 128
# OpenCV fills YuNet's input up to multiples of 32, and where a side then is 32, reads memory that it never wrote.
_YUNET_LEAST_SIDE_PX: Final = 64


@dataclass(frozen=True, slots=True)
class Detection:
    """One face. `confidence` is 0 to 1; it ranks within a detector and is no probability."""

    box: Box
    confidence: float


class Detector(Protocol):
    """What finds faces. One instance serves all threads."""

    @property
    def name(self) -> DetectorName: ...

    def detect(self, image: BgrImage, min_confidence: float) -> list[Detection]:
        """Faces of at least `min_confidence` in pixels of `image`, largest first; boxes may reach past the border."""
        ...


class HaarDetector:
    """OpenCV's frontal face cascade, the paper's detector (paper, 2); scale step 1.1, five neighbours."""

    name: DetectorName = "haar"

    def __init__(self, max_side_px: int) -> None:
        """`max_side_px`: larger pictures are searched at this size. Raises DetectorError without OpenCV's data."""
        self._max_side_px = max_side_px
        self._own = threading.local()
        self._cascade()

    def detect(self, image: BgrImage, min_confidence: float) -> list[Detection]:
        grey = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        small, scale = _shrink(grey, self._max_side_px)
        found = self._search(small, scale, margin=0)
        if not found:  # the cascade finds a face that fills the picture only with room around it
            found = self._search(small, scale, margin=min(small.shape) // 5)
        return _largest_first(found, min_confidence)

    def _search(self, grey: GrayImage, scale: float, margin: int) -> list[Detection]:
        framed = grey if margin == 0 else _framed(grey, margin)
        boxes, _, weights = self._cascade().detectMultiScale3(
            framed, scaleFactor=1.1, minNeighbors=5, minSize=(24, 24), outputRejectLevels=True
        )
        return [
            Detection(
                Box((x - margin) / scale, (y - margin) / scale, width / scale, height / scale),
                _haar_confidence(float(weight)),
            )
            for (x, y, width, height), weight in zip(boxes, weights, strict=True)
        ]

    def _cascade(self) -> Any:
        """This thread's own cascade: OpenCV's is not safe to share."""
        if not hasattr(self._own, "cascade"):
            path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
            cascade = cv2.CascadeClassifier(str(path))
            if cascade.empty():
                raise DetectorError(f"{path} cannot be read; reinstall opencv-python-headless (below 5).")
            self._own.cascade = cascade
        return self._own.cascade


class YuNetDetector:
    """YuNet (Wu et al. 2023) through OpenCV: fewer misses than Haar, and faster."""

    name: DetectorName = "yunet"

    def __init__(self, model: Path, max_side_px: int) -> None:
        """`model`: the published .onnx. Raises DetectorError when it is missing or is no such model."""
        self._model, self._max_side_px = model, max_side_px
        self._own = threading.local()
        self._network()

    def detect(self, image: BgrImage, min_confidence: float) -> list[Detection]:
        small, scale = _shrink(image, self._max_side_px)
        small = _filled_up(small, _YUNET_LEAST_SIDE_PX)
        network = self._network()
        network.setInputSize((small.shape[1], small.shape[0]))
        network.setScoreThreshold(min_confidence)
        _, rows = network.detect(small)
        found = [
            Detection(Box(*(float(value) / scale for value in row[:4])), min(1.0, float(row[14])))
            for row in ([] if rows is None else rows)
            if row[2] > 0 and row[3] > 0
        ]
        return _largest_first(found, min_confidence)

    def _network(self) -> Any:
        """This thread's own network: OpenCV's keeps the input size between calls."""
        if not hasattr(self._own, "network"):
            if not self._model.is_file():
                raise DetectorError(f"There is no YuNet model at {self._model}; `make yunet` fetches it.")
            try:
                self._own.network = cv2.FaceDetectorYN.create(
                    str(self._model), "", (320, 320), 0.6, _NMS_IOU, _MOST_CANDIDATES
                )
            except cv2.error as error:
                raise DetectorError(f"{self._model} is not YuNet's ONNX model: {error.err}.") from error
        return self._own.network


def _shrink(image: BgrImage, max_side_px: int) -> tuple[BgrImage, float]:
    """The picture at no more than `max_side_px` a side, and by what it was multiplied."""
    scale = min(1.0, max_side_px / max(image.shape[:2]))
    if scale == 1.0:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _filled_up(image: BgrImage, least_side_px: int) -> BgrImage:
    """The picture with black to its right and below it, where it is smaller."""
    below, right = (max(0, least_side_px - side) for side in image.shape[:2])
    if below == right == 0:
        return image
    return np.asarray(cv2.copyMakeBorder(image, 0, below, 0, right, cv2.BORDER_CONSTANT), np.uint8)


def _framed(grey: GrayImage, margin: int) -> GrayImage:
    framed = cv2.copyMakeBorder(grey, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=_MID_GREY)
    return np.asarray(framed, np.uint8)


def _haar_confidence(stage_weight: float) -> float:
    """The last stage's weight, which has no upper end, as 0 to 1: faces lie between 2 (.63) and 10 (.99)."""
    return 1 - math.exp(-max(stage_weight, 0.0) / 2)


def _largest_first(detections: list[Detection], min_confidence: float) -> list[Detection]:
    kept = [detection for detection in detections if detection.confidence >= min_confidence]
    return sorted(kept, key=lambda detection: detection.box.width * detection.box.height, reverse=True)
