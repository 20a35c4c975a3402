"""`python -m benchmarks.follow`: whether looking for a face near where it was, between searches of the whole picture, pays.

A trial of what docs/adr/0003 decides: each face of the last frame is looked for in a window around it; the whole picture
is searched in every `WHOLE_EVERY`th frame, where a face is lost, and where the scene changes. The table shows how much of
the time of full detection that takes, and how well its boxes overlap those of full detection.
"""

import argparse
import math
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np

from benchmarks.scenes import pictures, scene_jpeg
from services.api.settings import Settings
from shared.assembly import open_analyzer
from shared.boxes import Box, intersection_over_union
from shared.pictures import BgrImage, GreyImage, ImageLimits
from shared.pipeline.decode import decode
from shared.pipeline.detect import Detection, Detector, largest_first

FRAMES: Final = 60
CONFIDENCE: Final = 0.6
WHOLE_EVERY: Final = 6
# Around a face in the window, on each side: for where it may have moved, and because the network looks so far beyond a
# face; with less its boxes differ from those in the whole picture.
_AROUND_PX: Final = 72
_GRID: Final = 32  # windows begin where the cells of the whole picture do
_MAX_SHARE: Final = 0.45  # of the picture; where the windows together are more, it is searched whole
_CUT: Final = 20.0  # mean difference of two frames, in grey levels; between frames of one scene it is below 10
_LOOK: Final = (16, 12)
_DOUBLE: Final = 0.3  # intersection over union: two windows found one face


@dataclass(frozen=True, slots=True)
class Trail:
    """What one frame leaves for the next: the boxes of its faces in its pixels, how it looked, and its age.

    `age` is how many frames ago the whole picture was searched. `Trail()` stands before the first frame.
    """

    boxes: tuple[Box, ...] = ()
    look: GreyImage | None = None
    size: tuple[int, int] = (0, 0)  # height, width
    age: int = 0


def follow(detector: Detector, image: BgrImage, trail: Trail) -> tuple[list[Detection], Trail]:
    """As `Detector.detect`, in a frame of a film after `trail`; and what it leaves for the next one."""
    height, width = image.shape[:2]
    look = np.asarray(cv2.resize(image[::4, ::4, 1], _LOOK, interpolation=cv2.INTER_AREA), np.uint8)
    found = _near(detector, image, trail) if _goes_on(trail, look, (height, width)) else None
    age = trail.age + 1
    if found is None:
        found, age = detector.detect(image, CONFIDENCE), 1
    return found, Trail(tuple(face.box for face in found), look, (height, width), age)


def _goes_on(trail: Trail, look: GreyImage, size: tuple[int, int]) -> bool:
    """Whether the faces of the last frame are worth looking for."""
    if not trail.boxes or trail.look is None or trail.size != size or trail.age >= WHOLE_EVERY:
        return False
    windows = sum((box.width + 2 * _AROUND_PX) * (box.height + 2 * _AROUND_PX) for box in trail.boxes)
    if windows > _MAX_SHARE * size[0] * size[1]:
        return False
    return float(cv2.absdiff(trail.look, look).mean()) < _CUT


def _near(detector: Detector, image: BgrImage, trail: Trail) -> list[Detection] | None:
    """The faces of the last frame where they are now; None where one is lost, or two became one."""
    found: list[Detection] = []
    for box in trail.boxes:
        left, top, right, bottom = _window(box, image)
        seen = detector.detect(image[top:bottom, left:right], CONFIDENCE) if right > left and bottom > top else []
        faces = [_moved(face, left, top) for face in seen]
        face = min(faces, key=lambda face: _distance(face.box, box), default=None)
        if face is None or any(intersection_over_union(face.box, other.box) > _DOUBLE for other in found):
            return None
        found.append(face)
    return largest_first(found)


def _window(box: Box, image: BgrImage) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of where to look, inside the picture, on the network's own grid."""
    left, top = (max(0, math.floor((at - _AROUND_PX) / _GRID) * _GRID) for at in (box.x, box.y))
    right = math.ceil((box.x + box.width + _AROUND_PX) / _GRID) * _GRID
    bottom = math.ceil((box.y + box.height + _AROUND_PX) / _GRID) * _GRID
    return left, top, min(right, image.shape[1]), min(bottom, image.shape[0])


def _distance(one: Box, other: Box) -> float:
    across = one.x + one.width / 2 - other.x - other.width / 2
    down = one.y + one.height / 2 - other.y - other.height / 2
    return across * across + down * down


def _moved(face: Detection, right: int, down: int) -> Detection:
    box = Box(face.box.x + right, face.box.y + down, face.box.width, face.box.height)
    points = face.landmarks and tuple((x + right, y + down) for x, y in face.landmarks)
    return Detection(box, face.confidence, points)  # type: ignore[arg-type] # five points, as before


def nodding() -> Iterator[BgrImage]:
    """A head that nods and leans: 80 px back and forth in two seconds."""
    picture = decode(scene_jpeg(640, 480), ImageLimits()).pixels
    for number in range(FRAMES):
        turn = number / 30 * 2 * np.pi
        yield np.roll(picture, (int(20 * np.sin(2 * turn)), int(40 * np.sin(turn))), axis=(0, 1))


def moving(photos: list[BgrImage], seed: int) -> Iterator[BgrImage]:
    """640x480 with one photo for each face, which move back and forth, grow and shrink; with a camera's noise."""
    rng = np.random.default_rng(seed)
    ground = cv2.GaussianBlur(decode(scene_jpeg(640, 480), ImageLimits()).pixels, (0, 0), 20)
    phases, sides = rng.random(len(photos)) * 6, rng.integers(120, 260, len(photos))
    for number in range(FRAMES):
        frame = ground.copy()
        for place, (photo, phase, base) in enumerate(zip(photos, phases, sides, strict=True)):
            side = int(base * (1 + 0.15 * np.sin(number / 12 + phase)))
            across = (place + 0.5) * 640 / len(photos) + 25 * np.sin(number / 7 + phase)
            down = 240 + 60 * np.sin(number / 9 + 2 * phase)
            left, top = int(np.clip(across - side / 2, 0, 640 - side)), int(np.clip(down - side / 2, 0, 480 - side))
            frame[top : top + side, left : left + side] = cv2.resize(photo, (side, side), interpolation=cv2.INTER_AREA)
        yield np.clip(frame + rng.normal(0, 4, frame.shape), 0, 255).astype(np.uint8)


def compare(title: str, detector: Detector, films: Iterable[Iterator[BgrImage]]) -> None:
    """Print a line: frames, time against full detection, overlap with it, faces missed."""
    full_s = follow_s = 0.0
    frames = missed = 0
    overlaps = []
    for film in films:
        trail = Trail()
        for frame in film:
            started = time.process_time()
            full = detector.detect(frame, CONFIDENCE)
            between = time.process_time()
            found, trail = follow(detector, frame, trail)
            full_s, follow_s = full_s + between - started, follow_s + time.process_time() - between
            frames += 1
            for face in full if trail.age > 1 else []:
                best = max((intersection_over_union(face.box, other.box) for other in found), default=0.0)
                missed += best < 0.5
                overlaps += [best] if best >= 0.5 else []
    least, mean = (min(overlaps), np.mean(overlaps)) if overlaps else (math.nan, math.nan)
    print(f"{title:34}{frames:8}{follow_s / full_s:10.2f}{mean:10.3f}{least:10.3f}{len(overlaps):10}{missed:8}")


def main() -> None:
    """Print a line for each kind of film."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("photos"), help="a folder of JPEGs, where there is one")
    cv2.setNumThreads(1)
    photos = [decode(data, ImageLimits()).pixels for data in pictures(parser.parse_args().photos)]
    settings = Settings()
    detector = open_analyzer(settings.model, settings.detector, settings.detector_files).detector
    print(
        f"{detector.name}, 640x480{'':17}{'frames':>8}{'of time':>10}{'overlap':>10}{'at worst':>10}{'of boxes':>10}{'missed':>8}"
    )
    compare("a head that nods and leans", detector, [nodding()])
    for faces in (1, 2):
        films = [moving([photos[(7 * film + face) % len(photos)] for face in range(faces)], film) for film in range(6)]
        compare(f"films of {faces} moving photo{'s' * (faces > 1)}", detector, films)


if __name__ == "__main__":
    main()
