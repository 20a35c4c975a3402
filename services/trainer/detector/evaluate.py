"""How many faces detectors miss, by group, size, turn and light, and what else they take for a face.

All of them see the same pictures, none of which our own was trained on, at the service's default confidence.
"""

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np

from services.trainer.detector.archives import labelled_pictures, pictures_of_folder
from services.trainer.detector.pieces import Placement, Scene, paste
from services.trainer.detector.sources import Source, Sources
from shared.boxes import Box, intersection_over_union
from shared.pictures import BgrImage
from shared.pipeline.detect import Detection, Detector

MIN_CONFIDENCE: Final = 0.6
FOUND_IOU: Final = 0.4  # detectors draw their boxes differently, and turned ones more so
TURNS_DEG: Final = (0, 15, 30, 45, 60, 90)
LIGHTS: Final = (1.0, 0.5, 0.25, 0.12)  # factors of brightness
SIZES_PX: Final = (10, 12, 14, 16, 20, 24, 32, 48, 96, 192, 384)
SPEED_SIZES: Final = ((350, 350), (640, 480), (1280, 960))
MIN_FACES: Final = (1 / 48, 1 / 32, 1 / 24, 1 / 16, 1 / 12, 1 / 8, 1 / 5)
CALLS: Final = 3  # of each detector in a turn
SCENES_WITHOUT_PEOPLE: Final = 100

Detectors = Mapping[str, Detector]
Counts = dict[str, float]


def by_group(detectors: Detectors, archive: Path, limit: int | None = None) -> dict[str, dict[str, float]]:
    """Share of an archive's faces missed, by the column race of its labels.csv; each picture is one tight face."""
    missed: dict[str, dict[str, list[bool]]] = {name: defaultdict(list) for name in detectors}
    for picture, labels in islice(labelled_pictures(archive), limit):
        for name, detector in detectors.items():
            missed[name][labels["race"]].append(not _middle_found(detector, picture))
    return {name: {group: _mean(rows) for group, rows in sorted(groups.items())} for name, groups in missed.items()}


def on_photos(detectors: Detectors, folder: Path) -> Counts:
    """Share of the photos of a folder in which no face is found."""
    missed: dict[str, list[bool]] = {name: [] for name in detectors}
    for picture in pictures_of_folder(folder):
        for name, detector in detectors.items():
            missed[name].append(not detector.detect(picture, MIN_CONFIDENCE))
    return {name: _mean(rows) for name, rows in missed.items()}


def false_alarms(detectors: Detectors, sources: Sources) -> Counts:
    """Faces found per picture of a place without people: each is a false alarm."""
    found: dict[str, list[int]] = {name: [] for name in detectors}
    for number in _without_people(sources)[:SCENES_WITHOUT_PEOPLE]:
        place = sources[number].pixels
        for name, detector in detectors.items():
            found[name].append(len(detector.detect(place, MIN_CONFIDENCE)))
    return {name: _mean(rows) for name, rows in found.items()}


def by_turn(detectors: Detectors, sources: Sources, faces: int = 120) -> dict[str, dict[str, float]]:
    """Share found of faces of 80 pixels turned either way, by degrees."""
    return _by(detectors, sources, faces, TURNS_DEG, lambda rng, turn: (80.0, turn * rng.choice((-1, 1)), 1.0))


def by_light(detectors: Detectors, sources: Sources, faces: int = 120) -> dict[str, dict[str, float]]:
    """Share found of faces of 80 pixels in pictures made darker, by the factor."""
    return _by(detectors, sources, faces, LIGHTS, lambda _, light: (80.0, 0.0, light))


def by_size(detectors: Detectors, sources: Sources, faces: int = 120) -> dict[str, dict[str, float]]:
    """Share found of faces by their size in pixels, in pictures of 640x480, or larger where the face needs it."""
    return _by(detectors, sources, faces, SIZES_PX, lambda _, size: (float(size), 0.0, 1.0))


def _by(
    detectors: Detectors,
    sources: Sources,
    faces: int,
    steps: tuple[float, ...],
    place: Callable[[np.random.Generator, Any], tuple[float, float, float]],
) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {name: {} for name in detectors}
    for step in steps:
        rows: dict[str, list[bool]] = {name: [] for name in detectors}
        rng = np.random.default_rng(0)
        for number in _people(sources)[:faces]:
            size, turn, light = place(rng, step)
            side = max(1.0, size / 200)
            scene = _scene(sources, rng, (round(640 * side), round(480 * side)))
            _put(scene, sources[int(number)], size, turn, rng)
            scene.pixels = np.asarray(cv2.convertScaleAbs(scene.pixels, alpha=light), np.uint8)
            for name, detector in detectors.items():
                rows[name] += _found(detector, scene)
        for name, values in rows.items():
            found[name][f"{step:g}"] = _mean(values)
    return found


def crowds(
    detectors: Detectors, sources: Sources, count: int, size_px: float, picture: tuple[int, int], pictures: int = 10
) -> Counts:
    """Share found of `count` faces of `size_px` in places of (width, height)."""
    return _in_many(detectors, sources, pictures, picture, lambda _: [size_px] * count)


def collages(detectors: Detectors, sources: Sources, pictures: int = 40) -> Counts:
    """Share found of 2 to 12 faces of 60 to 300 pixels in 1280x960."""

    def sizes(rng: np.random.Generator) -> list[float]:
        return [math.exp(rng.uniform(math.log(60), math.log(300))) for _ in range(int(rng.integers(2, 13)))]

    return _in_many(detectors, sources, pictures, (1280, 960), sizes)


def _in_many(
    detectors: Detectors,
    sources: Sources,
    pictures: int,
    size: tuple[int, int],
    sizes: Callable[[np.random.Generator], list[float]],
) -> Counts:
    rng = np.random.default_rng(0)
    rows: dict[str, list[bool]] = {name: [] for name in detectors}
    for _ in range(pictures):
        scene = _scene(sources, rng, size)
        for face_px in sorted(sizes(rng), reverse=True):
            _put(scene, sources[int(rng.choice(_people(sources)))], face_px, 0.0, rng)
        for name, detector in detectors.items():
            rows[name] += _found(detector, scene)
    return {name: _mean(values) for name, values in rows.items()}


def speed(detectors: Detectors, sources: Sources, rounds: int = 12) -> dict[str, dict[str, float]]:
    """Milliseconds of the whole stage by picture size, the median of rounds in which all detectors take turns.

    The last of three calls in a turn counts: a service runs one detector, so its code and weights stay in the caches.
    """
    rng = np.random.default_rng(0)
    scenes = {size: _scene(sources, rng, size) for size in SPEED_SIZES}
    for scene in scenes.values():
        _put(scene, sources[_people(sources)[0]], min(scene.size) / 3, 0.0, rng)
    spent: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in detectors}
    for (width, height), scene in scenes.items():
        for _ in range(rounds):
            for name, detector in detectors.items():
                for _ in range(CALLS):
                    started = time.perf_counter()
                    detector.detect(scene.pixels, MIN_CONFIDENCE)
                spent[name][f"{width}x{height}"].append((time.perf_counter() - started) * 1000)
    return {
        name: {size: round(float(np.median(times[1:])), 2) for size, times in sizes.items()}
        for name, sizes in spent.items()
    }


def by_min_face(detector: Detector, sources: Sources, pictures: int = 12) -> dict[str, dict[str, float]]:
    """For each `min_face`: milliseconds in 1280x960, and the share found of faces of that size and of twice it."""
    rows = {}
    for share in MIN_FACES:
        rng, spent = np.random.default_rng(0), []
        found: dict[int, list[bool]] = {1: [], 2: []}
        for _ in range(pictures):
            for times in found:
                scene = _scene(sources, rng, (1280, 960))
                for _ in range(6):
                    _put(scene, sources[int(rng.choice(_people(sources)))], share * times * 960, 0.0, rng)
                started = time.perf_counter()
                detections = detector.detect(scene.pixels, MIN_CONFIDENCE, share)
                spent.append((time.perf_counter() - started) * 1000)
                found[times] += _matched(scene, detections)
        rows[f"{share:.3g}"] = {
            "ms": round(float(np.median(spent)), 2),
            "found": _mean(found[1]),
            "found_twice_as_large": _mean(found[2]),
        }
    return rows


def _people(sources: Sources) -> list[int]:
    return [int(n) for n in sources.of("people", "evaluation") if len(sources[int(n)].faces) == 1]


def _without_people(sources: Sources) -> list[int]:
    return [int(n) for n in sources.of("scenes", "evaluation") if len(sources[int(n)].faces) == 0]


def _scene(sources: Sources, rng: np.random.Generator, size: tuple[int, int]) -> Scene:
    place = sources[int(rng.choice(_without_people(sources)))].pixels
    return Scene(np.asarray(cv2.resize(place, size, interpolation=cv2.INTER_AREA), np.uint8))


def _put(scene: Scene, source: Source, size_px: float, turn_deg: float, rng: np.random.Generator) -> None:
    """Paste a person with a face of `size_px`, where it covers no face and its own is in view; else leave it out."""
    face = source.faces[0]
    scale = size_px / math.sqrt(float(face[2] * face[3]))
    anchor = (float(face[0] + face[2] / 2), float(face[1] + face[3] / 2))
    reach = 0.5 * scale * max(source.pixels.shape[:2])
    for _ in range(40):
        to = tuple(rng.uniform((size_px * 0.7,) * 2, np.array(scene.size) - size_px * 0.7))
        middles = scene.faces[:, :2] + scene.faces[:, 2:4] / 2
        apart = np.abs(middles - np.array(to)).max(axis=1) - np.maximum(scene.faces[:, 2], scene.faces[:, 3]) / 2
        if (apart > 1.3 * reach).all():
            paste(scene, source, Placement(anchor, (to[0], to[1]), scale, turn_deg))
            return


def _found(detector: Detector, scene: Scene) -> list[bool]:
    """Of each face of a scene, whether a detection lies on it."""
    return _matched(scene, detector.detect(scene.pixels, MIN_CONFIDENCE))


def _matched(scene: Scene, detections: list[Detection]) -> list[bool]:
    return [
        any(intersection_over_union(Box(*face[:4]), d.box) >= FOUND_IOU for d in detections)
        for face in scene.faces.tolist()
    ]


def _middle_found(detector: Detector, picture: BgrImage) -> bool:
    """Whether a face of at least a quarter of the picture lies over its middle."""
    height, width = picture.shape[:2]
    boxes = (detection.box for detection in detector.detect(picture, MIN_CONFIDENCE))
    return any(
        abs(b.x + b.width / 2 - width / 2) < b.width / 2 and abs(b.y + b.height / 2 - height / 2) < b.height / 2
        for b in boxes
        if b.width >= width / 4
    )


def _mean(values: list[Any]) -> float:
    return round(float(np.mean(values)), 4) if values else math.nan
