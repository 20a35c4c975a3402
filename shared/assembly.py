"""Puts an analyzer together: a model, a face detector and limits, from plain arguments.

A new detector is a class with `Detector`'s methods, its name in `boxes.py`, and a line in `_DETECTORS`.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from shared.analyzer import Analyzer
from shared.boxes import DetectorName
from shared.detectors import DetectorChoice, DetectorFiles
from shared.errors import ModelError
from shared.manifest import load_manifest
from shared.pictures import ImageLimits
from shared.pipeline.classify import MirroredClassifier, open_classifier
from shared.pipeline.detect import Detector, HaarDetector
from shared.pipeline.mien import open_mien
from shared.pipeline.yunet import open_yunet

DETECT_SIDE_PX: Final = 1024

# How each detector is opened, from its files and the longest side it searches; the best one first.
_DETECTORS: Final[dict[DetectorName, Callable[[DetectorFiles, int], Detector]]] = {
    "mien": lambda files, max_side_px: open_mien(files.mien, max_side_px),
    "yunet": lambda files, max_side_px: open_yunet(files.yunet, max_side_px),
    "haar": lambda _, max_side_px: HaarDetector(max_side_px),
}


def open_analyzer(
    model: Path,
    detector: DetectorChoice = "auto",
    files: DetectorFiles = DetectorFiles(),
    limits: ImageLimits | None = None,
    threads: int = 1,
    providers: Sequence[str] = ("CPU",),
    mirror: bool = False,
) -> Analyzer:
    """The analyzer of a model directory, with the model verified.

    Faces are searched for at `limits.target_side_px`. `threads` and `providers` are those of `open_classifier`; with
    `mirror` each face is read together with its mirror image, unless the model does so itself. Raises ModelError or
    DetectorError.
    """
    limits = limits or ImageLimits()
    manifest = load_manifest(model)
    finder = open_detector(detector, files, limits.target_side_px)
    if finder.name not in manifest.crop:
        raise ModelError(f"{model} has no crop geometry for the detector '{finder.name}'.")
    classifier = open_classifier(model, manifest, threads, providers)
    both = mirror and not manifest.mirrored
    return Analyzer(manifest, MirroredClassifier(classifier) if both else classifier, finder, limits)


def open_detector(
    choice: DetectorChoice = "auto",
    files: DetectorFiles = DetectorFiles(),
    max_side_px: int = DETECT_SIDE_PX,
) -> Detector:
    """The detector named, or for auto the best that is installed. Raises DetectorError."""
    name = available_detectors(files)[0] if choice == "auto" else choice
    return _DETECTORS[name](files, max_side_px)


def available_detectors(files: DetectorFiles = DetectorFiles()) -> list[DetectorName]:
    """The detectors whose files are installed, the best one first."""
    there = {"mien": files.mien.is_dir(), "yunet": files.yunet.is_file(), "haar": True}
    return [name for name in _DETECTORS if there[name]]
