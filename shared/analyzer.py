"""The whole way, from the bytes of an image to the emotions of its faces."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from shared.emotions import EMOTIONS
from shared.manifest import ModelManifest
from shared.pipeline.classify import FaceReader, Probabilities
from shared.pipeline.crop import Box, Square, crop, square_around, square_over
from shared.pipeline.decode import ImageLimits, Picture, decode
from shared.pipeline.detect import Detection, Detector
from shared.pipeline.preprocess import to_face, to_input

STAGES: Final = ("decode", "detect", "crop", "classify")


@dataclass(frozen=True, slots=True)
class Options:
    """What one request asks for. Without `detect` the whole picture is taken as one face."""

    detect: bool = True
    max_faces: int = 32
    min_confidence: float = 0.6


@dataclass(frozen=True, slots=True)
class PixelBox:
    """Whole pixels of the displayed image, inside it."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Face:
    """One face and how it looks: `probabilities` in the order of EMOTIONS, summing to 1."""

    box: PixelBox
    confidence: float
    probabilities: tuple[float, ...]

    @property
    def emotion(self) -> str:
        return EMOTIONS[int(np.argmax(self.probabilities))]


@dataclass(frozen=True, slots=True)
class Analysis:
    """One image: its displayed size, its faces with the largest first, and how long each stage took."""

    width: int
    height: int
    faces: tuple[Face, ...]
    timings_s: dict[str, float]


@dataclass(frozen=True, slots=True)
class Analyzer:
    """A model, a detector and limits. Safe to share between threads."""

    manifest: ModelManifest
    classifier: FaceReader
    detector: Detector
    limits: ImageLimits

    def analyze(self, data: bytes, options: Options) -> Analysis:
        """Faces in one encoded image, largest first, each with seven probabilities.

        Raises UndecodableImage, UnsupportedImage, ImageTooLarge or ImageTooSmall; an image without a face is an
        empty Analysis.
        """
        clock = _Clock()
        with clock.stage("decode"):
            picture = decode(data, self.limits)
        with clock.stage("detect"):
            detections, squares = self._faces(picture, options)
        with clock.stage("crop"):
            size_px = self.manifest.input.size_px
            crops = [to_face(crop(picture.pixels, square), size_px) for square in squares]
        with clock.stage("classify"):
            faces = to_input(np.stack(crops)) if crops else np.empty((0, size_px, size_px, 1), np.float32)
            probabilities = self.classifier.classify(faces)
        return Analysis(picture.width, picture.height, _as_faces(picture, detections, probabilities), clock.seconds)

    def _faces(self, picture: Picture, options: Options) -> tuple[Sequence[Detection], list[Square]]:
        height, width = picture.pixels.shape[:2]
        if not options.detect:
            return [Detection(Box(0, 0, width, height), 1.0)], [square_over(width, height)]
        detections = self.detector.detect(picture.pixels, options.min_confidence)[: options.max_faces]
        geometry = self.manifest.crop[self.detector.name]
        return detections, [square_around(detection.box, geometry) for detection in detections]


@dataclass(frozen=True, slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def _as_faces(picture: Picture, detections: Sequence[Detection], probabilities: Probabilities) -> tuple[Face, ...]:
    return tuple(
        Face(_displayed(detection.box, picture), detection.confidence, tuple(map(float, row)))
        for detection, row in zip(detections, probabilities, strict=True)
    )


def _displayed(box: Box, picture: Picture) -> PixelBox:
    """The part of `box` inside the picture, in whole displayed pixels, at least one each way."""
    left = min(max(round(box.x * picture.scale), 0), picture.width - 1)
    top = min(max(round(box.y * picture.scale), 0), picture.height - 1)
    right = min(max(round((box.x + box.width) * picture.scale), left + 1), picture.width)
    bottom = min(max(round((box.y + box.height) * picture.scale), top + 1), picture.height)
    return PixelBox(left, top, right - left, bottom - top)
