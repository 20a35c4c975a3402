"""Draws boxes and labels on a picture, for people."""

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from shared.analysis import Face
from shared.boxes import Landmarks, PixelBox
from shared.emotions import EMOTION_COLORS
from shared.pictures import BgrImage, ImageKind

Rgb: TypeAlias = tuple[int, int, int]
Tag: TypeAlias = npt.NDArray[np.uint8]  # (h, w, 3) RGB

# In shares of the picture's longer side, which a screen shows at some thousand pixels.
_TYPE: Final = 0.024
_SMALLEST_TYPE: Final = 0.014
_LINE: Final = 0.003
_TYPE_OF_BOX: Final = 0.2  # a label is no larger than this share of its box, down to the smallest type
_LEGIBLE_PX: Final = 10
_TOLERATED: Final = 0.3  # the share of a label that may lie over another face's box, rather than be a number
_WHITE: Final = (255, 255, 255)
_BLACK: Final = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class _Area:
    left: int
    top: int
    right: int
    bottom: int

    def shared_with(self, other: "_Area") -> int:
        """Pixels that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0) * max(height, 0)


def annotate(image: BgrImage, faces: tuple[Face, ...], points: bool = False) -> BgrImage:
    """`image` (H, W, 3) with each face's box, emotion and probability drawn on it, in place; with `points`, its landmarks.

    Lines and type follow the size of the picture. A label lies at or in its own box and off other faces and labels;
    where its text does not fit, it is the emotion alone or the face's number, counted from 1 in the order of `faces`.
    """
    side = max(image.shape[:2])
    line = max(1, round(side * _LINE))
    boxes = [_area(face.box) for face in faces]
    for face, box in zip(faces, boxes, strict=True):
        _outline(image, box, _rgb(face), line)
        if points and face.landmarks is not None:
            _dots(image, face.landmarks, _rgb(face), line)
    taken: list[_Area] = []
    for number, (face, box) in enumerate(zip(faces, boxes, strict=True)):
        others = [*boxes[:number], *boxes[number + 1 :]]
        place, tag = _label(image, face, number + 1, box, others, taken)
        taken.append(place)
        image[place.top : place.bottom, place.left : place.right] = tag[: image.shape[0], : image.shape[1], ::-1]
    return image


# The most that `encode` takes for each pixel: noise makes a PNG as large as its pixels, and a JPEG a third of that.
ENCODER_BYTES_PER_PIXEL: Final[dict[ImageKind, int]] = {"jpeg": 3, "png": 7}


def encode(image: BgrImage, kind: ImageKind) -> bytes:
    """An image file of `kind`."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 92] if kind == "jpeg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    return cv2.imencode(f".{kind}", image, options)[1].tobytes()


def _outline(image: BgrImage, box: _Area, color: Rgb, line: int) -> None:
    corners = (box.left, box.top), (box.right - 1, box.bottom - 1)
    # White on both sides: every colour, neutral's grey too, is seen on every ground.
    cv2.rectangle(image, *corners, _WHITE, line + 2 * max(1, line // 3))
    cv2.rectangle(image, *corners, color[::-1], line)


def _dots(image: BgrImage, landmarks: Landmarks, color: Rgb, line: int) -> None:
    for x, y in landmarks:
        cv2.circle(image, (round(x), round(y)), line + 2, _WHITE, -1, cv2.LINE_AA)
        cv2.circle(image, (round(x), round(y)), line + 1, color[::-1], -1, cv2.LINE_AA)


def _label(
    image: BgrImage, face: Face, number: int, box: _Area, others: list[_Area], taken: list[_Area]
) -> tuple[_Area, Tag]:
    """Where a face's label goes, and its pixels: the fullest text that covers nothing or, failing that, little."""
    side = max(image.shape[:2])
    size = max(_LEGIBLE_PX, round(np.clip((box.bottom - box.top) * _TYPE_OF_BOX, side * _SMALLEST_TYPE, side * _TYPE)))
    words = f"{face.emotion} {max(face.probabilities):.0%}", face.emotion, str(number)
    found = [
        (place, tag)
        for tag in (_tag(text, size, _rgb(face)) for text in words)
        for place in _places(box, tag.shape[1], tag.shape[0], image.shape[1], image.shape[0])
    ]
    covers = [
        (sum(map(place.shared_with, taken)), sum(map(place.shared_with, others)) / (tag.shape[0] * tag.shape[1]))
        for place, tag in found
    ]
    for allowed in (0.0, _TOLERATED):
        for one, (label, share) in zip(found, covers, strict=True):
            if label == 0 and share <= allowed:
                return one
    return found[covers.index(min(covers))]


def _places(box: _Area, width: int, height: int, image_width: int, image_height: int) -> Iterator[_Area]:
    """Where a label of this size may be: above its box, below, at its sides, in it; always inside the picture."""
    at_left, at_right, above, below = box.left, box.right - width, box.top - height, box.bottom
    for left, top in (
        (at_left, above), (at_right, above), (at_left, below), (at_right, below), (box.right, box.top),
        (box.left - width, box.top), (at_left, box.top), (at_left, box.bottom - height),
    ):  # fmt: skip
        x, y = max(0, min(left, image_width - width)), max(0, min(top, image_height - height))
        place = _Area(x, y, min(x + width, image_width), min(y + height, image_height))
        inside = left >= box.left and top >= box.top and left + width <= box.right and top + height <= box.bottom
        if inside or not place.shared_with(box):
            yield place
    x, y = max(0, min(box.left, image_width - width)), max(0, min(box.top, image_height - height))
    yield _Area(x, y, min(x + width, image_width), min(y + height, image_height))


@functools.lru_cache(maxsize=256)
def _tag(text: str, size: int, color: Rgb) -> Tag:
    """A label's pixels: text on the emotion's colour with a white edge."""
    font = ImageFont.load_default(size)
    _, _, width, _ = font.getbbox(text)
    pad = max(2, size // 4)
    tag = Image.new("RGB", (round(width) + 2 * pad, round(size * 1.3) + pad), _WHITE)
    edge = max(1, size // 12)
    draw = ImageDraw.Draw(tag)
    draw.rectangle((edge, edge, tag.width - 1 - edge, tag.height - 1 - edge), fill=color)
    draw.text((pad, tag.height / 2), text, font=font, fill=_ink(color), anchor="lm")
    return np.asarray(tag)


def _ink(color: Rgb) -> Rgb:
    """Black or white, whichever has more contrast on `color` (WCAG 2's relative luminance)."""
    linear = [
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in np.divide(color, 255)
    ]
    luminance = float(np.dot((0.2126, 0.7152, 0.0722), linear))
    return _WHITE if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else _BLACK


def _rgb(face: Face) -> Rgb:
    red, green, blue = bytes.fromhex(EMOTION_COLORS[face.emotion][1:])
    return red, green, blue


def _area(box: PixelBox) -> _Area:
    return _Area(box.x, box.y, box.x + box.width, box.y + box.height)
