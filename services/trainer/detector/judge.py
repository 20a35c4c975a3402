"""`detector evaluate`: the whole table of figures, for several detectors in one run."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from services.trainer.detector import evaluate
from services.trainer.detector.sources import Sources
from shared.analysis import MIN_FACE_PX
from shared.atomic import write_text
from shared.boxes import Box, DetectorName
from shared.pictures import BgrImage
from shared.pipeline.detect import Detection, Detector, largest_first, min_face_share, shrink

BASELINE: Final = "yunet_opencv"
Figures = dict[str, Any]


class AsServed:
    """A detector as the service asks it: for faces of at least MIN_FACE_PX, unless told otherwise."""

    def __init__(self, detector: Detector) -> None:
        self._detector, self.name = detector, detector.name

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = MIN_FACE_PX) -> list[Detection]:
        height, width = image.shape[:2]
        return self._detector.detect(image, min_confidence, min_face_share(min_face, width, height))


class YuNetThroughOpenCV:
    """YuNet as most programs run it; its faces are those of YuNet through ONNX Runtime, so only its time is given."""

    name: DetectorName = "yunet"

    def __init__(self, model: Path, max_side_px: int) -> None:
        self._network = cv2.FaceDetectorYN.create(str(model), "", (320, 320), 0.6, 0.3, 500)
        self._max_side_px = max_side_px

    def detect(self, image: BgrImage, min_confidence: float, min_face: float = 0.0) -> list[Detection]:
        small, scale = shrink(image, self._max_side_px)
        self._network.setInputSize((small.shape[1], small.shape[0]))
        self._network.setScoreThreshold(min_confidence)
        _, rows = self._network.detect(small)
        rows = [] if rows is None else np.asarray(rows)
        return largest_first([Detection(Box(*(float(v) / scale for v in row[:4])), float(row[14])) for row in rows])


def judge(
    detectors: dict[str, Detector],
    timed: dict[str, Detector],
    sources: Sources,
    faces: Path | None,
    photos: Path | None,
    report: Callable[[str, Any], None],
) -> Figures:
    """Every figure of the card, each passed to `report` once measured; the detectors in `timed` are only timed."""
    found: Figures = {}
    detectors = {name: AsServed(detector) for name, detector in detectors.items()}

    def keep(name: str, value: Any) -> None:
        found[name] = value
        report(name, value)

    keep("speed_ms", evaluate.speed({**detectors, **timed}, sources))
    keep("false_alarms_per_scene", evaluate.false_alarms(detectors, sources))
    if photos:
        keep("missed_photos", evaluate.on_photos(detectors, photos))
    if faces:
        keep("missed_by_group", evaluate.by_group(detectors, faces))
    keep("found_by_turn_deg", evaluate.by_turn(detectors, sources))
    keep("found_by_light", evaluate.by_light(detectors, sources))
    keep("found_by_size_px", evaluate.by_size(detectors, sources))
    keep("found_20_of_40px_in_1920x1080", evaluate.crowds(detectors, sources, 20, 40, (1920, 1080)))
    keep("found_20_of_24px_in_1024x768", evaluate.crowds(detectors, sources, 20, 24, (1024, 768)))
    keep("found_in_collages", evaluate.collages(detectors, sources))
    ours = detectors.get("mien")
    if ours:
        keep("by_min_face", evaluate.by_min_face(ours, sources))
    return found


def write_figures(figures: Figures, path: Path) -> None:
    """Write figures as JSON."""
    write_text(path, json.dumps(figures, indent=2) + "\n")
