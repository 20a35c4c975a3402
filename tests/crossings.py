"""Two faces that cross, drawn frame by frame: what a tracker has to tell apart."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from shared.analysis import Face
from shared.boxes import PixelBox
from shared.emotions import EMOTIONS
from tests.drawn import draw_face

WIDTH, HEIGHT = 640, 480
HEAD_PX = 200  # of which the face is about 150
Picture = npt.NDArray[np.uint8]
Point = tuple[float, float]


def heads(scene: Image.Image) -> dict[str, Picture]:
    """Heads (HEAD_PX, HEAD_PX, 3) BGR: the astronaut, her mirror image, and two drawn ones."""
    rng = np.random.default_rng(5)
    astronaut = cv2.cvtColor(np.asarray(scene.crop((190, 10, 370, 190))), cv2.COLOR_RGB2BGR)
    found = {"astronaut": astronaut, "mirrored": astronaut[:, ::-1]}
    found |= {emotion: cv2.cvtColor(draw_face(emotion, rng), cv2.COLOR_GRAY2BGR) for emotion in ("happy", "angry")}
    size = (HEAD_PX, HEAD_PX)
    return {
        name: np.asarray(cv2.resize(head, size, interpolation=cv2.INTER_CUBIC), np.uint8)
        for name, head in found.items()
    }


@dataclass(frozen=True)
class Crossing:
    """One head goes right, the other left, one of them in front of the other."""

    pair: tuple[str, str]
    lasts_s: float
    apart_px: float  # in height
    frames_a_second: int
    front: int

    def frames(self, heads: dict[str, Picture]) -> Iterator[tuple[float, Picture, tuple[Point, Point]]]:
        """(seconds, picture, where the two heads are)."""
        ground = _ground()
        count = round(self.lasts_s * self.frames_a_second)
        for number in range(count + 1):
            way = 400 * number / count
            places = ((120 + way, 240 - self.apart_px / 2), (520 - way, 240 + self.apart_px / 2))
            picture = ground.copy()
            for one in (1 - self.front, self.front):
                _paste(picture, heads[self.pair[one]], places[one])
            yield number / self.frames_a_second, picture, places


@functools.cache
def _ground() -> Picture:
    noise = np.random.default_rng(1).integers(90, 150, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (9, 9), 0), np.uint8)


@functools.cache
def _oval() -> Picture:
    oval = np.zeros((HEAD_PX, HEAD_PX), np.uint8)
    cv2.ellipse(oval, (HEAD_PX // 2,) * 2, (84, 98), 0, 0, 360, 255, -1)
    return oval


def _paste(picture: Picture, head: Picture, place: Point) -> None:
    """Put an oval head over the picture, in place."""
    x, y = round(place[0]) - HEAD_PX // 2, round(place[1]) - HEAD_PX // 2
    low, high = max(-x, 0), min(WIDTH - x, HEAD_PX)
    under = picture[y : y + HEAD_PX, x + low : x + high]
    under[:] = np.where(_oval()[:, low:high, None] > 0, head[:, low:high], under)


def seen(crossing: Crossing, picture: Picture, places: tuple[Point, Point], rng: np.random.Generator) -> list[Face]:
    """What a detector finds: boxes that jitter, of a half-covered face the visible part, none of one covered further."""
    found = []
    for one in (0, 1):
        (x, y), (ox, oy) = places[one], places[1 - one]
        left, right = x - 65, x + 65
        if one != crossing.front and abs(oy - y) < 130:
            left, right = (max(left, ox + 70), right) if ox < x else (left, min(right, ox - 70))
        if right - left < 75:
            continue
        a, b, c, d = np.array([left, y - 60, right, y + 70]) + rng.normal(0, 2, 4)
        box = PixelBox(round(a), round(b), round(c - a), round(d - b))
        crop = picture[box.y : box.y + box.height, max(box.x, 0) : box.x + box.width]
        grey = cv2.resize(cv2.cvtColor(crop, cv2.COLOR_BGR2GRAY), (48, 48), interpolation=cv2.INTER_AREA)
        found.append(Face(box, 0.9, (1 / len(EMOTIONS),) * len(EMOTIONS), np.asarray(grey, np.uint8)))
    order = rng.permutation(len(found))
    return [found[number] for number in order]
