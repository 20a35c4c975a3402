"""A picture in, pasted where a scene wants it: turned, scaled, with soft edges, its faces carried along."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from services.trainer.detector.sources import Boxes, Faces, Source, mirrored_faces
from shared.pictures import BgrImage

# With less than the first share of it in view or uncovered, a face need not be found; with less than the second, it
# counts as none.
MUST_BE_SEEN: Final = 0.6
MAY_BE_SEEN: Final = 0.15


@dataclass(slots=True)
class Scene:
    """A picture being made, its faces, and the boxes of what counts neither as a face nor as none."""

    pixels: BgrImage
    faces: Faces = field(default_factory=lambda: np.empty((0, 14), np.float32))
    ignored: Boxes = field(default_factory=lambda: np.empty((0, 4), np.float32))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return int(self.pixels.shape[1]), int(self.pixels.shape[0])


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a piece goes: the point (x, y) of the piece that comes to lie on `to`, its scale, turn and edge."""

    anchor: tuple[float, float]
    to: tuple[float, float]
    scale: float
    turn_deg: float = 0.0
    round_edge: bool = False
    feather: float = 0.0  # of the piece's side, on each side


def mirrored(source: Source) -> Source:
    """The picture and its faces as in a mirror."""
    width = source.pixels.shape[1]
    ignored = source.ignored.copy()
    ignored[:, 0] = width - ignored[:, 0] - ignored[:, 2]
    return Source(np.asarray(cv2.flip(source.pixels, 1), np.uint8), mirrored_faces(source.faces, width), ignored)


def paste(scene: Scene, source: Source, place: Placement) -> None:
    """Draw a piece over `scene`. Faces below it that it covers are forgotten."""
    source, place = _shrunk(source, place)
    height, width = source.pixels.shape[:2]
    matrix = _matrix(place)
    corners = _moved(matrix, np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32))
    left, top = np.clip(np.floor(corners.min(axis=0)), 0, scene.size).astype(int)
    right, bottom = np.clip(np.ceil(corners.max(axis=0)), 0, scene.size).astype(int)
    if right <= left or bottom <= top:
        return
    local = matrix - np.array([[0, 0, left], [0, 0, top]], np.float32)
    size = (int(right - left), int(bottom - top))
    piece = cv2.warpAffine(source.pixels, local, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    alpha = np.asarray(cv2.warpAffine(_mask(height, width, place), local, size, flags=cv2.INTER_LINEAR), np.float32)
    under = scene.pixels[top:bottom, left:right]
    cv2.blendLinear(piece, under, alpha, 1 - alpha, dst=under)
    _forget_covered(scene, alpha, int(left), int(top))
    _add(scene, *_carried(source, matrix, place.turn_deg))


def _shrunk(source: Source, place: Placement) -> tuple[Source, Placement]:
    """The same piece at half the size, or a quarter, …, where it will be that small: warping alone would alias."""
    factor = 1
    while place.scale * factor < 0.6:
        factor *= 2
    if factor == 1:
        return source, place
    height, width = (max(1, side // factor) for side in source.pixels.shape[:2])
    pixels = cv2.resize(source.pixels, (width, height), interpolation=cv2.INTER_AREA)
    x, y = place.anchor
    smaller = np.float32(1 / factor)
    source = Source(np.asarray(pixels, np.uint8), source.faces * smaller, source.ignored * smaller)
    return source, replace(place, anchor=(x / factor, y / factor), scale=place.scale * factor)


def _matrix(place: Placement) -> npt.NDArray[np.float32]:
    cosine, sine = (place.scale * f(math.radians(place.turn_deg)) for f in (math.cos, math.sin))
    (x, y), (to_x, to_y) = place.anchor, place.to
    return np.array(
        [[cosine, -sine, to_x - cosine * x + sine * y], [sine, cosine, to_y - sine * x - cosine * y]], np.float32
    )


def _moved(matrix: npt.NDArray[np.float32], points: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)


def _mask(height: int, width: int, place: Placement) -> npt.NDArray[np.float32]:
    """1 inside, falling to 0 at the edge over the feather."""
    if place.round_edge:
        across, down = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
        inside = 1 - np.sqrt(across[np.newaxis] ** 2 + down[:, np.newaxis] ** 2)
        return np.asarray(np.clip(inside / max(2 * place.feather, 0.02), 0, 1), np.float32)
    ramps = [
        np.minimum(np.arange(n) + 0.5, n - np.arange(n) - 0.5) / (place.feather * n + 0.5) for n in (height, width)
    ]
    return np.asarray(np.minimum(np.clip(ramps[0], 0, 1)[:, np.newaxis], np.clip(ramps[1], 0, 1)), np.float32)


def _carried(source: Source, matrix: npt.NDArray[np.float32], turn_deg: float) -> tuple[Faces, Boxes]:
    faces = source.faces.copy()
    faces[:, :4] = _turned_boxes(source.faces[:, :4], matrix, turn_deg)
    faces[:, 4:] = _moved(matrix, source.faces[:, 4:].reshape(-1, 2)).reshape(-1, 10)
    return faces, _turned_boxes(source.ignored, matrix, turn_deg)


def _turned_boxes(boxes: Boxes, matrix: npt.NDArray[np.float32], turn_deg: float) -> Boxes:
    """The boxes around the turned ellipses of `boxes`: a face is round, and its box grows little as it turns."""
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    cosine, sine = abs(math.cos(math.radians(turn_deg))), abs(math.sin(math.radians(turn_deg)))
    centres = _moved(matrix, np.asarray(boxes[:, :2] + boxes[:, 2:] / 2, np.float32))
    width, height = boxes[:, 2] * scale, boxes[:, 3] * scale
    sides = np.stack([np.hypot(width * cosine, height * sine), np.hypot(width * sine, height * cosine)], axis=1)
    return np.asarray(np.hstack([centres - sides / 2, sides]), np.float32)


def _forget_covered(scene: Scene, alpha: npt.NDArray[np.float32], left: int, top: int) -> None:
    kept, unsure = [], []
    for face in scene.faces:
        covered = _covered(face, alpha, left, top)
        if covered < 1 - MUST_BE_SEEN:
            kept.append(face)
        elif covered < 1 - MAY_BE_SEEN:
            unsure.append(face[:4])
    scene.faces = np.array(kept, np.float32).reshape(-1, 14)
    scene.ignored = np.vstack([scene.ignored, np.array(unsure, np.float32).reshape(-1, 4)])


def _covered(face: npt.NDArray[np.float32], alpha: npt.NDArray[np.float32], left: int, top: int) -> float:
    x, y = int(face[0]) - left, int(face[1]) - top
    width, height = max(1, int(face[2])), max(1, int(face[3]))
    window: npt.NDArray[Any] = alpha[max(0, y) : max(0, y + height), max(0, x) : max(0, x + width)]
    return float(window.sum()) / (width * height)


def _add(scene: Scene, faces: Faces, ignored: Boxes) -> None:
    seen = _share_in_view(faces, scene.size)
    scene.faces = np.vstack([scene.faces, faces[seen >= MUST_BE_SEEN]])
    unsure = faces[(seen < MUST_BE_SEEN) & (seen >= MAY_BE_SEEN), :4]
    scene.ignored = np.vstack([scene.ignored, unsure, ignored[_share_in_view(ignored, scene.size) > 0]])


def _share_in_view(boxes: npt.NDArray[np.float32], size: tuple[int, int]) -> npt.NDArray[np.float32]:
    near, far = np.clip(boxes[:, :2], 0, size), np.clip(boxes[:, :2] + boxes[:, 2:4], 0, size)
    return np.asarray((far - near).prod(axis=1) / boxes[:, 2:4].prod(axis=1), np.float32)
