"""The whole way, from the bytes of an image to the emotions of its faces."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from shared.analysis import Analysis, Face, Model, Options
from shared.boxes import Box, PixelBox
from shared.choices import Probabilities
from shared.manifest import ModelManifest
from shared.pictures import GreyImage, ImageLimits
from shared.pipeline.classify import FaceClassifier
from shared.pipeline.crop import cut_face
from shared.pipeline.decode import Picture, decode
from shared.pipeline.detect import Detection, Detector, min_face_share
from shared.pipeline.preprocess import to_face, to_input, whole_as_face


@dataclass(frozen=True, slots=True)
class Analyzer:
    """A model, a detector and limits. Safe to share between threads."""

    manifest: ModelManifest
    classifier: FaceClassifier
    detector: Detector
    limits: ImageLimits

    def analyze(self, data: bytes, options: Options, reserve: Callable[[int], None] = lambda _: None) -> Analysis:
        """Faces in one encoded image, largest first, each with seven probabilities. `reserve` is that of `decode`.

        Raises UndecodableImage, UnsupportedImage, ImageTooLarge, ImageTooSmall or OutOfMemory, and what `check` raises; an
        image without a face gives an Analysis without faces.
        """
        clock = _Clock()
        with clock.stage("decode"):
            picture = decode(data, self.limits, reserve)
        analysis = self.read(picture, options)
        return replace(analysis, timings_s=clock.seconds | analysis.timings_s)

    def read(self, picture: Picture, options: Options) -> Analysis:
        """The faces of a picture that is decoded already, as the frames of a film are."""
        clock = _Clock()
        with clock.stage("detect"):
            detections = self._detect(picture, options)
        with clock.stage("crop"):
            crops = [self._crop(picture, detection) for detection in detections]
        with clock.stage("classify"):
            probabilities = self._classify(crops, options)
        read = zip(detections, probabilities, crops, strict=True)
        faces = tuple(_face(picture, found, row, seen) for found, row, seen in read)
        return Analysis(picture.width, picture.height, faces, clock.seconds, self.model)

    def check(self, options: Options) -> None:
        """Raise UnknownAnswer or UnusablePrior if the model cannot give what `options` ask for."""
        self._classify([], options)

    @property
    def model(self) -> Model:
        """Which model answers."""
        return Model(self.manifest.name, self.manifest.version, self.detector.name)

    def _detect(self, picture: Picture, options: Options) -> Sequence[Detection | None]:
        """The faces of a picture; None stands for the whole picture, treated as one face."""
        if not options.detect:
            return [None]
        found = self.detector.detect(
            picture.pixels, options.min_confidence, min_face_share(options.min_face, picture.width, picture.height)
        )
        # By the boxes in the answer: the part of a face beyond the border does not count.
        found = sorted(found, key=lambda one: _area(_displayed(one.box, picture)), reverse=True)
        return found[: options.max_faces]

    def _crop(self, picture: Picture, detection: Detection | None) -> GreyImage:
        size_px = self.manifest.input.size_px
        if detection is None:
            return whole_as_face(picture.pixels, size_px)
        geometry = self.manifest.crop[self.detector.name]
        return to_face(cut_face(picture.pixels, detection.box, detection.roll_deg, geometry), size_px)

    def _classify(self, crops: Sequence[GreyImage], options: Options) -> Probabilities:
        size_px = self.manifest.input.size_px
        faces = np.stack(crops) if crops else np.empty((0, size_px, size_px), np.uint8)
        return self.classifier.classify(to_input(faces), options.answer, options.prior)


@dataclass(frozen=True, slots=True)
class _Clock:
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - started


def _face(
    picture: Picture, detection: Detection | None, probabilities: npt.NDArray[np.float32], read: GreyImage
) -> Face:
    values = tuple(map(float, probabilities))
    if detection is None:
        return Face(PixelBox(0, 0, picture.width, picture.height), None, values, read)
    points = detection.landmarks
    if points is not None:
        points = tuple((x * picture.scale, y * picture.scale) for x, y in points)  # type: ignore[assignment] # five
    return Face(_displayed(detection.box, picture), detection.confidence, values, read, points)


def _area(box: PixelBox) -> int:
    return box.width * box.height


def _displayed(box: Box, picture: Picture) -> PixelBox:
    """The part of `box` inside the picture, in whole displayed pixels, at least 1x1."""
    left = min(max(round(box.x * picture.scale), 0), picture.width - 1)
    top = min(max(round(box.y * picture.scale), 0), picture.height - 1)
    right = min(max(round((box.x + box.width) * picture.scale), left + 1), picture.width)
    bottom = min(max(round((box.y + box.height) * picture.scale), top + 1), picture.height)
    return PixelBox(left, top, right - left, bottom - top)
